// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/query"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// A cursor is read as it was written, and as nothing else.
func FuzzCursor(f *testing.F) {
	f.Add([]byte(`{"filter":{"actor":"u-1"},"folders":{"/a":{"file":"0.jsonl","offset":"12"}}}`))
	f.Add([]byte(`{"filter":{},"row":{"occurred_at":"2026-11-01T00:00:00.000001Z","origin":"o","index":"18446744073709551615"}}`))
	f.Add([]byte(`{"filter":{"since":"2026-11-01T00:00:00Z"},"folders":{"":{"file":"","offset":"-1"}}} x`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var said cursor
		if decode(text, &said) != nil {
			return
		}
		s := &search{filter: said.Filter}
		if said.Row != nil {
			s.database = "postgres://x"
		}
		at, err := parseCursor(text, s)
		if err != nil {
			return
		}
		written, err := json.Marshal(at)
		if err != nil {
			return // a time that RFC 3339 cannot say; it is not saved either
		}
		again, err := parseCursor(written, s)
		require.NoError(t, err)
		rewritten, err := json.Marshal(again)
		require.NoError(t, err)
		assert.Equal(t, string(written), string(rewritten))
		for _, size := range []int64{0, 12, 1 << 40} {
			if from, err := again.from(source{"/a/0.jsonl", size}); err == nil {
				assert.LessOrEqual(t, from, size)
			}
		}
	})
}

func TestCursorOfARow(t *testing.T) {
	var at cursor
	assert.Equal(t, postgres.Cursor{}, at.row())
	row := postgres.Cursor{OccurredAt: time.UnixMicro(1_800_000_000_000_001).UTC(), Origin: "o", Index: 1 << 62}
	at.moveRow(row)
	path := filepath.Join(t.TempDir(), "cursor")
	require.NoError(t, at.save(path))
	again, err := openCursor(path, &search{store: store{database: "postgres://x"}, filter: query.Filter{Since: time.Now()}})
	require.NoError(t, err, "a time is not compared: it may have been given as how long ago")
	assert.Equal(t, row, again.row())
}
