// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/journal"
)

func TestJournalCheck(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "journal")
	options := journal.Options{Directory: directory, Instance: "test", Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), SegmentBytes: 1}
	j, err := journal.Open(options)
	require.NoError(t, err)
	seal := func(kind journal.RecordKind, stream string) {
		require.NoError(t, j.Seal(t.Context(), &journal.Request{Kind: kind, Payload: []byte("x"), Links: []chain.Link{{Stream: stream}}}))
	}
	seal(journal.Start, "origin:")
	seal(journal.Client, "none:")
	seal(journal.Client, "none:")
	assert.Contains(t, otelaudit("journal", "check", directory).stdout, "in use by a collector")
	require.NoError(t, j.Close())

	out := otelaudit("journal", "check", directory)
	assert.Equal(t, exitSound, out.code, out.stderr)
	assert.Contains(t, out.stdout, "undelivered:  2 records of clients, 3 bytes")
	var report journal.CheckReport
	out = otelaudit("journal", "check", "--json", directory)
	require.NoError(t, json.Unmarshal([]byte(out.stdout), &report))
	assert.Equal(t, uint64(3), report.Size)

	segments, err := filepath.Glob(filepath.Join(directory, "*.segment"))
	require.NoError(t, err)
	require.Greater(t, len(segments), 1)
	content, err := os.ReadFile(segments[0])
	require.NoError(t, err)
	content[len(content)-1] ^= 1
	require.NoError(t, os.WriteFile(segments[0], content, 0o600))
	out = otelaudit("journal", "check", directory)
	assert.Equal(t, exitBroken, out.code)
	assert.Contains(t, out.stderr, segments[0])
	assert.Contains(t, out.stderr, "keep a copy of the directory")

	assert.Equal(t, exitRead, otelaudit("journal", "check", t.TempDir()).code)
	for _, args := range [][]string{{"journal"}, {"journal", "repair"}, {"journal", "check"}, {"journal", "check", "a", "b"}, {"journal", "check", "--odd", "a"}} {
		assert.Equal(t, exitUsage, otelaudit(args...).code, "%v", args)
	}
}
