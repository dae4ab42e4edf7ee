// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/metadata"
	"github.com/otelaudit/otelaudit/auditexporter/internal/metadatatest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/quarantine"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// poisoned returns three sealed records, the second with a line that is too
// long, and a checkpoint.
func (s *sealer) poisoned(t *testing.T) plog.Logs {
	t.Helper()
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	scope := resource.ScopeLogs().AppendEmpty()
	for i := range 3 {
		record := scope.LogRecords().AppendEmpty()
		fillRecord(record, s.tree.Size())
		if i == 1 {
			record.Body().SetStr(strings.Repeat("hush", minLineBytes/4))
		}
		s.seal(t, resource, scope, record)
	}
	s.checkpoint(t, logs)
	logs.MarkReadOnly()
	return logs
}

var poison = quarantine.Coordinate{Origin: testOrigin, Index: 1}

// deliver is one call of the processor's forwarder: it returns what it has to
// seal.
func (f *fixture) deliver(t *testing.T, logs plog.Logs) []receipt.Report {
	t.Helper()
	d := &receipt.Delivery{}
	require.NoError(t, f.ConsumeLogs(receipt.WithDelivery(t.Context(), d), logs))
	return d.Take()
}

func (f *fixture) quarantine() string { return f.directory + ".quarantine" }

// kinds returns the kinds of the stored lines in order.
func (f *fixture) kinds(t *testing.T) []audit.LineKind {
	t.Helper()
	var kinds []audit.LineKind
	for _, line := range f.stored(t) {
		kinds = append(kinds, line.Kind)
	}
	return kinds
}

var withStub = []audit.LineKind{audit.LineEvent, audit.LineStub, audit.LineEvent, audit.LineCheckpoint}

// assertHeld says that the long record is in quarantine, whole.
func (f *fixture) assertHeld(t *testing.T) quarantine.Entry {
	t.Helper()
	held, err := quarantine.Read(f.quarantine(), poison)
	require.NoError(t, err)
	assert.Equal(t, held.Link.Digest, chain.Hash(sha256.Sum256(held.Event)))
	assert.Contains(t, string(held.Event), "hush")
	return held
}

// assertEmpty says that nothing is in quarantine and nothing asked.
func (f *fixture) assertEmpty(t *testing.T) {
	t.Helper()
	held, err := quarantine.List(f.quarantine())
	require.NoError(t, err)
	assert.Empty(t, held)
	f.assertNothingAsked(t)
}

func (f *fixture) assertNothingAsked(t *testing.T) {
	t.Helper()
	asked, err := quarantine.Requests(f.quarantine(), 10)
	require.NoError(t, err)
	assert.Empty(t, asked)
}

func (f *fixture) assertNoContentInLogs(t *testing.T) {
	t.Helper()
	for _, entry := range f.logs.All() {
		for _, field := range entry.Context {
			assert.NotContains(t, field.String, "hush")
			if err, ok := field.Interface.(error); ok {
				assert.NotContains(t, err.Error(), "hush")
			}
		}
	}
}

func ask(t *testing.T, f *fixture, action quarantine.Action, reason string) {
	t.Helper()
	request := quarantine.Request{Action: action, At: time.Unix(1_800_000_000, 0), Reason: reason}
	require.NoError(t, quarantine.Ask(f.quarantine(), poison, request))
}

// failure returns why the last request failed.
func (f *fixture) failure(t *testing.T) string {
	t.Helper()
	failed, err := quarantine.ReadFailure(f.quarantine(), poison)
	require.NoError(t, err)
	return failed.Reason
}

func TestRefusedGoesToQuarantine(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	reports := f.deliver(t, s.poisoned(t))
	assert.Equal(t, withStub, f.kinds(t))
	stub := f.stored(t)[1]
	held := f.assertHeld(t)
	assert.Equal(t, held.Hash, stub.Hash)
	assert.Equal(t, held.Link, stub.Link)
	assert.Equal(t, "audit/archive", held.Sink)
	assert.WithinDuration(t, time.Now(), held.At, time.Minute)
	assert.Equal(t, []receipt.Report{{
		Action: receipt.Quarantined, Origin: testOrigin, Index: 1, Digest: held.Link.Digest,
		Sink: "audit/archive", Reason: held.Reason,
	}}, reports)
	assert.Contains(t, held.Reason, "longer than `file::max_line_bytes`, 4096")

	assertCount(t, f, 2, metadatatest.AssertEqualExporterAuditStoredRecords)
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditQuarantinedRecords)
	assert.Empty(t, f.host.statuses())
	assert.Equal(t, 1, f.logs.FilterMessageSnippet("refuses audit records for good").Len())
	f.assertNoContentInLogs(t)
}

// However many records of a batch are refused, each is reported and the log has
// one line.
func TestManyRefusedAreOneLine(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	logs := s.poisoned(t)
	both := plog.NewLogs()
	logs.CopyTo(both)
	s.poisoned(t).ResourceLogs().At(0).CopyTo(both.ResourceLogs().AppendEmpty())
	assert.Len(t, f.deliver(t, both), 2)
	lines := f.logs.FilterMessageSnippet("refuses audit records for good").All()
	require.Len(t, lines, 1)
	assert.EqualValues(t, 2, lines[0].ContextMap()["records"])
}

// A crash before the report was sealed, another exporter that failed: the
// record comes again and is reported again, and only a replay stores it.
func TestRefusedComesAgain(t *testing.T) {
	directory := t.TempDir()
	f := start(t, directory)
	var s sealer
	logs := s.poisoned(t)
	first := f.deliver(t, logs)
	require.Len(t, first, 1)
	assert.Equal(t, first, f.deliver(t, logs))
	require.NoError(t, f.Shutdown(t.Context()))

	f = startWith(t, directory, func(c *Config) { c.File.Get().MaxLineBytes = defaultLineBytes })
	assert.Equal(t, first, f.deliver(t, logs), "also under another limit")
	assert.Equal(t, withStub, f.kinds(t))
	assertCount(t, f, 4, metadatatest.AssertEqualExporterAuditRepeatedLines)

	require.NoError(t, os.RemoveAll(f.quarantine()))
	again := f.deliver(t, logs)
	require.Len(t, again, 1)
	assert.Contains(t, again[0].Reason, "it was refused before")
	f.assertHeld(t)
}

// The stub that gives a record up in the store must not be there before the
// record is safe.
func TestNoStubWithoutQuarantine(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	logs := s.poisoned(t)
	records := filepath.Join(f.quarantine(), "records")
	require.NoError(t, os.Remove(records))
	require.NoError(t, os.WriteFile(records, nil, 0o600))
	d := &receipt.Delivery{}
	err := f.ConsumeLogs(receipt.WithDelivery(t.Context(), d), logs)
	require.ErrorContains(t, err, records)
	assert.False(t, consumererror.IsPermanent(err))
	assert.Empty(t, d.Take())
	assert.NotContains(t, f.kinds(t), audit.LineStub)
	assertFailures(t, f, 1, "outage")

	require.NoError(t, os.Remove(records))
	assert.Len(t, f.deliver(t, logs), 1)
	assert.Equal(t, withStub, f.kinds(t))
	assert.Equal(t, []componentstatus.Status{
		componentstatus.StatusRecoverableError, componentstatus.StatusOK,
	}, f.host.statuses())
}

// Another content in quarantine under the coordinate is as alarming as in the
// sink.
func TestConflictInQuarantine(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	require.NoError(t, quarantine.Put(f.quarantine(), other()))
	err := f.ConsumeLogs(t.Context(), s.poisoned(t))
	require.ErrorIs(t, err, receipt.ErrConflict)
	assert.NotContains(t, f.kinds(t), audit.LineStub)
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditConflicts)
}

// other is another record at the coordinate of the poison.
func other() *quarantine.Entry {
	event := []byte(`{"record":{"body":{"stringValue":"hush"}}}`)
	link := chain.Link{Origin: testOrigin, Index: 1, Stream: "tenant:acme", Seq: 2, Prev: sha256.Sum256(nil), Digest: sha256.Sum256(event)}
	return &quarantine.Entry{Link: link, Hash: link.Hash(), Sink: "audit/archive", Reason: "forged", At: time.Unix(1, 0), Event: event}
}

func TestQueueKeepsTheWayBack(t *testing.T) {
	f := startWith(t, t.TempDir(), func(c *Config) { c.Queue = configoptional.Some(*c.Queue.GetOrInsertDefault()) })
	var s sealer
	assert.Len(t, f.deliver(t, s.poisoned(t)), 1)
	ask(t, f, quarantine.Drop, "ticket 7")
	reports := f.deliver(t, s.batch(t, 1))
	require.Len(t, reports, 1)
	assert.Equal(t, receipt.Dropped, reports[0].Action)
}

// Where nobody listens the record is as safe, and people are told.
func TestNobodySeals(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	require.NoError(t, f.ConsumeLogs(t.Context(), s.poisoned(t)))
	assert.Equal(t, withStub, f.kinds(t))
	f.assertHeld(t)
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditUnsealedReports)
	assert.Equal(t, 1, f.logs.FilterMessageSnippet("no `audit.quarantine` record will be sealed").Len())

	ask(t, f, quarantine.Drop, "ticket 7")
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 1)))
	assert.Contains(t, f.failure(t), "nobody would seal that it was dropped")
	f.assertHeld(t)
	f.assertNothingAsked(t)
}

func TestReplay(t *testing.T) {
	directory := t.TempDir()
	f := start(t, directory)
	var s sealer
	logs := s.poisoned(t)
	f.deliver(t, logs)

	ask(t, f, quarantine.Replay, "")
	assert.Empty(t, f.deliver(t, s.batch(t, 1)), "it would be refused again")
	assert.Contains(t, f.failure(t), "longer than `file::max_line_bytes`, 4096")
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditFailedRequests)
	f.assertHeld(t)
	f.assertNothingAsked(t)
	require.NoError(t, f.Shutdown(t.Context()))

	f = startWith(t, directory, func(c *Config) { c.File.Get().MaxLineBytes = defaultLineBytes })
	ask(t, f, quarantine.Replay, "limit raised")
	var reports []receipt.Report
	for range 2 { // the first delivery fails in another exporter
		reports = f.deliver(t, s.batch(t, 1))
		require.Len(t, reports, 1)
		assert.Equal(t, receipt.Replayed, reports[0].Action)
		assert.Equal(t, "limit raised", reports[0].Reason)
		assert.Equal(t, "audit/archive", reports[0].Sink)
		f.assertHeld(t)
	}
	whole := f.stored(t)[6]
	assert.Equal(t, audit.LineEvent, whole.Kind)
	assert.EqualValues(t, 1, whole.Link.Index)
	assert.Equal(t, f.assertHeld(t).Event, whole.Event)
	assert.Len(t, f.stored(t), 4+1+2+1, "stored once")

	require.NoError(t, reports[0].Sealed())
	f.assertEmpty(t)
	require.NoError(t, reports[0].Sealed(), "twice is fine")
	assert.Empty(t, f.deliver(t, logs), "it is stored")
	_, err := quarantine.ReadFailure(f.quarantine(), poison)
	require.ErrorIs(t, err, os.ErrNotExist)
	f.assertNoContentInLogs(t)
}

func TestReplayThatNobodySeals(t *testing.T) {
	directory := t.TempDir()
	f := start(t, directory)
	var s sealer
	f.deliver(t, s.poisoned(t))
	require.NoError(t, f.Shutdown(t.Context()))

	f = startWith(t, directory, func(c *Config) { c.File.Get().MaxLineBytes = defaultLineBytes })
	ask(t, f, quarantine.Replay, "")
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 1)))
	f.assertEmpty(t)
	assert.Len(t, f.stored(t), 6)
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditReplayedRecords)
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditUnsealedReports)
}

func TestDrop(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	f.deliver(t, s.poisoned(t))
	ask(t, f, quarantine.Drop, "ticket 7")
	reports := f.deliver(t, s.batch(t, 1))
	require.Len(t, reports, 1)
	held := f.assertHeld(t) // until it is sealed
	require.NotNil(t, reports[0].Sealed)
	require.NoError(t, reports[0].Sealed())
	reports[0].Sealed = nil
	assert.Equal(t, receipt.Report{
		Action: receipt.Dropped, Origin: testOrigin, Index: 1, Digest: held.Link.Digest,
		Sink: "audit/archive", Reason: "ticket 7",
	}, reports[0])
	f.assertEmpty(t)
	assert.Equal(t, append(withStub, audit.LineEvent), f.kinds(t), "the stub stays")
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditDroppedRecords)
}

// What cannot be done is told to whoever asked, and stops nothing.
func TestRequestsThatCannotBeDone(t *testing.T) {
	records := func(f *fixture) string { return only(t, filepath.Join(f.quarantine(), "records")) }
	for name, c := range map[string]struct {
		prepare func(t *testing.T, f *fixture)
		says    string
	}{
		"no stub": {func(t *testing.T, f *fixture) {
			require.NoError(t, os.RemoveAll(filepath.Join(f.directory, "host-1")))
		}, "no stub is stored"},
		"another record": {func(t *testing.T, f *fixture) {
			require.NoError(t, os.Remove(records(f)))
			require.NoError(t, quarantine.Put(f.quarantine(), other()))
		}, "coordinate is stored with other content"},
		"damaged record": {func(t *testing.T, f *fixture) {
			require.NoError(t, os.WriteFile(records(f), []byte("hush"), 0o600))
		}, "malformed file"},
		"damaged request": {func(t *testing.T, f *fixture) {
			request := only(t, filepath.Join(f.quarantine(), "requests"))
			require.NoError(t, os.WriteFile(request, []byte("hush"), 0o600))
		}, "malformed file"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, t.TempDir())
			var s sealer
			f.deliver(t, s.poisoned(t))
			ask(t, f, quarantine.Replay, "")
			c.prepare(t, f)
			if name == "no stub" {
				require.NoError(t, f.Shutdown(t.Context()))
				f = start(t, f.directory)
			}
			assert.Empty(t, f.deliver(t, s.batch(t, 1)))
			assert.Contains(t, f.failure(t), c.says)
			assert.NotContains(t, f.failure(t), "hush")
			f.assertNothingAsked(t)
			assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditFailedRequests)
			f.assertNoContentInLogs(t)
		})
	}
}

// only returns the one file of a folder.
func only(t *testing.T, folder string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.json"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	return names[0]
}

// A crash between the removals of a record and of its request.
func TestRequestWithoutRecord(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	f.deliver(t, s.poisoned(t))
	ask(t, f, quarantine.Drop, "ticket 7")
	require.NoError(t, os.Remove(only(t, filepath.Join(f.quarantine(), "records"))))
	assert.Empty(t, f.deliver(t, s.batch(t, 1)))
	f.assertEmpty(t)
	assert.Empty(t, f.logs.FilterMessageSnippet("cannot be done").All())
}

// However much is asked at once, a delivery does a bounded part of it.
func TestRequestsAreDoneInParts(t *testing.T) {
	f := start(t, t.TempDir())
	for i := range uint64(maxRequests + 3) {
		e := other()
		e.Link.Index = i
		e.Hash = e.Link.Hash()
		require.NoError(t, quarantine.Put(f.quarantine(), e))
		require.NoError(t, quarantine.Ask(f.quarantine(), e.Coordinate(),
			quarantine.Request{Action: quarantine.Drop, At: e.At, Reason: "ticket 7"}))
	}
	var s sealer
	for _, want := range []int{maxRequests, 3, 0} {
		reports := f.deliver(t, s.batch(t, 1))
		require.Len(t, reports, want)
		for _, r := range reports {
			require.NoError(t, r.Sealed())
		}
	}
}

// What the deadline cuts, the next delivery goes on with.
func TestDeadlineCutsNoRequest(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	f.deliver(t, s.poisoned(t))
	ask(t, f, quarantine.Replay, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := &ward{directory: f.quarantine()}
	w.answer(ctx)
	asked, err := quarantine.Requests(f.quarantine(), 10)
	require.NoError(t, err)
	assert.Equal(t, []quarantine.Coordinate{poison}, asked)
}

func TestSecondExporterOnQuarantine(t *testing.T) {
	f := start(t, t.TempDir())
	config := createDefaultConfig().(*Config)
	config.File = configoptional.Some(FileConfig{Directory: t.TempDir(), MaxFileBytes: defaultFileBytes, MaxLineBytes: minLineBytes})
	config.Quarantine.Directory = f.quarantine()
	e, err := NewFactory().CreateLogs(t.Context(), exportertest.NewNopSettings(metadata.Type), config)
	require.NoError(t, err)
	err = e.Start(t.Context(), componenttest.NewNopHost())
	require.ErrorIs(t, err, durable.ErrLocked)
	require.ErrorContains(t, err, "`quarantine::directory`")
	require.NoError(t, e.Shutdown(t.Context()))
	start(t, config.File.Get().Directory) // its lock is free again
}

// Once it is closed the directory is somebody else's: nothing in it is changed
// any more.
func TestClosedQuarantineIsLeftAlone(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	d := &receipt.Delivery{}
	require.NoError(t, f.ConsumeLogs(receipt.WithDelivery(t.Context(), d), s.poisoned(t)))
	ask(t, f, quarantine.Drop, "not needed")
	drops := f.deliver(t, s.batch(t, 1))
	require.Len(t, drops, 1)
	require.NoError(t, f.Shutdown(t.Context()))
	require.ErrorIs(t, drops[0].Sealed(), sink.ErrClosed)
	f.assertHeld(t)
	_, err := f.telemetry.GetMetric("otelcol_exporter_audit_dropped_records")
	require.Error(t, err, "the next start does it, and counts it then")
}
