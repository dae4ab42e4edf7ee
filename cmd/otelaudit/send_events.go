// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// maxEventBytes is the largest event that is read. A receiver takes 20 MiB a
// request unless it is configured otherwise.
const maxEventBytes = 16 << 20

// outgoing is an event to be sent.
type outgoing struct {
	input  string // file, or - for standard input
	number int    // in its input, from 1
	text   []byte
	id     string // "" if the event's own cannot be read; the receiver says so
}

// eventSource reads the events of one input: one event, an array,
// {"events":[…]}, or events behind each other, such as one a line. It holds one
// at a time.
type eventSource struct {
	input   string
	number  int
	bounded *boundedReader
	json    *jsontext.Decoder
	closing []jsontext.Kind // what has to end the text, innermost first
}

// envelope is how {"events":[…]} begins.
var envelope = regexp.MustCompile(`^[ \t\r\n]*\{[ \t\r\n]*"events"[ \t\r\n]*:[ \t\r\n]*\[`)

// lenient reads on over what makes one event faulty: the receiver names that, and
// the other events can be sent.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// byteOrderMark is what some editors put in front of a text.
var byteOrderMark = []byte("\xef\xbb\xbf")

func newEventSource(input string, r io.Reader) (*eventSource, error) {
	s := &eventSource{input: input, bounded: &boundedReader{left: maxEventBytes}}
	buffered := bufio.NewReaderSize(r, 64<<10)
	s.bounded.r = buffered
	s.json = jsontext.NewDecoder(s.bounded, lenient)
	begin, err := buffered.Peek(4 << 10)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("read %s: %w", input, err)
	}
	if bytes.HasPrefix(begin, byteOrderMark) {
		return nil, fmt.Errorf("%s begins with a byte order mark: save it as UTF-8 without one", input)
	}
	switch trimmed := bytes.TrimLeft(begin, " \t\r\n"); {
	case envelope.Match(begin):
		s.closing = []jsontext.Kind{']', '}'}
		return s, s.skip(3) // { "events" [
	case bytes.HasPrefix(trimmed, []byte("[")):
		s.closing = []jsontext.Kind{']'}
		return s, s.skip(1)
	}
	return s, nil
}

func (s *eventSource) skip(tokens int) error {
	for range tokens {
		if _, err := s.json.ReadToken(); err != nil {
			return s.broken(err)
		}
	}
	return nil
}

// next returns the next event, io.EOF behind the last. Any other error ends the
// input: behind it nothing can be read.
func (s *eventSource) next() (*outgoing, error) {
	s.bounded.left = maxEventBytes
	if len(s.closing) > 0 && s.json.PeekKind() == s.closing[0] {
		return nil, s.end()
	}
	value, err := s.json.ReadValue()
	if err == io.EOF && len(s.closing) == 0 { //nolint:errorlint // a cut value wraps io.ErrUnexpectedEOF, never this
		return nil, io.EOF
	}
	if err != nil {
		return nil, s.broken(err)
	}
	s.number++
	e := &outgoing{input: s.input, number: s.number, text: slices.Clone(value)}
	e.identify()
	return e, nil
}

// end reads what ends the text, behind which nothing may follow.
func (s *eventSource) end() error {
	for _, kind := range s.closing {
		token, err := s.json.ReadToken()
		if err != nil {
			return s.broken(err)
		}
		if token.Kind() != kind {
			return fmt.Errorf("%s: the object with the member events has other members: leave them out", s.input)
		}
	}
	s.closing = nil
	switch _, err := s.json.ReadToken(); {
	case err == io.EOF: //nolint:errorlint // as above
		return io.EOF
	case err != nil:
		return s.broken(err)
	default:
		return fmt.Errorf("%s: more follows behind the last event: leave it out", s.input)
	}
}

func (s *eventSource) broken(err error) error {
	if errors.Is(err, errLargeEvent) {
		err = errLargeEvent // what the decoder says of it is noise
	}
	return fmt.Errorf("%s: cannot read on behind event %d: %w", s.input, s.number, err)
}

// identify finds the event's id, and gives it one if it has none: the same is
// sent with every repetition. What is no sound event stays as it is; the
// receiver refuses it and says why.
func (e *outgoing) identify() {
	d := jsontext.NewDecoder(bytes.NewReader(e.text), lenient)
	if d.PeekKind() != '{' {
		return
	}
	if _, err := d.ReadToken(); err != nil {
		return
	}
	opened, comma := int(d.InputOffset()), ""
	for ; d.PeekKind() == '"'; comma = "," {
		name, err := d.ReadToken()
		if err != nil {
			return
		}
		if name.String() == "eventId" {
			e.readID(d)
			return
		}
		if err := d.SkipValue(); err != nil {
			return
		}
	}
	if id, ok := newID(); ok {
		e.insert(opened, `"eventId":"`+id+`"`+comma, id)
	}
}

// readID reads the value of eventId; null is none.
func (e *outgoing) readID(d *jsontext.Decoder) {
	value, err := d.ReadValue()
	switch {
	case err != nil:
	case value.Kind() == '"':
		if text, err := jsontext.AppendUnquote(nil, value); err == nil {
			e.id = string(text)
		}
	case value.Kind() == 'n':
		if id, ok := newID(); ok {
			at := int(d.InputOffset())
			e.text = slices.Delete(e.text, at-len("null"), at)
			e.insert(at-len("null"), `"`+id+`"`, id)
		}
	}
}

func (e *outgoing) insert(at int, text, id string) {
	e.text = slices.Insert(e.text, at, []byte(text)...)
	e.id = id
}

// newID returns a UUID of version 7; without randomness there is none.
func newID() (string, bool) {
	id, err := uuid.NewV7()
	return id.String(), err == nil
}

var errLargeEvent = fmt.Errorf("an event is larger than %d bytes", maxEventBytes)

// boundedReader ends reading with errLargeEvent once left is used up.
type boundedReader struct {
	r    io.Reader
	left int
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLargeEvent
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
