// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzDecodeValue reads what a server may answer for a column, whatever its type
// was changed to. A value that is read is written again as it was.
func FuzzDecodeValue(f *testing.F) {
	texts := value{valid: true, texts: [][]byte{[]byte("a"), {}}}
	for k, v := range map[kind]value{
		kindText: {valid: true, text: []byte("a")}, kindTexts: texts, kindInteger: {valid: true, number: -1}, kindBoolean: {valid: true, number: 1},
		kindTime: {valid: true, number: 1}, kindBigint: {valid: true, number: 1 << 40}, kindJSON: {valid: true, text: []byte("{}")},
	} {
		f.Add(v.appendCopy(nil, k)[4:], uint8(k))
	}
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\x00\x00\x00\x01"), uint8(kindTexts))
	f.Fuzz(func(t *testing.T, raw []byte, k uint8) {
		kind := kind(k % uint8(kindJSON+1))
		v := decodeValue(raw, kind)
		if !v.valid {
			return
		}
		again := v.appendCopy(nil, kind)[4:]
		back := decodeValue(again, kind)
		require.True(t, v.equal(&back, kind) || kind == kindJSON, "%x", raw)
		if kind != kindTexts { // whose element type and bounds are not looked at
			assert.Equal(t, raw, again)
		}
	})
}
