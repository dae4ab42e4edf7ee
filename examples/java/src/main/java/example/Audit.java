// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package example;

import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.exporter.otlp.http.logs.OtlpHttpLogRecordExporter;
import io.opentelemetry.exporter.otlp.logs.OtlpGrpcLogRecordExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.logs.SdkLoggerProvider;
import io.opentelemetry.sdk.logs.data.LogRecordData;
import io.opentelemetry.sdk.logs.export.BatchLogRecordProcessor;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import io.opentelemetry.sdk.resources.Resource;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/** Sends ten audit events and prints the ids of those that are durable. */
public final class Audit {
  private static final AttributeKey<String> RECORD_ID = AttributeKey.stringKey("audit.record.id");
  private static final Duration TIMEOUT = Duration.ofMinutes(1);

  /**
   * Keeps the ids of the events that no collector has acknowledged yet. The SDK logs a failed export
   * and goes on, and forceFlush succeeds all the same, so this is the only place where the outcome
   * can be seen.
   */
  private record AcknowledgedExporter(LogRecordExporter exporter, Set<String> pending)
      implements LogRecordExporter {

    @Override
    public CompletableResultCode export(Collection<LogRecordData> records) {
      // The SDK may use the records again once the export is over.
      List<String> ids = records.stream().map(r -> r.getAttributes().get(RECORD_ID)).toList();
      CompletableResultCode result = exporter.export(records);
      CompletableResultCode noted = new CompletableResultCode();
      result.whenComplete(
          () -> {
            if (!result.isSuccess()) {
              noted.fail();
              return;
            }
            ids.forEach(pending::remove);
            noted.succeed(); // last, so that a flush that has returned has seen it
          });
      return noted;
    }

    @Override
    public CompletableResultCode flush() {
      return exporter.flush();
    }

    @Override
    public CompletableResultCode shutdown() {
      return exporter.shutdown();
    }
  }

  private static LogRecordExporter otlp(String protocol, String endpoint) {
    if (protocol.equals("grpc")) {
      return OtlpGrpcLogRecordExporter.builder().setEndpoint(endpoint).setTimeout(TIMEOUT).build();
    }
    return OtlpHttpLogRecordExporter.builder()
        .setEndpoint(endpoint + "/v1/logs")
        .setTimeout(TIMEOUT)
        .build();
  }

  public static void main(String[] arguments) {
    Set<String> pending = ConcurrentHashMap.newKeySet();
    LogRecordExporter exporter =
        otlp(
            System.getenv().getOrDefault("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            System.getenv().getOrDefault("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"));
    // One request for all that waits. A SimpleLogRecordProcessor would send each event alone, in the
    // background, and need the flush below as well.
    SdkLoggerProvider provider =
        SdkLoggerProvider.builder()
            .setResource(
                Resource.create(
                    Attributes.of(AttributeKey.stringKey("service.name"), "shop-java")))
            .addLogRecordProcessor(
                BatchLogRecordProcessor.builder(new AcknowledgedExporter(exporter, pending))
                    .setExporterTimeout(TIMEOUT)
                    .build())
            .build();
    Logger logger = provider.get("shop");

    List<String> sent = new ArrayList<>();
    for (int number = 0; number < 10; number++) {
      // An id of our own makes it harmless to send the event again.
      String id = UUID.randomUUID().toString();
      sent.add(id);
      pending.add(id);
      logger
          .logRecordBuilder()
          .setTimestamp(Instant.now())
          .setEventName("invoice.update")
          .setAttribute(RECORD_ID, id)
          .setAttribute("audit.actor.id", "user_123")
          .setAttribute("audit.actor.type", "user")
          .setAttribute("audit.action", "UPDATE")
          .setAttribute("audit.outcome", "success")
          .setAttribute("audit.target.type", "invoice")
          .setAttribute("audit.target.id", "inv_" + number)
          .emit();
    }

    // Before anybody hears of success: until now the events are in memory only.
    provider.forceFlush().join(TIMEOUT.toSeconds(), TimeUnit.SECONDS);
    Set<String> lost = Set.copyOf(pending);
    provider.shutdown().join(TIMEOUT.toSeconds(), TimeUnit.SECONDS);

    sent.stream().filter(id -> !lost.contains(id)).forEach(System.out::println);
    if (!lost.isEmpty()) {
      // Fail the operation that was to be audited, or keep the event and send it again, the same
      // under the same id: it is stored once.
      System.err.printf(
          "%d of %d audit events are not known to be stored%n", lost.size(), sent.size());
      System.exit(1);
    }
  }
}
