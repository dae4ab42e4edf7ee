// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
)

// request is what the command line asks for.
type request struct {
	json        bool
	keys        list
	checkpoints list
	store
}

type list []string

func (l *list) String() string { return strings.Join(*l, ",") }
func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// parseVerify reads the arguments; flags may stand before and after the paths.
func parseVerify(args []string) (*request, error) {
	var r request
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&r.json, "json", false, "")
	flags.Var(&r.keys, "key", "")
	flags.Var(&r.checkpoints, "checkpoint", "")
	flags.StringVar(&r.table, "table", defaultTable, "")
	rest, err := parseFlags(flags, args)
	if err != nil {
		return nil, err
	}
	return &r, r.name(rest)
}

// parseFlags parses flags before and after the other arguments, and returns
// those. Behind `--` there are no flags.
func parseFlags(flags *flag.FlagSet, args []string) (others []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		rest := flags.Args()
		if len(rest) == 0 {
			return others, nil
		}
		if ended := len(args) > len(rest) && args[len(args)-len(rest)-1] == "--"; ended {
			return append(others, rest...), nil
		}
		others = append(others, rest[0])
		args = rest[1:]
	}
}

func runVerify(ctx context.Context, args []string, c console) int {
	r, err := parseVerify(args)
	if err != nil {
		return c.refuse("verify", err)
	}
	code, err := r.verify(ctx, c.out, c.err)
	if err != nil {
		complain(c.err, err)
	}
	return code
}

// verify reads and judges the store. The code says the worst of both; an error
// is for the user.
func (r *request) verify(ctx context.Context, stdout, stderr io.Writer) (int, error) {
	options, err := r.options()
	if err != nil {
		return exitRead, err
	}
	known, err := openKnown()
	if err != nil {
		return exitRead, err
	}
	lines, err := r.lines(ctx, stderr)
	if err != nil {
		return exitRead, err
	}
	whole := lines.whole
	options.Pins = known.pins
	if whole {
		options.Floors = known.floors
	}
	spill := &spillFile{}
	options.Spill = spill
	report, unread, err := lines.read(options)
	err = errors.Join(err, spill.Close())
	if err != nil {
		return exitRead, err
	}
	code := exitCode(&report, unread != nil)
	if err := r.print(stdout, &report); err != nil {
		return exitRead, errors.Join(unread, err)
	}
	if text := r.remembered(&report, known, &options); text != "" && !r.json {
		complain(stderr, errors.New(text))
	}
	if unread == nil && whole && code != exitBroken {
		if err := known.learn(&report.Learned); err != nil {
			complain(stderr, fmt.Errorf("the next run will not know what this one saw: %w", err))
		}
	}
	return code, unread
}

// lines is what is to be verified.
type lines struct {
	whole  bool  // what is not there is missing
	unread error // what cannot be looked at
	feed   func(*verify.Verifier) error
}

// lines finds the store. An error says that there is nothing to judge.
func (r *request) lines(ctx context.Context, stderr io.Writer) (*lines, error) {
	if r.database == "" {
		files, whole, unread := findFiles(r.paths)
		return &lines{whole, unread, func(v *verify.Verifier) error { return feedFiles(v, files, stderr) }}, nil
	}
	from, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	return &lines{whole: true, feed: func(v *verify.Verifier) error {
		return errors.Join(feedRows(ctx, from, v), from.Close())
	}}, nil
}

func feedFiles(v *verify.Verifier, files []source, stderr io.Writer) (unread error) {
	bar := newProgress(stderr, files)
	for _, file := range files {
		unread = errors.Join(unread, readLines(v, file.path, bar))
	}
	bar.done()
	return unread
}

// read judges the lines. unread is what could not be read of them.
func (l *lines) read(options verify.Options) (report verify.Report, unread, err error) {
	v, err := verify.New(options)
	if err != nil {
		return verify.Report{}, nil, err
	}
	unread = errors.Join(l.unread, l.feed(v))
	report, err = v.Finish()
	return report, unread, err
}

// remembered says where a finding may come from that rests on what earlier runs
// saw: the user has not named it, and may have begun a new log on purpose.
func (r *request) remembered(report *verify.Report, known *known, options *verify.Options) string {
	for _, f := range report.Findings {
		name, err := chain.ParseOrigin(f.Origin)
		if err != nil {
			continue
		}
		_, floor := options.Floors[name.Log()]
		switch {
		case f.Kind == verify.BadSignature && len(r.keys) == 0 && len(known.pins[name.Instance]) > 0:
			return fmt.Sprintf("without --key, only the key that an earlier run saw for instance %q is trusted, remembered in %s;"+
				" if the instance has a new key, name it with --key", name.Instance, known.path(instanceName(name.Instance)))
		case (f.Kind == verify.Missing || f.Kind == verify.RolledBack) && floor:
			return fmt.Sprintf("what earlier runs saw of log %q is remembered in %s; if records were deleted on purpose, delete that file",
				name.Log(), known.path(logName(name.Log())))
		}
	}
	return ""
}

// exitCode is that of the report. What a file that cannot be read would have
// held looks missing, which proves nothing.
func exitCode(report *verify.Report, unread bool) int {
	if !unread {
		return report.ExitCode()
	}
	for _, f := range report.Findings {
		if f.Kind.Integrity() && f.Kind != verify.Missing && f.Kind != verify.RolledBack {
			return exitBroken
		}
	}
	return exitRead
}

func (r *request) options() (verify.Options, error) {
	var o verify.Options
	for _, path := range r.keys {
		key, err := readKey(path)
		if err != nil {
			return o, err
		}
		o.Keys = append(o.Keys, key)
	}
	for _, path := range r.checkpoints {
		signed, err := readSmall(path)
		if err != nil {
			return o, err
		}
		if _, err := chain.ParseCheckpoint(signed); err != nil {
			return o, fmt.Errorf("--checkpoint %s: %w", path, err)
		}
		o.Checkpoints = append(o.Checkpoints, signed)
	}
	return o, nil
}

// readKey reads a public Ed25519 key in PEM.
func readKey(path string) (ed25519.PublicKey, error) {
	text, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("--key %s: want a PEM block PUBLIC KEY, such as the file verifier.pub in the journal directory", path)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("--key %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("--key %s: the key is not Ed25519", path)
	}
	return key, nil
}

// readSmall reads a key or a checkpoint.
func readSmall(path string) ([]byte, error) { return readBounded(path, chain.MaxNote) }

func (r *request) print(stdout io.Writer, report *verify.Report) error {
	if !r.json {
		return printText(stdout, report)
	}
	return printJSON(stdout, report)
}
