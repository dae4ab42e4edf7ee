// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// SIGHUP under load, several times: the receivers go away for a moment, what
// was acknowledged is stored once, each reload is a life of its own, and the
// whole is sound and complete.
func TestScenarioReload(t *testing.T) {
	const reloads = 3
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	origin := sendLife(t, c, "first")
	require.NotEmpty(t, origin)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan *testbed.Outcome, 1)
	go func() {
		done <- testbed.Load{Clients: 4, MaxBatch: 10, Seed: 1, Name: "reload", Patient: true}.Run(ctx, c.HTTP)
	}()
	busy := func() bool { // in the life that runs now
		sealed, _, err := c.Metric(t.Context(), "otelcol_processor_audit_sealed_records")
		return err == nil && sealed > 1000
	}
	for round := range reloads {
		eventually(t, time.Minute, busy, "the load is taken")
		require.NoError(t, c.Reload())
		eventually(t, time.Minute, func() bool {
			now := sendLife(t, c, "probe-"+roundName(round))
			changed := now != "" && now != origin
			if changed {
				origin = now
			}
			return changed
		}, "a new life begins")
	}
	eventually(t, time.Minute, busy, "the load is taken")
	cancel()
	total := <-done
	retried := retry(t.Context(), c, total)
	require.Empty(t, total.Surprises)
	require.Empty(t, total.Unknown)
	drained(t, c, time.Minute)
	stop(t, c)

	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	requireStoredOnce(t, total, stored)
	lives := map[string]int{}
	for _, result := range total.Acknowledged {
		lives[result.Origin]++
	}
	assert.Len(t, lives, reloads+1, "each life took some of the load")
	measured(t, "reloads", reloads, "events", len(stored.Records), "acknowledged", len(total.Acknowledged),
		"requests cut off and sent again", retried, "lives that acknowledged", len(lives))
}

// sendLife sends an event without an id and returns the life that took it, ""
// if none did.
func sendLife(t *testing.T, c *testbed.Collector, name string) string {
	t.Helper()
	client := testbed.NewClient(c.HTTP)
	defer client.Close()
	answer, err := client.Send(t.Context(), "application/json", []byte(`{"action":"`+name+`","outcome":"SUCCESS","actor":{"type":"user","id":"u"}}`))
	if err != nil || len(answer.Results) != 1 {
		return ""
	}
	return answer.Results[0].Origin
}
