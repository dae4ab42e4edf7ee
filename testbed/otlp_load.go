// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// OTLPLoad is what clients send over OTLP/gRPC: each the next request when the
// last one is answered, or, with a Rate, when it is due.
type OTLPLoad struct {
	Requests    *Requests
	Clients     int
	Connections int           // which the clients share; 0: each has one of its own
	Rate        int           // requests a second over all clients; 0: as fast as they are answered
	Warm        time.Duration // sent before, to a collector that is to be measured warm
	Duration    time.Duration
}

// OTLPOutcome is what the clients saw, without the warm-up where it is time
// or a count of what was measured.
type OTLPOutcome struct {
	Records   int   // acknowledged while it was measured
	Sent      []int // by client: records acknowledged at all, warm-up included
	Refused   int   // requests that were sent again after an answer that asks for it
	Latencies []time.Duration
	Elapsed   time.Duration
}

// Quantile returns the latency below which the share q of all requests were.
func (o *OTLPOutcome) Quantile(q float64) time.Duration { return quantile(o.Latencies, q) }

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// IDs calls yield with the id of every acknowledged record, until it says
// false.
func (o *OTLPOutcome) IDs(yield func(id string) bool) {
	for client, sent := range o.Sent {
		for record := range sent {
			if !yield(recordID(client, record)) {
				return
			}
		}
	}
}

// requestTimeout is when a client takes a collector for dead.
const requestTimeout = 60 * time.Second

// Run warms the collector up, calls measured, sends the load, and returns once
// every request is answered. An answer other than success, or one that asks
// to send again, is an error.
func (l OTLPLoad) Run(ctx context.Context, endpoint string, measured func() error) (*OTLPOutcome, error) {
	if l.Connections == 0 {
		l.Connections = l.Clients
	}
	connections := make([]*grpc.ClientConn, l.Connections)
	for i := range connections {
		var err error
		if connections[i], err = grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		defer connections[i].Close() //nolint:errcheck // every answer is here by then
	}
	clients := make([]*otlpClient, l.Clients)
	for i := range clients {
		clients[i] = &otlpClient{load: &l, number: i, connection: connections[i%len(connections)]}
	}
	begin := time.Now()
	if err := each(ctx, clients, func(ctx context.Context, c *otlpClient) error { return c.run(ctx, begin, begin.Add(l.Warm)) }); err != nil {
		return nil, err
	}
	for _, c := range clients {
		c.records, c.refused, c.latencies = 0, 0, c.latencies[:0]
	}
	if err := measured(); err != nil {
		return nil, err
	}
	begin = time.Now()
	if err := each(ctx, clients, func(ctx context.Context, c *otlpClient) error { return c.run(ctx, begin, begin.Add(l.Duration)) }); err != nil {
		return nil, err
	}
	outcome := &OTLPOutcome{Elapsed: time.Since(begin)}
	for _, c := range clients {
		outcome.Records += c.records
		outcome.Refused += c.refused
		outcome.Sent = append(outcome.Sent, c.next)
		outcome.Latencies = append(outcome.Latencies, c.latencies...)
	}
	slices.Sort(outcome.Latencies)
	return outcome, nil
}

// each runs all clients at once; the first error ends them and is returned.
func each(ctx context.Context, clients []*otlpClient, run func(context.Context, *otlpClient) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	for _, c := range clients {
		wait.Go(func() {
			if err := run(ctx, c); err != nil {
				cancel(err)
			}
		})
	}
	wait.Wait()
	return context.Cause(ctx)
}

// otlpClient is one client.
type otlpClient struct {
	load       *OTLPLoad
	number     int
	connection *grpc.ClientConn
	requests   int // begun
	next       int // number of the next record: all before it are acknowledged
	buffer     []byte
	answer     []byte

	records   int
	refused   int
	latencies []time.Duration
}

func (c *otlpClient) run(ctx context.Context, begin, end time.Time) error {
	for n := 0; ; n++ {
		due := time.Now()
		if c.load.Rate > 0 {
			due = c.due(begin, n)
		}
		if !due.Before(end) {
			return nil
		}
		if err := sleepUntil(ctx, due); err != nil {
			return err
		}
		if err := c.send(ctx); err != nil {
			return fmt.Errorf("client %d: %w", c.number, err)
		}
		// From when it should have been sent: a client that waits for a slow
		// answer is late for its next request, and that is the collector's doing.
		c.latencies = append(c.latencies, time.Since(due))
	}
}

// due spreads the requests of all clients evenly.
func (c *otlpClient) due(begin time.Time, n int) time.Time {
	place := n*c.load.Clients + c.number
	return begin.Add(time.Duration(place) * time.Second / time.Duration(c.load.Rate))
}

func sleepUntil(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send sends the next request until it is acknowledged.
func (c *otlpClient) send(ctx context.Context) error {
	const pause = 100 * time.Millisecond
	var records int
	c.buffer, records = c.load.Requests.appendRequest(c.buffer[:0], c.requests, c.number, c.next)
	c.requests++
	for {
		err := c.export(ctx)
		if code := status.Code(err); code != codes.Unavailable && code != codes.ResourceExhausted {
			if err == nil {
				c.next += records
				c.records += records
			}
			return err
		}
		c.refused++
		if err := sleepUntil(ctx, time.Now().Add(pause)); err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}

func (c *otlpClient) export(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c.answer = c.answer[:0]
	if err := c.connection.Invoke(ctx, logsMethod, &c.buffer, &c.answer, grpc.ForceCodecV2(rawCodec{})); err != nil {
		return err
	}
	return checkAnswer(c.answer)
}
