// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"maps"
	"slices"

	"github.com/otelaudit/otelaudit/audit/chain"
)

// maxReplayed bounds the leaves that are hashed again to find out which of
// several lines the signed root knows.
const maxReplayed = 1 << 20

// choice overrides leaves of the table.
type choice map[uint64]chain.Hash

// leaf returns the leaf at index: as stored, or what an unsound line in its
// place says that it was.
func (o *origin) leaf(index uint64, chosen choice) (chain.Hash, bool) {
	if hash, ok := chosen[index]; ok {
		return hash, true
	}
	if state, hash := o.table.get(index); state != leafAbsent {
		return hash, true
	}
	if b := o.fills[index]; b != nil && len(b.leaves) > 0 {
		return b.leaves[0], true
	}
	return chain.Hash{}, false
}

// replay appends the leaves up to size to tree. It ends early, with false, at
// the first that is not known.
func (o *origin) replay(tree chain.Tree, size uint64, chosen choice) (chain.Tree, bool) {
	for tree.Size() < size {
		leaf, ok := o.leaf(tree.Size(), chosen)
		if !ok {
			return tree, false
		}
		tree.Append(leaf)
	}
	return tree, true
}

// rootAt returns the root of the leaves below size, if all that is needed for
// it is there.
func (o *origin) rootAt(size uint64) (chain.Hash, bool) {
	if root, ok := o.roots[size]; ok {
		return root, true
	}
	if o.live && o.tree.Size() == size {
		return o.tree.Root(), true
	}
	var start chain.Tree
	for i := range o.regions {
		if at := &o.regions[i].start; at.Size() <= size && at.Size() > start.Size() {
			start = *at
		}
	}
	if o.anchor.Size() <= size && o.anchor.Size() > start.Size() {
		start = o.anchor
	}
	tree, ok := o.replay(start.Clone(), size, nil)
	return tree.Root(), ok
}

// concludeOrigin looks at all of o that no checkpoint confirmed on the way.
func (v *Verifier) concludeOrigin(o *origin) {
	for i := range o.regions {
		v.conclude(o, &o.regions[i])
	}
	if o.end > o.anchor.Size() {
		breaks := splitBreaks(&o.breaks, o.end)
		v.conclude(o, &region{from: o.anchor.Size(), to: o.end, start: o.anchor.Clone(), breaks: breaks, recent: o.recent})
	}
	// What is left over stands where everything was confirmed.
	for _, index := range slices.Sorted(maps.Keys(o.alternatives)) {
		for _, f := range o.alternatives[index] {
			v.inserted(o, index, f.at, "another record at this index is the one that fits")
		}
	}
	clear(o.alternatives)
}

// conclude names what is wrong in r. One cause gives one kind of finding:
// where lines are missing or unsound the root says nothing more.
func (v *Verifier) conclude(o *origin, r *region) {
	gap := v.reportMissing(o, r)
	unsound, known := o.filled(r.from, r.to)
	if r.signed && !gap && known {
		v.concludeSigned(o, r, unsound)
		return
	}
	if !v.weigh(o, r) {
		v.reportBreaks(o, r.breaks)
	}
}

// concludeSigned compares a region where nothing is missing with its root.
func (v *Verifier) concludeSigned(o *origin, r *region, unsound bool) {
	chosen, ok := o.search(r)
	if !ok {
		if !unsound {
			v.tamperedRegion(o, r)
		}
		v.weigh(o, r)
		return
	}
	replaced := false
	for _, index := range o.alternativesIn(r.from, r.to) {
		_, primary := o.table.get(index)
		if winner, ok := chosen[index]; ok && winner != primary {
			replaced = true
			v.inserted(o, index, r.placeOf(index), "the signed tree has another record at this index")
			o.table.put(index, leafEvent, &winner)
		}
		for _, f := range o.alternatives[index] {
			if winner, ok := chosen[index]; !ok || f.hash != winner {
				v.inserted(o, index, f.at, "the signed tree has another record at this index")
			}
		}
		delete(o.alternatives, index)
	}
	if !replaced {
		v.reportBreaks(o, r.breaks)
	}
}

func (v *Verifier) tamperedRegion(o *origin, r *region) {
	index, at := r.from, r.at
	detail := fmt.Sprintf("the records from index %d to %d do not have the signed root", r.from, r.to-1)
	if len(r.breaks) > 0 {
		index, at = r.breaks[0].index, r.breaks[0].at
		detail += fmt.Sprintf("; at %d the chain of a stream breaks", index)
	}
	v.tampered(o.full, index, at, detail)
}

// reportMissing reports the indexes of r that nothing stands for. What is
// missing from index 0 on is left to the log to judge.
func (v *Verifier) reportMissing(o *origin, r *region) (gap bool) {
	o.table.missing(r.from, r.to, func(from, to uint64) bool {
		for _, index := range o.fillsIn(from, to) {
			gap = v.missingRun(o, from, index) || gap
			from = index + 1
		}
		gap = v.missingRun(o, from, to) || gap
		return true
	})
	return gap
}

func (v *Verifier) missingRun(o *origin, from, to uint64) bool {
	switch {
	case from >= to:
		return false
	case from == o.headGap:
		o.headGap = to
	default:
		v.missing(o.full, from, to, "not in the store")
	}
	return true
}

func (v *Verifier) missing(origin string, from, to uint64, detail string) {
	v.found.add(entry{kind: Missing, origin: origin, first: from, last: to - 1, indexd: true, detail: detail, number: to - from})
}

// fillsIn returns the indexes in [from, to) for which an unsound line stands.
func (o *origin) fillsIn(from, to uint64) []uint64 {
	start, _ := slices.BinarySearch(o.filledAt, from)
	end, _ := slices.BinarySearch(o.filledAt, to)
	return o.filledAt[start:end]
}

// filled says whether unsound lines stand for records in [from, to), and
// whether each of them tells what its leaf was.
func (o *origin) filled(from, to uint64) (some, known bool) {
	known = true
	for _, index := range o.fillsIn(from, to) {
		some = true
		known = known && len(o.fills[index].leaves) > 0
	}
	return some, known
}

func (o *origin) alternativesIn(from, to uint64) []uint64 {
	var list []uint64
	for index := range o.alternatives {
		if index >= from && index < to {
			list = append(list, index)
		}
	}
	slices.Sort(list)
	return list
}

// search finds the leaves among those on offer that give r's root.
func (o *origin) search(r *region) (choice, bool) {
	indexes, options := o.options(r)
	if o.folds(r, nil) {
		return nil, true
	}
	number := uint64(1)
	for _, list := range options {
		if number *= uint64(len(list)); number*(r.to-r.from) > maxReplayed {
			return o.searchLast(r, indexes, options)
		}
	}
	for n := uint64(1); n < number; n++ {
		chosen := choice{}
		rest := n
		for i, index := range indexes {
			chosen[index] = options[i][rest%uint64(len(options[i]))]
			rest /= uint64(len(options[i]))
		}
		if o.folds(r, chosen) {
			return chosen, true
		}
	}
	return nil, false
}

// searchLast tries the one combination that is likely where there are too many:
// the last line of each.
func (o *origin) searchLast(r *region, indexes []uint64, options [][]chain.Hash) (choice, bool) {
	chosen := choice{}
	for i, index := range indexes {
		chosen[index] = options[i][len(options[i])-1]
	}
	return chosen, o.folds(r, chosen)
}

func (o *origin) folds(r *region, chosen choice) bool {
	tree, ok := o.replay(r.start.Clone(), r.to, chosen)
	return ok && tree.Root() == r.root
}

// options lists the indexes of r that have more than one possible leaf, the
// one that leaf returns first.
func (o *origin) options(r *region) (indexes []uint64, options [][]chain.Hash) {
	for _, index := range o.alternativesIn(r.from, r.to) {
		_, hash := o.table.get(index)
		list := []chain.Hash{hash}
		for _, f := range o.alternatives[index] {
			list = append(list, f.hash)
		}
		indexes, options = append(indexes, index), append(options, list)
	}
	for _, index := range o.fillsIn(r.from, r.to) {
		if b := o.fills[index]; len(b.leaves) > 1 {
			indexes, options = append(indexes, index), append(options, b.leaves)
		}
	}
	return indexes, options
}

// weigh decides, where no root does, between the lines of one coordinate: by
// which of them its neighbours in the stream name. It says whether it threw
// out a line that others were compared with.
func (v *Verifier) weigh(o *origin, r *region) (replaced bool) {
	for _, index := range o.alternativesIn(r.from, r.to) {
		primary := r.fact(index)
		for _, f := range o.alternatives[index] {
			switch have, other := r.fit(primary), r.fit(f); {
			case primary != nil && have > other:
				v.inserted(o, index, f.at, "another record at this index is the one that fits")
			case primary != nil && have < other:
				replaced = true
				v.inserted(o, index, primary.at, "another record at this index is the one that fits")
				o.table.put(index, f.state, &f.hash)
			default:
				v.conflict(o, f)
			}
		}
		delete(o.alternatives, index)
	}
	return replaced
}

// fit counts the neighbours in the stream that f goes with.
func (r *region) fit(f *fact) (n int) {
	if f == nil {
		return 0
	}
	for i := range r.recent {
		near := &r.recent[i]
		if near.stream != f.stream || near.index == f.index {
			continue
		}
		if near.seq+1 == f.seq && near.hash == f.prev {
			n++
		}
		if f.seq+1 == near.seq && f.hash == near.prev {
			n++
		}
	}
	return n
}

func (r *region) fact(index uint64) *fact {
	for i := range r.recent {
		if r.recent[i].index == index {
			return &r.recent[i]
		}
	}
	return nil
}

func (r *region) placeOf(index uint64) place {
	if f := r.fact(index); f != nil {
		return f.at
	}
	return place{}
}
