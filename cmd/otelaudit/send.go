// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const (
	defaultEndpoint = "http://127.0.0.1:4319/v1/events"
	defaultPatience = time.Minute

	// Bounds of one request, far below those of a receiver.
	batchEvents = 500
	batchBytes  = 1 << 20
)

// dispatch is what the command line asks to be sent.
type dispatch struct {
	client clientOptions
	json   bool
	inputs []string
}

func parseSend(args []string) (*dispatch, error) {
	var d dispatch
	flags := flag.NewFlagSet("send", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&d.client.endpoint, "endpoint", defaultEndpoint, "")
	flags.Var(&d.client.headers, "header", "")
	flags.StringVar(&d.client.ca, "ca", "", "")
	flags.StringVar(&d.client.cert, "cert", "", "")
	flags.StringVar(&d.client.key, "key", "", "")
	flags.DurationVar(&d.client.patience, "retry-for", defaultPatience, "")
	flags.BoolVar(&d.json, "json", false, "")
	var err error
	if d.inputs, err = parseFlags(flags, args); err != nil {
		return nil, err
	}
	if d.client.patience < 0 {
		return nil, errors.New("--retry-for must not be negative")
	}
	if len(d.inputs) == 0 {
		d.inputs = []string{"-"}
	}
	return &d, nil
}

// runSend is otelaudit send.
func runSend(ctx context.Context, args []string, c console) int {
	d, err := parseSend(args)
	var to *client
	if err == nil {
		to, err = newClient(&d.client)
	}
	if err != nil {
		return c.refuse("send", err)
	}
	defer to.close()
	to.waits = func(why error) {
		complain(c.err, fmt.Errorf("%w; it is sent again, each batch for up to %s (--retry-for)", why, d.client.patience))
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &sender{client: to, console: c, json: d.json}
	for _, input := range d.inputs {
		if err := s.input(ctx, input); err != nil {
			return s.end(err)
		}
	}
	return s.end(s.flush(ctx))
}

// sender sends batches and says what became of each event.
type sender struct {
	client *client
	console
	json bool

	batch []*outgoing
	bytes int

	durable, flagged, refused int
	unread                    bool
}

// input sends the events of one input. Its error ends everything; an input that
// cannot be read is told, and the next one is sent.
func (s *sender) input(ctx context.Context, input string) (err error) {
	r := s.in
	if input != "-" {
		f, err := os.Open(input)
		if err != nil {
			s.unreadable(err)
			return nil
		}
		defer func() {
			if err := f.Close(); err != nil {
				s.unreadable(err)
			}
		}()
		r = f
	}
	source, err := newEventSource(input, r)
	if err != nil {
		s.unreadable(err)
		return nil
	}
	for {
		e, err := source.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.unreadable(err)
			return nil
		}
		if err := s.add(ctx, e); err != nil {
			return err
		}
	}
}

func (s *sender) unreadable(err error) {
	s.unread = true
	complain(s.err, err)
}

func (s *sender) add(ctx context.Context, e *outgoing) error {
	if len(s.batch) == batchEvents || len(s.batch) > 0 && s.bytes+len(e.text) > batchBytes {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	s.batch = append(s.batch, e)
	s.bytes += len(e.text)
	return nil
}

// flush sends the batch until each event of it is durable or refused.
func (s *sender) flush(ctx context.Context) error {
	batch := s.batch
	s.batch, s.bytes = nil, 0
	return s.send(ctx, batch)
}

// send sends a batch. A request is taken whole or not at all: what one event
// withheld is sent again without it, and where the answer names none, in halves.
func (s *sender) send(ctx context.Context, batch []*outgoing) error {
	for len(batch) > 0 {
		answer, err := s.client.post(ctx, batch)
		if err != nil {
			return err
		}
		if answer.durable() {
			return s.tell(answer.fates(batch))
		}
		rest, refused := answer.split(batch)
		switch {
		case len(refused) > 0:
			if err := s.tell(refused); err != nil {
				return err
			}
			batch = rest
		case len(batch) == 1:
			return s.tell([]fate{{batch[0], result{Status: statusRefused, Reason: answer.Problem}}})
		default:
			half := len(batch) / 2
			if err := s.send(ctx, batch[:half]); err != nil {
				return err
			}
			batch = batch[half:]
		}
	}
	return nil
}

// fate is what became of an event.
type fate struct {
	event *outgoing
	result
}

// told is what is printed of one event.
type told struct {
	Input string `json:"input"`
	Event int    `json:"event"`
	result
}

// tell prints what became of events.
func (s *sender) tell(fates []fate) error {
	for _, f := range fates {
		if f.RecordID == "" {
			f.RecordID = f.event.id
		}
		switch f.Status {
		case statusDurable:
			s.durable++
		case statusFlagged:
			s.flagged++
		default:
			s.refused++
		}
		if err := s.print(&told{f.event.input, f.event.number, f.result}); err != nil {
			return err
		}
	}
	return nil
}

func (s *sender) print(t *told) (err error) {
	if s.json {
		var text []byte
		if text, err = json.Marshal(t); err == nil {
			_, err = s.out.Write(append(text, '\n'))
		}
	} else {
		line := t.Status + " " + quoteOdd(t.RecordID)
		if t.Origin != "" {
			line += " at " + quoteOdd(t.Origin+"/"+t.Index)
		}
		if t.Reason != "" {
			line += ": " + printable(t.Reason)
		}
		if t.Status == statusRefused {
			line += " (" + printable(t.Input) + ", event " + strconv.Itoa(t.Event) + ")"
		}
		_, err = io.WriteString(s.out, line+"\n")
	}
	if err != nil {
		return fmt.Errorf("print what was sent: %w", err)
	}
	return nil
}

// quoteOdd shows a text from outside as one word.
func quoteOdd(text string) string {
	if text == "" || printable(text) != text {
		return strconv.Quote(text)
	}
	return text
}

// end sums up, and returns the exit code.
func (s *sender) end(err error) int {
	complain(s.err, fmt.Errorf("%d durable, %d durable but flagged, %d refused", s.durable, s.flagged, s.refused))
	if err != nil {
		complain(s.err, err)
	}
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		return exitBroken
	case err != nil:
		return exitRead
	case s.refused > 0 || s.unread:
		return exitBroken
	default:
		return exitSound
	}
}
