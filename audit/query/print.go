// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"bufio"
	"fmt"
	"io"

	"github.com/otelaudit/otelaudit/audit"
)

// Printer prints events, one at a time. What Flush has not seen may not be
// written yet.
type Printer interface {
	Print(e *Event) error
	Flush() error
}

// NewJSON prints each event as one line of JSON: the event as it was sent, and
// where it stands in the log, by the names of the receiver's answers. No
// character of it steers a terminal.
func NewJSON(w io.Writer) Printer {
	return &lines{w: bufio.NewWriter(w), line: func(dst []byte, e *Event) []byte { return append(e.appendJSON(dst), '\n') }}
}

// NewRaw prints the stored lines, byte for byte.
func NewRaw(w io.Writer) Printer {
	return &lines{w: bufio.NewWriter(w), line: func(dst []byte, e *Event) []byte {
		return append(audit.AppendEvent(dst, &e.Link, e.Hash, e.Canonical), '\n')
	}}
}

// NewTable prints each event as one line for people. What others wrote is
// quoted where it could be misread, or could steer a terminal, and cut where it
// is long. The coordinate at the end is that of `otelaudit quarantine`.
func NewTable(w io.Writer) Printer {
	return &lines{
		w:    bufio.NewWriter(w),
		head: fmt.Sprintf(rowFormat, "OCCURRED", "TENANT", "OUTCOME", "ACTION", "ACTOR", "TARGET", "COORDINATE"),
		line: func(dst []byte, e *Event) []byte { return e.appendRow(dst) },
	}
}

// lines prints a line for each event.
type lines struct {
	w      *bufio.Writer
	head   string
	buffer []byte
	line   func(dst []byte, e *Event) []byte
}

func (p *lines) Print(e *Event) error {
	_, err := p.w.WriteString(p.head)
	p.head = ""
	p.buffer = p.line(p.buffer[:0], e)
	if err == nil {
		_, err = p.w.Write(p.buffer)
	}
	return printError(err)
}

func (p *lines) Flush() error { return printError(p.w.Flush()) }

func printError(err error) error {
	if err != nil {
		return fmt.Errorf("print events: %w", err)
	}
	return nil
}
