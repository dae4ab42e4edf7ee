// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/pgtest"
	"github.com/otelaudit/otelaudit/testbed"
)

// toPostgres is the configuration of a pipeline that ends in PostgreSQL alone.
func toPostgres(directory, dsn string) []string {
	return []string{
		fmt.Sprintf("exporters: {audit/postgres: {postgres: {dsn: %q}, quarantine: {directory: %q}, circuit_breaker: {cooldown: 500ms}}}",
			dsn, filepath.Join(directory, "quarantine")),
		"service::pipelines::logs/audit::exporters: [audit/postgres]",
	}
}

func readPostgres(t testing.TB, dsn string) testbed.Stored {
	t.Helper()
	stored, err := testbed.ReadPostgres(t.Context(), dsn)
	require.NoError(t, err)
	return stored
}

// The server is down before the collector starts. Later it crashes, comes back,
// has its connections cut and its table locked for longer than an attempt may
// take, at random and all the time that events come: nothing is lost, nothing
// is stored twice, and what is stored verifies.
func TestScenarioPostgresShaken(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.Database(t)
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = append(toPostgres(settings.Directory, dsn), "exporters::audit/postgres::timeout: 1s")
	require.NoError(t, server.Stop(pgtest.Fast))
	c := start(t, settings)
	total := sendLoad(t, c, "waiting", 500)
	require.NoError(t, server.Start())
	drained(t, c, time.Minute)
	begin := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	shaken := make(chan shake, 1)
	go func() { shaken <- shakePostgres(ctx, server, dsn) }()
	total.Add(loadFor(t, c, *shakenEvents, 5*time.Second))
	cancel()
	shook := <-shaken
	require.NoError(t, shook.err)
	drained(t, c, time.Hour)
	took := time.Since(begin)
	failed := metric(t, c, failures)
	stop(t, c)

	stored := readPostgres(t, dsn)
	requireKept(t, total, stored)
	requireSoundStore(t, settings, dsn)
	require.Positive(t, shook.stops)
	require.Positive(t, shook.connections)
	require.Positive(t, failed, "the sink felt none of it")
	measured(t, "events", len(stored.Records), "crashes of the server", shook.stops, "connections killed", shook.connections, "locks", shook.locks,
		"failed writes", failed, "all stored after", took.Round(time.Millisecond))
}

// loadFor sends mixed events from patient clients, at least so many, and then a
// few now and then until the time is over.
func loadFor(t *testing.T, c *testbed.Collector, events int, atLeast time.Duration) *testbed.Outcome {
	t.Helper()
	total, begin := testbed.NewOutcome(), time.Now()
	for round := 0; total.Sent < events || time.Since(begin) < atLeast; round++ {
		portion := 1000
		if total.Sent >= events {
			portion = 50
			<-time.After(50 * time.Millisecond)
		}
		outcome := testbed.Load{
			Clients: 4, Events: portion, MaxBatch: 20, Seed: uint64(round), Name: "shaken-" + roundName(round), Patient: true,
		}.Run(t.Context(), c.HTTP)
		require.Empty(t, outcome.Surprises)
		require.Empty(t, outcome.Unknown)
		total.Add(outcome)
	}
	return total
}

// shake is what was done to a server.
type shake struct {
	stops       int
	connections int // that were cut
	locks       int
	err         error
}

// shakePostgres does one thing after another to the server until the context
// ends. Then the server runs.
func shakePostgres(ctx context.Context, server *pgtest.Server, dsn string) (done shake) {
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for step := 0; wait(ctx, random, 500*time.Millisecond); step++ {
		var err error
		switch step % 3 {
		case 0:
			var killed int
			killed, err = server.KillConnections(context.WithoutCancel(ctx))
			done.connections += killed
		case 1:
			err = server.Stop(pgtest.Immediate)
			wait(ctx, random, 500*time.Millisecond)
			err = errors.Join(err, server.Start())
			done.stops++
		case 2:
			err = lockTable(context.WithoutCancel(ctx), dsn, func() { wait(ctx, random, 2*time.Second) })
			done.locks++
		}
		done.err = errors.Join(done.err, err)
	}
	return done
}

// lockTable keeps everybody else from the table of records meanwhile.
func lockTable(ctx context.Context, dsn string, meanwhile func()) error {
	connection, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("lock table: %w", err)
	}
	_, err = connection.Exec(ctx, "BEGIN; LOCK TABLE audit_events")
	if err == nil {
		meanwhile()
	}
	if err := errors.Join(err, connection.Close(ctx)); err != nil {
		return fmt.Errorf("lock table: %w", err)
	}
	return nil
}

// wait waits for a random time and says whether the context goes on.
func wait(ctx context.Context, random *rand.Rand, most time.Duration) bool {
	timer := time.NewTimer(time.Duration(random.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// The collector is killed again and again, under load and while it starts; the
// server is well. After a kill the same records come again, in other batches.
func TestScenarioPostgresKill(t *testing.T) {
	dsn := pgtest.Database(t)
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = toPostgres(settings.Directory, dsn)
	total, kills, retried := killAgainAndAgain(t, settings, max(4, *rounds/4))

	stored := readPostgres(t, dsn)
	requireKept(t, total, stored)
	requireSoundStore(t, settings, dsn)
	measured(t, "SIGKILLs", kills, "acknowledged", len(total.Acknowledged), "requests sent again", retried, "stored", len(stored.Records))
}
