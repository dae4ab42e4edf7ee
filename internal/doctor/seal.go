// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// checkSignals finds audit components in pipelines of other signals.
func (e *examination) checkSignals() {
	for _, p := range e.pipelines {
		if p.signal == logsSignal {
			continue
		}
		for _, part := range slices.Concat(p.receivers, p.processors, p.exporters) {
			if isAudit(part) {
				e.add(codeWrongSignal, part.use, p.path(part.section)+keyDelimiter+part.id,
					"audit events are log records: in a pipeline of "+p.signal+" the component cannot be built and the collector does not start",
					"name it in a pipeline `logs` or `logs/…`")
			}
		}
	}
}

// checkDefined finds what pipelines name and no section defines.
func (e *examination) checkDefined() {
	for _, p := range e.audits {
		for _, part := range slices.Concat(p.receivers, p.processors, p.exporters) {
			if !part.defined {
				e.add(codeUndefined, part.use, part.path(),
					fmt.Sprintf("pipeline %s names it and no file defines it: the collector does not start", p.id),
					fmt.Sprintf("define it under `%s`, or give the file that does as a further argument", part.section))
			}
		}
	}
}

// checkSealed finds audit components without a seal, and records with two.
func (e *examination) checkSealed() {
	if len(e.audits) == 0 {
		e.checkAnyAudit()
	}
	for _, p := range e.audits {
		e.checkSealAround(p)
	}
	for _, p := range e.sealed() {
		e.checkSecondSeal(p)
	}
	e.checkReceiverSeals()
}

func (e *examination) checkAnyAudit() {
	guessed := e.at(service, "pipelines").unknown() ||
		slices.ContainsFunc(e.pipelines, func(p *pipeline) bool { return p.guessed })
	if guessed {
		return // said where it stands
	}
	at := e.at(service, "pipelines")
	e.add(codeNoAuditPipeline, at, join(service, "pipelines"),
		"no logs pipeline holds an audit component: nothing is sealed, and nothing here keeps the promise",
		"name the processor `audit` in a logs pipeline, or give the files that do")
}

// checkSealAround finds the audit receiver and exporter where nothing seals.
func (e *examination) checkSealAround(p *pipeline) {
	if p.guessed {
		return
	}
	upstream, downstream := before(p), behind(p)
	for _, r := range p.receivers {
		if isAudit(r) && !sealing(p) && !slices.ContainsFunc(downstream, uncertain) {
			e.add(codeUnsealedReceiver, r.use, p.path(receivers, r.id),
				"no audit processor stands behind this audit receiver: nothing can answer for the events, and every request is refused with 503",
				"name an `audit` processor, last, in `"+p.path(processors)+"`")
		}
	}
	for _, x := range p.exporters {
		if isAudit(x) && !sealing(p) && !slices.ContainsFunc(upstream, uncertain) {
			e.add(codeUnsealedExporter, x.use, p.path(exporters, x.id),
				"no audit processor stands before this audit exporter: it refuses every record, because none is sealed",
				"name an `audit` processor, last, in `"+p.path(processors)+"`")
		}
	}
}

// uncertain says that p seals, or may.
func uncertain(p *pipeline) bool { return sealing(p) || p.guessed }

func (e *examination) checkSecondSeal(p *pipeline) {
	for _, other := range processorsBehind(p) {
		if isAudit(other) {
			e.add(codeSecondSeal, other.use, p.path(processors, other.id),
				"sealed records are sealed again: each is kept in two journals, its first seal is no longer what the exporter checks, and an audit receiver answers 503 because two processors answer it",
				"keep one `audit` processor on the way from a receiver to an exporter")
		}
	}
}

// checkReceiverSeals finds audit receivers that feed several processors.
func (e *examination) checkReceiverSeals() {
	seals := map[string][]string{}
	for _, p := range e.sealed() {
		for _, r := range receiversBefore(p) {
			if isAudit(r) && !slices.Contains(seals[r.id], p.id) {
				seals[r.id] = append(seals[r.id], p.id)
			}
		}
	}
	for _, p := range e.sealed() {
		for _, r := range receiversBefore(p) {
			if fed := seals[r.id]; isAudit(r) && len(fed) > 1 {
				e.add(codeSecondSeal, r.use, r.path(),
					"it feeds the audit processors of several pipelines ("+strings.Join(fed, ", ")+"): two answers to one request, so the receiver answers 503",
					"one audit receiver, with an endpoint of its own, for each of these pipelines; several exporters can stand in one pipeline")
			}
		}
	}
}

// What processors do to records, by type without underscores.
var (
	limiters = []string{"memorylimiter"}
	// answers its caller before the next component has the records.
	async = []string{"batch", "queuebatch", "groupbytrace", "interval"}
	// keeps a part of the records.
	samplers = []string{"probabilisticsampler", "tailsampling", "logdedup", "ratelimiter"}
	filters  = []string{"filter"}
	// passes records on in the caller's turn, all of them.
	synchronous = []string{
		"attributes", "resource", "resourcedetection", "k8sattributes", "transform", "redaction", "groupbyattrs",
		"geoip", "schema", "signing", "unroll", "logstransform", "remotetap", "cumulativetodelta", "span",
	}
)

// checkBeforeSeal finds processors that lose events which nothing has sealed.
func (e *examination) checkBeforeSeal() {
	for _, p := range e.sealed() {
		for _, q := range processorsBefore(p) {
			e.checkBefore(q)
		}
	}
}

func (e *examination) checkBefore(q *part) {
	switch {
	case q.is(limiters...) || q.is(synchronous...):
	case q.is(async...):
		e.found(codeAsyncBefore, q, nil,
			"it answers as soon as the events are in memory, before the `audit` processor has them on disk: a crash loses acknowledged events, and errors behind it reach nobody",
			"remove it from pipelines that lead to `audit`: the journal writes what waits in one group anyway")
	case q.is(samplers...):
		e.found(codeSampledBefore, q, nil,
			"it answers for events that it drops: they are acknowledged, and stored nowhere",
			"remove it from pipelines that lead to `audit`")
	case q.is(filters...):
		e.found(codeFilterBefore, q, nil,
			"what its conditions match is acknowledged, and stored nowhere",
			"give audit events a receiver and a pipeline of their own, without a filter")
	default:
		e.found(codeUnknownBefore, q, nil,
			"it is not known whether it answers before the `audit` processor has the events, or drops some",
			"remove it, or make sure that it passes every event on before it answers")
	}
}

// checkAfterSeal finds processors behind the seal.
func (e *examination) checkAfterSeal() {
	for _, p := range e.sealed() {
		for _, q := range processorsBehind(p) {
			e.checkAfter(q)
		}
	}
}

func (e *examination) checkAfter(q *part) {
	cure := "put it before `audit` in the pipeline's processors, or remove it: `audit` is the last processor"
	reason := "whatever it changes in a sealed record no longer fits the seal: the audit exporter refuses it and the pipeline stands still, and in another store verification reports it"
	switch {
	case isAudit(q): // a second seal, said there
		return
	case q.is(limiters...):
		e.found(codeLimiterLate, q, nil,
			"behind the seal it cannot refuse a client: it only delays what the journal holds",
			"put it first in the pipeline, before `audit`")
		return
	case q.is(async...):
		reason = "it answers as soon as the records are in memory: the journal counts them as delivered and deletes them, and a crash loses them"
		cure = "remove it: the `audit` processor sends large batches already"
	case q.is(samplers...) || q.is(filters...):
		reason = "it drops sealed records: the journal counts them as delivered, and verification reports them as missing"
		cure = "remove it, or decide before `audit` what becomes an audit event"
	}
	e.found(codeAfterSeal, q, nil, reason, cure)
}

// connectorLoss is what connectors do to sealed records, by type without underscores.
var connectorLoss = map[string]string{
	"routing":    "records that match no route are dropped, and a log whose records are spread over several stores is complete in none",
	"roundrobin": "it spreads one log over several stores: verification reports records as missing in each",
	"failover":   "it stores a log partly here and partly there: verification reports records as missing in each",
}

// checkConnectors finds connectors that sealed records pass.
func (e *examination) checkConnectors() {
	for _, p := range e.sealed() {
		for _, c := range exportersBehind(p) {
			if c.section == connectors && e.leadsToLogs(c) {
				e.checkConnector(c)
			}
		}
	}
}

// leadsToLogs says that a logs pipeline receives from the connector. One that
// only counts records takes none from the stores beside it.
func (e *examination) leadsToLogs(c *part) bool {
	return slices.ContainsFunc(e.pipelines, func(p *pipeline) bool {
		return p.signal == logsSignal && slices.ContainsFunc(p.receivers, func(r *part) bool {
			return r.section == connectors && r.id == c.id
		})
	})
}

func (e *examination) checkConnector(c *part) {
	const cure = "name the exporters themselves in the pipeline of the `audit` processor"
	if c.is("forward") {
		e.found(codeConnector, c, nil,
			"the stores depend on a further pipeline, where the next change can put something between the seal and the exporter; what stands there now is judged as well", cure)
		return
	}
	reason, known := connectorLoss[c.kind]
	if !known {
		reason = "it makes something else of the records that it takes, or its behaviour is not known: the journal counts them as delivered and deletes them"
	}
	e.found(codeConnectorLoss, c, nil, reason, cure)
}
