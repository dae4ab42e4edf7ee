// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/auditexporter/internal/filesink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/quarantine"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

var errNotStarted = errors.New("audit exporter is not started")

// auditExporter checks batches and hands them to its sink. Safe for concurrent
// use between start and shutdown.
type auditExporter struct {
	id        component.ID
	config    *Config
	settings  component.TelemetrySettings
	telemetry *telemetry
	health    health
	batches   sync.Pool // of *batch
	sink      sink.Sink // nil before start
	ward      *ward     // of what the sink refuses
	breaker   *breaker  // in front of the sink

	attempted func(receipt.Attempt) // hears of each attempt where no delivery waits; nil: the delivery does
}

func newExporter(config *Config, set exporter.Settings) (*auditExporter, error) {
	telemetry, err := newTelemetry(set)
	if err != nil {
		return nil, fmt.Errorf("audit exporter telemetry: %w", err)
	}
	e := &auditExporter{
		id:        set.ID,
		config:    config,
		settings:  set.TelemetrySettings,
		telemetry: telemetry,
		batches:   sync.Pool{New: func() any { return &batch{} }},
	}
	e.breaker = newBreaker(config.CircuitBreaker, e.breakerChanged)
	return e, nil
}

// breakerChanged tells operators what the breaker does.
func (e *auditExporter) breakerChanged(state breakerState) {
	e.telemetry.breakerState(state)
	if state == breakerOpen {
		e.settings.Logger.Warn("the circuit breaker is open: the sink fails, batches wait",
			zap.Stringer("cooldown", e.config.CircuitBreaker.Cooldown))
	} else {
		e.settings.Logger.Info("the circuit breaker changed", zap.Stringer("state", state))
	}
}

func (e *auditExporter) start(ctx context.Context, host component.Host) error {
	e.health.host = host
	e.telemetry.breakerState(breakerClosed)
	opened, err := e.openSink(ctx)
	if err != nil {
		return err
	}
	e.ward, err = openWard(e.id, e.config.quarantineDirectory(), opened, e.settings.Logger, e.telemetry)
	if err != nil {
		return errors.Join(err, opened.Close())
	}
	e.sink = opened
	return nil
}

// openSink opens the one sink that is configured.
func (e *auditExporter) openSink(ctx context.Context) (sink.Sink, error) {
	switch {
	case e.config.HTTP.HasValue():
		return e.config.HTTP.Get().open(ctx, e.health.host, e.settings)
	case e.config.Postgres.HasValue():
		return e.openPostgres(e.config.Postgres.Get())
	default:
		return e.openFile()
	}
}

// openFile opens the file sink.
func (e *auditExporter) openFile() (sink.Sink, error) {
	file := e.config.File.Get()
	return filesink.Open(filesink.Config{
		Directory:    file.Directory,
		MaxFileBytes: file.MaxFileBytes,
		MaxFileAge:   file.MaxFileAge,
		MaxLineBytes: file.MaxLineBytes,
		Retention:    filesink.Retention{MaxAge: file.Retention.MaxAge, MaxBytes: file.Retention.MaxBytes},
		MinFreeBytes: file.MinFreeBytes,
		Logger:       e.settings.Logger,
	})
}

func (e *auditExporter) shutdown(context.Context) error {
	e.breaker.stop()
	e.telemetry.Shutdown()
	if e.sink == nil {
		return nil
	}
	return errors.Join(e.sink.Close(), e.ward.close())
}

// consume returns nil once all of logs is durable, in the sink or, where that
// refuses a record for good, in quarantine. An error is
// permanent only for records that were never sealed: sending them again could
// not help. All else is worth another try, from the start.
func (e *auditExporter) consume(ctx context.Context, logs plog.Logs) error {
	if e.sink == nil {
		return errNotStarted
	}
	b := e.batches.Get().(*batch)
	defer func() {
		b.release()
		e.batches.Put(b)
	}()
	err := b.decode(logs)
	if errors.Is(err, errUnsealed) {
		return consumererror.NewPermanent(err)
	}
	if err != nil {
		e.telemetry.ExporterAuditDigestMismatches.Add(ctx, 1, e.telemetry.exporter)
	} else {
		err = e.write(ctx, b.entries)
	}
	e.health.report(err)
	return err
}

func (e *auditExporter) write(ctx context.Context, entries []sink.Entry) error {
	return e.breaker.do(ctx, func() error { return e.attempt(ctx, entries) }, func(err error) bool {
		return !errors.Is(err, receipt.ErrConflict) // a sink that says so is up
	})
}

// tellAttempt says to who waits for the delivery how an attempt ended.
func (e *auditExporter) tellAttempt(caller, attempt context.Context, err error) {
	told := receipt.Attempt{Sink: e.id.String(), Type: e.config.sinks()[0]}
	switch {
	case err == nil:
	case errors.Is(err, sink.ErrConflict), errors.Is(err, quarantine.ErrConflict):
		told.Code = receipt.CodeConflict
	case errors.Is(attempt.Err(), context.DeadlineExceeded):
		told.Code = receipt.CodeTimeout
	default:
		told.Code = receipt.CodeFailed
	}
	if e.attempted != nil {
		e.attempted(told)
		return
	}
	receipt.DeliveryFrom(caller).Tell(told)
}

// attempt is one write. The time-out bounds it alone, and not the wait before.
func (e *auditExporter) attempt(caller context.Context, entries []sink.Entry) error {
	ctx := caller
	if timeout := e.config.Timeout.Timeout; timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(caller, timeout)
		defer cancel()
	}
	e.keep(ctx, entries)
	refused := admission{ward: e.ward}
	result, err := e.sink.Write(ctx, entries, refused.refuse)
	e.telemetry.count(ctx, &result)
	e.tellAttempt(caller, ctx, err)
	switch {
	case errors.Is(err, sink.ErrConflict), errors.Is(err, quarantine.ErrConflict):
		e.telemetry.conflict(ctx)
		return fmt.Errorf("%w: %w", receipt.ErrConflict, err)
	case err != nil:
		e.telemetry.failure(ctx, err)
		return err
	}
	refused.tell(ctx)
	e.ward.answer(ctx)
	return nil
}
