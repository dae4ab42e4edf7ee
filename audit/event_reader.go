// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// EventReader reads the events of one text: a single event, an array of
// events, one event a line (NDJSON) or {"events":[…]}. Strings of the records
// share the text's memory. Not safe for concurrent use.
type EventReader struct {
	d     *eventDecoder
	shape eventShape
	err   error // ends reading; io.EOF after the last event
}

// eventShape says where in its text a reader stands.
type eventShape uint8

const (
	shapeUnknown  eventShape = iota // nothing read yet
	shapeLines                      // single events, each on its own line
	shapeArray                      // inside [ … ]
	shapeEnvelope                   // inside {"events":[ … ]}
)

// NewEventReader returns a reader of the events in text.
func NewEventReader(text string) *EventReader {
	return &EventReader{d: newEventDecoder(text)}
}

// Next reads the next event into an empty record and resource, see
// DecodeEvent. After FieldErrors the reader stands behind the faulty event and
// Next may be called again; io.EOF says that there is no further event; every
// other error is for good: the text cannot be read on.
func (r *EventReader) Next(resource pcommon.Resource, record plog.LogRecord) error {
	if r.err != nil {
		return r.err
	}
	err := r.next(resource, record)
	if err == nil {
		return nil
	}
	var fields FieldErrors
	if !errors.As(err, &fields) {
		r.err = err
	}
	return err
}

// Values is how many JSON values the last event holds: a measure of the memory
// that its record takes beside the text.
func (r *EventReader) Values() int { return r.d.values }

func (r *EventReader) next(resource pcommon.Resource, record plog.LogRecord) error {
	switch r.shape {
	case shapeUnknown:
		return r.first(resource, record)
	case shapeLines:
		return r.line(resource, record)
	default:
		return r.element(resource, record)
	}
}

// first finds out the shape of the text.
func (r *EventReader) first(resource pcommon.Resource, record plog.LogRecord) error {
	switch kind := r.d.json.PeekKind(); kind {
	case '[':
		r.shape = shapeArray
		if _, err := r.d.json.ReadToken(); err != nil {
			return err
		}
		return r.element(resource, record)
	case '{':
		return r.firstObject(resource, record)
	default:
		return r.notEvent(kind)
	}
}

// firstObject reads the object that the text begins with: an event, or the
// envelope, which is known by its first member.
func (r *EventReader) firstObject(resource pcommon.Resource, record plog.LogRecord) error {
	d := r.d
	d.begin(resource, record)
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	if d.json.PeekKind() == '"' {
		raw, err := d.json.ReadValue()
		if err != nil {
			return err
		}
		name := d.unquote(raw)
		if string(name) == "events" && d.json.PeekKind() == '[' {
			r.shape = shapeEnvelope
			if _, err := d.json.ReadToken(); err != nil {
				return err
			}
			return r.element(resource, record)
		}
		if err := d.member(eventFields, name); err != nil {
			return err
		}
	}
	r.shape = shapeLines
	if err := d.members(eventFields); err != nil {
		return err
	}
	return d.finish()
}

// line reads one event of NDJSON behind the first.
func (r *EventReader) line(resource pcommon.Resource, record plog.LogRecord) error {
	kind := r.d.json.PeekKind()
	if kind == 0 {
		_, err := r.d.json.ReadToken()
		return err
	}
	if !r.onNewLine() {
		return errors.New("two events on one line: put each on a line of its own, or all into an array")
	}
	if kind != '{' {
		return r.notEvent(kind)
	}
	return r.d.event(resource, record)
}

// onNewLine says whether a line ends between the last value and the next.
func (r *EventReader) onNewLine() bool {
	between := r.d.text[r.d.json.InputOffset():]
	return strings.Contains(between[:len(between)-len(strings.TrimLeft(between, " \t\r\n"))], "\n")
}

// element reads one event of an array, or what ends the text.
func (r *EventReader) element(resource pcommon.Resource, record plog.LogRecord) error {
	switch kind := r.d.json.PeekKind(); kind {
	case ']':
		return r.close()
	case '{':
		return r.d.event(resource, record)
	default:
		return r.notEvent(kind)
	}
}

// close reads the end of the array and checks that nothing follows.
func (r *EventReader) close() error {
	d := r.d
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	if r.shape == shapeEnvelope {
		token, err := d.json.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() != '}' {
			return errors.New("the object with the member events has other members: leave them out")
		}
	}
	if _, err := d.json.ReadToken(); err == nil {
		return errors.New("more follows after the last event: leave it out")
	} else if !isEOF(err) {
		return err
	}
	return io.EOF
}

// notEvent passes over something that is no event.
func (r *EventReader) notEvent(kind jsontext.Kind) error {
	r.d.values = 1
	if err := r.d.json.SkipValue(); err != nil {
		return err
	}
	if r.shape == shapeUnknown {
		return errors.New("want an event, an array of events or {\"events\":[…]}, found " + kindName(kind))
	}
	return FieldErrors{{Problem: "want an event, found " + kindName(kind)}}
}

// isEOF says that the text ended between two values.
func isEOF(err error) bool { return err == io.EOF } //nolint:errorlint // a cut value wraps io.ErrUnexpectedEOF, never this
