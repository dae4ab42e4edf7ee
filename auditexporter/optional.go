// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// optionalLogs is the exporter of a sink that is not required, in front of its
// queue: it takes every batch and fails none, so that the other sinks of the
// pipeline never wait for this one.
type optionalLogs struct {
	exporter.Logs // the queue, and behind it the worker
	worker        *optionalWorker
}

// ConsumeLogs hands logs to the queue, or counts them as missed.
func (l *optionalLogs) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	receipt.DeliveryFrom(ctx).Tell(l.worker.last())
	s := sightingOf(logs)
	if l.worker.has(s) {
		return nil
	}
	// By the time that the sink refuses something nobody listens any more.
	err := l.Logs.ConsumeLogs(receipt.WithDelivery(ctx, nil), logs)
	l.worker.taken(ctx, s, err)
	return nil
}

// sighting is what tells one batch from another. While another sink is away the
// processor sends the same batch again and again: the queue takes it once, and
// it is missed once.
type sighting struct {
	first, last sink.Coordinate
	records     int
}

// sightingOf reads the coordinates of the first and the last record.
func sightingOf(logs plog.Logs) sighting {
	s := sighting{records: logs.LogRecordCount()}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			if n := scope.LogRecords().Len(); n > 0 {
				if s.first == (sink.Coordinate{}) {
					s.first = coordinateOf(scope.LogRecords().At(0))
				}
				s.last = coordinateOf(scope.LogRecords().At(n - 1))
			}
		}
	}
	return s
}

// coordinateOf reads where a record belongs, without looking whether that is so.
func coordinateOf(record plog.LogRecord) (c sink.Coordinate) {
	if origin, ok := record.Attributes().Get(audit.AttributeChainOrigin); ok {
		c.Origin = origin.AsString()
	}
	if index, ok := record.Attributes().Get(audit.AttributeChainIndex); ok {
		c.Index = uint64(index.Int())
	}
	_, c.Checkpoint = record.Attributes().Get(audit.AttributeChainCheckpoint)
	return c
}

// farewell is how long the shutdown waits for what is in the queue. The collector
// has to end within 30 s, of which the audit processor may need 28.
const farewell = 2 * time.Second

// Shutdown ends all waiting first: what the sink does not take at once is missed.
// One that hangs holds nobody up for longer than farewell, however much there is
// in the queue.
func (l *optionalLogs) Shutdown(ctx context.Context) error {
	l.worker.audit.breaker.stop()
	timer := time.AfterFunc(farewell, l.worker.end)
	defer timer.Stop()
	defer l.worker.end()
	return l.Logs.Shutdown(ctx)
}

// optionalWorker stores what comes out of the queue. Safe for concurrent use.
type optionalWorker struct {
	audit *auditExporter
	life  context.Context // no attempt goes on after its end
	end   context.CancelFunc

	mu     sync.Mutex
	seen   sighting // guarded by mu; the newest batch
	queued bool     // guarded by mu; whether the queue took that
	missed int      // guarded by mu; records since the queue took something
	code   string   // guarded by mu; how the last attempt at the sink ended, see receipt.Attempt
}

// last is what can be said of a sink whose attempts nobody waits for.
func (w *optionalWorker) last() receipt.Attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return receipt.Attempt{Sink: w.audit.id.String(), Type: w.audit.config.sinks()[0], Code: w.code, Optional: true}
}

// attempted remembers how an attempt ended.
func (w *optionalWorker) attempted(a receipt.Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.code = a.Code
}

func newOptionalWorker(e *auditExporter) *optionalWorker {
	w := &optionalWorker{audit: e}
	w.life, w.end = context.WithCancel(context.Background())
	e.attempted = w.attempted
	return w
}

// has says that the queue took this very batch before.
func (w *optionalWorker) has(s sighting) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queued && w.seen == s && s.first.Origin != ""
}

// taken notes what became of a batch at the queue: one line in the log when it
// begins to miss records, and one when that is over.
func (w *optionalWorker) taken(ctx context.Context, s sighting, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	again := w.seen == s
	w.seen, w.queued = s, err == nil
	logger := w.audit.settings.Logger
	switch {
	case err != nil && again:
	case err != nil:
		w.audit.telemetry.ExporterAuditMissedRecords.Add(ctx, int64(s.records), w.audit.telemetry.exporter)
		if w.missed == 0 {
			logger.Error("an optional audit sink misses records: they are in the required sinks only", zap.Error(err))
		}
		w.missed += s.records
	case w.missed > 0:
		logger.Warn("an optional audit sink takes records again", zap.Int("missed_records", w.missed))
		w.missed = 0
	}
}

// consume tries until the sink has logs. It gives up when the exporter shuts
// down, when trying again cannot help, or when `retry_on_failure` says so.
func (w *optionalWorker) consume(ctx context.Context, logs plog.Logs) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.life, func() { cancel(errStopped) })()
	wait := w.waits()
	for started := time.Now(); ; {
		err := w.audit.consume(ctx, logs)
		if err == nil {
			return nil
		}
		retry := w.audit.config.Retry
		late := retry.Enabled && retry.MaxElapsedTime > 0 && time.Since(started) >= retry.MaxElapsedTime
		if late || consumererror.IsPermanent(err) || !w.pause(ctx, wait.NextBackOff()) {
			w.audit.telemetry.ExporterAuditMissedRecords.Add(ctx, int64(logs.LogRecordCount()), w.audit.telemetry.exporter)
			return err
		}
	}
}

func (w *optionalWorker) waits() *backoff.ExponentialBackOff {
	retry := w.audit.config.Retry
	wait := &backoff.ExponentialBackOff{
		InitialInterval:     retry.InitialInterval,
		RandomizationFactor: retry.RandomizationFactor,
		Multiplier:          retry.Multiplier,
		MaxInterval:         retry.MaxInterval,
	}
	wait.Reset()
	return wait
}

// pause waits, and says whether to go on.
func (w *optionalWorker) pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.audit.breaker.stopped:
		return false
	case <-ctx.Done():
		return false
	}
}
