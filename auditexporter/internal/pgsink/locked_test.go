// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
	"github.com/otelaudit/otelaudit/internal/pgtest"
)

// A table that somebody holds locked delays no write for longer than the
// statement time-out, not even the first one, which looks at the tables and has
// everything to prepare. Nor where the caller would wait without end.
func TestLookAtLockedTables(t *testing.T) {
	dsn := pgtest.Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	all := m.Records(t, 1)
	write(t, open(t, testConfig(t, dsn)), all...)
	locker := connect(t, dsn)
	for _, table := range []string{"_migrations", "", "_default", "_stubs", "_checkpoints"} {
		t.Run("audit_events"+table, func(t *testing.T) {
			lock, err := locker.Begin(t.Context())
			require.NoError(t, err)
			defer rollback(context.Background(), lock) // also where the test fails
			_, err = lock.Exec(t.Context(), "LOCK TABLE audit_events"+table+" IN ACCESS EXCLUSIVE MODE")
			require.NoError(t, err)
			config := testConfig(t, dsn)
			config.StatementTimeout = 200 * time.Millisecond
			s := open(t, config)
			batch := []sink.Entry{m.Record(t, nil), m.Checkpoint(t)}
			err = endsSoon(t, func() error {
				_, err := s.Write(context.Background(), batch, noRefusal)
				return err
			})
			require.ErrorContains(t, err, "SQLSTATE 57014")
			assert.NotErrorIs(t, err, sink.ErrOperator, "it passes by itself")
			require.NoError(t, lock.Rollback(t.Context()))
			write(t, s, batch...)
			all = append(all, batch...)
		})
	}
	assert.ElementsMatch(t, lines(all...), stored(t, dsn))
}

// The same while somebody else makes the tables, and does not end.
func TestTablesThatSomebodyElseMakes(t *testing.T) {
	dsn := pgtest.Database(t)
	other, err := connect(t, dsn).Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, testTable(t).Migrate(t.Context(), other))
	config := testConfig(t, dsn)
	config.StatementTimeout = 200 * time.Millisecond
	s := open(t, config)
	batch := sinktest.NewMaker(sinktest.Origin).Records(t, 2)
	err = endsSoon(t, func() error {
		_, err := s.Write(context.Background(), batch, noRefusal)
		return err
	})
	require.ErrorContains(t, err, "SQLSTATE 57014")
	assert.NotErrorIs(t, err, sink.ErrOperator)
	require.NoError(t, other.Rollback(t.Context()))
	config.StatementTimeout = time.Minute
	write(t, open(t, config), batch...)
}

// A commit whose wait for the standbys was cut off is visible and may still be
// lost with the primary: that it is there does not acknowledge it.
func TestCommitThatNoStandbyHas(t *testing.T) {
	dsn := pgtest.Start(t).Database(t)
	m := sinktest.NewMaker(sinktest.Origin)
	s := open(t, testConfig(t, dsn))
	write(t, s, m.Records(t, 1)...)
	batch := []sink.Entry{m.Record(t, nil), m.Checkpoint(t)}
	run(t, dsn, "CREATE TABLE probe ()", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	require.Eventually(t, func() bool { // the server takes it over in its own time
		conn := connect(t, dsn)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := conn.Exec(ctx, "INSERT INTO probe DEFAULT VALUES")
		return err != nil
	}, time.Minute, time.Millisecond)
	attempt := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := s.Write(ctx, batch, noRefusal)
		return err
	}
	require.Error(t, attempt())
	require.Eventually(t, func() bool { return one[int](t, dsn, "SELECT count(*) FROM audit_events") == 2 }, time.Minute, time.Millisecond)
	require.Error(t, attempt(), "no standby has it")
	run(t, dsn, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
	assert.Equal(t, 2, write(t, s, batch...).Repeated)
}

// endsSoon fails the test if a call hangs, and returns what it returned.
func endsSoon(t *testing.T, call func() error) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- call() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the call hangs")
		return nil
	}
}
