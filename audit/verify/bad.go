// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"maps"
	"slices"

	"github.com/otelaudit/otelaudit/audit/chain"
)

// maxBads bounds the unsound lines that are held until the end, where it is
// known which of them stand in the place of a record. The rest is reported at
// once.
const maxBads = 2 * MaxFindings

// bad is a line that is not sound. Its own words about where it belongs may be
// what was changed, so its neighbours are asked as well.
type bad struct {
	kind   Kind
	at     place
	detail string

	claims  bool
	claimed coordinate
	leaves  []chain.Hash // what its leaf may be: as stored, as computed

	before, after   coordinate // where its neighbours say that it belongs
	follows, leads  bool       // whether the neighbour is known
	origin          *origin    // decided at the end, nil if it belongs nowhere
	index           uint64
	decided, beside bool // beside: its coordinate has a sound line
}

// cursor is where reading stands in a file: the coordinate that has to come,
// and the unsound lines since the last sound one.
type cursor struct {
	origin *origin
	next   uint64
	run    []*bad
}

// bad takes an unsound line.
func (v *Verifier) bad(b *bad) {
	c := &v.cursor
	if c.origin != nil {
		b.follows = true
		b.before = coordinate{c.origin.full, c.next + uint64(len(c.run))}
	}
	if len(v.bads) >= maxBads {
		v.found.add(entry{
			kind: b.kind, origin: b.claimed.origin, first: b.claimed.index, last: b.claimed.index,
			indexd: b.claims, at: b.at, detail: b.detail,
		})
		return
	}
	v.bads = append(v.bads, b)
	c.run = append(c.run, b)
}

// sound tells the cursor of a sound line: the index that stands there and the
// one that has to come next. They are equal for a checkpoint.
func (v *Verifier) sound(o *origin, index, next uint64) {
	c := &v.cursor
	if len(c.run) > 0 {
		for i, b := range c.run {
			back := uint64(len(c.run) - i)
			if back <= index {
				b.leads = true
				b.after = coordinate{o.full, index - back}
			}
		}
		c.run = nil
	}
	c.origin, c.next = o, next
}

// placeBads decides, once all lines are read, which record each unsound line
// stands for.
func (v *Verifier) placeBads() {
	for _, b := range v.bads {
		v.placeBad(b)
	}
	for _, o := range v.order {
		o.filledAt = slices.Sorted(maps.Keys(o.fills))
	}
}

func (v *Verifier) placeBad(b *bad) {
	hints := make([]coordinate, 0, 2)
	if b.follows && v.vacant(b.before) {
		hints = append(hints, b.before)
	}
	if b.leads && v.vacant(b.after) {
		hints = append(hints, b.after)
	}
	switch {
	case b.claims && v.vacant(b.claimed) && (len(hints) == 0 || slices.Contains(hints, b.claimed)):
		v.fill(b, b.claimed)
	case len(hints) > 0:
		v.fill(b, hints[0])
	case b.claims:
		b.beside = !v.vacant(b.claimed) && v.origins[b.claimed.origin] != nil
	}
}

// vacant says whether nothing sound, and no other unsound line, stands at c.
func (v *Verifier) vacant(c coordinate) bool {
	o := v.origins[c.origin]
	if o == nil {
		return false
	}
	state, _ := o.table.get(c.index)
	_, filled := o.fills[c.index]
	return state == leafAbsent && !filled
}

func (v *Verifier) fill(b *bad, c coordinate) {
	o := v.origins[c.origin]
	b.origin, b.index, b.decided = o, c.index, true
	o.fills[c.index] = b
}

// reportBads reports every unsound line, each once.
func (v *Verifier) reportBads() {
	for _, b := range v.bads {
		e := entry{kind: b.kind, at: b.at, detail: b.detail}
		switch {
		case b.decided:
			e.origin, e.first, e.last, e.indexd = b.origin.full, b.index, b.index, true
		case b.claims:
			e.origin, e.first, e.last, e.indexd = b.claimed.origin, b.claimed.index, b.claimed.index, true
		}
		if b.beside && b.kind == Tampered {
			e.kind, e.detail = Inserted, "not sound, and its coordinate has a sound line"
		}
		v.found.add(e)
		if b.at.file.origin != nil {
			v.flagged[b.at.file.origin.full] = true
		}
	}
}
