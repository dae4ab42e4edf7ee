// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical_test

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
)

// The example of the package comment.
func ExampleEncoder() {
	resource := pcommon.NewResource()
	resource.Attributes().PutStr("service.name", "shop")
	record := plog.NewLogRecord()
	record.SetEventName("user.login")
	record.Attributes().PutInt("n", 3)
	record.Attributes().PutStr(audit.AttributeActorID, "alice")
	record.Attributes().PutStr(audit.AttributeCollectorTenant, "acme")

	var encoder canonical.Encoder
	if err := encoder.SetGroup(resource, "", pcommon.NewInstrumentationScope(), ""); err != nil {
		fmt.Println(err)
		return
	}
	text, span, err := encoder.Append(nil, record)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(text[:span.Start-len(`"record":`)]))
	fmt.Println(string(text[span.Start-len(`"record":`) : span.End+1]))
	fmt.Println(string(text[span.End+1:]))
	fmt.Printf("integrity hash %x\n", sha256.Sum256(text[span.Start:span.End]))
	fmt.Printf("digest         %x\n", sha256.Sum256(text))
	// Output:
	// {"collector":{"audit.integrity.collector.tenant":{"stringValue":"acme"}},
	// "record":{"attributes":{"audit.actor.id":{"stringValue":"alice"},"n":{"intValue":"3"}},"event_name":"user.login"},
	// "resource":{"attributes":{"service.name":{"stringValue":"shop"}}}}
	// integrity hash 71049913739a5b9877f36ffda8089ffa0eb0beb352e5f7eab5d0ab0a31843233
	// digest         44aa868869aa6fa403e93cf9783a07608ae9f32c2ba9157123eeb18b8149d613
}

// TestPrefixes: package audit, which this package cannot import, and the
// encoder mean the same attributes.
func TestPrefixes(t *testing.T) {
	for key, want := range map[string]string{
		"a":                          `{"record":{"attributes":{"a":null}}}`,
		audit.PrefixIntegrity + "a":  `{"proof":{"` + audit.PrefixIntegrity + `a":null},"record":{}}`,
		audit.PrefixHop + "0.a":      `{"proof":{"` + audit.PrefixHop + `0.a":null},"record":{}}`,
		audit.PrefixCollector + "a":  `{"collector":{"` + audit.PrefixCollector + `a":null},"record":{}}`,
		audit.PrefixChain + "a":      `{"record":{}}`,
		audit.AttributeChainOrigin:   `{"record":{}}`,
		audit.AttributeOriginVersion: `{"record":{"attributes":{"` + audit.AttributeOriginVersion + `":null}}}`,
	} {
		record := plog.NewLogRecord()
		record.Attributes().PutEmpty(key)
		var encoder canonical.Encoder
		text, _, err := encoder.Append(nil, record)
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
}
