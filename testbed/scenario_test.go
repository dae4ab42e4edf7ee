// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/testbed"
)

// Each scenario breaks one thing around the built binary. The oracle is always
// the same: the verifier finds nothing, and the sets of ids agree.

// requireKept demands that every acknowledged event is stored once, under the
// hash that its sender was told, that no event is stored twice, and that
// nothing is stored which nobody sent.
func requireKept(t testing.TB, outcome *testbed.Outcome, stored testbed.Stored) {
	t.Helper()
	requireStoredOnce(t, outcome, stored)
	difference := outcome.Compare(stored)
	require.LessOrEqual(t, len(difference.Foreign), outcome.UnknownAnonymous, "stored, but nobody sent it")
}

// requireStoredOnce demands that each acknowledged event is stored once, under
// the hash that its sender was told, and no event twice.
func requireStoredOnce(t testing.TB, outcome *testbed.Outcome, stored testbed.Stored) {
	t.Helper()
	difference := outcome.Compare(stored)
	requireNone(t, difference.Lost, "acknowledged, but not stored")
	requireNone(t, difference.Changed, "stored under another hash than was told")
	requireNone(t, difference.Doubled, "stored more than once")
}

// The oracle must be able to find each of what it looks for.
func TestCompareFinds(t *testing.T) {
	outcome := testbed.NewOutcome()
	for _, id := range []string{"kept", "lost", "changed", "doubled"} {
		outcome.Acknowledged[id] = testbed.Result{RecordID: id, Hash: "of " + id}
	}
	outcome.Acknowledged["over OTLP"] = testbed.Result{RecordID: "over OTLP"}
	outcome.Unknown["unknown"] = struct{}{}
	stored := testbed.Stored{
		Records: map[string]int{"kept": 1, "changed": 1, "doubled": 2, "over OTLP": 1, "unknown": 1, "foreign": 1},
		Hashes:  map[string]string{"kept": "of kept", "changed": "another", "doubled": "of doubled", "over OTLP": "any"},
	}
	assert.Equal(t, testbed.Difference{
		Lost: []string{"lost"}, Changed: []string{"changed"}, Doubled: []string{"doubled"}, Foreign: []string{"foreign"},
	}, outcome.Compare(stored))
}

// A sink that takes whatever it gets would prove nothing.
func TestOTLPSinkRefusesWhatIsNotSealed(t *testing.T) {
	sink := newSink(t)
	records := testbed.OTLPRecords("not sealed", "1")
	_, err := sink.Export(t.Context(), plogotlp.NewExportRequestFromLogs(records))
	require.Equal(t, codes.Unavailable, status.Code(err))
	_, _, faults := sink.Seen()
	require.Len(t, faults, 1)
	require.Empty(t, readStore(t, sink.Store()).Records)
}

// requireNone fails with the first few of many ids.
func requireNone(t testing.TB, ids []string, what string) {
	t.Helper()
	require.Empty(t, ids[:min(len(ids), 5)], "%d events: %s", len(ids), what)
}

// requireSoundStore demands exit code 0 and no finding of a store that is not
// the file sink's.
func requireSoundStore(t testing.TB, s testbed.Settings, store string) {
	t.Helper()
	report := verify(t, "--key", s.Key(), store)
	require.Empty(t, report.Findings)
	require.Zero(t, report.Exit, "%+v", report)
}

// eventually waits until the condition holds.
func eventually(t testing.TB, within time.Duration, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, within, 20*time.Millisecond, what)
}

// metric returns a metric of the collector, 0 as long as it has none.
func metric(t testing.TB, c *testbed.Collector, name string, labels ...string) int64 {
	t.Helper()
	value, _, err := c.Metric(t.Context(), name, labels...)
	require.NoError(t, err)
	return int64(value)
}

// drained waits until nothing is left to deliver.
func drained(t testing.TB, c *testbed.Collector, within time.Duration) {
	t.Helper()
	eventually(t, within, func() bool {
		value, found, err := c.Metric(t.Context(), "otelcol_processor_audit_pending_records")
		return err == nil && found && value == 0
	}, "everything is delivered")
}

// measured tells what a scenario has measured: name, value, name, value …
// It is called last: a scenario that lost, doubled or found anything has ended
// before, and has no line.
func measured(t *testing.T, pairs ...any) {
	t.Helper()
	if t.Failed() {
		return
	}
	var parts []string
	for pair := range slices.Chunk(pairs, 2) {
		parts = append(parts, fmt.Sprintf("%v %v", pair[0], pair[1]))
	}
	line := fmt.Sprintf("| `testbed.%s` | %s |\n", t.Name(), strings.Join(parts, ", "))
	t.Log(line)
	if *results == "" {
		return
	}
	f, err := os.OpenFile(*results, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	if info.Size() == 0 {
		line = "Each of these lost nothing and stored nothing twice, and `verify` found nothing but what its line says.\n\n| test | measured |\n|---|---|\n" + line
	}
	_, err = f.WriteString(line)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
