// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mishap is something that goes wrong with one request to an HTTPSink.
type Mishap string

// The mishaps.
const (
	MishapBusy       Mishap = "503"
	MishapSlowDown   Mishap = "429"              // with Retry-After
	MishapHang       Mishap = "hangs"            // and stores nothing
	MishapLateHang   Mishap = "stores, hangs"    // a client that gave up does not know
	MishapReset      Mishap = "resets"           // and stores nothing
	MishapLateReset  Mishap = "stores, resets"   // the answer is lost
	MishapHalf       Mishap = "stores half, 503" // a server without transactions
	MishapTruncation Mishap = "cuts its own 200" // in the middle of the answer
)

// MishapTooLarge is none of chance: it meets each request that is too large.
const MishapTooLarge Mishap = "413"

// Mishaps returns all that may happen by chance.
func Mishaps() []Mishap {
	return []Mishap{
		MishapBusy, MishapSlowDown, MishapHang, MishapLateHang, MishapReset, MishapLateReset, MishapHalf, MishapTruncation,
	}
}

// HTTPSink is somebody else's HTTP server, which knows JSON but none of our
// code. Of stored lines, as NDJSON, it keeps each coordinate once; of events in
// the original logger's shape it knows nothing but their ids, so that it relies
// on the Idempotency-Key. It has mishaps.
type HTTPSink struct {
	Endpoint string // host:port, the same after each Up
	// Secret is what requests must be signed with, if it is not empty.
	Secret string
	// MostBytes is the size of the largest request that is taken, if it is not
	// 0. It must be larger than any single event of the test.
	MostBytes int

	directory string
	server    *http.Server // of the Up that is not yet Down
	served    chan error   // of that server
	hold      context.Context
	release   context.CancelFunc // lets go of what hangs

	mu       sync.Mutex
	random   *mathrand.Rand               // guarded by mu
	mishaps  []Mishap                     // guarded by mu; what may happen now
	deck     []Mishap                     // guarded by mu; what happens before the next shuffle
	hung     bool                         // guarded by mu; the request before
	happened map[Mishap]int               // guarded by mu
	lines    *os.File                     // guarded by mu
	stored   map[string][sha256.Size]byte // guarded by mu; by coordinate
	keys     map[string][sha256.Size]byte // guarded by mu; stored bodies, by Idempotency-Key
	events   map[string]int               // guarded by mu; how often each was stored, by id
	calls    int                          // guarded by mu
	repeated int                          // guarded by mu
	quiet    time.Time                    // guarded by mu; nothing may come before: Retry-After
	faults   []string                     // guarded by mu
}

// NewHTTPSink returns a sink that is down, has no mishaps, and keeps its lines
// below directory.
func NewHTTPSink(directory string) (*HTTPSink, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("open sink: %w", err)
	}
	lines, err := os.OpenFile(filepath.Join(directory, "lines.jsonl"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open sink: %w", err)
	}
	return &HTTPSink{
		Endpoint: ports[0], Secret: rand.Text(), directory: directory, lines: lines, happened: map[Mishap]int{},
		stored: map[string][sha256.Size]byte{}, keys: map[string][sha256.Size]byte{}, events: map[string]int{},
	}, nil
}

// Store returns the directory of the lines.
func (s *HTTPSink) Store() string { return s.directory }

// Up lets the sink take requests.
func (s *HTTPSink) Up() error {
	listener, err := net.Listen("tcp", s.Endpoint)
	if err != nil {
		return fmt.Errorf("start sink: %w", err)
	}
	s.hold, s.release = context.WithCancel(context.Background())
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	s.served = served
	server := s.server
	go func() { served <- server.Serve(listener) }()
	return nil
}

// Down cuts every connection. Requests that have begun may be stored without
// an answer.
func (s *HTTPSink) Down() error {
	if s.server == nil {
		return nil
	}
	s.release()
	err := s.server.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	s.server = nil
	return err
}

// Close takes the sink down for good.
func (s *HTTPSink) Close() error { return errors.Join(s.Down(), s.lines.Close()) }

// Shake lets about one in three requests meet one of the mishaps, by seed and
// each as often as the others; without any, all is well again.
func (s *HTTPSink) Shake(seed uint64, mishaps ...Mishap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.random, s.mishaps, s.deck = mathrand.New(mathrand.NewPCG(seed, 0)), mishaps, nil
}

// draw returns what happens to the next request, mostly nothing. It never hangs
// twice in a row: a sender halves what hangs three times, and the halves have
// keys of their own, which a server that knows nothing but keys has never seen.
func (s *HTTPSink) draw() Mishap {
	hung := s.hung
	s.hung = false
	if len(s.mishaps) == 0 || s.random.IntN(3) != 0 {
		return ""
	}
	if len(s.deck) == 0 {
		s.deck = slices.Clone(s.mishaps)
		s.random.Shuffle(len(s.deck), func(i, j int) { s.deck[i], s.deck[j] = s.deck[j], s.deck[i] })
	}
	mishap := s.deck[0]
	s.hung = mishap == MishapHang || mishap == MishapLateHang
	if s.hung && hung {
		s.hung = false
		return "" // it comes later
	}
	s.deck = s.deck[1:]
	return mishap
}

// Seen says how many requests there were, how many lines came again, which
// mishaps there were, and what no sink should see.
func (s *HTTPSink) Seen() (calls, repeated int, happened map[Mishap]int, faults []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, s.repeated, maps.Clone(s.happened), slices.Clone(s.faults)
}

func (s *HTTPSink) serve(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err != nil {
		return // the client has gone
	}
	mishap := s.meet(body)
	switch mishap {
	case MishapBusy:
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case MishapSlowDown:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "slow down", http.StatusTooManyRequests)
	case MishapTooLarge:
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	case MishapHang:
		s.hang(r)
	case MishapReset:
		reset(w)
	case MishapHalf:
		s.takeHalf(r.Header, body)
		http.Error(w, "half of it", http.StatusServiceUnavailable)
	default:
		s.answer(w, r, mishap, s.take(r.Header, body))
	}
}

// answer tells what has become of a request, unless it cannot.
func (s *HTTPSink) answer(w http.ResponseWriter, r *http.Request, mishap Mishap, code int) {
	switch mishap {
	case MishapLateHang:
		s.hang(r)
	case MishapLateReset:
		reset(w)
	case MishapTruncation:
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(code)
		panic(http.ErrAbortHandler)
	default:
		w.WriteHeader(code)
	}
}

// meet says what goes wrong with the next request; mostly nothing.
func (s *HTTPSink) meet(body []byte) Mishap {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	now := time.Now()
	if now.Before(s.quiet) {
		s.faults = append(s.faults, fmt.Sprintf("comes %s before Retry-After allows", s.quiet.Sub(now)))
	}
	mishap := s.draw()
	if s.MostBytes > 0 && len(body) > s.MostBytes {
		mishap = MishapTooLarge
	}
	if mishap == MishapSlowDown {
		const early = 20 * time.Millisecond // the answer has not arrived yet
		s.quiet = now.Add(time.Second - early)
	}
	if mishap != "" {
		s.happened[mishap]++
	}
	return mishap
}

// hang waits until the client has given up.
func (s *HTTPSink) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.hold.Done():
	}
}

// reset cuts the connection without an answer.
func reset(w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := connection.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // cut it is, one way or the other
	}
	_ = connection.Close()
}

// take checks the headers, stores what is new and returns the status of the
// answer.
func (s *HTTPSink) take(header http.Header, body []byte) int {
	if err := s.check(header, body); err != nil {
		s.fault(err)
		return http.StatusBadRequest
	}
	if isNDJSON(header) {
		return s.takeLines(splitLines(body))
	}
	return s.takeEvents(header.Get("Idempotency-Key"), body)
}

// takeHalf stores the first lines. Events, which are known by the key of their
// request alone, are taken whole or not at all.
func (s *HTTPSink) takeHalf(header http.Header, body []byte) {
	if lines := splitLines(body); isNDJSON(header) {
		s.takeLines(lines[:len(lines)/2])
	}
}

func isNDJSON(header http.Header) bool { return header.Get("Content-Type") == "application/x-ndjson" }

// check demands a signature over time-stamp and body, and an Idempotency-Key of
// this body alone.
func (s *HTTPSink) check(header http.Header, body []byte) error {
	if !s.signed(header.Get("X-Audit-Signature"), body) {
		return errors.New("a request whose X-Audit-Signature is missing or wrong")
	}
	key := header.Get("Idempotency-Key")
	if key == "" {
		return errors.New("a request without an Idempotency-Key")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, known := s.keys[key]; known && before != sha256.Sum256(body) {
		return errors.New("one Idempotency-Key for two contents")
	}
	return nil
}

func (s *HTTPSink) signed(header string, body []byte) bool {
	if s.Secret == "" {
		return true
	}
	timestamp, signature, _ := strings.Cut(strings.TrimPrefix(header, "t="), ",v1=")
	mac := hmac.New(sha256.New, []byte(s.Secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return hmac.Equal([]byte(signature), []byte(hex.EncodeToString(mac.Sum(nil))))
}

func (s *HTTPSink) takeLines(lines [][]byte) int {
	for _, line := range lines {
		if code, err := s.store(line); err != nil {
			s.fault(err)
			return code
		}
	}
	return http.StatusOK
}

func (s *HTTPSink) takeEvents(key string, body []byte) int {
	var request struct{ Events []struct{ EventID string } }
	if err := json.Unmarshal(body, &request); err != nil {
		s.fault(fmt.Errorf("not a request of events: %w", err))
		return http.StatusBadRequest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.keys[key]; known {
		s.repeated += len(request.Events)
		return http.StatusOK
	}
	s.keys[key] = sha256.Sum256(body)
	for _, event := range request.Events {
		s.events[event.EventID]++
	}
	return http.StatusOK
}

// Events returns how often each event is stored that came in the original
// logger's shape, by its id.
func (s *HTTPSink) Events() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.events)
}

func (s *HTTPSink) fault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err.Error())
}

func (s *HTTPSink) store(line []byte) (code int, err error) {
	at, err := coordinateOf(line)
	if err != nil {
		return http.StatusBadRequest, err
	}
	sum := sha256.Sum256(line)
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, known := s.stored[at]; known {
		s.repeated++
		if before != sum {
			return http.StatusConflict, fmt.Errorf("%s: comes with other content than before", at)
		}
		return http.StatusOK, nil
	}
	if _, err := s.lines.Write(append(bytes.Clone(line), '\n')); err != nil {
		return http.StatusInsufficientStorage, fmt.Errorf("store: %w", err)
	}
	s.stored[at] = sum
	return http.StatusOK, nil
}

// coordinateOf reads where a line belongs: what any server can, by docs/format.md.
func coordinateOf(line []byte) (string, error) {
	var parsed struct {
		Chain      struct{ Origin, Index string }
		Checkpoint string
	}
	if err := json.Unmarshal(line, &parsed); err != nil {
		return "", fmt.Errorf("not a line of JSON: %w", err)
	}
	if parsed.Checkpoint != "" {
		const head = 2 // origin and size
		parts := strings.SplitN(parsed.Checkpoint, "\n", head+1)
		if len(parts) <= head {
			return "", errors.New("a checkpoint without origin and size")
		}
		return "checkpoint " + parts[0] + " " + parts[1], nil
	}
	if parsed.Chain.Origin == "" || parsed.Chain.Index == "" {
		return "", errors.New("a line without a coordinate")
	}
	return parsed.Chain.Origin + " " + parsed.Chain.Index, nil
}

func splitLines(body []byte) [][]byte {
	var lines [][]byte
	for line := range bytes.Lines(body) {
		lines = append(lines, bytes.TrimSuffix(line, []byte("\n")))
	}
	return lines
}

func readBody(r *http.Request) ([]byte, error) {
	reader := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
		reader = unpacked
	}
	body, err := io.ReadAll(io.LimitReader(reader, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	return body, nil
}
