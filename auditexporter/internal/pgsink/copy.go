// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// copier derives rows while the database stores those before. Safe for
// concurrent use.
type copier struct {
	mu      sync.Mutex
	deriver postgres.Deriver
	encoded []byte // memory for what is encoded
	pending []byte // encoded and not yet read
	entries []sink.Entry
	rows    []int    // entries that are not yet encoded
	ended   bool     // the end of the rows is encoded, too
	bytes   int64    // of what was read
	reading *reading // the one that may read, nil between two
}

// reading is what the connection reads one COPY from. A connection that was lost
// may go on reading: of the COPY that comes next it must not get anything.
type reading struct{ copier *copier }

var errStopped = errors.New("copy has ended")

// start begins anew with the given rows of entries.
func (c *copier) start(entries []sink.Entry, rows []int) *reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.rows, c.ended, c.bytes, c.reading = entries, rows, false, 0, &reading{c}
	c.encoded = append(c.encoded[:0], postgres.CopySignature...)
	c.pending = c.encoded
	return c.reading
}

// stop waits for a read that runs and lets go of the entries.
func (c *copier) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.rows, c.pending, c.reading = nil, nil, nil, nil
}

// Read implements io.Reader.
func (r *reading) Read(b []byte) (n int, err error) {
	c := r.copier
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading != r {
		return 0, errStopped
	}
	for n < len(b) {
		if len(c.pending) == 0 && !c.next() {
			break
		}
		copied := copy(b[n:], c.pending)
		c.pending = c.pending[copied:]
		n += copied
	}
	c.bytes += int64(n)
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// next encodes the next row, or the end; false if that was.
func (c *copier) next() bool {
	c.encoded = c.encoded[:0]
	switch {
	case len(c.rows) > 0:
		e := &c.entries[c.rows[0]]
		c.rows = c.rows[1:]
		row := c.deriver.Derive(e.Resource.Resource(), e.Record, &e.Link, e.Hash, e.Event)
		c.encoded = row.AppendCopy(c.encoded)
	case !c.ended:
		c.ended = true
		c.encoded = append(c.encoded, postgres.CopyEnd...)
	default:
		return false
	}
	c.pending = c.encoded
	return true
}

// keepMemory is the size in bytes up to which a copier's memory is kept.
const keepMemory = 1 << 20

func (c *copier) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cap(c.encoded) > keepMemory {
		c.encoded, c.deriver = nil, postgres.Deriver{}
	}
}

// copyAll sends rows to the database in one statement.
func (t *transaction) copyAll(ctx context.Context, tx pgx.Tx, rows []int) error {
	from := t.copier.start(t.entries, rows)
	defer t.copier.stop()
	done, err := tx.Conn().PgConn().CopyFrom(ctx, from, t.config.Table.CopyStatement())
	if err != nil {
		return postgres.Clean(err)
	}
	return taken(done, len(rows), t.config.Table.Events())
}

// taken returns an error unless the database took all rows: a trigger can drop
// some, of which nothing else tells.
func taken(done pgconn.CommandTag, rows int, table string) error {
	if n := done.RowsAffected(); n != int64(rows) {
		return fmt.Errorf("%w: the table %s took %d of %d rows: remove the trigger or the rule that drops them", sink.ErrOperator, table, n, rows)
	}
	return nil
}
