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
	most    int                 // guarded by mu: entries of the next transaction, 0 for all
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
		config: config, months: map[month]time.Time{}, preparing: make(chan struct{}, 1),
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

// closePool closes all connections. One whose network is silent is not waited
// for: it says goodbye for up to 15 s.
func (s *Sink) closePool() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.pool.Close()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}

// Write stores entries in one transaction, all or none; in several, one behind
// the other, where time was too short for that before.
func (s *Sink) Write(ctx context.Context, entries []sink.Entry, refuse sink.Refuse) (sink.Result, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return sink.Result{}, err
	}
	defer done()
	if len(entries) == 0 {
		return sink.Result{}, nil
	}
	var total sink.Result
	for portion := s.portion(len(entries)); len(entries) > 0; {
		n := min(portion, len(entries))
		result, err := s.write(ctx, entries[:n], refuse)
		if err != nil {
			if isLate(ctx, err) {
				s.narrow(n)
			}
			return total, s.explain(ctx, err)
		}
		add(&total, &result)
		entries = entries[n:]
	}
	s.widen()
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

// maxPortions bounds the transactions of one batch: too many take too long as
// well, and each attempt begins anew.
const maxPortions = 64

// portion is how many of n entries go into a transaction.
func (s *Sink) portion(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most == 0 {
		return n
	}
	return max(s.most, (n+maxPortions-1)/maxPortions)
}

// narrow has transactions be smaller, because time was too short for one of n
// entries: a batch that never fits would never be stored.
func (s *Sink) narrow(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = max(n/2, 1)
}

// widen has them be larger again, once a whole batch is stored.
func (s *Sink) widen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most *= 2; s.most > manyEntries {
		s.most = 0
	}
}

// manyEntries is more than the audit processor sends at once.
const manyEntries = 10_000

// isLate says that time was too short.
func isLate(ctx context.Context, err error) bool {
	return errors.Is(ctx.Err(), context.DeadlineExceeded) || postgres.HasCode(err, statementTimeout)
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

func (s *Sink) write(ctx context.Context, entries []sink.Entry, refuse sink.Refuse) (sink.Result, error) {
	if err := s.prepare(ctx, entries); err != nil {
		return sink.Result{}, err
	}
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
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return sink.Result{}, fmt.Errorf("begin: %w", postgres.Clean(err))
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
	start := time.Now()
	if err := tx.Commit(ctx); err != nil {
		return sink.Result{}, fmt.Errorf("commit: %w", postgres.Clean(err))
	}
	t.result.Sync = time.Since(start)
	return t.result, nil
}

// patience is how long a network that went silent is waited for where nothing
// depends on the answer.
const patience = 2 * time.Second

// rollback does nothing after a commit. Where it fails the pool drops the
// connection, which ends the transaction as well.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = tx.Rollback(ctx)
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
