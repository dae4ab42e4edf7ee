// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/auditexporter/internal/httpsink/receivertest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/metadatatest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// optional makes the fixture's sink one that is not required.
func optional(c *Config) {
	c.Required = false
	c.Queue = configoptional.Some(optionalQueue())
	c.Retry.InitialInterval = time.Millisecond
	c.Retry.MaxInterval = 10 * time.Millisecond
	c.CircuitBreaker.Cooldown = 10 * time.Millisecond
}

// obstruct makes the file sink fail, until the returned function is called.
func (f *fixture) obstruct(t *testing.T) (clear func()) {
	t.Helper()
	obstacle := filepath.Join(f.directory, "host-1")
	require.NoError(t, os.WriteFile(obstacle, nil, 0o600))
	return func() { require.NoError(t, os.Remove(obstacle)) }
}

// gate is a sink whose Write waits until it is opened.
type gate struct {
	sink.Sink
	began chan struct{}
	open  chan struct{}
	once  sync.Once
}

func (g *gate) Write(ctx context.Context, entries []sink.Entry, refuse sink.Refuse) (sink.Result, error) {
	g.once.Do(func() { close(g.began) })
	select {
	case <-g.open:
	case <-ctx.Done():
		return sink.Result{}, ctx.Err()
	}
	return g.Sink.Write(ctx, entries, refuse)
}

// What can be said of an optional sink is how its last attempt ended.
func TestOptionalSinkTellsHowItIs(t *testing.T) {
	f := startWith(t, t.TempDir(), optional)
	var s sealer
	told := make(chan receipt.Attempt, 1)
	consume := func() receipt.Attempt {
		d := &receipt.Delivery{Attempted: func(a receipt.Attempt) { told <- a }}
		require.NoError(t, f.ConsumeLogs(receipt.WithDelivery(t.Context(), d), s.batch(t, 1)))
		return <-told
	}
	clear := f.obstruct(t)
	first := consume()
	assert.True(t, first.Optional)
	assert.Equal(t, "file", first.Type)
	assert.Empty(t, first.Code, "nothing was attempted yet")
	require.Eventually(t, func() bool { return consume().Code == receipt.CodeFailed }, time.Minute, time.Millisecond)
	clear()
	require.Eventually(t, func() bool { return consume().Code == "" }, time.Minute, time.Millisecond)
}

func TestOptionalSinkIsRetriedUntilItTakes(t *testing.T) {
	f := startWith(t, t.TempDir(), optional)
	clear := f.obstruct(t)
	var s sealer
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 2)))
	require.Eventually(t, func() bool { return len(f.host.statuses()) > 0 }, time.Minute, time.Millisecond)
	clear()
	require.Eventually(t, func() bool { return len(f.stored(t)) == 2 }, time.Minute, time.Millisecond)
}

// Whatever happens to an optional sink, nobody waits for it, and what it misses
// is counted.
func TestOptionalSinkNeverDelays(t *testing.T) {
	f := startWith(t, t.TempDir(), func(c *Config) {
		optional(c)
		c.Queue.Get().QueueSize = 64 << 10
		c.Timeout.Timeout = 0
	})
	audit := f.Logs.(*optionalLogs).worker.audit
	g := &gate{Sink: audit.sink, began: make(chan struct{}), open: make(chan struct{})}
	audit.sink = g
	var s sealer
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 2)))
	<-g.began
	for range 100 {
		require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 10)))
	}
	assert.Len(t, f.logs.FilterMessageSnippet("misses records").All(), 1, "said once")
	close(g.open)
	var stored int
	require.Eventually(t, func() bool {
		stored = len(f.stored(t))
		return stored >= 12
	}, time.Minute, time.Millisecond)
	require.NoError(t, f.Shutdown(t.Context()))
	stored = len(f.stored(t))
	assert.Less(t, stored, 1002)
	assertCount(t, f, int64(1002-stored), metadatatest.AssertEqualExporterAuditMissedRecords)
}

// A shutdown does not wait for a sink that is away: what it has not is missed.
func TestOptionalSinkAwayAtShutdown(t *testing.T) {
	f := startWith(t, t.TempDir(), func(c *Config) {
		optional(c)
		c.CircuitBreaker = CircuitBreakerConfig{FailureThreshold: 1, Cooldown: time.Hour, HalfOpenMaxInFlight: 1}
	})
	clear := f.obstruct(t)
	var s sealer
	for range 5 {
		require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 2)))
	}
	require.Eventually(t, func() bool { return len(f.host.statuses()) > 0 }, time.Minute, time.Millisecond)
	clear()
	start := time.Now()
	require.NoError(t, f.Shutdown(t.Context()))
	assert.Less(t, time.Since(start), time.Minute, "not the cool-down")
	stored := len(f.stored(t))
	assertCount(t, f, int64(10-stored), metadatatest.AssertEqualExporterAuditMissedRecords)
}

// Nor does it wait long for one that hangs, however much is in the queue: what
// it has not is missed.
func TestOptionalSinkHangsAtShutdown(t *testing.T) {
	f := startWith(t, t.TempDir(), func(c *Config) {
		optional(c)
		c.Timeout.Timeout = 0
	})
	audit := f.Logs.(*optionalLogs).worker.audit
	g := &gate{Sink: audit.sink, began: make(chan struct{}), open: make(chan struct{})}
	audit.sink = g
	var s sealer
	for range 20 {
		require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 2)))
	}
	<-g.began
	start := time.Now()
	require.NoError(t, f.Shutdown(t.Context()))
	assert.Less(t, time.Since(start), 10*farewell, "not once for each batch")
	assertCount(t, f, 40, metadatatest.AssertEqualExporterAuditMissedRecords)
}

// Nobody listens to what an optional sink refuses: it must not be told to a
// delivery that is over.
func TestOptionalSinkReportsToNobody(t *testing.T) {
	f := startWith(t, t.TempDir(), optional)
	var s sealer
	d := &receipt.Delivery{}
	require.NoError(t, f.ConsumeLogs(receipt.WithDelivery(t.Context(), d), s.poisoned(t)))
	require.NoError(t, f.Shutdown(t.Context()))
	assert.Empty(t, d.Take())
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditUnsealedReports)
}

// What can never be stored is missed as well, and keeps nothing back.
func TestOptionalSinkAndUnsealedRecords(t *testing.T) {
	f := startWith(t, t.TempDir(), optional)
	var s sealer
	unsealed := s.batch(t, 1)
	first(unsealed).Attributes().Clear()
	require.NoError(t, f.ConsumeLogs(t.Context(), unsealed))
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 1)))
	require.NoError(t, f.Shutdown(t.Context()))
	assert.Len(t, f.stored(t), 1)
	assertCount(t, f, 1, metadatatest.AssertEqualExporterAuditMissedRecords)
}

// While another sink is away the processor sends the same batch again and again:
// it must not fill the queue, nor be missed more than once.
func TestOptionalSinkTakesABatchOnce(t *testing.T) {
	f := startWith(t, t.TempDir(), func(c *Config) {
		optional(c)
		c.Queue.Get().QueueSize = 64 << 10
		c.Timeout.Timeout = 0
	})
	audit := f.Logs.(*optionalLogs).worker.audit
	g := &gate{Sink: audit.sink, began: make(chan struct{}), open: make(chan struct{})}
	audit.sink = g
	var s sealer
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 2)))
	<-g.began
	batch := s.batch(t, 10)
	for range 100 { // more than the queue holds
		require.NoError(t, f.ConsumeLogs(t.Context(), clone(batch)))
	}
	assert.Empty(t, f.logs.FilterMessageSnippet("misses records").All())
	large := s.batch(t, 1000)
	for range 5 {
		require.NoError(t, f.ConsumeLogs(t.Context(), clone(large)))
	}
	close(g.open)
	require.Eventually(t, func() bool { return len(f.stored(t)) == 12 }, time.Minute, time.Millisecond)
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 1)))
	assertCount(t, f, 1000, metadatatest.AssertEqualExporterAuditMissedRecords)
	last := f.logs.FilterMessageSnippet("takes records again").All()
	require.Len(t, last, 1)
	assert.EqualValues(t, 1000, last[0].ContextMap()["missed_records"])
}

// A batch that found the queue full, comes again and is taken then, is not
// missed.
func TestOptionalSinkGetsABatchLater(t *testing.T) {
	f := startWith(t, t.TempDir(), func(c *Config) {
		optional(c)
		c.Queue.Get().QueueSize = 64 << 10
		c.Timeout.Timeout = 0
	})
	audit := f.Logs.(*optionalLogs).worker.audit
	g := &gate{Sink: audit.sink, began: make(chan struct{}), open: make(chan struct{})}
	audit.sink = g
	var s sealer
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 2)))
	<-g.began
	large := s.batch(t, 10)
	sent := 12
	require.NoError(t, f.ConsumeLogs(t.Context(), clone(large)))
	for f.logs.FilterMessageSnippet("misses records").Len() == 0 {
		large = s.batch(t, 10)
		sent += 10
		require.NoError(t, f.ConsumeLogs(t.Context(), clone(large)))
	}
	close(g.open)
	require.Eventually(t, func() bool { return len(f.stored(t)) == sent-10 }, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool {
		require.NoError(t, f.ConsumeLogs(t.Context(), clone(large))) // taken at last, and once
		return len(f.stored(t)) == sent
	}, time.Minute, time.Millisecond)
	require.NoError(t, f.Shutdown(t.Context()))
	assert.Empty(t, f.logs.FilterMessageSnippet("missed records since the start").All())
	_, err := f.telemetry.GetMetric("otelcol_exporter_audit_missed_records")
	assert.Error(t, err, "nothing was counted")
}

// What keeps an optional sink from taking records is in the log, once, without
// content, and so is at the end what it missed.
func TestOptionalSinkIsHeardOf(t *testing.T) {
	r := receivertest.New(t, receivertest.Config{Format: "ndjson"})
	for range 1000 {
		r.Next(receivertest.Fault{Status: http.StatusUnauthorized, Body: "hush"})
	}
	directory := filepath.Join(t.TempDir(), "none")
	f := startWith(t, directory, func(c *Config) {
		optional(c)
		block := defaultHTTPConfig()
		block.Endpoint, block.Format = r.URL, "ndjson"
		c.File = configoptional.None[FileConfig]()
		c.HTTP = configoptional.Some(block)
		c.Quarantine.Directory = directory + ".quarantine"
	})
	var s sealer
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 3)))
	require.Eventually(t, func() bool { return len(r.Requests()) > 10 }, time.Minute, time.Millisecond)
	told := f.logs.FilterMessageSnippet("an optional audit sink takes nothing").All()
	require.Len(t, told, 1)
	assert.Equal(t, zap.WarnLevel, told[0].Level)
	assert.Contains(t, told[0].ContextMap()["error"], http.StatusText(http.StatusUnauthorized)+": renew what")
	require.NoError(t, f.Shutdown(t.Context()))
	told = f.logs.FilterMessageSnippet("missed records since the start").All()
	require.Len(t, told, 1)
	assert.Equal(t, zap.WarnLevel, told[0].Level)
	assert.EqualValues(t, 3, told[0].ContextMap()["missed_records"])
	assertCount(t, f, 3, metadatatest.AssertEqualExporterAuditMissedRecords)
	f.assertNoContentInLogs(t)
}

// It is told again when it gets worse, and when it is over.
func TestOptionalSinkIsHeardOfAgain(t *testing.T) {
	f := startWith(t, t.TempDir(), optional)
	w := f.Logs.(*optionalLogs).worker
	for _, err := range []error{errDown, errDown, sink.ErrOperator, errDown, sink.ErrOperator, nil, nil, errDown} {
		w.tell(err)
	}
	assert.Len(t, f.logs.FilterMessageSnippet("takes nothing").All(), 3)
	assert.Len(t, f.logs.FilterMessageSnippet("takes records again").All(), 1)
}
