// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sent is what send prints as JSON.
func sent(t *testing.T, text string) []told {
	t.Helper()
	var all []told
	for line := range strings.Lines(text) {
		var one told
		require.NoError(t, json.Unmarshal([]byte(line), &one), line)
		all = append(all, one)
	}
	return all
}

// All forms of input arrive, each event once and in order, and what is printed
// is where it is stored.
func TestSendForms(t *testing.T) {
	fresh(t)
	p, store := filePipeline(t)
	directory := t.TempDir()
	var paths []string
	for i, text := range []string{
		event("single", 0, nil),
		"[" + event("array-0", 0, nil) + ", \n" + event("array-1", 0, nil) + "]\n",
		event("line-0", 0, nil) + "\n" + event("line-1", 0, nil) + "\n\n",
		" {\n \"events\" : [" + event("in-0", 0, nil) + "," + event("in-1", 0, nil) + "] }",
		"[]", "", `{"events":[]}`,
	} {
		path := filepath.Join(directory, strconv.Itoa(i))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		paths = append(paths, path)
	}
	out := otelaudit(append([]string{"send", "--json", "--endpoint", p.endpoint}, paths...)...)
	require.Equal(t, exitSound, out.code, out.stderr)
	assert.Contains(t, out.stderr, "7 durable, 0 durable but flagged, 0 refused")
	printed := sent(t, out.stdout)
	p.stop()
	stored := parseFound(t, otelaudit("query", "--format", "jsonl", store).stdout)
	require.Len(t, stored, 7)
	for i, s := range stored {
		assert.Equal(t, "durable", printed[i].Status)
		assert.Equal(t, s.Event.EventID, printed[i].RecordID)
		assert.Equal(t, s.Origin, printed[i].Origin)
		assert.Equal(t, s.Index, printed[i].Index)
		assert.Equal(t, s.Hash, printed[i].Hash)
	}
	assert.Equal(t, "single array-0 array-1 line-0 line-1 in-0 in-1", strings.Join(ids(stored), " "))
	assert.Equal(t, paths[2], printed[4].Input)
	assert.Equal(t, 2, printed[4].Event)
	assert.Equal(t, exitSound, otelaudit("verify", "--key", p.key(), store).code)
}

// One faulty event does not keep the others, wherever its fault is seen.
func TestSendNamesWhatIsRefused(t *testing.T) {
	p, store := filePipeline(t)
	sendAll(t, p, event("taken", 0, nil))
	out := input(strings.Join([]string{
		event("good-0", 0, nil),
		`{"eventId":"odd","frobnicate":1}`,
		event("taken", 5, nil), // other content
		event("good-1", 0, nil),
		`{"eventId":"twice","action":"a","action":"b"}`,
		`"no event"`,
		event("good-2", 0, nil),
		`{"eventId":"flagged","action":"a"}`,
	}, "\n"), "send", "--endpoint", p.endpoint)
	assert.Equal(t, exitBroken, out.code)
	assert.Contains(t, out.stderr, "3 durable, 1 durable but flagged, 4 refused")
	for _, want := range []string{
		"durable good-0 at ", "durable good-1 at ", "durable good-2 at ", "flagged flagged at ",
		"refused odd: frobnicate", "refused taken: ", "refused twice: ", "(-, event 3)", "(-, event 6)",
	} {
		assert.Contains(t, out.stdout, want)
	}
	p.stop()
	assert.Equal(t, "taken good-0 good-1 good-2 flagged", strings.Join(ids(parseFound(t, otelaudit("query", "--format", "jsonl", store).stdout)), " "))
}

// An input that cannot be read on is named; what stands before it is sent, and
// so are the other inputs.
func TestSendReadsOnAfterABrokenInput(t *testing.T) {
	p, _ := filePipeline(t)
	directory := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(directory, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	out := otelaudit("send", "--endpoint", p.endpoint,
		write("cut", event("a", 0, nil)+"\n{\"eventId\":"),
		write("more", "["+event("b", 0, nil)+"] x"),
		write("members", `{"events":[`+event("c", 0, nil)+`],"x":1}`),
		write("mark", "\xef\xbb\xbf"+event("d", 0, nil)),
		filepath.Join(directory, "absent"),
		write("good", event("e", 0, nil)))
	assert.Equal(t, exitBroken, out.code)
	assert.Contains(t, out.stderr, "4 durable, 0 durable but flagged, 0 refused")
	for _, want := range []string{"cut: cannot read on behind event 1", "more: ", "members: the object with the member events has other members", "byte order mark", "absent"} {
		assert.Contains(t, out.stderr, want)
	}
}

// An event without an id gets one, the same with every repetition.
func TestSendGivesIDs(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                  `{"eventId":"ID"}`,
		`{ }`:                                 `{"eventId":"ID" }`,
		`{"action":"a"}`:                      `{"eventId":"ID","action":"a"}`,
		`{"action":"a","eventId":null,"x":1}`: `{"action":"a","eventId":"ID","x":1}`,
		`{"actor":{"eventId":"x"}}`:           `{"eventId":"ID","actor":{"eventId":"x"}}`,
		`{"a":1,"eventId":"mine"}`:            `{"a":1,"eventId":"mine"}`,
		`{"eventId":""}`:                      `{"eventId":""}`,
		`{"eventId":7}`:                       `{"eventId":7}`,
		`[1]`:                                 `[1]`,
	} {
		e := outgoing{text: []byte(text)}
		e.identify()
		if strings.Contains(want, "ID\"") {
			id, err := uuid.Parse(e.id)
			require.NoError(t, err, text)
			assert.EqualValues(t, 7, id.Version())
			want = strings.Replace(want, `"ID"`, `"`+e.id+`"`, 1)
		}
		assert.Equal(t, want, string(e.text))
	}
}

// moody is a receiver in front of a real one that answers as it is told, and
// then passes on.
type moody struct {
	mu     sync.Mutex
	bodies []string
	times  []time.Time
	answer func(w http.ResponseWriter, nth int, body string) bool // false: pass on
	to     string
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	m.bodies = append(m.bodies, string(body))
	m.times = append(m.times, time.Now())
	nth := len(m.bodies)
	m.mu.Unlock()
	if m.answer(w, nth, string(body)) {
		return
	}
	response, err := http.Post(m.to, "application/json", strings.NewReader(string(body)))
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer response.Body.Close() //nolint:errcheck // a test's proxy
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body)
}

func beMoody(t *testing.T, p *pipeline, answer func(http.ResponseWriter, int, string) bool) (*moody, string) {
	t.Helper()
	m := &moody{answer: answer, to: p.endpoint}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	return m, server.URL
}

// What is sent again is the same, so that a stored batch whose answer was lost is
// not stored twice; and it is not sent before the receiver said.
func TestSendRepeatsTheSame(t *testing.T) {
	p, store := filePipeline(t)
	m, url := beMoody(t, p, func(w http.ResponseWriter, nth int, body string) bool {
		switch nth {
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2: // it is stored, but the answer is lost
			response, err := http.Post(p.endpoint, "application/json", strings.NewReader(body))
			if err == nil {
				_ = response.Body.Close()
			}
			panic(http.ErrAbortHandler)
		case 3:
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			return false
		}
		return true
	})
	out := input(`{"action":"a.b","outcome":"SUCCESS","actor":{"type":"user","id":"u"},"context":{"occurredAt":"2026-11-01T00:00:00Z"}}`, "send", "--json", "--endpoint", url)
	require.Equal(t, exitSound, out.code, out.stderr)
	require.Len(t, m.bodies, 4)
	for _, body := range m.bodies {
		assert.Equal(t, m.bodies[0], body)
	}
	assert.GreaterOrEqual(t, m.times[1].Sub(m.times[0]), time.Second)
	p.stop()
	stored := parseFound(t, otelaudit("query", "--format", "jsonl", store).stdout)
	require.Len(t, stored, 1)
	assert.Equal(t, stored[0].Event.EventID, sent(t, out.stdout)[0].RecordID)
}

// What is too large together is sent in parts.
func TestSendSplits(t *testing.T) {
	p, store := filePipeline(t)
	_, url := beMoody(t, p, func(w http.ResponseWriter, _ int, body string) bool {
		if strings.Count(body, "eventId") <= 3 && !strings.Contains(body, "never") {
			return false
		}
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return true
	})
	var events []string
	for i := range 20 {
		events = append(events, event(fmt.Sprintf("e-%02d", i), i, nil))
	}
	events[7] = event("never", 7, nil)
	out := input(strings.Join(events, "\n"), "send", "--endpoint", url)
	assert.Equal(t, exitBroken, out.code)
	assert.Contains(t, out.stdout, "refused never: 413 Request Entity Too Large")
	assert.Contains(t, out.stderr, "19 durable, 0 durable but flagged, 1 refused")
	p.stop()
	assert.Len(t, parseFound(t, otelaudit("query", "--format", "jsonl", store).stdout), 19)
}

// What is no audit receiver, or takes nothing from this caller, is told at once.
func TestSendToSomebodyElse(t *testing.T) {
	p, _ := filePipeline(t)
	for name, c := range map[string]struct {
		code   int
		answer func(http.ResponseWriter)
		says   string
	}{
		"another page":  {exitRead, func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>") }, "does not answer as an audit receiver"},
		"nothing of it": {exitRead, func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"results":[]}`) }, "does not answer as an audit receiver"},
		"another path":  {exitRead, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, "404 Not Found; see --endpoint"},
		"moved": {exitRead, func(w http.ResponseWriter) {
			w.Header().Set("Location", p.endpoint)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, "307 Temporary Redirect"},
		"not let in": {exitBroken, func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }, "takes nothing from this caller: 401"},
		"no tenant": {exitBroken, func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"error":"no \u001b[31mtenant","results":[]}`)
		}, "takes nothing from this caller: 403 Forbidden: no \ufffd[31mtenant"},
		"half a promise": {exitRead, func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"results":[{"status":"withheld"}]}`) }, "does not answer as an audit receiver"},
	} {
		m, url := beMoody(t, p, func(w http.ResponseWriter, _ int, _ string) bool { c.answer(w); return true })
		out := input(event("e", 0, nil), "send", "--endpoint", url)
		assert.Equal(t, c.code, out.code, name)
		assert.Contains(t, out.stderr, c.says, name)
		assert.Len(t, m.bodies, 1, name)
		assert.Contains(t, out.stderr, "0 durable")
	}
}

// Whoever waits is told what for, once.
func TestSendSaysWhatItWaitsFor(t *testing.T) {
	p, _ := filePipeline(t)
	_, url := beMoody(t, p, func(w http.ResponseWriter, request int, _ string) bool {
		if request < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	out := input(event("e", 0, nil), "send", "--endpoint", url)
	require.Equal(t, exitSound, out.code, out.stderr)
	assert.Equal(t, 1, strings.Count(out.stderr, "503 Service Unavailable; it is sent again, each batch for up to 1m0s (--retry-for)"), out.stderr)
}

func TestSendGivesUp(t *testing.T) {
	out := input(event("e", 0, nil), "send", "--retry-for", "300ms", "--endpoint", "http://127.0.0.1:1/v1/events")
	assert.Equal(t, exitRead, out.code)
	assert.Contains(t, out.stderr, "connection refused; whether the events of this batch are stored is not known")

	p, _ := filePipeline(t)
	m, url := beMoody(t, p, func(w http.ResponseWriter, _ int, _ string) bool {
		w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	out = input(event("e", 0, nil), "send", "--endpoint", url)
	assert.Equal(t, exitRead, out.code)
	assert.Contains(t, out.stderr, "gave up: ")
	assert.Len(t, m.bodies, 1, "it does not come before it may, nor wait an hour")

	ctx, cancel := context.WithCancel(t.Context())
	_, url = beMoody(t, p, func(w http.ResponseWriter, _ int, _ string) bool {
		cancel()
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	var stderr strings.Builder
	assert.Equal(t, exitRead, run(ctx, []string{"send", "--endpoint", url}, console{strings.NewReader(event("e", 0, nil)), io.Discard, &stderr}))
	assert.Contains(t, stderr.String(), "is not known")
}

// Tokens come from files or the environment, and are never printed.
func TestSendHeaders(t *testing.T) {
	p, _ := filePipeline(t)
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(server.Close)
	_ = p
	path := filepath.Join(t.TempDir(), "headers")
	require.NoError(t, os.WriteFile(path, []byte("Authorization: Bearer from-file\n\nX-B: b: c\n"), 0o600))
	t.Setenv(envHeaders, "X-C: from-environment")
	out := input(event("e", 0, nil), "send", "--endpoint", server.URL, "--header", "@"+path, "--header", "X-A: a")
	assert.Equal(t, exitBroken, out.code)
	assert.Equal(t, "Bearer from-file", got.Get("Authorization"))
	assert.Equal(t, "b: c", got.Get("X-B"))
	assert.Equal(t, "a", got.Get("X-A"))
	assert.Equal(t, "from-environment", got.Get("X-C"))
	assert.Equal(t, "application/json", got.Get("Content-Type"))
	assert.NotContains(t, out.stdout+out.stderr, "from-")

	require.NoError(t, os.WriteFile(path, []byte("secret without a name"), 0o600))
	out = input("", "send", "--header", "@"+path)
	assert.Equal(t, exitUsage, out.code)
	assert.NotContains(t, out.stderr, "secret")
}

// Over TLS, with a certificate of the client's own.
func TestSendTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"results":[{"record_id":"e","status":"durable","origin":"o","index":"1"}]}`)
	}))
	t.Cleanup(server.Close)
	out := input(event("e", 0, nil), "send", "--endpoint", server.URL, "--retry-for", "0s")
	assert.Equal(t, exitRead, out.code)
	assert.Contains(t, out.stderr, "certificate")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, certificatePEM(server.Certificate()), 0o600))
	out = input(event("e", 0, nil), "send", "--endpoint", server.URL, "--ca", ca)
	assert.Equal(t, exitSound, out.code, out.stderr)
	assert.Equal(t, exitUsage, input("", "send", "--ca", "send_test.go").code)
}

// endless is NDJSON without end, as far as memory goes.
type endless struct {
	line string
	left int
	rest string
	most uint64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.rest == "" {
		if e.left == 0 {
			return 0, io.EOF
		}
		if e.left--; e.left%500 == 0 {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			e.most = max(e.most, now.HeapAlloc)
		}
		e.rest = e.line
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// The memory of send is that of a batch, not of its input.
func TestSendInConstantMemory(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n := bytes.Count(body, []byte(`"eventId"`))
		_, _ = io.WriteString(w, `{"results":[`+strings.TrimSuffix(strings.Repeat(`{"status":"durable"},`, n), ",")+`]}`)
	}))
	t.Cleanup(server.Close)
	const events, size = 8_000, 8 << 10
	in := &endless{line: `{"metadata":{"x":"` + strings.Repeat("y", size) + `"}}` + "\n", left: events}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	code := run(t.Context(), []string{"send", "--endpoint", server.URL}, console{in, io.Discard, io.Discard})
	assert.Equal(t, exitSound, code)
	assert.Less(t, int64(in.most)-int64(before.HeapAlloc), int64(24<<20), "of %d MiB", events*size>>20)

	out := input(`{"metadata":"`+strings.Repeat("y", maxEventBytes)+`"}`, "send", "--endpoint", server.URL)
	assert.Equal(t, exitBroken, out.code)
	assert.Contains(t, out.stderr, "an event is larger than")
}

func certificatePEM(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}
