// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"slices"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// state is all that sealing builds on: the current life's tree and the heads
// of the log's streams. It belongs to the writer goroutine. What a group
// changed can be taken back until it is durable.
type state struct {
	origin string // the life that the tree belongs to, empty before the first
	ended  bool   // its last record was a Stop
	tree   chain.Tree
	heads  map[string]*chain.Head

	undo undo
}

// undo is how to return to the newest durable group.
type undo struct {
	origin string
	ended  bool
	tree   chain.Tree
	heads  []changedHead // in the order of change
}

type changedHead struct {
	stream string
	head   *chain.Head
	before chain.Head
}

func newState() *state { return &state{heads: make(map[string]*chain.Head)} }

// begin marks the state that rollback returns to.
func (s *state) begin() {
	s.undo.origin, s.undo.ended = s.origin, s.ended
	s.undo.tree.Restore(&s.tree)
	s.undo.heads = s.undo.heads[:0]
}

// rollback takes back all that happened since begin.
func (s *state) rollback() {
	s.origin, s.ended = s.undo.origin, s.undo.ended
	s.tree.Restore(&s.undo.tree)
	for _, changed := range slices.Backward(s.undo.heads) {
		*changed.head = changed.before
		if changed.before == (chain.Head{}) {
			delete(s.heads, changed.stream)
		}
	}
}

// enter starts a new life: its tree is empty, the streams go on.
func (s *state) enter(origin string) {
	s.origin, s.ended = origin, false
	s.tree = chain.Tree{}
}

// seal gives link its place: origin, index, stream, sequence number and
// predecessor. Stream, digest and time are the caller's. A stream beyond
// maxStreams becomes the overflow stream.
func (s *state) seal(link *chain.Link, maxStreams int) chain.Hash {
	head, known := s.heads[link.Stream]
	if !known {
		if len(s.heads) >= maxStreams && link.Stream != audit.StreamOrigin {
			link.Stream = audit.StreamOverflow
			head, known = s.heads[link.Stream]
		}
		if !known {
			head = new(chain.Head)
			s.heads[link.Stream] = head
		}
	}
	link.Origin = s.origin
	link.Index = s.tree.Size()
	link.Seq = head.Seq + 1
	link.Prev = head.Hash
	hash := link.Hash()
	s.undo.heads = append(s.undo.heads, changedHead{stream: link.Stream, head: head, before: *head})
	*head = chain.Head{Seq: link.Seq, Hash: hash}
	s.tree.Append(hash)
	return hash
}

// replay applies a durable group, checking that it continues the state: every
// hash is computed again, because what is built on a flipped bit is lost.
func (s *state) replay(group *Group) error {
	for _, request := range group.Requests {
		for i := range request.Links {
			if err := s.replayLink(group.Kind, &request.Links[i], request.Hashes[i]); err != nil {
				return err
			}
		}
	}
	s.ended = group.Kind == Stop
	return nil
}

func (s *state) replayLink(kind RecordKind, link *chain.Link, hash chain.Hash) error {
	if kind == Start {
		s.enter(link.Origin)
	}
	again := *link
	if s.seal(&again, len(s.heads)+1) != hash || again != *link {
		return fmt.Errorf("record %s/%d does not continue its stream", link.Origin, link.Index)
	}
	s.undo.heads = s.undo.heads[:0]
	return nil
}
