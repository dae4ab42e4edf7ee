// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
)

const (
	// maxEvents is how many events one request may hold: the memory of an
	// empty event is far more than its three bytes.
	maxEvents = 10_000
	// maxFaults is how many faulty events of a request are named.
	maxFaults = 50

	// What an event takes in memory beside its bytes, about: of each value,
	// and of the record itself.
	bytesPerValue  = 64
	bytesPerRecord = 512

	copyBytes = 32 << 10
	// announcedBytes is what a body gets at most before it comes.
	announcedBytes = 64 << 10
)

// batch is a request that has been read.
type batch struct {
	logs   plog.Logs
	noun   string // what the path calls one of them
	events int    // how many were read, faulty ones included
	faults []fault
	// unknown is how many fields came that this version of OTLP does not have.
	unknown int
}

// fault is what is wrong with one event of a request.
type fault struct {
	position int
	foreign  bool // well-formed, but of another tenant than the caller
	problem  string
}

// isContentType says whether a body of this type is read as JSON. The form
// type is what curl sends when it is told nothing else.
func isContentType(header string) bool {
	kind, parameters, err := mime.ParseMediaType(header)
	if err != nil {
		return false
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return false
	}
	switch kind {
	case "application/json", "application/x-ndjson", "application/x-www-form-urlencoded":
		return true
	}
	return false
}

// isLines says whether a body of this type, one of those above, is a JSON value
// a line.
func isLines(header string) bool {
	kind, _, err := mime.ParseMediaType(header)
	return err == nil && kind == "application/x-ndjson"
}

// text is where a body is gathered.
type text interface {
	io.Writer
	Grow(n int)
	Len() int
}

// readBody reads the whole body into memory that taken has admitted.
func readBody(req *http.Request, maxBody int64, into text, taken *share) error {
	body := bodyWriter{text: into, taken: taken}
	if req.ContentLength > maxBody {
		return &http.MaxBytesError{Limit: maxBody}
	}
	if req.ContentLength > 0 {
		if err := taken.fits(req.ContentLength); err != nil {
			return err
		}
		// What is only announced holds little: many who announce and do not
		// send must not keep others out.
		first := min(req.ContentLength, announcedBytes)
		if err := taken.admit(first); err != nil {
			return err
		}
		into.Grow(int(first))
	}
	buffer := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buffer)
	_, err := io.CopyBuffer(&body, struct{ io.Reader }{req.Body}, buffer[:])
	return err
}

var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}

// bodyWriter gathers a body whose size may not be known before.
type bodyWriter struct {
	text  text
	taken *share
}

func (w *bodyWriter) Write(p []byte) (int, error) {
	if more := int64(w.text.Len()+len(p)) - w.taken.size.Load(); more > 0 {
		if err := w.taken.admit(more); err != nil {
			return 0, err
		}
	}
	return w.text.Write(p)
}

// decode reads all events of a body. Events that are wrong become faults; an
// error is about the whole request: errBusy, errNeverFits or errTooMany.
func decode(text string, who *caller, taken *share) (*batch, error) {
	build := newBuilder()
	b := &batch{logs: build.logs, noun: "event"}
	reader := audit.NewEventReader(text)
	for {
		record := build.begin()
		err := reader.Next(build.resource, record)
		if errors.Is(err, io.EOF) {
			build.drop()
			return b, nil
		}
		if b.events == maxEvents {
			return b, errTooMany
		}
		b.events++
		if ended := b.judge(err, build.resource, record, who); ended {
			return b, nil
		}
		size := bytesPerRecord + bytesPerValue*int64(reader.Values())
		if err := taken.admit(size); err != nil {
			return b, err
		}
		build.end(err == nil)
	}
}

// judge notes what is wrong with the event read last, whose decoding gave err.
// It is true if reading must end there.
func (b *batch) judge(err error, resource pcommon.Resource, record plog.LogRecord, who *caller) (ended bool) {
	found := fault{position: b.events - 1}
	if err == nil {
		found.problem = who.judge(resource, record, &eventNames)
		found.foreign = found.problem != ""
	}
	switch {
	case err == nil && !found.foreign:
		return false
	case err == nil:
	case isFields(err):
		found.problem = err.Error()
	default:
		found.problem, ended = "the JSON cannot be read on: "+err.Error(), true
	}
	b.faults = append(b.faults, found)
	return ended || len(b.faults) == maxFaults
}

// isFields says whether err is about one event, behind which reading goes on.
func isFields(err error) bool {
	var fields audit.FieldErrors
	return errors.As(err, &fields)
}

var errTooMany = fmt.Errorf("the request holds more than %d events: send fewer at a time", maxEvents)

// malformed says whether an event is wrong in itself, whoever sends it.
func (b *batch) malformed() bool {
	for i := range b.faults {
		if !b.faults[i].foreign {
			return true
		}
	}
	return false
}

// results says what becomes of each event of a refused request.
func (b *batch) results() []result {
	results := make([]result, b.events)
	for i := range results {
		results[i].status = statusWithheld
	}
	for _, f := range b.faults {
		results[f.position] = result{status: statusRefused, reason: f.problem}
	}
	return results
}

// problem sums the faults up, naming the first.
func (b *batch) problem() string {
	first := b.faults[0]
	text := fmt.Sprintf("%s %d: %s", b.noun, first.position, first.problem)
	switch {
	case len(b.faults) == maxFaults:
		text += fmt.Sprintf(" (reading ended at the %dth faulty %s)", maxFaults, b.noun)
	case len(b.faults) > 1:
		text += fmt.Sprintf(" (and %d more faulty %ss, see results)", len(b.faults)-1, b.noun)
	}
	return text
}
