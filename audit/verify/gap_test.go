// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/verify"
)

// without removes the records of the first life from first to last, and the
// checkpoints that cover more than first and at most last.
func (s store) without(t *testing.T, origin string, first, last uint64) {
	t.Helper()
	for _, f := range s {
		var kept [][]byte
		for _, text := range f.lines {
			line, err := audit.ParseLine(text)
			require.NoError(t, err)
			index := line.Link.Index
			if line.Kind == audit.LineCheckpoint {
				index = checkpointSize(t, text)
			}
			if !bytes.HasPrefix([]byte(f.name), []byte(origin)) || index < first || index > last {
				kept = append(kept, text)
			}
		}
		f.lines = kept
	}
}

func checkpointSize(t *testing.T, text []byte) uint64 {
	t.Helper()
	size, err := strconv.ParseUint(string(bytes.Split(text, []byte(`\n`))[1]), 10, 64)
	require.NoError(t, err)
	return size
}

// An optional sink that was away has gaps. The verifier names each, and from
// the next checkpoint on it proves, and finds, what it would without them.
func TestCopyWithGaps(t *testing.T) {
	s := standard(t, testKey("key"))
	life := s.files[0].name[:len(s.files[0].name)-len("/00000000000000000000.jsonl")]
	for name, c := range map[string]struct {
		gaps   [][2]uint64
		change string // index of a record that is changed as well
		want   map[verify.Kind][]string
	}{
		"between two checkpoints": {gaps: [][2]uint64{{15, 17}}, want: map[verify.Kind][]string{verify.Missing: {"15"}}},
		"over a checkpoint":       {gaps: [][2]uint64{{10, 28}}, want: map[verify.Kind][]string{verify.Missing: {"10"}}},
		"two gaps":                {gaps: [][2]uint64{{3, 4}, {30, 30}}, want: map[verify.Kind][]string{verify.Missing: {"3", "30"}}},
		"a change behind it": {
			gaps: [][2]uint64{{10, 28}}, change: "40",
			want: map[verify.Kind][]string{verify.Missing: {"10"}, verify.Tampered: {"40"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := s.files.clone()
			for _, gap := range c.gaps {
				damaged.without(t, life, gap[0], gap[1])
			}
			if c.change != "" {
				replace(t, damaged.line(t, life, c.change), `user-`, `User-`)
			}
			report := check(t, damaged, verify.Options{Keys: []ed25519.PublicKey{public(testKey("key"))}})
			got := map[verify.Kind][]string{}
			for _, f := range report.Findings {
				if f.Kind.Integrity() {
					got[f.Kind] = append(got[f.Kind], f.Index)
					assert.Equal(t, life, f.Origin)
				}
			}
			assert.Equal(t, c.want, got, describe(report))
			require.Len(t, report.Logs[0].Lives, 2)
			assert.Equal(t, "50", report.Logs[0].Lives[0].Verified, "the tail is proven")
		})
	}
}
