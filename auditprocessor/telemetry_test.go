// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadatatest"
)

// Of two processors in one collector each shows what waits in its own journal.
func TestGaugesOfTwoProcessors(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	sink := newSinkFake()
	sink.setDown(errors.New("no room"))
	begin := func(name string, maxBytes int64, sent ...string) *auditProcessor {
		config := testConfig(t, t.TempDir())
		config.Journal.MaxBytes = maxBytes
		settings := processor.Settings{ID: component.NewIDWithName(metadata.Type, name), TelemetrySettings: telemetry.NewTelemetrySettings()}
		p, err := newProcessor(settings, config, sink)
		require.NoError(t, err)
		require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
		require.NoError(t, p.ConsumeLogs(t.Context(), events(sent...)))
		return p
	}
	busy, quiet := begin("busy", 64<<20, "a", "b", "c"), begin("quiet", 32<<20, "d")
	each := func(ofBusy, ofQuiet int64) []metricdata.DataPoint[int64] {
		return []metricdata.DataPoint[int64]{
			{Value: ofBusy, Attributes: attribute.NewSet(attribute.String("processor", "audit/busy"))},
			{Value: ofQuiet, Attributes: attribute.NewSet(attribute.String("processor", "audit/quiet"))},
		}
	}
	metadatatest.AssertEqualProcessorAuditPendingRecords(t, telemetry, each(3, 1), metricdatatest.IgnoreTimestamp())
	metadatatest.AssertEqualProcessorAuditCapacityBytes(t, telemetry, each(64<<20, 32<<20), metricdatatest.IgnoreTimestamp())
	sink.setDown(nil)
	require.NoError(t, busy.Shutdown(context.Background()))
	require.NoError(t, quiet.Shutdown(context.Background()))
}
