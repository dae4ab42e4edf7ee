// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package sequence

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
)

var someHash = strings.Repeat("0a", 32)

func TestRead(t *testing.T) {
	for name, test := range map[string]struct {
		attributes map[string]any
		want       Place
		found      bool
	}{
		"none":           {map[string]any{"audit.action": "X"}, Place{}, false},
		"unknown name":   {map[string]any{"audit.sequence.colour": "x"}, Place{}, false},
		"all":            {map[string]any{audit.AttributeSequenceStreamID: "s", audit.AttributeSequenceNumber: 2, audit.AttributeSequencePreviousHash: someHash, audit.AttributeSequencePreviousRecordID: "r", audit.AttributeSequenceEnd: true}, Place{StreamID: "s", Number: 2, PreviousHash: someHash, PreviousID: "r", End: true}, true},
		"old":            {map[string]any{audit.AttributeSequencePrevHash: someHash}, Place{PreviousHash: someHash}, true},
		"older":          {map[string]any{audit.AttributePrevHash: someHash}, Place{PreviousHash: someHash}, true},
		"oldest":         {map[string]any{audit.AttributePrevDotHash: someHash}, Place{PreviousHash: someHash}, true},
		"new before old": {map[string]any{audit.AttributePrevDotHash: strings.Repeat("0b", 32), audit.AttributeSequencePreviousHash: someHash}, Place{PreviousHash: someHash}, true},
		"old genesis":    {map[string]any{audit.AttributeSequencePrevHash: hashOfNothing, audit.AttributeSequenceNumber: 1}, Place{Number: 1}, true},
		"no genesis":     {map[string]any{audit.AttributeSequencePrevHash: hashOfNothing, audit.AttributeSequenceNumber: 2}, Place{Number: 2, PreviousHash: hashOfNothing}, true},
		"number 0":       {map[string]any{audit.AttributeSequenceNumber: 0}, Place{Malformed: true}, true},
		"number as text": {map[string]any{audit.AttributeSequenceNumber: "1"}, Place{Malformed: true}, true},
		"upper case":     {map[string]any{audit.AttributeSequencePreviousHash: strings.ToUpper(someHash)}, Place{PreviousHash: strings.ToUpper(someHash), Malformed: true}, true},
		"short hash":     {map[string]any{audit.AttributeSequencePreviousHash: "0a"}, Place{PreviousHash: "0a", Malformed: true}, true},
		"end as text":    {map[string]any{audit.AttributeSequenceEnd: "true"}, Place{Malformed: true}, true},
		"empty stream":   {map[string]any{audit.AttributeSequenceStreamID: ""}, Place{Malformed: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := pcommon.NewMap()
			assert.NoError(t, m.FromRaw(test.attributes))
			got, found := Read(m)
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.found, found)
		})
	}
	// Of a repeated name the last counts, and the others are not looked at.
	logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs([]byte(`{"resourceLogs":[{"resource":{"attributes":[
		{"key":"audit.sequence.stream_id","value":{"intValue":"1"}},{"key":"audit.sequence.stream_id","value":{"stringValue":"s"}},
		{"key":"audit.sequence.number","value":{"stringValue":"x"}},{"key":"audit.sequence.number","value":{"intValue":"2"}},
		{"key":"audit.sequence.end","value":{"boolValue":true}},{"key":"audit.sequence.end","value":{"boolValue":false}},
		{"key":"audit.sequence.previous_hash","value":{"stringValue":"x"}},{"key":"audit.sequence.previous_hash","value":{"stringValue":"` + someHash + `"}}
	]}}]}`))
	assert.NoError(t, err)
	last, _ := Read(logs.ResourceLogs().At(0).Resource().Attributes())
	assert.Equal(t, Place{StreamID: "s", Number: 2, PreviousHash: someHash}, last)
	m := pcommon.NewMap()
	m.PutStr(audit.AttributeSequenceStreamID, strings.Repeat("s", MaxStreamID+1))
	got, _ := Read(m)
	assert.True(t, got.Malformed)
}

// step is one record of a story: number, the hash that it names, its own.
type step struct {
	number         int64
	previous, hash byte
	key, next      byte
	end            bool
	failed         bool // its proof
	known          bool // it came before
	want           Finding
}

// TestStories tells streams record by record.
func TestStories(t *testing.T) {
	for name, story := range map[string][]step{
		"in order":               {{number: 1, hash: 1}, {number: 2, previous: 1, hash: 2}, {number: 3, previous: 2, hash: 3, end: true}},
		"numbers alone":          {{number: 1, hash: 1}, {number: 2, hash: 2}, {number: 4, hash: 4, want: Gap}, {number: 5, hash: 5}},
		"hashes alone":           {{hash: 1}, {previous: 1, hash: 2}, {previous: 1, hash: 3, want: Broken}, {previous: 3, hash: 4}},
		"joined":                 {{number: 7, previous: 6, hash: 7, want: Joined}, {number: 8, previous: 7, hash: 8}},
		"gap":                    {{number: 1, hash: 1}, {number: 3, previous: 2, hash: 3, want: Gap}, {number: 4, previous: 3, hash: 4}},
		"swap":                   {{number: 1, hash: 1}, {number: 3, previous: 2, hash: 3, want: Gap}, {number: 2, previous: 1, hash: 2, want: OutOfOrder}, {number: 4, previous: 3, hash: 4}},
		"fork":                   {{number: 1, hash: 1}, {number: 2, previous: 1, hash: 2}, {number: 2, previous: 1, hash: 9, want: Fork}, {number: 3, previous: 2, hash: 3}},
		"second beginning":       {{number: 1, hash: 1}, {number: 2, previous: 1, hash: 2}, {number: 1, hash: 9, want: Fork}},
		"edited before":          {{number: 1, hash: 1}, {number: 2, previous: 9, hash: 2, want: Broken}, {number: 3, previous: 2, hash: 3}},
		"repeat":                 {{number: 1, hash: 1}, {number: 1, hash: 1, want: Repeat}, {number: 2, previous: 1, hash: 2}},
		"after the end":          {{number: 1, hash: 1, end: true}, {number: 2, previous: 1, hash: 2, want: AfterEnd}, {number: 1, hash: 1, end: true, want: Repeat}},
		"key stays":              {{number: 1, hash: 1, key: 5}, {number: 2, previous: 1, hash: 2, key: 5}},
		"key change":             {{number: 1, hash: 1, key: 5}, {number: 2, previous: 1, hash: 2, key: 6, want: KeyChange}, {number: 2, previous: 1, hash: 3, key: 5}},
		"signature is gone":      {{number: 1, hash: 1, key: 5}, {number: 2, previous: 1, hash: 2, want: KeyChange}},
		"signature comes":        {{number: 1, hash: 1}, {number: 2, previous: 1, hash: 2, key: 5}, {number: 3, previous: 2, hash: 3, want: KeyChange}},
		"late retry":             {{hash: 1}, {previous: 1, hash: 2}, {previous: 2, hash: 3}, {hash: 1, known: true, want: Fork}, {previous: 1, hash: 2, known: true, want: Broken}, {previous: 3, hash: 4}},
		"late beginning":         {{hash: 1}, {hash: 2}, {hash: 1, known: true}, {previous: 2, hash: 3}},
		"late with numbers":      {{number: 1, hash: 1}, {number: 2, hash: 2}, {number: 1, hash: 1, known: true, want: Fork}, {number: 3, hash: 3}},
		"head was not kept":      {{number: 1, hash: 1}, {number: 2, previous: 1, hash: 2, known: true}, {number: 3, previous: 2, hash: 3}},
		"retry of unknown":       {{number: 7, previous: 6, hash: 7, known: true, want: Joined}, {number: 9, previous: 8, hash: 9, want: Joined}},
		"no place":               {{number: 1, hash: 1}, {hash: 9, want: Ambiguous}, {number: 2, hash: 2}},
		"another beginning":      {{hash: 1}, {previous: 1, hash: 2}, {hash: 9, want: Fork}, {previous: 2, hash: 3}},
		"streams alone":          {{hash: 1}, {hash: 2}, {hash: 3}, {hash: 4, end: true}, {hash: 5, want: AfterEnd}},
		"failed proofs":          {{number: 1, hash: 1, key: 5}, {number: 2, previous: 1, hash: 2, failed: true}, {number: 3, previous: 2, hash: 3, failed: true}, {number: 4, previous: 3, hash: 4, key: 5, want: Unproven}, {number: 5, previous: 4, hash: 5, key: 5}},
		"failed by hashes":       {{hash: 1, key: 5}, {previous: 1, hash: 2, failed: true}, {previous: 2, hash: 3, key: 5, want: Unproven}, {previous: 3, hash: 4, key: 5}},
		"failed, and sent again": {{number: 1, hash: 1, key: 5}, {number: 2, hash: 2, failed: true}, {number: 3, hash: 3, failed: true}, {number: 2, hash: 2, key: 5, known: true}, {number: 4, hash: 4, key: 5, want: Unproven}},
		"forged between":         {{number: 1, hash: 1, key: 5}, {number: 2, previous: 1, hash: 9, failed: true}, {number: 3, previous: 2, hash: 3, key: 5, want: Gap}},
		"forged beside":          {{number: 1, hash: 1, key: 5}, {number: 2, previous: 1, hash: 9, failed: true}, {number: 2, previous: 1, hash: 2, key: 5}, {number: 3, previous: 9, hash: 3, key: 5, want: Broken}},
		"forged far ahead":       {{number: 1, hash: 1, key: 5}, {number: 9, hash: 9, failed: true}, {number: 10, hash: 10, key: 5, want: Gap}},
		"forged end":             {{number: 1, hash: 1, key: 5}, {number: 2, previous: 1, hash: 9, failed: true, end: true}, {number: 2, previous: 1, hash: 2, key: 5}},
		"transition":             {{number: 1, hash: 1, key: 5}, {number: 2, previous: 1, hash: 2, key: 5, next: 6}, {number: 3, previous: 2, hash: 3, key: 5, want: KeyChange}, {number: 3, previous: 2, hash: 4, key: 6}},
	} {
		t.Run(name, func(t *testing.T) {
			var head *Head
			for i, s := range story {
				r := Record{
					Place: Place{StreamID: "s", Number: s.number, End: s.end},
					Sent:  Digest{s.hash}, Previous: Digest{s.previous}, Key: Digest{s.key}, NextKey: Digest{s.next},
				}
				if s.failed {
					if next, noted := Pass(head, &r); noted {
						head = &next
					}
					continue
				}
				found := Judge(head, &r)
				assert.Equal(t, s.want, found, "record %d", i)
				if next, moved := Next(head, &r, found, func() bool { return s.known }); moved {
					head = &next
				}
			}
		})
	}
}

// TestStoredHash: a producer names the hash that it got in a receipt, which is
// another where the record was changed.
func TestStoredHash(t *testing.T) {
	head := &Head{Point: Point{Number: 1, Sent: Digest{1}, Stored: Digest{2}, ID: Digest{3}}}
	for previous, want := range map[byte]Finding{1: "", 2: "", 3: Broken} {
		r := Record{Place: Place{StreamID: "s", Number: 2}, Sent: Digest{9}, Previous: Digest{previous}}
		assert.Equal(t, want, Judge(head, &r))
	}
	for id, want := range map[byte]Finding{3: "", 4: Broken} {
		r := Record{Place: Place{StreamID: "s", Number: 2}, Sent: Digest{9}, PreviousID: Digest{id}}
		assert.Equal(t, want, Judge(head, &r))
	}
}

func TestFindings(t *testing.T) {
	assert.Equal(t, Malformed, Judge(nil, &Record{Place: Place{StreamID: "s", Malformed: true}}))
	assert.Equal(t, Ambiguous, Judge(nil, &Record{Place: Place{Number: 1}}))
	violations := 0
	for _, f := range Findings {
		if f.Violates() {
			violations++
		}
	}
	assert.Equal(t, len(Findings)-4, violations)
	assert.False(t, Finding("").Violates())
}
