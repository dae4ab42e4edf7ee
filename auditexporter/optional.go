// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"errors"
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
	l.worker.settle(ctx) // while there are still metrics
	timer := time.AfterFunc(farewell, l.worker.end)
	defer timer.Stop()
	defer l.worker.end()
	err := l.Logs.Shutdown(ctx)
	l.worker.tellMissed()
	return err
}

// optionalWorker stores what comes out of the queue. Safe for concurrent use.
type optionalWorker struct {
	audit *auditExporter
	life  context.Context // no attempt goes on after its end
	end   context.CancelFunc

	mu     sync.Mutex
	seen   sighting // guarded by mu; the newest batch
	queued bool     // guarded by mu; whether the queue took that
	// guarded by mu; of the newest batch, if the queue did not take it. It may
	// come again and be taken: it is counted when another one comes, or none.
	pending int
	full    bool    // guarded by mu; the queue did not take the newest batch
	missed  int     // guarded by mu; records that were counted as missed
	before  int     // guarded by mu; those of them from before the queue was full
	told    ailment // guarded by mu; what the log was told of the sink
	code    string  // guarded by mu; how the last attempt at the sink ended, see receipt.Attempt
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
	if w.seen != s || s.first.Origin == "" {
		w.count(ctx, w.pending)
	}
	w.seen, w.queued, w.pending = s, err == nil, 0
	logger := w.audit.settings.Logger
	switch {
	case err != nil:
		if w.pending = s.records; !w.full {
			w.full, w.before = true, w.missed
			logger.Error("an optional audit sink misses records: they are in the required sinks only", zap.Error(err))
		}
	case w.full:
		w.full = false
		logger.Warn("the queue of an optional audit sink takes records again", zap.Int("missed_records", w.missed-w.before))
	}
}

// count adds records that the sink will not get. Call it with mu held.
func (w *optionalWorker) count(ctx context.Context, records int) {
	if records == 0 {
		return
	}
	w.missed += records
	w.audit.telemetry.ExporterAuditMissedRecords.Add(ctx, int64(records), w.audit.telemetry.exporter)
}

// settle counts what does not come again.
func (w *optionalWorker) settle(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count(ctx, w.pending)
	w.pending = 0
}

// lose counts a batch that was taken out of the queue in vain.
func (w *optionalWorker) lose(ctx context.Context, records int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count(ctx, records)
}

// tellMissed is the last word: nobody reads metrics any more.
func (w *optionalWorker) tellMissed() {
	w.settle(context.Background()) // what came meanwhile
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missed > 0 {
		w.audit.settings.Logger.Warn("an optional audit sink missed records since the start: they are in the required sinks only;"+
			" `otelaudit verify` of its copy names them", zap.Int("missed_records", w.missed))
	}
}

// tell has the log say when the sink does not take what it should, when that gets
// worse, and when it is over; not with each attempt.
func (w *optionalWorker) tell(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, logger := ailmentOf(err), w.audit.settings.Logger
	switch {
	case now > w.told:
		logger.Warn("an optional audit sink takes nothing: its records wait in its queue and are tried again", zap.Error(err))
	case now == well && w.told != well:
		logger.Info("an optional audit sink takes records again")
	default:
		return
	}
	w.told = now
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
		if ctx.Err() == nil && !errors.Is(err, errStopped) && !consumererror.IsPermanent(err) { // else it says nothing of the sink
			w.tell(err)
		}
		if err == nil {
			return nil
		}
		retry := w.audit.config.Retry
		late := retry.Enabled && retry.MaxElapsedTime > 0 && time.Since(started) >= retry.MaxElapsedTime
		if late || consumererror.IsPermanent(err) || !w.pause(ctx, wait.NextBackOff()) {
			w.lose(ctx, logs.LogRecordCount())
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
