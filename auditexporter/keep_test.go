// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"

	"github.com/otelaudit/otelaudit/auditexporter/internal/metadatatest"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// Only a delivery in its turn says what every sink has: one out of its turn, or
// from somebody else, removes nothing.
func TestRetentionNeedsDeliveriesInOrder(t *testing.T) {
	inOrder := func(ctx context.Context) context.Context { return receipt.WithDelivery(ctx, &receipt.Delivery{}) }
	early := func(ctx context.Context) context.Context {
		return receipt.WithDelivery(ctx, &receipt.Delivery{Early: true})
	}
	for name, c := range map[string]struct {
		context func(context.Context) context.Context
		removed int64
		told    int
	}{
		"in order":         {inOrder, 4, 0},
		"early":            {early, 0, 0},
		"of somebody else": {func(ctx context.Context) context.Context { return ctx }, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := startWith(t, t.TempDir(), func(config *Config) {
				config.File.Get().MaxFileBytes = 1
				config.File.Get().Retention.MaxBytes = 1
			})
			var s sealer
			for range 6 {
				logs := s.batch(t, 2)
				s.checkpoint(t, logs)
				require.NoError(t, f.ConsumeLogs(c.context(t.Context()), logs))
			}
			require.Equal(t, c.told, f.logs.FilterMessageSnippet("retention removes nothing").Len())
			if c.removed == 0 {
				assert.Len(t, f.stored(t), 6*3+5)
				return
			}
			// When the last batch came, four of five files were sealed.
			assertCount(t, f, c.removed, metadatatest.AssertEqualExporterAuditRemovedFiles)
			assert.Len(t, f.stored(t), 2*4)
		})
	}
}

// Writes succeed, and the status says that they soon will not.
func TestFreeRoomShows(t *testing.T) {
	f := startWith(t, t.TempDir(), func(config *Config) { config.File.Get().MinFreeBytes = math.MaxInt64 })
	var s sealer
	require.NoError(t, f.ConsumeLogs(t.Context(), s.batch(t, 1)))
	require.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError}, f.host.statuses())
	require.ErrorContains(t, f.host.events[0].Err(), "bytes left, less than `file::min_free_bytes`")
	free, err := f.telemetry.GetMetric("otelcol_exporter_audit_free_bytes")
	require.NoError(t, err)
	require.NotNil(t, free.Data)
	require.Len(t, f.stored(t), 1)
}
