// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/pgtest"
	"github.com/otelaudit/otelaudit/testbed"
)

var (
	events       = flag.Int("events", 100_000, "events of TestMixedLoad")
	rounds       = flag.Int("rounds", 12, "kills of TestScenarioKillDuringLoad, and a quarter as many in the scenarios beside it")
	shakenEvents = flag.Int("shaken", 2_500, "events, at least, of the scenarios whose servers are stopped, killed and cut off all the time")
	backlog      = flag.Int64("backlog", 64<<20, "bytes that wait in TestScenarioLongOutage")
	results      = flag.String("results", "", "file that gets a line of Markdown for each scenario: what was measured")
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "curl" {
		os.Exit(curl(os.Args[1:]))
	}
	pgtest.Main(m)
}

// curl stands in for the real one in `curl -sS URL -d DATA`, and in `curl -sS
// URL -d @- -H 'Content-Type: TYPE'`.
func curl(args []string) int {
	if len(args) != 4 && len(args) != 6 || args[0] != "-sS" || args[2] != "-d" {
		fmt.Fprintf(os.Stderr, "curl: this stand-in knows `-sS URL -d DATA` and `-sS URL -d @- -H 'Content-Type: TYPE'` only, found %q\n", args)
		return 2
	}
	contentType, body := "application/x-www-form-urlencoded", io.Reader(strings.NewReader(args[3]))
	if len(args) == 6 {
		contentType, body = strings.TrimPrefix(args[5], "Content-Type: "), os.Stdin
	}
	response, err := http.Post(args[1], contentType, body)
	if err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		return 7
	}
	_, err = io.Copy(os.Stdout, response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		return 56
	}
	return 0
}

// start starts a collector that does not outlive the test.
func start(t testing.TB, s testbed.Settings) *testbed.Collector {
	t.Helper()
	c, err := testbed.Start(t.Context(), s)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Kill()) })
	return c
}

// stop ends a collector as an operator does. All it had must be delivered.
func stop(t testing.TB, c *testbed.Collector) {
	t.Helper()
	err := c.Stop()
	if errors.Is(err, testbed.ErrTooEarly) {
		// A kill, so far: the next life delivers what is left, and ends in order.
		c = start(t, c.Settings)
		err = c.Stop()
	}
	require.NoError(t, err, "%s", c.Log())
}

// verify checks a store with a memory of its own: nothing is known before.
func verify(t testing.TB, args ...string) testbed.Report {
	t.Helper()
	report, err := testbed.Verify(t.TempDir(), args...)
	require.NoError(t, err)
	return report
}

// requireSound demands exit code 0 and no finding at all.
func requireSound(t testing.TB, s testbed.Settings) testbed.Report {
	t.Helper()
	report := verify(t, "--key", s.Key(), s.Store())
	require.Empty(t, report.Findings)
	require.Zero(t, report.Exit, "%+v", report)
	return report
}

func readStore(t testing.TB, directory string) testbed.Stored {
	t.Helper()
	stored, err := testbed.ReadStore(directory)
	require.NoError(t, err)
	return stored
}

// copyTree copies a directory of regular files.
func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(from))
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	return to
}
