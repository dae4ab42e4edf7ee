// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/pgtest"
	"github.com/otelaudit/otelaudit/testbed"
)

// Several sinks in one pipeline, one of them down. The names begin with the
// defects of the original logger that they show not to be there.

// second is a second audit exporter, with a file sink, beside the base
// configuration's.
type second struct{ directory string }

func newSecond(t *testing.T) second {
	return second{directory: filepath.Join(t.TempDir(), "second")}
}

// beside is the configuration of a pipeline with both exporters, the second one
// with more settings of its own.
func (s second) beside(more string) []string {
	return []string{
		fmt.Sprintf("exporters: {audit/second: {file: {directory: %q}, %s}}", s.directory, more),
		"service::pipelines::logs/audit::exporters: [audit, audit/second]",
	}
}

// down lets the sink fail from its first record on, until up is called.
func (s second) down(t *testing.T) (up func()) {
	t.Helper()
	obstacle := filepath.Join(s.directory, "testbed") // where the log's folder belongs
	require.NoError(t, os.MkdirAll(s.directory, 0o700))
	require.NoError(t, os.WriteFile(obstacle, nil, 0o600))
	return func() { require.NoError(t, os.Remove(obstacle)) }
}

// quick are settings of an optional sink that is tried again soon.
const quick = "retry_on_failure: {initial_interval: 20ms, max_interval: 100ms}, circuit_breaker: {cooldown: 200ms}, "

const (
	labelFirst  = `exporter="audit"`
	labelSecond = `exporter="audit/second"`
	failures    = "otelcol_exporter_audit_write_failures"
	storedCount = "otelcol_exporter_audit_stored_records"
	missedCount = "otelcol_exporter_audit_missed_records"
)

// requireCounted demands that the collector has counted for an exporter what
// is in its store, no more and no less.
func requireCounted(t *testing.T, c *testbed.Collector, label string, stored func() testbed.Stored) {
	t.Helper()
	eventually(t, 30*time.Second, func() bool {
		now := stored()
		return metric(t, c, storedCount, label) == int64(len(now.Records)+now.Controls)
	}, "the counter of "+label+" tells what is stored")
}

// W16: with the original's best effort a sink that failed was never tried
// again, and the counters said that it had everything. Here it is tried until
// it takes what waits, and until then its counter says 0.
func TestScenarioW16FailingSinkIsRetriedAndCountedTruly(t *testing.T) {
	copied := newSecond(t)
	up := copied.down(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: copied.beside(quick + "required: false")}
	c := start(t, settings)
	total := sendLoad(t, c, "down", 1000)
	drained(t, c, time.Minute) // of the required sink
	eventually(t, time.Minute, func() bool { return metric(t, c, failures, labelSecond) > 1 }, "it is tried again")
	require.Zero(t, metric(t, c, storedCount, labelSecond), "nothing is stored there")
	requireCounted(t, c, labelFirst, func() testbed.Stored { return readStore(t, settings.Store()) })

	up()
	total.Add(sendLoad(t, c, "up", 500))
	read := func() testbed.Stored { return readStore(t, copied.directory) }
	eventually(t, time.Minute, func() bool { return len(read().Records) == len(total.Acknowledged) }, "everything arrives")
	requireCounted(t, c, labelSecond, read)
	require.Zero(t, metric(t, c, missedCount))
	tries := metric(t, c, failures, labelSecond)
	stop(t, c)

	requireKept(t, total, readStore(t, settings.Store()))
	requireKept(t, total, read())
	requireSound(t, settings)
	requireSoundStore(t, settings, copied.directory)
	measured(t, "events", len(read().Records), "failed writes", tries, "missed", 0)
}

// W17: when all had to succeed, the original sent the healthy sink the same
// event once for each attempt at the other. Here each stores it once, through
// an outage of the other and after it.
func TestScenarioW17HealthySinkStoresOnce(t *testing.T) {
	other := newSecond(t)
	up := other.down(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: other.beside("circuit_breaker: {cooldown: 200ms}")}
	c := start(t, settings)
	total := sendLoad(t, c, "down", 2000)
	eventually(t, time.Minute, func() bool { return metric(t, c, failures, labelSecond) > 4 }, "the other is down for many attempts")
	repeated := metric(t, c, "otelcol_exporter_audit_repeated_lines", labelFirst)
	require.Positive(t, repeated, "the healthy sink was sent the same again")
	require.Zero(t, metric(t, c, storedCount, labelSecond))
	up()
	drained(t, c, time.Minute)
	total.Add(sendLoad(t, c, "up", 1000))
	stop(t, c)

	requireSound(t, settings)
	requireSoundStore(t, settings, other.directory)
	healthy, late := readStore(t, settings.Store()), readStore(t, other.directory)
	requireKept(t, total, healthy)
	requireKept(t, total, late)
	assert.Equal(t, healthy.Records, late.Records, "both hold the same")
	measured(t, "events", len(healthy.Records), "lines that the healthy sink was sent again and skipped", repeated)
}

// The same with three kinds of sinks, and the database is the one that is down:
// the files skip what comes again, and the HTTP endpoint, which cannot be asked
// what it has, is not even sent a line twice.
func TestScenarioW17DatabaseDown(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.Database(t)
	endpoint := newHTTPSink(t)
	require.NoError(t, endpoint.Up())
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = append(append(toPostgres(settings.Directory, dsn), toHTTP(filepath.Join(settings.Directory, "http"), endpoint, "ndjson")...),
		"exporters::audit/http: {timeout: 1m, http: {timeout: 1m}}", // an answer that was slow would be a line that is sent twice
		"service::pipelines::logs/audit::exporters: [audit, audit/http, audit/postgres]")
	c := start(t, settings)
	total := sendLoad(t, c, "before", 500)
	drained(t, c, time.Minute)
	require.NoError(t, server.Stop(pgtest.Immediate))
	total.Add(sendLoad(t, c, "down", 1000))
	eventually(t, time.Minute, func() bool { return metric(t, c, failures, `exporter="audit/postgres"`) > 1 }, "the database is missed")
	require.Positive(t, metric(t, c, "otelcol_processor_audit_pending_records"), "a required sink is down")
	require.NoError(t, server.Start())
	drained(t, c, time.Minute)
	total.Add(sendLoad(t, c, "after", 500))
	stop(t, c)

	files, posted, rows := readStore(t, settings.Store()), readStore(t, endpoint.Store()), readPostgres(t, dsn)
	for _, stored := range []testbed.Stored{files, posted, rows} {
		requireKept(t, total, stored)
		assert.Equal(t, files.Records, stored.Records, "all hold the same")
		assert.Equal(t, files.Hashes, stored.Hashes)
		assert.Equal(t, []int{files.Controls, files.Checkpoints, files.Flagged}, []int{stored.Controls, stored.Checkpoints, stored.Flagged})
	}
	calls, repeated, _, faults := endpoint.Seen()
	require.Empty(t, faults)
	assert.Zero(t, repeated, "lines that were posted again")
	requireSound(t, settings)
	requireSoundStore(t, settings, endpoint.Store())
	requireSoundStore(t, settings, dsn)
	measured(t, "events", len(files.Records), "requests to the endpoint", calls, "lines that it got twice", repeated)
}

// W18: an open circuit used up the original's 8 attempts, 2 of them calls, and
// the event was lost. Here an outage of more calls than that loses nothing, and
// while the breaker is open there is one call each cool-down and no more.
func TestScenarioW18OpenBreakerBurnsNoAttempt(t *testing.T) {
	const threshold, cooldown, attempts = 3, 250 * time.Millisecond, 8
	other := newSecond(t)
	up := other.down(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: other.beside(fmt.Sprintf(
		"retry_on_failure: {enabled: true, initial_interval: 10ms, max_interval: 20ms, max_elapsed_time: 0}, circuit_breaker: {failure_threshold: %d, cooldown: %s}",
		threshold, cooldown))}
	c := start(t, settings)
	began := time.Now()
	total := sendLoad(t, c, "down", 1000)
	const state = "otelcol_exporter_audit_circuit_breaker_state"
	eventually(t, time.Minute, func() bool { return metric(t, c, state, labelSecond) == 2 }, "the breaker opens")
	require.Zero(t, metric(t, c, state, labelFirst), "a breaker is of one sink")
	eventually(t, time.Minute, func() bool { return metric(t, c, failures, labelSecond) > threshold+attempts }, "the outage lasts")
	calls := metric(t, c, failures, labelSecond)
	outage := time.Since(began)
	assert.LessOrEqual(t, calls, int64(threshold+1+outage/cooldown), "calls while the breaker is open")
	up()
	drained(t, c, time.Minute)
	require.Zero(t, metric(t, c, state, labelSecond), "the breaker closes")
	stop(t, c)

	requireSound(t, settings)
	requireSoundStore(t, settings, other.directory)
	requireKept(t, total, readStore(t, settings.Store()))
	requireKept(t, total, readStore(t, other.directory))
	measured(t, "events", len(total.Acknowledged), "outage", outage.Round(time.Millisecond), "calls to the sink that is down", calls)
}

// An optional sink that is down for longer than its queue can bear: the
// required one has no delay from it, a metric says what it missed, and verify
// of the copy names exactly those records and goes on behind them.
func TestScenarioOptionalSinkMisses(t *testing.T) {
	copied := newSecond(t)
	up := copied.down(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: copied.beside(quick + "required: false, sending_queue: {queue_size: 8388608}")}
	c := start(t, settings)
	total := testbed.NewOutcome()
	for round := 0; metric(t, c, missedCount, labelSecond) == 0; round++ {
		require.Less(t, round, 100, "the queue never overflows")
		load := testbed.Load{Clients: 8, Events: 1000, MaxBatch: 20, Seed: 1, Name: "down-" + roundName(round), Plain: true, Bulk: 2000}
		outcome := load.Run(t.Context(), c.HTTP)
		require.Empty(t, outcome.Surprises)
		total.Add(outcome)
		drained(t, c, time.Minute)
	}
	up()
	eventually(t, time.Minute, func() bool { return metric(t, c, storedCount, labelSecond) > 0 }, "the copy is back")
	for round := range 2 { // each ends with a checkpoint
		outcome := sendLoad(t, c, "up-"+roundName(round), 100)
		covered(t, settings, outcome)
		total.Add(outcome)
	}
	drained(t, c, time.Minute)
	eventually(t, time.Minute, func() bool { return metric(t, c, "otelcol_exporter_queue_size", labelSecond) == 0 }, "the copy has all that it was given")
	missed := metric(t, c, missedCount, labelSecond)
	stop(t, c)

	requireSound(t, settings)
	stored, partial := readStore(t, settings.Store()), readStore(t, copied.directory)
	requireKept(t, total, stored)
	report := verify(t, "--key", settings.Key(), copied.directory)
	assert.Equal(t, 1, report.Exit)
	require.Equal(t, []string{"missing"}, report.Kinds(), "%+v", report.Findings)
	lacking := len(stored.Records) + stored.Controls - len(partial.Records) - partial.Controls
	assert.Equal(t, lacking, missingIn(t, report), "verify names what is missing, record by record")
	assert.EqualValues(t, missed, lacking+stored.Checkpoints-partial.Checkpoints, "the metric counts records, checkpoints among them")

	// Behind the gap all is verified as before: a change there shows.
	lines := load(t, copied.directory)
	for i := range lines.lines {
		if strings.Contains(lines.lines[i].text, `"up-round-001-0-`) {
			lines.edit(i, `"stringValue":"up-`, `"stringValue":"uq-`)
			break
		}
	}
	lines.save()
	assert.Equal(t, []string{"missing", "tampered"}, verify(t, "--key", settings.Key(), copied.directory).Kinds())
	measured(t, "events", len(stored.Records), "missed by the copy", missed, "named by verify", lacking, "in ranges", len(report.Findings))
}

// An optional endpoint takes connections and never answers: nobody who waits for
// a delivery waits for it, and neither does the end of the collector.
func TestScenarioOptionalSinkHangs(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, silent.Close()) })
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = []string{
		fmt.Sprintf("exporters: {audit/second: {required: false, timeout: 5m, http: {endpoint: http://%s, timeout: 5m}, quarantine: {directory: %q}}}",
			silent.Addr(), filepath.Join(settings.Directory, "quarantine")),
		"service::pipelines::logs/audit::exporters: [audit/second, audit]",
		"processors::audit: {ack: delivered, ack_timeout: 15s}",
	}
	c := start(t, settings)
	total := sendLoad(t, c, "hangs", 1000)
	require.Zero(t, metric(t, c, "otelcol_processor_audit_pending_records"), "200 means delivered")
	assert.Less(t, total.Latencies[len(total.Latencies)-1], 15*time.Second, "somebody has waited for an attempt at the endpoint")
	begin := time.Now()
	stop(t, c)
	ended := time.Since(begin)
	assert.Less(t, ended, 20*time.Second)

	requireSound(t, settings)
	requireKept(t, total, readStore(t, settings.Store()))
	measured(t, "events", len(total.Acknowledged), "p50", total.Quantile(.5), "p99", total.Quantile(.99), "ended after", ended.Round(time.Millisecond))
}

var rangeForm = regexp.MustCompile(`indexes \d+ to \d+ \((\d+)\)`)

// missingIn counts the records that the findings of a report name.
func missingIn(t *testing.T, report testbed.Report) (records int) {
	t.Helper()
	for _, finding := range report.Findings {
		parts := rangeForm.FindStringSubmatch(finding.Detail)
		if parts == nil {
			records++
			continue
		}
		n, err := strconv.Atoi(parts[1])
		require.NoError(t, err)
		records += n
	}
	return records
}
