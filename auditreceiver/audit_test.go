// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// recordStatus is what /v1/audit says of one record.
type recordStatus struct {
	RecordID       string `json:"record_id"`
	Status         string `json:"status"`
	IntegrityHash  string `json:"integrity_hash"`
	SinkTimestamp  string `json:"sink_timestamp"`
	VerifyStatus   string `json:"verify_status"`
	Reason         string `json:"reason"`
	Origin         string `json:"origin"`
	Index          string `json:"index"`
	Stream         string `json:"stream"`
	Seq            string `json:"seq"`
	Hash           string `json:"hash"`
	CheckpointSize string `json:"checkpoint_size"`
	RetryAfter     int    `json:"retry_after"`
}

// auditReply is an answer of /v1/audit, of a single record or of a batch.
type auditReply struct {
	otlpReply
	recordStatus

	Sinks      map[string]map[string]any `json:"sink_status_map"`
	Aggregate  map[string]map[string]any `json:"sink_status_aggregate"`
	BatchID    string                    `json:"batch_id"`
	Checkpoint string                    `json:"checkpoint"`
	Records    map[string]recordStatus   `json:"record_status_map"`
}

func postAudit(t *testing.T, url string, form encoding, body string, header ...string) auditReply {
	t.Helper()
	got := auditReply{otlpReply: postOTLP(t, url, form, body, header...)}
	text := got.body
	if encoding(got.header.Get("Content-Type")) == encodingProtobuf {
		text = answerIn(t, got.body)
	}
	assert.NotContains(t, strings.ToLower(string(got.body)), "partialsuccess")
	assert.NotContains(t, strings.ToLower(string(got.body)), "partial_success")
	require.NoError(t, json.Unmarshal(text, &got), string(text))
	return got
}

// answerIn finds the JSON in a protobuf answer.
func answerIn(t *testing.T, body []byte) []byte {
	t.Helper()
	for len(body) > 0 {
		number, wire, n := protowire.ConsumeTag(body)
		require.Positive(t, n)
		size := protowire.ConsumeFieldValue(number, wire, body[n:])
		require.GreaterOrEqual(t, size, 0)
		if number == answerField {
			text, _ := protowire.ConsumeBytes(body[n:])
			return text
		}
		body = body[n+size:]
	}
	t.Fatal("the answer is not there")
	return nil
}

func serveAudit(t *testing.T, config *Config, next pipe) string {
	t.Helper()
	return strings.Replace(serve(t, config, next), pathEvents, pathAudit, 1)
}

// deliver seals as the processor does and says that all sinks have it.
func deliver(ctx context.Context, logs plog.Logs) error {
	filled := receipt.FromContext(ctx)
	filled.Checkpoint = &receipt.Checkpoint{Origin: "host/0011/x", Size: 2, Note: []byte("host/0011/x\n2\nroot=\n\n— host key\n")}
	err := seal(ctx, logs)
	ids := (&batch{logs: logs}).ids()
	for i := range filled.Results {
		filled.Results[i].RecordID = ids[i]
		filled.Results[i].Link.SealedAt = 1_700_000_000_000_000_005
	}
	return err
}

// /v1/audit asks for records without a fault, and waits until they are delivered;
// /v1/logs on the same server asks for neither.
func TestAuditAsksForWhatItPromises(t *testing.T) {
	strict := false
	url := serveAudit(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		filled := receipt.FromContext(ctx)
		assert.Equal(t, strict, filled.RejectInvalid)
		assert.Equal(t, strict, filled.AwaitDelivery != nil)
		assert.True(t, filled.IntegrityHash)
		return deliver(ctx, logs)
	})
	body := marshalJSON(t, records("a"))
	assert.Equal(t, http.StatusOK, postOTLP(t, strings.Replace(url, pathAudit, pathLogs, 1), encodingJSON, body).code)
	strict = true
	assert.Equal(t, http.StatusOK, postAudit(t, url, encodingJSON, body).code)
}

func TestAuditSingleRecord(t *testing.T) {
	url := serveAudit(t, testConfig(), deliver)
	bare := marshalJSON(t, records("a"))
	bare = bare[strings.Index(bare, `{"timeUnixNano"`):]
	bare = strings.TrimSuffix(bare, `]}]}]}`)
	for name, r := range map[string]auditReply{
		"json":             postAudit(t, url, encodingJSON, marshalJSON(t, records("a"))),
		"a bare record":    postAudit(t, url, encodingJSON, bare),
		"protobuf":         postAudit(t, url, encodingProtobuf, marshalProto(t, records("a"))),
		"protobuf to json": postAudit(t, url, encodingProtobuf, marshalProto(t, records("a")), "Accept", "application/json"),
	} {
		assert.Equal(t, http.StatusOK, r.code, name)
		assert.Equal(t, recordStatus{
			RecordID: "id-a", Status: domainDelivered, IntegrityHash: "cd" + strings.Repeat("00", 31), SinkTimestamp: "1700000000000000005",
			Origin: "host/0011/x", Index: "1", Stream: "none:", Seq: "7", Hash: "ab" + strings.Repeat("00", 31), CheckpointSize: "2",
		}, r.recordStatus, name)
		assert.Contains(t, r.Checkpoint, "— host key", name)
		assert.Empty(t, r.BatchID, name)
		assert.Nil(t, r.Records, name)
	}
}

func TestAuditBatch(t *testing.T) {
	url := serveAudit(t, testConfig(), deliver)
	r := postAudit(t, url, encodingJSON, marshalJSON(t, records("a", "b")))
	assert.Equal(t, http.StatusOK, r.code)
	assert.Equal(t, domainDelivered, r.Status)
	assert.Len(t, r.BatchID, 32)
	require.Len(t, r.Records, 2)
	assert.Equal(t, "1", r.Records["id-a"].Index)
	assert.Equal(t, "2", r.Records["id-a"].CheckpointSize, "covered")
	assert.Equal(t, "2", r.Records["id-b"].Index)
	assert.Empty(t, r.Records["id-b"].CheckpointSize, "not yet covered")
	assert.Equal(t, r.BatchID, postAudit(t, url, encodingProtobuf, marshalProto(t, records("a", "b"))).BatchID, "the same batch has the same name")
	assert.NotEqual(t, r.BatchID, postAudit(t, url, encodingJSON, marshalJSON(t, records("b", "a"))).BatchID)
}

// A stock client reads our protobuf 200 as success: with the collector's parser
// and with the exporter of the Go SDK.
func TestStockClientReadsAuditAnswer(t *testing.T) {
	url := serveAudit(t, testConfig(), deliver)
	r := postOTLP(t, url, encodingProtobuf, marshalProto(t, records("a", "b")))
	require.Equal(t, http.StatusOK, r.code)
	assert.Equal(t, string(encodingProtobuf), r.header.Get("Content-Type"))
	response := plogotlp.NewExportResponse()
	require.NoError(t, response.UnmarshalProto(r.body))
	assert.Zero(t, response.PartialSuccess().RejectedLogRecords())
	assert.Empty(t, response.PartialSuccess().ErrorMessage())

	exporter, err := otlploghttp.New(t.Context(), otlploghttp.WithEndpointURL(url), otlploghttp.WithRetry(otlploghttp.RetryConfig{}))
	require.NoError(t, err)
	var record log.Record
	record.SetEventName("user.login")
	record.AddAttributes(log.String(audit.AttributeRecordID, "id-1"))
	taken := &capture{}
	provider := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewSimpleProcessor(taken)))
	provider.Logger("test").Emit(t.Context(), record)
	require.NoError(t, exporter.Export(t.Context(), taken.records))
	require.NoError(t, exporter.Shutdown(t.Context()))
}

// capture keeps the SDK's form of records.
type capture struct{ records []sdklog.Record }

func (c *capture) Export(_ context.Context, records []sdklog.Record) error {
	for i := range records {
		c.records = append(c.records, records[i].Clone())
	}
	return nil
}
func (*capture) Shutdown(context.Context) error   { return nil }
func (*capture) ForceFlush(context.Context) error { return nil }

func TestAuditPendingIsAccepted(t *testing.T) {
	url := serveAudit(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		receipt.FromContext(ctx).Pending = true
		return deliver(ctx, logs)
	})
	r := postAudit(t, url, encodingJSON, marshalJSON(t, records("a", "b")))
	assert.Equal(t, http.StatusAccepted, r.code)
	assert.Equal(t, "5", r.header.Get("Retry-After"))
	assert.Equal(t, domainQueued, r.Status)
	assert.Equal(t, 5, r.RetryAfter)
	assert.Equal(t, domainQueued, r.Records["id-a"].Status)
	assert.Equal(t, 5, r.Records["id-a"].RetryAfter)
	assert.Equal(t, "1", r.Records["id-a"].Index, "the receipt is there: it is durable")

	r = postAudit(t, url, encodingJSON, marshalJSON(t, records("a")))
	assert.Equal(t, http.StatusAccepted, r.code)
	assert.Equal(t, domainQueued, r.Status)
	assert.Equal(t, 5, r.RetryAfter, "in the answer of a single record as well")
}

// A required sink refused a record for good: never 200.
func TestAuditQuarantinedIsNotDelivered(t *testing.T) {
	url := serveAudit(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		defer func() { receipt.FromContext(ctx).Results[1].QuarantinedBy = []string{"audit"} }()
		return deliver(ctx, logs)
	})
	r := postAudit(t, url, encodingJSON, marshalJSON(t, records("a", "b")))
	assert.Equal(t, http.StatusAccepted, r.code)
	assert.Equal(t, "300", r.header.Get("Retry-After"))
	assert.Equal(t, domainPartial, r.Status)
	assert.Equal(t, domainPartial, r.Records["id-b"].Status)
	assert.Equal(t, reasonQuarantined, r.Records["id-b"].Reason)
}

// One bad record of many: the whole batch is refused, and nothing of it goes on.
func TestAuditRefusesTheWholeBatch(t *testing.T) {
	var names []string
	for range 512 {
		names = append(names, "r"+strings.Repeat("x", len(names)%7)+string(rune('a'+len(names)%26))+string(rune('a'+len(names)/26)))
	}
	sent := records(names...)
	bad := sent.ResourceLogs().At(0).ScopeLogs().At(300).LogRecords().At(0)
	bad.Attributes().Remove(audit.AttributeRecordID)
	url := serveAudit(t, testConfig(), func(context.Context, plog.Logs) error { panic("a faulty request must not reach the pipeline") })
	r := postAudit(t, url, encodingProtobuf, marshalProto(t, sent))
	assert.Equal(t, http.StatusBadRequest, r.code)
	assert.Equal(t, domainSchema, r.Status)
	assert.Contains(t, r.Reason, "record 300: audit.record.id: is missing")
	assert.Len(t, r.Records, 511)
	for _, one := range r.Records {
		assert.Equal(t, domainSchema, one.Status)
		assert.Contains(t, one.Reason, "because of another record")
		assert.Empty(t, one.Index)
	}

	unnamed := records("a")
	unnamed.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).SetEventName("")
	r = postAudit(t, url, encodingJSON, marshalJSON(t, unnamed))
	assert.Equal(t, http.StatusBadRequest, r.code)
	assert.Equal(t, "event_name: is missing", r.Reason)
	assert.Equal(t, domainSchema, r.Status)
	assert.Equal(t, "id-a", r.RecordID)
}

func TestAuditPipelineErrors(t *testing.T) {
	refused := func(err error, results ...receipt.Result) pipe {
		return func(ctx context.Context, _ plog.Logs) error {
			return errors.Join(err, receipt.FromContext(ctx).Fill(results))
		}
	}
	for name, c := range map[string]struct {
		next       pipe
		code       int
		domain     string
		retryAfter int
	}{
		"schema":   {refused(receipt.Refused("record 1: no actor"), receipt.Result{}, receipt.Result{Reasons: []string{"actor"}}), 400, domainSchema, 0},
		"verify":   {refused(receipt.Refused("record 1: proof"), receipt.Result{}, receipt.Result{Reasons: []string{"proof"}, VerifyStatus: receipt.VerifyFailed}), 400, domainVerifyFailed, 0},
		"conflict": {refused(receipt.IDTaken("record 1: id"), receipt.Result{}, receipt.Result{Reasons: []string{"id"}}), 409, domainIDTaken, 0},
		"large":    {refused(receipt.TooLarge("never fits")), 413, domainTooLarge, 0},
		"full":     {func(context.Context, plog.Logs) error { return receipt.Unavailable("full", 7*time.Second) }, 503, domainInternal, 7},
		"busy":     {refused(status.Error(codes.ResourceExhausted, "slow down")), 429, domainInternal, 5},
		"plain":    {refused(errors.New("disk")), 503, domainInternal, 5},
		"internal": {refused(status.Error(codes.Internal, "bug")), 503, domainInternal, 5},
		"wiring":   {func(context.Context, plog.Logs) error { return nil }, 503, domainInternal, 60},
	} {
		t.Run(name, func(t *testing.T) {
			r := postAudit(t, serveAudit(t, testConfig(), c.next), encodingProtobuf, marshalProto(t, records("a", "b")))
			assert.Equal(t, c.code, r.code)
			assert.Equal(t, c.domain, r.Status)
			assert.Equal(t, c.retryAfter, r.RetryAfter)
			assert.Equal(t, codeOf(c.code), r.status(t).Code())
			require.Len(t, r.Records, 2)
			for _, one := range r.Records {
				assert.Equal(t, c.domain, one.Status)
			}
			if name == "verify" {
				assert.Equal(t, "proof", r.Records["id-b"].Reason)
				assert.Equal(t, "failed", r.Records["id-b"].VerifyStatus)
				assert.Contains(t, r.Records["id-a"].Reason, "because of another record")
			}
		})
	}
}

func TestAuditVerifyStatusIsInTheReceipt(t *testing.T) {
	url := serveAudit(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		defer func() { receipt.FromContext(ctx).Results[0].VerifyStatus = receipt.VerifyPassed }()
		return deliver(ctx, logs)
	})
	assert.Equal(t, "passed", postAudit(t, url, encodingJSON, marshalJSON(t, records("a"))).VerifyStatus)
}

// An id that a batch has twice is in the map once, and a fault is not hidden
// behind its twin.
func TestAuditSameIDTwice(t *testing.T) {
	twice := records("a", "b")
	twice.ResourceLogs().At(0).ScopeLogs().At(1).LogRecords().At(0).Attributes().PutStr(audit.AttributeRecordID, "id-a")
	url := serveAudit(t, testConfig(), deliver)
	r := postAudit(t, url, encodingJSON, marshalJSON(t, twice))
	require.Equal(t, http.StatusOK, r.code)
	require.Len(t, r.Records, 1)
	url = serveAudit(t, testConfig(), func(ctx context.Context, _ plog.Logs) error {
		return errors.Join(receipt.IDTaken("record 1: twice"), receipt.FromContext(ctx).Fill([]receipt.Result{{}, {Reasons: []string{"other content"}}}))
	})
	r = postAudit(t, url, encodingJSON, marshalJSON(t, twice))
	require.Equal(t, http.StatusConflict, r.code)
	assert.Equal(t, "other content", r.Records["id-a"].Reason)
}

// Of an id that is there twice the last is stored, so that is the one which is
// answered for, and without which a record is refused.
func TestAuditIDIsTheOneThatIsStored(t *testing.T) {
	var sealed []string
	url := serveAudit(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		sealed = append(sealed, (&batch{logs: logs}).ids()...)
		return deliver(ctx, logs)
	})
	twice := func(last pcommon.Value) string {
		logs := records("first")
		last.CopyTo(logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutEmpty("audit.record.XX"))
		return strings.Replace(marshalProto(t, logs), "audit.record.XX", audit.AttributeRecordID, 1)
	}
	r := postAudit(t, url, encodingProtobuf, twice(pcommon.NewValueStr("last")))
	assert.Equal(t, http.StatusOK, r.code)
	assert.Equal(t, "last", r.RecordID)
	assert.Equal(t, []string{"last"}, sealed)
	for _, last := range []pcommon.Value{pcommon.NewValueStr(""), pcommon.NewValueInt(7), pcommon.NewValueEmpty()} {
		r = postAudit(t, url, encodingProtobuf, twice(last))
		assert.Equal(t, http.StatusBadRequest, r.code, last.AsString())
		assert.Contains(t, r.Reason, audit.AttributeRecordID)
	}
	assert.Len(t, sealed, 1)
}

func TestAuditErrorsBeforeThePipeline(t *testing.T) {
	config := testConfig()
	config.HTTP.MaxRequestBodySize = 2000
	config.Tenant.Header = "X-Tenant"
	url := serveAudit(t, config, func(context.Context, plog.Logs) error { panic("must not come here") })
	for _, c := range []struct {
		form   encoding
		body   string
		header []string
		code   int
		domain string
	}{
		{encodingJSON, `{"evntName":"x"}`, []string{"X-Tenant", "acme"}, 400, domainSchema},
		{encodingJSON, `{"timeUnixNano":1,"evntName":"x"}`, []string{"X-Tenant", "acme"}, 400, domainSchema},
		{encodingProtobuf, "\x0a\x05", []string{"X-Tenant", "acme"}, 400, domainSchema},
		{encodingProtobuf, marshalProto(t, records("a")), nil, 403, domainAuthz},
		{encodingJSON, `{"resourceLogs":[` + strings.Repeat(" ", 2000) + `]}`, []string{"X-Tenant", "acme"}, 413, domainTooLarge},
		{"text/plain", `{}`, []string{"X-Tenant", "acme"}, 415, domainSchema},
		{encodingJSON, `x`, []string{"X-Tenant", "acme", "Content-Encoding", "gzip"}, 400, domainSchema},
	} {
		r := postAudit(t, url, c.form, c.body, c.header...)
		assert.Equal(t, c.code, r.code, c.body)
		assert.Equal(t, c.domain, r.Status, c.body)
		assert.NotEmpty(t, r.Reason, c.body)
	}
	empty := postAudit(t, url, encodingJSON, `{}`, "X-Tenant", "acme")
	assert.Equal(t, http.StatusOK, empty.code)
	assert.Equal(t, domainDelivered, empty.Status)
}

// Who waits for a delivery is told at once when the receiver stops.
func TestAuditShutdownEndsTheWait(t *testing.T) {
	entered := make(chan struct{})
	r, err := newReceiver(testConfig(), receivertest.NewNopSettings(metadata.Type), pipe(func(ctx context.Context, logs plog.Logs) error {
		filled := receipt.FromContext(ctx)
		close(entered)
		select {
		case <-filled.AwaitDelivery:
			filled.Pending = true
		case <-ctx.Done():
		}
		return deliver(ctx, logs)
	}).logs())
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	url := "http://" + r.listener.Addr().String() + pathAudit
	body := marshalJSON(t, records("a"))
	code := make(chan int, 1)
	go func() { code <- postQuietly(url, body) }()
	<-entered
	require.NoError(t, r.Shutdown(context.Background()))
	assert.Equal(t, http.StatusAccepted, <-code)
}

func TestBareRecordIsToldFromARequest(t *testing.T) {
	for body, want := range map[string]bool{
		`{"timeUnixNano":"1"}`: true, ` { "eventName" : "x" }`: true, `{"attributes":[]}`: true,
		`{}`: false, `{"resourceLogs":[]}`: false, `[]`: false, ``: false, `{"x":1}`: false, `{1}`: false,
	} {
		assert.Equal(t, want, isBareRecord([]byte(body)), body)
	}
}

func TestCheckpointCovers(t *testing.T) {
	c := &receipt.Checkpoint{Origin: "o", Size: 3}
	assert.True(t, c.Covers(&chain.Link{Origin: "o", Index: 2}))
	assert.False(t, c.Covers(&chain.Link{Origin: "o", Index: 3}))
	assert.False(t, c.Covers(&chain.Link{Origin: "p", Index: 2}))
	assert.False(t, (*receipt.Checkpoint)(nil).Covers(&chain.Link{}))
}

// A refused batch of many records costs no more than its records: an answer that
// looked at all of them for each took twelve seconds of a core for 2 MB.
func TestAuditAnswerOfManyRecords(t *testing.T) {
	const records = 50_000
	a := answer{status: http.StatusBadRequest}
	for i := range records {
		a.ids = append(a.ids, strconv.Itoa(i))
		a.results = append(a.results, result{status: statusRefused, reason: "r", sealed: &receipt.Result{}})
	}
	const most = 3 * time.Second // far above what it takes, far below what it took
	began := time.Now()
	assert.Equal(t, records, bytes.Count(a.appendDomain(nil), []byte(`"record_id"`)))
	assert.Less(t, time.Since(began), most)
}

func TestAuditSinksAreNamed(t *testing.T) {
	url := serveAudit(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		filled := receipt.FromContext(ctx)
		filled.Sinks = []receipt.SinkStatus{
			{Sink: "audit/a", Type: "file", Delivery: receipt.DeliverySuccess},
			{Sink: "audit/b", Type: "http", Delivery: receipt.DeliveryTimeout, Attempts: 3, LastAttempt: time.Unix(0, 77), Code: receipt.CodeTimeout},
			{Sink: "audit/c", Type: "file", Delivery: receipt.DeliveryRetrying, Optional: true},
		}
		err := deliver(ctx, logs)
		if logs.LogRecordCount() > 1 {
			filled.Results[1].QuarantinedBy = []string{"audit/a"}
		}
		return err
	})
	late := map[string]any{
		"exporter_name": "audit/b", "sink_type": "http", "delivery_status": "timeout", "attempt_count": 3.0, "last_attempt_at": "77", "error_code": "timeout",
	}
	optional := map[string]any{"exporter_name": "audit/c", "sink_type": "file", "delivery_status": "retrying", "required": false}
	one := postAudit(t, url, encodingJSON, marshalJSON(t, records("a")))
	assert.Equal(t, map[string]map[string]any{
		"audit/a": {"exporter_name": "audit/a", "sink_type": "file", "delivery_status": "success"}, "audit/b": late, "audit/c": optional,
	}, one.Sinks)
	batch := postAudit(t, url, encodingProtobuf, marshalProto(t, records("a", "b")))
	assert.Equal(t, map[string]map[string]any{
		"audit/a": {"exporter_name": "audit/a", "sink_type": "file", "delivery_status": "failed"}, "audit/b": late, "audit/c": optional,
	}, batch.Aggregate)
	assert.Equal(t, domainPartial, batch.Status)
}
