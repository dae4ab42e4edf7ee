// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/otelaudit/otelaudit/audit/verify"
)

// printText prints a report for people: the two verdicts, each log with its
// range and trust, then what was found.
func printText(w io.Writer, r *verify.Report) error {
	var b strings.Builder
	if len(r.Logs) == 0 && len(r.Findings) == 0 { // "sound" would be true, and misread
		b.WriteString("no stored records: nothing is proven\n")
	} else {
		fmt.Fprintf(&b, "integrity:    %s (%d records, %d checkpoints; trust: %s)\n", r.Integrity, r.Records, r.Checkpoints, r.Trust)
		fmt.Fprintf(&b, "completeness: %s\n", r.Completeness)
	}
	for i := range r.Logs {
		printLog(&b, &r.Logs[i])
	}
	for _, f := range r.Findings {
		printFinding(&b, &f)
	}
	if r.MoreFindings > 0 {
		fmt.Fprintf(&b, "… and %d more findings\n", r.MoreFindings)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

func printLog(b *strings.Builder, l *verify.Log) {
	fmt.Fprintf(b, "\nlog %q: integrity %s, completeness %s, trust: %s\n", l.Name, l.Integrity, l.Completeness, l.Trust)
	for i, life := range l.Lives {
		fmt.Fprintf(b, "  %s: indexes %s to below %s, %d stored, signed below %s", life.Origin[len(l.Name)+1:],
			life.First, life.Size, life.Records, life.Proven)
		if last := i == len(l.Lives)-1; last && life.Closed {
			fmt.Fprintf(b, ", closed at %s", l.ClosedAt)
		}
		b.WriteByte('\n')
	}
}

func printFinding(b *strings.Builder, f *verify.Finding) {
	level := "notice"
	if f.Kind.Integrity() {
		level = "FINDING"
	}
	fmt.Fprintf(b, "\n%s %s", level, f.Kind)
	if f.Origin != "" {
		fmt.Fprintf(b, " at %q", f.Origin)
	}
	if f.Index != "" {
		fmt.Fprintf(b, " index %s", f.Index)
	}
	switch {
	case isDatabase(f.File):
		fmt.Fprintf(b, "\n  in %q", f.File)
	case f.File != "":
		fmt.Fprintf(b, "\n  file %q, byte %d", f.File, f.Offset)
	}
	fmt.Fprintf(b, "\n  %s\n", printable(f.Detail))
}

// printable keeps what others wrote, in a configuration or a store, from steering
// the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
