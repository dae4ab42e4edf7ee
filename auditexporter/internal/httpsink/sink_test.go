// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit/verify"
	"github.com/otelaudit/otelaudit/auditexporter/internal/httpsink/receivertest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig(r *receivertest.Receiver, format Format) Config {
	return Config{
		Client: &http.Client{Transport: &http.Transport{}}, Endpoint: r.URL, Format: format,
		MaxRequestBytes: 1 << 20, MaxRequestRecords: 1000, Logger: zap.NewNop(),
	}
}

func open(t testing.TB, config Config) *Sink {
	t.Helper()
	s, err := Open(config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// start opens a sink and the endpoint that it posts to.
func start(t testing.TB, format Format, receiver receivertest.Config) (*Sink, *receivertest.Receiver) {
	t.Helper()
	receiver.Format = string(format)
	r := receivertest.New(t, receiver)
	return open(t, testConfig(r, format)), r
}

func noRefusal(e *sink.Entry, reason string) error {
	return fmt.Errorf("%s is refused: %s", e.Coordinate(), reason)
}

func write(t testing.TB, s *Sink, entries ...sink.Entry) sink.Result {
	t.Helper()
	result, err := s.Write(t.Context(), entries, noRefusal)
	require.NoError(t, err)
	return result
}

func counts(r sink.Result) sink.Result {
	return sink.Result{Stored: r.Stored, Refused: r.Refused, Checkpoints: r.Checkpoints, Repeated: r.Repeated}
}

// ward takes what is refused, in memory.
type ward struct {
	entries []sink.Entry
	reasons []string
}

func (w *ward) refuse(e *sink.Entry, reason string) error {
	w.entries, w.reasons = append(w.entries, *e), append(w.reasons, reason)
	return nil
}

func lines(entries ...sink.Entry) []string {
	all := []string{}
	for i := range entries {
		all = append(all, string(entries[i].AppendLine(nil)))
	}
	return all
}

const poisoned = "hush-poison"

func isPoison(line string) bool { return strings.Contains(line, poisoned) }

func poison(t testing.TB, m *sinktest.Maker) sink.Entry {
	return m.Record(t, func(r plog.LogRecord) { r.Body().SetStr(poisoned) })
}

func assertNoSecrets(t *testing.T, err error) {
	t.Helper()
	assert.NotContains(t, err.Error(), "hush", "no content, answer, user or query")
}

func TestConformance(t *testing.T) {
	for name, c := range map[string]struct {
		format   Format
		conflict bool
	}{
		"ndjson":                 {format: FormatNDJSON},
		"ndjson, 409 on repeats": {format: FormatNDJSON, conflict: true},
		"otlp_json":              {format: FormatOTLPJSON},
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) *sinktest.Store {
				r := receivertest.New(t, receivertest.Config{Format: string(c.format), Poison: isPoison, ConflictOnRepeat: c.conflict})
				openOne := func(t *testing.T) sink.Sink {
					s, err := Open(testConfig(r, c.format))
					require.NoError(t, err)
					return s
				}
				return &sinktest.Store{
					Open: openOne,
					OpenCured: func(t *testing.T) sink.Sink {
						r.SetPoison(nil)
						return openOne(t)
					},
					Lines:  func(*testing.T) []string { return r.Lines() },
					Poison: func(t *testing.T, m *sinktest.Maker) sink.Entry { return poison(t, m) },
					Fail: func(_ *testing.T, stored bool) {
						r.Next(receivertest.Fault{Stored: stored, Status: http.StatusServiceUnavailable})
					},
					NoStubs: c.format != FormatNDJSON, Blind: true,
				}
			})
		})
	}
}

// What an endpoint appends to a file is what `otelaudit verify` takes.
func TestReceivedLinesVerify(t *testing.T) {
	for _, format := range []Format{FormatNDJSON, FormatOTLPJSON} {
		s, r := start(t, format, receivertest.Config{})
		m := sinktest.NewMaker(sinktest.Origin)
		batch := append(m.Records(t, 20), m.Checkpoint(t))
		assert.Equal(t, sink.Result{Stored: 20, Checkpoints: 1}, counts(write(t, s, batch...)))
		v, err := verify.New(verify.Options{Keys: []ed25519.PublicKey{sinktest.Key()}})
		require.NoError(t, err)
		for i, line := range r.Lines() {
			v.Line("received", int64(i), []byte(line))
		}
		report, err := v.Finish()
		require.NoError(t, err)
		assert.Equal(t, verify.IntegritySound, report.Integrity)
		assert.EqualValues(t, 20, report.Records)
		assert.EqualValues(t, 1, report.Checkpoints)
	}
}

func TestEvents(t *testing.T) {
	s, r := start(t, FormatEvents, receivertest.Config{Poison: isPoison})
	m := sinktest.NewMaker(sinktest.Origin)
	batch := append(m.Records(t, 3), m.Control(t), m.Checkpoint(t), poison(t, m), m.Record(t, nil))
	var w ward
	result, err := s.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 5, Refused: 1}, counts(result), "there are no checkpoints and no stubs")
	require.Len(t, w.entries, 1)
	events := r.Lines()
	require.Len(t, events, 5)
	assert.Contains(t, events[0], `"action":"invoice.viewed"`)
	assert.Contains(t, events[3], `"action":"audit.origin.heartbeat"`)
	assert.Equal(t, "application/json", r.Requests()[0].Header.Get("Content-Type"))
	assert.True(t, strings.HasPrefix(string(r.Requests()[0].Body), `{"events":[{`))

	result, err = s.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Repeated: 6}, counts(result))
	assert.Len(t, w.entries, 2, "the refusal comes again, without asking the endpoint")
}

func TestRequestsAreBounded(t *testing.T) {
	m := sinktest.NewMaker(sinktest.Origin)
	batch := append(m.Records(t, 40), m.Checkpoint(t))
	large := m.Record(t, func(r plog.LogRecord) { r.Body().SetStr(strings.Repeat("x", 9000)) })
	batch = append(append(batch, large), m.Records(t, 5)...)
	for _, format := range []Format{FormatEvents, FormatNDJSON, FormatOTLPJSON} {
		t.Run(string(format), func(t *testing.T) {
			r := receivertest.New(t, receivertest.Config{Format: string(format)})
			config := testConfig(r, format)
			config.MaxRequestBytes, config.MaxRequestRecords = 5000, 7
			write(t, open(t, config), batch...)
			var got int
			for _, request := range r.Requests() {
				got += len(request.Entries)
				assert.LessOrEqual(t, len(request.Entries), 7)
				if len(request.Entries) > 1 {
					assert.LessOrEqual(t, len(request.Body), 5000)
				}
			}
			want := len(batch)
			if format == FormatEvents {
				want-- // the checkpoint
			} else {
				assert.Equal(t, lines(batch...), r.Lines(), "in order")
			}
			assert.Equal(t, want, got, "each once")
		})
	}
}

// Nothing that operators have to cure, and no request that is too large, loses a
// record.
func TestW19NothingIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		cure   string
	}{
		"expired token":      {401, "`http::auth`"},
		"no right":           {403, "`http::auth`"},
		"wrong address":      {404, "`http::endpoint`"},
		"wrong method":       {405, "`http::endpoint`"},
		"proxy":              {407, "`http::proxy_url`"},
		"moved permanently":  {301, "`http::follow_redirects: true`"},
		"moved":              {302, "login.example"},
		"see other":          {303, "login.example"},
		"temporary redirect": {307, "login.example"},
		"permanent redirect": {308, "login.example"},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := start(t, FormatNDJSON, receivertest.Config{})
			m := sinktest.NewMaker(sinktest.Origin)
			batch := append(m.Records(t, 3), m.Checkpoint(t))
			r.Always(&receivertest.Fault{
				Status: c.status, Body: "hush", Header: map[string]string{"Location": "https://hush:hush@login.example/hush?hush"},
			})
			for range 3 {
				result, err := s.Write(t.Context(), batch, noRefusal)
				require.ErrorIs(t, err, sink.ErrOperator)
				require.ErrorContains(t, err, c.cure)
				require.ErrorContains(t, err, sinktest.Origin)
				assertNoSecrets(t, err)
				assert.Equal(t, sink.Result{}, counts(result))
			}
			assert.Len(t, r.Requests(), 3, "no splitting, no following")
			r.Always(nil)
			write(t, s, batch...)
			assert.Equal(t, lines(batch...), r.Lines())
		})
	}
}

func TestW19TooLarge(t *testing.T) {
	m := sinktest.NewMaker(sinktest.Origin)
	batch := append(m.Records(t, 60), m.Record(t, func(r plog.LogRecord) { r.Body().SetStr(strings.Repeat("x", 9000)) }))
	batch = append(append(batch, m.Records(t, 10)...), m.Checkpoint(t))
	s, r := start(t, FormatNDJSON, receivertest.Config{Handler: limit(8000)})
	var w ward
	result, err := s.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 70, Refused: 1, Checkpoints: 1}, counts(result))
	require.Len(t, w.reasons, 1)
	assert.Contains(t, w.reasons[0], "413")
	want := lines(batch...)
	want[60] = string(batch[60].AppendStub(nil))
	assert.Equal(t, want, r.Lines(), "in order, the stub in its place")
	assert.Less(t, s.mostBytes, 16_000, "it is not tried again and again")

	_, err = s.Replay(t.Context(), &batch[60])
	require.ErrorIs(t, err, sink.ErrRefused)
}

// limit is an endpoint with a largest body.
func limit(most int64) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.ContentLength <= most {
			return false
		}
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return true
	}
}

func TestRetried(t *testing.T) {
	for _, status := range []int{408, 425, 429, 500, 501, 502, 503, 504, 599} {
		s, r := start(t, FormatNDJSON, receivertest.Config{})
		m := sinktest.NewMaker(sinktest.Origin)
		batch := m.Records(t, 3)
		r.Next(receivertest.Fault{Status: status, Body: "hush"})
		_, err := s.Write(t.Context(), batch, noRefusal)
		require.ErrorContains(t, err, fmt.Sprint(status))
		assertNoSecrets(t, err)
		assert.NotErrorIs(t, err, sink.ErrOperator)
		write(t, s, batch...)
		assert.Equal(t, lines(batch...), r.Lines())
		requests := r.Requests()
		assert.Equal(t, requests[0].Header.Get("Idempotency-Key"), requests[1].Header.Get("Idempotency-Key"))
	}
}

// It was stored, and the answer got lost: the endpoint knows the key.
func TestResetAfterCommit(t *testing.T) {
	for _, format := range []Format{FormatEvents, FormatNDJSON, FormatOTLPJSON} {
		s, r := start(t, format, receivertest.Config{})
		m := sinktest.NewMaker(sinktest.Origin)
		batch := m.Records(t, 3)
		// On a connection that was used before, the client comes again by itself.
		r.Next(receivertest.Fault{Stored: true, Reset: true}, receivertest.Fault{Reset: true}, receivertest.Fault{Reset: true})
		_, err := s.Write(t.Context(), batch, noRefusal)
		require.ErrorContains(t, err, "no answer")
		assertNoSecrets(t, err)
		for len(r.Requests()) < 3 {
			_, err = s.Write(t.Context(), batch, noRefusal)
			require.Error(t, err)
		}
		assert.Equal(t, sink.Result{Stored: 3}, counts(write(t, s, batch...)))
		assert.Len(t, r.Lines(), 3)
		assert.Equal(t, 1, r.Replays())
	}
}

func TestHangEndsWithContext(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{})
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 3)
	r.Next(receivertest.Fault{Stored: true, Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := s.Write(ctx, batch, noRefusal)
		failed <- err
	}()
	require.Eventually(t, func() bool { return len(r.Lines()) == 3 }, time.Minute, time.Millisecond)
	cancel()
	err := <-failed
	require.ErrorIs(t, err, context.Canceled)
	assertNoSecrets(t, err)
	write(t, s, batch...)
	assert.Len(t, r.Lines(), 3)
}

// An endpoint that is too slow for large requests gets smaller ones, in the end.
func TestRequestThatNeverFits(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{Handler: func(_ http.ResponseWriter, request *http.Request) bool {
		body, err := io.ReadAll(request.Body)
		request.Body = io.NopCloser(bytes.NewReader(body))
		if err != nil || bytes.Count(body, []byte("\n")) <= 20 {
			return false
		}
		<-request.Context().Done()
		return true
	}})
	batch := sinktest.NewMaker(sinktest.Origin).Records(t, 60)
	attempts := 0
	for stored := false; !stored; attempts++ {
		require.Less(t, attempts, 300)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := s.Write(ctx, batch, noRefusal)
		cancel()
		stored = err == nil
	}
	assert.Greater(t, attempts, mostLate)
	assert.ElementsMatch(t, lines(batch...), r.Lines())
}

func TestCloseCutsARequest(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{})
	m := sinktest.NewMaker(sinktest.Origin)
	r.Always(&receivertest.Fault{Hang: true})
	batch := m.Records(t, 1)
	failed := make(chan error, 2)
	for range 2 { // one in a request, one that waits for its turn
		go func() {
			_, err := s.Write(t.Context(), batch, noRefusal)
			failed <- err
		}()
	}
	require.Eventually(t, func() bool { return len(r.Requests()) == 1 }, time.Minute, time.Millisecond)
	require.NoError(t, s.Close())
	for range 2 {
		require.ErrorIs(t, <-failed, sink.ErrClosed)
	}
}

// A large answer, and one that never ends, are not read to their end.
func TestAnswersAreBounded(t *testing.T) {
	var sent int
	s, r := start(t, FormatNDJSON, receivertest.Config{Handler: func(w http.ResponseWriter, r *http.Request) bool {
		for r.Context().Err() == nil {
			n, err := w.Write(make([]byte, 1<<16))
			if sent += n; err != nil {
				break
			}
		}
		return true
	}})
	m := sinktest.NewMaker(sinktest.Origin)
	assert.Equal(t, 1, write(t, s, m.Record(t, nil)).Stored, "the status is the answer")
	assert.Empty(t, r.Requests())
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		value string
		wait  time.Duration
	}{
		"seconds":           {"7", 7 * time.Second},
		"date":              {now.Add(9 * time.Second).Format(http.TimeFormat), 9 * time.Second},
		"for ever":          {"2000000000", maxWait},
		"a date far off":    {now.AddDate(1, 0, 0).Format(http.TimeFormat), maxWait},
		"zero":              {"0", 0},
		"past":              {now.Add(-time.Hour).Format(http.TimeFormat), 0},
		"not a number":      {"soon", 0},
		"negative":          {"-5", 0},
		"no wait asked for": {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := receivertest.New(t, receivertest.Config{Format: "ndjson"})
			config := testConfig(r, FormatNDJSON)
			clock := now
			config.now = func() time.Time { return clock }
			s := open(t, config)
			m := sinktest.NewMaker(sinktest.Origin)
			batch := m.Records(t, 1)
			r.Next(receivertest.Fault{Status: 503, Header: map[string]string{"Retry-After": c.value}})
			_, err := s.Write(t.Context(), batch, noRefusal)
			require.ErrorContains(t, err, "503")
			var later *sink.LaterError
			require.Equal(t, c.wait > 0, errors.As(err, &later))
			if c.wait > 0 {
				assert.Equal(t, now.Add(c.wait), later.At)
				clock = now.Add(c.wait - time.Nanosecond)
				_, err = s.Write(t.Context(), batch, noRefusal)
				require.ErrorContains(t, err, "asked to be left alone until")
				require.ErrorAs(t, err, &later)
				_, err = s.Replay(t.Context(), &batch[0])
				require.ErrorContains(t, err, "asked to be left alone until")
				assert.Len(t, r.Requests(), 1)
			}
			clock = now.Add(c.wait)
			write(t, s, batch...)
		})
	}
}

func TestMemory(t *testing.T) {
	r := receivertest.New(t, receivertest.Config{Format: "ndjson"})
	config := testConfig(r, FormatNDJSON)
	config.remember = 4
	s := open(t, config)
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 6)
	write(t, s, batch...)
	assert.Equal(t, sink.Result{Repeated: 4}, counts(write(t, s, batch[2:]...)))
	assert.Equal(t, sink.Result{Stored: 2}, counts(write(t, s, batch[:2]...)), "forgotten, and known to the endpoint")
	assert.Equal(t, sink.Result{Repeated: 4}, counts(write(t, s, batch[4], batch[5], batch[0], batch[1])))
	assert.Len(t, s.delivered.marks, 4)
	assert.Len(t, r.Lines(), 6)
}

// Because another sink is down a batch comes again and again.
func TestRepeatedBatchIsNotSentAgain(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{})
	m := sinktest.NewMaker(sinktest.Origin)
	batch := append(m.Records(t, 50), m.Checkpoint(t))
	write(t, s, batch...)
	for range 5 {
		assert.Equal(t, sink.Result{Repeated: 51}, write(t, s, batch...))
	}
	assert.Len(t, r.Requests(), 1)
}

// An answer that is cut in a batch of several requests does not undo the others.
func TestLaterAttemptGoesOn(t *testing.T) {
	r := receivertest.New(t, receivertest.Config{Format: "ndjson"})
	config := testConfig(r, FormatNDJSON)
	config.MaxRequestRecords = 10
	s := open(t, config)
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 30)
	r.Next(receivertest.Fault{Stored: true, Status: 200}, receivertest.Fault{Stored: true, Status: 200}, receivertest.Fault{Status: 503})
	result, err := s.Write(t.Context(), batch, noRefusal)
	require.Error(t, err)
	assert.Equal(t, sink.Result{Stored: 20}, counts(result))
	assert.Equal(t, sink.Result{Stored: 10, Repeated: 20}, counts(write(t, s, batch...)))
	assert.Equal(t, lines(batch...), r.Lines())
}
