// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

var errDown = errors.New("down")

// breakerTest is a breaker in front of a sink that is down or not. A closed one
// lets callers through side by side, hence the atomics.
type breakerTest struct {
	*breaker
	down   atomic.Bool
	calls  atomic.Int32
	states []breakerState // the breaker's mu owns it
}

func newBreakerTest() *breakerTest {
	b := &breakerTest{}
	b.breaker = newBreaker(CircuitBreakerConfig{FailureThreshold: 3, Cooldown: 10 * time.Second, HalfOpenMaxInFlight: 1},
		func(s breakerState) { b.states = append(b.states, s) })
	return b
}

func (b *breakerTest) try(ctx context.Context) error {
	return b.do(ctx, func() error {
		b.calls.Add(1)
		if b.down.Load() {
			return errDown
		}
		return nil
	}, func(error) bool { return true })
}

func (b *breakerTest) now() breakerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *breakerTest) openIt(t *testing.T) {
	t.Helper()
	b.down.Store(true)
	for range 3 {
		require.ErrorIs(t, b.try(t.Context()), errDown)
	}
	require.Equal(t, breakerOpen, b.now())
}

func TestBreakerOpensAfterFailuresInARow(t *testing.T) {
	b := newBreakerTest()
	for range 5 { // two failures, then it is well
		b.down.Store(true)
		require.Error(t, b.try(t.Context()))
		require.Error(t, b.try(t.Context()))
		b.down.Store(false)
		require.NoError(t, b.try(t.Context()))
	}
	assert.Empty(t, b.states)
	b.openIt(t)
	assert.Equal(t, []breakerState{breakerOpen}, b.states)
}

// W18: the original logger spent its attempts on an open breaker, and lost the
// event.
func TestW18OpenBreakerWaitsAndSpendsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest()
		b.openIt(t)
		start, calls := time.Now(), b.calls.Load()
		for range 20 { // an outage of many cool-downs
			require.ErrorIs(t, b.try(t.Context()), errDown)
		}
		assert.EqualValues(t, 20, b.calls.Load()-calls, "one call a cool-down")
		assert.Equal(t, 200*time.Second, time.Since(start))
		b.down.Store(false)
		require.NoError(t, b.try(t.Context()))
		assert.Equal(t, breakerClosed, b.now())
	})
}

func TestHalfOpenBreakerLetsOneThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest()
		b.openIt(t)
		b.down.Store(false)
		var calls atomic.Int32
		release := make(chan error)
		results := make(chan error, 4)
		for range 4 {
			go func() {
				results <- b.do(t.Context(), func() error {
					calls.Add(1)
					return <-release
				}, func(error) bool { return true })
			}()
		}
		synctest.Wait()
		time.Sleep(10 * time.Second) // the bubble's clock
		synctest.Wait()
		assert.EqualValues(t, 1, calls.Load())
		release <- errDown
		synctest.Wait()
		assert.Equal(t, breakerOpen, b.now())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.EqualValues(t, 2, calls.Load())
		release <- nil
		for range 2 { // all others run once it is closed
			release <- nil
		}
		failures := 0
		for range 4 {
			if <-results != nil {
				failures++
			}
		}
		assert.Equal(t, 1, failures)
		assert.Equal(t, []breakerState{breakerOpen, breakerHalfOpen, breakerOpen, breakerHalfOpen, breakerClosed}, b.states)
	})
}

func TestOpenBreakerEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest()
		b.openIt(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := b.try(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "open circuit breaker")
		assert.EqualValues(t, 3, b.calls.Load())
	})
}

func TestStoppedBreakerDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest()
		b.openIt(t)
		waiting := make(chan error)
		go func() { waiting <- b.try(t.Context()) }()
		synctest.Wait()
		b.stop()
		b.stop()
		require.ErrorIs(t, <-waiting, errStopped)
		require.ErrorIs(t, b.try(t.Context()), errStopped)
		assert.EqualValues(t, 3, b.calls.Load())
	})
}

// What is not the sink's fault does not open it.
func TestBreakerCountsOnlyTheSinksFaults(t *testing.T) {
	b := newBreakerTest()
	for range 10 {
		err := b.do(t.Context(), func() error { return errDown }, func(error) bool { return false })
		require.ErrorIs(t, err, errDown)
	}
	assert.Equal(t, breakerClosed, b.now())
}

// A caller who left during the trial says nothing of the sink: it stays as it
// is, and the next one tries.
func TestCallerWhoLeavesDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest()
		b.openIt(t)
		time.Sleep(10 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := b.do(ctx, func() error {
			cancel()
			return ctx.Err()
		}, func(error) bool { return true })
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, breakerHalfOpen, b.now())
		require.ErrorIs(t, b.try(t.Context()), errDown)
		assert.Equal(t, breakerOpen, b.now())
	})
}

// Callers who leave do not hide that the sink fails.
func TestCallersWhoLeaveKeepTheCount(t *testing.T) {
	b := newBreakerTest()
	b.down.Store(true)
	left, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 3 {
		require.ErrorIs(t, b.try(t.Context()), errDown)
		_ = b.do(left, func() error {
			cancel()
			return errDown
		}, func(error) bool { return true })
	}
	assert.Equal(t, breakerOpen, b.now())
}

// A sink that asks for a rest gets it, whatever the cool-down is: no call comes
// before, and that it asked does not open the breaker.
func TestBreakerRestsAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest()
		var calls []time.Duration
		start := time.Now()
		try := func(answer error, rest time.Duration) error {
			return b.do(t.Context(), func() error {
				calls = append(calls, time.Since(start))
				if rest > 0 {
					return &sink.LaterError{At: time.Now().Add(rest), Cause: answer}
				}
				return answer
			}, func(error) bool { return true })
		}
		require.ErrorIs(t, try(errDown, 0), errDown)
		require.ErrorIs(t, try(errDown, 0), errDown)
		for range 5 {
			require.ErrorIs(t, try(errDown, time.Second), errDown)
		}
		require.NoError(t, try(nil, 0))
		assert.Equal(t, []time.Duration{0, 0, 0, time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second}, calls)
		assert.Empty(t, b.states)
	})
}

// A trial that is answered so decides nothing; those who wait have the rest as
// well, and one of them tries then.
func TestTrialThatIsAskedToRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest()
		b.openIt(t)
		start := time.Now()
		require.Error(t, b.do(t.Context(), func() error {
			return &sink.LaterError{At: time.Now().Add(3 * time.Second), Cause: errDown}
		}, func(error) bool { return true }))
		assert.Equal(t, breakerHalfOpen, b.now())
		b.down.Store(false)
		done := make(chan error, 4)
		for range 4 {
			go func() { done <- b.try(t.Context()) }()
		}
		for range 4 {
			require.NoError(t, <-done)
		}
		assert.Equal(t, 13*time.Second, time.Since(start), "the cool-down and the rest")
		assert.Equal(t, breakerClosed, b.now())
	})
}

// A rest does not outlast a shutdown.
func TestStoppedBreakerDoesNotRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest()
		require.Error(t, b.do(t.Context(), func() error {
			return &sink.LaterError{At: time.Now().Add(time.Hour), Cause: errDown}
		}, func(error) bool { return true }))
		b.stop()
		require.ErrorIs(t, b.try(t.Context()), errStopped)
	})
}

// The end of the exporter ends the wait, also of one that is required and whose
// caller would wait for as long as it takes.
func TestShutdownEndsTheWait(t *testing.T) {
	f := startWith(t, t.TempDir(), func(c *Config) {
		c.CircuitBreaker = CircuitBreakerConfig{FailureThreshold: 1, Cooldown: time.Hour, HalfOpenMaxInFlight: 1}
	})
	f.obstruct(t)
	var s sealer
	logs := s.batch(t, 1)
	require.Error(t, f.ConsumeLogs(t.Context(), logs))
	waiting := make(chan error, 1)
	go func() { waiting <- f.ConsumeLogs(context.Background(), logs) }()
	require.NoError(t, f.Shutdown(t.Context()))
	select {
	case err := <-waiting:
		require.Error(t, err, "it is delivered by the next start")
	case <-time.After(20 * time.Second):
		t.Fatal("the caller hangs")
	}
}
