// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// errStopped says that the exporter shuts down: nobody waits any more.
var errStopped = errors.New("the audit exporter is shutting down")

// breakerState is what a circuit breaker does with the next call. The numbers
// are those of the metric.
type breakerState uint8

const (
	breakerClosed   breakerState = iota // lets it through
	breakerHalfOpen                     // lets a few through, as trials
	breakerOpen                         // has it wait
)

// String is the word in logs.
func (s breakerState) String() string { return [...]string{"closed", "half-open", "open"}[s] }

// breaker keeps calls away from a sink that fails. One that is open has them
// wait: nothing is refused, and no attempt is spent on a sink that is down.
// Safe for concurrent use.
type breaker struct {
	config CircuitBreakerConfig
	report func(breakerState) // called at each change, with mu held

	mu       sync.Mutex
	state    breakerState
	failures int           // in a row, while closed
	until    time.Time     // when open: from then on there are trials
	rest     time.Time     // until then the sink asked to be left alone, in whatever state
	trials   int           // under way
	changed  chan struct{} // closed, and replaced, at each change
	stopped  chan struct{} // closed by stop
}

func newBreaker(config CircuitBreakerConfig, report func(breakerState)) *breaker {
	return &breaker{config: config, report: report, changed: make(chan struct{}), stopped: make(chan struct{})}
}

// do calls call, once the breaker lets it. failed says whether its error means
// that the sink is ill; where the caller left meanwhile it means neither that nor
// the contrary, nor where the sink asked for a rest, which it gets. An error of do's own means that call was not called: the context
// ended first, or the exporter shuts down.
func (b *breaker) do(ctx context.Context, call func() error, failed func(error) bool) error {
	trial, err := b.enter(ctx)
	if err != nil {
		return err
	}
	err = call()
	var later *sink.LaterError
	switch {
	case err != nil && ctx.Err() != nil:
		b.forget(trial, time.Time{})
	case errors.As(err, &later):
		b.forget(trial, later.At)
	default:
		b.leave(trial, err != nil && failed(err))
	}
	return err
}

func (b *breaker) enter(ctx context.Context) (trial bool, err error) {
	for {
		trial, entered, wait, changed := b.ask()
		if entered {
			return trial, nil
		}
		if err := b.wait(ctx, wait, changed); err != nil {
			return false, fmt.Errorf("held back, by the open circuit breaker or as the sink asked: %w", err)
		}
	}
}

// ask lets the caller in, or says how long it has to wait: for that time, if it
// is not 0, or until changed is closed.
func (b *breaker) ask() (trial, entered bool, wait time.Duration, changed chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait := time.Until(b.rest); wait > 0 {
		return false, false, wait, b.changed
	}
	if b.state == breakerOpen {
		if wait := time.Until(b.until); wait > 0 {
			return false, false, wait, b.changed
		}
		b.set(breakerHalfOpen)
	}
	if b.state == breakerClosed {
		return false, true, 0, nil
	}
	if b.trials >= b.config.HalfOpenMaxInFlight {
		return false, false, 0, b.changed
	}
	b.trials++
	return true, true, 0, nil
}

func (b *breaker) wait(ctx context.Context, wait time.Duration, changed chan struct{}) error {
	var passed <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		passed = timer.C
	}
	select {
	case <-passed:
		return nil
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-b.stopped:
		return errStopped
	}
}

func (b *breaker) leave(trial, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if trial {
		b.trials--
	}
	switch {
	case !failed:
		b.failures = 0
		b.set(breakerClosed)
	case b.state == breakerClosed:
		if b.failures++; b.failures >= b.config.FailureThreshold {
			b.open()
		}
	case trial && b.state == breakerHalfOpen:
		b.open()
	}
}

// forget ends a call that does not say how the sink is. Until rest nobody calls.
func (b *breaker) forget(trial bool, rest time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rest.After(b.rest) {
		b.rest = rest
	}
	if trial {
		b.trials--
		b.set(b.state) // somebody else may try
	}
}

func (b *breaker) open() {
	b.failures = 0
	b.until = time.Now().Add(b.config.Cooldown)
	b.set(breakerOpen)
}

// set changes the state. Even where it stays the same those that wait are woken:
// a trial may have become free.
func (b *breaker) set(state breakerState) {
	if b.state != state {
		b.state = state
		b.report(state)
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// stop ends all waiting, for good.
func (b *breaker) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.stopped:
	default:
		close(b.stopped)
	}
}
