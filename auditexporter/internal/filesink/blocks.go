// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

// blockSize is the length in bytes from which on a block is closed.
const blockSize = 1 << 20

// span is a range of numbers, both ends included. The zero span is empty.
type span struct {
	low, high uint64
	used      bool
}

func (s *span) add(number uint64) {
	if !s.used {
		*s = span{number, number, true}
		return
	}
	s.low, s.high = min(s.low, number), max(s.high, number)
}

func (s *span) holds(number uint64) bool {
	return s.used && s.low <= number && number <= s.high
}

func (s *span) meets(other *span) bool {
	return s.used && other.used && s.low <= other.high && other.low <= s.high
}

// spans holds records and checkpoints apart: their numbers are of two kinds.
type spans struct{ records, checkpoints span }

func (s *spans) of(at coordinate) *span {
	if at.checkpoint {
		return &s.checkpoints
	}
	return &s.records
}

func (s *spans) add(at coordinate)        { s.of(at).add(at.number) }
func (s *spans) holds(at coordinate) bool { return s.of(at).holds(at.number) }
func (s *spans) meets(other *spans) bool {
	return s.records.meets(&other.records) || s.checkpoints.meets(&other.checkpoints)
}

// block is about blockSize bytes of whole lines in one file, and what indexes
// they may hold.
type block struct {
	file           uint64 // first number of the file
	offset, length int64
	spans          spans
}

// index is the set of what an origin has stored, coarse: per block a range. It
// is never believed when it says that a line may be there: the block is read.
// It costs about 80 bytes for each MiB stored.
type index struct {
	blocks []block
	all    spans
}

// add notes a line at the end of a file.
func (x *index) add(file uint64, offset, length int64, at coordinate) {
	last := len(x.blocks) - 1
	if last < 0 || x.blocks[last].file != file || x.blocks[last].length >= blockSize {
		x.blocks = append(x.blocks, block{file: file, offset: offset})
		last++
	}
	b := &x.blocks[last]
	b.length = offset + length - b.offset
	b.spans.add(at)
	x.all.add(at)
}
