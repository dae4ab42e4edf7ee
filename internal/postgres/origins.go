// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// Name says which store is read: postgres://host:port/database/schema.table,
// without who reads it and how.
func (r *Reader) Name() string {
	config := r.conn.Config()
	return "postgres://" + net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))) + "/" + config.Database + "/" + r.table.String()
}

// Newest is the record of an origin with the highest index.
type Newest struct {
	Origin   string
	Index    uint64
	SealedAt int64
}

// Origins calls visit with the newest record of each origin, in the order of
// their names. It looks once into the index for each.
func (r *Reader) Origins(ctx context.Context, visit func(Newest) error) error {
	const statement = `WITH RECURSIVE o AS (
	(SELECT origin FROM %[1]s ORDER BY origin LIMIT 1)
	UNION ALL
	SELECT (SELECT t.origin FROM %[1]s t WHERE t.origin > o.origin ORDER BY t.origin LIMIT 1) FROM o WHERE o.origin IS NOT NULL
)
SELECT o.origin, n.index, n.sealed_at FROM o
CROSS JOIN LATERAL (SELECT t.index, t.sealed_at FROM %[1]s t WHERE t.origin = o.origin ORDER BY t.index DESC LIMIT 1) n`
	rows, err := r.conn.Query(ctx, fmt.Sprintf(statement, r.table.Events()))
	if err != nil {
		return fmt.Errorf("read origins: %w", Clean(err))
	}
	defer rows.Close()
	for rows.Next() {
		var n Newest
		var index int64
		if err := rows.Scan(&n.Origin, &index, &n.SealedAt); err != nil {
			return fmt.Errorf("read origins: %w", err)
		}
		n.Index = uint64(index)
		if err := visit(n); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read origins: %w", Clean(err))
	}
	return nil
}

// Stubs counts the records that were refused and are not stored.
func (r *Reader) Stubs(ctx context.Context) (n int, err error) {
	const statement = "SELECT count(*) FROM %s s WHERE NOT EXISTS (SELECT FROM %s e WHERE e.origin = s.origin AND e.index = s.index)"
	if err := r.conn.QueryRow(ctx, fmt.Sprintf(statement, r.table.Stubs(), r.table.Events())).Scan(&n); err != nil {
		return 0, fmt.Errorf("count stubs: %w", Clean(err))
	}
	return n, nil
}

// From calls visit with at most limit records of an origin whose index is at
// least index, in their order. The row is valid until the next. An error of
// visit ends it and is returned.
func (r *Reader) From(ctx context.Context, origin string, index uint64, limit int, visit func(*Row) error) error {
	return r.records(ctx, "index >= $2 ORDER BY index", origin, index, limit, visit)
}

// Back is From with records whose index is below index, the highest first.
func (r *Reader) Back(ctx context.Context, origin string, index uint64, limit int, visit func(*Row) error) error {
	return r.records(ctx, "index < $2 ORDER BY index DESC", origin, index, limit, visit)
}

func (r *Reader) records(ctx context.Context, order, origin string, index uint64, limit int, visit func(*Row) error) error {
	statement := fmt.Sprintf("SELECT %s FROM %s WHERE origin = $1 AND %s LIMIT %d", columnList, r.table.Events(), order, limit)
	return r.rows(ctx, visit, statement, origin, int64(index))
}
