// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Command go sends ten audit events and prints the ids of those that are
// durable.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdk "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
)

const recordID = "audit.record.id"

// acknowledgedExporter keeps the ids of the events that no collector has
// acknowledged yet. The SDK hands a failed export to an error handler that logs
// it, and a full queue drops what is oldest: this is the only place where the
// outcome can be seen.
type acknowledgedExporter struct {
	sdk.Exporter

	mu      sync.Mutex
	pending map[string]bool
}

func (e *acknowledgedExporter) Export(ctx context.Context, records []sdk.Record) error {
	if err := e.Exporter.Export(ctx, records); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range records {
		records[i].WalkAttributes(func(attribute log.KeyValue) bool {
			if attribute.Key == recordID {
				delete(e.pending, attribute.Value.AsString())
			}
			return true
		})
	}
	return nil
}

func (e *acknowledgedExporter) expect(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pending[id] = true
}

func (e *acknowledgedExporter) isPending(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pending[id]
}

func newExporter(ctx context.Context) (sdk.Exporter, error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/protobuf" {
		return otlploghttp.New(ctx)
	}
	return otlploggrpc.New(ctx)
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	otlp, err := newExporter(ctx)
	if err != nil {
		return err
	}
	exporter := &acknowledgedExporter{Exporter: otlp, pending: map[string]bool{}}
	provider := sdk.NewLoggerProvider(
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "shop-go"))),
		// One request for all that waits. A simple processor would send each
		// event alone, while Emit waits for it.
		sdk.WithProcessor(sdk.NewBatchProcessor(exporter)),
	)
	logger := provider.Logger("shop")

	var sent []string
	for number := range 10 {
		id := uuid.NewString() // an id of our own makes it harmless to send the event again
		sent = append(sent, id)
		exporter.expect(id)
		logger.Emit(ctx, invoiceUpdate(id, "inv_"+strconv.Itoa(number)))
	}

	// Before anybody hears of success: until now the events are in memory only.
	err = provider.ForceFlush(ctx)
	lost := 0
	for _, id := range sent {
		if exporter.isPending(id) {
			lost++
			continue
		}
		fmt.Println(id)
	}
	if lost > 0 {
		// Fail the operation that was to be audited, or keep the event and send
		// it again, the same under the same id: it is stored once.
		err = errors.Join(err, fmt.Errorf("%d of %d audit events are not known to be stored", lost, len(sent)))
	}
	return errors.Join(err, provider.Shutdown(ctx))
}

func invoiceUpdate(id, invoice string) log.Record {
	var record log.Record
	record.SetTimestamp(time.Now())
	record.SetEventName("invoice.update")
	record.AddAttributes(
		log.String(recordID, id),
		log.String("audit.actor.id", "user_123"),
		log.String("audit.actor.type", "user"),
		log.String("audit.action", "UPDATE"),
		log.String("audit.outcome", "success"),
		log.String("audit.target.type", "invoice"),
		log.String("audit.target.id", invoice),
	)
	return record
}
