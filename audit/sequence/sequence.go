// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package sequence judges the place that a record claims in its producer's own
// chain: the attributes audit.sequence.* of OTEP 0267, by their new and old
// names. It holds no state: a [Head] is what the caller keeps of a stream.
//
// A producer numbers the records of a stream from 1 and lets each name the hash
// of the one before: SHA-256 of its canonical form, in lowercase hex. The first
// one names none; that of an earlier draft names the hash of nothing. After a
// record with `end` there is no other.
//
// Hashes are compared and never kept: a Head has digests that the caller has
// blinded, so that nobody reads from it what a redacted record was.
package sequence

import (
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelaudit/otelaudit/audit"
)

// MaxStreamID is the longest id of a stream in bytes.
const MaxStreamID = 256

// hashOfNothing is what the first record names in an earlier draft.
const hashOfNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Place is what a record says about its place.
type Place struct {
	StreamID     string
	Number       int64  // from 1; 0: none is given
	PreviousHash string // lowercase hex; empty: none
	PreviousID   string // empty: none
	End          bool
	Malformed    bool // an attribute has another type or form
}

// Names says whether an attribute is one of a place.
func Names(key string) bool {
	const prefix = "audit.sequence."
	if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
		return true
	}
	return key == audit.AttributePrevHash || key == audit.AttributePrevDotHash
}

// names are the attributes of a place. Of those for one thing the newest name is
// first.
var names = [...]string{
	audit.AttributeSequenceStreamID, audit.AttributeSequenceNumber, audit.AttributeSequencePreviousRecordID, audit.AttributeSequenceEnd,
	audit.AttributeSequencePreviousHash, audit.AttributeSequencePrevHash, audit.AttributePrevHash, audit.AttributePrevDotHash,
}

// Read returns the place that attributes claim, and whether they claim one. Of
// a repeated name the last counts, as in canonical bytes; of the names for one
// thing the newest.
func Read(attributes pcommon.Map) (p Place, found bool) {
	var values [len(names)]pcommon.Value
	for key, value := range attributes.All() {
		if !Names(key) {
			continue
		}
		if i := slices.Index(names[:], key); i >= 0 {
			values[i], found = value, true
		}
	}
	for i, value := range values {
		if value != (pcommon.Value{}) {
			p.take(names[i], value)
		}
	}
	if p.PreviousHash == hashOfNothing && p.Number <= 1 {
		p.PreviousHash = ""
	}
	return p, found
}

func (p *Place) take(name string, value pcommon.Value) {
	switch name {
	case audit.AttributeSequenceStreamID:
		p.StreamID = p.text(value)
		p.Malformed = p.Malformed || p.StreamID == "" || len(p.StreamID) > MaxStreamID
	case audit.AttributeSequenceNumber:
		p.Number = value.Int()
		p.Malformed = p.Malformed || value.Type() != pcommon.ValueTypeInt || p.Number < 1
	case audit.AttributeSequencePreviousRecordID:
		p.PreviousID = p.text(value)
	case audit.AttributeSequenceEnd:
		p.End = value.Bool()
		p.Malformed = p.Malformed || value.Type() != pcommon.ValueTypeBool
	default:
		if hash := p.hash(value); p.PreviousHash == "" {
			p.PreviousHash = hash
		}
	}
}

func (p *Place) text(value pcommon.Value) string {
	p.Malformed = p.Malformed || value.Type() != pcommon.ValueTypeStr
	return value.Str()
}

func (p *Place) hash(value pcommon.Value) string {
	text := p.text(value)
	p.Malformed = p.Malformed || len(text) != len(hashOfNothing)
	for i := range len(text) {
		p.Malformed = p.Malformed || (text[i] < '0' || text[i] > '9') && (text[i] < 'a' || text[i] > 'f')
	}
	return text
}
