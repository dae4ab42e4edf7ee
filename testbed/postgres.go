// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ReadPostgres reads everything that the tables of docs/postgres.md hold. An
// event whose column does not name the record that its canonical bytes are is
// an error.
func ReadPostgres(ctx context.Context, dsn string) (s Stored, err error) {
	connection, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return Stored{}, fmt.Errorf("read store: %w", err)
	}
	defer func() {
		if err = errors.Join(err, connection.Close(ctx)); err != nil {
			err = fmt.Errorf("read store: %w", err)
		}
	}()
	s = newStored()
	if err := s.readEvents(ctx, connection); err != nil {
		return s, err
	}
	if err := s.readStubs(ctx, connection); err != nil {
		return s, err
	}
	err = connection.QueryRow(ctx, "SELECT count(*) FROM audit_events_checkpoints").Scan(&s.Checkpoints)
	if err != nil {
		return s, err
	}
	err = connection.QueryRow(ctx, `SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
		WHERE relkind = 'r' AND relname LIKE 'audit\_events%'`).Scan(&s.Bytes)
	return s, err
}

func (s *Stored) readEvents(ctx context.Context, connection *pgx.Conn) error {
	rows, err := connection.Query(ctx, "SELECT coalesce(event_id, ''), stream, encode(hash, 'hex'), canonical FROM audit_events")
	if err != nil {
		return err
	}
	var (
		id, stream, hash string
		canonical        []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &stream, &hash, &canonical}, func() error {
		before := s.Controls
		if err := s.addEvent(stream, hash, canonical); err != nil {
			return err
		}
		if s.Controls == before && s.Hashes[id] != hash {
			return fmt.Errorf("column event_id is %q in another event's row", id)
		}
		return nil
	})
	return err
}

func (s *Stored) readStubs(ctx context.Context, connection *pgx.Conn) error {
	rows, err := connection.Query(ctx, "SELECT encode(hash, 'hex') FROM audit_events_stubs")
	if err != nil {
		return err
	}
	var hash string
	_, err = pgx.ForEachRow(rows, []any{&hash}, func() error {
		s.Stubs[hash]++
		return nil
	})
	return err
}
