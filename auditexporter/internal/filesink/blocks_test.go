// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The index may say that a line is there which is not, never the reverse.
func TestIndexMissesNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var x index
	type line struct {
		at     coordinate
		file   uint64
		offset int64
	}
	var lines []line
	var offset int64
	for i := range uint64(5000) {
		file := i / 1000
		if i%1000 == 0 {
			offset = 0
		}
		l := line{coordinate{random.IntN(10) == 0, random.Uint64N(1 << 20)}, file, offset}
		length := random.Int64N(10_000) + 1
		x.add(file, offset, length, l.at)
		offset += length
		lines = append(lines, l)
	}
	require.Less(t, len(x.blocks), 40)
	for _, l := range lines {
		require.True(t, x.all.holds(l.at))
		var wanted spans
		wanted.add(l.at)
		found := false
		for i := range x.blocks {
			b := &x.blocks[i]
			found = found || b.spans.meets(&wanted) && b.file == l.file && b.offset <= l.offset && l.offset < b.offset+b.length
		}
		require.True(t, found, "%v", l)
	}
}

func TestSpanEdges(t *testing.T) {
	var s spans
	assert.False(t, s.holds(coordinate{false, 0}))
	s.add(coordinate{false, 0})
	assert.True(t, s.holds(coordinate{false, 0}))
	assert.False(t, s.holds(coordinate{true, 0}))
	s.add(coordinate{false, math.MaxUint64})
	assert.True(t, s.holds(coordinate{false, math.MaxUint64}))
}
