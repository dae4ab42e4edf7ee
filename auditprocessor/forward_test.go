// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
	"github.com/otelaudit/otelaudit/internal/quarantine"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

var errPoison = consumererror.NewPermanent(status.Error(codes.InvalidArgument, "quotes a secret"))

// stockFake is an exporter that knows nothing of us: it takes or refuses what
// it is given as a whole, by rule, and remembers what it took.
type stockFake struct {
	mu    sync.Mutex
	rule  func(ctx context.Context, names []string) error // guarded by mu
	taken []string                                        // guarded by mu; see nameOf
	calls [][]string                                      // guarded by mu
}

func newStockFake(rule func(context.Context, []string) error) *stockFake {
	return &stockFake{rule: rule}
}

func (*stockFake) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *stockFake) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	var names []string
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				names = append(names, nameOf(record))
			}
		}
	}
	s.mu.Lock()
	rule := s.rule
	s.calls = append(s.calls, names)
	s.mu.Unlock()
	err := rule(ctx, names)
	if err == nil {
		s.mu.Lock()
		s.taken = append(s.taken, names...)
		s.mu.Unlock()
	}
	return err
}

// nameOf is the id of a client record, the event name of a control record, or
// `checkpoint`.
func nameOf(record plog.LogRecord) string {
	if _, found := record.Attributes().Get(audit.AttributeChainCheckpoint); found {
		return "checkpoint"
	}
	if strings.HasPrefix(record.EventName(), "audit.") {
		return record.EventName()
	}
	id, _ := record.Attributes().Get(audit.AttributeRecordID)
	return id.Str()
}

func (s *stockFake) setRule(rule func(context.Context, []string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule = rule
}

func (s *stockFake) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

func (s *stockFake) has(name string) bool { return s.count(name) > 0 }

func (s *stockFake) count(name string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, taken := range s.taken {
		if taken == name {
			n++
		}
	}
	return n
}

// clients returns the client records that were taken, in order.
func (s *stockFake) clients() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.taken {
		if name != "checkpoint" && !strings.HasPrefix(name, "audit.") {
			ids = append(ids, name)
		}
	}
	return ids
}

func take(context.Context, []string) error { return nil }

func hang(ctx context.Context, _ []string) error {
	<-ctx.Done()
	return ctx.Err()
}

// refusing takes whatever has none of the names.
func refusing(bad ...string) func(context.Context, []string) error {
	return func(_ context.Context, names []string) error {
		if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(bad, name) }) {
			return errPoison
		}
		return nil
	}
}

// events is one request with a record for each id, in resources of two.
func events(ids ...string) plog.Logs {
	logs := plog.NewLogs()
	for i, id := range ids {
		one := event(id)
		if i%2 == 0 {
			one.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
			continue
		}
		one.ResourceLogs().At(0).ScopeLogs().MoveAndAppendTo(logs.ResourceLogs().At(logs.ResourceLogs().Len() - 1).ScopeLogs())
	}
	return logs
}

func ids(prefix string, n int) []string {
	named := make([]string, n)
	for i := range named {
		named[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return named
}

func startOn(t *testing.T, config *Config, next consumer.Logs, host component.Host) (*auditProcessor, *componenttest.Telemetry) {
	t.Helper()
	telemetry := componenttest.NewTelemetry()
	settings := processortest.NewNopSettings(metadata.Type)
	settings.TelemetrySettings = telemetry.NewTelemetrySettings()
	p, err := newProcessor(settings, config, next)
	require.NoError(t, err)
	require.NoError(t, p.Start(t.Context(), host))
	t.Cleanup(func() { assert.NoError(t, telemetry.Shutdown(context.WithoutCancel(t.Context()))) })
	return p, telemetry
}

func soon(t *testing.T, done func() bool) {
	t.Helper()
	require.Eventually(t, done, time.Minute, time.Millisecond)
}

// quarantined returns how many records are in quarantine.
func quarantined(t *testing.T, config *Config) int {
	t.Helper()
	listed, err := quarantine.List(filepath.Join(config.Journal.Directory, quarantineDirectory))
	if !errors.Is(err, os.ErrNotExist) { // it is made for the first record
		require.NoError(t, err)
	}
	return len(listed)
}

// The poison records go into quarantine, wherever they stand; all others
// arrive, in order, and once.
func TestPoisonRecords(t *testing.T) {
	request := ids("a", 13)
	for name, bad := range map[string][]string{
		"none":     {},
		"first":    {"a-0"},
		"last":     {"a-12"},
		"middle":   {"a-6"},
		"adjacent": {"a-4", "a-5", "a-6", "a-7"},
		"apart":    {"a-1", "a-8", "b"},
		"all":      append(slices.Clone(request), "b"),
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig(t, t.TempDir())
			sink := newStockFake(refusing(bad...))
			p, telemetry := startOn(t, config, sink, componenttest.NewNopHost())
			require.NoError(t, p.ConsumeLogs(t.Context(), events(request...)))
			require.NoError(t, p.ConsumeLogs(t.Context(), event("b")))
			require.NoError(t, p.ConsumeLogs(t.Context(), event("c")))
			soon(t, func() bool { return sink.has("c") && sink.count(audit.EventQuarantine) == len(bad) })
			assertCounters(t, telemetry, int64(15-len(bad)), int64(len(bad)))
			require.Zero(t, max(0, sum(telemetry, "otelcol_processor_audit_quarantine_failures")))
			require.NoError(t, p.Shutdown(t.Context()))

			want := slices.DeleteFunc(append(slices.Clone(request), "b", "c"), func(id string) bool { return slices.Contains(bad, id) })
			require.Equal(t, want, sink.clients())
			require.Equal(t, len(bad), quarantined(t, config))
			_, records := p.journal.Backlog()
			require.Zero(t, records)
			require.Equal(t, 1, sink.count(audit.EventOriginStop))
		})
	}
}

func assertCounters(t *testing.T, telemetry *componenttest.Telemetry, delivered, gone int64) {
	t.Helper()
	soon(t, func() bool { // a frame counts once its send has returned
		return sum(telemetry, "otelcol_processor_audit_delivered_records") == delivered &&
			sum(telemetry, "otelcol_processor_audit_quarantined_records") == gone
	})
}

func sum(telemetry *componenttest.Telemetry, name string) int64 {
	metric, err := telemetry.GetMetric(name)
	if err != nil {
		return -1
	}
	return metric.Data.(metricdata.Sum[int64]).DataPoints[0].Value
}

// A consumer that refuses everything for good is down, whatever it says.
func TestMislabelledOutage(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		host := &statusHost{Host: componenttest.NewNopHost()}
		sink := newStockFake(take)
		p, telemetry := startOn(t, config, sink, host)
		time.Sleep(10 * time.Second) // a checkpoint is there, and taken
		sink.setRule(func(context.Context, []string) error { return errPoison })
		request := ids("a", 9)
		require.NoError(t, p.ConsumeLogs(t.Context(), events(request...)))
		time.Sleep(time.Hour)
		require.Zero(t, quarantined(t, config))
		require.ErrorIs(t, host.last().Err(), errPoison)
		require.ErrorContains(t, host.last().Err(), "stuck at record "+p.journal.Origin()+"/1 ")

		sink.setRule(take)
		time.Sleep(10 * time.Second)
		require.NoError(t, p.Shutdown(t.Context()))
		require.Equal(t, request, sink.clients())
		require.Zero(t, sink.count(audit.EventQuarantine))
		require.Equal(t, componentstatus.StatusOK, host.last().Status())
		assertCounters(t, telemetry, 9, 0)
	})
}

// An outage in the middle of a search, and one that only looks like poison.
func TestOutageDuringTheJudgement(t *testing.T) {
	config := testConfig(t, t.TempDir())
	down := errors.New("down")
	refusals := 0
	sink := newStockFake(func(_ context.Context, names []string) error {
		switch {
		case !slices.Contains(names, "a-2"):
			return nil
		case len(names) > 1:
			return errPoison
		case refusals < 6: // alone: refused for good, and down when asked again
			refusals++
			if refusals%2 == 0 {
				return down
			}
			return errPoison
		}
		return nil
	})
	p, _ := startOn(t, config, sink, componenttest.NewNopHost())
	request := ids("a", 5)
	require.NoError(t, p.ConsumeLogs(t.Context(), events(request...)))
	soon(t, func() bool { return sink.has("a-4") })
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, request, sink.clients())
	require.Zero(t, quarantined(t, config))
}

// Without what the collector itself says the log proves less: such a record is
// repeated for ever, and so is a checkpoint.
func TestOwnRecordsAreNeverPutAway(t *testing.T) {
	for _, bad := range []string{audit.EventOriginStart, audit.EventOriginHeartbeat, "checkpoint"} {
		t.Run(bad, func(t *testing.T) {
			config := testConfig(t, t.TempDir())
			sink := newStockFake(refusing(bad))
			p, _ := startOn(t, config, sink, componenttest.NewNopHost())
			require.NoError(t, p.sealControl(t.Context(), heartbeatRecord()))
			require.NoError(t, p.ConsumeLogs(t.Context(), event("after")))
			refused := func() (n int) {
				sink.mu.Lock()
				defer sink.mu.Unlock()
				for _, names := range sink.calls {
					if len(names) == 1 && names[0] == bad {
						n++
					}
				}
				return n
			}
			soon(t, func() bool { return refused() >= 3 })
			require.False(t, sink.has("after"))
			require.Zero(t, quarantined(t, config))
			sink.setRule(take)
			soon(t, func() bool { return sink.has("after") })
			require.NoError(t, p.Shutdown(t.Context()))
			require.NotZero(t, sink.count(bad))
		})
	}
}

// A conflict is an alarm about the store, also where it is called permanent.
func TestConflictIsNotPoison(t *testing.T) {
	config := testConfig(t, t.TempDir())
	var conflicts int
	sink := newStockFake(func(_ context.Context, names []string) error {
		if slices.Contains(names, "a") && conflicts < 3 {
			conflicts++
			return consumererror.NewPermanent(fmt.Errorf("sink: %w", receipt.ErrConflict))
		}
		return nil
	})
	p, _ := startOn(t, config, sink, componenttest.NewNopHost())
	require.NoError(t, p.ConsumeLogs(t.Context(), event("a")))
	soon(t, func() bool { return sink.has("a") })
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, 3, conflicts)
	require.Zero(t, quarantined(t, config))
}

// reportingFake is an exporter of ours with two sinks that refuse one record
// for good.
type reportingFake struct {
	mu     sync.Mutex
	bad    string
	silent bool // takes nothing

	link   chain.Link       // guarded by mu; origin, index and digest of what was refused
	sealed []plog.LogRecord // guarded by mu; quarantine records that came
	closed int              // guarded by mu; reports that are sealed
	names  []string         // guarded by mu; what came
}

func (*reportingFake) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (r *reportingFake) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent {
		return errors.New("down")
	}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				r.take(ctx, record)
			}
		}
	}
	return nil
}

func (r *reportingFake) take(ctx context.Context, record plog.LogRecord) {
	name := nameOf(record)
	r.names = append(r.names, name)
	if name == audit.EventQuarantine {
		kept := plog.NewLogRecord()
		record.CopyTo(kept)
		r.sealed = append(r.sealed, kept)
	}
	if name != r.bad {
		return
	}
	origin, _ := record.Attributes().Get(audit.AttributeChainOrigin)
	index, _ := record.Attributes().Get(audit.AttributeChainIndex)
	r.link = chain.Link{Origin: origin.Str(), Index: uint64(index.Int()), Digest: chain.Hash{1, 2}}
	for _, sink := range []string{"audit/first", "audit/second"} {
		receipt.DeliveryFrom(ctx).Report(receipt.Report{
			Action: receipt.Quarantined, Origin: r.link.Origin, Index: r.link.Index, Digest: r.link.Digest,
			Sink: sink, Reason: "\xff too wide" + strings.Repeat("é", maxReason), Sealed: r.close,
		})
	}
}

func (r *reportingFake) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed++
	return errors.New("disk full")
}

func (r *reportingFake) do(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// What an exporter of ours reports is sealed, with its reason made fit, before
// the exporter learns that it is.
func TestReportsAreSealed(t *testing.T) {
	config := testConfig(t, t.TempDir())
	sink := &reportingFake{bad: "a-1"}
	p, telemetry := startOn(t, config, sink, componenttest.NewNopHost())
	require.NoError(t, p.ConsumeLogs(t.Context(), events(ids("a", 3)...)))
	soon(t, func() bool {
		var n int
		sink.do(func() { n = len(sink.sealed) })
		return n == 2 // two sinks, one record
	})
	assertCounters(t, telemetry, 2, 1)
	require.Equal(t, int64(2), sum(telemetry, "otelcol_processor_audit_quarantine_failures"), "its end of the reports failed")
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, 2, sink.closed)
	get := func(name string) any {
		value, found := sink.sealed[0].Attributes().Get(name)
		require.True(t, found, name)
		return value.AsRaw()
	}
	require.Equal(t, sink.link.Origin, get(audit.AttributeQuarantineOrigin))
	require.Equal(t, int64(sink.link.Index), get(audit.AttributeQuarantineIndex))
	require.Equal(t, sink.link.Digest.String(), get(audit.AttributeQuarantineDigest))
	require.Equal(t, "audit/first", get(audit.AttributeQuarantineSink))
	require.Equal(t, "quarantine", get(audit.AttributeQuarantineAction))
	require.Equal(t, "QUARANTINE", get(audit.AttributeAction))
	reason := get(audit.AttributeQuarantineReason).(string)
	require.LessOrEqual(t, len(reason), maxReason)
	require.True(t, strings.HasPrefix(reason, "\uFFFD too wide"), reason)
}

// A report after the stop record cannot be sealed in this life: the cursor
// waits, and the next life gets the report again.
func TestReportAfterTheStopRecord(t *testing.T) {
	config := testConfig(t, t.TempDir())
	sink := &reportingFake{bad: "a-1", silent: true}
	p, _ := startOn(t, config, sink, componenttest.NewNopHost())
	require.NoError(t, p.ConsumeLogs(t.Context(), events(ids("a", 3)...)))
	require.NoError(t, p.sealControl(t.Context(), stopRecord()))
	sink.do(func() { sink.silent = false })
	begun := time.Now()
	require.ErrorIs(t, p.Shutdown(t.Context()), journal.ErrClosed, "the stop record was there before")
	require.Less(t, time.Since(begun), config.DrainTimeout)
	require.Empty(t, sink.sealed)
	_, records := p.journal.Backlog()
	require.Equal(t, int64(3), records)

	p, telemetry := startOn(t, config, sink, componenttest.NewNopHost())
	soon(t, func() bool {
		var n int
		sink.do(func() { n = len(sink.sealed) })
		return n == 2
	})
	assertCounters(t, telemetry, 2, 1)
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, 2, sink.closed)
}

// A kill between the steps of a quarantine costs repetitions only: the record
// is in quarantine once, at least one sealed record says so, and the others
// arrive.
func TestKilledDuringAQuarantine(t *testing.T) {
	for steps, want := range []int{1, 1, 2, 1} { // sealed quarantine records
		t.Run([]string{"before", "after the entry", "after its seal", "after the cursor"}[steps], func(t *testing.T) {
			config := testConfig(t, t.TempDir())
			config.DrainTimeout = time.Millisecond
			sink := newStockFake(func(context.Context, []string) error { return errors.New("down") })
			p, _ := startOn(t, config, sink, componenttest.NewNopHost())
			require.NoError(t, p.ConsumeLogs(t.Context(), events("a-0", "a-1", "a-2")))
			require.NoError(t, p.Shutdown(t.Context()))
			quarantineByHand(t, config, steps)

			sink.setRule(refusing("a-1"))
			config.DrainTimeout = 10 * time.Second
			p, _ = startOn(t, config, sink, componenttest.NewNopHost())
			soon(t, func() bool { return sink.count(audit.EventQuarantine) == want })
			require.NoError(t, p.Shutdown(t.Context()))
			if steps < 3 {
				require.Equal(t, []string{"a-0", "a-2"}, sink.clients())
			}
			require.Equal(t, 1, quarantined(t, config))
			require.Equal(t, 2, sink.count(audit.EventOriginStop), "of the first and the last life")
		})
	}
}

// quarantineByHand is a life that takes the given number of steps of a
// quarantine and is killed.
func quarantineByHand(t *testing.T, config *Config, steps int) {
	t.Helper()
	p, err := newProcessor(processortest.NewNopSettings(metadata.Type), config, newStockFake(take))
	require.NoError(t, err)
	key, err := loadKey(config)
	require.NoError(t, err)
	p.journal, err = journal.Open(p.journalOptions(key))
	require.NoError(t, err)
	p.instance = "test"
	require.NoError(t, p.sealControl(t.Context(), startRecord(p.journal.Previous(), "", chain.Hash{}, key.Public().(ed25519.PublicKey))))
	f := newForwarder(p, componenttest.NewNopHost())
	pieces, err := f.gather(t.Context())
	require.NoError(t, err)
	at := slices.IndexFunc(pieces, func(p piece) bool { return p.kind == journal.Client && p.checkpoint == nil })
	_, poison := pieces[at].cut(1)
	poison, _ = poison.cut(1)
	reason := refusalReason(errPoison)
	link := &poison.request.Links[poison.from]
	if steps > 0 {
		require.NoError(t, f.put(&poison, reason))
	}
	if steps > 1 {
		require.NoError(t, f.sealReports(t.Context(), []receipt.Report{{
			Action: receipt.Quarantined, Origin: link.Origin, Index: link.Index, Digest: link.Digest, Sink: nextConsumer, Reason: reason,
		}}))
	}
	if steps > 2 {
		f.delivered(t.Context(), pieces[:at+1])
	}
	require.NoError(t, p.journal.Close())
}

// What an operator asks for is done when the consumer works, and sealed.
func TestRequests(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Chain.Heartbeat = time.Second
	directory := filepath.Join(config.Journal.Directory, quarantineDirectory)
	bad := ids("a", 4)
	sink := newStockFake(refusing(bad...))
	p, telemetry := startOn(t, config, sink, componenttest.NewNopHost())
	require.NoError(t, p.ConsumeLogs(t.Context(), events(bad...)))
	soon(t, func() bool { return sink.count(audit.EventQuarantine) == 4 })
	listed, err := quarantine.List(directory)
	require.NoError(t, err)
	require.Len(t, listed, 4)

	sink.setRule(refusing("a-2", "a-3"))
	at := time.Unix(1, 0)
	require.NoError(t, quarantine.Ask(directory, listed[0], quarantine.Request{Action: quarantine.Replay, At: at}))
	require.NoError(t, quarantine.Ask(directory, listed[1], quarantine.Request{Action: quarantine.Drop, Reason: "made in a test", At: at}))
	require.NoError(t, quarantine.Ask(directory, listed[2], quarantine.Request{Action: quarantine.Replay, At: at}))
	files, err := filepath.Glob(filepath.Join(directory, "records", "*.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(directory, "requests", filepath.Base(files[3])), []byte("{}"), 0o600))
	soon(t, func() bool {
		asked, err := quarantine.Requests(directory, 10)
		require.NoError(t, err)
		return len(asked) == 0
	})
	require.NoError(t, p.Shutdown(t.Context()))

	require.Equal(t, 6, sink.count(audit.EventQuarantine))
	require.Equal(t, []string{"a-0"}, sink.clients(), "replayed")
	left, err := quarantine.List(directory)
	require.NoError(t, err)
	require.Equal(t, listed[2:], left)
	failure, err := quarantine.ReadFailure(directory, listed[2])
	require.NoError(t, err)
	require.Equal(t, "refused for good: InvalidArgument", failure.Reason)
	failure, err = quarantine.ReadFailure(directory, listed[3])
	require.NoError(t, err)
	require.Equal(t, "the request could not be read", failure.Reason)
	require.Zero(t, sum(telemetry, "otelcol_processor_audit_delivered_records"), "a replay is no delivery of the journal")
}

// A record comes back from quarantine as it was sealed.
func TestReplayIsTheSealedRecord(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Chain.Heartbeat = time.Second
	directory := filepath.Join(config.Journal.Directory, quarantineDirectory)
	p, _ := startOn(t, config, newStockFake(refusing("a")), componenttest.NewNopHost())
	require.NoError(t, p.ConsumeLogs(t.Context(), event("a")))
	soon(t, func() bool { return quarantined(t, config) == 1 })
	require.NoError(t, p.Shutdown(t.Context()))
	listed, err := quarantine.List(directory)
	require.NoError(t, err)
	entry, err := quarantine.Read(directory, listed[0])
	require.NoError(t, err)
	require.Equal(t, nextConsumer, entry.Sink)
	require.NoError(t, quarantine.Ask(directory, listed[0], quarantine.Request{Action: quarantine.Replay, At: time.Unix(1, 0)}))

	sink := newSinkFake()
	p = startProcessor(t, config, sink)
	at := func() int {
		return slices.IndexFunc(sink.records, func(r sealedRecord) bool { return r.id == "a" })
	}
	sink.waitFor(t, func() bool { return at() >= 0 })
	soon(t, func() bool { return quarantined(t, config) == 0 })
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, entry.Link, sink.records[at()].link, "digest and all")
	require.Equal(t, entry.Hash.String(), sink.records[at()].hash)
}

// A consumer that hangs or is dead holds up nobody before the quota is reached.
func TestIntakeGoesOnWhileTheConsumerHangs(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Journal.MaxBytes = 1 << 20
	config.DrainTimeout = time.Millisecond
	sink := newStockFake(hang)
	p, _ := startOn(t, config, sink, componenttest.NewNopHost())
	soon(t, func() bool { return sink.attempts() == 1 })
	var err error
	sealed := 0
	for ; err == nil; sealed++ {
		err = p.ConsumeLogs(t.Context(), events(ids(fmt.Sprint(sealed), 100)...))
	}
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Greater(t, sealed, 10)
	require.Equal(t, 1, sink.attempts())
	require.NoError(t, p.Shutdown(t.Context()), "the consumer honours its context")
}

// What does not fit into a send goes in several, in order, also inside a
// request; the cursor passes its frame with the last of them.
func TestLargeRequestIsCut(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Limits.MaxRecordBytes = 1 << 20
	release := make(chan struct{})
	sink := newStockFake(func(_ context.Context, names []string) error {
		if slices.Contains(names, "a-9999") {
			<-release
		}
		return nil
	})
	sizes := &sizeFake{next: sink}
	p, _ := startOn(t, config, sizes, componenttest.NewNopHost())
	small, large := ids("a", 10_000), ids("b", 50)
	require.NoError(t, p.ConsumeLogs(t.Context(), events(small...)))
	soon(t, func() bool { return sink.has("a-0") })
	_, records := p.journal.Backlog()
	require.Equal(t, int64(10_000), records, "the last piece has not arrived")
	close(release)
	request := events(large...)
	for _, resource := range request.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			scope.LogRecords().At(0).Body().SetStr(strings.Repeat("x", 30_000))
			scope.LogRecords().At(0).Attributes().PutStr("y", strings.Repeat("y", 30_000))
			scope.LogRecords().At(0).Attributes().PutStr("z", strings.Repeat("z", 30_000))
		}
	}
	require.NoError(t, p.ConsumeLogs(t.Context(), request))
	soon(t, func() bool { return sink.has("b-49") })
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, append(small, large...), sink.clients())
	sizes.mu.Lock()
	defer sizes.mu.Unlock()
	require.LessOrEqual(t, sizes.records, sendRecords)
	require.LessOrEqual(t, sizes.bytes, sendBytes)
	require.Greater(t, sizes.bytes, sendBytes*8/10, "sends are not smaller than they need to be")
}

// sizeFake measures the largest send.
type sizeFake struct {
	next           *stockFake
	mu             sync.Mutex
	records, bytes int
}

func (*sizeFake) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *sizeFake) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	s.mu.Lock()
	s.records = max(s.records, logs.LogRecordCount())
	s.bytes = max(s.bytes, marshaler.LogsSize(logs))
	s.mu.Unlock()
	return s.next.ConsumeLogs(ctx, logs)
}

// Halves have all the records, in order, and only the last has the frame.
func TestHalve(t *testing.T) {
	links := make([]chain.Link, 10)
	pieces := []piece{
		{request: &journal.Sealed{Links: links}, to: 1},
		{request: &journal.Sealed{Links: links}, from: 2, to: 9, frame: 1},
		{checkpoint: &journal.Checkpoint{}, frame: 2},
	}
	var walk func([]piece) []piece
	walk = func(pieces []piece) []piece {
		if countRecords(pieces) == 1 {
			require.Len(t, pieces, 1)
			return pieces
		}
		first, second := halve(pieces)
		require.Equal(t, countRecords(pieces)/2, countRecords(first))
		return append(slices.Clone(walk(first)), walk(second)...)
	}
	var got []string
	for _, p := range walk(pieces) {
		got = append(got, fmt.Sprint(p.from, p.to, p.frame, p.checkpoint != nil))
	}
	require.Equal(t, []string{
		"0 1 0 false", "2 3 0 false", "3 4 0 false", "4 5 0 false", "5 6 0 false", "6 7 0 false", "7 8 0 false", "8 9 1 false", "0 0 2 true",
	}, got)
}

// The consumer says when to come again; it cannot put us off for long.
func TestThrottle(t *testing.T) {
	for hint, least := range map[time.Duration]time.Duration{20 * time.Second: 20 * time.Second, time.Hour: maxHint} {
		directory := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			var first, second time.Time
			next, err := consumer.NewLogs(func(context.Context, plog.Logs) error {
				if first.IsZero() {
					first = time.Now()
					return receipt.Unavailable("busy", hint)
				}
				if second.IsZero() {
					second = time.Now()
				}
				return nil
			})
			require.NoError(t, err)
			p := startProcessor(t, testConfig(t, directory), next)
			time.Sleep(time.Minute)
			require.NoError(t, p.Shutdown(t.Context()))
			require.Equal(t, least, second.Sub(first))
		})
	}
}

// last returns the newest event.
func (h *statusHost) last() *componentstatus.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events[len(h.events)-1]
}

func (h *statusHost) count(text string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, event := range h.events {
		if event.Err() != nil && strings.Contains(event.Err().Error(), text) {
			n++
		}
	}
	return n
}

// A send that does not come to its end is named, whether it is refused or not
// answered, once each `stuck_after`.
func TestStuck(t *testing.T) {
	for name, test := range map[string]struct {
		rule func(context.Context, []string) error
		want string
	}{
		"refused": {func(context.Context, []string) error { return errors.New("no room") }, "no room"},
		"hangs":   {nil, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				rule := test.rule
				if rule == nil {
					rule = func(context.Context, []string) error { <-release; return nil }
				}
				host := &statusHost{Host: componenttest.NewNopHost()}
				sink := newStockFake(rule)
				p, err := newProcessor(processortest.NewNopSettings(metadata.Type), testConfig(t, directory), sink)
				require.NoError(t, err)
				require.NoError(t, p.Start(t.Context(), host))
				time.Sleep(59 * time.Second)
				require.Zero(t, host.count("stuck"))
				require.InDelta(t, 59, p.forwarder.watch.time().Seconds(), 1)
				time.Sleep(2 * time.Second)
				require.Equal(t, 1, host.count("stuck at record "+p.journal.Origin()+"/0 "))
				require.ErrorContains(t, host.last().Err(), test.want)
				time.Sleep(time.Minute)
				require.Equal(t, 2, host.count("stuck"))

				sink.setRule(take)
				close(release)
				time.Sleep(10 * time.Second)
				require.Equal(t, componentstatus.StatusOK, host.last().Status())
				time.Sleep(3 * time.Minute)
				require.Equal(t, 2, host.count("stuck"), "delivery works")
				require.Zero(t, p.forwarder.watch.time())
				require.NoError(t, p.Shutdown(t.Context()))
			})
		})
	}
}

// A consumer that honours its context holds a shutdown no longer than
// `drain_timeout`.
func TestShutdownBesideAHangingConsumer(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		p := startProcessor(t, config, newStockFake(hang))
		require.NoError(t, p.ConsumeLogs(t.Context(), event("kept")))
		begun := time.Now()
		require.NoError(t, p.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(begun), config.DrainTimeout)
	})
	sink := newStockFake(take)
	p := startProcessor(t, testConfig(t, directory), sink)
	soon(t, func() bool { return sink.has("kept") })
	require.NoError(t, p.Shutdown(t.Context()))
}

// One that takes no notice of its context and goes on taking is not given more.
func TestNothingIsSentAfterTheDrain(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		sink := newStockFake(func(_ context.Context, names []string) error {
			time.Sleep(config.DrainTimeout * 6 / 10)
			if len(names) > 1 {
				return errPoison
			}
			return nil
		})
		p := startProcessor(t, config, sink)
		require.NoError(t, p.ConsumeLogs(t.Context(), events(ids("a", 50)...)))
		synctest.Wait()
		before := sink.attempts()
		require.NoError(t, p.Shutdown(t.Context()))
		require.LessOrEqual(t, sink.attempts(), before+2)
	})
}

// One that does not honour it is left behind: the collector ends within 30 s,
// and the journal stays locked until the consumer lets go.
func TestShutdownBesideADeafConsumer(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		config.DrainTimeout = maxDrainTimeout
		release := make(chan struct{})
		p := startProcessor(t, config, newStockFake(func(context.Context, []string) error { <-release; return nil }))
		time.Sleep(2 * linger) // the start record is on its way
		require.NoError(t, p.ConsumeLogs(t.Context(), event("kept")))
		begun := time.Now()
		require.ErrorIs(t, p.Shutdown(t.Context()), errHeld)
		require.Less(t, time.Since(begun), 30*time.Second)
		require.Equal(t, codes.Unavailable, status.Code(p.ConsumeLogs(t.Context(), event("late"))))

		second, err := newProcessor(processortest.NewNopSettings(metadata.Type), config, newStockFake(take))
		require.NoError(t, err)
		require.ErrorContains(t, second.Start(t.Context(), componenttest.NewNopHost()), "journal::directory")
		close(release)
		synctest.Wait()
	})
	sink := newStockFake(take)
	p := startProcessor(t, testConfig(t, directory), sink)
	soon(t, func() bool { return sink.has("kept") })
	require.NoError(t, p.Shutdown(t.Context()))
}

// A disk that hangs in its sync holds up neither the heartbeat's end nor the
// shutdown.
func TestShutdownBesideADeafDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, t.TempDir())
		config.DrainTimeout = maxDrainTimeout
		disk := faultdisk.New(config.Journal.Directory)
		p, err := newProcessor(processortest.NewNopSettings(metadata.Type), config, newStockFake(take))
		require.NoError(t, err)
		p.disk = disk
		require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
		release := make(chan struct{})
		disk.Hold(release)
		time.Sleep(2 * config.Chain.Heartbeat) // the heartbeat hangs
		begun := time.Now()
		require.ErrorIs(t, p.Shutdown(t.Context()), errHeld)
		require.Less(t, time.Since(begun), 30*time.Second)
		close(release)
		synctest.Wait()
	})
}

func TestBound(t *testing.T) {
	for text, want := range map[string]string{
		"":           "",
		"abcd":       "abcd",
		"abcde":      "abcd",
		"abcé":       "abc",
		"a\xff\xfeb": "a\uFFFD",
		"éé":         "éé",
	} {
		require.Equal(t, want, bound(text, 4))
	}
}

// The parts of a request hold its records as they were sealed, with resource
// and scope, and can be told apart from a whole one by their number only.
func TestFitKeepsTheRecords(t *testing.T) {
	logs := plog.NewLogs()
	logs.ResourceLogs().AppendEmpty() // nothing in it
	for r := range 3 {
		resource := logs.ResourceLogs().AppendEmpty()
		resource.SetSchemaUrl(fmt.Sprint("resource ", r))
		resource.Resource().Attributes().PutStr("large", strings.Repeat("r", 100_000))
		resource.ScopeLogs().AppendEmpty()
		for s := range 2 {
			scope := resource.ScopeLogs().AppendEmpty()
			scope.SetSchemaUrl(fmt.Sprint("scope ", s))
			scope.Scope().SetName(fmt.Sprint(s))
			for i := range 20 {
				scope.LogRecords().AppendEmpty().Body().SetStr(strings.Repeat(fmt.Sprint(i), 50_000))
			}
		}
	}
	payload, err := marshaler.MarshalLogs(logs)
	require.NoError(t, err)
	whole := piece{frame: 7, kind: journal.Client, to: 120, request: &journal.Sealed{
		Payload: payload, Links: make([]chain.Link, 120), Hashes: make([]chain.Hash, 120),
	}}
	var want [][]byte
	for i := range whole.request.Links {
		whole.request.Links[i].Index = uint64(i)
		one, rest := whole.cut(i + 1)
		if i > 0 {
			_, one = one.cut(i)
		}
		require.Equal(t, 120-i-1, rest.records())
		event, err := one.canonical()
		require.NoError(t, err)
		want = append(want, event)
	}
	pieces, err := whole.fit()
	require.NoError(t, err)
	require.Greater(t, len(pieces), 2)
	at := 0
	for i, p := range pieces {
		require.Equal(t, i == len(pieces)-1, p.frame == 7)
		require.Equal(t, journal.Client, p.kind)
		built, err := build([]piece{p})
		require.NoError(t, err)
		require.LessOrEqual(t, marshaler.LogsSize(built), p.bytes)
		require.LessOrEqual(t, p.bytes, sendBytes)
		for range p.records() {
			require.Equal(t, uint64(at), p.request.Links[p.from].Index)
			one, rest := p.cut(1)
			event, err := one.canonical()
			require.NoError(t, err)
			require.Equal(t, string(want[at]), string(event))
			p, at = rest, at+1
		}
	}
	require.Equal(t, 120, at)
}

// Whatever mixes poison, outages (told as what they are or as permanent) and
// restarts: all but the poison arrives, in order, and the poison alone is in
// quarantine.
func TestPoisonOutagesAndRestarts(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			config := testConfig(t, t.TempDir())
			sink := newStockFake(nil)
			var sent, bad []string
			for life := range uint64(4) {
				random := rand.New(rand.NewPCG(seed, life))
				synctest.Test(t, func(t *testing.T) {
					config.DrainTimeout = time.Duration(1+random.IntN(3000)) * time.Millisecond
					last := life == 3
					sink.setRule(weather(random, last))
					p := startProcessor(t, config, sink)
					for range 1 + random.IntN(4) {
						request := ids(fmt.Sprint(seed, "-", life, "-", len(sent)), 1+random.IntN(12))
						for i := range request {
							if random.IntN(6) == 0 {
								request[i] += "-poison"
								bad = append(bad, request[i])
							}
						}
						sent = append(sent, request...)
						require.NoError(t, p.ConsumeLogs(t.Context(), events(request...)))
						time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
					}
					if last {
						time.Sleep(10 * time.Minute)
						_, records := p.journal.Backlog()
						require.Zero(t, records)
					}
					require.NoError(t, p.Shutdown(t.Context()))
				})
			}
			var arrived []string
			for _, id := range sink.clients() { // some come twice
				if !slices.Contains(arrived, id) {
					arrived = append(arrived, id)
				}
			}
			require.Equal(t, slices.DeleteFunc(sent, func(id string) bool { return slices.Contains(bad, id) }), arrived)
			require.Equal(t, len(bad), quarantined(t, config))
			require.GreaterOrEqual(t, sink.count(audit.EventQuarantine), len(bad))
		})
	}
}

// weather makes a consumer that refuses poison for good and is out every now
// and then, for two seconds; if it shall be good, not for ever.
func weather(random *rand.Rand, good bool) func(context.Context, []string) error {
	begun := time.Now()
	outages := []error{nil, nil, errors.New("down"), errPoison, errors.Join(errPoison, errors.New("down"))}
	random.Shuffle(len(outages), func(i, k int) { outages[i], outages[k] = outages[k], outages[i] })
	return func(_ context.Context, names []string) error {
		if at := int(time.Since(begun) / (2 * time.Second)); !good || at < 2*len(outages) {
			if outage := outages[at%len(outages)]; outage != nil {
				return outage
			}
		}
		if slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, "-poison") }) {
			return errPoison
		}
		return nil
	}
}

// Of two exporters one refuses a record for good, the other is down: the
// record waits for the other.
func TestOnePartOfAJoinedErrorIsNotPermanent(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		down := errors.New("down")
		sink := newStockFake(func(_ context.Context, names []string) error {
			if slices.Contains(names, "a") {
				return errors.Join(errPoison, down)
			}
			return nil
		})
		p := startProcessor(t, config, sink)
		time.Sleep(10 * time.Second)
		require.NoError(t, p.ConsumeLogs(t.Context(), event("a")))
		time.Sleep(time.Minute)
		require.Zero(t, quarantined(t, config))
		sink.setRule(refusing("a"))
		time.Sleep(time.Minute)
		require.Equal(t, 1, quarantined(t, config))
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// While the quarantine directory cannot be written nothing behind the record
// goes on, and the record itself is not sent again: it is judged already.
func TestQuarantineCannotBeWritten(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, quarantineDirectory)
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		host := &statusHost{Host: componenttest.NewNopHost()}
		sink := newStockFake(refusing("a"))
		p, telemetry := startOn(t, config, sink, host)
		time.Sleep(10 * time.Second)
		require.NoError(t, os.RemoveAll(path))
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, p.ConsumeLogs(t.Context(), event("a")))
		require.NoError(t, p.ConsumeLogs(t.Context(), event("b")))
		time.Sleep(2 * time.Minute)
		require.False(t, sink.has("b"))
		require.Greater(t, sum(telemetry, "otelcol_processor_audit_quarantine_failures"), int64(10))
		require.ErrorContains(t, host.last().Err(), "quarantine")
		attempts := sink.attempts()
		time.Sleep(time.Minute)
		require.Equal(t, attempts, sink.attempts())

		require.NoError(t, os.Remove(path))
		time.Sleep(10 * time.Second)
		require.True(t, sink.has("b"))
		require.Equal(t, 1, quarantined(t, config))
		require.Equal(t, 1, sink.count(audit.EventQuarantine))
		require.Equal(t, componentstatus.StatusOK, host.last().Status())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// A replay that the consumer cannot take now is tried again; delivery goes on
// beside it.
func TestReplayWaits(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		sink := newStockFake(refusing("a"))
		p, telemetry := startOn(t, config, sink, componenttest.NewNopHost())
		require.NoError(t, p.ConsumeLogs(t.Context(), event("a")))
		time.Sleep(10 * time.Second)
		path := filepath.Join(directory, quarantineDirectory)
		listed, err := quarantine.List(path)
		require.NoError(t, err)
		require.Len(t, listed, 1)
		require.NoError(t, quarantine.Ask(path, listed[0], quarantine.Request{Action: quarantine.Replay, At: time.Now()}))
		sink.setRule(func(_ context.Context, names []string) error {
			if slices.Contains(names, "a") {
				return errors.New("busy")
			}
			return nil
		})
		require.NoError(t, p.ConsumeLogs(t.Context(), event("b")))
		time.Sleep(5 * time.Minute)
		require.True(t, sink.has("b"))
		require.Greater(t, sum(telemetry, "otelcol_processor_audit_quarantine_failures"), int64(3))
		sink.setRule(take)
		time.Sleep(2 * time.Minute) // an idle log does it with the next heartbeat
		require.Equal(t, []string{"b", "a"}, sink.clients())
		require.Zero(t, quarantined(t, config))
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// However many replays are asked for of a consumer that takes its time to refuse
// them, delivery waits for one of them at a time.
func TestReplaysDoNotHoldDeliveryUp(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		bad := ids("a", 10)
		sink := newStockFake(refusing(bad...))
		p := startProcessor(t, config, sink)
		require.NoError(t, p.ConsumeLogs(t.Context(), events(bad...)))
		time.Sleep(10 * time.Second)
		path := filepath.Join(directory, quarantineDirectory)
		listed, err := quarantine.List(path)
		require.NoError(t, err)
		require.Len(t, listed, len(bad))
		for _, c := range listed {
			require.NoError(t, quarantine.Ask(path, c, quarantine.Request{Action: quarantine.Replay, At: time.Now()}))
		}
		const slow = 5 * time.Second
		sink.setRule(func(ctx context.Context, names []string) error {
			if refusing(bad...)(ctx, names) == nil {
				return nil
			}
			time.Sleep(slow)
			return errors.New("busy")
		})
		for _, id := range []string{"b", "c", "d"} { // each waits for what was asked after the one before
			require.NoError(t, p.ConsumeLogs(t.Context(), event(id)))
			time.Sleep(slow + 2*linger)
			require.True(t, sink.has(id), id)
		}
		sink.setRule(take)
		time.Sleep(2 * time.Minute)
		require.Zero(t, quarantined(t, config))
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Where the journal cannot be read forwarding stops, and says so for as long as
// it lasts; intake goes on.
func TestUnreadableJournal(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		host := &statusHost{Host: componenttest.NewNopHost()}
		sink := newStockFake(func(context.Context, []string) error { return errors.New("down") })
		p, _ := startOn(t, config, sink, host)
		time.Sleep(time.Second) // the start record is in hand
		require.NoError(t, p.ConsumeLogs(t.Context(), event("a")))
		segments, err := filepath.Glob(filepath.Join(directory, "*.segment"))
		require.NoError(t, err)
		require.Len(t, segments, 1)
		content, err := os.ReadFile(segments[0])
		require.NoError(t, err)
		at := bytes.Index(content, []byte("user.login"))
		require.Positive(t, at)
		content[at] ^= 1
		require.NoError(t, os.WriteFile(segments[0], content, 0o600))
		sink.setRule(take)
		time.Sleep(time.Minute)
		require.False(t, sink.has("a"))
		require.ErrorContains(t, host.last().Err(), "journal is damaged")
		require.NoError(t, p.ConsumeLogs(t.Context(), event("b")))
		require.Greater(t, p.forwarder.age(), 30*time.Second)
		_, records := p.journal.Backlog()
		require.EqualValues(t, 2, records)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// A replay that the consumer neither takes nor refuses does not stand in the
// way of delivery: it is given up, with a note for who asked.
func TestHangingReplayLetsDeliveryPass(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t, directory)
		sink := newStockFake(refusing("a"))
		p, _ := startOn(t, config, sink, componenttest.NewNopHost())
		require.NoError(t, p.ConsumeLogs(t.Context(), event("a")))
		time.Sleep(10 * time.Second)
		path := filepath.Join(directory, quarantineDirectory)
		listed, err := quarantine.List(path)
		require.NoError(t, err)
		require.Len(t, listed, 1)
		require.NoError(t, quarantine.Ask(path, listed[0], quarantine.Request{Action: quarantine.Replay, At: time.Now()}))
		sink.setRule(func(ctx context.Context, names []string) error {
			if slices.Contains(names, "a") {
				return hang(ctx, names)
			}
			return nil
		})
		require.NoError(t, p.ConsumeLogs(t.Context(), event("b")))
		time.Sleep(time.Second)
		require.NoError(t, p.ConsumeLogs(t.Context(), event("c")))
		time.Sleep(2 * replayTimeout)
		require.True(t, sink.has("c"))
		failure, err := quarantine.ReadFailure(path, listed[0])
		require.NoError(t, err)
		require.Contains(t, failure.Reason, "in time")
		require.Equal(t, 1, quarantined(t, config))
		require.NoError(t, p.Shutdown(t.Context()))
	})
}
