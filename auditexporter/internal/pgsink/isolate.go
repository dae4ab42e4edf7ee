// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// poison is an entry that the database refuses for what it holds.
type poison struct {
	entry int
	fault *postgres.Fault
}

// isolateRows stores the rows that the database takes and sets the others
// aside.
//
// A row is poison only beside one that is taken: a column that somebody added,
// or a constraint that nothing keeps, would otherwise empty everything into
// quarantine.
func (t *transaction) isolateRows(ctx context.Context) error {
	if _, err := t.tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return fmt.Errorf("find the records that are refused: %w", postgres.Clean(err))
	}
	poisons, err := t.halve(ctx, t.rows)
	if err != nil || len(poisons) == 0 {
		return err
	}
	if t.result.Stored == 0 {
		if err := t.witness(ctx); err != nil {
			return err
		}
	}
	for _, p := range poisons {
		e := &t.entries[p.entry]
		reason := "PostgreSQL refuses it for what it holds " + p.fault.Error()
		if e.IsOurs() {
			return fmt.Errorf("%s: %w: the table refuses what the collector itself sealed %w: remove what forbids it",
				e.Coordinate(), sink.ErrOperator, p.fault)
		}
		if err := t.refuse(e, reason); err != nil {
			return fmt.Errorf("%s: %w", e.Coordinate(), err)
		}
		t.refused = append(t.refused, p.entry)
	}
	return nil
}

// halve stores rows, if need be in halves, and returns those that are refused
// even alone.
func (t *transaction) halve(ctx context.Context, rows []int) ([]poison, error) {
	err := t.attempt(ctx, func(nested pgx.Tx) error { return t.copyAll(ctx, nested, rows) })
	fault := faultOf(err)
	switch {
	case err == nil:
		t.stored(len(rows))
		return nil, nil
	case fault == nil || !isData(fault) && fault.Code != uniqueViolation:
		return nil, fmt.Errorf("%s: store %d records: %w", t.entries[rows[0]].Coordinate(), len(rows), err)
	case len(rows) == 1 && fault.Code == uniqueViolation:
		return t.twice(ctx, rows[0], fault)
	case len(rows) == 1:
		return []poison{{rows[0], fault}}, nil
	}
	left, err := t.halve(ctx, rows[:len(rows)/2])
	if err != nil {
		return nil, err
	}
	right, err := t.halve(ctx, rows[len(rows)/2:])
	return append(left, right...), err
}

// attempt runs store in a savepoint, which it keeps if that succeeds.
func (t *transaction) attempt(ctx context.Context, store func(pgx.Tx) error) error {
	nested, err := t.tx.Begin(ctx)
	if err != nil {
		return postgres.Clean(err)
	}
	if err := store(nested); err != nil {
		if undo := nested.Rollback(ctx); undo != nil {
			return fmt.Errorf("roll back to the savepoint: %w", postgres.Clean(undo))
		}
		return err
	}
	return postgres.Clean(nested.Commit(ctx))
}

// twice decides about a row that a unique key refuses: somebody who does not
// take our lock has stored the coordinate meanwhile, or there is a key of
// somebody else's and the row is poison.
func (t *transaction) twice(ctx context.Context, row int, fault *postgres.Fault) ([]poison, error) {
	e := &t.entries[row]
	var stored []byte
	err := t.tx.QueryRow(ctx, "SELECT hash FROM "+t.config.Table.Events()+" WHERE origin = $1 AND index = $2",
		e.Link.Origin, int64(e.Link.Index)).Scan(&stored)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return []poison{{row, fault}}, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", e.Coordinate(), postgres.Clean(err))
	case toHash(stored) != e.Hash:
		return nil, fmt.Errorf("%s: %w", e.Coordinate(), sink.ErrConflict)
	}
	t.result.Repeated++
	return nil, nil
}

var errWitness = errors.New("taken")

// witness stores a record that says nothing, and takes it back. Where that is
// refused as well, the table is at fault and not the records.
func (t *transaction) witness(ctx context.Context) error {
	e := sink.Entry{
		Link: chain.Link{Origin: "witness", Stream: audit.StreamNone, Seq: 1}, Event: []byte(`{"record":{}}`),
		Resource: plog.NewResourceLogs(), Record: plog.NewLogRecord(),
	}
	alone := transaction{config: t.config, copier: t.copier, entries: []sink.Entry{e}}
	err := t.attempt(ctx, func(nested pgx.Tx) error {
		if err := alone.copyAll(ctx, nested, []int{0}); err != nil {
			return err
		}
		return errWitness
	})
	if errors.Is(err, errWitness) {
		return nil
	}
	if fault := faultOf(err); fault != nil && (isData(fault) || fault.Code == uniqueViolation) {
		return fmt.Errorf("%w: the table %s refuses every record, even an empty one: remove the constraint or the column that forbids it: %w",
			sink.ErrOperator, t.config.Table, fault)
	}
	return fmt.Errorf("store a witness: %w", err)
}
