// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"bytes"
	"strings"
	"time"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
)

// Filter says which events are wanted. An empty member restricts nothing; all
// others must hold. Texts match whole.
type Filter struct {
	Actor  string `json:"actor,omitempty"`  // actor.id
	Action string `json:"action,omitempty"` // action
	Target string `json:"target,omitempty"` // target.id
	Tenant string `json:"tenant,omitempty"` // the authenticated tenant, else context.tenantId
	// Outcome is the word of the event: SUCCESS, FAILURE, DENIED, ERROR,
	// UNKNOWN, in any case, or what a sender wrote instead.
	Outcome string `json:"outcome,omitempty"`
	// Since and Until bound OccurredAt: Since itself is in, Until is not.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Control wants what the collector itself sealed as well.
	Control bool `json:"control,omitempty"`
}

// Matches says whether e is wanted.
func (f *Filter) Matches(e *Event) bool {
	return (f.Control || !e.IsControl()) &&
		(f.Actor == "" || f.Actor == e.said.Actor.ID) &&
		(f.Action == "" || f.Action == e.said.Action) &&
		(f.Target == "" || f.Target == e.said.target.ID) &&
		(f.Tenant == "" || f.Tenant == e.Tenant) &&
		(f.Outcome == "" || strings.EqualFold(f.Outcome, e.said.Outcome)) &&
		(f.Since.IsZero() || !e.OccurredAt.Before(f.Since)) &&
		(f.Until.IsZero() || e.OccurredAt.Before(f.Until))
}

// Sieve is a Filter made ready for many lines.
type Sieve struct {
	filter  Filter
	needles [][]byte
}

// NewSieve returns the sieve of f.
func NewSieve(f Filter) *Sieve {
	s := &Sieve{filter: f}
	for _, text := range []string{f.Actor, f.Action, f.Target, f.Tenant} {
		if text != "" {
			s.needles = append(s.needles, canonical.AppendString(nil, text))
		}
	}
	return s
}

// Take reads the event of a line, if it is wanted; else it returns nil. Most
// lines that are not wanted are not read: a text that is asked for stands in
// the canonical bytes in the one spelling that it can have there.
func (s *Sieve) Take(line *audit.Line) (*Event, error) {
	if line.Kind != audit.LineEvent || line.Link.Stream == audit.StreamOrigin && !s.filter.Control {
		return nil, nil
	}
	for _, needle := range s.needles {
		if !bytes.Contains(line.Event, needle) {
			return nil, nil
		}
	}
	e, err := Read(line)
	if err != nil || !s.filter.Matches(e) {
		return nil, err
	}
	return e, nil
}
