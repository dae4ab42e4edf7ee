// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// ErrMalformed says that a stored line is not what the encoder writes for any
// content.
var ErrMalformed = errors.New("malformed line")

// LineKind tells the three stored lines apart.
type LineKind uint8

// The kinds of stored lines.
const (
	LineEvent      LineKind = iota // {"chain":{…},"event":<canonical>}
	LineCheckpoint                 // {"checkpoint":"<signed note>","range":[…]}
	LineStub                       // {"chain":{…},"digest":"<hex>","gone":"quarantined"}
)

// MaxLine is the longest stored line in bytes, without its newline, that a
// verifier must read. No sink stores a longer one.
const MaxLine = 32 << 20

// GoneQuarantined is the only value of a stub's member `gone`.
const GoneQuarantined = "quarantined"

// Line is one parsed stored line.
type Line struct {
	Kind LineKind

	// Of an event or a stub. Link.Digest is set from a stub's member digest;
	// of an event it is the caller's to compute from Event.
	Link chain.Link
	Hash chain.Hash // as stored; the caller compares it with Link.Hash()
	// Event holds the canonical bytes; it aliases the parsed line. They are
	// not looked into: their digest is what binds them.
	Event []byte

	// Of a checkpoint.
	Note  []byte
	Range []chain.Hash
}

// AppendEvent appends the stored line of a sealed record, without newline.
func AppendEvent(dst []byte, link *chain.Link, hash chain.Hash, event []byte) []byte {
	dst = appendChain(dst, link, hash)
	dst = append(dst, `,"event":`...)
	dst = append(dst, event...)
	return append(dst, '}')
}

// AppendStub appends the stored line that stands for a record which a sink
// refused, without newline.
func AppendStub(dst []byte, link *chain.Link, hash chain.Hash) []byte {
	dst = appendChain(dst, link, hash)
	dst = append(dst, `,"digest":"`...)
	dst = link.Digest.AppendHex(dst)
	return append(dst, `","gone":"`+GoneQuarantined+`"}`...)
}

// AppendCheckpoint appends the stored line of a checkpoint, without newline.
func AppendCheckpoint(dst, note []byte, hashes []chain.Hash) []byte {
	dst = append(dst, `{"checkpoint":`...)
	dst = canonical.AppendString(dst, string(note))
	dst = append(dst, `,"range":[`...)
	for i, hash := range hashes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = hash.AppendHex(dst)
		dst = append(dst, '"')
	}
	return append(dst, `]}`...)
}

func appendChain(dst []byte, link *chain.Link, hash chain.Hash) []byte {
	dst = append(dst, `{"chain":{"hash":"`...)
	dst = hash.AppendHex(dst)
	dst = append(dst, `","index":"`...)
	dst = strconv.AppendUint(dst, link.Index, 10)
	dst = append(dst, `","origin":`...)
	dst = canonical.AppendString(dst, link.Origin)
	dst = append(dst, `,"prev":"`...)
	dst = link.Prev.AppendHex(dst)
	dst = append(dst, `","sealed_at":"`...)
	dst = strconv.AppendInt(dst, link.SealedAt, 10)
	dst = append(dst, `","seq":"`...)
	dst = strconv.AppendUint(dst, link.Seq, 10)
	dst = append(dst, `","stream":`...)
	dst = canonical.AppendString(dst, link.Stream)
	return append(dst, '}')
}

// ParseLine reads one stored line, without its newline. It accepts exactly
// what the Append functions write; everything else is ErrMalformed. The event
// inside is taken as it is, see Line.Event.
func ParseLine(text []byte) (Line, error) {
	if bytes.HasPrefix(text, []byte(`{"checkpoint":`)) {
		return parseCheckpoint(text)
	}
	p := lineParser{rest: text}
	var line Line
	p.chain(&line)
	switch {
	case p.try(`,"event":`):
		line.Kind = LineEvent
		if !bytes.HasPrefix(p.rest, []byte("{")) || !bytes.HasSuffix(p.rest, []byte("}}")) {
			return Line{}, fmt.Errorf("%w: event is not an object", ErrMalformed)
		}
		line.Event = p.rest[:len(p.rest)-1]
		p.rest = nil
	default:
		line.Kind = LineStub
		p.want(`,"digest":"`)
		p.hash(&line.Link.Digest)
		p.want(`","gone":"` + GoneQuarantined + `"}`)
	}
	return line, p.end()
}

func parseCheckpoint(text []byte) (Line, error) {
	p := lineParser{rest: text}
	line := Line{Kind: LineCheckpoint}
	p.want(`{"checkpoint":`)
	line.Note = []byte(p.string(chain.MaxNote))
	p.want(`,"range":[`)
	for p.err == nil && !p.try(`]}`) {
		if len(line.Range) == 64 {
			return Line{}, fmt.Errorf("%w: range has more than 64 hashes", ErrMalformed)
		}
		if len(line.Range) > 0 {
			p.want(`,`)
		}
		var hash chain.Hash
		p.want(`"`)
		p.hash(&hash)
		p.want(`"`)
		line.Range = append(line.Range, hash)
	}
	return line, p.end()
}

// lineParser cuts known pieces off a line. The first failure sticks.
type lineParser struct {
	rest []byte
	err  error
}

func (p *lineParser) chain(line *Line) {
	var sealedAt int64
	p.want(`{"chain":{"hash":"`)
	p.hash(&line.Hash)
	p.want(`","index":"`)
	line.Link.Index = p.uint()
	p.want(`","origin":`)
	line.Link.Origin = p.string(chain.MaxName)
	p.want(`,"prev":"`)
	p.hash(&line.Link.Prev)
	p.want(`","sealed_at":"`)
	negative := p.try("-")
	magnitude := p.uint()
	p.want(`","seq":"`)
	line.Link.Seq = p.uint()
	p.want(`","stream":`)
	line.Link.Stream = p.string(chain.MaxName)
	p.want(`}`)
	switch {
	case negative && (magnitude == 0 || magnitude > 1<<63), !negative && magnitude >= 1<<63:
		p.fail("sealed_at is not an int64")
	case negative:
		sealedAt = -int64(magnitude)
	default:
		sealedAt = int64(magnitude)
	}
	line.Link.SealedAt = sealedAt
}

func (p *lineParser) fail(what string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
}

func (p *lineParser) try(literal string) bool {
	if p.err != nil || len(p.rest) < len(literal) || string(p.rest[:len(literal)]) != literal {
		return false
	}
	p.rest = p.rest[len(literal):]
	return true
}

func (p *lineParser) want(literal string) {
	if p.err == nil && !p.try(literal) {
		p.fail("want " + literal)
	}
}

func (p *lineParser) hash(h *chain.Hash) {
	if p.err != nil {
		return
	}
	const size = 2 * chain.HashSize
	if len(p.rest) < size {
		p.fail("hash is cut")
		return
	}
	var err error
	if *h, err = chain.ParseHash(p.rest[:size]); err != nil {
		p.fail(err.Error())
		return
	}
	p.rest = p.rest[size:]
}

func (p *lineParser) uint() uint64 {
	if p.err != nil {
		return 0
	}
	n := 0
	for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
		n++
	}
	value, err := strconv.ParseUint(string(p.rest[:n]), 10, 64)
	if err != nil || (n > 1 && p.rest[0] == '0') {
		p.fail("want a decimal number")
		return 0
	}
	p.rest = p.rest[n:]
	return value
}

func (p *lineParser) string(most int) string {
	if p.err != nil {
		return ""
	}
	s, rest, err := canonical.CutString(p.rest)
	if err != nil {
		p.fail(err.Error())
		return ""
	}
	if len(s) > most {
		p.fail(fmt.Sprintf("string is longer than %d bytes", most))
		return ""
	}
	p.rest = rest
	return s
}

func (p *lineParser) end() error {
	if p.err == nil && len(p.rest) > 0 {
		p.fail("more follows")
	}
	return p.err
}
