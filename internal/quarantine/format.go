// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// MaxText is the longest reason or sink in bytes. A longer one is cut.
const MaxText = 4096

// Entry is one record in quarantine.
type Entry struct {
	Link   chain.Link
	Hash   chain.Hash // of Link
	Sink   string     // id of the exporter that refused, for example `audit/archive`
	Reason string     // why, for people; never a part of the record
	At     time.Time  // when, to the nanosecond
	// Event is the record's canonical form; SHA-256 of it is Link.Digest.
	Event []byte
}

// Coordinate returns where the record belongs.
func (e *Entry) Coordinate() Coordinate { return Coordinate{e.Link.Origin, e.Link.Index} }

// check says whether the parts of e belong together.
func (e *Entry) check() error {
	if sha256.Sum256(e.Event) != e.Link.Digest {
		return errors.New("event has another digest than its link")
	}
	if e.Link.Hash() != e.Hash {
		return errors.New("link has another hash")
	}
	return nil
}

func (e *Entry) text() []byte {
	dst := appendTime(nil, e.At)
	dst = appendText(dst, "reason", e.Reason)
	dst = appendText(dst, "sink", e.Sink)
	dst = append(dst, `,"line":`...)
	dst = audit.AppendEvent(dst, &e.Link, e.Hash, e.Event)
	return append(dst, "}\n"...)
}

// ParseEntry reads the file of a record. It accepts exactly what Put writes,
// the event being bound by its digest; everything else is ErrMalformed.
// Entry.Event aliases text.
func ParseEntry(text []byte) (Entry, error) {
	p := parser{rest: text}
	e := Entry{At: p.time(), Reason: p.text("reason"), Sink: p.text("sink")}
	p.want(`,"line":`)
	line, ok := bytes.CutSuffix(p.rest, []byte("}\n"))
	if !ok || p.failed {
		return Entry{}, ErrMalformed
	}
	parsed, err := audit.ParseLine(line)
	if err != nil || parsed.Kind != audit.LineEvent {
		return Entry{}, fmt.Errorf("%w: member line is not the stored line of a record", ErrMalformed)
	}
	e.Link, e.Hash, e.Event = parsed.Link, parsed.Hash, parsed.Event
	e.Link.Digest = sha256.Sum256(e.Event)
	if err := e.check(); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(e.text(), text) {
		return Entry{}, ErrMalformed
	}
	return e, nil
}

// check says whether r can be.
func (r *Request) check() error {
	switch {
	case r.Action != Replay && r.Action != Drop && r.Action != Unreadable:
		return fmt.Errorf("action %q is none", r.Action)
	case r.Action == Drop && strings.TrimSpace(r.Reason) == "":
		return errors.New("a record is dropped only with a reason")
	}
	return nil
}

func (r *Request) text() []byte {
	dst := appendTime(nil, r.At)
	dst = appendText(dst, "action", string(r.Action))
	dst = appendText(dst, "reason", r.Reason)
	return append(dst, "}\n"...)
}

// ParseRequest reads the file of a request or a failure. It accepts exactly
// what this package writes; everything else is ErrMalformed.
func ParseRequest(text []byte) (Request, error) {
	p := parser{rest: text}
	r := Request{At: p.time(), Action: Action(p.text("action")), Reason: p.text("reason")}
	p.want("}\n")
	if p.failed || len(p.rest) > 0 || !bytes.Equal(r.text(), text) {
		return Request{}, ErrMalformed
	}
	if err := r.check(); err != nil {
		return Request{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return r, nil
}

func appendTime(dst []byte, at time.Time) []byte {
	dst = append(dst, `{"at":"`...)
	dst = strconv.AppendInt(dst, at.UnixNano(), 10)
	return append(dst, '"')
}

// appendText appends a member that is for people: what is no text is replaced,
// what is too long is cut, for a record must not stay out of quarantine because
// of the words of a refusal.
func appendText(dst []byte, name, value string) []byte {
	value = strings.ToValidUTF8(value, "\uFFFD")
	if len(value) > MaxText {
		cut := MaxText
		for !utf8.RuneStart(value[cut]) {
			cut--
		}
		value = value[:cut]
	}
	dst = append(dst, `,"`+name+`":`...)
	return canonical.AppendString(dst, value)
}

// parser cuts known pieces off a file. What it accepts too much, the caller
// finds by writing it again.
type parser struct {
	rest   []byte
	failed bool
}

func (p *parser) want(literal string) {
	rest, ok := bytes.CutPrefix(p.rest, []byte(literal))
	p.failed = p.failed || !ok
	p.rest = rest
}

func (p *parser) time() time.Time {
	p.want(`{"at":"`)
	digits, rest, ok := bytes.Cut(p.rest, []byte(`"`))
	value, err := strconv.ParseInt(string(digits[:min(len(digits), 20)]), 10, 64)
	p.failed = p.failed || !ok || err != nil
	p.rest = rest
	return time.Unix(0, value).UTC()
}

func (p *parser) text(name string) string {
	p.want(`,"` + name + `":`)
	if p.failed {
		return ""
	}
	value, rest, err := canonical.CutString(p.rest)
	p.failed = err != nil || len(value) > MaxText
	p.rest = rest
	return value
}
