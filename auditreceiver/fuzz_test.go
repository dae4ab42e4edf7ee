// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/receiver/receivertest"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadata"
)

func FuzzEventsHandler(f *testing.F) {
	for _, body := range []string{
		originalBody, `[]`, `{}`, "{}\n{}", `[{},7]`, `{"action":`, `{"events":[{"metadata":{"a":1e999}}]}`, "\xff", `[[[[`,
	} {
		f.Add("application/json", []byte(body))
	}
	f.Add("text/plain", []byte(`{}`))
	config := testConfig()
	config.MaxInFlightBytes = 1 << 16
	r, err := newReceiver(config, receivertest.NewNopSettings(metadata.Type), pipe(seal).logs())
	require.NoError(f, err)
	handler := r.handler()
	allowed := []int{http.StatusOK, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusTooManyRequests}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		req := httptest.NewRequest(http.MethodPost, pathEvents, bytes.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		require.True(t, slices.Contains(allowed, w.Code), "status %d", w.Code)
		require.True(t, json.Valid(w.Body.Bytes()), w.Body.String())
		require.Zero(t, r.budget.used.Load())
	})
}

// FuzzAuditHandler: whatever comes, the answer is JSON, in protobuf or not, that
// names a status of the OTEP, and never a partial success.
func FuzzAuditHandler(f *testing.F) {
	addOTLP(f, func(form encoding, body string) { f.Add(string(form), "", []byte(body)) })
	f.Add(string(encodingJSON), "", []byte(`{"timeUnixNano":"1","eventName":"x","attributes":[{"key":"audit.record.id","value":{"stringValue":"a"}}]}`))
	f.Add(string(encodingProtobuf), "application/json", []byte{})
	config := testConfig()
	config.MaxInFlightBytes = 1 << 16
	r, err := newReceiver(config, receivertest.NewNopSettings(metadata.Type), pipe(deliver).logs())
	require.NoError(f, err)
	handler := r.handler()
	f.Fuzz(func(t *testing.T, contentType, accept string, body []byte) {
		req := httptest.NewRequest(http.MethodPost, pathAudit, bytes.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		text := w.Body.Bytes()
		if encoding(w.Header().Get("Content-Type")) == encodingProtobuf {
			if w.Code == http.StatusOK {
				response := plogotlp.NewExportResponse()
				require.NoError(t, response.UnmarshalProto(text))
				require.Empty(t, response.PartialSuccess().ErrorMessage())
				require.Zero(t, response.PartialSuccess().RejectedLogRecords())
			}
			text = answerIn(t, text)
		}
		var answer struct{ Status string }
		require.NoError(t, json.Unmarshal(text, &answer), string(text))
		want := map[int]string{http.StatusOK: domainDelivered, http.StatusRequestEntityTooLarge: domainTooLarge, http.StatusTooManyRequests: domainInternal}[w.Code]
		if want == "" {
			want = domainSchema
		}
		require.Equal(t, want, answer.Status)
		require.Zero(t, r.budget.used.Load())
	})
}

func BenchmarkDecode(b *testing.B) {
	const events = 100
	one := originalBody[len(`{"events":[`) : len(originalBody)-len(`]}`)]
	// As an event of a web application is: about 1 KiB.
	one = strings.Replace(one, `"method":"password"`, `"method":"password","http":{"method":"POST","route":"/login","status":200,"duration_ms":12.5},`+
		`"device":{"id":"d-77","trusted":true,"os":"linux","browser":"firefox 140"},"risk":{"score":0.12,"signals":["new_device","new_country"]},`+
		`"note":"`+strings.Repeat("signed in from the usual place ", 7)+`"`, 1)
	text := "[" + strings.Repeat(one+",", events-1) + one + "]"
	budget := budget{limit: 1 << 30}
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		taken := newShare(&budget, "", nil)
		got, err := decode(text, &caller{tenant: "acme"}, taken)
		if err != nil || got.events != events || len(got.faults) > 0 {
			b.Fatal(err, got)
		}
		taken.release()
	}
	b.ReportMetric(float64(len(one)), "B/event")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}

// addOTLP adds requests, sound and not, to start from.
func addOTLP(f *testing.F, add func(form encoding, body string)) {
	f.Helper()
	deep := nest(3)
	deep.ResourceLogs().At(0).Resource().Attributes().PutEmptyMap("m").PutInt("i", -1)
	for _, logs := range []plog.Logs{records(), records("a"), records("a", "b"), deep} {
		add(encodingProtobuf, marshalProto(f, logs))
		add(encodingJSON, marshalJSON(f, logs))
	}
	for _, text := range []string{`{}`, `null`, `[]`, `{"resourceLogs":null}`, `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"doubleValue":"NaN"}}]}]}]}`, "\xff", `[[[[`} {
		add(encodingJSON, text)
	}
	add(encodingProtobuf, "\x0a\x02\x12\x00")
	add(encodingProtobuf, "\x0b\x0b\x0c\x0c")
}

// FuzzOTLPJSON: what passes the strict look and is decoded passes it again once
// it is encoded, with no more in it than was counted.
func FuzzOTLPJSON(f *testing.F) {
	addOTLP(f, func(form encoding, body string) {
		if form == encodingJSON {
			f.Add([]byte(body))
		}
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		found, err := scanJSON(body)
		require.Equal(t, before, body, "looking must not change the request")
		if err != nil {
			require.True(t, utf8.ValidString(err.Error()) || !utf8.Valid(body))
			return
		}
		request := plogotlp.NewExportRequest()
		if err := request.UnmarshalJSON(body); err != nil {
			return
		}
		again, err := request.MarshalJSON()
		require.NoError(t, err)
		same, err := scanJSON(again)
		require.NoError(t, err, string(again))
		require.LessOrEqual(t, request.Logs().LogRecordCount(), found.records)
		require.LessOrEqual(t, same.records, found.records)
	})
}

// FuzzOTLPProto: what the decoder reads passes the look at it, unless it is
// nested too deep, and is counted in full.
func FuzzOTLPProto(f *testing.F) {
	addOTLP(f, func(form encoding, body string) {
		if form == encodingProtobuf {
			f.Add([]byte(body))
		}
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		found, err := scanProto(body)
		if err != nil {
			return
		}
		request := plogotlp.NewExportRequest()
		if request.UnmarshalProto(body) != nil {
			return
		}
		again, err := request.MarshalProto()
		require.NoError(t, err)
		same, err := scanProto(again)
		require.NoError(t, err)
		require.LessOrEqual(t, request.Logs().LogRecordCount(), found.records)
		require.LessOrEqual(t, same.unknown, found.unknown, "the decoder keeps some of them")
	})
}

func FuzzLogsHandler(f *testing.F) {
	addOTLP(f, func(form encoding, body string) { f.Add(string(form), []byte(body)) })
	f.Add("text/plain", []byte(`{}`))
	config := testConfig()
	config.MaxInFlightBytes = 1 << 16
	r, err := newReceiver(config, receivertest.NewNopSettings(metadata.Type), pipe(seal).logs())
	require.NoError(f, err)
	handler := r.handler()
	allowed := []int{http.StatusOK, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusTooManyRequests}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		req := httptest.NewRequest(http.MethodPost, pathLogs, bytes.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		require.True(t, slices.Contains(allowed, w.Code), "status %d", w.Code)
		if encoding(w.Header().Get("Content-Type")) == encodingJSON {
			require.True(t, json.Valid(w.Body.Bytes()), w.Body.String())
		} else if w.Code != http.StatusOK {
			require.NoError(t, proto.Unmarshal(w.Body.Bytes(), &rpc.Status{}))
		}
		require.Zero(t, r.budget.used.Load())
	})
}
