// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/pgtest"
	"github.com/otelaudit/otelaudit/testbed"
)

// BenchmarkPostgres measures the built collector from a client's request to the
// row: events a second, and the processor time of the collector and of the
// server for 100,000 events, from a start to a clean stop. What is stored is
// checked as in any test. To be run once: -benchtime 1x.
func BenchmarkPostgres(b *testing.B) {
	const events, hundredThousands = 200_000, 2
	for b.Loop() {
		server := pgtest.Start(b)
		dsn := server.Database(b)
		require.NoError(b, server.Restart(pgtest.Fast))
		idle := server.CPU()
		settings := testbed.Settings{Directory: b.TempDir()}
		settings.Extra = toPostgres(settings.Directory, dsn)
		c := start(b, settings)
		begin := time.Now()
		outcome := testbed.Load{Clients: 16, Events: events, MaxBatch: 50, Seed: 1, Name: "bench", Plain: true}.Run(b.Context(), c.HTTP)
		drained(b, c, time.Hour)
		took := time.Since(begin)
		stop(b, c)
		require.NoError(b, server.Restart(pgtest.Fast))
		used, _ := c.Usage()

		requireSoundStore(b, settings, dsn)
		stored := readPostgres(b, dsn)
		requireKept(b, outcome, stored)
		require.Len(b, stored.Records, events)
		b.ReportMetric(0, "ns/op") // it is no operation of a kind
		b.ReportMetric(events/took.Seconds(), "events/s")
		b.ReportMetric(used.Seconds()/hundredThousands, "collector-s/100k")
		b.ReportMetric((server.CPU()-idle).Seconds()/hundredThousands, "server-s/100k")
		b.ReportMetric(float64(stored.Bytes)/events, "B/event")
	}
}
