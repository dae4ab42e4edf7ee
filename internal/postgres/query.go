// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Filter says which records are wanted: those that match every member that is
// set.
type Filter struct {
	Actor      string // its id
	Action     string
	TargetType string
	TargetID   string
	Tenant     string
	Outcome    string    // SUCCESS, FAILURE, DENIED, ERROR, UNKNOWN, in any case
	From       time.Time // from this time on, to the microsecond
	To         time.Time // before this time
}

// Cursor is the place of a record in the order of Query. The zero Cursor is the
// beginning.
type Cursor struct {
	OccurredAt time.Time // whole microseconds
	Origin     string
	Index      uint64
}

// Cursor returns the place of the row.
func (r *Row) Cursor() Cursor {
	return Cursor{time.UnixMicro(r.values[columnOccurredAt].number).UTC(), r.Link.Origin, r.Link.Index}
}

// Query calls visit with at most limit records that the filter wants, in the
// order of the time at which they occurred, then of origin and index, from the
// one behind after. 0 is no limit. The row is valid until the next. An error of
// visit ends it and is returned. What rows show is not verified.
func (r *Reader) Query(ctx context.Context, filter Filter, after Cursor, limit int, visit func(*Row) error) error {
	statement, arguments := r.table.query(&filter, &after, limit)
	return r.rows(ctx, visit, statement, arguments...)
}

// rows calls visit with each row of columnList that the statement finds.
func (r *Reader) rows(ctx context.Context, visit func(*Row) error, statement string, arguments ...any) error {
	arguments = append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, arguments...)
	rows, err := r.conn.Query(ctx, statement, arguments...)
	if err != nil {
		return fmt.Errorf("query: %w", Clean(err))
	}
	defer rows.Close()
	for rows.Next() {
		var row Row
		row.decode(rows.RawValues())
		if err := visit(&row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("query: %w", Clean(err))
	}
	return nil
}

// query returns the statement for a page and its arguments.
func (t Table) query(filter *Filter, after *Cursor, limit int) (statement string, arguments []any) {
	var conditions []string
	where := func(condition string, values ...any) {
		for _, v := range values {
			arguments = append(arguments, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(arguments)), 1)
		}
		conditions = append(conditions, condition)
	}
	equals := func(column, value string) {
		if value != "" {
			where(column+" = ?", value)
		}
	}
	equals("tenant_id", Shown(filter.Tenant))
	equals("actor_id", Shown(filter.Actor))
	equals("action", Shown(filter.Action))
	equals("target_type", string(escapeNUL([]byte(filter.TargetType))))
	equals("target_id", string(escapeNUL([]byte(filter.TargetID))))
	if filter.Outcome != "" { // in any case: a sender may have written a word of its own
		where(`upper(outcome COLLATE "C") = upper(?::text COLLATE "C")`, string(escapeNUL([]byte(filter.Outcome))))
	}
	if !filter.From.IsZero() {
		where("occurred_at >= ?", filter.From)
	}
	if !filter.To.IsZero() {
		where("occurred_at < ?", filter.To)
	}
	if *after != (Cursor{}) {
		// The first condition is for the index on the time, the second for the rest.
		where("occurred_at >= ?", after.OccurredAt)
		where("(occurred_at, origin, index) > (?, ?, ?)", after.OccurredAt, after.Origin, int64(after.Index))
	}
	statement = "SELECT " + columnList + " FROM " + t.Events()
	if len(conditions) > 0 {
		statement += " WHERE " + strings.Join(conditions, " AND ")
	}
	statement += " ORDER BY occurred_at, origin, index"
	if limit > 0 {
		statement += fmt.Sprintf(" LIMIT %d", limit)
	}
	return statement, arguments
}
