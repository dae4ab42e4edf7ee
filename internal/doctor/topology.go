// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import "slices"

const logsSignal = "logs"

// findAudits lists the logs pipelines that hold an audit component, and those
// that connectors join to one that seals.
func (e *examination) findAudits() []*pipeline {
	var audits []*pipeline
	for _, p := range e.pipelines {
		if p.signal != logsSignal {
			continue
		}
		ours := p.seal() >= 0 || slices.ContainsFunc(slices.Concat(p.receivers, p.exporters), isAudit)
		joined := slices.ContainsFunc(before(p), sealing) || slices.ContainsFunc(behind(p), sealing)
		if ours || joined {
			audits = append(audits, p)
		}
	}
	return audits
}

// sealed lists the pipelines that hold an audit processor.
func (e *examination) sealed() []*pipeline {
	return slices.DeleteFunc(slices.Clone(e.audits), func(p *pipeline) bool { return !sealing(p) })
}

func sealing(p *pipeline) bool { return p.seal() >= 0 }

func isAudit(p *part) bool { return p.section != connectors && p.is(auditType) }

// seal is where the first audit processor stands, -1 if there is none.
func (p *pipeline) seal() int { return slices.IndexFunc(p.processors, isAudit) }

// before are the logs pipelines whose records come to p through connectors. It
// does not look past one that seals: what stands before that is its own.
func before(p *pipeline) []*pipeline {
	return joined(p, func(from *pipeline) []*pipeline {
		if from != p && sealing(from) {
			return nil
		}
		return from.previous
	})
}

// behind are the logs pipelines that records of p come to through connectors.
func behind(p *pipeline) []*pipeline {
	return joined(p, func(from *pipeline) []*pipeline { return from.next })
}

// joined is what neighbours lead to from p, at any distance, without p.
func joined(p *pipeline, neighbours func(*pipeline) []*pipeline) []*pipeline {
	reached, seen := []*pipeline{p}, map[*pipeline]bool{p: true}
	for i := 0; i < len(reached); i++ { // grows below
		for _, other := range neighbours(reached[i]) {
			if !seen[other] {
				seen[other] = true
				reached = append(reached, other)
			}
		}
	}
	return reached[1:]
}

// connect joins logs pipelines that a connector takes records from and to.
func (e *examination) connect() {
	receiving := map[string][]*pipeline{} // by connector
	for _, p := range e.pipelines {
		for _, r := range p.receivers {
			if r.section == connectors && p.signal == logsSignal {
				receiving[r.id] = append(receiving[r.id], p)
			}
		}
	}
	for _, p := range e.pipelines {
		for _, x := range p.exporters {
			if x.section != connectors || p.signal != logsSignal {
				continue
			}
			for _, to := range receiving[x.id] {
				p.next = append(p.next, to)
				to.previous = append(to.previous, p)
			}
		}
	}
}

// processorsBefore are those that records meet before they are sealed.
func processorsBefore(p *pipeline) []*part {
	found := slices.Clone(p.processors[:p.seal()])
	for _, other := range before(p) {
		if !sealing(other) {
			found = append(found, other.processors...)
		}
	}
	return found
}

// processorsBehind are those that sealed records meet.
func processorsBehind(p *pipeline) []*part {
	found := slices.Clone(p.processors[p.seal()+1:])
	for _, other := range behind(p) {
		found = append(found, other.processors...)
	}
	return found
}

// exportersBehind are the exporters and connectors that sealed records meet.
func exportersBehind(p *pipeline) []*part {
	found := slices.Clone(p.exporters)
	for _, other := range behind(p) {
		found = append(found, other.exporters...)
	}
	return found
}

// receiversBefore are the doors through which events come to p.
func receiversBefore(p *pipeline) []*part {
	found := slices.Clone(p.receivers)
	for _, other := range before(p) {
		if !sealing(other) {
			found = append(found, other.receivers...)
		}
	}
	return slices.DeleteFunc(found, func(r *part) bool { return r.section == connectors })
}
