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
		joined := slices.ContainsFunc(e.before(p), sealing) || slices.ContainsFunc(e.behind(p), sealing)
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
func (e *examination) before(p *pipeline) []*pipeline {
	return e.joined(p, func(from, to *pipeline) bool {
		return (from == p || !sealing(from)) && connects(to, from)
	})
}

// behind are the logs pipelines that records of p come to through connectors.
func (e *examination) behind(p *pipeline) []*pipeline {
	return e.joined(p, connects)
}

// joined is what next leads to from p, at any distance, without p.
func (e *examination) joined(p *pipeline, next func(from, to *pipeline) bool) []*pipeline {
	reached := []*pipeline{p}
	for i := 0; i < len(reached); i++ { // grows below
		for _, other := range e.pipelines {
			if other.signal == logsSignal && !slices.Contains(reached, other) && next(reached[i], other) {
				reached = append(reached, other)
			}
		}
	}
	return reached[1:]
}

// connects says that a connector takes records of one pipeline to another.
func connects(from, to *pipeline) bool {
	return slices.ContainsFunc(from.exporters, func(out *part) bool {
		return out.section == connectors && slices.ContainsFunc(to.receivers, func(in *part) bool {
			return in.section == connectors && in.id == out.id
		})
	})
}

// processorsBefore are those that records meet before they are sealed.
func (e *examination) processorsBefore(p *pipeline) []*part {
	found := slices.Clone(p.processors[:p.seal()])
	for _, other := range e.before(p) {
		if !sealing(other) {
			found = append(found, other.processors...)
		}
	}
	return found
}

// processorsBehind are those that sealed records meet.
func (e *examination) processorsBehind(p *pipeline) []*part {
	found := slices.Clone(p.processors[p.seal()+1:])
	for _, other := range e.behind(p) {
		found = append(found, other.processors...)
	}
	return found
}

// exportersBehind are the exporters and connectors that sealed records meet.
func (e *examination) exportersBehind(p *pipeline) []*part {
	found := slices.Clone(p.exporters)
	for _, other := range e.behind(p) {
		found = append(found, other.exporters...)
	}
	return found
}

// receiversBefore are the doors through which events come to p.
func (e *examination) receiversBefore(p *pipeline) []*part {
	found := slices.Clone(p.receivers)
	for _, other := range e.before(p) {
		if !sealing(other) {
			found = append(found, other.receivers...)
		}
	}
	return slices.DeleteFunc(found, func(r *part) bool { return r.section == connectors })
}
