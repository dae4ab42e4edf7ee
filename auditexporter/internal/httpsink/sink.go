// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package httpsink posts sealed records and checkpoints to an HTTP endpoint,
// in order, one bounded request after another. docs/http.md is its
// specification for those who write an endpoint.
//
// What [Sink.Write] acknowledged the endpoint answered with 2xx, or it refused
// the record for good. How durable that is, is the endpoint's word.
//
// Nothing is read back, so that each coordinate is stored once is the work of
// two. The sink remembers what it delivered since it was opened, and does not
// send it again. What it has forgotten, and what it cannot know to be stored
// because an answer got lost, it sends again with the same coordinates and
// hashes, and, where the same records make up the request, with the same
// Idempotency-Key: that the endpoint has to recognise.
package httpsink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// Config says where and how to send.
type Config struct {
	// Client sends. Its redirect policy is replaced.
	Client *http.Client
	// CloseIdle closes the idle connections of the client. nil where
	// Client.CloseIdleConnections does.
	CloseIdle func()
	// Endpoint is the URL that is posted to.
	Endpoint string
	Format   Format
	// MaxRequestBytes bounds a body before compression. One record that is
	// larger is sent alone.
	MaxRequestBytes int
	// MaxRequestRecords bounds the records and checkpoints of a request.
	MaxRequestRecords int
	// Secrets sign each request, each for itself.
	Secrets []configopaque.String
	// FollowRedirects allows 307 and 308. To another host only if the client
	// sends no Credentials, and never from https to http, nor over http to
	// another machine without Plaintext.
	FollowRedirects bool
	Credentials     bool
	// Plaintext allows plain http to other machines.
	Plaintext bool
	// Logger is told what could be configured better, never content.
	Logger *zap.Logger

	now      func() time.Time // tests only
	remember int              // tests only
}

// Sink posts to one endpoint. Safe for concurrent use: one Write at a time
// sends, the others wait.
type Sink struct {
	config Config
	client *http.Client
	form   form

	life context.Context // ends with Close
	end  context.CancelFunc
	turn chan struct{} // holds a token while one Write or Replay runs

	// Owned by whoever has the turn.
	delivered memory
	witness   witness
	window    int       // most records of the next request: halved where one is refused, doubled where one is taken
	late      int       // requests in a row that time was too short for
	mostBytes int       // MaxRequestBytes, or less once the endpoint said 413
	notBefore time.Time // what the endpoint asked for by Retry-After
}

// Open returns a Sink. It does not send yet.
func Open(config Config) (*Sink, error) {
	form, ok := forms[config.Format]
	if !ok {
		return nil, fmt.Errorf("open http sink: format %q is not known", config.Format)
	}
	if _, err := url.Parse(config.Endpoint); err != nil {
		return nil, errors.New("open http sink: the endpoint is not a URL") // err would show it, secrets included
	}
	if config.now == nil {
		config.now = time.Now
	}
	if config.remember == 0 {
		config.remember = maxRemembered
	}
	if config.CloseIdle == nil {
		config.CloseIdle = config.Client.CloseIdleConnections
	}
	keepQuiet()
	client := *config.Client
	s := &Sink{
		config: config, client: &client, form: form, turn: make(chan struct{}, 1),
		delivered: newMemory(config.remember), window: config.MaxRequestRecords, mostBytes: config.MaxRequestBytes,
	}
	client.CheckRedirect = s.redirect
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

// Write sends entries in order. When it returns nil the endpoint has all of
// them, apart from what was handed to refuse, and apart from checkpoints where
// the format has none. After an error some may be stored (the Result says how
// many are known to be); writing all of them again is right.
//
// A record that the endpoint refuses for good, alone, while it takes others, is
// handed to refuse; a stub is sent in its place if the format has stubs. That
// it comes again and is refused again is remembered as long as the delivery is.
func (s *Sink) Write(ctx context.Context, entries []sink.Entry, refuse sink.Refuse) (sink.Result, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return sink.Result{}, err
	}
	defer leave()
	d := delivery{sink: s, entries: entries, refuse: refuse, queued: map[sink.Coordinate]struct{}{}}
	err = d.run(ctx)
	return d.result, err
}

// Replay sends a record once more. Whether a stub stands at the endpoint cannot
// be asked, so it never returns sink.ErrNoStub.
func (s *Sink) Replay(ctx context.Context, e *sink.Entry) (sink.Result, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return sink.Result{}, err
	}
	defer leave()
	d := delivery{sink: s, queued: map[sink.Coordinate]struct{}{}}
	err = d.replay(ctx, e)
	return d.result, err
}

// enter waits for the turn. The context that it returns also ends with Close.
func (s *Sink) enter(ctx context.Context) (context.Context, func(), error) {
	if s.life.Err() != nil {
		return nil, nil, sink.ErrClosed
	}
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("post to the endpoint: %w", context.Cause(ctx))
	}
	select {
	case s.turn <- struct{}{}:
	case <-s.life.Done():
		return nil, nil, sink.ErrClosed
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("wait for another request to the endpoint: %w", context.Cause(ctx))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(s.life, func() { cancel(sink.ErrClosed) })
	leave := func() {
		unhook()
		cancel(nil)
		<-s.turn
	}
	if s.life.Err() != nil { // it ended while the select had the choice
		leave()
		return nil, nil, sink.ErrClosed
	}
	return ctx, leave, nil
}

// Close cuts the request that is under way and closes idle connections. Twice
// is fine.
func (s *Sink) Close() error {
	s.end()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.config.CloseIdle()
	return nil
}

var _ sink.Sink = (*Sink)(nil)
