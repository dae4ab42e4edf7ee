// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/metadata"
	"github.com/otelaudit/otelaudit/auditexporter/internal/metadatatest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

const testOrigin = "host-1/00112233445566ff/20261123T090700Z-0a0b0c0d"

var testKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// sealer does to records what the audit processor does.
type sealer struct {
	tree chain.Tree
	head chain.Head
}

// batch returns n sealed records behind one resource and scope.
func (s *sealer) batch(t testing.TB, n int) plog.Logs {
	t.Helper()
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	resource.Resource().Attributes().PutStr("service.name", "shop")
	scope := resource.ScopeLogs().AppendEmpty()
	scope.Scope().SetName("audit-sdk")
	for range n {
		fillRecord(scope.LogRecords().AppendEmpty(), s.tree.Size())
		s.seal(t, resource, scope, scope.LogRecords().At(scope.LogRecords().Len()-1))
	}
	return logs
}

func fillRecord(record plog.LogRecord, number uint64) {
	record.SetEventName("order.cancelled")
	record.SetTimestamp(pcommon.Timestamp(1_790_000_000_000_000_000 + number))
	record.SetObservedTimestamp(pcommon.Timestamp(1_790_000_000_000_000_100 + number))
	attributes := record.Attributes()
	attributes.PutStr(audit.AttributeRecordID, fmt.Sprintf("0198f3c2-7d31-7aaa-8bbb-%012d", number))
	attributes.PutStr(audit.AttributeActorID, "u-4711")
	attributes.PutStr(audit.AttributeActorType, "user")
	attributes.PutStr(audit.AttributeAction, "order.cancel")
	attributes.PutStr(audit.AttributeOutcome, "success")
	attributes.PutStr(audit.AttributeTargetID, "order-99")
	attributes.PutStr(audit.AttributeTargetType, "order")
	metadata := attributes.PutEmptyMap(audit.AttributeMetadata)
	metadata.PutStr("note", strings.Repeat("customer asked for it; ", 16))
	metadata.PutInt("lines", 3)
	attributes.PutStr(audit.AttributeCollectorTenant, "acme")
}

func (s *sealer) seal(t testing.TB, resource plog.ResourceLogs, scope plog.ScopeLogs, record plog.LogRecord) {
	t.Helper()
	var encoder canonical.Encoder
	require.NoError(t, encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()))
	event, _, err := encoder.Append(nil, record)
	require.NoError(t, err)
	link := chain.Link{
		Origin: testOrigin, Index: s.tree.Size(), Stream: "tenant:acme", Seq: s.head.Seq + 1,
		SealedAt: int64(record.ObservedTimestamp()), Prev: s.head.Hash, Digest: sha256.Sum256(event),
	}
	s.head = chain.Head{Seq: link.Seq, Hash: link.Hash()}
	s.tree.Append(s.head.Hash)
	attributes := record.Attributes()
	attributes.PutStr(audit.AttributeChainOrigin, link.Origin)
	attributes.PutInt(audit.AttributeChainIndex, int64(link.Index))
	attributes.PutStr(audit.AttributeChainStream, link.Stream)
	attributes.PutInt(audit.AttributeChainSeq, int64(link.Seq))
	attributes.PutInt(audit.AttributeChainSealedAt, link.SealedAt)
	attributes.PutStr(audit.AttributeChainPrev, link.Prev.String())
	attributes.PutStr(audit.AttributeChainHash, s.head.Hash.String())
}

// checkpoint appends a checkpoint in band to logs.
func (s *sealer) checkpoint(t testing.TB, logs plog.Logs) {
	t.Helper()
	signed, err := chain.SignCheckpoint(
		chain.Checkpoint{Origin: testOrigin, Size: s.tree.Size(), Root: s.tree.Root()}, testKey)
	require.NoError(t, err)
	record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.Attributes().PutStr(audit.AttributeChainOrigin, testOrigin)
	record.Attributes().PutInt(audit.AttributeChainIndex, int64(s.tree.Size()))
	record.Attributes().PutStr(audit.AttributeChainCheckpoint, string(signed))
	list := record.Attributes().PutEmptySlice(audit.AttributeChainRange)
	for _, hash := range s.tree.Range() {
		list.AppendEmpty().SetStr(hash.String())
	}
}

func first(logs plog.Logs) plog.LogRecord {
	return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
}

func clone(logs plog.Logs) plog.Logs {
	copied := plog.NewLogs()
	logs.CopyTo(copied)
	return copied
}

// statusHost remembers what the exporter reports.
type statusHost struct {
	component.Host
	mu     sync.Mutex
	events []*componentstatus.Event
}

func (h *statusHost) Report(event *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
}

func (h *statusHost) statuses() []componentstatus.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []componentstatus.Status
	for _, event := range h.events {
		list = append(list, event.Status())
	}
	return list
}

type fixture struct {
	exporter.Logs
	host      *statusHost
	telemetry *componenttest.Telemetry
	logs      *observer.ObservedLogs
	directory string
}

func start(t testing.TB, directory string) *fixture {
	t.Helper()
	return startWith(t, directory, func(*Config) {})
}

// startWith starts an exporter whose sink refuses lines of more than 4 KiB, with
// changes to its configuration.
func startWith(t testing.TB, directory string, change func(*Config)) *fixture {
	t.Helper()
	config := createDefaultConfig().(*Config)
	config.File = configoptional.Some(FileConfig{Directory: directory, MaxFileBytes: defaultFileBytes, MaxLineBytes: minLineBytes})
	change(config)
	telemetry := componenttest.NewTelemetry()
	core, logged := observer.New(zap.DebugLevel)
	set := exportertest.NewNopSettings(metadata.Type)
	set.ID = component.MustNewIDWithName("audit", "archive")
	set.TelemetrySettings = telemetry.NewTelemetrySettings()
	set.Logger = zap.New(core)
	e, err := NewFactory().CreateLogs(t.Context(), set, config)
	require.NoError(t, err)
	host := &statusHost{Host: componenttest.NewNopHost()}
	require.NoError(t, e.Start(t.Context(), host))
	t.Cleanup(func() {
		assert.NoError(t, e.Shutdown(context.Background()))
		assert.NoError(t, telemetry.Shutdown(context.Background()))
	})
	return &fixture{Logs: e, host: host, telemetry: telemetry, logs: logged, directory: directory}
}

// stored returns the lines of all files.
func (f *fixture) stored(t testing.TB) []audit.Line {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(f.directory, "*", "*", "*", "*.jsonl"))
	require.NoError(t, err)
	var lines []audit.Line
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for line := range bytes.Lines(text) {
			parsed, err := audit.ParseLine(bytes.TrimSuffix(line, []byte("\n")))
			require.NoError(t, err)
			lines = append(lines, parsed)
		}
	}
	return lines
}

func TestStores(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	logs := s.batch(t, 3)
	s.checkpoint(t, logs)
	logs.MarkReadOnly()
	require.NoError(t, f.ConsumeLogs(t.Context(), logs))

	lines := f.stored(t)
	require.Len(t, lines, 4)
	for i, line := range lines[:3] {
		require.Equal(t, audit.LineEvent, line.Kind)
		line.Link.Digest = sha256.Sum256(line.Event)
		assert.Equal(t, line.Hash, line.Link.Hash())
		assert.EqualValues(t, i, line.Link.Index)
		parsed, err := canonical.Parse(line.Event)
		require.NoError(t, err)
		id, _ := first(parsed).Attributes().Get(audit.AttributeRecordID)
		assert.Equal(t, fmt.Sprintf("0198f3c2-7d31-7aaa-8bbb-%012d", i), id.Str())
		tenant, ok := first(parsed).Attributes().Get(audit.AttributeCollectorTenant)
		assert.True(t, ok)
		assert.Equal(t, "acme", tenant.Str())
	}
	c, _, err := chain.OpenCheckpoint(lines[3].Note, []ed25519.PublicKey{testKey.Public().(ed25519.PublicKey)})
	require.NoError(t, err)
	assert.Equal(t, chain.Checkpoint{Origin: testOrigin, Size: 3, Root: s.tree.Root()}, c)
	assert.Equal(t, s.tree.Range(), lines[3].Range)
	assert.Empty(t, f.host.statuses())
}

func TestRedelivery(t *testing.T) {
	directory := t.TempDir()
	var s sealer
	logs := s.batch(t, 3)
	s.checkpoint(t, logs)
	before := start(t, directory)
	require.NoError(t, before.ConsumeLogs(t.Context(), logs))
	require.NoError(t, before.Shutdown(t.Context()))

	f := start(t, directory)
	require.NoError(t, f.ConsumeLogs(t.Context(), logs))
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 2)))
	assert.Len(t, f.stored(t), 6)
	assertCount(t, f, 2, metadatatest.AssertEqualExporterAuditStoredRecords)
	assertCount(t, f, 4, metadatatest.AssertEqualExporterAuditRepeatedLines)
}

func TestUnsealedIsRefused(t *testing.T) {
	f := start(t, t.TempDir())
	logs := plog.NewLogs()
	fillRecord(logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty(), 1)
	err := f.ConsumeLogs(t.Context(), logs)
	require.Error(t, err)
	assert.True(t, consumererror.IsPermanent(err))
	require.ErrorContains(t, err, "put one before this exporter in the pipeline")
	assert.Empty(t, f.stored(t))
}

// changes are what somebody behind the seal may do to the first record of a
// batch of two and its checkpoint. None of it may be stored.
var changes = map[string]func(plog.Logs){
	"body":             func(l plog.Logs) { first(l).Body().SetStr("hush") },
	"attribute":        func(l plog.Logs) { first(l).Attributes().PutStr(audit.AttributeOutcome, "hush") },
	"attribute gone":   func(l plog.Logs) { first(l).Attributes().Remove(audit.AttributeOutcome) },
	"collector":        func(l plog.Logs) { first(l).Attributes().PutStr(audit.AttributeCollectorTenant, "hush") },
	"severity":         func(l plog.Logs) { first(l).SetSeverityText("hush") },
	"event name":       func(l plog.Logs) { first(l).SetEventName("hush") },
	"time":             func(l plog.Logs) { first(l).SetTimestamp(7) },
	"time not encoded": func(l plog.Logs) { first(l).SetTimestamp(1 << 63) },
	"not UTF-8":        func(l plog.Logs) { first(l).Body().SetStr("hush\xff") },
	"resource":         func(l plog.Logs) { l.ResourceLogs().At(0).Resource().Attributes().PutStr("k", "hush") },
	"resource not UTF-8": func(l plog.Logs) {
		l.ResourceLogs().At(0).Resource().Attributes().PutStr("k", "hush\xff")
	},
	"scope":            func(l plog.Logs) { l.ResourceLogs().At(0).ScopeLogs().At(0).Scope().SetName("hush") },
	"schema":           func(l plog.Logs) { l.ResourceLogs().At(0).SetSchemaUrl("hush") },
	"origin":           put(audit.AttributeChainOrigin, strings.Replace(testOrigin, "0a0b", "0a0c", 1)),
	"origin is a path": put(audit.AttributeChainOrigin, "../00112233445566ff/20261123T090700Z-0a0b0c0d"),
	"origin is none":   put(audit.AttributeChainOrigin, "x"),
	"origin type":      put(audit.AttributeChainOrigin, 7),
	"index":            put(audit.AttributeChainIndex, 7),
	"index negative":   put(audit.AttributeChainIndex, -1),
	"index type":       put(audit.AttributeChainIndex, "0"),
	"stream":           put(audit.AttributeChainStream, "tenant:other"),
	"stream empty":     put(audit.AttributeChainStream, ""),
	"stream long":      put(audit.AttributeChainStream, strings.Repeat("s", chain.MaxName+1)),
	"stream not UTF-8": put(audit.AttributeChainStream, "\xff"),
	"seq":              put(audit.AttributeChainSeq, 2),
	"seq zero":         put(audit.AttributeChainSeq, 0),
	"sealed_at":        put(audit.AttributeChainSealedAt, 1),
	"sealed_at type":   put(audit.AttributeChainSealedAt, "1"),
	"prev":             put(audit.AttributeChainPrev, strings.Repeat("ab", 32)),
	"hash":             put(audit.AttributeChainHash, strings.Repeat("ab", 32)),
	"hash upper case":  put(audit.AttributeChainHash, strings.Repeat("AB", 32)),
	"hash type":        put(audit.AttributeChainHash, 7),
	"hash missing":     func(l plog.Logs) { first(l).Attributes().Remove(audit.AttributeChainHash) },
	"unknown":          put(audit.PrefixChain+"more", "hush"),
	"index twice": func(l plog.Logs) {
		// Only what comes off the wire can hold a key twice.
		const placeholder = audit.PrefixChain + "indeX"
		first(l).Attributes().PutInt(placeholder, 0)
		text, err := (&plog.ProtoMarshaler{}).MarshalLogs(l)
		if err != nil {
			panic(err)
		}
		text = bytes.Replace(text, []byte(placeholder), []byte(audit.AttributeChainIndex), 1)
		twice, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(text)
		if err != nil {
			panic(err)
		}
		twice.CopyTo(l)
	},
	"checkpoint note":    putCheckpoint(audit.AttributeChainCheckpoint, "hush"),
	"checkpoint type":    putCheckpoint(audit.AttributeChainCheckpoint, 7),
	"checkpoint size":    putCheckpoint(audit.AttributeChainIndex, 3),
	"checkpoint more":    putCheckpoint("k", "hush"),
	"checkpoint range":   putCheckpoint(audit.AttributeChainRange, "hush"),
	"checkpoint no hash": func(l plog.Logs) { last(l).Attributes().PutEmptySlice(audit.AttributeChainRange) },
	"checkpoint other hash": func(l plog.Logs) {
		last(l).Attributes().PutEmptySlice(audit.AttributeChainRange).AppendEmpty().SetStr(strings.Repeat("ab", 32))
	},
	"checkpoint many hashes": func(l plog.Logs) {
		list := last(l).Attributes().PutEmptySlice(audit.AttributeChainRange)
		for range maxRange + 1 {
			list.AppendEmpty().SetStr(strings.Repeat("ab", 32))
		}
	},
	"checkpoint is sealed": func(l plog.Logs) {
		first(l).Attributes().PutStr(audit.AttributeChainCheckpoint, "hush")
	},
}

func last(logs plog.Logs) plog.LogRecord {
	return logs.ResourceLogs().At(1).ScopeLogs().At(0).LogRecords().At(0)
}

func put(name string, value any) func(plog.Logs) {
	return func(l plog.Logs) { set(first(l), name, value) }
}

func putCheckpoint(name string, value any) func(plog.Logs) {
	return func(l plog.Logs) { set(last(l), name, value) }
}

func set(record plog.LogRecord, name string, value any) {
	if err := record.Attributes().PutEmpty(name).FromRaw(value); err != nil {
		panic(err)
	}
}

func TestMismatchStoresNothing(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			f := start(t, t.TempDir())
			var s sealer
			logs := s.batch(t, 2)
			s.checkpoint(t, logs)
			changed := clone(logs)
			change(changed)
			for range 2 {
				err := f.ConsumeLogs(t.Context(), changed)
				require.ErrorIs(t, err, errMismatch)
				assert.False(t, consumererror.IsPermanent(err))
				assert.NotContains(t, err.Error(), "hush")
			}
			assert.Empty(t, f.stored(t))
			assertCount(t, f, 2, metadatatest.AssertEqualExporterAuditDigestMismatches)
			assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError}, f.host.statuses())

			require.NoError(t, f.ConsumeLogs(t.Context(), logs))
			require.NoError(t, f.ConsumeLogs(t.Context(), logs))
			assert.Equal(t, []componentstatus.Status{
				componentstatus.StatusRecoverableError, componentstatus.StatusOK,
			}, f.host.statuses())
			assert.Len(t, f.stored(t), 3)
		})
	}
}

func TestMismatchNamesCoordinate(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	s.batch(t, 5)
	logs := s.batch(t, 1)
	first(logs).Body().SetStr("changed")
	err := f.ConsumeLogs(t.Context(), logs)
	assert.ErrorContains(t, err, "origin "+testOrigin+", index 5")
}

func TestConflict(t *testing.T) {
	f := start(t, t.TempDir())
	var s, forked sealer
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 2)))
	other := plog.NewLogs()
	resource := other.ResourceLogs().AppendEmpty()
	scope := resource.ScopeLogs().AppendEmpty()
	fillRecord(scope.LogRecords().AppendEmpty(), 77)
	forked.seal(t, resource, scope, scope.LogRecords().At(0))
	err := f.ConsumeLogs(t.Context(), other)
	require.ErrorIs(t, err, sink.ErrConflict)
	require.ErrorIs(t, err, receipt.ErrConflict, "the forwarder must see the alarm")
	assert.False(t, consumererror.IsPermanent(err))
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditConflicts)
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError}, f.host.statuses())
	assert.Len(t, f.stored(t), 2)
}

// Who waits for the delivery hears of each attempt, and how it ended.
func TestAttemptsAreTold(t *testing.T) {
	f := start(t, t.TempDir())
	var told []receipt.Attempt
	consume := func(logs plog.Logs) error {
		d := &receipt.Delivery{Attempted: func(a receipt.Attempt) { told = append(told, a) }}
		return f.ConsumeLogs(receipt.WithDelivery(t.Context(), d), logs)
	}
	var s, forked sealer
	require.NoError(t, consume(s.batch(t, 2)))
	other := plog.NewLogs()
	resource := other.ResourceLogs().AppendEmpty()
	scope := resource.ScopeLogs().AppendEmpty()
	fillRecord(scope.LogRecords().AppendEmpty(), 77)
	forked.seal(t, resource, scope, scope.LogRecords().At(0))
	require.Error(t, consume(other))
	require.Len(t, told, 2)
	assert.Equal(t, "file", told[0].Type)
	assert.NotEmpty(t, told[0].Sink)
	assert.Empty(t, told[0].Code)
	assert.Equal(t, receipt.CodeConflict, told[1].Code)
}

func TestSecondExporterOnDirectory(t *testing.T) {
	f := start(t, t.TempDir())
	config := createDefaultConfig().(*Config)
	config.File = configoptional.Some(FileConfig{Directory: f.directory, MaxFileBytes: defaultFileBytes, MaxLineBytes: minLineBytes})
	e, err := NewFactory().CreateLogs(t.Context(), exportertest.NewNopSettings(metadata.Type), config)
	require.NoError(t, err)
	require.ErrorIs(t, e.Start(t.Context(), componenttest.NewNopHost()), durable.ErrLocked)
	require.NoError(t, e.Shutdown(t.Context()))
}

// A disk that refuses is told to the collector, and nothing is lost by it.
func TestUnwritable(t *testing.T) {
	f := start(t, t.TempDir())
	obstacle := filepath.Join(f.directory, "host-1")
	require.NoError(t, os.WriteFile(obstacle, nil, 0o600))
	var s sealer
	logs := s.batch(t, 2)
	err := f.ConsumeLogs(t.Context(), logs)
	require.Error(t, err)
	assert.False(t, consumererror.IsPermanent(err))
	assertFailures(t, f, 1, "outage")
	require.NoError(t, os.Remove(obstacle))
	require.NoError(t, f.ConsumeLogs(t.Context(), logs))
	assert.Len(t, f.stored(t), 2)
	assert.Equal(t, []componentstatus.Status{
		componentstatus.StatusRecoverableError, componentstatus.StatusOK,
	}, f.host.statuses())
}

func assertFailures(t *testing.T, f *fixture, want int64, cause string) {
	t.Helper()
	assertCountOf(t, f, want, metadatatest.AssertEqualExporterAuditWriteFailures,
		attribute.NewSet(attribute.String("exporter", "audit/archive"), attribute.String("cause", cause)))
}

func TestFileTelemetry(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 2)))
	path := filepath.Join(f.directory, filepath.FromSlash(testOrigin), "00000000000000000000.jsonl")
	info, err := os.Stat(path)
	require.NoError(t, err)
	assertCount(t, f, info.Size(), metadatatest.AssertEqualExporterAuditWrittenBytes)
	latency, err := f.telemetry.GetMetric("otelcol_exporter_audit_sync_duration")
	require.NoError(t, err)
	assert.NotNil(t, latency.Data)
}

type assertMetric func(
	*testing.T, *componenttest.Telemetry, []metricdata.DataPoint[int64], ...metricdatatest.Option)

func assertCount(t *testing.T, f *fixture, want int64, assertEqual assertMetric) {
	t.Helper()
	assertCountOf(t, f, want, assertEqual, attribute.NewSet(attribute.String("exporter", "audit/archive")))
}

func assertCountOf(t *testing.T, f *fixture, want int64, assertEqual assertMetric, attributes attribute.Set) {
	t.Helper()
	assertEqual(t, f.telemetry, []metricdata.DataPoint[int64]{{Value: want, Attributes: attributes}},
		metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
}

// The log says how long the breaker stays open, with the unit.
func TestBreakerWarningHasAUnit(t *testing.T) {
	f := startWith(t, t.TempDir(), func(c *Config) {
		c.CircuitBreaker = CircuitBreakerConfig{FailureThreshold: 1, Cooldown: 90 * time.Second, HalfOpenMaxInFlight: 1}
	})
	f.obstruct(t)
	var s sealer
	require.Error(t, f.ConsumeLogs(t.Context(), s.batch(t, 1)))
	warnings := f.logs.FilterMessageSnippet("the circuit breaker is open").All()
	require.Len(t, warnings, 1)
	text, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{EncodeDuration: zapcore.SecondsDurationEncoder}).
		EncodeEntry(warnings[0].Entry, warnings[0].Context)
	require.NoError(t, err)
	assert.Contains(t, text.String(), `"cooldown":"1m30s"`)
}

// Many callers at once, as a queue with several consumers has them.
func TestConcurrent(t *testing.T) {
	f := start(t, t.TempDir())
	var s sealer
	var group sync.WaitGroup
	for range 8 {
		logs := s.batch(t, 5)
		s.checkpoint(t, logs)
		logs.MarkReadOnly()
		for range 2 {
			group.Go(func() { assert.NoError(t, f.ConsumeLogs(t.Context(), logs)) })
		}
	}
	group.Wait()
	assert.Len(t, f.stored(t), 8*6)
}

func BenchmarkConsume(b *testing.B) {
	f := start(b, b.TempDir())
	var s sealer
	batches := make([]plog.Logs, b.N)
	for i := range batches {
		batches[i] = s.batch(b, 512)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, logs := range batches {
		if err := f.ConsumeLogs(b.Context(), logs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/event")
}
