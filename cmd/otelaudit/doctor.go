// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/otelaudit/otelaudit/internal/doctor"
)

// maxConfigurations is how many files one collector is configured with at
// most.
const maxConfigurations = 64

func runDoctor(args []string, stdout, stderr io.Writer) int {
	asJSON, paths, err := parseDoctor(args)
	if errors.Is(err, flag.ErrHelp) {
		return write(stdout, help("doctor"))
	}
	if err != nil {
		complain(stderr, fmt.Errorf("doctor: %w; see otelaudit doctor --help", err))
		return exitUsage
	}
	report, err := examine(paths)
	if err == nil {
		err = printDiagnosis(stdout, &report, paths, asJSON)
	}
	switch {
	case err != nil:
		complain(stderr, err)
		return exitRead
	case report.Errors > 0:
		return exitBroken
	default:
		return exitSound
	}
}

// parseDoctor reads the arguments; flags may stand before and after the paths.
func parseDoctor(args []string) (asJSON bool, paths []string, err error) {
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&asJSON, "json", false, "")
	paths, err = parseFlags(flags, args)
	switch {
	case err != nil:
		return asJSON, nil, err
	case len(paths) == 0:
		return asJSON, nil, errors.New("name a collector configuration, or all files of one")
	case len(paths) > maxConfigurations:
		return asJSON, nil, fmt.Errorf("at most %d files, found %d", maxConfigurations, len(paths))
	}
	return asJSON, paths, nil
}

func examine(paths []string) (doctor.Report, error) {
	files := make([]doctor.File, 0, len(paths))
	for _, path := range paths {
		text, err := readBounded(path, doctor.MaxFileBytes)
		if err != nil {
			return doctor.Report{}, err
		}
		files = append(files, doctor.File{Name: path, Text: text})
	}
	return doctor.Examine(files)
}

// printDiagnosis prints the report, and which files it is about: several are
// one configuration, and whoever meant alternatives must see that.
func printDiagnosis(w io.Writer, r *doctor.Report, paths []string, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s at %s\n  %s:%d\n  %s\n  cure: %s\n\n",
			f.Severity, f.Code, printable(f.Path), printable(f.File), f.Line, printable(f.Reason), printable(f.Cure))
	}
	if len(paths) > 1 {
		fmt.Fprintf(&b, "one configuration of %d files, later ones over earlier ones: %s\n", len(paths), printable(strings.Join(paths, ", ")))
	}
	fmt.Fprintf(&b, "audit pipelines: %s\n", printable(orNone(r.Pipelines)))
	fmt.Fprintf(&b, "errors: %d, warnings: %d\n", r.Errors, r.Warnings)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// printJSON prints a report as JSON.
func printJSON(w io.Writer, report any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(report); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

// readBounded reads a file that is not larger than limit.
func readBounded(path string, limit int64) (text []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return text, err
}
