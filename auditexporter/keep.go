// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// keep has a sink that looks after its store do so, and tells operators what it
// found.
func (e *auditExporter) keep(ctx context.Context, entries []sink.Entry) {
	keeper, ok := e.sink.(sink.Keeper)
	delivery := receipt.DeliveryFrom(ctx)
	if !ok || len(entries) == 0 || delivery != nil && delivery.Early {
		return
	}
	// The forwarder of the `audit` processor sends in order and goes on only
	// when every consumer took what it sent. Of anybody else nothing is known.
	var delivered *sink.Entry
	if delivery != nil {
		delivered = &entries[0]
	}
	condition := keeper.Upkeep(ctx, delivered)
	e.telemetry.condition(ctx, &condition)
	e.health.note(condition.Trouble)
}
