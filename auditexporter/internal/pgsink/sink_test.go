// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
	"github.com/otelaudit/otelaudit/internal/pgtest"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func testTable(t testing.TB) postgres.Table {
	t.Helper()
	table, err := postgres.ParseTable(postgres.DefaultTable)
	require.NoError(t, err)
	return table
}

func testConfig(t testing.TB, dsn string) Config {
	return Config{
		DSN: dsn, Table: testTable(t), CreateSchema: true, MaxConnections: 4, StatementTimeout: time.Minute, Logger: zap.NewNop(),
	}
}

func open(t testing.TB, config Config) *Sink {
	t.Helper()
	s, err := Open(config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// noRefusal is the sink.Refuse of tests in which nothing is refused.
func noRefusal(e *sink.Entry, reason string) error {
	return fmt.Errorf("%s is refused: %s", e.Coordinate(), reason)
}

func write(t testing.TB, s *Sink, entries ...sink.Entry) sink.Result {
	t.Helper()
	result, err := s.Write(t.Context(), entries, noRefusal)
	require.NoError(t, err)
	return result
}

// ward takes what a sink refuses, in memory.
type ward struct {
	entries []sink.Entry
	reasons []string
}

func (w *ward) refuse(e *sink.Entry, reason string) error {
	w.entries, w.reasons = append(w.entries, *e), append(w.reasons, reason)
	return nil
}

func counts(r sink.Result) sink.Result {
	return sink.Result{Stored: r.Stored, Refused: r.Refused, Checkpoints: r.Checkpoints, Repeated: r.Repeated}
}

// run runs statements as whom dsn says.
func run(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	conn := connect(t, dsn)
	for _, statement := range statements {
		_, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, statement)
	}
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close(context.Background())) })
	return conn
}

// one returns the one value that a query has.
func one[T any](t testing.TB, dsn, query string, arguments ...any) (value T) {
	t.Helper()
	require.NoError(t, connect(t, dsn).QueryRow(t.Context(), query, arguments...).Scan(&value), query)
	return value
}

// stored returns all stored lines in their order. No derived column differs.
func stored(t testing.TB, dsn string) []string {
	t.Helper()
	reader, err := postgres.OpenReader(t.Context(), dsn, testTable(t))
	if errors.Is(err, postgres.ErrVersion) {
		return nil // nothing was ever written
	}
	require.NoError(t, err)
	var lines []string
	require.NoError(t, reader.Lines(t.Context(), func(s *postgres.Stored) error {
		assert.Empty(t, s.Column, "%s, index %d", s.Origin, s.Index)
		lines = append(lines, string(s.Line))
		return nil
	}))
	require.NoError(t, reader.Close())
	return lines
}

func lines(entries ...sink.Entry) []string {
	var all []string
	for i := range entries {
		all = append(all, string(entries[i].AppendLine(nil)))
	}
	return all
}

// forbidPoison lets the database refuse what sinktest's Poison seals.
const (
	forbidPoison = `ALTER TABLE audit_events ADD CONSTRAINT no_poison CHECK (action <> 'poison')`
	allowPoison  = `ALTER TABLE audit_events DROP CONSTRAINT no_poison`
)

// TestConformance holds the sink to the contract.
func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Store {
		dsn := pgtest.Database(t)
		run(t, dsn, testTable(t).Schema(), forbidPoison)
		cutter := newProxy(t, dsn)
		return &sinktest.Store{
			Open:      func(t *testing.T) sink.Sink { return mustOpen(t, testConfig(t, cutter.dsn)) },
			OpenCured: func(t *testing.T) sink.Sink { run(t, dsn, allowPoison); return mustOpen(t, testConfig(t, dsn)) },
			Lines:     func(t *testing.T) []string { return stored(t, dsn) },
			Poison:    poisoned,
			Fail:      func(_ *testing.T, stored bool) { cutter.cutAtCommit(stored) },
		}
	})
}

func mustOpen(t *testing.T, config Config) *Sink {
	t.Helper()
	s, err := Open(config)
	require.NoError(t, err)
	return s
}
