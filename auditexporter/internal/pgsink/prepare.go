// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// check refuses what no column holds, and returns the months of all events.
func check(entries []sink.Entry) (map[month]struct{}, error) {
	months := map[month]struct{}{}
	for i := range entries {
		e := &entries[i]
		if e.Link.Index > math.MaxInt64 || e.Link.Seq > math.MaxInt64 {
			return nil, fmt.Errorf("%s: index or sequence number is larger than a bigint", e.Coordinate())
		}
		if e.Kind == audit.LineEvent {
			months[monthOf(time.Unix(0, postgres.OccurredAt(e.Record, &e.Link)))] = struct{}{}
		}
	}
	return months, nil
}

// prepare does what comes before the transaction: tables and partitions.
func (s *Sink) prepare(ctx context.Context, entries []sink.Entry) error {
	months, err := check(entries)
	if err != nil {
		return err
	}
	if err := s.prepareTables(ctx); err != nil {
		return err
	}
	return s.preparePartitions(ctx, months)
}

// prepareTables looks at the tables before the first batch, and makes them if
// it may.
func (s *Sink) prepareTables(ctx context.Context) error {
	select {
	case s.preparing <- struct{}{}:
		defer func() { <-s.preparing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.isReady() {
		return nil
	}
	err := s.inTx(ctx, func(tx pgx.Tx) error { return s.lookAtTables(ctx, tx) })
	if s.config.CreateSchema && errors.Is(err, postgres.ErrVersion) {
		err = s.inTx(ctx, func(tx pgx.Tx) error { return s.config.Table.Migrate(ctx, tx) })
		if err == nil {
			err = s.inTx(ctx, func(tx pgx.Tx) error { return s.lookAtTables(ctx, tx) })
		}
	}
	if err != nil {
		return fmt.Errorf("prepare to write: %w", postgres.Clean(err))
	}
	s.setReady(true)
	return nil
}

func (s *Sink) lookAtTables(ctx context.Context, tx pgx.Tx) error {
	if err := checkServer(ctx, tx); err != nil {
		return err
	}
	if err := s.config.Table.CheckVersion(ctx, tx); err != nil {
		return err
	}
	if err := checkLogged(ctx, tx, s.config.Table); err != nil {
		return err
	}
	return checkTrigger(ctx, tx, s.config.Table)
}

// inTx runs what needs no more than one transaction.
func (s *Sink) inTx(ctx context.Context, run func(pgx.Tx) error) error {
	tx, err := s.beginTx(ctx, s.config.StatementTimeout)
	if err != nil {
		return err
	}
	defer rollback(ctx, tx)
	if err := run(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (s *Sink) isReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

func (s *Sink) setReady(ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = ready
}

const settings = "pg_catalog.current_setting('server_version_num')::integer, pg_catalog.current_setting('server_encoding')," +
	" pg_catalog.current_setting('fsync'), pg_catalog.current_setting('synchronous_commit')," +
	" pg_catalog.current_setting('transaction_read_only'), pg_catalog.current_setting('synchronous_standby_names')"

// server is what the server says of itself.
type server struct {
	version                                          int
	encoding, fsync, synchronous, readOnly, standbys string
}

func (s *server) into() []any {
	return []any{&s.version, &s.encoding, &s.fsync, &s.synchronous, &s.readOnly, &s.standbys}
}

func checkServer(ctx context.Context, conn postgres.Querier) error {
	var s server
	if err := conn.QueryRow(ctx, "SELECT "+settings).Scan(s.into()...); err != nil {
		return fmt.Errorf("look at the server's settings: %w", postgres.Clean(err))
	}
	return s.check()
}

// checkLogged refuses tables that a crash of the server would empty.
func checkLogged(ctx context.Context, conn postgres.Querier, table postgres.Table) error {
	const statement = `SELECT c.relname FROM pg_catalog.pg_class c
		WHERE c.relpersistence <> 'p' AND (c.oid IN (pg_catalog.to_regclass($1), pg_catalog.to_regclass($2))
			OR c.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($3)) p)) LIMIT 1`
	var name string
	err := conn.QueryRow(ctx, statement, table.Stubs(), table.Checkpoints(), table.Events()).Scan(&name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return postgres.Clean(err)
	}
	return fmt.Errorf("%w: the table %s is unlogged, so that a crash would lose what was acknowledged: ALTER TABLE %s SET LOGGED",
		sink.ErrOperator, name, name)
}

// checkTrigger refuses a table that would take a coordinate twice, such as one
// that was restored without its functions.
func checkTrigger(ctx context.Context, conn postgres.Querier, table postgres.Table) error {
	const statement = `SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger t
		WHERE t.tgrelid = pg_catalog.to_regclass($1) AND t.tgname = $2 AND t.tgenabled IN ('O', 'A'))`
	var there bool
	if err := conn.QueryRow(ctx, statement, table.Events(), table.Trigger()).Scan(&there); err != nil {
		return fmt.Errorf("look for the trigger: %w", postgres.Clean(err))
	}
	if there {
		return nil
	}
	return fmt.Errorf("%w: the table %s has no trigger %s, or it is disabled, so that a record could be stored twice: run"+
		" otelaudit schema postgres --table %s | psql, as the owner of the tables", sink.ErrOperator, table, table.Trigger(), table)
}

const oldestVersion = 14

// check refuses a server that would not keep what it committed.
func (s *server) check() error {
	operator := func(text string, args ...any) error {
		return fmt.Errorf("%w: %s", sink.ErrOperator, fmt.Sprintf(text, args...))
	}
	switch {
	case s.version < oldestVersion*10000:
		return operator("the server has version %d, needed is %d or newer", s.version/10000, oldestVersion)
	case s.encoding != "UTF8":
		return operator("the database has the encoding %s, needed is UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", s.encoding)
	case s.readOnly != "off":
		return operator("the server takes no writes, it may be a standby:" +
			" let `postgres::dsn` lead to the primary (target_session_attrs=read-write)")
	case s.fsync != "on":
		return operator("the server runs with fsync = off and would lose what it acknowledged: set fsync = on")
	case s.synchronous == "off":
		return operator("synchronous_commit is off, so that a crash would lose what was acknowledged:" +
			" set it to on for this user (ALTER ROLE … SET synchronous_commit = on) or in postgresql.conf")
	}
	return nil
}

// month is a month in UTC, counted from the year 0.
type month int

func monthOf(t time.Time) month {
	t = t.UTC()
	return month(t.Year()*12 + int(t.Month()) - 1)
}

func (m month) first() time.Time {
	return time.Date(int(m)/12, time.Month(int(m)%12+1), 1, 0, 0, 0, 0, time.UTC)
}

// For which months there are partitions of their own. The database knows the
// same bounds, a little wider.
const (
	monthsPast  = 24
	monthsAhead = 2
	patience    = time.Minute
)

// preparePartitions asks for the partitions of a batch, and of the time to come.
// Where one cannot be made its rows go to the default partition: that is told,
// and fails nothing.
func (s *Sink) preparePartitions(ctx context.Context, batch map[month]struct{}) error {
	now := time.Now()
	wanted := s.missingPartitions(now, batch)
	for i, m := range wanted {
		made, err := s.makePartition(ctx, m)
		switch fault := faultOf(err); {
		case err == nil && made:
			s.askAgain(time.Time{}, m)
		case err == nil:
			s.askAgain(now.Add(patience), m)
		case fault != nil && isPartitionFault(fault):
			s.config.Logger.Warn("a partition cannot be made: its records go to the default partition, and move over once it can",
				zap.String("table", s.config.Table.String()), zap.String("month", m.first().Format("2006-01")), zap.Error(err))
			// The others would wait for the same thing, each for as long.
			s.askAgain(now.Add(patience), wanted[i:]...)
			return nil
		default:
			return fmt.Errorf("make the partition of %s: %w", m.first().Format("2006-01"), err)
		}
	}
	return nil
}

// makePartition takes half of the time that the batch has: there may be more rows
// to move than can be moved in all of it, and the batch has to be stored.
func (s *Sink) makePartition(ctx context.Context, m month) (made bool, err error) {
	timeout := s.config.StatementTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/2)
	}
	tx, err := s.beginTx(ctx, timeout)
	if err != nil {
		return false, err
	}
	defer rollback(ctx, tx)
	err = tx.QueryRow(ctx, "SELECT "+s.config.Table.PartitionFunction()+"($1)", m.first()).Scan(&made)
	if err == nil {
		err = tx.Commit(ctx)
	}
	return made, postgres.Clean(err)
}

// askAgain sets when to ask for partitions again, zero for never.
func (s *Sink) askAgain(at time.Time, months ...month) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range months {
		s.months[m] = at
	}
}

// isPartitionFault says that the partition is the matter, not the connection.
func isPartitionFault(f *postgres.Fault) bool {
	switch f.Class() {
	case classConstraint, classAccess, "55", "57": // 55P03: somebody reads the default partition; 57014: too slow
		return f.Code != "57P01" && f.Code != "57P02" && f.Code != "57P03" // the server is going
	}
	return false
}

func (s *Sink) missingPartitions(now time.Time, batch map[month]struct{}) []month {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := monthOf(now)
	var missing []month
	for m := current - monthsPast; m <= current+monthsAhead; m++ {
		if _, in := batch[m]; !in && m < current {
			continue
		}
		if again, asked := s.months[m]; !asked || !again.IsZero() && now.After(again) {
			missing = append(missing, m)
		}
	}
	return missing
}
