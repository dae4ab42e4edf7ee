// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// A sink is down for so long that the backlog is far larger than the memory
// that the collector may take. It is killed with the backlog, starts within a
// second per GiB, and drains completely.
func TestScenarioLongOutage(t *testing.T) {
	const mostMemory, mostThreads = 300 << 20, 64
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: append(toSink(sink), "processors::audit::journal::max_bytes: 17179869184")}
	begin := time.Now()
	c := start(t, settings)
	emptyStart := time.Since(begin)
	peak := watch(t, c)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan *testbed.Outcome, 1)
	go func() {
		done <- testbed.Load{Clients: 16, MaxBatch: 20, Seed: 1, Name: "outage", Plain: true, Patient: true}.Run(ctx, c.HTTP)
	}()
	eventually(t, time.Hour, func() bool { return metric(t, c, "otelcol_processor_audit_pending_bytes") >= *backlog }, "the backlog grows")
	waiting := metric(t, c, "otelcol_processor_audit_pending_bytes")
	cancel()
	total := <-done
	total.Add(sendLoad(t, c, "still-open", 100))
	before := peak()
	require.NoError(t, c.Kill())

	begin = time.Now()
	c = start(t, settings)
	backlogStart := time.Since(begin)
	recovered, err := c.Held()
	require.NoError(t, err)
	peak = watch(t, c)
	// A busy machine makes any start slow: with a small backlog that is all there is to see.
	allowed := max(3*time.Second, time.Duration(float64(time.Second)*float64(waiting)/(1<<30)))
	assert.LessOrEqual(t, backlogStart-emptyStart, allowed, "start with a backlog")
	begin = time.Now()
	require.NoError(t, sink.Up())
	drained(t, c, time.Hour)
	drain := time.Since(begin)
	after := peak()
	stop(t, c)

	require.Empty(t, total.Surprises)
	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	requireKept(t, total, stored)
	_, _, faults := sink.Seen()
	require.Empty(t, faults)
	t.Logf("most memory: %d while the backlog grew, %d while it was recovered, %d while it drained", before.Peak, recovered.Peak, after.Peak)
	for _, held := range []testbed.Held{before, after} {
		assert.Less(t, held.Peak, int64(mostMemory), "memory")
		assert.Less(t, held.Threads, int64(mostThreads), "threads, for goroutines that block")
	}
	measured(t, "backlog MiB", waiting>>20, "events", len(stored.Records), "most memory MiB while it grew", before.Peak>>20,
		"while it recovered", recovered.Peak>>20, "while it drained", after.Peak>>20, "most threads", max(before.Threads, after.Threads), "empty start", emptyStart.Round(time.Millisecond),
		"start with it", backlogStart.Round(time.Millisecond), "drained in", drain.Round(time.Millisecond))
}

// watch looks at what the collector holds until the returned function is
// called, which tells the most that was seen.
func watch(t *testing.T, c *testbed.Collector) (most func() testbed.Held) {
	t.Helper()
	var (
		held   testbed.Held
		failed error
		wait   sync.WaitGroup
		stop   = make(chan struct{})
	)
	look := func() {
		now, err := c.Held()
		if err != nil {
			failed = err
			return
		}
		held = testbed.Held{Memory: max(held.Memory, now.Memory), Peak: max(held.Peak, now.Peak), Threads: max(held.Threads, now.Threads)}
	}
	wait.Go(func() {
		poll := time.NewTicker(100 * time.Millisecond)
		defer poll.Stop()
		for {
			select {
			case <-stop:
				return
			case <-poll.C:
				look()
			}
		}
	})
	end := sync.OnceFunc(func() { close(stop); wait.Wait() })
	t.Cleanup(end)
	return func() testbed.Held {
		end()
		look()
		require.NoError(t, failed)
		return held
	}
}
