// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/testbed"
)

// auditAnswer is what /v1/audit says, of a batch and of its records.
type auditAnswer struct {
	Code       int
	Body       string
	Status     string                     `json:"status"`
	Reason     string                     `json:"reason"`
	RetryAfter int                        `json:"retry_after"`
	Checkpoint string                     `json:"checkpoint"`
	Records    map[string]json.RawMessage `json:"record_status_map"`
	Sinks      map[string]struct {
		Type     string `json:"sink_type"`
		Delivery string `json:"delivery_status"`
		Attempts int    `json:"attempt_count"`
		Required *bool  `json:"required"`
		Last     string `json:"last_attempt_at"`
		Code     string `json:"error_code"`
	} `json:"sink_status_aggregate"`
}

// postAudit sends records to /v1/audit.
func postAudit(t *testing.T, c *testbed.Collector, logs plog.Logs) auditAnswer {
	t.Helper()
	body, err := plogotlp.NewExportRequestFromLogs(logs).MarshalJSON()
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.HTTP+"/v1/audit", bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { assert.NoError(t, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	answer := auditAnswer{Code: response.StatusCode, Body: string(text)}
	require.NoError(t, json.Unmarshal(text, &answer), answer.Body)
	assert.NotContains(t, answer.Body, "artial", "neither partialSuccess nor partial_success")
	return answer
}

// receiptOf is the receipt without what changes from one question to the next:
// how the delivery stands and which checkpoint covers the record.
func receiptOf(t *testing.T, record json.RawMessage) map[string]any {
	t.Helper()
	var receipt map[string]any
	require.NoError(t, json.Unmarshal(record, &receipt))
	for _, name := range []string{"record_id", "integrity_hash", "sink_timestamp", "origin", "index", "stream", "seq", "hash"} {
		assert.Contains(t, receipt, name)
	}
	delete(receipt, "status")
	delete(receipt, "retry_after")
	delete(receipt, "checkpoint_size")
	return receipt
}

// The receipt is real: delivered means that every sink has it, the same again is
// the same receipt, after a kill as well, and other content is a conflict.
func TestAuditReceipts(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	first := postAudit(t, c, testbed.OTLPRecords("first", "one", "two"))
	require.Equal(t, http.StatusOK, first.Code, first.Body)
	assert.Equal(t, "delivered_all_sinks", first.Status)
	require.Len(t, first.Records, 2)
	assert.Equal(t, "file", first.Sinks["audit"].Type)
	assert.Equal(t, "success", first.Sinks["audit"].Delivery)
	require.Equal(t, map[string]int{"one": 1, "two": 1}, readStore(t, settings.Store()).Records, "in the sink before the answer")
	eventually(t, 30*time.Second, func() bool { return postAudit(t, c, testbed.OTLPRecords("first", "one", "two")).Checkpoint != "" },
		"a signed checkpoint covers the records")
	check := func() {
		again := postAudit(t, c, testbed.OTLPRecords("first", "one", "two"))
		assert.Equal(t, http.StatusOK, again.Code, again.Body)
		for id := range first.Records {
			assert.Equal(t, receiptOf(t, first.Records[id]), receiptOf(t, again.Records[id]), "the stored receipt again")
		}
		other := postAudit(t, c, testbed.OTLPRecords("second", "three", "one"))
		assert.Equal(t, http.StatusConflict, other.Code, other.Body)
	}
	check()
	require.NoError(t, c.Kill())
	c = start(t, settings)
	check()
	stop(t, c)
	requireSound(t, settings)
	assert.Equal(t, map[string]int{"one": 1, "two": 1}, readStore(t, settings.Store()).Records, "nothing of a refused batch, nothing twice")
}

// One bad record of 512: 400, and no sink sees any of them.
func TestAuditRefusesTheWholeBatch(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	var ids []string
	for i := range 512 {
		ids = append(ids, fmt.Sprintf("r-%d", i))
	}
	logs := testbed.OTLPRecords("bad", ids...)
	logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(300).Attributes().Remove(audit.AttributeOutcome)
	answer := postAudit(t, c, logs)
	assert.Equal(t, http.StatusBadRequest, answer.Code)
	assert.Equal(t, "rejected_schema_invalid", answer.Status)
	assert.Contains(t, answer.Reason, "record 300")
	assert.Len(t, answer.Records, 512)
	stop(t, c)
	requireSound(t, settings)
	assert.Empty(t, readStore(t, settings.Store()).Records)
}

// A required sink is down: never 200 but 202 with the receipt, and the same
// request is the question how it stands.
func TestAuditRequiredSinkDown(t *testing.T) {
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: append(toSink(sink), "processors::audit::ack_timeout: 300ms")}
	c := start(t, settings)
	pending := postAudit(t, c, testbed.OTLPRecords("x", "one", "two"))
	require.Equal(t, http.StatusAccepted, pending.Code, pending.Body)
	assert.Equal(t, "verified_queued", pending.Status)
	assert.Positive(t, pending.RetryAfter)
	assert.Equal(t, http.StatusAccepted, postAudit(t, c, testbed.OTLPRecords("x", "one", "two")).Code)
	require.NoError(t, sink.Up())
	var delivered auditAnswer
	eventually(t, 30*time.Second, func() bool {
		delivered = postAudit(t, c, testbed.OTLPRecords("x", "one", "two"))
		return delivered.Code == http.StatusOK
	}, "the sink is back")
	assert.Equal(t, receiptOf(t, pending.Records["one"]), receiptOf(t, delivered.Records["one"]))
	stop(t, c)
	requireSoundStore(t, settings, sink.Store())
	assert.Equal(t, map[string]int{"one": 1, "two": 1}, readStore(t, sink.Store()).Records)
}

func freeEndpoint(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, listener.Close()) }()
	return listener.Addr().String()
}

// An optional sink is down: 200, and the answer says how it stands.
func TestAuditOptionalSinkDown(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = []string{fmt.Sprintf(`
exporters: {audit/copy: {required: false, http: {endpoint: "http://%s"}, quarantine: {directory: %q}}}
service: {pipelines: {logs/audit: {exporters: [audit, audit/copy]}}}
`, freeEndpoint(t), filepath.Join(settings.Directory, "copy.quarantine"))}
	c := start(t, settings)
	var answer auditAnswer
	eventually(t, 20*time.Second, func() bool {
		answer = postAudit(t, c, testbed.OTLPRecords("x", "one", "two"))
		require.Equal(t, http.StatusOK, answer.Code, answer.Body)
		postAudit(t, c, testbed.OTLPRecords("x", fmt.Sprint(time.Now().UnixNano()))) // the sink tells when it is given something
		return answer.Sinks["audit/copy"].Delivery == "retrying"
	}, "the copy is down")
	assert.Equal(t, "success", answer.Sinks["audit"].Delivery)
	assert.Nil(t, answer.Sinks["audit"].Required)
	assert.Equal(t, new(bool), answer.Sinks["audit/copy"].Required, "said of the optional one alone")
	stop(t, c)
}

// OTLP through our own door, as the quickstart has it: the stock client over
// gRPC, protobuf over HTTP, and the same id with other content.
func TestOTLPThroughTheAuditReceiver(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	ports := []string{freeEndpoint(t), freeEndpoint(t)}
	settings.Extra = []string{fmt.Sprintf(`
receivers: {audit/otlp: {http: {endpoint: %s}, grpc: {endpoint: %s}}}
service: {pipelines: {logs/audit: {receivers: [audit, audit/otlp]}}}
`, ports[0], ports[1])}
	c := start(t, settings)
	c.OTLPHTTP, c.OTLPGRPC = ports[0], ports[1]
	client, err := testbed.NewOTLPClient(c)
	require.NoError(t, err)
	require.NoError(t, client.SendGRPC(t.Context(), testbed.OTLPRecords("x", "grpc")))
	for records, want := range map[string]int{"x": http.StatusOK, "y": http.StatusConflict} {
		code, err := client.SendHTTP(t.Context(), testbed.OTLPRecords(records, "grpc"))
		require.NoError(t, err)
		assert.Equal(t, want, code)
	}
	require.NoError(t, client.Close())
	stop(t, c)
	requireSound(t, settings)
	assert.Equal(t, map[string]int{"grpc": 1}, readStore(t, settings.Store()).Records)
}

// A proof that fails refuses the batch at /v1/audit whatever the processor does
// with others, and no sink sees any of it.
func TestAuditRefusesFailedProofs(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir(), Extra: []string{`processors: {audit: {proof: {require_signature: [{service: otlp-client}]}}}`}}
	c := start(t, settings)
	answer := postAudit(t, c, testbed.OTLPRecords("x", "one", "two"))
	assert.Equal(t, http.StatusBadRequest, answer.Code)
	assert.Equal(t, "rejected_verify_failed", answer.Status)
	var one struct {
		VerifyStatus string `json:"verify_status"`
		Reason       string `json:"reason"`
	}
	require.NoError(t, json.Unmarshal(answer.Records["one"], &one))
	assert.Equal(t, "failed", one.VerifyStatus)
	assert.Contains(t, one.Reason, audit.AttributeIntegrityValue)
	stop(t, c)
	requireSound(t, settings)
	assert.Empty(t, readStore(t, settings.Store()).Records)
}
