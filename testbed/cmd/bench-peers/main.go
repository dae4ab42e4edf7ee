// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Command bench-peers measures the whole pipeline of this project beside the
// one that stock components make for the same purpose: OTLP in, redaction,
// file. Ours validates, limits, chains, signs and syncs journal and file as
// well; the peer's acknowledgement promises nothing.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/otelaudit/otelaudit/testbed"
)

func main() {
	seconds := flag.Int("seconds", 5, "how long each measurement is")
	rounds := flag.Int("rounds", 3, "measurements of each collector; the median counts")
	directory := flag.String("directory", "data", "where the collectors keep their data: on a disk, not in memory")
	clients := flag.Int("clients", 8, "connections")
	rate := flag.Int("rate", 0, "requests a second, 0: as fast as they are answered")
	batch := flag.Int("batch", 100, "records of a request")
	profile := flag.String("profile", "", "write a CPU profile of our pipeline under this load to this file, and compare nothing")
	before := flag.String("before", "", "compare with this earlier binary of otelcol-audit instead")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	load := testbed.OTLPLoad{Clients: *clients, Rate: *rate, Warm: time.Second, Duration: time.Duration(*seconds) * time.Second}
	var err error
	if load.Requests, err = testbed.NewRequests(1, *batch, false); err == nil {
		err = os.MkdirAll(*directory, 0o700)
	}
	switch {
	case err != nil:
	case *profile != "":
		err = testbed.Profile(ctx, *directory, load, *profile)
	default:
		err = compare(ctx, *directory, subjects(*before), load, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		os.Exit(1)
	}
}

// What the peer is to find: names as our default keys, and values as our
// detectors for cards, JWTs, AWS keys and GitHub tokens. One pattern for all
// names costs it a third of what one for each name does.
const (
	keys = `(?i)(passw(or)?d|passphrase|passcode|pwd|secret|token|credential|authorization|cookie|bearer|jwt|` +
		`(api|access|private|signing|encryption|master|shared|account|session)[-_. ]?key|` +
		`otp|csrf|xsrf|cvv|cvc|card[-_. ]?number|pin[-_. ]?code|security[-_. ]?code|connection[-_. ]?string)`
	card   = `\b(?:4[0-9]{3}|5[1-5][0-9]{2}|3[47][0-9]{2}|6(?:011|5[0-9]{2}))[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,4}\b`
	jwt    = `\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`
	aws    = `\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`
	github = `\bgh[pousr]_[A-Za-z0-9]{36,}\b`
)

// The peer as its README shows it, but for the list of allowed keys: what an
// event carries is not known beforehand.
const peer = `
processors:
  redaction:
    allow_all_keys: true
    redact_all_types: %t
    blocked_key_patterns: ['%s']
    blocked_values: ['%s', '%s', '%s', '%s']
    summary: info
exporters:
  file: {path: ./events.json}
service:
  extensions: [health_check]
  pipelines:
    logs: {receivers: [otlp], processors: [redaction], exporters: [file]}
`

func peerConfig(allTypes bool) string {
	return fmt.Sprintf(peer, allTypes, keys, card, jwt, aws, github)
}

func subjects(before string) []testbed.Subject {
	ours := testbed.Audit("otelaudit", "")
	if before != "" {
		return []testbed.Subject{ours, testbed.Audit("before", before)}
	}
	return []testbed.Subject{
		ours,
		testbed.Peer("redaction of texts + file", peerConfig(false), checkFile),
		testbed.Peer("redaction of all + file", peerConfig(true), checkFile),
	}
}

func compare(ctx context.Context, directory string, subjects []testbed.Subject, load testbed.OTLPLoad, rounds int) error {
	fmt.Printf("%d connections, %d B a record\n%28s %s\n", load.Clients, load.Requests.Size(), "", testbed.MeasurementHeader())
	medians, err := testbed.Compare(ctx, directory, subjects, load, rounds, os.Stderr)
	if err != nil {
		return err
	}
	for i, subject := range subjects {
		fmt.Printf("%28s %s\n", subject.Name, medians[i])
	}
	ours := medians[0]
	for i, theirs := range medians[1:] {
		fmt.Printf("%.2f x the rate of %s at %.2f x its CPU a record, p99 %.2f x\n", ours.Rate/theirs.Rate, subjects[i+1].Name, ours.CPU/theirs.CPU, float64(ours.P99)/float64(theirs.P99))
	}
	return nil
}

// checkFile looks for every acknowledged record, and for nothing more: what
// the peer promises.
func checkFile(c *testbed.Collector, outcome *testbed.OTLPOutcome) error {
	text, err := os.ReadFile(filepath.Join(c.Directory, "events.json"))
	if err != nil {
		return fmt.Errorf("read the peer's file: %w", err)
	}
	stored := map[string]bool{}
	for rest := text; ; {
		i := bytes.Index(rest, []byte(`"bench-`))
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		if end := bytes.IndexByte(rest, '"'); end > 0 {
			stored[strings.Clone(string(rest[:end]))] = true
		}
	}
	missing := 0
	for id := range outcome.IDs {
		if !stored[id] {
			missing++
		}
	}
	if missing > 0 {
		return errors.New(fmt.Sprint(missing, " acknowledged records are not in the peer's file"))
	}
	return nil
}
