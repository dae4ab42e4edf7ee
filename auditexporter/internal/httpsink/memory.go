// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"strings"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// maxRemembered is how many coordinates are remembered: several of the audit
// processor's sends, so that a send that another exporter made fail is not
// posted again. About 10 MB when it is full.
const maxRemembered = 64 << 10

// memory knows what was delivered last: a bounded number of coordinates, the
// oldest of which are forgotten first.
type memory struct {
	marks  map[sink.Coordinate]mark
	order  []sink.Coordinate // a ring once it is full
	oldest int               // in order
	origin string            // of the newest: coordinates of one origin share its text
}

// mark is what the endpoint holds for a coordinate.
type mark struct {
	hash    chain.Hash // see hashOf
	refused string     // why it took a stub or nothing instead, "" if it took the record
}

func newMemory(most int) memory {
	return memory{marks: map[sink.Coordinate]mark{}, order: make([]sink.Coordinate, 0, most)}
}

func (m *memory) get(c sink.Coordinate) (mark, bool) {
	found, ok := m.marks[c]
	return found, ok
}

func (m *memory) put(c sink.Coordinate, what mark) {
	if c.Origin != m.origin {
		m.origin = strings.Clone(c.Origin) // not the caller's memory
	}
	c.Origin = m.origin
	if _, known := m.marks[c]; !known {
		m.makeRoom(c)
	}
	m.marks[c] = what
}

func (m *memory) makeRoom(c sink.Coordinate) {
	if len(m.order) < cap(m.order) {
		m.order = append(m.order, c)
		return
	}
	delete(m.marks, m.order[m.oldest])
	m.order[m.oldest] = c
	m.oldest = (m.oldest + 1) % len(m.order)
}
