// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Command otelaudit is the tool of auditors and operators: it proves stored
// audit records sound and complete, or names what was changed, shows and exports
// them, sends events, looks after the records that a sink refused, and finds what
// in a collector's configuration breaks the promise of an audit pipeline.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
)

// Exit codes.
const (
	exitSound    = 0 // sound and complete, done, or a configuration without errors
	exitBroken   = 1 // an integrity finding, an event refused, or a configuration with errors
	exitUsage    = 2
	exitRead     = 3 // something could not be read, or nobody reached
	exitUnproven = 4 // sound, but head or tail is not proven
)

// version is set by the linker in a release.
var version = ""

// console is what surrounds a command.
type console struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], console{os.Stdin, os.Stdout, os.Stderr}))
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, c console) int {
	if len(args) == 0 {
		write(c.out, usage())
		return exitUsage
	}
	command, args := args[0], args[1:]
	switch command {
	case "verify":
		return runVerify(ctx, args, c)
	case "query":
		return runQuery(ctx, args, c)
	case "export":
		return runExport(ctx, args, c)
	case "tail":
		return runTail(ctx, args, c)
	case "send":
		return runSend(ctx, args, c)
	case "schema":
		return runSchema(args, c)
	case "journal":
		return runJournal(args, c.out, c.err)
	case "quarantine":
		return runQuarantine(args, c.out, c.err)
	case "doctor":
		return runDoctor(args, c.out, c.err)
	case "version", "--version":
		return write(c.out, "otelaudit "+buildVersion()+"\n")
	case "help", "--help", "-h":
		return runHelp(args, c)
	default:
		complain(c.err, fmt.Errorf("unknown command %q; see otelaudit help", command))
		return exitUsage
	}
}

func runHelp(args []string, c console) int {
	switch {
	case len(args) == 0:
		return write(c.out, usage())
	case help(args[0]) == "":
		complain(c.err, fmt.Errorf("unknown command %q; see otelaudit help", args[0]))
		return exitUsage
	default:
		return write(c.out, help(args[0]))
	}
}

// refuse says what is wrong with the arguments of a command, or prints its
// manual if that was asked for.
func (c *console) refuse(command string, err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return write(c.out, help(command))
	}
	complain(c.err, fmt.Errorf("%s: %w; see otelaudit %s --help", command, err, command))
	return exitUsage
}

func write(w io.Writer, text string) int {
	if _, err := io.WriteString(w, text); err != nil {
		return exitRead
	}
	return exitSound
}

// complain writes err to stderr. Where that fails there is nobody left to tell;
// the exit code still says it. An error may repeat what others wrote, such as
// the name of a file: that must not steer the terminal.
func complain(stderr io.Writer, err error) {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' })
	for i := range lines {
		lines[i] = printable(strings.ReplaceAll(lines[i], "\t", "  "))
	}
	_, _ = fmt.Fprintf(stderr, "otelaudit: %s\n", strings.Join(lines, "\n"))
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
