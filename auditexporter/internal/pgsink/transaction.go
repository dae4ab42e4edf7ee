// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// transaction is one attempt to store a batch. An error means that it is rolled
// back.
type transaction struct {
	config  *Config
	tx      pgx.Tx
	copier  *copier
	entries []sink.Entry
	refuse  sink.Refuse
	isolate bool // find the rows that the database refuses
	result  sink.Result
	said    server

	events, stubs map[sink.Coordinate]chain.Hash
	checkpoints   map[sink.Coordinate]checkpoint
	rows          []int // entries to copy
	refused       []int // entries whose stubs are to be stored
	points        []int // checkpoints to store
}

type checkpoint struct {
	note   []byte
	hashes []chain.Hash
}

func (t *transaction) store(ctx context.Context) error {
	if err := t.look(ctx); err != nil {
		return err
	}
	if err := t.sort(); err != nil {
		return err
	}
	if err := t.copyRows(ctx); err != nil {
		return err
	}
	return t.insertRest(ctx)
}

// confirm has a transaction that found everything stored wait for the standbys
// as one that stores does. What it found may be of an attempt that was cut off in
// that wait: then it is visible, and may still go with the primary.
func (t *transaction) confirm(ctx context.Context) error {
	if t.said.standbys == "" || t.result.Stored+t.result.Refused+t.result.Checkpoints > 0 {
		return nil
	}
	if _, err := t.tx.Exec(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, 'otelaudit', '')"); err != nil {
		return fmt.Errorf("have the standbys confirm what is stored: %w", postgres.Clean(err))
	}
	return nil
}

// share is what a batch has of one origin.
type share struct {
	origin  string
	indices []int64
	sizes   []int64 // of checkpoints
}

func (t *transaction) shares() []*share {
	byOrigin := map[string]*share{}
	var all []*share
	var last *share
	for i := range t.entries {
		e := &t.entries[i]
		if last == nil || last.origin != e.Link.Origin {
			if last = byOrigin[e.Link.Origin]; last == nil {
				last = &share{origin: e.Link.Origin}
				byOrigin[e.Link.Origin] = last
				all = append(all, last)
			}
		}
		if e.Kind == audit.LineCheckpoint {
			last.sizes = append(last.sizes, int64(e.Link.Index))
		} else {
			last.indices = append(last.indices, int64(e.Link.Index))
		}
	}
	// Everybody takes locks in the same order.
	slices.SortFunc(all, func(a, b *share) int { return bytes.Compare([]byte(a.origin), []byte(b.origin)) })
	return all
}

// look locks the origins and reads what is stored for the batch's coordinates,
// in one round trip.
func (t *transaction) look(ctx context.Context) error {
	t.events, t.stubs = map[sink.Coordinate]chain.Hash{}, map[sink.Coordinate]chain.Hash{}
	t.checkpoints = map[sink.Coordinate]checkpoint{}
	shares := t.shares()
	batch := &pgx.Batch{}
	batch.Queue("SELECT pg_catalog.set_config('enable_seqscan', 'off', true), " + settings).QueryRow(func(row pgx.Row) error {
		var scan string
		if err := row.Scan(append([]any{&scan}, t.said.into()...)...); err != nil {
			return err
		}
		return t.said.check()
	})
	for _, s := range shares {
		batch.Queue(postgres.LockOrigin, s.origin)
	}
	for _, s := range shares {
		t.lookAt(batch, s)
	}
	if err := t.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("look at what is stored: %w", postgres.Clean(err))
	}
	return nil
}

// sparse is how many times more indices than it needs a look at a whole span
// may meet.
const sparse = 4

func (t *transaction) lookAt(batch *pgx.Batch, s *share) {
	if len(s.indices) > 0 {
		lowest, highest := slices.Min(s.indices), slices.Max(s.indices)
		for _, source := range []struct {
			table string
			found map[sink.Coordinate]chain.Hash
		}{{t.config.Table.Events(), t.events}, {t.config.Table.Stubs(), t.stubs}} {
			statement := "SELECT index, hash FROM " + source.table + " WHERE origin = $1 AND index "
			var query *pgx.QueuedQuery
			if highest-lowest < sparse*int64(len(s.indices)) {
				query = batch.Queue(statement+"BETWEEN $2 AND $3", s.origin, lowest, highest)
			} else {
				query = batch.Queue(statement+"= ANY($2)", s.origin, s.indices)
			}
			query.Query(func(rows pgx.Rows) error { return scanHashes(rows, s.origin, source.found) })
		}
	}
	if len(s.sizes) > 0 {
		batch.Queue("SELECT size, note, range FROM "+t.config.Table.Checkpoints()+" WHERE origin = $1 AND size = ANY($2)", s.origin, s.sizes).
			Query(func(rows pgx.Rows) error { return t.scanCheckpoints(rows, s.origin) })
	}
}

func scanHashes(rows pgx.Rows, origin string, found map[sink.Coordinate]chain.Hash) error {
	for rows.Next() {
		var index int64
		var hash []byte
		if err := rows.Scan(&index, &hash); err != nil {
			return err
		}
		found[sink.Coordinate{Origin: origin, Index: uint64(index)}] = toHash(hash)
	}
	return rows.Err()
}

// toHash returns a hash that no record has for bytes that are none.
func toHash(stored []byte) (hash chain.Hash) {
	if len(stored) == chain.HashSize {
		copy(hash[:], stored)
	}
	return hash
}

func (t *transaction) scanCheckpoints(rows pgx.Rows, origin string) error {
	for rows.Next() {
		var size int64
		var note []byte
		var hashes [][]byte
		if err := rows.Scan(&size, &note, &hashes); err != nil {
			return err
		}
		c := checkpoint{note: note, hashes: make([]chain.Hash, len(hashes))}
		for i := range hashes {
			c.hashes[i] = toHash(hashes[i])
		}
		t.checkpoints[sink.Coordinate{Origin: origin, Checkpoint: true, Index: uint64(size)}] = c
	}
	return rows.Err()
}

// sort decides what becomes of each entry.
func (t *transaction) sort() error {
	for i := range t.entries {
		e := &t.entries[i]
		var err error
		if e.Kind == audit.LineCheckpoint {
			err = t.sortCheckpoint(i, e)
		} else {
			err = t.sortEvent(i, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) sortCheckpoint(i int, e *sink.Entry) error {
	at := e.Coordinate()
	stored, found := t.checkpoints[at]
	switch {
	case !found:
		t.checkpoints[at] = checkpoint{e.Note, e.Range}
		t.points = append(t.points, i)
	case !bytes.Equal(stored.note, e.Note) || !slices.Equal(stored.hashes, e.Range):
		return fmt.Errorf("%s: %w", at, sink.ErrConflict)
	default:
		t.result.Repeated++
	}
	return nil
}

func (t *transaction) sortEvent(i int, e *sink.Entry) error {
	at := e.Coordinate()
	stored, found := t.events[at]
	stub, stubbed := t.stubs[at]
	switch {
	case found && stored != e.Hash, stubbed && stub != e.Hash:
		return fmt.Errorf("%s: %w", at, sink.ErrConflict)
	case found:
		t.result.Repeated++
	case stubbed:
		if err := t.refuse(e, "a stub is stored for it: it was refused before"); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		t.result.Repeated++
	case len(e.Event) > canonical.MaxSize && !e.IsOurs():
		if err := t.refuse(e, fmt.Sprintf("it has %d bytes, more than the %d that a verifier reads", len(e.Event), canonical.MaxSize)); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		t.stubs[at] = e.Hash
		t.refused = append(t.refused, i)
	default:
		t.events[at] = e.Hash
		t.rows = append(t.rows, i)
	}
	return nil
}

func (t *transaction) copyRows(ctx context.Context) error {
	if len(t.rows) == 0 {
		return nil
	}
	if t.isolate {
		return t.isolateRows(ctx)
	}
	if err := t.copyAll(ctx, t.tx, t.rows); err != nil {
		return fmt.Errorf("%s: store %d records: %w", t.entries[t.rows[0]].Coordinate(), len(t.rows), err)
	}
	t.stored(len(t.rows))
	return nil
}

// stored counts rows that the last copy stored.
func (t *transaction) stored(rows int) {
	t.result.Stored += rows
	t.result.Bytes += t.copier.bytes
}

// insertRest stores stubs and checkpoints.
func (t *transaction) insertRest(ctx context.Context) error {
	if len(t.refused)+len(t.points) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	for _, i := range t.refused {
		l := &t.entries[i].Link
		batch.Queue("INSERT INTO "+t.config.Table.Stubs()+" (origin, index, stream, seq, sealed_at, prev, hash, digest)"+
			" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			l.Origin, int64(l.Index), postgres.EscapeStream(l.Stream), int64(l.Seq), l.SealedAt, l.Prev[:], t.entries[i].Hash[:], l.Digest[:]).
			Exec(func(done pgconn.CommandTag) error { return taken(done, 1, t.config.Table.Stubs()) })
	}
	for _, i := range t.points {
		e := &t.entries[i]
		hashes := make([][]byte, len(e.Range))
		for k := range e.Range {
			hashes[k] = e.Range[k][:]
		}
		batch.Queue("INSERT INTO "+t.config.Table.Checkpoints()+" (origin, size, note, range) VALUES ($1, $2, $3, $4)",
			e.Link.Origin, int64(e.Link.Index), string(e.Note), hashes).
			Exec(func(done pgconn.CommandTag) error { return taken(done, 1, t.config.Table.Checkpoints()) })
		t.result.Bytes += int64(len(e.Note))
	}
	if err := t.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("store stubs and checkpoints: %w", postgres.Clean(err))
	}
	t.result.Refused += len(t.refused)
	t.result.Checkpoints += len(t.points)
	return nil
}

// replay stores the one entry beside its stub.
func (t *transaction) replay(ctx context.Context) error {
	if err := t.look(ctx); err != nil {
		return err
	}
	e := &t.entries[0]
	at := e.Coordinate()
	stored, found := t.events[at]
	stub, stubbed := t.stubs[at]
	switch {
	case found && stored != e.Hash, stubbed && stub != e.Hash:
		return fmt.Errorf("%s: %w", at, sink.ErrConflict)
	case found:
		t.result.Repeated++
		return nil
	case !stubbed:
		return fmt.Errorf("%s: %w", at, sink.ErrNoStub)
	case len(e.Event) > canonical.MaxSize:
		return fmt.Errorf("%s: %w: it is longer than a verifier reads", at, sink.ErrRefused)
	}
	t.rows = []int{0}
	err := t.copyRows(ctx)
	if fault := faultOf(err); fault != nil && isData(fault) {
		return fmt.Errorf("%w: %w", sink.ErrRefused, err)
	}
	return err
}
