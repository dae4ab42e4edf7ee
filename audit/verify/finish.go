// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"time"
)

// Finish says what was found. It fails only if the spill did. The verifier is
// of no use afterwards.
func (v *Verifier) Finish() (Report, error) {
	for _, o := range v.order {
		v.skipTo(o, math.MaxUint64)
		v.decide(o)
	}
	v.placeBads()
	v.readLives()
	histories := v.histories()
	for _, h := range histories {
		for _, o := range h.lives {
			v.concludeOrigin(o)
		}
	}
	v.reportBads()
	for _, h := range histories {
		v.joinLives(h)
		h.prove()
	}
	v.checkAllGiven(histories)
	for _, h := range histories {
		v.checkFloor(h)
	}
	stubs := v.stubsByOrigin()
	for _, h := range histories {
		v.close(h)
		v.checkHead(h)
		v.checkTail(h)
		v.checkStubs(h, stubs)
	}
	v.checkTorn(histories)
	if v.pager.err != nil {
		return Report{}, v.pager.err
	}
	return v.report(histories), nil
}

func (v *Verifier) checkAllGiven(histories []*history) {
	for i := range v.given {
		g := &v.given[i]
		at := slices.IndexFunc(histories, func(h *history) bool { return h.name == g.name.Log() })
		if at < 0 {
			v.checkGiven(g, nil)
			continue
		}
		v.checkGiven(g, histories[at])
	}
}

// close finds out which lives end with a stop that a trusted checkpoint covers.
func (v *Verifier) close(h *history) {
	for _, o := range h.lives {
		o.closed = o.stop != nil && o.end == o.stop.index+1 && o.verified >= o.end
	}
}

// checkHead judges what precedes the first stored index of each life.
func (v *Verifier) checkHead(h *history) {
	for _, o := range h.lives {
		switch {
		case o.headGap == 0:
		case o == h.oldest():
			h.open = true
			if !v.found.has(Missing, o.full, o.headGap-1, o.headGap) {
				detail := fmt.Sprintf("the records below index %d are not in the store", o.headGap)
				if v.lostKey(h) {
					detail += ", nor is the key in the first of them: no checkpoint can be checked unless the key is given"
				}
				v.openHead(o, detail)
			}
		default:
			v.missing(o.full, 0, o.headGap, "not in the store, but an older life is")
		}
	}
	if start := h.oldest().start; start != nil && start.previous != "" {
		h.open = true
		v.openHead(h.oldest(), "the life before, "+start.previous+", is not in the store")
	}
}

// lostKey says whether the key of the log, which nobody gave, has gone with its
// head.
func (v *Verifier) lostKey(h *history) bool {
	keys, ended := v.keys(h.oldest().name.Instance)
	return len(keys)+len(ended) == 0 && h.oldest().headGap > 0
}

func (v *Verifier) openHead(o *origin, detail string) {
	v.found.add(entry{kind: OpenHead, origin: o.full, indexd: true, detail: detail})
}

// checkTail says whether the end of the log is proven.
func (v *Verifier) checkTail(h *history) {
	newest := h.newest()
	if newest.closed {
		return
	}
	covered := slices.ContainsFunc(h.lives, func(o *origin) bool { return o.covered > 0 })
	if covered && newest.covered == newest.end {
		return
	}
	detail := "neither a given checkpoint nor a final audit.origin.stop covers the tail"
	if covered {
		detail = "above the given checkpoint"
	} else {
		h.open = true
	}
	if v.found.damaged[newest.full] || v.flagged[newest.full] || v.lostKey(h) {
		return // what is wrong is named already, and may well be why
	}
	from := max(newest.covered, newest.verified)
	if covered {
		from = newest.covered
	}
	v.found.add(entry{kind: OpenTail, origin: newest.full, first: from, last: from, indexd: true, detail: detail})
}

// checkStubs judges the stubs of a log: each needs a sealed record that says
// why.
func (v *Verifier) checkStubs(h *history, stubs map[string][]uint64) {
	h.prove()
	for _, o := range h.lives {
		indexes := stubs[o.full]
		slices.Sort(indexes)
		for _, index := range indexes {
			if index < o.end {
				v.checkStub(h, o, coordinate{o.full, index})
			}
		}
	}
}

func (v *Verifier) stubsByOrigin() map[string][]uint64 {
	stubs := map[string][]uint64{}
	for c := range v.stubs {
		stubs[c.origin] = append(stubs[c.origin], c.index)
	}
	return stubs
}

func (v *Verifier) checkStub(h *history, o *origin, c coordinate) {
	e := entry{kind: Quarantined, origin: o.full, first: c.index, last: c.index, indexd: true, at: v.stubs[c]}
	account := v.accountOf(h, c)
	switch {
	case c.index == 0:
		e.kind, e.detail = Missing, "a stub stands in place of the start record, which no sink refuses"
	case account.explained:
		e.detail = account.detail
	case h.newest().closed:
		e.kind, e.detail = Missing, account.detail
	default:
		h.open = true
		e.detail = account.detail
	}
	v.found.add(e)
}

// account is what the sealed records of a log say of a stub.
type account struct {
	explained bool
	detail    string
}

// accountOf judges the audit.quarantine records that name c and stand below a
// signature. A stub is explained by a sink that refused the record and has not
// stored it since; which sink's store this is, nobody says.
func (v *Verifier) accountOf(h *history, c coordinate) account {
	type sinks map[[sha256.Size]byte]bool
	refused, replayed, dropped := sinks{}, sinks{}, sinks{}
	for w := range v.explained[c] {
		if !v.isSigned(h, &w) {
			continue
		}
		switch w.action {
		case actionReplay:
			replayed[w.sink] = true
		case actionDrop:
			dropped[w.sink] = true
		}
		refused[w.sink] = refused[w.sink] || w.action != actionReplay
	}
	explained, givenUp := false, false
	for sink, did := range refused {
		if did && !replayed[sink] {
			explained = true
			givenUp = givenUp || dropped[sink]
		}
	}
	switch {
	case givenUp:
		return account{true, "refused for good by a sink, and given up by an operator since"}
	case explained:
		return account{true, "refused for good by a sink; the record is in the quarantine directory"}
	case len(replayed) > 0:
		return account{false, "a stub stands here, but a sealed record says that the whole record was stored beside it"}
	case h.newest().closed:
		return account{false, "a stub stands here, but no sealed record says that it was quarantined"}
	default:
		return account{false, "a stub stands here; no sealed record says so yet"}
	}
}

// isSigned says whether w is a record of the same log, below a signature.
func (v *Verifier) isSigned(h *history, w *witness) bool {
	if w.origin.name.Log() != h.name || w.index >= w.origin.proven {
		return false
	}
	_, leaf := w.origin.table.get(w.index)
	return leaf == w.leaf
}

// checkTorn judges the last lines without newline: in the newest file of a
// log that is how a crash looks.
func (v *Verifier) checkTorn(histories []*history) {
	owners, last := v.owners()
	newest := map[string]*origin{} // life of a log
	for _, h := range histories {
		newest[h.name] = h.newest()
	}
	for _, f := range v.files {
		if f.torn < 0 {
			continue
		}
		at := place{f, f.torn}
		o := f.origin
		if o == nil {
			o = owners[path.Dir(f.name)]
		}
		switch {
		case o == nil:
			v.found.add(entry{kind: OpenTail, at: at, detail: "the last line is torn"})
		case last[o] <= f.number && (newest[o.name.Log()] == nil || newest[o.name.Log()] == o):
			v.found.add(entry{kind: OpenTail, origin: o.full, at: at, detail: "the last line is torn"})
		default:
			v.found.add(entry{kind: Malformed, origin: o.full, at: at, detail: "the last line is torn, and this is not the newest file"})
		}
	}
}

// owners returns the origin that the lines of each folder are of, and the
// number of the last file of each origin.
func (v *Verifier) owners() (folders map[string]*origin, last map[*origin]int) {
	folders, last = map[string]*origin{}, map[*origin]int{}
	for _, f := range v.files {
		if f.origin == nil {
			continue
		}
		last[f.origin] = f.number
		if folder := path.Dir(f.name); folders[folder] == nil {
			folders[folder] = f.origin
		}
	}
	return folders, last
}

// has says whether a finding of the kind covers all of [from, to) of origin.
func (f *findings) has(kind Kind, origin string, from, to uint64) bool {
	return slices.ContainsFunc(f.entries, func(e entry) bool {
		return e.kind == kind && e.origin == origin && e.indexd && e.first <= from && e.last+1 >= to
	})
}

func (v *Verifier) report(histories []*history) Report {
	r := Report{
		Integrity: IntegritySound, Completeness: CompletenessComplete, Trust: TrustNone,
		Checkpoints: v.checkpoints, Logs: []Log{},
	}
	for _, o := range v.order {
		r.Records += o.records
	}
	for i, h := range histories {
		l := v.log(h)
		r.Logs = append(r.Logs, l)
		if i == 0 || weaker(l.Trust, r.Trust) {
			r.Trust = l.Trust
		}
		r.Completeness = worse(r.Completeness, l.Completeness)
	}
	if len(histories) == 0 {
		r.Completeness = CompletenessOpen
	}
	if v.found.broken {
		r.Integrity = IntegrityBroken
	}
	if v.found.kind(Missing) || v.found.kind(RolledBack) {
		r.Completeness = CompletenessBroken
	}
	r.Findings, r.MoreFindings = v.found.list(), v.found.more
	if !v.found.broken {
		r.Learned = v.learned(histories)
	}
	return r
}

func (v *Verifier) log(h *history) Log {
	l := Log{Name: h.name, Integrity: IntegritySound, Completeness: CompletenessComplete, Trust: v.trustOf(h)}
	for _, o := range h.lives {
		l.Records += o.records
		l.Lives = append(l.Lives, Life{
			Origin: o.full, First: decimal(o.headGap), Size: decimal(o.end), Verified: decimal(o.verified),
			Proven: decimal(o.proven), Records: o.records, Closed: o.closed,
		})
		if v.found.about(o.full, Kind.Integrity) {
			l.Integrity = IntegrityBroken
		}
		if v.found.about(o.full, func(k Kind) bool { return k == Missing || k == RolledBack }) {
			l.Completeness = CompletenessBroken
		}
		if v.found.about(o.full, func(k Kind) bool { return k == Unverifiable }) {
			h.open = true
		}
	}
	if h.open || l.Trust == TrustNone {
		l.Completeness = worse(l.Completeness, CompletenessOpen)
	}
	if newest := h.newest(); newest.closed {
		l.ClosedAt = time.Unix(0, newest.stop.sealedAt).UTC().Format(time.RFC3339Nano)
	}
	return l
}

func (f *findings) about(origin string, of func(Kind) bool) bool {
	return slices.ContainsFunc(f.entries, func(e entry) bool { return e.origin == origin && of(e.kind) })
}

func (f *findings) kind(k Kind) bool {
	_, ok := f.newest[k]
	return ok
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// trustOf says how far the key is trusted that signed for h.
func (v *Verifier) trustOf(h *history) string {
	signed := slices.ContainsFunc(h.lives, func(o *origin) bool { return o.verified > 0 || o.covered > 0 })
	switch instance := h.oldest().name.Instance; {
	case !signed:
		return TrustNone
	case len(v.options.Keys) > 0:
		return TrustGiven
	case len(v.options.Pins[instance]) > 0:
		return TrustPinned
	default:
		return TrustFirstUse
	}
}

func weaker(a, b string) bool {
	order := []string{TrustNone, TrustFirstUse, TrustPinned, TrustGiven}
	return slices.Index(order, a) < slices.Index(order, b)
}

func worse(a, b string) string {
	order := []string{CompletenessComplete, CompletenessOpen, CompletenessBroken}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// learned is what the next run may hold against the store: what a trusted
// checkpoint covered. What an earlier run knew beyond that stays known.
func (v *Verifier) learned(histories []*history) Learned {
	l := Learned{Pins: map[string][]Pin{}, Floors: map[string]Floor{}}
	for instance, key := range v.firstUse {
		if slices.ContainsFunc(histories, func(h *history) bool {
			return h.oldest().name.Instance == instance && v.trustOf(h) == TrustFirstUse
		}) {
			l.Pins[instance] = []Pin{{Key: ed25519.PublicKey(key)}}
		}
	}
	for _, h := range histories {
		if floor := v.floor(h); len(floor.Lives) > 0 {
			l.Floors[h.name] = floor
		}
	}
	return l
}

func (v *Verifier) floor(h *history) Floor {
	var floor Floor
	for _, o := range h.lives {
		size, root := o.verified, o.root
		for i := range v.given {
			if g := &v.given[i]; g.Origin == o.full && g.Size == o.covered && g.Size > size {
				size, root = g.Size, g.Root
			}
		}
		if size > 0 && size >= o.headGap {
			floor.Lives = append(floor.Lives, FloorLife{Origin: o.full, First: o.headGap, Size: size, Root: root})
		}
	}
	return floor
}
