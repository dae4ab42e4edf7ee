// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/verify"
	"github.com/otelaudit/otelaudit/internal/pgtest"
)

// database is a store in a real server, filled through the real sink.
type database struct {
	t   *testing.T
	dsn string
	*pipeline
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	d := &database{t: t, dsn: pgtest.Database(t)}
	d.start(t.TempDir())
	return d
}

// start begins a life of the log whose journal is below directory.
func (d *database) start(directory string) {
	d.pipeline = startPipeline(d.t, directory, map[string]any{
		"postgres": map[string]any{"dsn": d.dsn}, "quarantine": map[string]any{"directory": filepath.Join(directory, "quarantine")},
	})
}

// exec runs SQL as the owner of everything.
func (d *database) exec(sql string, arguments ...any) {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), d.dsn)
	require.NoError(d.t, err)
	defer func() { assert.NoError(d.t, conn.Close(context.Background())) }()
	tag, err := conn.Exec(d.t.Context(), sql, arguments...)
	require.NoError(d.t, err)
	require.NotZero(d.t, tag.RowsAffected(), sql)
}

func (d *database) verify(more ...string) output {
	return otelaudit(append([]string{"verify", "--key", d.key(), d.dsn}, more...)...)
}

func (d *database) report(more ...string) (r verify.Report, code int) {
	d.t.Helper()
	out := d.verify(append(more, "--json")...)
	require.NoError(d.t, json.Unmarshal([]byte(out.stdout), &r), "%s%s", out.stdout, out.stderr)
	return r, out.code
}

// found waits until n events are stored.
func (d *database) found(n int) []found {
	d.t.Helper()
	var all []found
	eventually(d.t, func() bool {
		all = parseFound(d.t, otelaudit("query", "--format", "jsonl", d.dsn).stdout)
		return len(all) >= n
	})
	require.Len(d.t, all, n)
	return all
}

// secret is the password in the URL, which nothing may print.
func (d *database) secret() string {
	at, err := url.Parse(d.dsn)
	require.NoError(d.t, err)
	password, ok := at.User.Password()
	require.True(d.t, ok)
	return password
}

// An event without the flags that a sender may set comes back as it was hashed:
// the columns show nothing, and what is verified are the bytes.
func TestW10AbsentFlagsVerify(t *testing.T) {
	fresh(t)
	d := newDatabase(t)
	sendAll(t, d.pipeline,
		event("e-0", 0, nil),
		`{"eventId":"e-1","action":"a.b","outcome":"ERROR","actor":{"type":"service","id":"s"},"context":{"occurredAt":"2026-11-01T00:00:01.123456789Z"}}`,
		`{"eventId":"e-2","action":"a.b","outcome":"ERROR","actor":{"type":"service","id":"s"},"context":{"occurredAt":"2026-11-01T00:00:02Z"},`+
			`"metadataTruncated":false,"diffTruncated":true,"metadata":{"nul":"\u0000","n":1.50,"deep":[null,{"a":[]}]},"schemaVersion":1}`,
	)
	d.found(3)
	d.stop()
	report, code := d.report()
	assert.Equal(t, exitSound, code, "%+v", report)
	assert.Empty(t, report.Findings)
	rows := readCSV(t, otelaudit("query", "--format", "csv", d.dsn))
	require.Len(t, rows, 3)
	assert.Empty(t, rows[1]["metadata_truncated"])
	assert.Equal(t, "false", rows[2]["metadata_truncated"])
	assert.Equal(t, "2026-11-01T00:00:01.123456789Z", rows[1]["occurred_at"])
	assert.JSONEq(t, `{"nul":"\u0000","n":1.5,"deep":[null,{"a":[]}]}`, rows[2]["metadata"])
}

// Events of one millisecond keep the order in which they came, and verify.
func TestW11EventsOfOneMillisecondKeepTheirOrder(t *testing.T) {
	fresh(t)
	d := newDatabase(t)
	var events, want []string
	for i := range 200 {
		id := fmt.Sprintf("e-%03d", (i*37)%200) // their ids say nothing of the order
		events, want = append(events, event(id, 0, nil)), append(want, id)
	}
	sendAll(t, d.pipeline, events...)
	assert.Equal(t, want, ids(d.found(200)))
	d.stop()
	report, code := d.report()
	assert.Equal(t, exitSound, code, "%+v", report)
	assert.Empty(t, report.Findings)
	assert.EqualValues(t, 202, report.Records)
}

// What somebody with all rights changes is found and named, whatever it is.
func TestVerifyDatabaseFindsChanges(t *testing.T) {
	fresh(t)
	d := newDatabase(t)
	directory := filepath.Dir(d.journal)
	sendAll(t, d.pipeline, event("e-0", 0, nil), event("e-1", 1, nil), event("e-2", 2, nil), event("e-3", 3, nil))
	first := d.found(4)
	d.stop()
	d.start(directory) // a second life
	sendAll(t, d.pipeline, event("f-0", 10, nil), event("f-1", 11, nil))
	all := d.found(6)
	d.stop()
	report, code := d.report()
	require.Equal(t, exitSound, code, "%+v", report)
	require.Len(t, report.Logs, 1)
	assert.Len(t, report.Logs[0].Lives, 2)

	victim, last := all[1], all[5]
	assert.Equal(t, first[1], victim)
	cases := []struct {
		name, sql, undo string
		kind            verify.Kind
		detail          string
	}{
		{"derived text", "UPDATE audit_events SET actor_id = 'u-2' WHERE event_id = 'e-1'", "UPDATE audit_events SET actor_id = 'u-1' WHERE event_id = 'e-1'", verify.Tampered, "column actor_id"},
		{"derived JSON", `UPDATE audit_events SET metadata = '{"n":2}' WHERE event_id = 'e-1'`, `UPDATE audit_events SET metadata = '{"n":1}' WHERE event_id = 'e-1'`, verify.Tampered, "column metadata"},
		{"derived flag", "UPDATE audit_events SET diff_truncated = false WHERE event_id = 'e-1'", "UPDATE audit_events SET diff_truncated = NULL WHERE event_id = 'e-1'", verify.Tampered, "column diff_truncated"},
		{"derived time", "UPDATE audit_events SET occurred_at = occurred_at + interval '1 microsecond' WHERE event_id = 'e-1'", "UPDATE audit_events SET occurred_at = occurred_at - interval '1 microsecond' WHERE event_id = 'e-1'", verify.Tampered, "column occurred_at"},
		{"bytes", "UPDATE audit_events SET canonical = set_byte(canonical, 40, get_byte(canonical, 40) # 1) WHERE event_id = 'e-1'", "UPDATE audit_events SET canonical = set_byte(canonical, 40, get_byte(canonical, 40) # 1) WHERE event_id = 'e-1'", verify.Malformed, ""},
		{"hash", "UPDATE audit_events SET hash = set_byte(hash, 0, get_byte(hash, 0) # 1) WHERE event_id = 'e-1'", "UPDATE audit_events SET hash = set_byte(hash, 0, get_byte(hash, 0) # 1) WHERE event_id = 'e-1'", verify.Tampered, "hash"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d.exec(c.sql)
			report, code := d.report()
			assert.Equal(t, exitBroken, code)
			require.Len(t, report.Findings, 1, "%+v", report.Findings)
			f := report.Findings[0]
			assert.Equal(t, c.kind, f.Kind, "%+v", f)
			assert.Contains(t, f.Detail, c.detail)
			assert.Equal(t, victim.Origin, f.Origin)
			assert.Equal(t, victim.Index, f.Index)
			assert.Equal(t, victim.Index, strconv.FormatInt(f.Offset, 10))
			assert.True(t, strings.HasPrefix(f.File, "postgres://127.0.0.1:"), f.File)
			assert.True(t, strings.HasSuffix(f.File, "/public.audit_events/"+victim.Origin), f.File)
			assert.NotContains(t, f.File, d.secret())
			out := d.verify()
			assert.Contains(t, out.stdout, "FINDING "+string(c.kind))
			assert.NotContains(t, out.stdout+out.stderr, d.secret())
			d.exec(c.undo)
			_, code = d.report()
			assert.Equal(t, exitSound, code, "it is as it was")
		})
	}
	t.Run("a changed column hides nothing", func(t *testing.T) {
		d.exec("UPDATE audit_events SET actor_id = 'eve' WHERE event_id = 'e-1'")
		out := otelaudit("query", "--actor", "eve", d.dsn)
		assert.Equal(t, exitBroken, out.code)
		assert.Empty(t, out.stdout)
		assert.Contains(t, out.stderr, "the columns do not show what the record says")
		d.exec("UPDATE audit_events SET actor_id = 'u-1' WHERE event_id = 'e-1'")
	})
	t.Run("deleted", func(t *testing.T) {
		d.exec("DELETE FROM audit_events WHERE event_id = 'e-1'")
		report, code := d.report()
		assert.Equal(t, exitBroken, code)
		require.Len(t, report.Findings, 1, "%+v", report.Findings)
		assert.Equal(t, verify.Missing, report.Findings[0].Kind)
		assert.Equal(t, victim.Index, report.Findings[0].Index)
	})
	t.Run("the end is cut", func(t *testing.T) {
		d.exec("DELETE FROM audit_events WHERE origin = $1", last.Origin)
		d.exec("DELETE FROM audit_events_checkpoints WHERE origin = $1", last.Origin)
		report, code := d.report("--checkpoint", d.checkpoint())
		assert.Equal(t, exitBroken, code)
		assert.NotEmpty(t, report.Findings)
		report, code = d.report()
		assert.Equal(t, exitBroken, code, "what the first run saw is a floor")
		assert.NotEmpty(t, report.Findings)
	})
}

func TestVerifyDatabaseThatCannotBeRead(t *testing.T) {
	fresh(t)
	dsn := pgtest.Database(t)
	out := otelaudit("verify", dsn)
	assert.Equal(t, exitRead, out.code)
	assert.Contains(t, out.stderr, "otelaudit schema postgres")
	assert.Empty(t, out.stdout, "nothing was judged")

	at, err := url.Parse(dsn)
	require.NoError(t, err)
	password, _ := at.User.Password()
	at.Host = "127.0.0.1:1"
	for _, args := range [][]string{{"verify"}, {"query"}, {"export"}, {"tail"}} {
		out = otelaudit(append(args, at.String())...)
		assert.Equal(t, exitRead, out.code)
		assert.NotEmpty(t, out.stderr)
		assert.NotContains(t, out.stderr, password)
		out = otelaudit(append(args, "postgres://u:"+password+"@%zz/x")...)
		assert.Equal(t, exitRead, out.code)
		assert.NotContains(t, out.stderr, password)
		for _, meant := range []string{"Postgres://u:" + password + "@h/x", "host=h password=" + password, "postgre://u:" + password + "@h/x"} {
			out = otelaudit(append(args, meant)...)
			assert.Equal(t, exitUsage, out.code)
			assert.Contains(t, out.stderr, "postgres://")
			assert.NotContains(t, out.stderr, password)
		}
		out = otelaudit(append(args, "--table", "a;b", dsn)...)
		assert.Equal(t, exitRead, out.code)
		assert.Contains(t, out.stderr, "--table")
	}

	// The password comes from the environment.
	at, err = url.Parse(dsn)
	require.NoError(t, err)
	at.User = url.User(at.User.Username())
	t.Setenv("PGPASSWORD", password)
	out = otelaudit("verify", at.String())
	assert.Contains(t, out.stderr, "otelaudit schema postgres", "it was let in")
}

// The printed schema is what the sink and the command need.
func TestSchemaPostgres(t *testing.T) {
	fresh(t)
	out := otelaudit("schema", "postgres", "--table", "evidence")
	require.Equal(t, exitSound, out.code, out.stderr)
	dsn := pgtest.Database(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), out.stdout, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	out = otelaudit("verify", "--table", "evidence", dsn)
	assert.Equal(t, exitUnproven, out.code, out.stderr)
	assert.Contains(t, out.stdout, "no stored records")

	for _, args := range [][]string{{"schema"}, {"schema", "mysql"}, {"schema", "postgres", "--table", "a b"}} {
		assert.Equal(t, exitUsage, otelaudit(args...).code, "%v", args)
	}
}

func TestQueryDatabase(t *testing.T) {
	d := newDatabase(t)
	sendAll(
		t, d.pipeline,
		event("e-1", 60, eventOptions{"actor": `eve "x"`}),
		event("e-0", 0, nil),
		event("e-2", 120, eventOptions{"action": "file.write"}),
		event("e-3", 180, eventOptions{"target": "f-2"}),
		event("e-4", 240, eventOptions{"tenant": "other"}),
		event("e-5", 300, eventOptions{"outcome": "DENIED"}),
	)
	d.found(6)
	for want, args := range map[string][]string{
		"e-0 e-1 e-2 e-3 e-4 e-5": nil,
		"e-1":                     {"--actor", `eve "x"`},
		"e-2":                     {"--action", "file.write"},
		"e-3":                     {"--target", "f-2"},
		"e-4":                     {"--tenant", "other"},
		"e-5":                     {"--outcome", "denied"},
		"e-2 e-3":                 {"--since", "2026-11-01T00:01:00.000000001Z", "--until", "2026-11-01T00:04:00Z"},
		"e-0 e-1":                 {"--limit", "2"},
		"":                        {"--actor", "nobody"},
	} {
		out := otelaudit(append([]string{"query", "--format", "jsonl", d.dsn}, args...)...)
		assert.Equal(t, exitSound, out.code, out.stderr)
		assert.Equal(t, strings.Fields(want), ids(parseFound(t, out.stdout)), "%v", args)
		assert.Empty(t, out.stderr)
	}
	d.stop()
	out := otelaudit("query", "--control", "--action", "audit.origin.stop", "--format", "jsonl", d.dsn)
	assert.Len(t, parseFound(t, out.stdout), 1)

	d.exec("INSERT INTO audit_events_stubs (origin, index, stream, seq, sealed_at, prev, hash, digest)" +
		" SELECT origin, index + 1000 * i, stream, seq, sealed_at, prev, hash, hash FROM audit_events, generate_series(0, 1) i WHERE event_id = 'e-1'")
	out = otelaudit("query", d.dsn)
	assert.Equal(t, exitSound, out.code)
	assert.Contains(t, out.stderr, "passed over 1 records that a sink refused", "the other one is stored")
}

// Pages go on where the one before ended; the lines of a database are a store in a
// file.
func TestExportDatabase(t *testing.T) {
	fresh(t)
	d := newDatabase(t)
	var events, want []string
	for i := range 2*pageRows + 100 {
		id := strconv.Itoa(i)
		events, want = append(events, event(id, i, nil)), append(want, id)
	}
	sendAll(t, d.pipeline, events...)
	d.found(len(events))
	d.stop()
	at := filepath.Join(t.TempDir(), "cursor")
	var got []string
	for {
		out := otelaudit("export", "--cursor", at, "--page-size", "700", d.dsn)
		require.Equal(t, exitSound, out.code, out.stderr)
		page := ids(parseFound(t, out.stdout))
		got = append(got, page...)
		if len(page) < 700 {
			break
		}
		assert.Contains(t, out.stderr, "exported 700 events, there may be more")
	}
	assert.Equal(t, want, got)
	out := otelaudit("export", "--cursor", at, files("sound"))
	assert.Contains(t, out.stderr, "another kind of store")

	copied := filepath.Join(t.TempDir(), "copy.jsonl")
	out = otelaudit("export", "--format", "lines", d.dsn)
	require.Equal(t, exitSound, out.code, out.stderr)
	require.NoError(t, os.WriteFile(copied, []byte(out.stdout), 0o600))
	out = otelaudit("verify", "--key", d.key(), copied)
	assert.Equal(t, exitSound, out.code, out.stdout)
	assert.Contains(t, out.stdout, "completeness: complete")
}

// A cursor is not led past what comes later: not by an event from the future, and
// not for one from the past or one that was not stored yet.
func TestExportDatabaseFindsAllThatIsStoredLater(t *testing.T) {
	d := newDatabase(t)
	at := filepath.Join(t.TempDir(), "cursor")
	export := func(want ...string) {
		t.Helper()
		out := otelaudit("export", "--cursor", at, d.dsn)
		require.Equal(t, exitSound, out.code, out.stderr)
		assert.Equal(t, want, append([]string(nil), ids(parseFound(t, out.stdout))...))
	}
	sendAll(t, d.pipeline, event("e-0", 100, nil), event("e-1", 200, nil), event("future", 1_000_000_000, nil))
	d.found(3)
	d.exec("CREATE TABLE aside AS SELECT * FROM audit_events WHERE event_id IN ('e-0', 'e-1')")
	d.exec("DELETE FROM audit_events WHERE event_id IN ('e-0', 'e-1')")
	export("future")
	sendAll(t, d.pipeline, event("past", 0, nil), event("now", 300, nil))
	d.found(3)
	export("past", "now")
	d.exec("INSERT INTO audit_events SELECT * FROM aside WHERE event_id = 'e-1'")
	export("e-1")
	d.exec("INSERT INTO audit_events SELECT * FROM aside WHERE event_id = 'e-0'")
	export("e-0")
	export()
}

// A row that a column shows like what was asked for, but is not, is no finding.
func TestQueryDatabaseLookAlikes(t *testing.T) {
	d := newDatabase(t)
	sendAll(t, d.pipeline,
		strings.Replace(event("nul", 0, nil), `"u-1"`, `"x\u0000"`, 1), strings.Replace(event("six", 1, nil), `"u-1"`, `"x\\u0000"`, 1))
	d.found(2)
	out := otelaudit("query", "--format", "jsonl", "--actor", `x\u0000`, d.dsn)
	assert.Equal(t, exitSound, out.code, out.stderr)
	assert.Equal(t, []string{"six"}, ids(parseFound(t, out.stdout)))
}

func TestTailDatabase(t *testing.T) {
	d := newDatabase(t)
	directory := filepath.Dir(d.journal)
	sendAll(t, d.pipeline, event("a-0", 0, nil), event("a-1", 1, nil), event("a-2", 2, nil))
	d.found(3)
	tail := start(t, "tail", "-f", "-n", "2", "--json", d.dsn)
	tail.shows(t, "a-1", "a-2")
	sendAll(t, d.pipeline, event("b-0", 0, nil)) // it occurred before the others
	tail.shows(t, "a-1", "a-2", "b-0")
	d.stop()
	d.start(directory) // a new life
	sendAll(t, d.pipeline, event("c-0", 0, nil), event("c-1", 0, nil))
	tail.shows(t, "a-1", "a-2", "b-0", "c-0", "c-1")
	assert.Equal(t, exitSound, tail.end(t))
	assert.Empty(t, tail.stderr.String())
	d.stop()
	out := otelaudit("tail", "-n", "4", "--json", d.dsn)
	assert.Equal(t, []string{"a-2", "b-0", "c-0", "c-1"}, ids(parseFound(t, out.stdout)), "over the end of a life")
	out = otelaudit("tail", "-n", "1", "--json", "--actor", "u-1", "--target", "f-1", d.dsn)
	assert.Equal(t, []string{"c-1"}, ids(parseFound(t, out.stdout)))
}

// Verification holds a few rows, not the table.
func TestVerifyDatabaseInConstantMemory(t *testing.T) {
	fresh(t)
	d := newDatabase(t)
	const rows, size = 2_000, 8 << 10
	filler := strings.Repeat("0123456789abcdef", size/16)
	var text strings.Builder
	for i := range rows {
		text.WriteString(strings.Replace(event(strconv.Itoa(i), i, nil), `"n":`, `"filler":"`+filler+`","n":`, 1) + "\n")
	}
	out := input(text.String(), "send", "--endpoint", d.endpoint)
	require.Equal(t, exitSound, out.code, out.stderr)
	text.Reset()
	d.stop()

	defer debug.SetGCPercent(debug.SetGCPercent(10))
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var most atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				most.Store(max(most.Load(), now.HeapAlloc))
			}
		}
	}()
	_, code := d.report()
	close(stop)
	<-stopped
	assert.Equal(t, exitSound, code)
	const stored, bound = rows * size, 7 << 20
	require.Greater(t, stored, 2*bound, "or the test would show nothing")
	assert.Less(t, int64(most.Load())-int64(before.HeapAlloc), int64(bound))
	t.Logf("%d MiB stored; %d KiB on the heap before, at most %d KiB more during it", stored>>20, before.HeapAlloc>>10, (int64(most.Load())-int64(before.HeapAlloc))>>10)
}
