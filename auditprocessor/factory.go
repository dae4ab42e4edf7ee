// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"

	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
)

// NewFactory returns the factory of the audit processor.
func NewFactory() processor.Factory {
	return processor.NewFactory(
		metadata.Type,
		createDefaultConfig,
		processor.WithLogs(createLogs, metadata.LogsStability),
	)
}

func createLogs(_ context.Context, settings processor.Settings, config component.Config, next consumer.Logs) (processor.Logs, error) {
	return newProcessor(settings, config.(*Config), next)
}
