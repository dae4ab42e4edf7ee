// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

const (
	rowFormat = "%-24s  %-12s  %-8s  %-28s  %-20s  %-28s  %s\n"
	rowTime   = "2006-01-02T15:04:05.000Z"
	// longestCell is how much of a text a table shows, in characters.
	longestCell = 64
)

func (e *Event) appendRow(dst []byte) []byte {
	what := cell(e.said.target.ID)
	if e.said.target.Type != "" {
		what = cell(e.said.target.Type) + ":" + what
	}
	where := plain(e.Link.Origin + "/" + strconv.FormatUint(e.Link.Index, 10))
	if len(e.Flagged) > 0 {
		where += "  flagged"
	}
	return fmt.Appendf(dst, rowFormat, e.OccurredAt.UTC().Format(rowTime), cell(e.Tenant), cell(e.said.Outcome),
		cell(e.said.Action), cell(e.said.Actor.ID), what, where)
}

// cell shows a text in a column: plain, and cut where it is long.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	if utf8.RuneCountInString(text) <= longestCell {
		return plain(text)
	}
	return plain(string([]rune(text)[:longestCell])) + "…"
}

// plain shows a text as it is, or as a Go string where it is not one plain
// word. So no value moves a column, and a terminal obeys none.
func plain(text string) string {
	if text == "-" { // that is how nothing is shown
		return strconv.Quote(text)
	}
	for _, r := range text {
		if r == ' ' || r == '"' || r == utf8.RuneError || !unicode.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	return text
}
