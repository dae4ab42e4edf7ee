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
	Latencies        []time.Duration // of whole answers, sorted
	Elapsed          time.Duration
	Surprises        []string // answers that the load does not expect, the first few
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
			corpus:  NewCorpus(l.Seed+uint64(i), fmt.Sprintf("%s-%d", l.Name, i)),
			outcome: &Outcome{Acknowledged: map[string]Result{}, Unknown: map[string]struct{}{}},
		}
		outcomes[i] = s.outcome
		wait.Go(func() { s.run(ctx) })
	}
	wait.Wait()
	return merge(outcomes, time.Since(begin))
}

func merge(outcomes []*Outcome, elapsed time.Duration) *Outcome {
	total := &Outcome{Acknowledged: map[string]Result{}, Unknown: map[string]struct{}{}, Elapsed: elapsed}
	for _, o := range outcomes {
		total.Sent += o.Sent
		total.Refused += o.Refused
		total.UnknownAnonymous += o.UnknownAnonymous
		total.Latencies = append(total.Latencies, o.Latencies...)
		total.Surprises = append(total.Surprises, o.Surprises...)
		for id, result := range o.Acknowledged {
			if _, twice := total.Acknowledged[id]; twice {
				total.Surprises = append(total.Surprises, "two events were given the id "+id)
			}
			total.Acknowledged[id] = result
		}
		maps.Copy(total.Unknown, o.Unknown)
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
	outcome *Outcome
}

func (s *sender) run(ctx context.Context) {
	for ctx.Err() == nil && (s.load.Events == 0 || s.left > 0) {
		events := s.batch()
		s.left -= len(events)
		if err := s.send(ctx, events); err != nil && s.load.Events == 0 {
			return // the collector is gone, as the test wants it
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

func (s *sender) send(ctx context.Context, events []Event) error {
	contentType, body := form(s.corpus.random.IntN(4), events)
	s.outcome.Sent += len(events)
	begin := time.Now()
	answer, err := s.client.Send(ctx, contentType, body)
	if err != nil {
		for _, event := range events {
			s.lost(event)
		}
		return err
	}
	s.outcome.Latencies = append(s.outcome.Latencies, time.Since(begin))
	return s.note(events, answer)
}

func (s *sender) lost(event Event) {
	switch {
	case event.Kind == KindMalformed:
		s.outcome.Refused++ // can never be stored
	case event.ID == "":
		s.outcome.UnknownAnonymous++
	default:
		s.outcome.Unknown[event.ID] = struct{}{}
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
		for _, event := range events {
			s.lost(event)
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
