// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// copier derives rows while the database stores those before: it is what the
// connection reads a COPY from. Safe for concurrent use.
type copier struct {
	mu      sync.Mutex
	deriver postgres.Deriver
	encoded []byte // memory for what is encoded
	pending []byte // encoded and not yet read
	entries []sink.Entry
	rows    []int // entries that are not yet encoded
	ended   bool  // the end of the rows is encoded, too
	stopped bool
	bytes   int64 // of what was read
}

var errStopped = errors.New("copy has ended")

// start begins anew with the given rows of entries.
func (c *copier) start(entries []sink.Entry, rows []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.rows, c.ended, c.stopped, c.bytes = entries, rows, false, false, 0
	c.encoded = append(c.encoded[:0], postgres.CopySignature...)
	c.pending = c.encoded
}

// stop waits for a read that runs and lets go of the entries. A connection that
// was lost may go on reading.
func (c *copier) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.rows, c.pending, c.stopped = nil, nil, nil, true
}

// Read implements io.Reader.
func (c *copier) Read(b []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
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
	t.copier.start(t.entries, rows)
	defer t.copier.stop()
	_, err := tx.Conn().PgConn().CopyFrom(ctx, t.copier, t.config.Table.CopyStatement())
	return postgres.Clean(err)
}
