// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
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
	pace := newPace(*shakenEvents)
	settings.Extra = append(toPostgres(settings.Directory, dsn), fmt.Sprintf("exporters::audit/postgres::timeout: %s", pace.attempt))
	require.NoError(t, server.Stop(pgtest.Fast))
	c := start(t, settings)
	total := sendLoad(t, c, "waiting", 500)
	require.NoError(t, server.Start())
	drained(t, c, time.Minute)
	begin := time.Now()
	shaking := shakePostgres(t.Context(), server, dsn, pace)
	total.Add(loadUntil(t, c, *shakenEvents, func() bool {
		shook := shaking.seen()
		return shook.err != nil || shook.stops > 1 && shook.connections > 0 && shook.locks > 0
	}))
	const rest = 20_000 // all of a small run, which need not wait for the last of it to get through
	eventually(t, time.Hour, func() bool { return metric(t, c, "otelcol_processor_audit_pending_records") < rest }, "most of it is stored")
	shook := shaking.end()
	require.NoError(t, shook.err)
	drained(t, c, time.Hour)
	took := time.Since(begin)
	failed := metric(t, c, failures)
	stop(t, c)

	stored := readPostgres(t, dsn)
	requireKept(t, total, stored)
	requireSoundStore(t, settings, dsn)
	require.Positive(t, failed, "the sink felt none of it")
	measured(t, "events", len(stored.Records), "crashes of the server", shook.stops, "connections killed", shook.connections, "locks", shook.locks,
		"failed writes", failed, "all stored after", took.Round(time.Millisecond))
}

// loadUntil sends mixed events from patient clients, at least so many, and then
// a few now and then until it is enough.
func loadUntil(t *testing.T, c *testbed.Collector, events int, enough func() bool) *testbed.Outcome {
	t.Helper()
	total := testbed.NewOutcome()
	for round := 0; total.Sent < events || !enough(); round++ {
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

// pace is how fast a server is shaken: a small load has to meet something, and a
// large one, whose sends are large, has to get through.
type pace struct {
	gap     time.Duration // the longest between two steps, and the longest stop
	attempt time.Duration // how long one write may take
	lock    time.Duration // the longest that a table is locked
}

func newPace(events int) pace {
	const each, most = 200 * time.Microsecond, 4 * time.Second
	gap := min(time.Duration(events)*each, most)
	attempt := min(2*gap, 5*time.Second)
	return pace{gap: gap, attempt: attempt, lock: 2 * attempt}
}

// shaking is something that goes on with a server.
type shaking struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	done shake // guarded by mu
}

func (s *shaking) seen() shake {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

// end ends it. The server runs.
func (s *shaking) end() shake {
	s.cancel()
	<-s.ended
	return s.seen()
}

// shakePostgres does one thing after another to the server until it is ended.
func shakePostgres(ctx context.Context, server *pgtest.Server, dsn string, pace pace) *shaking {
	random := mathrand.New(mathrand.NewPCG(uint64(time.Now().UnixNano()), 0))
	ctx, cancel := context.WithCancel(ctx)
	s := &shaking{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		for step := 0; wait(ctx, random, pace.gap); step++ {
			did := shakeOnce(ctx, server, dsn, pace, random, step)
			s.mu.Lock()
			s.done.stops += did.stops
			s.done.connections += did.connections
			s.done.locks += did.locks
			s.done.err = errors.Join(s.done.err, did.err)
			s.mu.Unlock()
		}
	}()
	return s
}

func shakeOnce(ctx context.Context, server *pgtest.Server, dsn string, pace pace, random *mathrand.Rand, step int) (did shake) {
	whole := context.WithoutCancel(ctx) // what was begun is done
	switch step % 3 {
	case 0:
		did.connections, did.err = server.KillConnections(whole)
	case 1:
		did.err = server.Stop(pgtest.Immediate)
		wait(ctx, random, pace.gap)
		did.err = errors.Join(did.err, server.Start())
		did.stops = 1
	default:
		did.err = lockTable(whole, dsn, func() { wait(ctx, random, pace.lock) })
		did.locks = 1
	}
	return did
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
func wait(ctx context.Context, random *mathrand.Rand, most time.Duration) bool {
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

// A DBA has made the tables and gives the collector a role that may only add;
// the collector has a wrong password for it. It says that an operator is
// needed, keeps everything, and goes on by itself once that is cured. An
// auditor who may only read verifies.
func TestScenarioPostgresOperator(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.Database(t)
	sql := func(statement string) { runSQL(t, dsn, statement) }
	sql(string(tool(t, "schema", "postgres")))
	sql("CREATE ROLE collector LOGIN PASSWORD 'right' IN ROLE audit_events_writer")
	sql("CREATE ROLE auditor LOGIN PASSWORD 'reads' IN ROLE audit_events_reader")
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = append(toPostgres(settings.Directory, as(t, dsn, "collector", "wrong")), "exporters::audit/postgres::postgres::create_schema: false")
	c := start(t, settings)
	total := sendLoad(t, c, "waiting", 500)
	eventually(t, 30*time.Second, func() bool { return metric(t, c, failures, `cause="operator"`) > 1 }, "an operator is asked for")
	require.Positive(t, metric(t, c, "otelcol_processor_audit_pending_records"))
	sql("ALTER ROLE collector PASSWORD 'wrong'")
	drained(t, c, time.Minute)
	stop(t, c)

	requireKept(t, total, readPostgres(t, dsn))
	requireSoundStore(t, settings, as(t, dsn, "auditor", "reads"))
	for _, statement := range []string{"DELETE FROM audit_events", "UPDATE audit_events SET actor_id = 'nobody'", "TRUNCATE audit_events", "SELECT canonical FROM audit_events"} {
		_, err := execSQL(t.Context(), as(t, dsn, "collector", "wrong"), statement)
		require.ErrorContains(t, err, "permission denied", statement)
	}
	measured(t, "events", len(total.Acknowledged))
}

// as is the URL for another user.
func as(t *testing.T, dsn, name, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.UserPassword(name, password)
	return u.String()
}

func runSQL(t *testing.T, dsn, statements string) (changed int64) {
	t.Helper()
	changed, err := execSQL(t.Context(), dsn, statements)
	require.NoError(t, err)
	return changed
}

func execSQL(ctx context.Context, dsn, statements string) (changed int64, err error) {
	connection, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	results, err := connection.PgConn().Exec(ctx, statements).ReadAll()
	for _, result := range results {
		changed += result.CommandTag.RowsAffected()
	}
	return changed, errors.Join(err, connection.Close(ctx))
}

// Whoever may change the tables, but has not the journal's key, can change
// nothing without being seen; and each change is called by its name.
func TestPostgresAttacks(t *testing.T) {
	dsn := pgtest.Database(t)
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = toPostgres(settings.Directory, dsn)
	c := start(t, settings)
	send(t, c, "first", 12)
	send(t, c, "second", 12)
	stop(t, c)
	requireSoundStore(t, settings, dsn)

	const victim = " WHERE event_id = 'first-5'"
	tests := []struct {
		name, sql string
		exit      int
		kinds     []string
	}{
		{"a column", "UPDATE audit_events SET actor_id = 'somebody else'" + victim, 1, []string{"tampered"}},
		{"the time", "UPDATE audit_events SET occurred_at = occurred_at - interval '1 hour'" + victim, 1, []string{"tampered"}},
		{"a JSON column", `UPDATE audit_events SET metadata = jsonb_set(coalesce(metadata, '{}'), '{forged}', 'true')` + victim, 1, []string{"tampered"}},
		{"the canonical bytes", "UPDATE audit_events SET canonical = convert_to(replace(convert_from(canonical, 'UTF8'), 'note of', 'mote of'), 'UTF8')" + victim, 1, []string{"tampered"}},
		{"the hash", `UPDATE audit_events SET hash = decode(repeat('ab', 32), 'hex')` + victim, 1, []string{"tampered"}},
		{"a row deleted", "DELETE FROM audit_events" + victim, 1, []string{"missing"}},
		{"a tenant deleted", "DELETE FROM audit_events WHERE tenant_id = 'globex'", 1, []string{"missing"}},
		{"the last rows deleted", "DELETE FROM audit_events WHERE index > 20; DELETE FROM audit_events_checkpoints WHERE size > 20", 4, []string{"open-tail"}},
		{"everything deleted", "DELETE FROM audit_events; DELETE FROM audit_events_checkpoints", 4, []string{}},
		{"two rows moved", `UPDATE audit_events SET index = 1000` + victim + `;
			UPDATE audit_events SET index = index - 2 WHERE event_id = 'first-7'`, 1, []string{"missing", "tampered"}},
		{"the size of a checkpoint", "UPDATE audit_events_checkpoints SET size = size + 1000 WHERE size = (SELECT max(size) FROM audit_events_checkpoints)", 1, []string{"tampered"}},
		{"the origin of a checkpoint", "UPDATE audit_events_checkpoints SET origin = 'z' || origin WHERE size = (SELECT max(size) FROM audit_events_checkpoints)", 1, []string{"tampered"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			copied := pgtest.Copy(t, dsn)
			require.Positive(t, runSQL(t, copied, test.sql), "the attack changes something")
			report := verify(t, "--key", settings.Key(), copied)
			assert.Equal(t, test.exit, report.Exit, "%+v\n%s", report.Findings, report.Stderr)
			assert.Equal(t, test.kinds, report.Kinds(), "%+v", report.Findings)
		})
	}
}
