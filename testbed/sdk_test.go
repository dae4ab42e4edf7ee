// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdk "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/otelaudit/otelaudit/testbed"
)

// startDoor starts a collector whose OTLP ports are the audit receiver's, as in
// the quickstart.
func startDoor(t *testing.T, settings testbed.Settings) *testbed.Collector {
	t.Helper()
	overHTTP, overGRPC := freeEndpoint(t), freeEndpoint(t)
	settings.Extra = append([]string{fmt.Sprintf(`
receivers: {audit/otlp: {http: {endpoint: %s}, grpc: {endpoint: %s}}}
service: {pipelines: {logs/audit: {receivers: [audit, audit/otlp]}}}
`, overHTTP, overGRPC)}, settings.Extra...)
	c := start(t, settings)
	c.OTLPHTTP, c.OTLPGRPC = overHTTP, overGRPC
	return c
}

// sdkExporter returns one of the SDK's exporters.
func sdkExporter(t *testing.T, c *testbed.Collector, protocol string) sdk.Exporter {
	t.Helper()
	var exporter sdk.Exporter
	var err error
	if protocol == "grpc" {
		exporter, err = otlploggrpc.New(t.Context(), otlploggrpc.WithEndpoint(c.OTLPGRPC), otlploggrpc.WithInsecure(), otlploggrpc.WithTimeout(time.Minute))
	} else {
		exporter, err = otlploghttp.New(t.Context(), otlploghttp.WithEndpoint(c.OTLPHTTP), otlploghttp.WithInsecure(), otlploghttp.WithTimeout(time.Minute))
	}
	require.NoError(t, err)
	return exporter
}

// The Go SDK as it is, with both of its exporters, against our own door: a
// change of endpoint is all that an application needs.
func TestGoSDK(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := startDoor(t, settings)

	const each = 50
	for _, name := range []string{"grpc", "http"} {
		exporter := sdkExporter(t, c, name)
		provider := sdk.NewLoggerProvider(
			sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "shop-"+name))),
			sdk.WithProcessor(sdk.NewBatchProcessor(exporter)),
		)
		for i := range each {
			provider.Logger("shop").Emit(t.Context(), sdkRecord(fmt.Sprintf("sdk-%s-%d", name, i)))
		}
		require.NoError(t, provider.Shutdown(t.Context()), "shutdown sends what is left and reports a refusal")
	}
	assert.EqualValues(t, 2*each, metric(t, c, "otelcol_receiver_audit_received_records"), "all through our own door")
	stop(t, c)

	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	assert.Zero(t, stored.Flagged)
	assert.Len(t, stored.Records, 2*each)
	for _, name := range []string{"grpc", "http"} {
		for i := range each {
			assert.Equal(t, 1, stored.Records[fmt.Sprintf("sdk-%s-%d", name, i)])
		}
	}
	leaks, err := testbed.FindLeaks(settings.Directory, []testbed.Needle{{Name: "session token", Text: "not for the disk"}})
	require.NoError(t, err)
	assert.Empty(t, leaks)
}

// The Go SDK's exporters, as they are, while the journal is full (503 and
// UNAVAILABLE) or too much is in flight (429 and RESOURCE_EXHAUSTED): they send
// again when they are told to, and once there is room each record is stored
// once.
func TestGoSDKSendsAgain(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run("full journal/"+protocol, func(t *testing.T) {
			sendsAgain(t, protocol, http.StatusServiceUnavailable, "processors::audit::journal::max_bytes: 1048576", func(c *testbed.Collector) {
				client := testbed.NewClient(c.HTTP)
				defer client.Close()
				for i := 0; ; i++ {
					event := fmt.Appendf(nil, largeEvent, i, strings.Repeat("x", 20_000))
					answer, err := client.Send(t.Context(), "application/json", event)
					require.NoError(t, err)
					if answer.Code == http.StatusServiceUnavailable {
						return
					}
					require.Equal(t, http.StatusOK, answer.Code, "%s", answer.Body)
				}
			})
		})
		t.Run("overloaded door/"+protocol, func(t *testing.T) {
			const small = `
receivers: {audit/otlp: {max_in_flight_bytes: 1048576, http: {max_request_body_size: 1048576}, grpc: {max_recv_msg_size_mib: 1}}}
processors: {audit: {ack_timeout: 20s}}
`
			sendsAgain(t, protocol, http.StatusTooManyRequests, small, func(c *testbed.Collector) {
				ids := make([]string, 42)
				for i := range ids {
					ids[i] = fmt.Sprintf("waits-%d", i)
				}
				// Waits for its delivery, and holds its memory meanwhile.
				body, err := plogotlp.NewExportRequestFromLogs(testbed.OTLPRecords(strings.Repeat("x", 20_000), ids...)).MarshalProto()
				require.NoError(t, err)
				answered := make(chan int, 1)
				go func() { answered <- postQuietly("http://"+c.OTLPHTTP+"/v1/audit", body) }()
				t.Cleanup(func() { assert.Equal(t, http.StatusOK, <-answered) })
				eventually(t, time.Minute, func() bool { return metric(t, c, "otelcol_receiver_audit_in_flight_bytes") > int64(len(body)) }, "it waits")
				eventually(t, time.Minute, func() bool { return metric(t, c, "otelcol_processor_audit_pending_records") >= int64(len(ids)) }, "it is sealed")
			})
		})
	}
}

const largeEvent = `{"eventId":"fill-%d","action":"a.b","outcome":"SUCCESS","actor":{"type":"user","id":"u"},
"context":{"occurredAt":"2026-01-01T00:00:00Z"},"metadata":{"note":%q}}`

// postQuietly is for goroutines other than the test's; 0 is a failed request.
func postQuietly(url string, body []byte) int {
	response, err := http.Post(url, "application/x-protobuf", bytes.NewReader(body))
	if err != nil || response.Body.Close() != nil {
		return 0
	}
	return response.StatusCode
}

// sendsAgain has an exporter send to a collector that crowd has crowded, until
// it was refused with the status; then there is room.
func sendsAgain(t *testing.T, protocol string, refusal int, config string, crowd func(*testbed.Collector)) {
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: append(toSink(sink), config)}
	c := startDoor(t, settings)
	crowd(c)
	refused := func() int64 {
		return metric(t, c, "otelcol_receiver_audit_requests", fmt.Sprintf(`status_code="%d"`, refusal))
	}
	before := refused()

	var made kept
	provider := sdk.NewLoggerProvider(sdk.WithProcessor(sdk.NewSimpleProcessor(&made)))
	const records = 10
	for i := range records {
		record := sdkRecord(fmt.Sprintf("again-%d", i))
		record.AddAttributes(log.Map("audit.diff", log.String("text", strings.Repeat("x", 20_000))))
		provider.Logger("shop").Emit(t.Context(), record)
	}
	exporter := sdkExporter(t, c, protocol)
	sent := make(chan error, 1)
	go func() { sent <- exporter.Export(context.WithoutCancel(t.Context()), made.records) }()
	eventually(t, time.Minute, func() bool { return refused() > before }, "the exporter is told to come again")
	require.Empty(t, sent, "it does not give up")
	require.NoError(t, sink.Up())
	require.NoError(t, <-sent)
	require.NoError(t, exporter.Shutdown(t.Context()))
	drained(t, c, time.Minute)
	stop(t, c)

	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	for i := range records {
		assert.Equal(t, 1, stored.Records[fmt.Sprintf("again-%d", i)])
	}
}

// kept is an exporter that keeps what the SDK has made.
type kept struct{ records []sdk.Record }

func (k *kept) Export(_ context.Context, records []sdk.Record) error {
	for i := range records {
		k.records = append(k.records, records[i].Clone())
	}
	return nil
}

func (*kept) Shutdown(context.Context) error   { return nil }
func (*kept) ForceFlush(context.Context) error { return nil }

// sdkRecord is the event of README.md's section on SDKs.
func sdkRecord(id string) log.Record {
	var record log.Record
	record.SetTimestamp(time.Now())
	record.SetEventName("invoice.update")
	record.AddAttributes(
		log.String("audit.record.id", id),
		log.String("audit.actor.id", "user_123"),
		log.String("audit.actor.type", "user"),
		log.String("audit.action", "UPDATE"),
		log.String("audit.outcome", "success"),
		log.String("audit.target.type", "invoice"),
		log.String("audit.target.id", "inv_456"),
		log.String("audit.tenant.id", "acme"),
		log.Map("audit.metadata", log.Int("attempt", 1), log.String("session_token", "not for the disk")),
	)
	return record
}
