// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/ed25519"
	"errors"
	"math"
	"slices"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// trust is what a checkpoint's signature is worth.
type trust uint8

const (
	trusted    trust = iota
	unknownKey       // no key is known for the instance, so far
	endedKey         // signed by a key whose validity ended
	untrusted        // signed by nobody who is trusted
)

const (
	// maxPending bounds the undecided checkpoints that are kept per origin.
	maxPending = 1_024
	// maxRegions bounds the regions per origin that wait for late lines.
	maxRegions = 16_384
	// maxIndex is the highest index; on a record it is an int64.
	maxIndex = math.MaxInt64
)

var errIndex = errors.New("index is not below 2^63")

// point is a checkpoint of the store.
type point struct {
	chain.Checkpoint
	instance string
	note     []byte
	tree     chain.Tree
	ranged   bool // tree is the compact range that came with it
	trust    trust
	at       place
}

// judge says what the signature under a checkpoint of the instance is worth.
func (v *Verifier) judge(instance string, signed []byte) trust {
	keys, ended := v.keys(instance)
	if len(keys)+len(ended) == 0 {
		return unknownKey
	}
	if _, _, err := chain.OpenCheckpoint(signed, keys); err == nil {
		return trusted
	}
	if _, _, err := chain.OpenCheckpoint(signed, ended); err == nil {
		return endedKey
	}
	return untrusted
}

// keys returns the keys that are trusted for an instance and those that were.
func (v *Verifier) keys(instance string) (keys, ended []ed25519.PublicKey) {
	if len(v.options.Keys) > 0 {
		return v.options.Keys, nil
	}
	for _, pin := range v.options.Pins[instance] {
		if pin.Ended {
			ended = append(ended, pin.Key)
		} else {
			keys = append(keys, pin.Key)
		}
	}
	if key := v.firstUse[instance]; key != nil {
		keys = append(keys, key)
	}
	return keys, ended
}

// checkpointLine returns origin and size of a checkpoint that a trusted key
// signed, or may have, else nil.
func (v *Verifier) checkpointLine(at place, line *audit.Line) (o *origin, size uint64) {
	c, err := chain.ParseCheckpoint(line.Note)
	var name chain.Origin
	if err == nil {
		name, err = chain.ParseOrigin(c.Origin)
	}
	if err == nil && c.Size > maxIndex {
		err = errIndex
	}
	if err != nil {
		v.bad(&bad{kind: Malformed, at: at, detail: err.Error()})
		return nil, 0
	}
	p := &point{Checkpoint: c, instance: name.Instance, note: line.Note, at: at}
	if p.trust = v.judge(name.Instance, line.Note); p.trust == untrusted {
		v.badSignature(p)
		return nil, 0
	}
	p.tree, err = chain.CheckRange(c.Size, c.Root, line.Range)
	if p.ranged = err == nil; !p.ranged {
		v.tampered(c.Origin, c.Size, at, "checkpoint: "+err.Error())
	}
	if p.trust == endedKey {
		v.found.add(p.entry(Unverifiable, "signed by a key whose validity has ended"))
	}
	if p.trust == trusted {
		v.checkpoints++
	}
	o = v.origin(c.Origin)
	at.file.origin = o
	v.sound(o, c.Size, c.Size)
	o.points++
	v.point(o, p)
	return o, c.Size
}

func (p *point) entry(kind Kind, detail string) entry {
	return entry{kind: kind, origin: p.Origin, first: p.Size, last: p.Size, indexd: true, at: p.at, detail: detail}
}

func (v *Verifier) badSignature(p *point) {
	v.flagged[p.Origin] = true
	v.forged[p.Origin] = true
	v.found.add(p.entry(BadSignature, "no trusted key signed this checkpoint"))
}

func (v *Verifier) tampered(origin string, index uint64, at place, detail string) {
	v.found.add(entry{kind: Tampered, origin: origin, first: index, last: index, indexd: true, at: at, detail: detail})
}

// point takes a checkpoint of o that somebody trusted signed, or may have.
func (v *Verifier) point(o *origin, p *point) {
	if o.repeats(p) {
		v.forkedPoint(o, p)
		return
	}
	if p.Size < o.frontier {
		v.reordered(o, p.Size, p.at)
	}
	o.frontier = max(o.frontier, p.Size)
	// A file begins with the checkpoint that the file before ended with. Where
	// that file is not there, waiting for it would be in vain.
	switch {
	case p.Size == o.next:
		v.settle(o, p)
		v.drain(o)
	case p.Size > o.next:
		o.earlyPoints[p.Size] = append(o.earlyPoints[p.Size], p)
		v.hold(o)
		if p.at.file.lines == 1 {
			v.skipTo(o, p.Size)
		}
	default:
		v.settleLate(o, p)
	}
}

// repeats says whether p's size was reached by a checkpoint before.
func (o *origin) repeats(p *point) bool {
	return p.Size < o.anchor.Size() || (p.Size == o.anchor.Size() && o.anchored)
}

// forkedPoint reports a second signed root for one size.
func (v *Verifier) forkedPoint(o *origin, p *point) {
	if p.Size == o.anchor.Size() && p.trust == trusted && !o.doubtful && p.Root != o.anchor.Root() {
		v.found.add(p.entry(Forked, "another root is signed for this size"))
	}
}

// settle takes the checkpoint of the leaves below next.
func (v *Verifier) settle(o *origin, p *point) {
	if o.repeats(p) {
		v.forkedPoint(o, p)
		return
	}
	if o.live && o.tree.Root() == p.Root {
		v.reportBreaks(o, o.breaks)
		o.anchor.Restore(&o.tree)
		o.clear()
		v.cover(o, p)
		return
	}
	if !p.ranged {
		return // reported; the next checkpoint covers what this one does
	}
	v.leave(o, p, o.breaks)
	o.clear()
	v.anchorAt(o, p)
	o.tree.Restore(&o.anchor)
	o.live = true
}

// settleLate takes a checkpoint that comes after leaves which it does not
// cover.
func (v *Verifier) settleLate(o *origin, p *point) {
	tree, ok := o.replay(o.anchor.Clone(), p.Size, nil)
	confirmed := ok && tree.Root() == p.Root
	if !confirmed && !p.ranged {
		return
	}
	breaks := splitBreaks(&o.breaks, p.Size)
	if confirmed {
		v.reportBreaks(o, breaks)
		o.anchor = tree
		o.anchored = true
		o.trimRecent(p.Size)
		v.cover(o, p)
		return
	}
	v.leave(o, p, breaks)
	o.trimRecent(p.Size)
	v.anchorAt(o, p)
	o.tree, o.live = o.replay(o.anchor.Clone(), o.next, nil)
}

// leave sets aside what p did not confirm.
func (v *Verifier) leave(o *origin, p *point, breaks []brk) {
	if len(o.regions) >= v.maxRegions {
		v.thin(o)
	}
	r := region{
		from: o.anchor.Size(), to: p.Size, start: o.anchor.Clone(), root: p.Root, signed: true, at: p.at,
		breaks: append([]brk(nil), breaks...),
	}
	if len(o.alternatives) > 0 {
		r.recent = append([]fact(nil), o.recent...)
	}
	o.regions = append(o.regions, r)
}

// thin makes room for other regions: those that late lines have completed by
// now are confirmed and go; if they are few, the older ones are concluded as
// they stand.
func (v *Verifier) thin(o *origin) {
	o.regions = slices.DeleteFunc(o.regions, func(r region) bool {
		tree, ok := o.replay(r.start.Clone(), r.to, nil)
		return ok && tree.Root() == r.root
	})
	if len(o.regions) < v.maxRegions-v.maxRegions/16 {
		return
	}
	older := o.regions[:v.maxRegions/16]
	for i := range older {
		v.conclude(o, &older[i])
	}
	o.regions = slices.Clone(o.regions[len(older):])
}

// anchorAt begins anew at p, whose compact range stands for the leaves below.
func (v *Verifier) anchorAt(o *origin, p *point) {
	o.anchor = p.tree.Clone()
	o.anchored = true
	v.cover(o, p)
}

// clear forgets what a checkpoint made irrelevant.
func (o *origin) clear() {
	o.anchored = true
	o.breaks = o.breaks[:0]
	o.recent = o.recent[:0]
}

func (o *origin) trimRecent(size uint64) {
	kept := o.recent[:0]
	for i := range o.recent {
		if o.recent[i].index >= size {
			kept = append(kept, o.recent[i])
		}
	}
	o.recent = kept
}

func splitBreaks(breaks *[]brk, size uint64) []brk {
	var below, above []brk
	for _, b := range *breaks {
		if b.index < size {
			below = append(below, b)
		} else {
			above = append(above, b)
		}
	}
	*breaks = above
	return below
}

// cover notes how far o is signed.
func (v *Verifier) cover(o *origin, p *point) {
	o.doubtful = p.trust != trusted
	switch p.trust {
	case trusted:
		o.verified, o.root = p.Size, p.Root
	case unknownKey:
		o.remember(p)
	default:
	}
}

// remember keeps p until its signature can be judged. Where checkpoints confirm
// each other the newest is enough: a signature under it covers the others.
func (o *origin) remember(p *point) {
	last := len(o.undecided) - 1
	separate := last < 0 || (len(o.regions) > 0 && o.regions[len(o.regions)-1].to == p.Size)
	if separate && len(o.undecided) < maxPending {
		o.undecided = append(o.undecided, p)
		return
	}
	o.undecided[last] = p
}

// decide judges, at the end, what had no key when it was read.
func (v *Verifier) decide(o *origin) {
	for _, p := range o.undecided {
		switch p.trust = v.judge(p.instance, p.note); p.trust {
		case trusted:
			v.checkpoints++
			if p.Size > o.verified {
				o.verified, o.root = p.Size, p.Root
			}
		case untrusted:
			v.badSignature(p)
		default:
		}
	}
	o.doubtful = o.verified == 0
}

func (v *Verifier) reportBreaks(o *origin, breaks []brk) {
	for _, b := range breaks {
		v.tampered(o.full, b.index, b.at, errBreak.Error())
	}
}

var errBreak = errors.New("seq or prev does not follow the record before it in its stream")
