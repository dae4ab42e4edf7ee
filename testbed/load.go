// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Load is what the clients send: a mixed corpus, in requests of 1 to MaxBatch
// events and of every form that the receiver takes.
type Load struct {
	Clients  int
	Events   int // over all clients; 0: until the context ends
	MaxBatch int
	Seed     uint64
	Name     string // starts the event ids; unique in a test
	Plain    bool   // ordinary events only, in full batches: for measurements
	// Patient clients send a request again that was answered with 429 or 503 or
	// that found no listener, until it is taken or the context ends.
	Patient bool
	// Cut, if it is not 0, lets clients break off their first attempts of a
	// request after a random time below it, and send the request again.
	Cut  time.Duration
	Bulk int // bytes of text that each ordinary event carries beside the rest
	// Requests, where there are any, are sent in place of new ones: what an
	// earlier load got no answer to.
	Requests []Request
}

// Request is what one client sends at once: the same bytes at each attempt.
type Request struct {
	Events      []Event
	ContentType string
	Body        []byte
}

// NewRequest returns the request of these events.
func NewRequest(events []Event) Request {
	request := Request{Events: events}
	request.ContentType, request.Body = form(1, events)
	return request
}

// Outcome is what the clients saw.
type Outcome struct {
	Sent         int // events for which a request was begun
	Acknowledged map[string]Result
	Refused      int // events answered with 400
	// Unknown holds the ids of events whose request broke off, and
	// UnknownAnonymous counts those without an id: stored or not.
	Unknown          map[string]struct{}
	UnknownAnonymous int
	// Unanswered holds the requests behind Unknown and UnknownAnonymous.
	Unanswered []Request
	Busy       int // answers 429 and 503
	// Unadvised counts those of Busy that did not say when to come again.
	Unadvised int
	Cut       int             // attempts that a client broke off
	Latencies []time.Duration // of whole answers, sorted
	Elapsed   time.Duration
	Surprises []string // answers that the load does not expect, the first few
}

// Add adds what came of another load of the same test. An event that is
// answered now is no longer unknown.
func (o *Outcome) Add(other *Outcome) {
	o.Sent += other.Sent
	o.Refused += other.Refused
	o.UnknownAnonymous += other.UnknownAnonymous
	o.Busy += other.Busy
	o.Unadvised += other.Unadvised
	o.Cut += other.Cut
	o.Unanswered = append(o.Unanswered, other.Unanswered...)
	o.Latencies = append(o.Latencies, other.Latencies...)
	o.Surprises = append(o.Surprises, other.Surprises...)
	maps.Copy(o.Unknown, other.Unknown)
	for id, result := range other.Acknowledged {
		if before, twice := o.Acknowledged[id]; twice && before != result {
			o.Surprises = append(o.Surprises, fmt.Sprintf("event %s was answered with %v and then with %v", id, before, result))
		}
		o.Acknowledged[id] = result
		delete(o.Unknown, id)
	}
}

// NewOutcome returns the outcome of no load at all.
func NewOutcome() *Outcome {
	return &Outcome{Acknowledged: map[string]Result{}, Unknown: map[string]struct{}{}}
}

// Quantile returns the latency below which the share q of all requests were.
func (o *Outcome) Quantile(q float64) time.Duration { return quantile(o.Latencies, q) }

// Run sends the load to endpoint, host:port, and returns what came of it once
// every event was sent or the context ended.
func (l Load) Run(ctx context.Context, endpoint string) *Outcome {
	client := NewClient(endpoint)
	defer client.Close()
	outcomes := make([]*Outcome, l.Clients)
	begin := time.Now()
	var wait sync.WaitGroup
	for i := range outcomes {
		share := l.Events / l.Clients
		if i < l.Events%l.Clients {
			share++
		}
		s := &sender{
			load: l, client: client, left: share,
			corpus:  NewCorpus(l.Seed+uint64(i), fmt.Sprintf("%s-%d", l.Name, i)).carrying(l.Bulk),
			outcome: NewOutcome(),
		}
		for n := i; n < len(l.Requests); n += l.Clients {
			s.again = append(s.again, l.Requests[n])
		}
		outcomes[i] = s.outcome
		wait.Go(func() { s.run(ctx) })
	}
	wait.Wait()
	return merge(outcomes, time.Since(begin))
}

func merge(outcomes []*Outcome, elapsed time.Duration) *Outcome {
	total := NewOutcome()
	total.Elapsed = elapsed
	for _, o := range outcomes {
		total.Add(o)
	}
	slices.Sort(total.Latencies)
	return total
}

// sender is one client.
type sender struct {
	load    Load
	client  *Client
	corpus  *Corpus
	left    int
	again   []Request
	outcome *Outcome
}

func (s *sender) run(ctx context.Context) {
	if len(s.load.Requests) > 0 {
		for _, request := range s.again {
			if ctx.Err() != nil || s.send(ctx, request) != nil {
				s.lost(request)
			}
		}
		return
	}
	for ctx.Err() == nil && (s.load.Events == 0 || s.left > 0) {
		events := s.batch()
		s.left -= len(events)
		s.outcome.Sent += len(events)
		request := Request{Events: events}
		request.ContentType, request.Body = form(s.corpus.random.IntN(4), events)
		if err := s.send(ctx, request); err != nil {
			s.lost(request)
			if s.load.Events == 0 && !s.load.Patient {
				return // the collector is gone, as the test wants it
			}
		}
	}
}

// batch makes the events of one request. One that is refused takes its whole
// request with it, so it travels alone.
func (s *sender) batch() []Event {
	size := 1 + s.corpus.random.IntN(s.load.MaxBatch)
	if s.load.Plain {
		size = s.load.MaxBatch
	}
	if s.load.Events > 0 {
		size = min(size, s.left)
	}
	if !s.load.Plain && s.corpus.random.IntN(100) < 20 {
		return []Event{s.corpus.Make(KindMalformed)}
	}
	events := make([]Event, 0, size)
	for len(events) < size {
		event := s.corpus.Make(KindPlain)
		if !s.load.Plain {
			event = s.corpus.Next()
		}
		if event.Kind != KindMalformed {
			events = append(events, event)
		}
	}
	return events
}

// send sends one request until its answer says what became of it. After an
// error that is not known.
func (s *sender) send(ctx context.Context, request Request) error {
	for attempt := 0; ; attempt++ {
		begin := time.Now()
		answer, err := s.attempt(ctx, attempt, request)
		switch {
		case err == nil:
			s.outcome.Latencies = append(s.outcome.Latencies, time.Since(begin))
			if !s.load.Patient || (answer.Code != http.StatusTooManyRequests && answer.Code != http.StatusServiceUnavailable) {
				return s.note(request.Events, answer)
			}
			s.outcome.Busy++
			if answer.RetryAfter <= 0 {
				s.outcome.Unadvised++
			}
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			s.outcome.Cut++
			continue
		case !s.load.Patient || !errors.Is(err, syscall.ECONNREFUSED): // which has reached nobody
			return err
		}
		if err := pause(ctx, impatience); err != nil {
			return err
		}
	}
}

// attempt sends the request once, and breaks off early attempts if it shall.
func (s *sender) attempt(ctx context.Context, attempt int, request Request) (Answer, error) {
	const early = 3
	if s.load.Cut > 0 && attempt < early {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(s.corpus.random.Int64N(int64(s.load.Cut))))
		defer cancel()
	}
	return s.client.Send(ctx, request.ContentType, request.Body)
}

// impatience is how long a client of a test waits before it asks again,
// whatever Retry-After says.
const impatience = 50 * time.Millisecond

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (s *sender) lost(request Request) {
	if request.Events[0].Kind == KindMalformed {
		s.outcome.Refused += len(request.Events) // can never be stored
		return
	}
	s.outcome.Unanswered = append(s.outcome.Unanswered, request)
	for _, event := range request.Events {
		if event.ID == "" {
			s.outcome.UnknownAnonymous++
		} else {
			s.outcome.Unknown[event.ID] = struct{}{}
		}
	}
}

var errSurprise = errors.New("unexpected answer")

func (s *sender) note(events []Event, answer Answer) error {
	malformed := events[0].Kind == KindMalformed
	switch {
	case malformed && answer.Code == http.StatusBadRequest:
		s.outcome.Refused += len(events)
		return nil
	case malformed || answer.Code != http.StatusOK || len(answer.Results) != len(events):
		const enough = 5
		if len(s.outcome.Surprises) < enough {
			s.outcome.Surprises = append(s.outcome.Surprises, fmt.Sprintf("status %d to %d events, first %.300s: %.300s", answer.Code, len(events), events[0].JSON, answer.Body))
		}
		return errSurprise
	}
	for i, event := range events {
		result := answer.Results[i]
		if event.ID != "" && result.RecordID != event.ID {
			s.outcome.Surprises = append(s.outcome.Surprises, fmt.Sprintf("event %s was answered as %s", event.ID, result.RecordID))
		}
		s.outcome.Acknowledged[result.RecordID] = result
	}
	return nil
}

// form writes events in one of the forms that POST /v1/events takes.
func form(choice int, events []Event) (contentType string, body []byte) {
	var texts [][]byte
	for _, event := range events {
		texts = append(texts, event.JSON)
	}
	list := slices.Concat([]byte("["), bytes.Join(texts, []byte(",")), []byte("]"))
	switch {
	case choice == 0 && len(events) == 1:
		return "application/x-www-form-urlencoded", texts[0]
	case choice == 0:
		return "application/json", list
	case choice == 1:
		return "application/json", slices.Concat([]byte(`{"events":`), list, []byte("}"))
	case choice == 2:
		return "application/x-ndjson", append(bytes.Join(texts, []byte("\n")), '\n')
	default:
		return "application/json; charset=utf-8", list
	}
}
