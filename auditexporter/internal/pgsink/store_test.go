// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
	"github.com/otelaudit/otelaudit/internal/pgtest"
)

// login makes a user that may do nothing but what the roles give, and returns
// how it connects.
func login(t testing.TB, dsn string, roles ...string) string {
	t.Helper()
	name := "login_" + strings.ToLower(one[string](t, dsn, "SELECT md5(random()::text)"))
	run(t, dsn, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'secret'", name))
	for _, role := range roles {
		run(t, dsn, fmt.Sprintf("GRANT %s TO %s", role, name))
	}
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), dsn)
		if assert.NoError(t, err) {
			_, err = conn.Exec(context.Background(), fmt.Sprintf("DROP OWNED BY %s; DROP ROLE %s", name, name), pgx.QueryExecModeSimpleProtocol)
			assert.NoError(t, err)
			assert.NoError(t, conn.Close(context.Background()))
		}
	})
	parsed, err := url.Parse(dsn)
	require.NoError(t, err)
	parsed.User = url.UserPassword(name, "secret")
	return parsed.String()
}

// at seals a record that occurred at the given time.
func at(t testing.TB, m *sinktest.Maker, when time.Time) sink.Entry {
	return m.Record(t, func(record plog.LogRecord) { record.SetTimestamp(pcommon.NewTimestampFromTime(when)) })
}

// TestW20PartitionsThereOrNot: the original's migration to partitions could not
// work with its sink.
func TestW20PartitionsThereOrNot(t *testing.T) {
	now := time.Now().UTC()
	day := func(n int) string { return (monthOf(now) + month(n)).first().Format(time.DateOnly) }
	for name, prepared := range map[string][]string{
		"nothing is there":  nil,
		"no partition":      {testTable(t).Schema()},
		"ours":              {testTable(t).Schema(), "SELECT audit_events_partition('" + day(0) + "')", "SELECT audit_events_partition('" + day(-3) + "')"},
		"somebody else's":   {testTable(t).Schema(), "CREATE TABLE half_a_year PARTITION OF audit_events FOR VALUES FROM ('" + day(-5) + "+00') TO ('" + day(1) + "+00')"},
		"only a default":    {testTable(t).Schema(), "REVOKE ALL ON FUNCTION audit_events_partition(date) FROM PUBLIC"},
		"default is filled": {testTable(t).Schema(), "INSERT INTO audit_events (occurred_at, occurred_at_nanoseconds, origin, index, stream, seq, sealed_at, prev, hash, canonical) VALUES (now(), 0, 'other', 0, '', 0, 0, '', '', '')"},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := pgtest.Database(t)
			run(t, dsn, prepared...)
			s := open(t, testConfig(t, dsn))
			m := sinktest.NewMaker(sinktest.Origin)
			var batch []sink.Entry
			for _, when := range []time.Time{now, now.AddDate(0, -3, 0), now.AddDate(-10, 0, 0), now.AddDate(5, 0, 0), now.AddDate(0, 1, 0), time.Unix(0, 1)} {
				batch = append(batch, at(t, m, when))
			}
			assert.Equal(t, sink.Result{Stored: 6}, counts(write(t, s, batch...)))
			assert.Equal(t, sink.Result{Repeated: 6}, counts(write(t, s, batch...)))
			run(t, dsn, "DELETE FROM audit_events WHERE origin = 'other'")
			assert.ElementsMatch(t, lines(batch...), stored(t, dsn))
		})
	}
}

func TestPartitionsAreMadeAhead(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	now := time.Now().UTC()
	long := now.AddDate(-3, 0, 0)
	write(t, open(t, testConfig(t, dsn)), at(t, m, now), at(t, m, now.AddDate(0, -7, 0)), at(t, m, long))
	names := func() (found []string) {
		rows, err := connect(t, dsn).Query(t.Context(), `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_events'::regclass`)
		require.NoError(t, err)
		found, err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return found
	}
	want := []string{"audit_events_default"}
	for _, n := range []int{-7, 0, 1, 2} {
		want = append(want, "audit_events_"+(monthOf(now)+month(n)).first().Format("2006_01"))
	}
	assert.ElementsMatch(t, want, names())
	assert.Equal(t, 1, one[int](t, dsn, "SELECT count(*) FROM audit_events_default"), "what no month takes")

	// Nobody can have partitions made without end.
	for _, far := range []time.Time{long, now.AddDate(1, 0, 0)} {
		assert.False(t, one[bool](t, dsn, "SELECT audit_events_partition($1)", far))
	}
	assert.ElementsMatch(t, want, names())
}

// While somebody reads the default partition no partition can be made. Records
// are stored all the same, and move when it can.
func TestPartitionThatHasToWait(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, testTable(t).Schema())
	reading, err := connect(t, dsn).Begin(t.Context())
	require.NoError(t, err)
	_, err = reading.Exec(t.Context(), "SELECT * FROM audit_events_default")
	require.NoError(t, err)

	core, logs := observer.New(zap.WarnLevel)
	config := testConfig(t, dsn)
	config.Logger = zap.New(core)
	m := sinktest.NewMaker(sinktest.Origin)
	var batch []sink.Entry
	for n := range 10 {
		batch = append(batch, at(t, m, (monthOf(time.Now())-month(n)).first()))
	}
	s := open(t, config)
	write(t, s, batch...)
	write(t, s, batch...)
	assert.Equal(t, 1, logs.FilterMessageSnippet("a partition cannot be made").Len(), "it waits once, not for each month and batch")
	assert.Equal(t, len(batch), one[int](t, dsn, "SELECT count(*) FROM audit_events_default"))

	require.NoError(t, reading.Rollback(t.Context()))
	write(t, open(t, testConfig(t, dsn)), batch...)
	assert.Zero(t, one[int](t, dsn, "SELECT count(*) FROM audit_events_default"))
	assert.Equal(t, lines(batch...), stored(t, dsn))
}

// TestW21OnePoisonRecord: a NUL character or a value that the table does not
// take must not fail the records beside it.
func TestW21OnePoisonRecord(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, testTable(t).Schema(), "ALTER TABLE audit_events ADD CONSTRAINT short_action CHECK (length(action) < 100)")
	s := open(t, testConfig(t, dsn))
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 500)
	batch = append(batch, m.Record(t, func(record plog.LogRecord) {
		record.SetEventName("nul\x00nul")
		record.Attributes().PutStr(audit.AttributeActorID, "\x00")
		record.Attributes().PutStr("k\x00", "v\x00")
		record.Attributes().PutEmptyMap(audit.AttributeMetadata).PutStr("\x00", "\x00")
	}))
	batch = append(batch, m.Record(t, func(record plog.LogRecord) { record.SetEventName(strings.Repeat("secret", 100)) }))
	batch = append(batch, m.Record(t, func(record plog.LogRecord) {
		record.Attributes().PutStr(audit.AttributeActorID, strings.Repeat("no index entry is so long ", 1000))
	}))
	batch = append(batch, m.Records(t, 500)...)
	var w ward
	result, err := s.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 1002, Refused: 1}, counts(result))
	require.Len(t, w.entries, 1)
	assert.Equal(t, batch[501].Link, w.entries[0].Link)
	assert.Equal(t, "PostgreSQL refuses it for what it holds (SQLSTATE 23514, table "+partitionOf(time.Unix(1_790_000_000, 0))+
		", constraint short_action)", w.reasons[0], "no content in reasons")
	want := lines(batch...)
	want[501] = string(batch[501].AppendStub(nil))
	assert.Equal(t, want, stored(t, dsn))
}

// A partition to which more rows have to move than there is time for does not
// keep a batch from being stored.
func TestPartitionThatTakesTooLong(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	now := time.Now()
	write(t, open(t, testConfig(t, dsn)), at(t, m, now))
	part := partitionOf(now)
	run(t, dsn, "ALTER TABLE audit_events DETACH PARTITION "+part, "INSERT INTO audit_events SELECT * FROM "+part, "DROP TABLE "+part,
		"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(100); RETURN NULL; END'",
		"CREATE TRIGGER slow BEFORE DELETE ON audit_events_default FOR EACH STATEMENT EXECUTE FUNCTION slow()")
	s := open(t, testConfig(t, dsn))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	result, err := s.Write(ctx, []sink.Entry{at(t, m, now)}, noRefusal)
	require.NoError(t, err)
	assert.Equal(t, 1, result.Stored)
}

func partitionOf(when time.Time) string {
	return "audit_events_" + monthOf(when).first().Format("2006_01")
}

// A deferred constraint would fail the commit, where nothing tells the rows
// apart.
func TestDeferredConstraint(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, testTable(t).Schema(), `CREATE TABLE actions (name text PRIMARY KEY); INSERT INTO actions VALUES ('invoice.viewed');
		ALTER TABLE audit_events ADD FOREIGN KEY (action) REFERENCES actions DEFERRABLE INITIALLY DEFERRED`)
	m := sinktest.NewMaker(sinktest.Origin)
	batch := append(m.Records(t, 3), poisoned(t, m))
	var w ward
	result, err := open(t, testConfig(t, dsn)).Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 3, Refused: 1}, counts(result))
}

// A key of somebody else's, such as the original's on event_id, makes a record
// poison, and not an alarm.
func TestForeignKeyOfSomebodyElse(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, testTable(t).Schema(), "CREATE UNIQUE INDEX once ON audit_events (event_id, occurred_at)")
	m := sinktest.NewMaker(sinktest.Origin)
	same := func(record plog.LogRecord) {
		record.SetTimestamp(1_790_000_000_000_000_000)
		record.Attributes().PutStr(audit.AttributeRecordID, "same")
	}
	batch := []sink.Entry{m.Record(t, same), m.Record(t, nil), m.Record(t, same)}
	var w ward
	result, err := open(t, testConfig(t, dsn)).Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 2, Refused: 1}, counts(result))
	assert.Equal(t, batch[2].Link, w.entries[0].Link)
}

// What is refused with everything else is not poison: the table is at fault.
func TestTableThatRefusesEverything(t *testing.T) {
	for name, change := range map[string]string{
		"new column":     "ALTER TABLE audit_events ADD COLUMN reviewed_by text NOT NULL",
		"constraint":     "ALTER TABLE audit_events ADD CHECK (tenant_id IS NOT NULL AND length(tenant_id) > 100)",
		"no default":     "DROP TABLE audit_events_default",
		"narrow column":  "ALTER TABLE audit_events ADD CHECK (length(origin) < 5)",
		"ours too":       "ALTER TABLE audit_events ADD CHECK (stream <> 'origin:')",
		"renamed column": "ALTER TABLE audit_events RENAME COLUMN action TO verb",
	} {
		t.Run(name, func(t *testing.T) {
			dsn := pgtest.Database(t)
			run(t, dsn, testTable(t).Schema(), change)
			m := sinktest.NewMaker(sinktest.Origin)
			batch := []sink.Entry{m.Record(t, nil), m.Control(t), at(t, m, time.Unix(1, 0))}
			_, err := open(t, testConfig(t, dsn)).Write(t.Context(), batch, func(*sink.Entry, string) error {
				t.Error("nothing must be refused")
				return nil
			})
			require.ErrorIs(t, err, sink.ErrOperator)
			assert.Zero(t, one[int](t, dsn, "SELECT count(*) FROM audit_events"))
		})
	}
}

// An INSERT-only login is enough to run the sink, and for nothing else.
func TestWriterRole(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, testTable(t).Schema())
	writer := login(t, dsn, "audit_events_writer")
	for _, create := range []bool{false, true} {
		config := testConfig(t, writer)
		config.CreateSchema = create
		m := sinktest.NewMaker([]string{sinktest.Origin, sinktest.OtherOrigin}[map[bool]int{true: 1}[create]])
		batch := append(m.Records(t, 3), at(t, m, time.Now()), m.Checkpoint(t))
		s := open(t, config)
		write(t, s, batch...)
		assert.Equal(t, 5, write(t, s, batch...).Repeated)
		assert.Equal(t, 1, one[int](t, dsn, "SELECT count(*) FROM "+partitionOf(time.Now())+" WHERE origin = $1", batch[0].Link.Origin))
	}
	before := stored(t, dsn)
	for _, forbidden := range []string{
		"UPDATE audit_events SET action = 'x'", "DELETE FROM audit_events", "TRUNCATE audit_events", "DROP TABLE audit_events",
		"SELECT canonical FROM audit_events", "SELECT actor_id FROM audit_events", "DELETE FROM audit_events_checkpoints",
		"UPDATE audit_events_stubs SET seq = 1", "INSERT INTO audit_events_default SELECT * FROM audit_events_default",
		"INSERT INTO " + partitionOf(time.Now()) + " DEFAULT VALUES", "ALTER TABLE audit_events DISABLE TRIGGER ALL",
		"INSERT INTO audit_events_migrations VALUES (7, 'x')",
	} {
		_, err := connect(t, writer).Exec(t.Context(), forbidden)
		require.ErrorContains(t, err, "SQLSTATE 42501", forbidden)
	}
	assert.Equal(t, before, stored(t, dsn))

	reader := login(t, dsn, "audit_events_reader")
	assert.Equal(t, before, stored(t, reader))
	_, err := connect(t, reader).Exec(t.Context(), "DELETE FROM audit_events")
	require.ErrorContains(t, err, "SQLSTATE 42501")
}

// The owner need not be a superuser, nor able to make roles.
func TestOwnerWithoutRights(t *testing.T) {
	dsn := pgtest.Database(t)
	owner := login(t, dsn)
	config := testConfig(t, owner)
	m := sinktest.NewMaker(sinktest.Origin)
	e := m.Record(t, nil)
	_, err := open(t, config).Write(t.Context(), []sink.Entry{e}, noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	require.ErrorContains(t, err, "otelaudit schema postgres")
	parsed, err := url.Parse(owner)
	require.NoError(t, err)
	run(t, dsn, "GRANT CREATE, USAGE ON SCHEMA public TO "+parsed.User.Username())
	write(t, open(t, config), e)
	assert.Equal(t, lines(e), stored(t, owner))
}

// The database itself holds the promise, against those who do not ask first.
func TestCoordinateIsUniqueInTheDatabase(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, open(t, testConfig(t, dsn)), m.Records(t, 100)...)
	again := func(offset string, isolation string) error {
		conn := connect(t, dsn)
		return pgx.BeginTxFunc(t.Context(), conn, pgx.TxOptions{IsoLevel: pgx.TxIsoLevel(isolation)}, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO audit_events (occurred_at, occurred_at_nanoseconds, origin, index, stream, seq, sealed_at, prev, hash, canonical)
				SELECT occurred_at + $1::interval, 0, origin, index, stream, seq, sealed_at, prev, hash, canonical FROM audit_events WHERE index IN (7, 93)`, offset)
			return err
		})
	}
	for _, offset := range []string{"0", "1 microsecond", "1 month", "-5 years"} {
		require.ErrorContains(t, again(offset, "read committed"), "SQLSTATE 23505", offset)
	}
	for _, isolation := range []string{"repeatable read", "serializable"} {
		require.ErrorContains(t, again("1 month", isolation), "SQLSTATE 0A000", "it could not see what others store")
	}
	assert.Len(t, stored(t, dsn), 100)
}

// Two who do not ask first and meet: one of them fails.
func TestCoordinateIsUniqueAmongConcurrentWriters(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, testTable(t).Schema())
	insert := `INSERT INTO audit_events (occurred_at, occurred_at_nanoseconds, origin, index, stream, seq, sealed_at, prev, hash, canonical)
		VALUES ($1, 0, 'o', 1, '', 1, 1, '', '', '')`
	first, err := connect(t, dsn).Begin(t.Context())
	require.NoError(t, err)
	_, err = first.Exec(t.Context(), insert, time.Unix(1, 0))
	require.NoError(t, err)
	failed := make(chan error)
	second := connect(t, dsn)
	go func() {
		_, err := second.Exec(t.Context(), insert, time.Unix(2, 0))
		failed <- err
	}()
	require.Eventually(t, func() bool {
		return one[int](t, dsn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == 1
	}, time.Minute, time.Millisecond)
	require.NoError(t, first.Commit(t.Context()))
	require.ErrorContains(t, <-failed, "SQLSTATE 23505")
	assert.Equal(t, 1, one[int](t, dsn, "SELECT count(*) FROM audit_events"))
}

// A transaction whose client has gone may still commit: the next attempt waits
// for it and finds what it stored.
func TestAttemptWaitsForTheOneBefore(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	s := open(t, testConfig(t, dsn))
	write(t, s, m.Records(t, 1)...)
	batch := m.Records(t, 3)
	tx, err := s.pool.Begin(t.Context())
	require.NoError(t, err)
	old := transaction{config: &s.config, tx: tx, copier: &copier{}, entries: batch}
	require.NoError(t, old.store(t.Context()))
	done := make(chan sink.Result)
	var writing sync.WaitGroup
	writing.Go(func() {
		result, err := s.Write(t.Context(), batch, noRefusal)
		assert.NoError(t, err)
		done <- result
	})
	require.Eventually(t, func() bool {
		return one[int](t, dsn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == 1
	}, time.Minute, time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	assert.Equal(t, sink.Result{Repeated: 3}, counts(<-done))
	writing.Wait()
}

// A database that is down fails no start; it is written to once it is there.
func TestDatabaseIsDown(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.Database(t)
	require.NoError(t, server.Stop(pgtest.Fast))
	s := open(t, testConfig(t, dsn))
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 3)
	_, err := s.Write(t.Context(), batch, noRefusal)
	require.Error(t, err)
	assert.NotErrorIs(t, err, sink.ErrOperator)
	require.NoError(t, server.Start())
	write(t, s, batch...)
	require.NoError(t, server.Restart(pgtest.Immediate))
	batch = append(batch, m.Record(t, nil))
	require.Eventually(t, func() bool { // connections of the pool may be dead
		_, err := s.Write(t.Context(), batch, noRefusal)
		return err == nil
	}, time.Minute, time.Millisecond)
	assert.Equal(t, lines(batch...), stored(t, dsn), "what was committed survives a crash")
}

func TestSettingsThatLose(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 1)
	for setting, cure := range map[string]string{
		"synchronous_commit=off":           "ALTER ROLE … SET synchronous_commit = on",
		"default_transaction_read_only=on": "target_session_attrs=read-write",
	} {
		s := open(t, testConfig(t, dsn+"&options=-c%20"+url.QueryEscape(setting)))
		_, err := s.Write(t.Context(), batch, noRefusal)
		require.ErrorIs(t, err, sink.ErrOperator, setting)
		require.ErrorContains(t, err, cure)
	}
	for _, setting := range []string{"synchronous_commit=local", "synchronous_commit=remote_write", "default_transaction_isolation=serializable"} {
		write(t, open(t, testConfig(t, dsn+"&options=-c%20"+url.QueryEscape(setting))), batch...)
	}
	// It may be turned off while connections are open.
	s := open(t, testConfig(t, dsn))
	write(t, s, batch...)
	run(t, dsn, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$")
	s.pool.Reset()
	_, err := s.Write(t.Context(), m.Records(t, 1), noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
}

func TestServerSettings(t *testing.T) {
	good := server{version: 140000, encoding: "UTF8", fsync: "on", synchronous: "on", readOnly: "off"}
	require.NoError(t, good.check())
	for want, change := range map[string]func(*server){
		"version 13, needed is 14": func(s *server) { s.version = 130022 },
		"encoding SQL_ASCII":       func(s *server) { s.encoding = "SQL_ASCII" },
		"fsync = off":              func(s *server) { s.fsync = "off" },
	} {
		s := good
		change(&s)
		require.ErrorIs(t, s.check(), sink.ErrOperator)
		require.ErrorContains(t, s.check(), want)
	}
}

func TestOnlyAPersonCanCure(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 1)
	change := func(edit func(*url.URL)) string {
		parsed, err := url.Parse(dsn)
		require.NoError(t, err)
		edit(parsed)
		return parsed.String()
	}
	for name, c := range map[string]struct{ dsn, want string }{
		"password": {change(func(u *url.URL) { u.User = url.UserPassword("postgres", "wr0ng") }), "correct user, password"},
		"database": {change(func(u *url.URL) { u.Path = "/nowhere" }), "create the database"},
		"rights":   {login(t, dsn), "GRANT audit_events_writer TO"},
	} {
		_, err := open(t, testConfig(t, c.dsn)).Write(t.Context(), batch, noRefusal)
		require.ErrorIs(t, err, sink.ErrOperator, name)
		require.ErrorContains(t, err, c.want, name)
		assert.NotContains(t, err.Error(), "wr0ng")
		assert.NotContains(t, err.Error(), "secret")
	}
	config := testConfig(t, dsn)
	config.CreateSchema = false
	_, err := open(t, config).Write(t.Context(), batch, noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	require.ErrorContains(t, err, "otelaudit schema postgres --table public.audit_events | psql")
}

// Tables that were dropped are looked at again: the error says so, once they are
// made again it goes on.
func TestTablesAreDropped(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	s := open(t, testConfig(t, dsn))
	write(t, s, m.Records(t, 1)...)
	run(t, dsn, "DROP TABLE audit_events, audit_events_stubs, audit_events_checkpoints, audit_events_migrations CASCADE")
	batch := m.Records(t, 1)
	_, err := s.Write(t.Context(), batch, noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	write(t, s, batch...)
}

// A table that was restored without its functions, or whose trigger is off, would
// take a coordinate twice; the printed schema mends it.
func TestTableWithoutItsTrigger(t *testing.T) {
	dsn := pgtest.Database(t)
	batch := sinktest.NewMaker(sinktest.Origin).Records(t, 1)
	config := testConfig(t, dsn)
	run(t, dsn, config.Table.Schema())
	for _, statement := range []string{
		"ALTER TABLE audit_events DISABLE TRIGGER audit_events_once",
		"DROP FUNCTION audit_events_once CASCADE",
	} {
		run(t, dsn, statement)
		s := open(t, config)
		_, err := s.Write(t.Context(), batch, noRefusal)
		require.ErrorIs(t, err, sink.ErrOperator, statement)
		require.ErrorContains(t, err, "has no trigger audit_events_once", statement)
		run(t, dsn, config.Table.Schema())
		write(t, s, batch...)
	}
}

// The retention that docs/postgres.md has people run works on the tables as the
// sink makes them.
func TestRetentionOfThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "postgres.md"))
	require.NoError(t, err)
	statements := regexp.MustCompile("(?s)Retention is dropping partitions.*?```sql\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, statements)
	dsn := pgtest.Database(t)
	write(t, open(t, testConfig(t, dsn)), sinktest.NewMaker(sinktest.Origin).Records(t, 1)...)
	run(t, dsn, "CREATE TABLE IF NOT EXISTS audit_events_2024_11 PARTITION OF audit_events FOR VALUES FROM ('2024-11-01Z') TO ('2024-12-01Z')")
	for statement := range strings.SplitSeq(strings.TrimSpace(string(statements[1])), "\n") {
		run(t, dsn, statement)
	}
	require.False(t, one[bool](t, dsn, "SELECT to_regclass('audit_events_2024_11') IS NOT NULL"))
}

// A server without TLS stays so until a person does something.
func TestServerWithoutTLS(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, err = io.ReadFull(conn, make([]byte, 8)) // the request for TLS
			assert.NoError(t, err)
			_, err = conn.Write([]byte("N"))
			assert.NoError(t, err)
			assert.NoError(t, conn.Close())
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, listener.Close())
		serving.Wait()
	})
	s := open(t, testConfig(t, "postgres://u@"+listener.Addr().String()+"/audit?sslmode=require"))
	_, err = s.Write(t.Context(), sinktest.NewMaker(sinktest.Origin).Records(t, 1), noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	require.ErrorContains(t, err, "does not speak TLS")
}

func TestStatementTimeout(t *testing.T) {
	dsn := pgtest.Database(t)
	config := testConfig(t, dsn)
	config.StatementTimeout = time.Second
	s := open(t, config)
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Records(t, 1)...)
	blocking, err := connect(t, dsn).Begin(t.Context())
	require.NoError(t, err)
	_, err = blocking.Exec(t.Context(), "LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	batch := m.Records(t, 1)
	_, err = s.Write(t.Context(), batch, noRefusal)
	require.ErrorContains(t, err, "SQLSTATE 57014")
	assert.NotErrorIs(t, err, sink.ErrOperator, "it is tried again")
	require.NoError(t, blocking.Rollback(t.Context()))
	write(t, s, batch...)
}

// Close does not wait for a database that hangs.
func TestCloseEndsWhatRuns(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, testConfig(t, dsn))
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Records(t, 1)...)
	blocking, err := connect(t, dsn).Begin(t.Context())
	require.NoError(t, err)
	_, err = blocking.Exec(t.Context(), "LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	failed := make(chan error)
	batch := m.Records(t, 1)
	go func() {
		_, err := s.Write(context.Background(), batch, noRefusal)
		failed <- err
	}()
	require.Eventually(t, func() bool {
		return one[int](t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'otelaudit' AND wait_event_type = 'Lock'") == 1
	}, time.Minute, time.Millisecond)
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-failed, sink.ErrClosed)
	require.NoError(t, blocking.Rollback(t.Context()))
}

func TestHugeIndex(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	e := m.Record(t, nil)
	e.Link.Index = 1 << 63
	_, err := open(t, testConfig(t, dsn)).Write(t.Context(), []sink.Entry{e}, noRefusal)
	require.ErrorContains(t, err, "larger than a bigint")
}

// An index far away from the rest of its batch does not have all between read.
func TestSparseBatch(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, testConfig(t, dsn))
	m := sinktest.NewMaker(sinktest.Origin)
	all := m.Records(t, 2000)
	write(t, s, all[1:1999]...)
	assert.Equal(t, sink.Result{Stored: 2, Repeated: 1}, counts(write(t, s, all[0], all[1000], all[1999])))
	forged := sinktest.Forge(t, &all[1000])
	_, err := s.Write(t.Context(), []sink.Entry{all[0], forged, all[1999]}, noRefusal)
	require.ErrorIs(t, err, sink.ErrConflict)
	assert.Equal(t, lines(all...), stored(t, dsn))
}

func TestBadDSN(t *testing.T) {
	_, err := Open(testConfig(t, "postgres://u:s3cr3t%@host/x"))
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "s3cr3t")
	require.NotErrorIs(t, err, sink.ErrOperator)
}

// The three usual queries find their rows by index.
func TestUsualQueriesUseTheIndex(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, testConfig(t, dsn))
	m := sinktest.NewMaker(sinktest.Origin)
	var batch []sink.Entry
	for n := range 4000 {
		batch = append(batch, usual(t, m, n, time.Now().Add(-time.Duration(n)*10*time.Minute)))
	}
	write(t, s, batch...)
	run(t, dsn, "VACUUM ANALYSE audit_events")
	for name, plan := range explain(t, dsn) {
		assert.Regexp(t, `(Index Scan|Bitmap Index Scan).*_`+name+`_`, plan, "%s:\n%s", name, plan)
		assert.NotContains(t, plan, "Seq Scan", name)
	}
}

var usualQueries = map[string]string{
	"tenant_id": "tenant_id = 't-7'", "actor_id": "actor_id = 'user-7919'", "action": "action = 'role.granted'",
}

// explain returns the plans of the three usual queries, by their column.
func explain(t testing.TB, dsn string) map[string]string {
	t.Helper()
	conn := connect(t, dsn)
	plans := map[string]string{}
	for name, condition := range usualQueries {
		rows, err := conn.Query(t.Context(), "EXPLAIN (ANALYSE, BUFFERS, COSTS off) SELECT * FROM audit_events WHERE "+condition+
			" AND occurred_at >= now() - interval '20 days' AND occurred_at < now() ORDER BY occurred_at DESC LIMIT 100")
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		plans[name] = strings.Join(lines, "\n")
	}
	return plans
}

// Some poolers know no prepared statements.
func TestWithoutPreparedStatements(t *testing.T) {
	for _, mode := range []string{"exec", "simple_protocol", "describe_exec"} {
		dsn := pgtest.Database(t)
		run(t, dsn, testTable(t).Schema(), forbidPoison)
		s := open(t, testConfig(t, dsn+"&default_query_exec_mode="+mode))
		m := sinktest.NewMaker(sinktest.Origin)
		batch := append(m.Records(t, 3), poisoned(t, m), m.Checkpoint(t), at(t, m, time.Now()))
		var w ward
		result, err := s.Write(t.Context(), batch, w.refuse)
		require.NoError(t, err, mode)
		assert.Equal(t, sink.Result{Stored: 4, Refused: 1, Checkpoints: 1}, counts(result))
		result, err = s.Write(t.Context(), batch, w.refuse)
		require.NoError(t, err, mode)
		assert.Equal(t, sink.Result{Repeated: 6}, counts(result))
		assert.Zero(t, one[int](t, dsn, "SELECT count(*) FROM audit_events_default"), mode)
	}
}

// A database that is too slow for a batch gets it in parts: else no attempt
// would ever end.
func TestSlowDatabaseMakesProgress(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, testTable(t).Schema(), `CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $f$;
		CREATE TRIGGER dawdle BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION dawdle()`)
	config := testConfig(t, dsn)
	config.StatementTimeout = time.Second
	s := open(t, config)
	m := sinktest.NewMaker(sinktest.Origin)
	batch := append(m.Records(t, 200), m.Checkpoint(t)) // 4 s and more
	attempts := 0
	require.Eventually(t, func() bool {
		attempts++
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := s.Write(ctx, batch, noRefusal)
		return err == nil
	}, time.Minute, time.Millisecond)
	assert.Greater(t, attempts, 1)
	assert.Equal(t, lines(batch...), stored(t, dsn))
	run(t, dsn, "DROP TRIGGER dawdle ON audit_events")
	for s.part(201) < 201 { // it trusts the database again
		before := s.part(201)
		assert.Equal(t, 201, write(t, s, batch...).Repeated)
		require.Greater(t, s.part(201), before)
	}
}
