// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Sends ten audit events and prints the ids of those that are durable.

import { randomUUID } from 'node:crypto';

import { ExportResultCode } from '@opentelemetry/core';
import { OTLPLogExporter as GRPCExporter } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPLogExporter as JSONExporter } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtobufExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';

const exporters = { grpc: GRPCExporter, 'http/protobuf': ProtobufExporter, 'http/json': JSONExporter };

// Keeps the ids of the events that no collector has acknowledged yet. The SDK
// tells a failed export to its diagnostic logger, which is off, and forceFlush
// resolves all the same, so this is the only place where the outcome can be seen.
class AcknowledgedExporter {
  pending = new Set();
  #exporter;

  constructor(exporter) {
    this.#exporter = exporter;
  }

  export(records, done) {
    this.#exporter.export(records, (result) => {
      if (result.code === ExportResultCode.SUCCESS) {
        for (const record of records) {
          this.pending.delete(record.attributes['audit.record.id']);
        }
      } else {
        console.error(`export failed: ${result.error?.message}`);
      }
      done(result);
    });
  }

  forceFlush() {
    return this.#exporter.forceFlush();
  }

  shutdown() {
    return this.#exporter.shutdown();
  }
}

const OTLPExporter = exporters[process.env.OTEL_EXPORTER_OTLP_PROTOCOL ?? 'grpc'];
const exporter = new AcknowledgedExporter(new OTLPExporter());
const provider = new LoggerProvider({
  resource: resourceFromAttributes({ 'service.name': 'shop-node' }),
  // One request for all that waits. A SimpleLogRecordProcessor would send each
  // event alone, in the background, and need the flush below as well.
  processors: [new BatchLogRecordProcessor({ exporter })],
});
const logger = provider.getLogger('shop');

const sent = [];
for (let number = 0; number < 10; number++) {
  const id = randomUUID(); // an id of our own makes it harmless to send the event again
  sent.push(id);
  exporter.pending.add(id);
  logger.emit({
    timestamp: new Date(),
    eventName: 'invoice.update',
    attributes: {
      'audit.record.id': id,
      'audit.actor.id': 'user_123',
      'audit.actor.type': 'user',
      'audit.action': 'UPDATE',
      'audit.outcome': 'success',
      'audit.target.type': 'invoice',
      'audit.target.id': `inv_${number}`,
    },
  });
}

// Before anybody hears of success: until now the events are in memory only.
await provider.forceFlush();
const lost = new Set(exporter.pending);
await provider.shutdown();

for (const id of sent) {
  if (!lost.has(id)) {
    console.log(id);
  }
}
if (lost.size > 0) {
  // Fail the operation that was to be audited, or keep the event and send it
  // again, the same under the same id: it is stored once.
  console.error(`${lost.size} of ${sent.length} audit events are not known to be stored`);
  process.exitCode = 1;
}
