// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// column is one column of the CSV form.
type column struct {
	name string
	cell func(e *Event) string
}

// columns are the original logger's table, in its order, then where the event
// stands in the log.
var columns = []column{
	{"event_id", func(e *Event) string { return e.said.EventID }},
	{"schema_version", func(e *Event) string { return scalar(e.said.SchemaVersion) }},
	{"occurred_at", func(e *Event) string { return e.OccurredAt.UTC().Format(time.RFC3339Nano) }},
	{"action", func(e *Event) string { return e.said.Action }},
	{"outcome", func(e *Event) string { return e.said.Outcome }},
	{"actor_id", func(e *Event) string { return e.said.Actor.ID }},
	{"actor_type", func(e *Event) string { return e.said.Actor.Type }},
	{"actor_display_name", func(e *Event) string { return e.said.Actor.DisplayName }},
	{"actor_roles", func(e *Event) string { return string(e.said.Actor.Roles) }},
	{"actor_ip", func(e *Event) string { return e.said.Actor.IP }},
	{"actor_user_agent", func(e *Event) string { return e.said.Actor.UserAgent }},
	{"target_id", func(e *Event) string { return e.said.target.ID }},
	{"target_type", func(e *Event) string { return e.said.target.Type }},
	{"target_display_name", func(e *Event) string { return e.said.target.DisplayName }},
	{"tenant_id", func(e *Event) string { return e.Tenant }},
	{"org_id", func(e *Event) string { return e.said.context.OrgID }},
	{"target", func(e *Event) string { return string(e.said.Target) }},
	{"context", func(e *Event) string { return string(e.said.Context) }},
	{"metadata", func(e *Event) string { return string(e.said.Metadata) }},
	{"diff", func(e *Event) string { return string(e.said.Diff) }},
	{"integrity", func(e *Event) string { return string(e.said.Integrity) }},
	{"retention_tag", func(e *Event) string { return e.said.RetentionTag }},
	{"metadata_truncated", func(e *Event) string { return boolean(e.said.MetadataTruncated) }},
	{"diff_truncated", func(e *Event) string { return boolean(e.said.DiffTruncated) }},

	{"origin", func(e *Event) string { return e.Link.Origin }},
	{"index", func(e *Event) string { return strconv.FormatUint(e.Link.Index, 10) }},
	{"hash", func(e *Event) string { return e.Hash.String() }},
}

// scalar is a JSON value as a cell: a string without its quotes.
func scalar(value jsontext.Value) string {
	if value.Kind() != '"' {
		return string(value)
	}
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return string(value)
	}
	return string(text)
}

// boolean is empty where the event does not say: that is not false.
func boolean(value *bool) string {
	if value == nil {
		return ""
	}
	return strconv.FormatBool(*value)
}

// Where a spreadsheet begins a formula: also with the wide forms of these
// characters, and behind what it does not see or takes away.
const formulaStarts = "=+-@\uff0b\uff0d\uff1d\uff20\u2212"

// guard keeps a spreadsheet from running a cell: it puts an apostrophe before
// it. Taking one apostrophe off each cell that begins with one gives the values
// back.
func guard(cell string) string {
	seen := strings.TrimLeftFunc(cell, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) })
	first, _ := utf8.DecodeRuneInString(seen)
	if seen != "" && strings.ContainsRune(formulaStarts, first) || cell != "" && strings.ContainsAny(cell[:1], "\t\r\n'") {
		return "'" + cell
	}
	return cell
}

// NewCSV prints a line of names and one line for each event. With formulas,
// cells are as they are in the event; else see guard.
func NewCSV(w io.Writer, formulas bool) Printer {
	return &table{w: csv.NewWriter(w), formulas: formulas, row: make([]string, len(columns))}
}

type table struct {
	w        *csv.Writer
	formulas bool
	headed   bool
	row      []string
}

func (p *table) Print(e *Event) error {
	if err := p.head(); err != nil {
		return err
	}
	for i, c := range columns {
		p.row[i] = c.cell(e)
		if !p.formulas {
			p.row[i] = guard(p.row[i])
		}
	}
	return printError(p.w.Write(p.row))
}

// head prints the names, once.
func (p *table) head() error {
	if p.headed {
		return nil
	}
	p.headed = true
	for i, c := range columns {
		p.row[i] = c.name
	}
	return printError(p.w.Write(p.row))
}

// Flush prints the names even where there was no event: an empty answer is a
// table as well.
func (p *table) Flush() error {
	if err := p.head(); err != nil {
		return err
	}
	p.w.Flush()
	return printError(p.w.Error())
}
