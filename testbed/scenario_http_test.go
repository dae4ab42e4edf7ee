// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

func newHTTPSink(t *testing.T) *testbed.HTTPSink {
	t.Helper()
	sink, err := testbed.NewHTTPSink(filepath.Join(t.TempDir(), "received"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sink.Close()) })
	return sink
}

// toHTTP is the configuration of a pipeline that posts in this format to the
// sink alone, and soon again after a failure.
func toHTTP(directory string, sink *testbed.HTTPSink, format string) []string {
	return []string{
		fmt.Sprintf("exporters: {audit/http: {http: {endpoint: http://%s/audit, format: %s, timeout: 1s, signing_secrets: [%q]},"+
			" quarantine: {directory: %q}, circuit_breaker: {cooldown: 50ms},"+
			" retry_on_failure: {enabled: true, initial_interval: 10ms, max_interval: 50ms, max_elapsed_time: 0}}}",
			sink.Endpoint, format, sink.Secret, filepath.Join(directory, "quarantine")),
		"service::pipelines::logs/audit::exporters: [audit/http]",
	}
}

// Everything goes wrong with an HTTP server that can, at random: it hangs, has
// no time, asks to be left alone, finds requests too large, stores and does not
// say so, stores half, cuts connections and its own answers. Nothing is lost,
// nothing is stored twice, and what it has received verifies.
func TestScenarioHTTPMishaps(t *testing.T) {
	sink := newHTTPSink(t)
	settings, total := throughMishaps(t, sink, "ndjson")

	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	requireKept(t, total, stored)
	measured(t, seenBy(t, sink, len(stored.Records))...)
}

// The same in the original logger's shape, to a server that knows requests by
// their Idempotency-Key and nothing else.
func TestScenarioHTTPMishapsEvents(t *testing.T) {
	sink := newHTTPSink(t)
	_, total := throughMishaps(t, sink, "events")

	for id, result := range total.Acknowledged {
		result.Hash = "" // which this shape does not tell
		total.Acknowledged[id] = result
	}
	events := sink.Events()
	requireStoredOnce(t, total, testbed.Stored{Records: events})
	measured(t, seenBy(t, sink, len(events))...)
}

// throughMishaps sends events through a collector to a sink that has every
// mishap, and stops the collector once all is delivered.
func throughMishaps(t *testing.T, sink *testbed.HTTPSink, format string) (testbed.Settings, *testbed.Outcome) {
	t.Helper()
	sink.MostBytes = max(250_000, *shakenEvents) // a soak need not have more requests
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = toHTTP(settings.Directory, sink, format)
	c := start(t, settings)
	total := sendLoad(t, c, "waiting", 500) // which is too large for one request
	sink.Shake(uint64(time.Now().UnixNano()), testbed.Mishaps()...)
	require.NoError(t, sink.Up())
	total.Add(loadUntil(t, c, *shakenEvents, func() bool {
		_, _, happened, faults := sink.Seen()
		return len(faults) > 0 || len(happened) == len(testbed.Mishaps())+1
	}))
	drained(t, c, time.Hour)
	sink.Shake(0)
	stop(t, c)
	_, _, _, faults := sink.Seen()
	require.Empty(t, faults)
	return settings, total
}

// seenBy is what is to be told of a sink.
func seenBy(t *testing.T, sink *testbed.HTTPSink, stored int) []any {
	t.Helper()
	calls, repeated, happened, _ := sink.Seen()
	pairs := []any{"events", stored, "requests", calls, "stored before and skipped", repeated}
	for _, mishap := range slices.Sorted(maps.Keys(happened)) {
		pairs = append(pairs, mishap, happened[mishap])
	}
	return pairs
}

// A server that takes whatever it gets would prove nothing.
func TestHTTPSinkFindsFaults(t *testing.T) {
	sink := newHTTPSink(t)
	require.NoError(t, sink.Up())
	const line, other = `{"chain":{"origin":"a/b/c","index":"1"},"event":{}}`, `{"chain":{"origin":"a/b/c","index":"1"},"event":{"x":{}}}`
	post := func(key, body, secret string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+sink.Endpoint, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/x-ndjson")
		request.Header.Set("Idempotency-Key", key)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte("1." + body))
		request.Header.Set("X-Audit-Signature", "t=1,v1="+hex.EncodeToString(mac.Sum(nil)))
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, post("one", line+"\n", sink.Secret))
	require.Equal(t, http.StatusOK, post("one", line+"\n", sink.Secret), "the same again")
	require.Equal(t, http.StatusConflict, post("two", other+"\n", sink.Secret))
	require.Equal(t, http.StatusBadRequest, post("three", "not a line\n", sink.Secret))
	require.Equal(t, http.StatusBadRequest, post("", line+"\n", sink.Secret))
	require.Equal(t, http.StatusBadRequest, post("four", line+"\n", "another"))
	_, repeated, _, faults := sink.Seen()
	require.Len(t, faults, 4, "%q", faults)
	require.Equal(t, 2, repeated)

	sink.Shake(1, testbed.MishapSlowDown)
	for post("five", line+"\n", sink.Secret) != http.StatusTooManyRequests {
	}
	post("six", line+"\n", sink.Secret)
	_, _, _, faults = sink.Seen()
	require.Contains(t, faults[len(faults)-1], "Retry-After")
}
