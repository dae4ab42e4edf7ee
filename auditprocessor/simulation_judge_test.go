// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
	"github.com/otelaudit/otelaudit/internal/quarantine"
)

// offered checks what the processor gives out against all that it ever gave
// out: a coordinate has one content (I1), and order is order.
func (s *simulation) offered(all []given) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range all {
		g := &all[i]
		s.name(g.at.origin)
		if g.checkpoint != nil {
			s.points = append(s.points, *g)
			continue
		}
		if before, again := s.seen[g.at]; again && before.hash != g.hash {
			s.complaints = append(s.complaints, fmt.Sprintf("%s is given out with two contents", s.nameOf(g.at)))
		}
		s.seen[g.at] = *g
		if g.at.index == 0 && !slices.Contains(s.order, g.at.origin) {
			s.order = append(s.order, g.at.origin)
		}
		if g.gone != nil {
			s.gone[*g.gone] = g.sink
			if g.sink == nextConsumer {
				s.happen("quarantined by the processor")
			}
		}
		if !s.inOrder(all, i) {
			s.complaints = append(s.complaints, fmt.Sprintf("%s is given out before the one before it is settled", s.nameOf(g.at)))
		}
	}
}

// inOrder says whether record i follows one that is settled, or in the same
// call. A heartbeat may be asked for out of its turn, as a witness. The caller
// holds mu.
func (s *simulation) inOrder(all []given, i int) bool {
	at := all[i].at
	if at.index == 0 || all[i].event == audit.EventOriginHeartbeat {
		return true
	}
	before := coordinate{at.origin, at.index - 1}
	for k := range i {
		if all[k].at == before && all[k].checkpoint == nil {
			return true
		}
	}
	return s.done[before] || s.seen[before].event == audit.EventOriginHeartbeat || isPoison(s.seen[before].token)
}

// settled notes what all sinks have taken.
func (s *simulation) settled(all []given) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range all {
		if all[i].checkpoint == nil {
			s.done[all[i].at] = true
		}
	}
}

// name gives a life its number. The caller holds mu.
func (s *simulation) name(origin string) {
	if !slices.Contains(s.lives, origin) {
		s.lives = append(s.lives, origin)
	}
}

// nameOf names a coordinate as the trace does: by the number of its life.
func (s *simulation) nameOf(at coordinate) string {
	return fmt.Sprintf("%d/%d", slices.Index(s.lives, at.origin), at.index)
}

// list names what is given out.
func (s *simulation) list(all []given) string {
	if !s.traced() {
		return ""
	}
	var b strings.Builder
	for i := range all {
		b.WriteString(s.nameOf(all[i].at))
		if all[i].checkpoint != nil {
			b.WriteString("(checkpoint)")
		}
		b.WriteString(" " + all[i].token + ",")
	}
	return b.String()
}

func (s *simulation) listResults(a *attempt) string {
	if !s.traced() {
		return ""
	}
	var b strings.Builder
	for i := range a.receipt.Results {
		b.WriteString(" " + s.nameOf(coordinateOf(&a.receipt.Results[i].Link)))
	}
	return b.String()
}

// judge looks at everything that ever happened.
func (s *simulation) judge() {
	if s.failed() {
		return
	}
	s.judgePromises()
	s.judgeIDs()
	s.judgeConflicts()
	s.judgeRefusals()
	s.judgeQuarantine()
	s.judgeRequests()
	trees := s.judgeChain()
	s.judgeCheckpoints(trees)
	if s.verified && !s.failed() {
		s.judgeStore()
	}
}

// judgePromises checks I4: what was acknowledged is stored in each sink, as it
// was acknowledged, or in quarantine, and sealed as that.
func (s *simulation) judgePromises() {
	for _, p := range s.promises {
		for _, sink := range s.sinks {
			stored := sink.stored[p.at]
			switch {
			case stored == nil && sink.refuses(p.token) && s.gone[p.at] != "":
				s.happen("quarantined")
			case stored == nil:
				s.complain("%s: %s was acknowledged as %s and is neither stored nor sealed as quarantined", sink.name, p.token, s.nameOf(p.at))
			case stored.hash != chain.Hash(p.hash) || stored.token != p.token:
				s.complain("%s: %s was acknowledged as %s, and there is %s", sink.name, p.token, s.nameOf(p.at), stored.token)
			}
		}
	}
	for at := range s.gone {
		if g, found := s.seen[at]; !found || !isPoison(g.token) {
			s.complain("%s (%s) is sealed as quarantined, and nobody refused it", s.nameOf(at), g.token)
		}
	}
}

// judgeIDs checks I5: an id is sealed once, over all lives, and so is a record
// without one in each attempt.
func (s *simulation) judgeIDs() {
	contents := map[string]string{} // token → id
	for _, records := range s.sent {
		for _, record := range records {
			contents[record.token] = record.id
		}
	}
	for _, a := range s.all {
		for i, token := range a.tokens {
			contents[token] = a.request.records[i].id
		}
	}
	tokens, ids := map[string]coordinate{}, map[string]coordinate{}
	for at, g := range s.seen {
		if g.event != simEvent {
			continue
		}
		if before, again := tokens[g.token]; again {
			s.complain("%s is sealed twice: %s and %s", g.token, s.nameOf(before), s.nameOf(at))
		}
		tokens[g.token] = at
		id, known := contents[g.token]
		if !known {
			s.complain("%s was never sent", g.token)
		}
		if before, again := ids[id]; again && id != "" {
			s.complain("%s is sealed twice: %s and %s", id, s.nameOf(before), s.nameOf(at))
		}
		ids[id] = at
	}
}

// judgeConflicts checks that who was told of a conflict had one, and that
// nothing of the request was sealed.
func (s *simulation) judgeConflicts() {
	sealed := map[string]bool{}
	for _, g := range s.seen {
		sealed[g.token] = true
	}
	for _, a := range s.conflicts {
		real := false
		for i, record := range a.request.records {
			if record.id == "" {
				if sealed[a.tokens[i]] {
					s.complain("%s is sealed, although its request was refused", a.tokens[i])
				}
				continue
			}
			real = real || !sealed[record.token]
		}
		if !real {
			s.complain("request %d was refused for a conflict that is none", a.request.number)
		}
	}
}

// judgeRefusals checks that what failed in the journal, and was cut off, did not
// come back.
func (s *simulation) judgeRefusals() {
	sealed := map[string]bool{}
	for _, g := range s.seen {
		sealed[g.token] = true
	}
	for _, a := range append(s.away, s.cutOff...) {
		for i, record := range a.request.records {
			if record.id == "" && sealed[a.tokens[i]] {
				s.complain("%s is sealed, although its request failed", a.tokens[i])
			}
		}
	}
}

// judgeQuarantine checks that what the processor put away is where it says.
func (s *simulation) judgeQuarantine() {
	directory := filepath.Join(s.disk.Directory, quarantineDirectory)
	for at, sink := range s.gone {
		if sink != nextConsumer {
			continue
		}
		there, err := quarantine.Has(directory, quarantine.Coordinate{Origin: at.origin, Index: at.index})
		if err != nil || !there {
			s.complain("%s is sealed as quarantined, and is not there: %v", s.nameOf(at), err)
		}
	}
}

// judgeRequests checks that an attempt is sealed whole or not at all.
func (s *simulation) judgeRequests() {
	frames := map[string]coordinate{}
	for at, g := range s.seen {
		frames[g.token] = at
	}
	for _, a := range s.all {
		var there, missing int
		for i, record := range a.request.records {
			if record.id != "" {
				continue
			}
			if _, found := frames[a.tokens[i]]; found {
				there++
			} else {
				missing++
			}
		}
		if there > 0 && missing > 0 {
			s.complain("request %d, %v, is sealed in part", a.request.number, a.tokens)
		}
	}
}

// judgeChain checks I2 and the chain over all lives, and returns the trees'
// roots by size.
func (s *simulation) judgeChain() map[coordinate]chain.Hash {
	roots := map[coordinate]chain.Hash{}
	heads := map[string]chain.Head{}
	counted := 0
	for _, origin := range s.order {
		var tree chain.Tree
		for {
			g, found := s.seen[coordinate{origin, tree.Size()}]
			if !found {
				break
			}
			counted++
			head := heads[g.link.Stream]
			if g.link.Seq != head.Seq+1 || g.link.Prev != head.Hash {
				s.complain("%s does not continue its stream", s.nameOf(g.at))
			}
			heads[g.link.Stream] = chain.Head{Seq: g.link.Seq, Hash: g.hash}
			tree.Append(g.hash)
			roots[coordinate{origin, tree.Size()}] = tree.Root()
		}
	}
	for _, origin := range s.begun {
		if !slices.Contains(s.order, origin) {
			s.complain("a life began, and its start record was never given out")
		}
	}
	if counted != len(s.seen) {
		s.complain("%d of %d records do not stand in a dense row of a life", len(s.seen)-counted, len(s.seen))
	}
	return roots
}

func (s *simulation) judgeCheckpoints(roots map[coordinate]chain.Hash) {
	for i := range s.points {
		c := s.points[i].checkpoint
		if roots[coordinate{c.Origin, c.Size}] != c.Root {
			s.complain("the checkpoint at %s has another root", s.nameOf(coordinate{c.Origin, c.Size}))
		}
	}
}

// judgeStore asks the verifier about what each sink has stored.
func (s *simulation) judgeStore() {
	for _, sink := range s.sinks {
		v, err := verify.New(verify.Options{Keys: []ed25519.PublicKey{s.public}})
		if err != nil {
			s.complain("verify: %v", err)
			return
		}
		for _, origin := range s.order {
			s.feed(v, sink, origin)
		}
		report, err := v.Finish()
		if err != nil {
			s.complain("verify: %v", err)
		}
		if report.ExitCode() != 0 {
			s.complain("%s: the verifier says %s, %s: %+v", sink.name, report.Integrity, report.Completeness, report.Findings)
		}
		s.happen("verified")
	}
}

// feed gives a life's lines to the verifier. What a stock exporter refused has
// a stub here, as an exporter of ours would leave it.
func (s *simulation) feed(v *verify.Verifier, sink *modelSink, origin string) {
	name := origin + "/" + strings.Repeat("0", 20) + ".jsonl"
	offset := int64(0)
	line := func(text []byte) {
		v.Line(name, offset, text)
		offset += int64(len(text)) + 1
	}
	for index := uint64(0); ; index++ {
		at := coordinate{origin, index}
		if point := sink.points[at]; point != nil {
			line(audit.AppendCheckpoint(nil, point.note, point.hashes))
		}
		g, found := s.seen[at]
		if !found {
			return
		}
		if stored := sink.stored[at]; stored != nil {
			line(audit.AppendEvent(nil, &stored.link, stored.hash, stored.canonical))
		} else {
			line(audit.AppendStub(nil, &g.link, g.hash))
		}
	}
}
