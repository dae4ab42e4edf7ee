// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/otelaudit/otelaudit/audit/chain"
)

// life is what is known of an origin as one life of its log, once all lines
// are read.
type life struct {
	end      uint64 // one more than the highest index that belongs to it
	headGap  uint64 // indexes below are not stored
	start    *control
	stop     *control // the one that ends it
	children []*origin
	covered  uint64 // size of the newest given checkpoint that fits
	closed   bool   // ends with a stop under a trusted checkpoint
	proven   uint64 // every index below is covered by a signature, see prove
}

// history is one log: its lives, oldest first.
type history struct {
	name  string
	lives []*origin
	open  bool // head or tail is not proven
}

// startOf returns the start record of o whose leaf is at index 0.
func startOf(o *origin, leaf chain.Hash) *control {
	for i := range o.starts {
		if o.starts[i].leaf == leaf {
			return &o.starts[i]
		}
	}
	return nil
}

// readLives finds out, for every origin, how it begins and ends and who came
// before it.
func (v *Verifier) readLives() {
	for _, o := range v.order {
		o.end = max(o.next, o.frontier)
		if state, leaf := o.table.get(0); state != leafAbsent {
			o.start = startOf(o, leaf)
		}
	}
	for _, o := range v.order {
		if o.start == nil || o.start.previous == "" {
			continue
		}
		if before := v.origins[o.start.previous]; before != nil && before != o && before.name.Log() == o.name.Log() {
			before.children = append(before.children, o)
		}
	}
	for _, o := range v.order {
		v.cut(o)
	}
}

// cut ends o at its stop, or where the next life says that it ended.
func (v *Verifier) cut(o *origin) {
	limit, signed := uint64(math.MaxUint64), v.signedSize(o)
	for i := range o.stops {
		c := &o.stops[i]
		if _, leaf := o.table.get(c.index); leaf == c.leaf && c.index+1 >= signed && c.index+1 < limit {
			limit, o.stop = c.index+1, c
		}
	}
	named := uint64(0)
	for _, child := range o.children {
		named = max(named, child.start.previousSize)
	}
	switch {
	case len(o.children) > 0 && signed > named:
		v.found.add(entry{
			kind: Forked, origin: o.full, first: named, last: named, indexd: true, at: o.children[0].start.at,
			detail: fmt.Sprintf("it goes on to %d under a signed checkpoint, but %s follows it at %d", signed, o.children[0].full, named),
		})
	case len(o.children) > 0:
		limit = min(limit, max(named, signed))
	}
	if o.end <= limit {
		return
	}
	v.inserted(o, limit, o.placeFrom(limit), "beyond the last record of this life")
	o.end = limit
	o.regions = slices.DeleteFunc(o.regions, func(r region) bool { return r.from >= limit })
}

// signedSize returns the largest size of o that a trusted key has signed, in
// the store or in a given checkpoint.
func (v *Verifier) signedSize(o *origin) uint64 {
	size := o.verified
	for i := range v.given {
		g := &v.given[i]
		if g.Origin == o.full && g.Size > size && v.judge(g.name.Instance, g.note) == trusted {
			size = g.Size
		}
	}
	return size
}

// placeFrom returns where the first line at or above index is, as far as that
// is still known.
func (o *origin) placeFrom(index uint64) place {
	for i := range o.recent {
		if o.recent[i].index >= index {
			return o.recent[i].at
		}
	}
	return place{}
}

// vouched says whether anything but its own lines speaks for o.
func (v *Verifier) vouched(o *origin) bool {
	if o.start != nil || o.verified > 0 || o.points > 0 || v.flagged[o.full] || len(o.expect) > 0 || len(o.fills) > 0 {
		return true
	}
	return len(o.children) > 0
}

// histories groups the origins by log, lives in order, and reports those that
// nothing vouches for.
func (v *Verifier) histories() []*history {
	byName := map[string]*history{}
	var list []*history
	for _, o := range v.order {
		if !v.vouched(o) {
			v.inserted(o, o.lowest(), o.placeFrom(0), "nothing vouches for this origin: no start record, no trusted checkpoint, no life that follows")
			continue
		}
		h := byName[o.name.Log()]
		if h == nil {
			h = &history{name: o.name.Log()}
			byName[h.name] = h
			list = append(list, h)
		}
		h.lives = append(h.lives, o)
	}
	slices.SortFunc(list, func(a, b *history) int { return cmp.Compare(a.name, b.name) })
	for _, h := range list {
		h.sort()
	}
	return list
}

func (o *origin) lowest() uint64 {
	lowest := uint64(0)
	o.table.missing(0, o.end, func(from, to uint64) bool {
		if from == 0 {
			lowest = to
		}
		return false
	})
	return lowest
}

// sort orders the lives: those without a predecessor in the store by their
// place in the stream `origin:`, each followed by its successors.
func (h *history) sort() {
	present := map[string]bool{}
	for _, o := range h.lives {
		present[o.full] = true
	}
	var roots []*origin
	for _, o := range h.lives {
		if o.start == nil || !present[o.start.previous] || o.start.previous == o.full {
			roots = append(roots, o)
		}
	}
	slices.SortFunc(roots, earlier)
	var sorted []*origin
	seen := map[*origin]bool{}
	var visit []*origin
	push := func(list []*origin) {
		list = slices.SortedFunc(slices.Values(list), earlier)
		slices.Reverse(list)
		visit = append(visit, list...)
	}
	for _, root := range roots {
		visit = append(visit, root)
		for len(visit) > 0 {
			o := visit[len(visit)-1]
			visit = visit[:len(visit)-1]
			if seen[o] {
				continue
			}
			seen[o] = true
			sorted = append(sorted, o)
			push(o.children)
		}
	}
	for _, o := range h.lives { // a circle of forged names has no root
		if !seen[o] {
			sorted = append(sorted, o)
		}
	}
	h.lives = sorted
}

func earlier(a, b *origin) int {
	if a.controlSeq != math.MaxUint64 && b.controlSeq != math.MaxUint64 && a.controlSeq != b.controlSeq {
		return cmp.Compare(a.controlSeq, b.controlSeq)
	}
	return cmp.Compare(a.full, b.full)
}

func (h *history) oldest() *origin { return h.lives[0] }
func (h *history) newest() *origin { return h.lives[len(h.lives)-1] }

// joinLives checks that the lives of a log follow each other.
func (v *Verifier) joinLives(h *history) {
	firsts := 0
	absent := map[string]bool{}
	for _, o := range h.lives {
		if o.start == nil {
			continue
		}
		if o.start.previous == "" {
			if firsts++; firsts > 1 {
				v.forked(o, "two lives of one log say that they are its first")
			}
			continue
		}
		before := v.origins[o.start.previous]
		switch {
		case before != nil && before.name.Log() == h.name:
			v.joinLife(before, o)
		case o != h.oldest() && !absent[o.start.previous] && o.start.previousSize > 0:
			absent[o.start.previous] = true
			v.missing(o.start.previous, 0, o.start.previousSize, "a whole life that "+o.full+" names is not in the store")
		}
	}
	for _, o := range h.lives {
		for i := 1; i < len(o.children); i++ {
			v.forked(o.children[i], "it follows "+o.full+", as does "+o.children[0].full)
		}
	}
}

func (v *Verifier) forked(o *origin, detail string) {
	v.found.add(entry{kind: Forked, origin: o.full, first: 0, last: 0, indexd: true, at: o.start.at, detail: detail})
}

// joinLife compares the end of a life with what the next one says of it.
func (v *Verifier) joinLife(before, next *origin) {
	size := next.start.previousSize
	if before.end < size {
		v.missing(before.full, before.end, size, "cut off: "+next.full+" names its size")
		return
	}
	root, ok := before.rootAt(size)
	if !ok || root == next.start.previousRoot || v.found.damaged[before.full] || v.found.damaged[next.full] {
		return
	}
	if before.verified >= size && size > 0 {
		v.forked(next, "its predecessor "+before.full+" has another signed root")
		return
	}
	detail := fmt.Sprintf("the records from index %d to %d do not have the root that %s names", before.anchor.Size(), size-1, next.full)
	v.tampered(before.full, min(before.anchor.Size(), size), before.placeFrom(before.anchor.Size()), detail)
}

// checkGiven compares a checkpoint from outside with the store.
func (v *Verifier) checkGiven(g *given, h *history) {
	switch v.judge(g.name.Instance, g.note) {
	case trusted:
	case endedKey:
		v.found.add(entry{
			kind: Unverifiable, origin: g.Origin, first: g.Size, last: g.Size, indexd: true,
			detail: "given checkpoint: signed by a key whose validity has ended",
		})
		return
	case unknownKey:
		return // nothing proves anything here; the tail stays open
	default:
		v.found.add(entry{
			kind: BadSignature, origin: g.Origin, first: g.Size, last: g.Size, indexd: true,
			detail: "given checkpoint: no trusted key signed it",
		})
		return
	}
	o := v.origins[g.Origin]
	if o == nil || h == nil || !slices.Contains(h.lives, o) {
		if g.Size > 0 && !h.follows(g.Origin) {
			v.missing(g.Origin, 0, g.Size, "not in the store, but a given checkpoint covers it")
		}
		return
	}
	if o.end < g.Size {
		v.missing(o.full, o.end, g.Size, "cut off: a given checkpoint covers it")
		return
	}
	root, ok := o.rootAt(g.Size)
	switch {
	case ok && root == g.Root:
		o.covered = max(o.covered, g.Size)
	case ok && !v.found.damaged[o.full]:
		v.differs(o, g)
	default:
	}
}

// differs reports records that are not those of a given checkpoint. Where the
// store's own checkpoints are signed by somebody else that is the one cause.
func (v *Verifier) differs(o *origin, g *given) {
	good := min(o.verified, max(g.Size, 1)-1)
	e := entry{
		kind: Tampered, origin: o.full, first: good, last: good, indexd: true, at: o.placeFrom(good),
		detail: fmt.Sprintf("the records from index %d to %d do not have the root of a given checkpoint", good, g.Size-1),
	}
	if v.forged[o.full] {
		e.kind = BadSignature
		e.detail += ", and no trusted key signed what is stored instead"
	}
	v.found.add(e)
}

// prove finds up to where a signature covers each life: a checkpoint of its
// own, or the size and root in the start record of a life that is itself
// covered.
func (h *history) prove() {
	for _, o := range slices.Backward(h.lives) { // children stand behind their parents
		o.proven = max(o.verified, o.covered)
		for _, child := range o.children {
			if child.proven > 0 {
				o.proven = max(o.proven, child.start.previousSize)
			}
		}
	}
}

// follows says whether the oldest life of h names origin as the one before it:
// then origin has gone with the head of the log. A start record that nothing
// signed excuses nothing.
func (h *history) follows(origin string) bool {
	if h == nil {
		return false
	}
	oldest := h.oldest()
	return oldest.start != nil && oldest.start.previous == origin && oldest.proven > 0
}

// checkFloor compares what an earlier run saw with what is there.
func (v *Verifier) checkFloor(h *history) {
	floor := v.options.Floors[h.name]
	known := -1 // place in floor of the newest life that is present
	remembered := map[*origin]bool{}
	for i, seen := range floor.Lives {
		if o := v.origins[seen.Origin]; o != nil && slices.Contains(h.lives, o) {
			known = i
			remembered[o] = true
		}
	}
	newer := len(remembered) < len(h.lives) && (known >= 0 || h.oldest() != h.newest() || !h.firstLife())
	for i, seen := range floor.Lives {
		o := v.origins[seen.Origin]
		switch {
		case o == nil || !remembered[o]:
			v.gone(seen, i < known || newer)
		default:
			v.below(o, seen)
		}
	}
}

// firstLife says whether the oldest life is the very first of its log.
func (h *history) firstLife() bool {
	start := h.oldest().start
	return start != nil && start.previous == ""
}

// gone reports a remembered life that is not there: as missing where newer ones
// are, else as rolled back.
func (v *Verifier) gone(seen FloorLife, newer bool) {
	if v.found.damaged[seen.Origin] || seen.Size == 0 {
		return
	}
	if newer {
		v.missing(seen.Origin, seen.First, max(seen.Size, seen.First+1), "an earlier run has seen it")
		return
	}
	v.rolledBack(seen, "an earlier run has seen this life, it is gone")
}

func (v *Verifier) rolledBack(seen FloorLife, detail string) {
	v.found.add(entry{kind: RolledBack, origin: seen.Origin, first: seen.Size, last: seen.Size, indexd: true, detail: detail})
}

// below compares one life with what was remembered of it.
func (v *Verifier) below(o *origin, seen FloorLife) {
	if o.end < seen.Size {
		if !v.found.damaged[o.full] {
			v.rolledBack(seen, fmt.Sprintf("an earlier run has seen its size %d, now it is %d", seen.Size, o.end))
		}
		return
	}
	if o.headGap > seen.First {
		v.missing(o.full, seen.First, o.headGap, "an earlier run has seen it")
		return
	}
	if root, ok := o.rootAt(seen.Size); ok && root != seen.Root && !v.found.damaged[o.full] {
		v.rolledBack(seen, "an earlier run has seen another root at this size")
	}
}
