// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
	"github.com/otelaudit/otelaudit/internal/pgtest"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// A trigger of somebody's that drops rows gets no acknowledgement for them.
func TestTriggerThatDropsRows(t *testing.T) {
	const drop = "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
	for table, when := range map[string]string{
		"audit_events": "WHEN (NEW.action = 'poison')", "audit_events_checkpoints": "", "audit_events_stubs": "",
	} {
		t.Run(table, func(t *testing.T) {
			dsn := pgtest.Database(t)
			s := open(t, testConfig(t, dsn))
			m := sinktest.NewMaker(sinktest.Origin)
			write(t, s, m.Records(t, 1)...)
			run(t, dsn, forbidPoison, drop, fmt.Sprintf("CREATE TRIGGER forget BEFORE INSERT ON %s FOR EACH ROW %s EXECUTE FUNCTION forget()", table, when))
			if table == "audit_events" {
				run(t, dsn, allowPoison)
			}
			batch := []sink.Entry{m.Record(t, nil), poisoned(t, m), m.Record(t, nil), m.Checkpoint(t)}
			var kept ward
			result, err := s.Write(t.Context(), batch, kept.refuse)
			require.ErrorIs(t, err, sink.ErrOperator)
			require.ErrorContains(t, err, table)
			assert.Zero(t, result)
			run(t, dsn, "DROP TRIGGER forget ON "+table)
			_, err = s.Write(t.Context(), batch, kept.refuse)
			require.NoError(t, err)
		})
	}
}

// Functions that somebody else made never run with our rights, even where
// PostgreSQL would prefer them for the types of their arguments.
func TestFunctionsOfSomebodyElse(t *testing.T) {
	dsn := pgtest.Database(t)
	run(t, dsn, "CREATE TABLE called (what text)",
		`CREATE FUNCTION public.hashtextextended(text, integer) RETURNS bigint LANGUAGE plpgsql AS $$
			BEGIN INSERT INTO public.called VALUES ('hashtextextended'); RETURN random() * 1e9; END $$`,
		`CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE plpgsql AS $$
			BEGIN INSERT INTO public.called VALUES ('format'); RETURN 'SELECT 1'; END $$`,
		`CREATE FUNCTION public.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$
			BEGIN INSERT INTO public.called VALUES ('set_config'); RETURN ''; END $$`,
		`CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$
			BEGIN INSERT INTO public.called VALUES ('current_setting'); RETURN 'on'; END $$`)
	config := testConfig(t, dsn)
	s := open(t, config)
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Records(t, 2)...)
	run(t, dsn, config.Table.Schema())
	stored(t, dsn)
	assert.Nil(t, one[[]string](t, dsn, "SELECT array_agg(DISTINCT what) FROM called"))
}

// Nobody can store a coordinate twice with a transaction that began before it
// was stored.
func TestOldSnapshotDoesNotStoreTwice(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, testConfig(t, dsn))
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Records(t, 1)...)
	for _, isolation := range []pgx.TxIsoLevel{pgx.Serializable, pgx.RepeatableRead} {
		tx, err := connect(t, dsn).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: isolation})
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT * FROM audit_events")
		require.NoError(t, err)
		e := m.Record(t, nil)
		write(t, s, e)
		_, err = tx.Exec(t.Context(), "UPDATE mine SET index = $1, occurred_at = occurred_at + interval '1 day'", int64(e.Link.Index))
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "INSERT INTO audit_events SELECT * FROM mine")
		if err == nil {
			err = tx.Commit(t.Context())
		}
		require.Error(t, err, isolation)
		_ = tx.Rollback(t.Context())
	}
}

// A network that goes silent behind a refusal holds up neither a Write nor
// Close.
func TestSilentNetwork(t *testing.T) {
	dsn := pgtest.Database(t)
	p := newProxy(t, dsn)
	s := mustOpen(t, testConfig(t, p.dsn))
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Records(t, 1)...)
	run(t, dsn, forbidPoison)
	p.swallow("rollback")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	written := make(chan error, 1)
	go func() {
		_, err := s.Write(ctx, []sink.Entry{poisoned(t, m)}, noRefusal)
		written <- err
	}()
	select {
	case err := <-written:
		require.Error(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("Write hangs")
	}
	start := time.Now()
	require.NoError(t, s.Close())
	assert.Less(t, time.Since(start), 10*time.Second)
	p.heal() // so that nothing is left behind
}

// What a connection that was lost still reads is not taken from the COPY that
// comes next.
func TestLateReadTakesNothing(t *testing.T) {
	m := sinktest.NewMaker(sinktest.Origin)
	entries := m.Records(t, 2)
	var c copier
	late := c.start(entries, []int{0})
	c.stop()
	next := c.start(entries, []int{1})
	_, err := io.ReadAll(late)
	require.ErrorIs(t, err, errStopped)
	text, err := io.ReadAll(next)
	require.NoError(t, err)
	assert.True(t, bytes.HasPrefix(text, []byte(postgres.CopySignature)))
	assert.True(t, bytes.HasSuffix(text, []byte(postgres.CopyEnd)))
}

// An encoding that somebody has set for the database changes nothing of what is
// stored, nor of what is read.
func TestOtherClientEncoding(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	e := m.Record(t, func(record plog.LogRecord) { record.SetEventName("réservé €") })
	write(t, open(t, testConfig(t, dsn)), m.Records(t, 1)...)
	before := stored(t, dsn)
	run(t, dsn, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET client_encoding = latin1', current_database()); END $$")
	write(t, open(t, testConfig(t, dsn)), e)
	assert.Equal(t, append(lines(e), before...), stored(t, dsn))
	run(t, dsn, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET client_encoding', current_database()); END $$")
	assert.Equal(t, append(lines(e), before...), stored(t, dsn))
}

// A table that a crash would empty is none for what was acknowledged.
func TestTableThatACrashEmpties(t *testing.T) {
	for _, table := range []string{"audit_events_default", "audit_events_stubs", "audit_events_checkpoints"} {
		dsn := pgtest.Database(t)
		m := sinktest.NewMaker(sinktest.Origin)
		write(t, open(t, testConfig(t, dsn)), m.Records(t, 1)...)
		run(t, dsn, "ALTER TABLE "+table+" SET UNLOGGED")
		s, batch := open(t, testConfig(t, dsn)), m.Records(t, 1)
		_, err := s.Write(t.Context(), batch, noRefusal)
		require.ErrorIs(t, err, sink.ErrOperator)
		require.ErrorContains(t, err, table)
		run(t, dsn, "ALTER TABLE "+table+" SET LOGGED")
		write(t, s, batch...)
	}
}

// An outage does not leave a batch in so many transactions that no attempt would
// ever get through them.
func TestOutageDoesNotLeaveCrumbs(t *testing.T) {
	s := open(t, testConfig(t, pgtest.Database(t)))
	for range 20 {
		s.shrink(s.part(8192), context.DeadlineExceeded)
	}
	assert.Equal(t, 128, s.part(8192))
}
