# Copyright The otelaudit Authors
# SPDX-License-Identifier: Apache-2.0

"""Sends ten audit events and prints the ids of those that are durable."""

import os
import sys
import time
import uuid

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.resources import Resource

if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc") == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter


class AcknowledgedExporter(LogRecordExporter):
    """Keeps the ids of the events that no collector has acknowledged yet.

    The SDK logs a failed export and goes on, and force_flush returns True all
    the same, so this is the only place where the outcome can be seen.
    """

    def __init__(self, exporter):
        self._exporter = exporter
        self.pending = set()

    def export(self, batch):
        result = self._exporter.export(batch)
        if result is LogRecordExportResult.SUCCESS:
            self.pending.difference_update(
                record.log_record.attributes["audit.record.id"] for record in batch
            )
        return result

    def force_flush(self, timeout_millis=30000):
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self):
        self._exporter.shutdown()


def main():
    exporter = AcknowledgedExporter(OTLPLogExporter())
    provider = LoggerProvider(Resource.create({"service.name": "shop-python"}))
    # One request for all that waits. A SimpleLogRecordProcessor would send each
    # event alone, while emit waits for it.
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("shop")

    sent = []
    for number in range(10):
        # An id of our own makes it harmless to send the event again.
        record_id = str(uuid.uuid4())
        sent.append(record_id)
        exporter.pending.add(record_id)
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                event_name="invoice.update",
                attributes={
                    "audit.record.id": record_id,
                    "audit.actor.id": "user_123",
                    "audit.actor.type": "user",
                    "audit.action": "UPDATE",
                    "audit.outcome": "success",
                    "audit.target.type": "invoice",
                    "audit.target.id": f"inv_{number}",
                },
            )
        )

    # Before anybody hears of success: until now the events are in memory only.
    provider.force_flush()
    lost = set(exporter.pending)
    provider.shutdown()

    for record_id in sent:
        if record_id not in lost:
            print(record_id)
    if lost:
        # Fail the operation that was to be audited, or keep the event and send
        # it again, the same under the same id: it is stored once.
        sys.exit(f"{len(lost)} of {len(sent)} audit events are not known to be stored")


if __name__ == "__main__":
    main()
