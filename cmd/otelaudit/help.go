// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import "strings"

// manual is what a command says of itself.
type manual struct {
	command  string
	synopses []string // without the program's name
	text     string
}

const filterHelp = `
  --actor ID         actor.id of the event
  --action NAME      action of the event
  --target ID        target.id of the event
  --tenant ID        the authenticated tenant, else context.tenantId
  --outcome WORD     SUCCESS, FAILURE, DENIED, ERROR or UNKNOWN
  --since TIME       events that occurred at this time or later
  --until TIME       events that occurred before this time; a TIME is RFC 3339
                     (2026-11-24T09:07:00Z), a day (2026-11-24, in UTC), or how long
                     ago (90m, 24h, 7d)
  --control          also what the collector itself sealed
`

const databaseHelp = `
  --table NAME       the table in the database, audit_events if not named
`

const storeHelp = `
A store is a directory, of which every file below is read whose name ends in .jsonl,
single files, or postgres://host/database: user, password and all else that the URL
leaves out come from PGUSER, PGPASSWORD, PGPASSFILE, PGSERVICE, PGSSLMODE and so on, as
with psql. A password in the URL is seen by everyone who can list the processes of
this machine.
`

const readExitHelp = `
Exit code: 0 done, 1 the hash of a shown record is not that of its content, 2 wrong usage,
3 something could not be read.
`

// manuals are the commands in the order in which help lists them.
var manuals = []manual{
	{"verify", []string{"verify [--json] [--key FILE]... [--checkpoint FILE]... [--table NAME] DIRECTORY|FILE...|postgres://…"}, `
Proves stored records sound and complete, or names what was changed.

  --key FILE         trust this public key (PEM) and no other; without it the key
                     first seen for an instance is remembered and trusted
  --checkpoint FILE  a checkpoint held from outside the store; what it covers
                     must be there
  --json             print the report as JSON` + databaseHelp + storeHelp + `
What a run has proven is remembered below $XDG_CONFIG_HOME/otelaudit/known
(~/.config/otelaudit/known); a later run that finds less says so. After records
were deleted on purpose, delete the file of that log there.

Exit code: 0 sound and complete, 1 an integrity finding, 2 wrong usage, 3 something
could not be read, 4 sound, but head or tail is not proven.
`},
	{"query", []string{"query [FILTER]... [--format table|jsonl|csv] [--limit N] DIRECTORY|FILE...|postgres://…"}, `
Prints the stored events that all filters match: of files in the order of their
names, of a database in the order in which they occurred.
` + filterHelp + `
  --format FORMAT    table (the default), jsonl or csv
  --limit N          end after N events
  --raw              with jsonl: the stored lines, byte for byte
  --no-formula-guard with csv: leave cells that a spreadsheet would run as formulas as
                     they are; without it they get an apostrophe in front` + databaseHelp + storeHelp + `
It shows what is stored and does not say whether anything is missing: verify does.
` + readExitHelp},
	{"export", []string{"export [FILTER]... [--format jsonl|csv|lines] [--cursor FILE [--page-size N]] DIRECTORY|FILE...|postgres://…"}, `
Prints the stored events that all filters match, to be taken elsewhere.
` + filterHelp + `
  --format FORMAT    jsonl (the default); csv; or lines: every stored line byte for byte,
                     checkpoints and stubs included, without filters. verify reads
                     these as it reads the store itself
  --cursor FILE      go on where the run ended that wrote FILE, and write there where this
                     one ends, once everything is printed; FILE need not exist
  --page-size N      end after N events
  --require-tenant   refuse to run without --tenant
  --raw, --no-formula-guard, --table NAME   as with query
` + storeHelp + `
A cursor finds all that was stored since, whenever it occurred. With one, the events of
a database come in the order in which they were stored, else in that in which they occurred.
` + readExitHelp},
	{"tail", []string{"tail [-f] [-n N] [FILTER]... [--json] DIRECTORY|FILE...|postgres://…"}, `
Prints the events that were stored last, and with -f those that come.

  -n N               how many of the last ones; 10 if not named
  -f, --follow       go on until it is interrupted
  --json             one line of JSON for each event
` + filterHelp + databaseHelp + storeHelp + readExitHelp},
	{"send", []string{"send [--endpoint URL] [--header 'NAME: VALUE'|@FILE]... [--json] [FILE]..."}, `
Sends events to an audit receiver: one event, an array, {"events":[…]} or one event a line,
from files or from standard input. An event without eventId gets one, so that
sending again never stores it twice. What comes of each is printed.

  --endpoint URL     http://127.0.0.1:4319/v1/events if not named
  --header H         a request header, 'Name: value'; @FILE reads one a line from FILE.
                     The lines of OTELAUDIT_HEADERS are taken as well. On the command
                     line a token is seen by everyone who can list processes
  --ca FILE          trust the certificate authorities in FILE (PEM) for the receiver
  --cert FILE, --key FILE  the client's certificate and key (PEM)
  --retry-for TIME   how long to repeat what the receiver cannot take just now, or
                     while it is not reached: 1m if not named
  --json             one line of JSON for each event

Exit code: 0 every event is durable, 1 at least one was refused or not read, 2 wrong usage,
3 the receiver was not reached, or did not answer as one.
`},
	{"schema", []string{"schema postgres [--table NAME]"}, `
Prints the SQL that creates, or brings up to date, what the exporter's postgres sink
needs, for a database in which it may not do so itself.
`},
	{"journal", []string{"journal check [--json] DIRECTORY"}, `
Reads the journal directory of an audit processor, changes nothing, and says what
is in it, or where it is damaged.

Exit code: 0 sound, 1 damaged, 2 wrong usage, 3 it could not be read.
`},
	{"quarantine", []string{
		"quarantine ls [--json] DIRECTORY",
		"quarantine show [--json] DIRECTORY COORDINATE...",
		"quarantine replay [--reason TEXT] [--json] DIRECTORY COORDINATE...|--all",
		"quarantine drop --reason TEXT [--json] DIRECTORY COORDINATE...|--all",
	}, `
Looks after the records that a sink refused for good. DIRECTORY is the quarantine
directory of an exporter, or the folder quarantine in the journal directory; COORDINATE is
<origin>/<index> as ls prints it. replay has a record stored after all, drop gives it
up; the running collector does either with its next delivery, and seals that it did.
show prints the record itself. Run it as the user of the collector.

Exit code: 0 done, 2 wrong usage, 3 something could not be read.
`},
	{"doctor", []string{"doctor [--json] CONFIG.yaml..."}, `
Reads a collector configuration, several files as the collector merges them, and
finds what around the audit components can lose, double or leak acknowledged
events; docs/doctor.md lists the findings. What only the collector can resolve
(${env:X}) is named where it matters, and not judged.

Exit code: 0 no errors, 1 at least one error, 2 wrong usage, 3 a file could not be
read or parsed.
`},
	{"version", []string{"version"}, ""},
}

// usage lists all commands.
func usage() string {
	var b strings.Builder
	b.WriteString("Usage:\n")
	for _, m := range manuals {
		m.appendSynopses(&b)
	}
	b.WriteString("  otelaudit help [COMMAND]\n\notelaudit COMMAND --help says more of each.\n")
	return b.String()
}

// help is the manual of one command, "" if there is no such command.
func help(command string) string {
	for _, m := range manuals {
		if m.command == command {
			var b strings.Builder
			b.WriteString("Usage:\n")
			m.appendSynopses(&b)
			b.WriteString(m.text)
			return b.String()
		}
	}
	return ""
}

func (m *manual) appendSynopses(b *strings.Builder) {
	for _, synopsis := range m.synopses {
		b.WriteString("  otelaudit " + synopsis + "\n")
	}
}
