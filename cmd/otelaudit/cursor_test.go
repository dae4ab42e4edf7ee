// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/query"
)

// A cursor is read as it was written, and as nothing else.
func FuzzCursor(f *testing.F) {
	f.Add([]byte(`{"filter":{"actor":"u-1"},"folders":{"/a":{"file":"0.jsonl","offset":"12"}}}`))
	f.Add([]byte(`{"filter":{},"folders":{"/a":{"file":"1.jsonl","offset":"12","last":{"bytes":"12","sha256":"00"}}}}`))
	f.Add([]byte(`{"filter":{},"origins":{"o":{"next":"18446744073709551615","gaps":[{"from":"1","below":"3"}]},"p":null}}`))
	f.Add([]byte(`{"filter":{"since":"2026-11-01T00:00:00Z"},"folders":{"":{"file":"","offset":"-1"}}} x`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var said cursor
		if decode(text, &said) != nil {
			return
		}
		s := &search{filter: said.Filter}
		if said.Origins != nil {
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

func TestCursorOfADatabase(t *testing.T) {
	var at cursor
	at.origin("o").take(1 << 62)
	path := filepath.Join(t.TempDir(), "cursor")
	require.NoError(t, at.save(path))
	again, err := openCursor(path, &search{store: store{database: "postgres://x"}, filter: query.Filter{Since: time.Now()}})
	require.NoError(t, err, "a time is not compared: it may have been given as how long ago")
	assert.Equal(t, at.Origins, again.Origins)
	assert.Equal(t, &originMark{}, again.origin("p"))
}

// What is read is not read again, and what was not there is still looked for.
func TestOriginMark(t *testing.T) {
	var m originMark
	for _, index := range []uint64{3, 4, 9, 7, 5, 6, 0, 0, 9} {
		m.take(index)
	}
	assert.Equal(t, []gap{{1, 3}, {8, 9}, {10, math.MaxInt64}}, m.unread())
}
