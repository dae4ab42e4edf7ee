// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/query"
)

// search is what query, export and tail are asked for.
type search struct {
	filter        query.Filter
	format        string
	raw, formulas bool
	limit         int // 0 is none
	store
}

// searchFlags declares what the three commands have in common. Call take with
// the arguments that are no flags.
func searchFlags(command string) (*flag.FlagSet, *search) {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	s := &search{}
	for name, into := range map[string]*string{
		"actor": &s.filter.Actor, "action": &s.filter.Action, "target": &s.filter.Target,
		"tenant": &s.filter.Tenant, "outcome": &s.filter.Outcome,
	} {
		flags.Func(name, "", func(value string) error {
			*into = value
			if value == "" {
				return errors.New("is empty: name what to look for, or leave the flag out")
			}
			return nil
		})
	}
	now := time.Now()
	for name, into := range map[string]*time.Time{"since": &s.filter.Since, "until": &s.filter.Until} {
		flags.Func(name, "", func(value string) (err error) {
			*into, err = parseTime(value, now)
			return err
		})
	}
	flags.BoolVar(&s.filter.Control, "control", false, "")
	flags.StringVar(&s.table, "table", defaultTable, "")
	return flags, s
}

// printFlags declares how events are printed.
func (s *search) printFlags(flags *flag.FlagSet, format string) {
	flags.StringVar(&s.format, "format", format, "")
	flags.BoolVar(&s.raw, "raw", false, "")
	flags.BoolVar(&s.formulas, "no-formula-guard", false, "")
}

// parseTime reads RFC 3339, a day in UTC, or how long before now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at, nil
	}
	ago, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		ago = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || ago < 0 {
		return time.Time{}, errors.New("want RFC 3339 (2026-11-24T09:07:00Z), a day (2026-11-24), or how long ago (90m, 24h, 7d)")
	}
	return now.Add(-ago), nil
}

// formatLines is every stored line as it is.
const formatLines = "lines"

// take reads what is no flag, and says what does not go together.
func (s *search) take(rest []string) error {
	f := &s.filter
	switch {
	case !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until):
		return errors.New("--since must be before --until")
	case s.limit < 0:
		return errors.New("the number of events must not be negative")
	case s.raw && s.format != "jsonl":
		return errors.New("--raw goes with --format jsonl alone")
	case s.format == formatLines && *f != (query.Filter{}):
		return errors.New("--format lines is every stored line: it goes with no filter")
	case s.formulas && s.format != "csv":
		return errors.New("--no-formula-guard goes with --format csv alone")
	}
	return s.name(rest)
}

// printer prints to w in the form that was asked for.
func (s *search) printer(w io.Writer) (query.Printer, error) {
	switch {
	case s.raw:
		return query.NewRaw(w), nil
	case s.format == "table":
		return query.NewTable(w), nil
	case s.format == "jsonl":
		return query.NewJSON(w), nil
	case s.format == "csv":
		return query.NewCSV(w, s.formulas), nil
	default:
		return nil, fmt.Errorf("--format %q: there is none of that name", s.format)
	}
}

// maxComplaints is how many lines that cannot be shown are named.
const maxComplaints = 20

// shower prints what is wanted of the lines that it is given, and keeps account
// of those that it cannot show.
type shower struct {
	sieve   *query.Sieve
	printer query.Printer
	whole   *bufio.Writer // takes every line as it is, instead of printer; nil if that is not asked for
	limit   int           // 0 is none
	stderr  io.Writer

	printed, stubs, unread, unsound int
}

// newShower returns what prints to c as is asked for.
func (s *search) newShower(c console) (*shower, error) {
	show := &shower{sieve: query.NewSieve(s.filter), limit: s.limit, stderr: c.err}
	if s.format == formatLines {
		show.whole = bufio.NewWriter(c.out)
		return show, nil
	}
	var err error
	show.printer, err = s.printer(c.out)
	return show, err
}

func (s *shower) flush() error {
	if s.whole == nil {
		return s.printer.Flush()
	}
	if err := s.whole.Flush(); err != nil {
		return fmt.Errorf("print lines: %w", err)
	}
	return nil
}

// copy prints a line as it is.
func (s *shower) copy(text []byte) error {
	_, err := s.whole.Write(text)
	if err == nil {
		err = s.whole.WriteByte('\n')
	}
	if err != nil {
		return fmt.Errorf("print lines: %w", err)
	}
	return s.count()
}

func (s *shower) count() error {
	if s.printed++; s.printed == s.limit {
		return errEnough
	}
	return nil
}

// text takes a line of a file. errEnough says that no more is wanted.
func (s *shower) text(path string, l *fileLine) error {
	if l.text == nil {
		s.cannot(path, l.offset, errors.New("line is too long to be read"))
		return nil
	}
	if s.whole != nil {
		return s.copy(l.text)
	}
	line, err := audit.ParseLine(l.text)
	if err != nil {
		s.cannot(path, l.offset, err)
		return nil
	}
	return s.line(path, l.offset, &line)
}

// line takes a line, wherever it comes from.
func (s *shower) line(place string, offset int64, line *audit.Line) error {
	if line.Kind == audit.LineStub {
		s.stubs++
		return nil
	}
	e, err := s.sieve.Take(line)
	if err != nil {
		s.cannot(place, offset, err)
		return nil
	}
	if e == nil {
		return nil
	}
	return s.show(place, offset, e)
}

func (s *shower) show(place string, offset int64, e *query.Event) error {
	if !e.Sound() {
		s.unsound++
		s.complain(s.unsound, fmt.Errorf("%s: the stored hash is not that of the event; run verify", locate(place, offset)))
	}
	if err := s.printer.Print(e); err != nil {
		return err
	}
	return s.count()
}

// cannot takes note of what cannot be read.
func (s *shower) cannot(place string, offset int64, err error) {
	s.unread++
	s.complain(s.unread, fmt.Errorf("%s: %w; run verify", locate(place, offset), err))
}

// locate names a line: its byte in a file, its index in a database.
func locate(place string, offset int64) string {
	if isDatabase(place) {
		return fmt.Sprintf("%q, index %d", place, offset)
	}
	return fmt.Sprintf("%s, byte %d", place, offset)
}

func (s *shower) complain(nth int, err error) {
	if nth <= maxComplaints {
		complain(s.stderr, err)
	}
}

// end says what was passed over, and returns the exit code.
func (s *shower) end(unread error) int {
	if s.stubs > 0 {
		complain(s.stderr, fmt.Errorf("passed over %d records that a sink refused; what was not stored since is in its quarantine", s.stubs))
	}
	if more := max(s.unread, s.unsound) - maxComplaints; more > 0 {
		complain(s.stderr, fmt.Errorf("and %d more lines like these; run verify", more))
	}
	if unread != nil {
		complain(s.stderr, unread)
	}
	switch {
	case s.unsound > 0:
		return exitBroken
	case s.unread > 0 || unread != nil:
		return exitRead
	default:
		return exitSound
	}
}

// interrupted says that ctx ended the work, which is no fault of a store.
func interrupted(ctx context.Context) error {
	if ctx.Err() != nil {
		return errors.New("interrupted: what is printed is not all")
	}
	return nil
}
