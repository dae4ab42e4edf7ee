// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/otelaudit/otelaudit/auditexporter/internal/metadata"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// telemetry counts what one exporter does. Several of them share the
// instruments of a process: the id tells them apart.
type telemetry struct {
	*metadata.TelemetryBuilder
	id       attribute.KeyValue
	exporter metric.MeasurementOption // the id alone
}

func newTelemetry(set exporter.Settings) (*telemetry, error) {
	builder, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	id := attribute.String("exporter", set.ID.String())
	return &telemetry{TelemetryBuilder: builder, id: id, exporter: metric.WithAttributeSet(attribute.NewSet(id))}, nil
}

// count adds what one write did.
func (t *telemetry) count(ctx context.Context, result *sink.Result) {
	t.ExporterAuditStoredRecords.Add(ctx, int64(result.Stored), t.exporter)
	t.ExporterAuditQuarantinedRecords.Add(ctx, int64(result.Refused), t.exporter)
	t.ExporterAuditRepeatedLines.Add(ctx, int64(result.Repeated), t.exporter)
	t.ExporterAuditWrittenBytes.Add(ctx, result.Bytes, t.exporter)
	if result.Sync > 0 {
		t.ExporterAuditSyncDuration.Record(ctx, result.Sync.Seconds(), t.exporter)
	}
}

// condition adds what a sink did beside writing.
func (t *telemetry) condition(ctx context.Context, c *sink.Condition) {
	t.ExporterAuditRemovedFiles.Add(ctx, int64(c.Removed), t.exporter)
	t.ExporterAuditRemovedBytes.Add(ctx, c.RemovedBytes, t.exporter)
	t.ExporterAuditReopenings.Add(ctx, int64(c.Reopened), t.exporter)
	if c.FreeBytes >= 0 {
		t.ExporterAuditFreeBytes.Record(ctx, c.FreeBytes, t.exporter)
	}
}

func (t *telemetry) conflict(ctx context.Context) { t.ExporterAuditConflicts.Add(ctx, 1, t.exporter) }

// failure counts a write that failed for another reason.
func (t *telemetry) failure(ctx context.Context, err error) {
	cause := "outage"
	if errors.Is(err, sink.ErrOperator) {
		cause = "operator"
	}
	t.ExporterAuditWriteFailures.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(t.id, attribute.String("cause", cause))))
}

func (t *telemetry) breakerState(state breakerState) {
	t.ExporterAuditCircuitBreakerState.Record(context.Background(), int64(state), t.exporter)
}
