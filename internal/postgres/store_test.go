// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/pgtest"
)

func testTable(t testing.TB, name string) Table {
	t.Helper()
	table, err := ParseTable(name)
	require.NoError(t, err)
	return table
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close(context.Background())) })
	return conn
}

// store is a database with our tables and a connection to it.
func store(t testing.TB) (dsn string, table Table, conn *pgx.Conn) {
	t.Helper()
	dsn, table = pgtest.Database(t), testTable(t, DefaultTable)
	conn = connect(t, dsn)
	require.NoError(t, table.Migrate(t.Context(), conn))
	return dsn, table, conn
}

func run(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, statement)
	}
}

func copyIn(t testing.TB, conn *pgx.Conn, table Table, all ...*sealed) {
	t.Helper()
	var d Deriver
	text := []byte(CopySignature)
	for _, s := range all {
		text = s.derive(&d).AppendCopy(text)
	}
	text = append(text, CopyEnd...)
	_, err := conn.PgConn().CopyFrom(t.Context(), bytes.NewReader(text), table.CopyStatement())
	require.NoError(t, err)
}

func openReader(t testing.TB, dsn string, table Table) *Reader {
	t.Helper()
	r, err := OpenReader(t.Context(), dsn, table)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close()) })
	return r
}

// read returns all that is stored.
func read(t testing.TB, r *Reader) []Stored {
	t.Helper()
	var all []Stored
	require.NoError(t, r.Lines(t.Context(), func(s *Stored) error {
		all = append(all, *s)
		return nil
	}))
	return all
}

func TestTableNames(t *testing.T) {
	assert.Equal(t, "public.audit_events", testTable(t, "audit_events").String())
	assert.Equal(t, "trail.events", testTable(t, "Trail.Events").String())
	assert.Equal(t, `"trail"."events_stubs"`, testTable(t, "trail.events").Stubs())
	for _, bad := range []string{"", ".", "a.b.c", "1a", `a"b`, "a b", "a;b", "a-b", ".a", "a.", strings.Repeat("a", 41), "é"} {
		_, err := ParseTable(bad)
		require.ErrorContains(t, err, "table must be a name", bad)
	}
}

// The statements and the migrations must name the same columns.
func TestColumnsAreThoseOfTheTable(t *testing.T) {
	_, _, conn := store(t)
	rows, err := conn.Query(t.Context(), `SELECT column_name::text, data_type::text FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name = 'audit_events' ORDER BY ordinal_position`)
	require.NoError(t, err)
	type column struct{ Name, Type string }
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	require.NoError(t, err)
	types := map[kind]string{
		kindText: "text", kindTexts: "ARRAY", kindInteger: "integer", kindBoolean: "boolean",
		kindTime: "timestamp with time zone", kindBigint: "bigint", kindJSON: "jsonb",
	}
	require.Len(t, found, len(Columns()))
	for i, name := range Columns() {
		assert.Equal(t, name, found[i].Name)
		if i < len(columns) {
			assert.Equal(t, types[columns[i].kind], found[i].Type, name)
		}
	}
}

func TestMigrate(t *testing.T) {
	dsn, table, conn := store(t)
	require.NoError(t, table.CheckVersion(t.Context(), conn))
	require.NoError(t, table.Migrate(t.Context(), conn), "nothing is left to do")
	run(t, conn, table.Schema(), table.Schema())
	require.NoError(t, table.CheckVersion(t.Context(), conn))

	other := testTable(t, "trail.events")
	err := other.CheckVersion(t.Context(), conn)
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, "trail.events is not there")
	require.ErrorContains(t, err, "otelaudit schema postgres --table trail.events | psql")
	var all sync.WaitGroup
	for range 4 { // several collectors start at once
		conn := connect(t, dsn)
		all.Go(func() { assert.NoError(t, other.Migrate(t.Context(), conn)) })
	}
	all.Wait()
	require.NoError(t, other.CheckVersion(t.Context(), conn))

	run(t, conn, "INSERT INTO audit_events_migrations (version, name) VALUES (99, 'later')")
	require.ErrorIs(t, table.CheckVersion(t.Context(), conn), ErrVersion)
	require.ErrorContains(t, table.Migrate(t.Context(), conn), "install a newer one")
}

// Tables of an older version are brought up to date one step after another.
func TestMigrateFromEachVersion(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := connect(t, dsn)
	for have := range testTable(t, DefaultTable).migrationSteps() {
		table := testTable(t, fmt.Sprintf("events_%d", have))
		run(t, conn, table.prepare())
		for _, step := range table.migrationSteps()[:have] {
			run(t, conn, step.sql, table.applied(step))
		}
		require.NoError(t, table.Migrate(t.Context(), conn))
		require.NoError(t, table.CheckVersion(t.Context(), conn))
	}
}

// Who runs the printed schema reads only what matters: nothing where all is well,
// and which role is missing where it is not.
func TestSchemaIsQuiet(t *testing.T) {
	dsn := pgtest.Database(t)
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	var said []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said = append(said, n.Severity+": "+n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close(context.Background())) })
	schema := func(table string) {
		results, err := conn.PgConn().Exec(t.Context(), testTable(t, table).Schema()).ReadAll()
		require.NoError(t, err)
		for _, result := range results {
			assert.Empty(t, result.FieldDescriptions, "a result that psql prints")
		}
	}
	for range 2 { // the second time everything is there
		schema(DefaultTable)
		assert.Empty(t, said)
	}
	assert.Equal(t, "notice", setting(t, conn, "client_min_messages"), "only for this")

	powerless := fmt.Sprintf("powerless_%d", time.Now().UnixNano())
	run(t, conn, "CREATE ROLE "+powerless, "GRANT CREATE ON SCHEMA public TO "+powerless, "SET ROLE "+powerless)
	schema("other_" + powerless[len(powerless)-6:])
	run(t, conn, "RESET ROLE", "DROP OWNED BY "+powerless, "DROP ROLE "+powerless)
	require.Len(t, said, 2)
	assert.Contains(t, said[0], "WARNING: role other_")
	assert.Contains(t, said[0], "was not made: that needs CREATEROLE")
}

func setting(t *testing.T, conn *pgx.Conn, name string) (value string) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_catalog.current_setting($1)", name).Scan(&value))
	return value
}

func TestForeignTable(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := connect(t, dsn)
	for _, name := range []string{"audit_events", "audit_events_stubs", "audit_events_checkpoints", "audit_events_default"} {
		run(t, conn, "CREATE TABLE "+name+" (event_id text PRIMARY KEY)")
		err := testTable(t, DefaultTable).Migrate(t.Context(), conn)
		require.ErrorIs(t, err, ErrForeign)
		require.ErrorContains(t, err, "set postgres::table to another name")
		run(t, conn, "DROP TABLE "+name)
	}
}

// Whatever a record holds is stored, comes back as it was, and its row shows
// what the canonical bytes say.
func TestAnyRecordIsStored(t *testing.T) {
	dsn, table, conn := store(t)
	random := rand.New(rand.NewPCG(3, 4))
	var all []*sealed
	for i := range 1500 {
		s := seal(t, uint64(i), (&generator{randomBytes(random)}).logs(t))
		s.link.Stream = fmt.Sprintf("tenant:\\%d\x00", i)
		s.hash = s.link.Hash()
		all = append(all, s)
	}
	copyIn(t, conn, table, all...)
	found := read(t, openReader(t, dsn, table))
	require.Len(t, found, len(all))
	for i, s := range all {
		require.Equal(t, string(audit.AppendEvent(nil, &s.link, s.hash, s.canonical)), string(found[i].Line))
		require.Empty(t, found[i].Column, "%s", s.canonical)
	}
}

func TestNULIsShownEscaped(t *testing.T) {
	_, table, conn := store(t)
	copyIn(t, conn, table, decoded(t, `{"action":"a\u0000b","actor":{"id":"x","roles":["r\u0000"]},"metadata":{"k\u0000":"v\u0000\\u0000"}}`))
	var action, role, metadata string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT action, actor_roles[1], metadata->>'k\\u0000' FROM audit_events").
		Scan(&action, &role, &metadata))
	assert.Equal(t, []string{`a\u0000b`, `r\u0000`, `v\u0000\u0000`}, []string{action, role, metadata})
}

// A row that does not show what its canonical bytes say names the column; one
// whose evidence was changed is no sound line.
func TestEveryColumnIsCompared(t *testing.T) {
	dsn, table, conn := store(t)
	s := record(t, func(resource pcommon.Map, r plog.LogRecord) { r.SetTimestamp(1_790_000_000_000_000_000) })
	copyIn(t, conn, table, s)
	reader := openReader(t, dsn, table)
	good := read(t, reader)[0]
	require.Empty(t, good.Column)
	set := map[kind]string{
		kindText: "'x'", kindTexts: "'{x}'", kindInteger: "7", kindBoolean: "false", kindTime: "'2026-11-01'", kindBigint: "7", kindJSON: "'{}'",
	}
	for _, column := range columns {
		run(t, conn, "BEGIN", "CREATE TABLE before AS SELECT * FROM audit_events",
			fmt.Sprintf("UPDATE audit_events SET %s = %s", column.name, set[column.kind]), "COMMIT")
		got := read(t, reader)
		require.Len(t, got, 1)
		assert.Equal(t, column.name, got[0].Column)
		assert.Equal(t, string(good.Line), string(got[0].Line), "the evidence is as it was")
		run(t, conn, "BEGIN", "DELETE FROM audit_events", "INSERT INTO audit_events SELECT * FROM before", "DROP TABLE before", "COMMIT")
	}
	require.Empty(t, read(t, reader)[0].Column)
	for column, value := range map[string]string{"prev": `'\x00'`, "hash": `'\x'`, "canonical": `'{}'`, "seq": "-5", "index": "-1", "stream": "''"} {
		run(t, conn, "BEGIN", "CREATE TABLE before AS SELECT * FROM audit_events", fmt.Sprintf("UPDATE audit_events SET %s = %s", column, value), "COMMIT")
		got := read(t, reader)[0]
		line, err := audit.ParseLine(got.Line)
		sound := err == nil && line.Link.Hash() == line.Hash && column != "canonical"
		assert.False(t, sound, column)
		run(t, conn, "BEGIN", "DELETE FROM audit_events", "INSERT INTO audit_events SELECT * FROM before", "DROP TABLE before", "COMMIT")
	}
}

// What PostgreSQL shows otherwise than the record says is another value, also
// where it has the same parts.
func TestOtherSpellings(t *testing.T) {
	dsn, table, conn := store(t)
	s := decoded(t, `{"action":"a","actor":{"roles":["x","y"]}}`)
	s.link.Stream = `service:a\b`
	s.hash = s.link.Hash()
	copyIn(t, conn, table, s)
	reader := openReader(t, dsn, table)
	require.Empty(t, read(t, reader)[0].Column)
	run(t, conn, `UPDATE audit_events SET actor_roles = '[5:6]={x,y}'`)
	assert.Equal(t, "actor_roles", read(t, reader)[0].Column)
	run(t, conn, `UPDATE audit_events SET stream = 'service:a\b'`)
	_, err := audit.ParseLine(read(t, reader)[0].Line)
	require.Error(t, err)
}

// A store of which only a part is shown is not read as if that were all.
func TestPartOfATable(t *testing.T) {
	dsn, table, conn := store(t)
	copyIn(t, conn, table, decoded(t, `{"action":"a"}`))
	reader := openReader(t, dsn, table)
	require.Len(t, read(t, reader), 1)
	lines := func() error { return reader.Lines(t.Context(), func(*Stored) error { return nil }) }

	run(t, conn, "ALTER TABLE audit_events RENAME TO hidden", "CREATE VIEW audit_events AS SELECT * FROM hidden WHERE false")
	require.ErrorIs(t, lines(), ErrNotTable)
	run(t, conn, "DROP VIEW audit_events", "ALTER TABLE hidden RENAME TO audit_events")

	run(t, conn, "DO $$ BEGIN CREATE ROLE part_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
		"GRANT SELECT ON ALL TABLES IN SCHEMA public TO part_reader", "ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY")
	defer run(t, conn, "DROP OWNED BY part_reader", "DROP ROLE part_reader")
	_, err := reader.conn.Exec(t.Context(), "SET ROLE part_reader")
	require.NoError(t, err)
	require.ErrorContains(t, lines(), "row-level security")
}

func TestLinesAreInOrder(t *testing.T) {
	dsn, table, conn := store(t)
	var want []string
	for _, origin := range []string{"B", "a", "a/b", "aa"} { // bytewise, whatever the database's collation
		for i := range 300 {
			if i%100 == 0 {
				_, err := conn.Exec(t.Context(), "INSERT INTO audit_events_checkpoints VALUES ($1, $2, 'note', ARRAY[$3::bytea])", origin, i, make([]byte, 32))
				require.NoError(t, err)
				want = append(want, string(audit.AppendCheckpoint(nil, []byte("note"), make([]chain.Hash, 1))))
			}
			s := record(t, func(_ pcommon.Map, r plog.LogRecord) {
				r.SetTimestamp(pcommon.NewTimestampFromTime(time.Date(2026, 11, 30-i%60, 0, 0, 0, 0, time.UTC))) // many partitions, backwards
			})
			s.link.Origin, s.link.Index = origin, uint64(i)
			s.hash = s.link.Hash()
			if i%7 == 0 {
				_, err := conn.Exec(t.Context(), "INSERT INTO audit_events_stubs VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", origin, i,
					s.link.Stream, int64(s.link.Seq), s.link.SealedAt, s.link.Prev[:], s.hash[:], s.link.Digest[:])
				require.NoError(t, err)
				want = append(want, string(audit.AppendStub(nil, &s.link, s.hash)))
			}
			if i%14 != 0 {
				copyIn(t, conn, table, s)
				want = append(want, string(audit.AppendEvent(nil, &s.link, s.hash, s.canonical)))
			}
		}
	}
	var got []string
	for _, s := range read(t, openReader(t, dsn, table)) {
		got = append(got, string(s.Line))
	}
	assert.Equal(t, want, got)
}

func TestLinesStop(t *testing.T) {
	dsn, table, conn := store(t)
	copyIn(t, conn, table, decoded(t, `{"action":"a"}`))
	reader := openReader(t, dsn, table)
	enough := errors.New("enough")
	require.ErrorIs(t, reader.Lines(t.Context(), func(*Stored) error { return enough }), enough)
	require.Len(t, read(t, reader), 1, "the reader goes on to work")
}

func TestQuery(t *testing.T) {
	dsn, table, conn := store(t)
	var all []*sealed
	for i := range 40 {
		s := decoded(t, fmt.Sprintf(`{"action":"a-%d","outcome":"%s","actor":{"id":"%s"},"target":{"type":"t","id":"%d"},
			"context":{"occurredAt":"2026-11-%02dT00:00:00.0000005Z","tenantId":"t-%d"}}`,
			i%4, []string{"SUCCESS", "Denied"}[i%2], strings.Repeat("u", i*100), i%3, 20-i%20, i%5))
		s.link.Index = uint64(i)
		s.hash = s.link.Hash()
		all = append(all, s)
	}
	copyIn(t, conn, table, all...)
	reader := openReader(t, dsn, table)
	query := func(f Filter, after Cursor, limit int) (rows []*Row) {
		require.NoError(t, reader.Query(t.Context(), f, after, limit, func(r *Row) error {
			kept := *r
			rows = append(rows, &kept)
			return nil
		}))
		return rows
	}
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	for want, f := range map[int]Filter{
		40: {}, 10: {Action: "a-1"}, 20: {Outcome: "denied"}, 8: {Tenant: "t-0"}, 1: {Actor: strings.Repeat("u", 3100)},
		14: {TargetType: "t", TargetID: "0"}, 4: {From: day(10), To: day(12)}, 2: {Tenant: "t-0", Action: "a-0"}, 0: {Tenant: "t\x00"},
	} {
		assert.Len(t, query(f, Cursor{}, 0), want, "%+v", f)
	}
	whole := query(Filter{}, Cursor{}, 0)
	var paged []*Row
	for after := (Cursor{}); ; {
		page := query(Filter{}, after, 3)
		if len(page) == 0 {
			break
		}
		paged = append(paged, page...)
		after = page[len(page)-1].Cursor()
	}
	require.Len(t, paged, len(whole))
	for i := range whole {
		assert.Equal(t, whole[i].Link, paged[i].Link)
		assert.Equal(t, all[whole[i].Link.Index].link, whole[i].Link)
		if i > 0 {
			assert.False(t, whole[i].OccurredAt().Before(whole[i-1].OccurredAt()))
		}
	}
}

func TestErrorsHoldNoContent(t *testing.T) {
	dsn, _, conn := store(t)
	_, err := conn.Exec(t.Context(), "INSERT INTO audit_events (occurred_at, event_id) VALUES (now(), 'secret content')")
	err = Clean(err)
	require.Error(t, err)
	assert.NotContains(t, fmt.Sprintf("%+v", err), "secret")
	assert.True(t, HasCode(err, "23502"))
	assert.ErrorContains(t, err, "column occurred_at_nanoseconds")
	_, err = OpenReader(t.Context(), "postgres://u:s3cr3t word@%/x", testTable(t, DefaultTable))
	require.ErrorIs(t, err, ErrDSN)
	assert.NotContains(t, err.Error(), "s3cr3t")
	_, err = OpenReader(t.Context(), dsn, testTable(t, "elsewhere"))
	require.ErrorIs(t, err, ErrVersion)
}
