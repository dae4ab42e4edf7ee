// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// Killed at a random moment, again and again, under load and several times in
// a row while it starts and recovers. Clients send what got no answer again,
// with the same ids, to the next life, which is killed as well. What was
// acknowledged is stored, nothing is stored twice, each client is told the
// same coordinates each time, and after a clean stop the store is sound and
// complete.
func TestScenarioKillDuringLoad(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	total, kills, retried := killAgainAndAgain(t, settings, *rounds)

	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	requireKept(t, total, stored)
	leaks, err := testbed.FindLeaks(settings.Directory, testbed.Needles())
	require.NoError(t, err)
	assert.Empty(t, leaks)
	measured(t, "SIGKILLs", kills, "events sent", total.Sent, "acknowledged", len(total.Acknowledged),
		"requests sent again", retried, "stored", len(stored.Records))
}

// The same with a stock exporter: its sink may be sent a record again after a
// kill, but then byte for byte the same one.
func TestScenarioKillStockExporter(t *testing.T) {
	sink := newSink(t)
	require.NoError(t, sink.Up())
	settings := testbed.Settings{Directory: t.TempDir(), Extra: toSink(sink)}
	total, kills, retried := killAgainAndAgain(t, settings, max(4, *rounds/4))

	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	requireKept(t, total, stored)
	_, repeated, faults := sink.Seen()
	require.Empty(t, faults)
	measured(t, "SIGKILLs", kills, "acknowledged", len(total.Acknowledged), "requests sent again", retried,
		"records delivered again", repeated, "stored", len(stored.Records))
}

// killAgainAndAgain kills collectors under load at least the given number of
// times, and lets the last one end in order once every event has an answer.
func killAgainAndAgain(t *testing.T, settings testbed.Settings, times int) (total *testbed.Outcome, kills, retried int) {
	t.Helper()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	total = testbed.NewOutcome()
	for round := 0; kills < times; round++ {
		if round%3 == 2 {
			kills += killDuringStart(t, settings, random)
		}
		c := start(t, settings)
		delay := time.Duration(random.IntN(500)) * time.Millisecond
		killed := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(delay, func() {
			err := c.Kill()
			cancel()
			killed <- err
		})
		retried += retry(ctx, c, total)
		total.Add(testbed.Load{Clients: 8, MaxBatch: 20, Seed: random.Uint64(), Name: roundName(round)}.Run(ctx, c.HTTP))
		require.NoError(t, <-killed)
		kills++
		require.Empty(t, total.Surprises, "round %d, killed after %s", round, delay)
	}
	c := start(t, settings)
	retried += retry(t.Context(), c, total)
	require.Empty(t, total.Surprises)
	require.Empty(t, total.Unknown, "every event has an answer in the end")
	stop(t, c)
	return total, kills, retried
}

// retry sends what got no answer so far once more and returns how many
// requests that were.
func retry(ctx context.Context, c *testbed.Collector, total *testbed.Outcome) int {
	if len(total.Unanswered) == 0 {
		return 0
	}
	requests := total.Unanswered
	total.Unanswered = nil
	total.Add(testbed.Load{Clients: 8, Requests: requests, Patient: true}.Run(ctx, c.HTTP))
	return len(requests)
}

// killDuringStart kills one to three collectors in a row, each at a moment of
// its start, and returns how many.
func killDuringStart(t *testing.T, settings testbed.Settings, random *rand.Rand) int {
	t.Helper()
	times := 1 + random.IntN(3)
	for range times {
		c, err := testbed.Launch(settings)
		require.NoError(t, err)
		<-time.After(time.Duration(random.IntN(400)) * time.Millisecond)
		require.NoError(t, c.Kill())
	}
	return times
}

func roundName(round int) string { return fmt.Sprintf("round-%03d", round) }

// Clean stops, kills under load and kills of an idle collector in turn: the
// log goes on from life to life, each stop proves its tail, and the whole
// history is sound, complete and closed. After each clean stop it is, not only
// after the last.
func TestScenarioRestartChainVerify(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	total := testbed.NewOutcome()
	lives := map[string]bool{}
	kills, stops := 0, 0
	for round := range max(4, *rounds/4*2) {
		c := start(t, settings)
		outcome := testbed.Load{Clients: 4, Events: 200, MaxBatch: 10, Seed: random.Uint64(), Name: "chain-" + roundName(round)}.Run(t.Context(), c.HTTP)
		require.Empty(t, outcome.Surprises)
		for _, result := range outcome.Acknowledged {
			lives[result.Origin] = true
		}
		total.Add(outcome)
		if random.IntN(2) == 0 {
			require.NoError(t, c.Kill())
			kills++
			continue
		}
		stop(t, c)
		stops++
		requireSound(t, settings)
	}
	stop(t, start(t, settings))
	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	requireKept(t, total, stored)
	assert.Len(t, lives, kills+stops, "each start is a life of its own")
	measured(t, "clean stops", stops+1, "SIGKILLs", kills, "events", len(stored.Records))
}
