// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadata"
)

// A client that sends its header, or its body, a byte at a time is cut off.
func TestSlowLoris(t *testing.T) {
	config := testConfig()
	config.HTTP.ReadHeaderTimeout = 200 * time.Millisecond
	config.HTTP.ReadTimeout = 400 * time.Millisecond
	for name, c := range map[string]struct{ head, answer string }{
		"header": {"POST " + pathEvents + " HTTP/1.1\r\nHost: x\r\n", ""},
		"body":   {"POST " + pathEvents + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n", "HTTP/1.1 503 "},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
			connection, err := net.Dial("tcp", r.listener.Addr().String())
			require.NoError(t, err)
			defer func() { assert.NoError(t, connection.Close()) }()
			_, err = io.WriteString(connection, c.head)
			require.NoError(t, err)
			ended := make(chan string, 1)
			go func() {
				text, err := io.ReadAll(connection)
				ended <- fmt.Sprint(string(text), err)
			}()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			limit := time.After(10 * time.Second)
			for {
				select {
				case text := <-ended:
					assert.True(t, strings.HasPrefix(text, c.answer), text)
					assert.Zero(t, r.budget.used.Load())
					return
				case <-tick.C:
					_, _ = io.WriteString(connection, "X") // fails once it is cut off
				case <-limit:
					t.Fatal("the client was never cut off")
				}
			}
		})
	}
}

// A header is in memory before the caller is known, and costs several times its
// bytes: its size is bounded like that of a call over gRPC.
func TestHeadersAreBounded(t *testing.T) {
	url := serve(t, testConfig(), seal)
	for _, size := range []int{maxHeaderBytes / 2, 2 * maxHeaderBytes} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("[]"))
		require.NoError(t, err)
		request.Header.Set("Content-Type", contentJSON)
		for n := range size / 1024 {
			request.Header.Set(fmt.Sprintf("X-%d", n), strings.Repeat("x", 1000))
		}
		answered, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, answered.Body.Close())
		want := http.StatusOK
		if size > maxHeaderBytes {
			want = http.StatusRequestHeaderFieldsTooLarge
		}
		assert.Equal(t, want, answered.StatusCode, size)
	}
}

// Clients that announce large bodies and send nothing must not keep others out.
func TestAnnouncedBytesHoldLittle(t *testing.T) {
	r, url := start(t, testConfig(), receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
	const clients = 20
	for range clients {
		connection, err := net.Dial("tcp", r.listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, connection.Close()) })
		_, err = fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", pathEvents, defaultMaxBody)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return r.budget.used.Load() == clients*announcedBytes }, time.Minute, time.Millisecond)
	assert.Equal(t, http.StatusOK, post(t, url, contentJSON, `{"action":"a"}`).status)
}

func TestAdmit(t *testing.T) {
	b := budget{limit: 100}
	first, second := newShare(&b, "", nil), newShare(&b, "", nil)
	require.NoError(t, first.admit(60))
	require.ErrorIs(t, second.admit(41), errBusy)
	require.ErrorIs(t, second.fits(101), errNeverFits)
	require.ErrorIs(t, first.admit(41), errNeverFits)
	require.NoError(t, second.fits(100), "others may leave")
	require.NoError(t, second.admit(1))
	require.NoError(t, second.admit(39))
	require.Equal(t, int64(100), b.used.Load())
}

// zstdWithWindow compresses parts, each flushed, so that the frame names its
// window.
func zstdWithWindow(t *testing.T, window int, parts ...string) string {
	t.Helper()
	var body bytes.Buffer
	w, err := zstd.NewWriter(&body, zstd.WithWindowSize(window))
	require.NoError(t, err)
	for _, part := range parts {
		_, err = io.WriteString(w, part)
		require.NoError(t, err)
		require.NoError(t, w.Flush())
	}
	require.NoError(t, w.Close())
	return body.String()
}

// A small frame must not make the decoder take a window that HTTP does not
// allow.
func TestZstdWindow(t *testing.T) {
	url := serve(t, testConfig(), seal)
	const line = "{\"action\":\"a\"}\n"
	compress := func(window int) string { return zstdWithWindow(t, window, line, line) }
	for window, want := range map[int]int{maxZstdWindow: http.StatusOK, 2 * maxZstdWindow: http.StatusBadRequest, zstd.MaxWindowSize: http.StatusBadRequest} {
		for range 2 { // also with a decoder that has been used
			assert.Equal(t, want, post(t, url, "application/x-ndjson", compress(window), "Content-Encoding", "zstd").status, window)
		}
	}
	config := testConfig()
	config.HTTP.CompressionAlgorithms = []string{"", "gzip"}
	assert.Equal(t, http.StatusBadRequest, post(t, serve(t, config, seal), contentJSON, compress(maxZstdWindow), "Content-Encoding", "zstd").status, "off is off")
	assert.Equal(t, http.StatusBadRequest, post(t, url, contentJSON, "x", "Content-Encoding", "snappy").status)
}

// However bad the bodies are, what stays in memory is within the budget.
func TestHostileBodiesLeaveNoMemory(t *testing.T) {
	r, url := start(t, testConfig(), receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":1,`, i)
		}
		return b.String()
	}
	bodies := []string{
		`{"action":"a","metadata":{` + keys(200_000) + `"z":1}}`,
		`{"action":"a","metadata":` + strings.Repeat(`{"a":`, 200_000) + `1` + strings.Repeat(`}`, 200_000) + `}`,
		strings.Repeat(`[`, 1_000_000),
		`[` + strings.Repeat(`{},`, 1_000_000) + `{}]`,
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, body := range bodies {
		began := time.Now()
		got := post(t, url, contentJSON, body)
		assert.Contains(t, []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusOK}, got.status, "%.40s", body)
		assert.Less(t, time.Since(began), 20*time.Second, "%.40s", body)
		assert.Zero(t, r.budget.used.Load())
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(64<<20))
}
