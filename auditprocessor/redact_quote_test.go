// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A quote inside a quoted value does not end it, at any depth of escapes.
func TestEscapedQuotesDoNotEndAValue(t *testing.T) {
	texts := map[string]string{
		`password="a\" CANARY"`:                        `password="***"`,
		`broken {"password":"a\"CANARY", "user":"bob"`: `broken {"password":"***", "user":"bob"`,
		`log: {\"password\":\"a\\\" CANARY\",\"u\":1`:  `log: {\"password\":\"***\",\"u\":1`,
		`password="a\\" user="bob"`:                    `password="***" user="bob"`,
		`password='it\'s CANARY' user=bob`:             `password='***' user=bob`,
		`password="cut off \" CANARY`:                  `password="***`,
	}
	s := testStages(t)
	for text, want := range texts {
		assert.Equal(t, want, redactText(t, s, text), text)
	}
}

// Lists of changes name the field in a member of their own.
func TestNamedFieldsArePairs(t *testing.T) {
	for _, name := range []string{"fieldName", "field_name", "attributeName", "property-name", "columnName", "paramName"} {
		assert.Equal(t, ruleNone, newKeyInfo(t, name).rule, name)
		assert.NotZero(t, newKeyInfo(t, name).flags&keyNamesPair, name)
	}
	s := testStages(t)
	logs, record := validLogs()
	change := record.Attributes().PutEmptyMap("diff").PutEmptySlice("changes").AppendEmpty().SetEmptyMap()
	change.PutStr("fieldName", "password")
	change.PutStr("oldValue", "CANARY")
	change.PutStr("newValue", "CANARY")
	s.apply(logs, "", false)
	assert.Equal(t, map[string]any{"fieldName": "password", "oldValue": "***", "newValue": "***"}, change.AsRaw())
}

func newKeyInfo(t *testing.T, name string) keyInfo {
	t.Helper()
	return testStages(t).redactor.keys.match(name)
}
