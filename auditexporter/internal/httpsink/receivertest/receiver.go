// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package receivertest is an endpoint for tests: it does what docs/http.md asks
// of one, and fails on demand.
package receivertest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Config says how an endpoint differs from one that takes all.
type Config struct {
	Format string // events, ndjson or otlp_json
	// Secret checks X-Audit-Signature, unless it is empty.
	Secret string
	// Poison says which lines are refused with 422.
	Poison func(line string) bool
	// ConflictOnRepeat has the endpoint answer 409 to what it has, with the hash
	// where the request has one entry. Otherwise it is 200.
	ConflictOnRepeat bool
	// Handler is called for each request before all else, if it is not nil. With
	// true it has answered.
	Handler func(http.ResponseWriter, *http.Request) bool
}

// Fault is what happens to one request instead of an answer of the endpoint's
// own.
type Fault struct {
	Stored bool // it is stored all the same
	Reset  bool // the connection is cut without an answer
	Hang   bool // there is no answer until the client leaves
	Status int
	Header map[string]string
	Body   string
}

// Request is what the endpoint got.
type Request struct {
	Header  http.Header
	Body    []byte // decompressed
	Entries []Entry
}

// Receiver is an endpoint. Safe for concurrent use.
type Receiver struct {
	URL    string
	server *httptest.Server
	config Config

	mu       sync.Mutex
	faults   []Fault // of the next requests
	each     func(*Request) *Fault
	requests []Request       // that could be read
	keys     map[string]bool // Idempotency-Keys of what is stored
	replays  int             // requests whose key was known
	held     map[string]held // by coordinate or event id
	stored   []Entry
	problems []string

	connections map[net.Conn]bool
}

type held struct {
	hash string
	stub bool
}

// New starts an endpoint, which ends with the test. Its URL has a user, a
// password and a query that must not show anywhere.
func New(t testing.TB, config Config) *Receiver {
	t.Helper()
	r := &Receiver{config: config, keys: map[string]bool{}, held: map[string]held{}, connections: map[net.Conn]bool{}}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.server.Config.ConnState = r.connection
	r.server.Start()
	r.URL = strings.Replace(r.server.URL, "http://", "http://user-hush:password-hush@", 1) + "/audit?token=hush"
	t.Cleanup(func() {
		r.server.Close()
		for _, problem := range r.problems {
			t.Error(problem)
		}
	})
	return r
}

// Next has the next requests fail.
func (r *Receiver) Next(faults ...Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, faults...)
}

// Always has every request fail that Next says nothing of, until fault is nil.
func (r *Receiver) Always(fault *Fault) {
	r.Each(func(*Request) *Fault { return fault })
}

// Each asks fault, which may be nil, what is to happen to each request that Next
// says nothing of. One at a time is asked.
func (r *Receiver) Each(fault func(*Request) *Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.each = fault
}

// SetPoison changes which lines are refused.
func (r *Receiver) SetPoison(poison func(line string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.config.Poison = poison
}

// Lines returns the stored lines in order; of events, the events.
func (r *Receiver) Lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := make([]string, len(r.stored))
	for i := range r.stored {
		lines[i] = r.stored[i].Line
	}
	return lines
}

// Requests returns what came, refused or not.
func (r *Receiver) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Replays counts the requests whose Idempotency-Key was known.
func (r *Receiver) Replays() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.replays
}

// Connections counts those that are open.
func (r *Receiver) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.connections)
}

func (r *Receiver) connection(c net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(r.connections, c)
	} else {
		r.connections[c] = true
	}
}

func (r *Receiver) problem(format string, arguments ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, fmt.Sprintf(format, arguments...))
}

func (r *Receiver) serve(w http.ResponseWriter, request *http.Request) {
	if r.config.Handler != nil && r.config.Handler(w, request) {
		return
	}
	got, err := r.read(request)
	if err != nil {
		r.problem("request that cannot be read: %v", err)
		http.Error(w, "hush", http.StatusBadRequest)
		return
	}
	if r.config.Secret != "" && !CheckSignature(r.config.Secret, request.Header.Get("X-Audit-Signature"), got.Body, time.Now()) {
		http.Error(w, "hush", http.StatusUnauthorized)
		return
	}
	fault := r.take(got)
	if fault == nil {
		status, body := r.store(got)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client may have left
		return
	}
	if fault.Stored {
		r.store(got)
	}
	fault.play(w, request)
}

func (f *Fault) play(w http.ResponseWriter, request *http.Request) {
	switch {
	case f.Hang:
		<-request.Context().Done()
	case f.Reset:
		panic(http.ErrAbortHandler)
	default:
		for name, value := range f.Header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, f.Body) //nolint:gosec // no browser reads it; the client may have left
	}
}

func (r *Receiver) read(request *http.Request) (*Request, error) {
	var body io.Reader = request.Body
	if request.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		body = unzipped
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	got := &Request{Header: request.Header.Clone(), Body: text}
	got.Entries, err = parse(r.config.Format, text)
	if err == nil && request.Header.Get("Idempotency-Key") == "" {
		err = fmt.Errorf("no Idempotency-Key")
	}
	return got, err
}

// take notes the request and returns what is to go wrong with it.
func (r *Receiver) take(got *Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, *got)
	if len(r.faults) > 0 {
		fault := r.faults[0]
		r.faults = r.faults[1:]
		return &fault
	}
	if r.each != nil {
		return r.each(got)
	}
	return nil
}

// store takes the whole request or nothing of it.
func (r *Receiver) store(got *Request) (status int, body string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := got.Header.Get("Idempotency-Key")
	if r.keys[key] {
		r.replays++
		return http.StatusOK, ""
	}
	for i := range got.Entries {
		if r.config.Poison != nil && r.config.Poison(got.Entries[i].Line) {
			return http.StatusUnprocessableEntity, "hush"
		}
	}
	for i := range got.Entries {
		e := &got.Entries[i]
		known, ok := r.held[e.ID]
		if !ok || known.hash == e.Hash && !r.config.ConflictOnRepeat || known.hash == e.Hash && known.stub && !e.Stub {
			continue
		}
		if len(got.Entries) > 1 {
			return http.StatusConflict, ""
		}
		told, _ := json.Marshal(map[string]string{"hash": known.hash}) // a map of strings has a JSON form
		return http.StatusConflict, string(told)
	}
	for _, e := range got.Entries {
		if known, ok := r.held[e.ID]; ok && (!known.stub || e.Stub) {
			continue
		}
		r.held[e.ID] = held{hash: e.Hash, stub: e.Stub}
		r.stored = append(r.stored, e)
	}
	r.keys[key] = true
	return http.StatusOK, ""
}

// File returns what an endpoint that appends would have: the stored lines.
func (r *Receiver) File() []byte {
	var all bytes.Buffer
	for _, line := range r.Lines() {
		all.WriteString(line + "\n")
	}
	return all.Bytes()
}
