// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

const (
	filterBlock  = 64 // bytes
	bitsPerEntry = 16
	filterProbes = 6

	blockBits = 8 * filterBlock
	probeBits = 9 // a number of a bit in a block
)

// idFilter is a Bloom filter in blocks: each id has its bits in one of them.
// IDs are as good as random, so their own bits serve as its hashes.
type idFilter []byte

// filterBlocks is how many blocks the filter of so many ids has.
func filterBlocks(ids int) int { return max(1, (ids*bitsPerEntry+blockBits-1)/blockBits) }

func (f idFilter) add(id ID) {
	block := f[filterBlock*blockOf(id, len(f)/filterBlock):][:filterBlock]
	for probes, i := probesOf(id), 0; i < filterProbes; i++ {
		block[probes%blockBits/8] |= 1 << (probes % 8)
		probes >>= probeBits
	}
}

func blockOf(id ID, blocks int) int {
	return int(uint64(binary.BigEndian.Uint32(id[:4])) * uint64(blocks) >> 32)
}

func probesOf(id ID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

// matrixFiles is how many files a matrix tells apart.
const matrixFiles = 64

// idMatrix is the filters of up to 64 files, turned: a row for each bit of a
// filter, a column for each file. What asking one filter costs asks them all.
type idMatrix struct {
	blocks int      // of each of its filters
	rows   []uint64 // guarded by the store's mu, as is all that follows
	files  [matrixFiles]*idFile
	used   uint64 // columns that belong to a file
}

// candidates returns the columns of the files that may have the id.
func (m *idMatrix) candidates(id ID) uint64 {
	rows := m.rows[blockBits*blockOf(id, m.blocks):][:blockBits]
	columns := m.used
	for probes, i := probesOf(id), 0; i < filterProbes && columns != 0; i++ {
		columns &= rows[probes%blockBits]
		probes >>= probeBits
	}
	return columns
}

// put gives a file a column. mu is held for a block at a time: a sealer that
// asks meanwhile does not wait.
func (m *idMatrix) put(file *idFile, mu *sync.Mutex) {
	column := bits.TrailingZeros64(^m.used)
	for block := range m.blocks {
		filter := file.filter[filterBlock*block:][:filterBlock]
		mu.Lock()
		for i := range blockBits { // the last file of the column has left its bits
			row := &m.rows[blockBits*block+i]
			*row = *row&^(1<<column) | uint64(filter[i/8]>>(i%8)&1)<<column
		}
		mu.Unlock()
	}
	mu.Lock()
	m.files[column] = file
	m.used |= 1 << column
	mu.Unlock()
	file.filter = nil
}

// drop takes a file out; it is false if the file is not in m.
func (m *idMatrix) drop(file *idFile) bool {
	for column := range m.files {
		if m.files[column] == file {
			m.files[column] = nil
			m.used &^= 1 << column
			return true
		}
	}
	return false
}
