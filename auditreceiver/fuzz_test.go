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

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/receiver/receivertest"

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
		taken := share{of: &budget}
		got, err := decode(text, "acme", &taken)
		if err != nil || got.events != events || len(got.faults) > 0 {
			b.Fatal(err, got)
		}
		taken.release()
	}
	b.ReportMetric(float64(len(one)), "B/event")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}
