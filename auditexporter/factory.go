// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/otelaudit/otelaudit/auditexporter/internal/metadata"
)

// NewFactory returns the factory of the audit exporter.
func NewFactory() exporter.Factory {
	return exporter.NewFactory(metadata.Type, createDefaultConfig,
		exporter.WithLogs(createLogs, metadata.LogsStability))
}

func createLogs(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Logs, error) {
	c := config.(*Config)
	e, err := newExporter(c, set)
	if err != nil {
		return nil, err
	}
	if !c.Required {
		return createOptional(ctx, set, c, e)
	}
	return exporterhelper.NewLogs(ctx, set, config, e.consume,
		exporterhelper.WithStart(e.start),
		exporterhelper.WithShutdown(e.shutdown),
		exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{}), // the exporter's own: it does not bound waiting
		exporterhelper.WithRetry(c.Retry),
		exporterhelper.WithQueue(c.Queue),
	)
}

func createOptional(ctx context.Context, set exporter.Settings, c *Config, e *auditExporter) (exporter.Logs, error) {
	worker := newOptionalWorker(e)
	logs, err := exporterhelper.NewLogs(ctx, set, c, worker.consume,
		exporterhelper.WithStart(e.start),
		exporterhelper.WithShutdown(e.shutdown),
		exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{}),
		exporterhelper.WithQueue(c.Queue),
	)
	if err != nil {
		return nil, err
	}
	return &optionalLogs{Logs: logs, worker: worker}, nil
}
