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
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/auditexporter/internal/filesink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

var errNotStarted = errors.New("audit exporter is not started")

// auditExporter checks batches and hands them to its sink. Safe for concurrent
// use between start and shutdown.
type auditExporter struct {
	config    *Config
	settings  component.TelemetrySettings
	telemetry *metadata.TelemetryBuilder
	health    health
	batches   sync.Pool      // of *batch
	sink      *filesink.Sink // nil before start
}

func newExporter(config *Config, settings component.TelemetrySettings) (*auditExporter, error) {
	telemetry, err := metadata.NewTelemetryBuilder(settings)
	if err != nil {
		return nil, fmt.Errorf("audit exporter telemetry: %w", err)
	}
	return &auditExporter{
		config:    config,
		settings:  settings,
		telemetry: telemetry,
		batches:   sync.Pool{New: func() any { return &batch{} }},
	}, nil
}

func (e *auditExporter) start(_ context.Context, host component.Host) error {
	e.health.host = host
	file := e.config.File.Get()
	sink, err := filesink.Open(filesink.Config{
		Directory:    file.Directory,
		MaxFileBytes: file.MaxFileBytes,
		Logger:       e.settings.Logger,
	})
	if err != nil {
		return err
	}
	e.sink = sink
	return nil
}

func (e *auditExporter) shutdown(context.Context) error {
	e.telemetry.Shutdown()
	if e.sink == nil {
		return nil
	}
	return e.sink.Close()
}

// consume returns nil once all of logs is durable in the sink. An error is
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
		e.telemetry.ExporterAuditDigestMismatches.Add(ctx, 1)
	} else {
		err = e.write(ctx, b.entries)
	}
	e.health.report(err)
	return err
}

func (e *auditExporter) write(ctx context.Context, entries []filesink.Entry) error {
	result, err := e.sink.Write(ctx, entries)
	e.telemetry.ExporterAuditStoredRecords.Add(ctx, int64(result.Stored))
	e.telemetry.ExporterAuditRepeatedLines.Add(ctx, int64(result.Repeated))
	e.telemetry.ExporterAuditFileBytes.Add(ctx, result.Bytes)
	if result.Sync > 0 {
		e.telemetry.ExporterAuditSyncDuration.Record(ctx, result.Sync.Seconds())
	}
	switch {
	case errors.Is(err, filesink.ErrConflict):
		e.telemetry.ExporterAuditConflicts.Add(ctx, 1)
		err = fmt.Errorf("%w: %w", receipt.ErrConflict, err)
	case err != nil:
		e.telemetry.ExporterAuditWriteFailures.Add(ctx, 1)
	}
	return err
}
