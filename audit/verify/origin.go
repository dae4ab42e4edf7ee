// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"math"
	"slices"

	"github.com/otelaudit/otelaudit/audit/chain"
)

const (
	// maxAlternatives bounds the second lines for one coordinate that are
	// held, per origin, until something decides between them.
	maxAlternatives = 4_096
	// maxBreaks bounds the breaks of streams that are held per region.
	maxBreaks = 64
)

// fact is what one sound line says.
type fact struct {
	index, seq uint64
	prev, hash chain.Hash
	stream     string
	sealedAt   int64
	state      leafState
	at         place
}

// brk is a record that does not follow the one before it in its stream.
type brk struct {
	index uint64
	at    place
}

// origin is the state of one origin. Lines go through it in the order of their
// index: one that comes early waits, one that comes late only leaves its leaf.
//
//	0 ……… anchor ……… next ……… waiting
//	  sound   │ tree so far │
type origin struct {
	full  string
	name  chain.Origin
	table *table
	heads *heads // nil once the next life has taken it over

	next     uint64 // every index below was read, or given up as missing
	frontier uint64 // one more than the highest coordinate read so far
	records  uint64 // distinct coordinates with a sound line

	live bool       // tree holds the leaves below next
	tree chain.Tree // of the leaves below next
	// anchor is the newest tree that a checkpoint confirmed, or whose
	// compact range it brought; at first the empty tree.
	anchor   chain.Tree
	anchored bool // by a checkpoint, not by being empty
	recent   []fact
	breaks   []brk

	early       map[uint64]*fact    // by index
	earlyPoints map[uint64][]*point // by size

	regions      []region // between two anchors, to be looked at again at the end
	alternatives map[uint64][]*fact
	fills        map[uint64]*bad // unsound lines that stand for a record
	filledAt     []uint64        // the keys of fills in order

	verified   uint64     // size of the newest trusted checkpoint
	root       chain.Hash // its root
	points     int        // checkpoints that count: trusted, or without a key so far
	undecided  []*point   // without a key so far
	doubtful   bool       // the newest anchor is undecided
	expect     map[uint64]bool
	roots      map[uint64]chain.Hash // at the sizes of expect
	starts     []control
	stops      []control
	controlSeq uint64 // lowest seq seen in the stream `origin:`

	life
}

// region is what lies between two anchors and was not confirmed on the way.
type region struct {
	from, to uint64
	start    chain.Tree // of the leaves below from
	root     chain.Hash // at to, if signed
	signed   bool
	at       place // of the checkpoint at to
	breaks   []brk
	recent   []fact // the facts from `from` on, as far as held
}

func (v *Verifier) newOrigin(name chain.Origin) *origin {
	o := &origin{
		full: name.String(), name: name, table: newTable(&v.pager), live: true,
		early: map[uint64]*fact{}, earlyPoints: map[uint64][]*point{},
		alternatives: map[uint64][]*fact{}, fills: map[uint64]*bad{},
		expect: map[uint64]bool{}, roots: map[uint64]chain.Hash{},
		controlSeq: math.MaxUint64,
	}
	for i := range v.given {
		if v.given[i].Origin == o.full {
			o.expect[v.given[i].Size] = true
		}
	}
	for _, life := range v.options.Floors[name.Log()].Lives {
		if life.Origin == o.full {
			o.expect[life.Size] = true
		}
	}
	return o
}

// add takes a sound line of o.
func (v *Verifier) add(o *origin, f *fact) {
	if f.state == leafStub {
		v.stubs[coordinate{o.full, f.index}] = f.at
	}
	switch {
	case f.index == o.next:
		v.inOrder(o, f)
		v.process(o, f)
		v.drain(o)
	case f.index > o.next:
		if waiting := o.early[f.index]; waiting != nil {
			v.again(o, f, waiting.state, waiting.hash, waiting)
			return
		}
		v.inOrder(o, f)
		held := *f
		o.early[f.index] = &held
		v.hold(o)
	default:
		v.late(o, f)
	}
}

func (v *Verifier) inOrder(o *origin, f *fact) {
	if f.index < o.frontier {
		v.reordered(o, f.index, f.at)
	}
	o.frontier = max(o.frontier, f.index+1)
}

// late takes a line whose turn is over.
func (v *Verifier) late(o *origin, f *fact) {
	state, hash := o.table.get(f.index)
	if state != leafAbsent {
		v.again(o, f, state, hash, nil)
		return
	}
	o.table.put(f.index, f.state, &f.hash)
	o.records++
	v.reordered(o, f.index, f.at)
}

// again takes a second line for a coordinate.
func (v *Verifier) again(o *origin, f *fact, state leafState, hash chain.Hash, waiting *fact) {
	c := coordinate{o.full, f.index}
	switch {
	case f.hash != hash:
		v.other(o, f)
	case state == leafStub && f.state == leafEvent:
		delete(v.stubs, c)
		if waiting != nil {
			waiting.state = leafEvent
			return
		}
		o.table.put(f.index, leafEvent, &hash)
	case state == leafEvent && f.state == leafStub:
		delete(v.stubs, c)
	default:
		v.found.add(entry{
			kind: Duplicate, origin: o.full, first: f.index, last: f.index, indexd: true, at: f.at,
			detail: "the same line is stored elsewhere",
		})
	}
}

// other takes a sound line whose coordinate has another sound line.
func (v *Verifier) other(o *origin, f *fact) {
	if o.confirmed(f.index) {
		v.inserted(o, f.index, f.at, "the signed tree has another record at this index")
		return
	}
	if len(o.alternatives) >= maxAlternatives && o.alternatives[f.index] == nil {
		v.conflict(o, f)
		return
	}
	for _, have := range o.alternatives[f.index] {
		if have.hash == f.hash {
			return
		}
	}
	held := *f
	o.alternatives[f.index] = append(o.alternatives[f.index], &held)
}

// confirmed says whether a trusted checkpoint has confirmed the leaf at index.
func (o *origin) confirmed(index uint64) bool {
	if !o.anchored || o.doubtful || index >= o.anchor.Size() {
		return false
	}
	for i := range o.regions {
		if index >= o.regions[i].from && index < o.regions[i].to {
			return false
		}
	}
	return true
}

func (v *Verifier) inserted(o *origin, index uint64, at place, detail string) {
	v.found.add(entry{kind: Inserted, origin: o.full, first: index, last: index, indexd: true, at: at, detail: detail})
}

func (v *Verifier) conflict(o *origin, f *fact) {
	v.found.add(entry{
		kind: Conflict, origin: o.full, first: f.index, last: f.index, indexd: true, at: f.at,
		detail: "another sound line has this coordinate and nothing decides between them",
	})
}

// process takes the line whose turn it is.
func (v *Verifier) process(o *origin, f *fact) {
	if o.heads == nil && f.index == 0 {
		v.inherit(o, f)
	}
	if o.heads == nil {
		o.heads = newHeads(false)
	}
	if !o.heads.follow(f) && len(o.breaks) < maxBreaks {
		o.breaks = append(o.breaks, brk{f.index, f.at})
	}
	o.table.put(f.index, f.state, &f.hash)
	o.records++
	if len(o.recent) < v.window {
		o.recent = append(o.recent, *f)
	}
	o.grow(&f.hash)
}

// grow moves on by one leaf.
func (o *origin) grow(leaf *chain.Hash) {
	o.next++
	if !o.live {
		return
	}
	o.tree.Append(*leaf)
	if len(o.expect) > 0 && o.expect[o.next] {
		o.roots[o.next] = o.tree.Root()
	}
}

// inherit takes over the stream heads of the life before, where this one goes
// on exactly where that one ended.
func (v *Verifier) inherit(o *origin, f *fact) {
	start := startOf(o, f.hash)
	if start == nil {
		return
	}
	if start.previous == "" {
		o.heads = newHeads(true)
		return
	}
	before := v.origins[start.previous]
	if before == nil || before == o || before.heads == nil || !before.live || before.next != start.previousSize ||
		before.tree.Root() != start.previousRoot || before.name.Log() != o.name.Log() {
		return
	}
	o.heads, before.heads = before.heads, nil
}

// drain goes on with what waited.
func (v *Verifier) drain(o *origin) {
	if len(o.early) == 0 && len(o.earlyPoints) == 0 {
		return
	}
	for {
		if points := o.earlyPoints[o.next]; points != nil {
			delete(o.earlyPoints, o.next)
			v.held -= len(points)
			for _, p := range points {
				v.settle(o, p)
			}
		}
		f := o.early[o.next]
		if f == nil {
			return
		}
		delete(o.early, f.index)
		v.held--
		v.process(o, f)
	}
}

// hold counts a line that waits. Beyond the window the origin goes on without
// the lines between.
func (v *Verifier) hold(o *origin) {
	v.held++
	if v.held > v.window {
		v.skipTo(o, math.MaxUint64)
	}
}

// skipTo goes on to target, or as far as anything waits, leaving gaps.
func (v *Verifier) skipTo(o *origin, target uint64) {
	waiting := make([]uint64, 0, len(o.early)+len(o.earlyPoints))
	for index := range o.early {
		waiting = append(waiting, index)
	}
	for size := range o.earlyPoints {
		waiting = append(waiting, size)
	}
	slices.Sort(waiting)
	for _, index := range waiting {
		if index > target {
			break
		}
		if index > o.next {
			o.skip(index)
		}
		v.drain(o)
	}
	if target != math.MaxUint64 && target > o.next {
		o.skip(target)
	}
}

// skip leaves a gap up to index.
func (o *origin) skip(index uint64) {
	o.live = false
	o.next = index
	if o.heads != nil {
		o.heads.gap()
	}
}
