// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Command otelaudit is the tool of auditors and operators: it proves stored
// audit records sound and complete, or names what was changed, looks after the
// records that a sink refused, and finds what in a collector's configuration
// breaks the promise of an audit pipeline.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

// Exit codes.
const (
	exitSound    = 0 // sound and complete, done, or a configuration without errors
	exitBroken   = 1 // an integrity finding, or a configuration with errors
	exitUsage    = 2
	exitRead     = 3 // something could not be read
	exitUnproven = 4 // sound, but head or tail is not proven
)

// version is set by the linker in a release.
var version = ""

const usage = `Usage:
  otelaudit verify [--json] [--key FILE]... [--checkpoint FILE]... DIRECTORY|FILE...
  otelaudit journal check [--json] DIRECTORY
  otelaudit quarantine ls [--json] DIRECTORY
  otelaudit quarantine show [--json] DIRECTORY COORDINATE...
  otelaudit quarantine replay [--reason TEXT] [--json] DIRECTORY COORDINATE...|--all
  otelaudit quarantine drop --reason TEXT [--json] DIRECTORY COORDINATE...|--all
  otelaudit doctor [--json] CONFIG.yaml...
  otelaudit version
  otelaudit help

verify reads every file below DIRECTORY whose name ends in .jsonl.

  --key FILE         trust this public key (PEM) and no other; without it the key
                     first seen for an instance is remembered and trusted
  --checkpoint FILE  a checkpoint held from outside the store; what it covers
                     must be there
  --json             print the report as JSON

journal check reads the journal directory of an audit processor, changes nothing,
and says what is in it, or where it is damaged.

What a run has proven is remembered below $XDG_CONFIG_HOME/otelaudit/known
(~/.config/otelaudit/known); a later run that finds less says so. After records
were deleted on purpose, delete the file of that log there.

quarantine looks after the records that a sink refused for good. DIRECTORY is
the quarantine directory of an exporter, or the folder quarantine in the journal
directory; COORDINATE is <origin>/<index> as ls prints it. replay has a record
stored after all, drop gives it up; the running collector does either with its
next delivery, and seals that it did. show prints the record itself. Run it as the
user of the collector.

Exit code: 0 sound and complete, or done; 1 an integrity finding, 2 wrong usage, 3 something
could not be read, 4 sound, but head or tail is not proven.

doctor reads a collector configuration, several files as the collector merges
them, and finds what around the audit components can lose, double or leak
acknowledged events; docs/doctor.md lists the findings. What only the collector
can resolve (${env:X}) is named where it matters, and not judged.

Exit code: 0 no errors, 1 at least one error, 2 wrong usage, 3 a file could not be
read or parsed.
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	command := "help"
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "verify":
		return runVerify(args[1:], stdout, stderr)
	case "journal":
		return runJournal(args[1:], stdout, stderr)
	case "quarantine":
		return runQuarantine(args[1:], stdout, stderr)
	case "doctor":
		return runDoctor(args[1:], stdout, stderr)
	case "version", "--version":
		return write(stdout, "otelaudit "+buildVersion()+"\n")
	case "help", "--help", "-h":
		code := write(stdout, usage)
		if len(args) == 0 {
			return exitUsage
		}
		return code
	default:
		complain(stderr, fmt.Errorf("unknown command %q; see otelaudit help", command))
		return exitUsage
	}
}

func write(w io.Writer, text string) int {
	if _, err := io.WriteString(w, text); err != nil {
		return exitRead
	}
	return exitSound
}

// complain writes err to stderr. Where that fails there is nobody left to tell;
// the exit code still says it.
func complain(stderr io.Writer, err error) {
	_, _ = fmt.Fprintf(stderr, "otelaudit: %v\n", err)
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
