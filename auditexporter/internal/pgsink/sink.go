// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package pgsink stores sealed records and checkpoints in PostgreSQL, in the
// tables of package postgres.
//
// One batch is one transaction. It first takes a lock for each of its origins,
// then looks up which of its coordinates are stored, compares their hashes, and
// copies the rest straight into the table. The lock makes writers of one origin
// take turns, also where one of them is a connection that was given up and
// whose transaction goes on: what it commits is seen. A unique index and a
// trigger in the database hold the same promise against everybody else.
//
// Where the database refuses a batch for what a row holds, the batch is halved,
// within one transaction, until the rows that it refuses are alone.
package pgsink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// Config says where and how to store.
type Config struct {
	// DSN is a URL or key=value pairs, as libpq takes them; what it leaves out
	// comes from libpq's environment variables.
	DSN string
	// Table names the tables.
	Table postgres.Table
	// CreateSchema makes and migrates the tables. Without it they must be there.
	CreateSchema bool
	// MaxConnections bounds the connections that are open at once.
	MaxConnections int
	// StatementTimeout is how long the server works at one statement.
	StatementTimeout time.Duration
	// Logger is told of partitions that cannot be made, never of content.
	Logger *zap.Logger
}

// Sink is an open store. Safe for concurrent use.
type Sink struct {
	config  Config
	pool    *pgxpool.Pool
	copiers sync.Pool // of *copier

	preparing chan struct{} // holds one token while the tables are looked at

	life context.Context // ends with Close
	end  context.CancelFunc

	mu      sync.Mutex
	closed  bool                // guarded by mu
	running sync.WaitGroup      // added to under mu, while it is not closed
	ready   bool                // guarded by mu: the tables are there
	most    int                 // guarded by mu: entries of one transaction
	months  map[month]time.Time // guarded by mu: when to ask for a partition again, zero for never
}

// Open makes a sink. It does not connect: a database that is down delays what
// is written and fails nothing.
func Open(config Config) (*Sink, error) {
	parsed, err := pgxpool.ParseConfig(config.DSN)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL sink: `postgres::dsn`: %w", postgres.ErrDSN)
	}
	parsed.MaxConns = int32(config.MaxConnections)
	parsed.MinConns, parsed.MinIdleConns = 0, 0
	postgres.SpeakUTF8(&parsed.ConnConfig.Config)
	if parsed.ConnConfig.RuntimeParams["application_name"] == "" {
		parsed.ConnConfig.RuntimeParams["application_name"] = "otelaudit"
	}
	s := &Sink{
		config: config, most: math.MaxInt, months: map[month]time.Time{}, preparing: make(chan struct{}, 1),
		copiers: sync.Pool{New: func() any { return &copier{} }},
	}
	s.life, s.end = context.WithCancel(context.Background())
	if s.pool, err = pgxpool.NewWithConfig(s.life, parsed); err != nil {
		s.end()
		return nil, fmt.Errorf("open PostgreSQL sink: %w", postgres.Clean(err))
	}
	return s, nil
}

// begin ties a call to the life of the sink. done must be called at its end.
func (s *Sink) begin(caller context.Context) (ctx context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, sink.ErrClosed
	}
	if err := caller.Err(); err != nil {
		return nil, nil, err
	}
	s.running.Add(1)
	ctx, cancel := context.WithCancelCause(caller)
	stop := context.AfterFunc(s.life, func() { cancel(sink.ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		s.running.Done()
	}, nil
}

// Close ends what runs, whose batches are to be written again, and closes all
// connections. Twice is fine.
func (s *Sink) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.end()
	s.running.Wait()
	s.closePool()
	return nil
}

// closeTimeout bounds the wait for connections whose network is silent.
const closeTimeout = 2 * time.Second

// closePool closes all connections. One whose network is silent says goodbye for
// up to 15 s, which is not waited for.
func (s *Sink) closePool() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.pool.Close()
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}

// Write stores entries in one transaction, all or none. Only where the database
// was too slow for that in time it stores a part at a time, so that an attempt
// that is cut off has stored something.
func (s *Sink) Write(ctx context.Context, entries []sink.Entry, refuse sink.Refuse) (sink.Result, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return sink.Result{}, err
	}
	defer done()
	if len(entries) == 0 {
		return sink.Result{}, nil
	}
	if err := s.prepare(ctx, entries); err != nil {
		return sink.Result{}, s.explain(ctx, err)
	}
	var total sink.Result
	for size := s.part(len(entries)); len(entries) > 0; {
		part := entries[:min(size, len(entries))]
		result, err := s.write(ctx, part, refuse)
		if err != nil {
			if total.Stored == 0 {
				s.shrink(len(part), err)
			}
			return total, s.explain(ctx, err)
		}
		add(&total, &result)
		entries = entries[len(part):]
	}
	s.grow()
	return total, nil
}

func add(total, more *sink.Result) {
	total.Stored += more.Stored
	total.Refused += more.Refused
	total.Checkpoints += more.Checkpoints
	total.Repeated += more.Repeated
	total.Bytes += more.Bytes
	total.Sync += more.Sync
}

// maxParts bounds the transactions of one batch. An outage makes them as small as
// can be; but the next attempt looks again at each part that is stored, and with
// too many of them it would get no further.
const maxParts = 64

// part is how many of the entries of a batch go into one transaction.
func (s *Sink) part(entries int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(entries, max(s.most, (entries+maxParts-1)/maxParts))
}

// shrink makes transactions smaller after one that took too long.
func (s *Sink) shrink(entries int, err error) {
	if !errors.Is(err, context.DeadlineExceeded) && !postgres.HasCode(err, queryCancelled) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = max(1, min(s.most, entries/2))
}

// grow makes them larger after a batch that is stored.
func (s *Sink) grow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most <= math.MaxInt/2 {
		s.most *= 2
	}
}

// Replay stores a record beside its stub, which it supersedes.
func (s *Sink) Replay(ctx context.Context, e *sink.Entry) (sink.Result, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return sink.Result{}, err
	}
	defer done()
	result, err := s.replay(ctx, e)
	if err != nil {
		return sink.Result{}, s.explain(ctx, err)
	}
	return result, nil
}

// maxTries is how often a batch is begun anew at once, because somebody who
// does not take our lock was faster.
const maxTries = 3

// rollbackTimeout bounds the wait for a server that is silent.
const rollbackTimeout = time.Second

func (s *Sink) write(ctx context.Context, entries []sink.Entry, refuse sink.Refuse) (sink.Result, error) {
	isolate := false
	for try := 1; ; try++ {
		result, err := s.transact(ctx, func(t *transaction) error {
			t.entries, t.refuse, t.isolate = entries, refuse, isolate
			return t.store(ctx)
		})
		switch fault := faultOf(err); {
		case try == maxTries || fault == nil:
			return result, err
		case isData(fault):
			isolate = true
		case fault.Code != uniqueViolation:
			return result, err
		default: // somebody else stored a coordinate: look again, then at each row
			isolate = try > 1
		}
	}
}

func (s *Sink) replay(ctx context.Context, e *sink.Entry) (sink.Result, error) {
	if err := s.prepare(ctx, []sink.Entry{*e}); err != nil {
		return sink.Result{}, err
	}
	return s.transact(ctx, func(t *transaction) error {
		t.entries = []sink.Entry{*e}
		return t.replay(ctx)
	})
}

// transact runs one attempt in a transaction. What it counted holds once that
// is committed.
func (s *Sink) transact(ctx context.Context, run func(*transaction) error) (result sink.Result, err error) {
	tx, err := s.beginTx(ctx, s.config.StatementTimeout)
	if err != nil {
		return sink.Result{}, err
	}
	defer rollback(ctx, tx)
	c := s.copiers.Get().(*copier)
	defer func() {
		c.release()
		s.copiers.Put(c)
	}()
	t := transaction{config: &s.config, tx: tx, copier: c}
	if err := run(&t); err != nil {
		return sink.Result{}, err
	}
	if err := t.confirm(ctx); err != nil {
		return sink.Result{}, err
	}
	start := time.Now()
	if err := tx.Commit(ctx); err != nil {
		return sink.Result{}, fmt.Errorf("commit: %w", postgres.Clean(err))
	}
	t.result.Sync = time.Since(start)
	return t.result, nil
}

// beginTx begins a transaction in which the server works at one statement for no
// longer than timeout. That is part of the BEGIN: whatever follows may have to
// wait for somebody's lock, and already the preparation of a statement does.
func (s *Sink) beginTx(ctx context.Context, timeout time.Duration) (pgx.Tx, error) {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: fmt.Sprintf(
		"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = %d", max(1, timeout.Milliseconds()))}) // 0 would be none
	if err != nil {
		return nil, fmt.Errorf("begin: %w", postgres.Clean(err))
	}
	return tx, nil
}

// rollback does nothing after a commit. Where it fails the pool drops the
// connection, which ends the transaction as well.
func rollback(ctx context.Context, tx pgx.Tx) {
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = tx.Rollback(soon)
}

// explain says what a person can do, where only a person can.
func (s *Sink) explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, sink.ErrClosed) {
		err = errors.Join(cause, err)
	}
	if fault := faultOf(err); fault != nil && fault.Class() == classAccess {
		s.setReady(false) // look at the tables again
	}
	if cure := s.cure(err); cure != "" && !errors.Is(err, sink.ErrOperator) {
		return fmt.Errorf("PostgreSQL: %w: %s: %w", sink.ErrOperator, cure, err)
	}
	return fmt.Errorf("PostgreSQL: %w", err)
}
