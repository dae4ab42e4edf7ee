// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadata"
	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadatatest"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// records makes a request with sound records of the given event names.
func records(names ...string) plog.Logs {
	logs := plog.NewLogs()
	group := logs.ResourceLogs().AppendEmpty()
	group.Resource().Attributes().PutStr(audit.ResourceServiceName, "web")
	for _, name := range names {
		record := group.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
		record.SetTimestamp(1_700_000_000_000_000_000)
		record.SetObservedTimestamp(1_700_000_000_000_000_001)
		record.SetEventName(name)
		for key, value := range map[string]string{
			audit.AttributeRecordID: "id-" + name, audit.AttributeActorID: "u-1", audit.AttributeActorType: "user",
			audit.AttributeAction: "LOGIN", audit.AttributeOutcome: "success",
		} {
			record.Attributes().PutStr(key, value)
		}
	}
	return logs
}

func marshalProto(t testing.TB, logs plog.Logs) string {
	t.Helper()
	body, err := plogotlp.NewExportRequestFromLogs(logs).MarshalProto()
	require.NoError(t, err)
	return string(body)
}

func marshalJSON(t testing.TB, logs plog.Logs) string {
	t.Helper()
	body, err := plogotlp.NewExportRequestFromLogs(logs).MarshalJSON()
	require.NoError(t, err)
	return string(body)
}

// otlpReply is an answer to OTLP as a client sees it.
type otlpReply struct {
	code   int
	header http.Header
	body   []byte
}

func postOTLP(t *testing.T, url string, form encoding, body string, header ...string) otlpReply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", string(form))
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := testClient.Do(req)
	// A body that is refused before its end is answered while the client still
	// writes: now and then that meets the closed connection first.
	for tries := 0; tries < 10 && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)); tries++ {
		req.Body, err = req.GetBody()
		require.NoError(t, err)
		resp, err = testClient.Do(req)
	}
	require.NoError(t, err)
	defer func() { assert.NoError(t, resp.Body.Close()) }()
	got := otlpReply{code: resp.StatusCode, header: resp.Header}
	got.body, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	return got
}

// status reads the body of an error.
func (r *otlpReply) status(t *testing.T) *status.Status {
	t.Helper()
	var s rpc.Status
	switch encoding(r.header.Get("Content-Type")) {
	case encodingProtobuf:
		require.NoError(t, proto.Unmarshal(r.body, &s))
	case encodingJSON:
		var text struct {
			Code    int32
			Message string
		}
		require.NoError(t, json.Unmarshal(r.body, &text), string(r.body))
		s.Code, s.Message = text.Code, text.Message
	default:
		t.Fatalf("content type %q", r.header.Get("Content-Type"))
	}
	return status.FromProto(&s)
}

func serveLogs(t *testing.T, config *Config, next pipe) string {
	t.Helper()
	return strings.Replace(serve(t, config, next), pathEvents, pathLogs, 1)
}

func TestLogsAreTakenInBothEncodings(t *testing.T) {
	var got plog.Logs
	url := serveLogs(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		got = plog.NewLogs()
		logs.CopyTo(got)
		assert.True(t, receipt.FromContext(ctx).IntegrityHash)
		return seal(ctx, logs)
	})
	sent := records("a", "b")
	for form, body := range map[encoding]string{encodingProtobuf: marshalProto(t, sent), encodingJSON: marshalJSON(t, sent)} {
		got = plog.Logs{}
		r := postOTLP(t, url, form, body)
		require.Equal(t, http.StatusOK, r.code, string(r.body))
		require.Equal(t, string(form), r.header.Get("Content-Type"))
		assert.Equal(t, marshalProto(t, sent), marshalProto(t, got))
		response := plogotlp.NewExportResponse()
		if form == encodingProtobuf {
			require.NoError(t, response.UnmarshalProto(r.body))
			assert.Empty(t, r.body)
		} else {
			require.NoError(t, response.UnmarshalJSON(r.body))
			assert.Contains(t, string(r.body), `"index":"1"`, "the receipt of each record")
		}
		assert.Zero(t, response.PartialSuccess().RejectedLogRecords())
		assert.NotContains(t, string(r.body), "partial")
	}
}

func TestLogsCompressed(t *testing.T) {
	url := serveLogs(t, testConfig(), seal)
	body := marshalProto(t, records("a"))
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := io.WriteString(w, body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	encoder, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	for name, compressed := range map[string]string{"gzip": zipped.String(), "zstd": string(encoder.EncodeAll([]byte(body), nil))} {
		assert.Equal(t, http.StatusOK, postOTLP(t, url, encodingProtobuf, compressed, "Content-Encoding", name).code, name)
		r := postOTLP(t, url, encodingProtobuf, compressed[:len(compressed)-5], "Content-Encoding", name)
		assert.Equal(t, http.StatusBadRequest, r.code, name)
	}
	require.NoError(t, encoder.Close())
}

// A client drops on everything but 429, 502, 503 and 504, and repeats on those:
// so each class must be true.
func TestLogsErrorsAreOfTheRightClass(t *testing.T) {
	fail := func(err error) pipe { return func(context.Context, plog.Logs) error { return err } }
	for name, c := range map[string]struct {
		next       pipe
		code       int
		grpc       codes.Code
		retryAfter string
	}{
		"refused":      {fail(receipt.Refused("record 0: no actor")), 400, codes.InvalidArgument, ""},
		"id taken":     {fail(receipt.IDTaken("record 0: id")), 409, codes.AlreadyExists, ""},
		"too large":    {fail(receipt.TooLarge("never fits")), 413, codes.InvalidArgument, ""},
		"full":         {fail(receipt.Unavailable("journal is full", 2*time.Second)), 503, codes.Unavailable, "2"},
		"exhausted":    {fail(status.Error(codes.ResourceExhausted, "slow down")), 429, codes.ResourceExhausted, "5"},
		"plain":        {fail(errors.New("disk: secret")), 503, codes.Unavailable, "5"},
		"internal":     {fail(status.Error(codes.Internal, "bug")), 503, codes.Unavailable, "5"},
		"no processor": {fail(nil), 503, codes.Unavailable, "60"},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.GRPC.GetOrInsertDefault().NetAddr.Endpoint = "127.0.0.1:0"
			receiver, url := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), c.next)
			url = strings.Replace(url, pathEvents, pathLogs, 1)
			for form, body := range map[encoding]string{encodingProtobuf: marshalProto(t, records("a")), encodingJSON: marshalJSON(t, records("a"))} {
				r := postOTLP(t, url, form, body)
				assert.Equal(t, c.code, r.code)
				assert.Equal(t, c.retryAfter, r.header.Get("Retry-After"))
				assert.Equal(t, string(form), r.header.Get("Content-Type"))
				assert.Equal(t, c.grpc, r.status(t).Code())
				assert.NotEmpty(t, r.status(t).Message())
				assert.NotContains(t, string(r.body), "secret")
			}
			_, err := dial(t, receiver).Export(t.Context(), plogotlp.NewExportRequestFromLogs(records("a")))
			s := status.Convert(err)
			assert.Equal(t, c.grpc, s.Code())
			assert.Equal(t, c.retryAfter != "", len(s.Details()) == 1, "RetryInfo where and only where a retry can help")
			assert.NotContains(t, s.Message(), "secret")
		})
	}
}

func TestLogsPendingDeliveryIsAccepted(t *testing.T) {
	url := serveLogs(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		receipt.FromContext(ctx).Pending = true
		return seal(ctx, logs)
	})
	assert.Equal(t, http.StatusAccepted, postOTLP(t, url, encodingProtobuf, marshalProto(t, records("a"))).code)
}

func TestLogsThatCannotBeDecoded(t *testing.T) {
	url := serveLogs(t, testConfig(), func(context.Context, plog.Logs) error {
		panic("a faulty request must not reach the pipeline")
	})
	record := func(text string) string {
		return `{"resourceLogs":[{"scopeLogs":[{"logRecords":[` + text + `]}]}]}`
	}
	const at = "resourceLogs[0].scopeLogs[0].logRecords[0]."
	for _, c := range []struct {
		form          encoding
		body, problem string
	}{
		{encodingJSON, ``, "ends too early"},
		{encodingJSON, `null`, "the request: want an object, found null"},
		{encodingJSON, `[]`, "want an object, found an array"},
		{encodingJSON, `{} {}`, "something follows"},
		{encodingJSON, `{"resourceLogs":[]`, "ends too early"},
		{encodingJSON, `{"resourceLogs":[}`, "not JSON at byte 17"},
		{encodingJSON, `{"resource_logs":[]}`, "resource_logs: is not known to OTLP"},
		{encodingJSON, `{"":[]}`, "is not known to OTLP"},
		{encodingJSON, `{"resourceLogs":{}}`, "resourceLogs: want an array, found an object"},
		{encodingJSON, record(`{"evntName":"x"}`), at + "evntName: is not known to OTLP"},
		{encodingJSON, record(`{"eventName":"x","eventName":"y"}`), at + "eventName: is there twice"},
		{encodingJSON, record(`{"eventName":7}`), at + "eventName: want a string, found a number"},
		{encodingJSON, record(`{"timeUnixNano":"-1"}`), at + "timeUnixNano: want an integer from 0"},
		{encodingJSON, record(`{"timeUnixNano":1.5}`), at + "timeUnixNano: want an integer from 0"},
		{encodingJSON, record(`{"flags":4294967296}`), at + "flags: want an integer from 0"},
		{encodingJSON, record(`{"severityNumber":"SEVERITY_NUMBER_LOUD"}`), at + "severityNumber: want the number or the name"},
		{encodingJSON, record(`{"traceId":"12"}`), at + "traceId: want 32 hexadecimal digits"},
		{encodingJSON, record(`{"spanId":"zz"}`), at + "spanId: want 16 hexadecimal digits"},
		{encodingJSON, record(`{"body":"text"}`), at + "body: want an object, found a string"},
		{encodingJSON, record(`{"body":{"stringValue":"a","intValue":"1"}}`), "a value has one member"},
		{encodingJSON, record(`{"body":{"intValue":"9223372036854775808"}}`), at + "body.intValue: want an integer of 64 bits"},
		{encodingJSON, record(`{"body":{"boolValue":"true"}}`), at + "body.boolValue: want true or false, found a string"},
		{encodingJSON, record(`{"body":{"bytesValue":"%"}}`), "base64"},
		{encodingJSON, record(`{"attributes":[{"key":"a","vlaue":{}}]}`), at + "attributes[0].vlaue: is not known"},
		{encodingJSON, record("{\"eventName\":\"\xff\"}"), "not JSON"},
		{encodingProtobuf, "\x0a\x05", "cut off or damaged"},
		{encodingProtobuf, "\x08\x01", "damaged"}, // a number where the groups should be
		{encodingProtobuf, "not protobuf", "damaged"},
		{encodingProtobuf, "\x0a\x04\x12\x02\x12\xff", "damaged"},
	} {
		r := postOTLP(t, url, c.form, c.body)
		assert.Equal(t, http.StatusBadRequest, r.code, c.body)
		assert.Contains(t, r.status(t).Message(), c.problem, c.body)
	}
	for _, contentType := range []string{"", "text/plain", "application/json; charset=latin1"} {
		r := postOTLP(t, url, encoding(contentType), `{}`)
		assert.Equal(t, http.StatusUnsupportedMediaType, r.code)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	assert.Equal(t, http.StatusMethodNotAllowed, do(t, req).status)
}

// What OTLP/JSON allows must pass the strict look at it.
func TestScanTakesWhatTheDecoderTakes(t *testing.T) {
	sent := records("a")
	group := sent.ResourceLogs().At(0)
	group.SetSchemaUrl("https://schema")
	group.Resource().SetDroppedAttributesCount(3)
	scope := group.ScopeLogs().At(0)
	scope.SetSchemaUrl("https://schema")
	scope.Scope().SetName("n")
	scope.Scope().SetVersion("v")
	scope.Scope().Attributes().PutBool("b", true)
	scope.Scope().SetDroppedAttributesCount(1)
	record := scope.LogRecords().At(0)
	record.SetSeverityNumber(plog.SeverityNumberError2)
	record.SetSeverityText("ERROR")
	record.SetTraceID(pcommon.TraceID{1})
	record.SetSpanID(pcommon.SpanID{2})
	record.SetFlags(plog.DefaultLogRecordFlags.WithIsSampled(true))
	record.SetDroppedAttributesCount(2)
	require.NoError(t, record.Body().FromRaw(map[string]any{
		"s": "x", "i": -5, "d": 1.5, "b": false, "bytes": []byte{1, 2, 3}, "list": []any{"x", nil, []any{}}, "map": map[string]any{"k": 1},
	}))
	found, err := scanJSON([]byte(marshalJSON(t, sent)))
	require.NoError(t, err)
	same, err := scanProto([]byte(marshalProto(t, sent)))
	require.NoError(t, err)
	assert.Equal(t, 3, found.records)
	assert.Equal(t, found, same, "both encodings are measured alike")
	for _, text := range []string{
		`{}`, ` {"resourceLogs":null} `, `{"resourceLogs":[{"resource":null,"scopeLogs":[{"scope":null,"logRecords":null}]}]}`,
		`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"SEVERITY_NUMBER_WARN2","timeUnixNano":1,"body":{"doubleValue":"NaN"}}]}]}]}`,
	} {
		_, err := scanJSON([]byte(text))
		require.NoError(t, err, text)
		require.NoError(t, plogotlp.NewExportRequest().UnmarshalJSON([]byte(text)), text)
	}
}

// Texts of which there may be many cost more than their bytes, so they are
// counted wherever OTLP has lists of them.
func TestListsOfTextsAreCounted(t *testing.T) {
	for name, field := range map[string]string{"idKeys": "\x1a\x00", "descriptionKeys": "\x22\x00"} {
		const n = 100_000
		inJSON := `{"resourceLogs":[{"resource":{"entityRefs":[{"` + name + `":[` + strings.Repeat(`"",`, n-1) + `null]}]}}]}`
		found, err := scanJSON([]byte(inJSON))
		require.NoError(t, err)
		assert.Equal(t, extent{records: 1, values: 1 + n}, found, name)

		wrap := func(number protowire.Number, inner string) string {
			return string(protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), []byte(inner)))
		}
		inProto := wrap(1, wrap(1, wrap(3, strings.Repeat(field, n))))
		found, err = scanProto([]byte(inProto))
		require.NoError(t, err)
		assert.Equal(t, extent{records: 1, values: 1 + n}, found, name)
		require.NoError(t, plogotlp.NewExportRequest().UnmarshalProto([]byte(inProto)), "the test speaks of what the decoder takes")
	}
}

func TestLogsOfAnotherTenant(t *testing.T) {
	config := testConfig()
	config.Tenant.Header = "X-Tenant"
	var tenant string
	url := serveLogs(t, config, func(ctx context.Context, logs plog.Logs) error {
		tenant = receipt.FromContext(ctx).Tenant
		return seal(ctx, logs)
	})
	sent := records("a", "b")
	assert.Equal(t, http.StatusForbidden, postOTLP(t, url, encodingProtobuf, marshalProto(t, sent)).code, "no tenant")
	assert.Equal(t, http.StatusOK, postOTLP(t, url, encodingProtobuf, marshalProto(t, sent), "X-Tenant", "acme").code)
	assert.Equal(t, "acme", tenant)
	sent.ResourceLogs().At(0).ScopeLogs().At(1).LogRecords().At(0).Attributes().PutStr(audit.AttributeTenantID, "evil")
	r := postOTLP(t, url, encodingProtobuf, marshalProto(t, sent), "X-Tenant", "acme")
	assert.Equal(t, http.StatusForbidden, r.code)
	assert.Equal(t, codes.PermissionDenied, r.status(t).Code())
	assert.Contains(t, r.status(t).Message(), "record 1: audit.tenant.id")
}

func TestLogsEmptyRequests(t *testing.T) {
	url := serveLogs(t, testConfig(), func(context.Context, plog.Logs) error { panic("nothing to take") })
	assert.Equal(t, http.StatusOK, postOTLP(t, url, encodingProtobuf, "").code)
	assert.Equal(t, http.StatusOK, postOTLP(t, url, encodingJSON, "{}").code)
	assert.Equal(t, http.StatusOK, postOTLP(t, url, encodingProtobuf, "\x0a\x02\x12\x00").code)
}

// nest wraps a value in arrays.
func nest(depth int) plog.Logs {
	logs := records("a")
	value := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Body()
	for range depth {
		value = value.SetEmptySlice().AppendEmpty()
	}
	value.SetStr("x")
	return logs
}

func TestLogsHostileBodies(t *testing.T) {
	config := testConfig()
	config.MaxInFlightBytes = defaultMaxBody
	receiver, url := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
	url = strings.Replace(url, pathEvents, pathLogs, 1)
	assert.Equal(t, http.StatusOK, postOTLP(t, url, encodingProtobuf, marshalProto(t, nest(maxValueDepth))).code)
	assert.Equal(t, http.StatusOK, postOTLP(t, url, encodingJSON, marshalJSON(t, nest(maxValueDepth))).code)
	for name, c := range map[string]struct {
		form encoding
		body string
		code int
	}{
		"deep protobuf":     {encodingProtobuf, marshalProto(t, nest(maxValueDepth+1)), 400},
		"deep json":         {encodingJSON, marshalJSON(t, nest(maxValueDepth+1)), 400},
		"very deep json":    {encodingJSON, strings.Repeat(`{"resourceLogs":[`, 1<<20), 400},
		"a million records": {encodingProtobuf, "\x0a\x84\x89\x7a\x12\x80\x89\x7a" + strings.Repeat("\x12\x00", 1_000_000), 413},
		"a million keys":    {encodingJSON, `{"resourceLogs":[{"resource":{"attributes":[` + strings.Repeat(`{},`, 1_000_000) + `{}]}}]}`, 413},
		"a million texts":   {encodingProtobuf, "\x0a\x88\x89\x7a\x0a\x84\x89\x7a\x1a\x80\x89\x7a" + strings.Repeat("\x1a\x00", 1_000_000), 413},
		"a million members": {encodingJSON, `{` + strings.Repeat(`"x":1,`, 1_000_000) + `"x":1}`, 400},
	} {
		r := postOTLP(t, url, c.form, c.body)
		assert.Equal(t, c.code, r.code, "%s: %.200s", name, r.body)
		assert.Zero(t, receiver.budget.used.Load(), name)
	}
}

// A zip bomb is read no further than the largest body.
func TestZipBomb(t *testing.T) {
	receiver, url := start(t, testConfig(), receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
	var bomb bytes.Buffer
	w, err := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	require.NoError(t, err)
	for range 2 * defaultMaxBody >> 20 {
		_, err := w.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.Less(t, bomb.Len(), 1<<20)
	for _, path := range []string{pathEvents, pathLogs} {
		r := postOTLP(t, strings.Replace(url, pathEvents, path, 1), encodingJSON, bomb.String(), "Content-Encoding", "gzip")
		assert.Equal(t, http.StatusRequestEntityTooLarge, r.code)
		assert.Zero(t, receiver.budget.used.Load())
	}
}

// The exporter of the Go SDK, as published.
func TestStockHTTPExporter(t *testing.T) {
	got := make(chan string, 1)
	url := serveLogs(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		got <- logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).EventName()
		return seal(ctx, logs)
	})
	exporter, err := otlploghttp.New(t.Context(), otlploghttp.WithEndpointURL(url), otlploghttp.WithCompression(otlploghttp.GzipCompression))
	require.NoError(t, err)
	provider := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewSimpleProcessor(exporter)))
	var record log.Record
	record.SetEventName("user.login")
	provider.Logger("test").Emit(t.Context(), record)
	assert.Equal(t, "user.login", <-got)
	require.NoError(t, provider.Shutdown(t.Context()))
}

// What cannot be stored is counted, and the rest is taken.
func TestUnknownFieldsAreCounted(t *testing.T) {
	tel := componenttest.NewTelemetry()
	defer func() { assert.NoError(t, tel.Shutdown(context.Background())) }()
	_, url := start(t, testConfig(), metadatatest.NewSettings(tel), componenttest.NewNopHost(), seal)
	body := protowire.AppendTag([]byte(marshalProto(t, records("a"))), 77, protowire.VarintType)
	body = protowire.AppendVarint(body, 5)
	assert.Equal(t, http.StatusOK, postOTLP(t, strings.Replace(url, pathEvents, pathLogs, 1), encodingProtobuf, string(body)).code)
	metadatatest.AssertEqualReceiverAuditUnknownFields(t, tel, []metricdata.DataPoint[int64]{{Value: 1}},
		metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
}

// Who is turned away before our handlers run gets the answer of the path, too.
func TestUnauthenticatedCallersGetTheAnswerOfThePath(t *testing.T) {
	id := component.MustNewID("fakeauth")
	h := newHost()
	h.extensions = map[component.ID]component.Component{id: &authenticator{}}
	config := testConfig()
	config.HTTP.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: id}})
	_, url := start(t, config, receivertest.NewNopSettings(metadata.Type), h, seal)
	for _, form := range []encoding{encodingProtobuf, encodingJSON} {
		logs := postOTLP(t, strings.Replace(url, pathEvents, pathLogs, 1), form, "")
		assert.Equal(t, http.StatusUnauthorized, logs.code)
		assert.Equal(t, codes.Unauthenticated, logs.status(t).Code())
		assert.Equal(t, problemUnauthenticated, logs.status(t).Message())
		one := postAudit(t, strings.Replace(url, pathEvents, pathAudit, 1), form, "")
		assert.Equal(t, http.StatusUnauthorized, one.code)
		assert.Equal(t, domainAuthz, one.Status)
		assert.NotContains(t, string(one.body), "hunter2")
	}
}
