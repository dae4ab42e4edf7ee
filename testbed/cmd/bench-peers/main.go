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
	clients := flag.Int("clients", 8, "clients")
	connections := flag.Int("connections", 0, "which the clients share, 0: each has one of its own")
	rate := flag.Int("rate", 0, "requests a second, 0: as fast as they are answered")
	batch := flag.Int("batch", 100, "records of a request")
	profile := flag.String("profile", "", "write a CPU profile of our pipeline under this load to this file, and compare nothing")
	before := flag.String("before", "", "compare with this earlier binary of otelcol-audit instead")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	load := testbed.OTLPLoad{Clients: *clients, Connections: *connections, Rate: *rate, Warm: time.Second, Duration: time.Duration(*seconds) * time.Second}
	var err error
	if load.Requests, err = testbed.NewRequests(1, *batch, false); err == nil {
		err = os.MkdirAll(*directory, 0o700)
	}
	switch {
	case err != nil:
	case *profile != "":
		err = testbed.Profile(ctx, *directory, load, *profile)
	default:
		err = compare(ctx, *directory, *before, load, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		os.Exit(1)
	}
}

// What the peers are to find beside names: cards, JWTs, AWS keys and GitHub
// tokens.
var values = []string{
	`\b(?:4[0-9]{3}|5[1-5][0-9]{2}|3[47][0-9]{2}|6(?:011|5[0-9]{2}))[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,4}\b`,
	`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`,
	`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`,
	`\bgh[pousr]_[A-Za-z0-9]{36,}\b`,
}

// The names, as our default keys have them: words, and words that make a name
// sensitive together.
var words = []string{
	"password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "credential", "authorization",
	"cookie", "bearer", "jwt", "otp", "csrf", "xsrf", "cvv", "cvc", "api key", "access key", "private key",
	"signing key", "encryption key", "master key", "account key", "card number", "security code",
}

// readme writes a pattern for each name in the form of the peer's README.
func readme() (patterns []string) {
	for _, word := range words {
		patterns = append(patterns, `(?i).*`+strings.ReplaceAll(word, " ", "[-_. ]?")+`.*`)
	}
	return patterns
}

// joined writes one pattern for all names.
func joined() []string {
	return []string{`(?i)(` + strings.ReplaceAll(strings.Join(words, "|"), " ", "[-_. ]?") + `)`}
}

// literal writes every name in the spellings that are usual, as texts that
// hold no operator: the fastest patterns that the peer can have, which miss
// other spellings.
func literal() (patterns []string) {
	for _, word := range words {
		first, second, two := strings.Cut(word, " ")
		spellings := []string{first, title(first), strings.ToUpper(first)}
		if two {
			spellings = []string{
				first + "_" + second, first + "-" + second, first + second, first + title(second),
				title(first) + title(second), title(first) + "-" + title(second), strings.ToUpper(first + "_" + second),
			}
		}
		patterns = append(patterns, spellings...)
	}
	return patterns
}

func title(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// All keys are allowed: what an event carries is not known beforehand.
const peerConfig = `
processors:
  redaction:
    allow_all_keys: true
    redact_all_types: %t
    blocked_key_patterns: %s
    blocked_values: %s
    summary: info
exporters:
  file: {path: ./events.json}
service:
  extensions: [health_check]
  pipelines:
    logs: {receivers: [otlp], processors: [redaction], exporters: [file]}
`

// peer returns the stock pipeline. With allTypes it also looks at what is not
// a text, so into metadata and diff. leaks is set to how many secrets of the
// corpus its file holds.
func peer(name string, patterns []string, allTypes bool, leaks map[string]int) testbed.Subject {
	config := fmt.Sprintf(peerConfig, allTypes, list(patterns), list(values))
	return testbed.Peer(name, config, func(c *testbed.Collector, outcome *testbed.OTLPOutcome) error {
		file := filepath.Join(c.Directory, "events.json")
		found, err := testbed.FindLeaks(file, testbed.Needles())
		if err != nil {
			return err
		}
		names := map[string]bool{}
		for _, leak := range found {
			names[leak.Needle] = true
		}
		leaks[name] = len(names)
		return checkFile(file, outcome)
	})
}

func list(patterns []string) string { return "['" + strings.Join(patterns, "', '") + "']" }

// subjects returns what is measured, ours first.
func subjects(before string, leaks map[string]int) []testbed.Subject {
	ours := testbed.Audit("otelaudit", "")
	if before != "" {
		return []testbed.Subject{ours, testbed.Audit("before", before)}
	}
	return []testbed.Subject{
		ours,
		peer("peer, as its README", readme(), true, leaks),
		peer("peer, one pattern, texts", joined(), false, leaks),
		peer("peer, literals, texts", literal(), false, leaks),
	}
}

func compare(ctx context.Context, directory, before string, load testbed.OTLPLoad, rounds int) error {
	leaks := map[string]int{}
	subjects := subjects(before, leaks)
	fmt.Printf("%d clients, %d B a record\n%28s %s\n", load.Clients, load.Requests.Size(), "", testbed.MeasurementHeader())
	medians, err := testbed.Compare(ctx, directory, subjects, load, rounds, os.Stderr)
	if err != nil {
		return err
	}
	for i, subject := range subjects {
		fmt.Printf("%28s %s\n", subject.Name, medians[i])
	}
	ours := medians[0]
	for i, theirs := range medians[1:] {
		name := subjects[i+1].Name
		fmt.Printf("%.2f x the rate of %s at %.2f x its CPU a record, p99 %.2f x", ours.Rate/theirs.Rate, name, ours.CPU/theirs.CPU, float64(ours.P99)/float64(theirs.P99))
		if n, ok := leaks[name]; ok {
			fmt.Printf("; %d of %d secrets reach its file", n, len(testbed.Needles()))
		}
		fmt.Println()
	}
	return nil
}

// checkFile looks for every acknowledged record, and for nothing more: what
// the peer promises.
func checkFile(file string, outcome *testbed.OTLPOutcome) error {
	text, err := os.ReadFile(file)
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
			stored[string(rest[:end])] = true
		}
	}
	missing := 0
	for id := range outcome.IDs {
		if !stored[id] {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d acknowledged records are not in the peer's file", missing)
	}
	return nil
}
