// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"

	"github.com/otelaudit/otelaudit/audit/chain"
)

// leafState says what is stored at an index.
type leafState uint8

const (
	leafAbsent leafState = iota
	leafStub             // a stub only
	leafEvent            // the record itself
)

const (
	pageLeaves    = 256
	pageBytes     = pageLeaves * (chain.HashSize + 1)
	residentPages = 8_192 // about 69 MB
)

// page holds the leaves of 256 neighbouring indexes.
type page struct {
	states [pageLeaves]leafState
	hashes [pageLeaves]chain.Hash
	dirty  bool
}

// slot is where a page is: in memory, or at a place of the spill.
type slot struct {
	page    *page
	spilled int64 // place + 1, 0 if it was never written
}

// table remembers the leaf of every index of one origin, 33 bytes each, so
// that a repeat can be compared and a root computed again whatever order the
// lines came in.
type table struct {
	pager *pager
	slots map[uint64]*slot
	// The page of the last access: lines come in order, mostly.
	last       *page
	lastNumber uint64
}

func newTable(p *pager) *table { return &table{pager: p, slots: map[uint64]*slot{}} }

func (t *table) get(index uint64) (leafState, chain.Hash) {
	p := t.page(index/pageLeaves, false)
	if p == nil {
		return leafAbsent, chain.Hash{}
	}
	i := index % pageLeaves
	return p.states[i], p.hashes[i]
}

func (t *table) put(index uint64, state leafState, hash *chain.Hash) {
	p := t.page(index/pageLeaves, true)
	i := index % pageLeaves
	p.states[i], p.hashes[i], p.dirty = state, *hash, true
}

func (t *table) page(number uint64, create bool) *page {
	if t.last != nil && t.lastNumber == number {
		return t.last
	}
	s := t.slots[number]
	if s == nil {
		if !create {
			return nil
		}
		s = &slot{}
		t.slots[number] = s
	}
	if s.page == nil {
		t.pager.load(s, t)
	}
	t.last, t.lastNumber = s.page, number
	return s.page
}

// missing calls yield for every run [from, to) of absent indexes between start
// and end, in order, until it returns false. Absent pages cost nothing.
func (t *table) missing(start, end uint64, yield func(from, to uint64) bool) {
	numbers := make([]uint64, 0, len(t.slots))
	for number := range t.slots {
		if number >= start/pageLeaves && number <= end/pageLeaves {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	from := start // everything from here up to the index looked at is absent
	for _, number := range numbers {
		p := t.page(number, false)
		for i, state := range p.states {
			index := number*pageLeaves + uint64(i)
			if index < start || index >= end || state == leafAbsent {
				continue
			}
			if from < index && !yield(from, index) {
				return
			}
			from = index + 1
		}
	}
	if from < end {
		yield(from, end)
	}
}

// pager bounds the pages in memory, first in first out, where there is a
// spill.
type pager struct {
	spill    Spill
	resident []resident
	next     int64 // place of the next page that is spilled
	err      error // first failure of the spill
	buffer   []byte
}

type resident struct {
	slot  *slot
	table *table
}

func (p *pager) load(s *slot, t *table) {
	if p.spill != nil && len(p.resident) >= residentPages {
		p.evict()
	}
	s.page = &page{}
	if s.spilled > 0 && p.err == nil {
		p.read(s)
	}
	p.resident = append(p.resident, resident{s, t})
}

// evict writes the older half of the pages out.
func (p *pager) evict() {
	half := len(p.resident) / 2
	for _, r := range p.resident[:half] {
		if r.slot.page.dirty {
			p.write(r.slot)
		}
		if r.table.last == r.slot.page {
			r.table.last = nil
		}
		r.slot.page = nil
	}
	p.resident = slices.Delete(p.resident, 0, half)
}

func (p *pager) write(s *slot) {
	if s.spilled == 0 {
		p.next++
		s.spilled = p.next
	}
	p.buffer = p.buffer[:0]
	for i := range s.page.hashes {
		p.buffer = append(p.buffer, byte(s.page.states[i]))
		p.buffer = append(p.buffer, s.page.hashes[i][:]...)
	}
	if _, err := p.spill.WriteAt(p.buffer, (s.spilled-1)*pageBytes); err != nil && p.err == nil {
		p.err = fmt.Errorf("write to the spill: %w", err)
	}
}

func (p *pager) read(s *slot) {
	p.buffer = slices.Grow(p.buffer[:0], pageBytes)[:pageBytes]
	if _, err := p.spill.ReadAt(p.buffer, (s.spilled-1)*pageBytes); err != nil {
		p.err = fmt.Errorf("read from the spill: %w", err)
		return
	}
	for i := range s.page.hashes {
		entry := p.buffer[i*(chain.HashSize+1):]
		s.page.states[i] = leafState(entry[0])
		copy(s.page.hashes[i][:], entry[1:])
	}
}
