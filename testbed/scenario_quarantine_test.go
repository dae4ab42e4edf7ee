// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// The file sink refuses lines that are too long, through a kill and a restart:
// every other event is stored, a stub stands for each, verify reports them as
// quarantined, and operators have one replayed and one dropped.
func TestScenarioSinkRejectsOne(t *testing.T) {
	const heartbeat = "processors::audit::chain::heartbeat: 1s" // when requests of operators are looked at, at the latest
	settings := testbed.Settings{Directory: t.TempDir(), Extra: []string{heartbeat, "exporters::audit::file::max_line_bytes: 4096"}}
	c := start(t, settings)
	total := testbed.NewOutcome()
	acknowledge := func(results []testbed.Result) {
		for _, result := range results {
			total.Acknowledged[result.RecordID] = result
		}
	}
	acknowledge(send(t, c, "before", 30))
	long := []testbed.Result{sendLong(t, c, "long-0"), sendLong(t, c, "long-1")}
	acknowledge(send(t, c, "between", 30))
	require.NoError(t, c.Kill())
	c = start(t, settings)
	long = append(long, sendLong(t, c, "long-2"))
	acknowledge(send(t, c, "after", 30))
	requireReconciled(t, c)
	stop(t, c)

	quarantine := settings.Store() + ".quarantine"
	requireKept(t, total, requireQuarantined(t, settings, settings.Store(), long))
	var coordinates []string
	for _, result := range long {
		coordinates = append(coordinates, result.Origin+"/"+result.Index)
	}
	slices.Sort(coordinates)
	listed := inQuarantine(t, quarantine)
	slices.Sort(listed)
	require.Equal(t, coordinates, listed)

	settings.Extra = []string{heartbeat}
	c = start(t, settings)
	first, second := long[0].Origin+"/"+long[0].Index, long[1].Origin+"/"+long[1].Index
	tool(t, "quarantine", "replay", quarantine, first)
	tool(t, "quarantine", "drop", "--reason", "given up by a test", quarantine, second)
	eventually(t, 30*time.Second, func() bool { return len(inQuarantine(t, quarantine)) == len(long)-2 }, "the requests are done")
	stop(t, c)
	acknowledge(long[:1])
	stored := requireQuarantined(t, settings, settings.Store(), long[1:])
	requireKept(t, total, stored)
	measured(t, "events", len(stored.Records), "refused for good", len(long), "replayed", 1, "dropped", 1)
}

// A stock exporter's sink refuses exactly one record for good, amid others of
// the same call: every other one arrives, once and in order, and that one waits
// in the processor's quarantine until it is replayed.
func TestScenarioStockSinkRejectsOne(t *testing.T) {
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: append(toSink(sink), "processors::audit::chain::heartbeat: 1s")}
	c := start(t, settings)
	total := testbed.NewOutcome()
	for i := range 5 { // while the sink is down: they arrive in one call
		for _, result := range send(t, c, fmt.Sprintf("batch-%d", i), 40) {
			total.Acknowledged[result.RecordID] = result
		}
	}
	poison := total.Acknowledged["batch-2-17"]
	delete(total.Acknowledged, poison.RecordID)
	sink.Poison(poison.RecordID)
	require.NoError(t, sink.Up())
	requireReconciled(t, c)
	assert.EqualValues(t, 1, metric(t, c, "otelcol_processor_audit_quarantined_records"))
	for _, result := range send(t, c, "later", 40) {
		total.Acknowledged[result.RecordID] = result
	}
	require.NoError(t, c.Kill())
	c = start(t, settings)
	drained(t, c, time.Minute)
	quarantine := filepath.Join(settings.Journal(), "quarantine")
	require.Equal(t, []string{poison.Origin + "/" + poison.Index}, inQuarantine(t, quarantine))
	stored := readStore(t, sink.Store())
	requireKept(t, total, stored)
	assert.Equal(t, map[string]int{poison.Origin + "/" + poison.Index: 1}, stored.Quarantined)

	sink.Poison("")
	tool(t, "quarantine", "replay", quarantine, "--all")
	eventually(t, 30*time.Second, func() bool { return len(inQuarantine(t, quarantine)) == 0 }, "the request is done")
	stop(t, c)
	total.Acknowledged[poison.RecordID] = poison
	stored = readStore(t, sink.Store())
	requireKept(t, total, stored)
	report := verify(t, "--key", settings.Key(), sink.Store())
	assert.Zero(t, report.Exit, "%+v", report)
	assert.Empty(t, slices.DeleteFunc(report.Kinds(), func(kind string) bool { return kind == "reordered" || kind == "quarantined" }),
		"a replayed record comes late, and nothing else is to be said")
	calls, repeated, faults := sink.Seen()
	require.Empty(t, faults)
	measured(t, "events", len(stored.Records), "refused for good", 1, "calls", calls, "delivered again", repeated)
}

// sendLong sends an event whose stored line is longer than 4096 bytes.
func sendLong(t *testing.T, c *testbed.Collector, id string) testbed.Result {
	t.Helper()
	client := testbed.NewClient(c.HTTP)
	defer client.Close()
	body := strings.Replace(fmt.Sprintf(eventForm, id, "acme", "2026-01-01T00:00:00Z"), `"note":"`, `"note":"`+strings.Repeat("long ", 1000), 1)
	answer, err := client.Send(t.Context(), "application/json", []byte(body))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Code, "%s", answer.Body)
	return answer.Results[0]
}

// requireQuarantined demands that the store is sound and complete, that a stub
// stands for each of the results and no other record, and that this is all
// that verify has to report.
func requireQuarantined(t *testing.T, settings testbed.Settings, store string, want []testbed.Result) testbed.Stored {
	t.Helper()
	report := verify(t, "--key", settings.Key(), store)
	require.Zero(t, report.Exit, "%+v", report)
	require.Equal(t, []string{"quarantined"}, report.Kinds(), "%+v", report.Findings)
	stored := readStore(t, store)
	for _, result := range want {
		assert.Equal(t, 1, stored.Stubs[result.Hash], "stubs for %s", result.RecordID)
		assert.Positive(t, stored.Quarantined[result.Origin+"/"+result.Index], "sealed records about %s", result.RecordID)
		assert.Zero(t, stored.Records[result.RecordID])
	}
	return stored
}

// inQuarantine returns the coordinates of the records in a quarantine.
func inQuarantine(t *testing.T, directory string) []string {
	t.Helper()
	var list struct{ Records []struct{ Coordinate string } }
	require.NoError(t, json.Unmarshal(tool(t, "quarantine", "ls", "--json", directory), &list))
	coordinates := []string{}
	for _, record := range list.Records {
		coordinates = append(coordinates, record.Coordinate)
	}
	return coordinates
}

// tool runs otelaudit and demands exit code 0.
func tool(t *testing.T, args ...string) []byte {
	t.Helper()
	stdout, stderr, exit, err := testbed.Tool(t.TempDir(), args...)
	require.NoError(t, err)
	require.Zero(t, exit, "otelaudit %v: %s", args, stderr)
	return stdout
}
