// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/testbed"
)

// newSink returns an OTLP server that is up unless the test takes it down.
func newSink(t *testing.T) *testbed.OTLPSink {
	t.Helper()
	sink, err := testbed.NewOTLPSink(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sink.Close()) })
	return sink
}

// toSink is the configuration of a pipeline that ends in the sink alone.
func toSink(sink *testbed.OTLPSink) []string {
	return []string{
		sink.Config("sink"),
		"service::pipelines::logs/audit::exporters: [otlp/sink]",
	}
}

// The OTLP server behind a stock exporter is down before the first event and
// once more under load: intake goes on, and when the server is back everything
// arrives, in order, and is stored once.
func TestScenarioSinkDown(t *testing.T) {
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: toSink(sink)}
	c := start(t, settings)
	total := sendLoad(t, c, "before", 2000)
	require.Positive(t, metric(t, c, "otelcol_processor_audit_pending_records"), "the sink is down")
	require.NoError(t, sink.Up())
	drained(t, c, time.Minute)

	done := make(chan *testbed.Outcome, 1)
	go func() {
		done <- testbed.Load{Clients: 8, Events: 8000, MaxBatch: 20, Seed: 2, Name: "during"}.Run(t.Context(), c.HTTP)
	}()
	sink.Down()
	eventually(t, 30*time.Second, func() bool { return metric(t, c, "otelcol_processor_audit_pending_records") > 1000 }, "a backlog grows")
	require.NoError(t, sink.Up())
	during := <-done
	require.Empty(t, during.Surprises)
	total.Add(during)
	drained(t, c, time.Minute)
	stop(t, c)

	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	requireKept(t, total, stored)
	calls, repeated, faults := sink.Seen()
	require.Empty(t, faults)
	measured(t, "events", len(stored.Records), "calls", calls, "delivered again", repeated)
}

// sendLoad sends n events and demands an answer that is no surprise to each.
func sendLoad(t *testing.T, c *testbed.Collector, name string, n int) *testbed.Outcome {
	t.Helper()
	outcome := testbed.Load{Clients: 8, Events: n, MaxBatch: 20, Seed: 1, Name: name}.Run(t.Context(), c.HTTP)
	require.Empty(t, outcome.Surprises)
	require.Empty(t, outcome.Unknown)
	return outcome
}

// covered waits until a delivered checkpoint covers all that one life of the
// collector acknowledged.
func covered(t *testing.T, settings testbed.Settings, outcome *testbed.Outcome) {
	t.Helper()
	var origin string
	var size uint64
	for _, result := range outcome.Acknowledged {
		index, err := strconv.ParseUint(result.Index, 10, 64)
		require.NoError(t, err)
		origin, size = result.Origin, max(size, index+1)
	}
	require.NotZero(t, size)
	eventually(t, time.Minute, func() bool {
		text, err := os.ReadFile(settings.Checkpoint())
		if err != nil {
			return false // the first one is still to come
		}
		c, err := chain.ParseCheckpoint(text)
		require.NoError(t, err)
		return c.Origin == origin && c.Size >= size
	}, "a checkpoint covers what was sent")
}

// The file sink's directory is moved away, and a file stands in its place:
// nothing is written anywhere else, intake goes on, and after the directory is
// back everything is stored once.
func TestScenarioSinkDirectoryGone(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir(), Extra: []string{"exporters::audit::file::max_file_bytes: 65536"}}
	c := start(t, settings)
	total := sendLoad(t, c, "before", 500)
	drained(t, c, time.Minute)
	away := settings.Store() + ".away"
	require.NoError(t, os.Rename(settings.Store(), away))
	require.NoError(t, os.WriteFile(settings.Store(), []byte("not a directory"), 0o600))
	// A file that is open stays writable wherever it is: the sink is down from
	// its next file on.
	for round := 0; metric(t, c, "otelcol_processor_audit_delivery_failures") == 0; round++ {
		require.Less(t, round, 100, "the sink never notices")
		total.Add(sendLoad(t, c, "rotate-"+roundName(round), 500))
		<-time.After(100 * time.Millisecond) // files end with a checkpoint, at most one a second
	}
	total.Add(sendLoad(t, c, "down", 1000))
	require.Positive(t, metric(t, c, "otelcol_processor_audit_pending_records"))
	require.NoError(t, os.Remove(settings.Store()))
	require.NoError(t, os.Rename(away, settings.Store()))
	drained(t, c, time.Minute)
	stop(t, c)

	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	requireKept(t, total, stored)
	measured(t, "events", len(stored.Records))
}

// The sink takes 200 ms for each call: clients do not feel it, and the backlog
// drains.
func TestScenarioSinkSlow(t *testing.T) {
	sink := newSink(t)
	sink.Delay = 200 * time.Millisecond
	require.NoError(t, sink.Up())
	settings := testbed.Settings{Directory: t.TempDir(), Extra: toSink(sink)}
	c := start(t, settings)
	outcome := testbed.Load{Clients: 16, Events: 5000, MaxBatch: 1, Seed: 1, Name: "slow"}.Run(t.Context(), c.HTTP)
	require.Empty(t, outcome.Surprises)
	require.Empty(t, outcome.Unknown)
	assert.Less(t, outcome.Quantile(.5), sink.Delay/2, "half of all clients wait for the sink")
	drained(t, c, time.Minute)
	stop(t, c)

	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	requireKept(t, outcome, stored)
	calls, _, faults := sink.Seen()
	require.Empty(t, faults)
	measured(t, "events", len(stored.Records), "p50", outcome.Quantile(.5), "p99", outcome.Quantile(.99), "calls to the sink", calls)
}

// Two exporters in one pipeline, and one of them is down: nothing is lost, the
// healthy one stores nothing twice although it is sent everything again, and
// after the outage both have all.
func TestScenarioTwoExportersOneDown(t *testing.T) {
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: []string{
		sink.Config("second"), "service::pipelines::logs/audit::exporters: [audit, otlp/second]",
	}}
	c := start(t, settings)
	total := sendLoad(t, c, "down", 3000)
	eventually(t, 30*time.Second, func() bool { return metric(t, c, "otelcol_exporter_audit_repeated_lines") > 0 }, "the healthy sink is sent the same again")
	require.NoError(t, sink.Up())
	drained(t, c, time.Minute)
	total.Add(sendLoad(t, c, "up", 1000))
	stop(t, c)

	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	requireKept(t, total, stored)
	requireSoundStore(t, settings, sink.Store())
	second := readStore(t, sink.Store())
	requireKept(t, total, second)
	assert.Equal(t, stored.Records, second.Records, "both sinks hold the same")
	_, repeated, faults := sink.Seen()
	require.Empty(t, faults)
	measured(t, "events", len(stored.Records), "delivered again to the second", repeated)
}

// A small quota and a sink that is down: clients get 503 with Retry-After, and
// intake resumes by itself once the sink is back.
func TestScenarioQuota(t *testing.T) {
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: append(toSink(sink), "processors::audit::journal::max_bytes: 1048576")}
	c := start(t, settings)
	done := make(chan *testbed.Outcome, 1)
	go func() {
		done <- testbed.Load{Clients: 8, Events: 4000, MaxBatch: 20, Seed: 1, Name: "quota", Patient: true}.Run(t.Context(), c.HTTP)
	}()
	eventually(t, 30*time.Second, func() bool { return metric(t, c, "otelcol_processor_audit_refused_records") > 0 }, "the journal is full")
	require.LessOrEqual(t, metric(t, c, "otelcol_processor_audit_pending_bytes"), int64(1<<20))
	require.NoError(t, sink.Up())
	outcome := <-done
	require.Empty(t, outcome.Surprises)
	require.Empty(t, outcome.Unknown)
	require.Positive(t, outcome.Busy)
	require.Zero(t, outcome.Unadvised, "answers 503 without Retry-After")
	drained(t, c, time.Minute)
	stop(t, c)

	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	requireKept(t, outcome, stored)
	measured(t, "events", len(stored.Records), "answers 503", outcome.Busy)
}

// With `ack: delivered` a 200 means that the sink has it, and a 202 that the
// journal has it: the sink's outage turns one into the other, and the same
// events sent again after it get 200 and the first coordinates.
func TestScenarioAckDelivered(t *testing.T) {
	sink := newSink(t)
	require.NoError(t, sink.Up())
	settings := testbed.Settings{Directory: t.TempDir(), Extra: append(toSink(sink), "processors::audit: {ack: delivered, ack_timeout: 500ms}")}
	c := start(t, settings)
	total := testbed.NewOutcome()
	post := func(id string) testbed.Answer {
		client := testbed.NewClient(c.HTTP)
		defer client.Close()
		answer, err := client.Send(t.Context(), "application/json", fmt.Appendf(nil, eventForm, id, "acme", "2026-01-01T00:00:00Z"))
		require.NoError(t, err)
		require.Len(t, answer.Results, 1, "%s", answer.Body)
		total.Acknowledged[id] = answer.Results[0]
		return answer
	}
	for i := range 20 {
		id := fmt.Sprintf("delivered-%d", i)
		require.Equal(t, http.StatusOK, post(id).Code)
		require.Equal(t, 1, readStore(t, sink.Store()).Records[id], "200, but not in the sink")
	}
	sink.Down()
	pending := post("pending")
	require.Equal(t, http.StatusAccepted, pending.Code, "%s", pending.Body)
	require.NoError(t, c.Kill())
	c = start(t, settings)
	require.Equal(t, http.StatusAccepted, post("pending").Code)
	require.NoError(t, sink.Up())
	var again testbed.Answer
	eventually(t, time.Minute, func() bool { again = post("pending"); return again.Code == http.StatusOK }, "the sink is back")
	assert.Equal(t, []string{pending.Results[0].Origin, pending.Results[0].Index, pending.Results[0].Hash},
		[]string{again.Results[0].Origin, again.Results[0].Index, again.Results[0].Hash})
	stop(t, c)

	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	requireKept(t, total, stored)
	measured(t, "events", len(stored.Records))
}
