// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/otelaudit/otelaudit/internal/journal"
)

// runJournal is `otelaudit journal check [--json] DIRECTORY`.
func runJournal(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
		return write(stdout, help("journal"))
	}
	if len(args) == 0 || args[0] != "check" {
		complain(stderr, errors.New("journal: the one thing to do is check; see otelaudit journal --help"))
		return exitUsage
	}
	flags := flag.NewFlagSet("journal check", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "")
	directories, err := parseFlags(flags, args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return write(stdout, help("journal"))
	}
	if err == nil && len(directories) != 1 {
		err = errors.New("name one journal directory")
	}
	if err != nil {
		complain(stderr, fmt.Errorf("journal check: %w; see otelaudit journal --help", err))
		return exitUsage
	}
	report, err := journal.Check(directories[0])
	if err != nil {
		complain(stderr, err)
		var corrupt *journal.CorruptError
		if errors.As(err, &corrupt) {
			return exitBroken
		}
		return exitRead
	}
	if *asJSON {
		if err := printJSON(stdout, report); err != nil {
			complain(stderr, err)
			return exitRead
		}
		return exitSound
	}
	return write(stdout, journalText(&report))
}

func journalText(r *journal.CheckReport) string {
	state := "ended without a stop record"
	switch {
	case r.Origin == "":
		state = "no life yet"
	case r.Running:
		state = "in use by a collector"
	case r.Ended:
		state = "ended with a stop record"
	}
	return fmt.Sprintf(`journal %s/%s is sound (%s)
newest life:  %s, %d records
segments:     %d, frames to %d, delivered to %d
undelivered:  %d records of clients, %d bytes
torn:         %d bytes of a write that nobody was told of
ids in files: %d, through frame %d
`, r.Instance, r.Journal, state, r.Origin, r.Size, r.Segments, r.LastFrame, r.Cursor, r.Records, r.Bytes, r.Torn, r.IDs, r.IDsThrough)
}
