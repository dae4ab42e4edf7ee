// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otelaudit/otelaudit/audit/proof"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// maxRemembered is how many refusals of records a processor knows of.
const maxRemembered = 1 << 16

// quarantineMemory remembers which records required sinks refused for good, the
// newest, over restarts.
type quarantineMemory struct {
	// Owned by the goroutine of the forwarder while it runs, else by who opens
	// and closes.
	keptFile     // without a path nothing is saved
	lines    int // in the file

	mu    sync.Mutex
	known map[coordinate][]string // guarded by mu; the sinks that refused it and have not taken it since; each list is never changed
	order []refusal               // guarded by mu; what is known, oldest first
}

// refusal is of one record by one sink.
type refusal struct {
	at   coordinate
	sink string
}

// note takes in what an exporter did with a record.
func (q *quarantineMemory) note(r *receipt.Report) {
	at := coordinate{r.Origin, r.Index}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch r.Action {
	case receipt.Quarantined:
		q.enter(refusal{at, r.Sink})
	case receipt.Replayed:
		q.forget(refusal{at, r.Sink})
	}
}

// enter takes a refusal in. The caller holds mu.
func (q *quarantineMemory) enter(r refusal) {
	sinks := q.known[r.at]
	if slices.Contains(sinks, r.sink) {
		return
	}
	if q.known == nil {
		q.known = map[coordinate][]string{}
	}
	q.known[r.at] = append(slices.Clone(sinks), r.sink)
	if q.order = append(q.order, r); len(q.order) > maxRemembered {
		q.forget(q.order[0])
	}
}

// forget takes it out: other sinks that refused the record still do not have it.
// The caller holds mu.
func (q *quarantineMemory) forget(r refusal) {
	switch i := slices.Index(q.order, r); i {
	case -1:
		return
	case 0: // as in most cases
		q.order = q.order[1:]
	default:
		q.order = slices.Delete(q.order, i, i+1)
	}
	others := slices.DeleteFunc(slices.Clone(q.known[r.at]), func(sink string) bool { return sink == r.sink })
	if len(others) == 0 {
		delete(q.known, r.at)
		return
	}
	q.known[r.at] = others
}

// by returns the sinks that refused a record and have not taken it since.
func (q *quarantineMemory) by(at coordinate) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.known[at]
}

// refuseFlagged refuses what is only flagged otherwise: a record that breaks the
// schema, and a new one whose proof failed. A place in a producer's chain is for
// `sequence::on_violation` alone.
func refuseFlagged(verdicts []verdict) {
	for i := range verdicts {
		v := &verdicts[i]
		faults := len(v.reasons)
		if v.place.Violates() {
			faults--
		}
		if v.verified == proof.Failed {
			v.onlyKnown = true
			faults--
		}
		v.refused = v.refused || faults > 0
	}
}

// tellDelivery adds to a receipt what is known of the delivery of its records.
func (p *auditProcessor) tellDelivery(filled *receipt.Receipt, results []receipt.Result) {
	filled.Checkpoint = p.published.Load()
	for i := range results {
		results[i].QuarantinedBy = p.quarantined.by(coordinateOf(&results[i].Link))
	}
	filled.Sinks = p.sinks.statuses(filled.Pending)
}

// sinkBoard remembers how the last attempt of each sink ended. Safe for
// concurrent use.
type sinkBoard struct {
	mu    sync.Mutex
	known map[string]receipt.SinkStatus // guarded by mu; by id: as many as there are exporters
}

func (b *sinkBoard) note(a receipt.Attempt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil {
		b.known = map[string]receipt.SinkStatus{}
	}
	s := b.known[a.Sink]
	s.Sink, s.Type, s.Code, s.Optional = a.Sink, a.Type, a.Code, a.Optional
	if !a.Optional {
		s.LastAttempt = time.Now()
		s.Attempts++
	}
	if a.Code == "" {
		s.Attempts = 0
	}
	b.known[a.Sink] = s
}

// statuses says how the sinks stand to records that are delivered, or pending.
// Whether pending ones are among those that a sink is being sent is not known:
// a sink that fails holds them up in any case, one that does not says nothing of
// them. Nor does an optional sink, whose queue they are in.
func (b *sinkBoard) statuses(pending bool) []receipt.SinkStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	statuses := slices.SortedFunc(maps.Values(b.known), func(x, y receipt.SinkStatus) int { return strings.Compare(x.Sink, y.Sink) })
	for i := range statuses {
		s := &statuses[i]
		switch {
		case !pending && !s.Optional:
			*s = receipt.SinkStatus{Sink: s.Sink, Type: s.Type, Delivery: receipt.DeliverySuccess}
		case s.Code == receipt.CodeTimeout:
			s.Delivery = receipt.DeliveryTimeout
		case s.Code != "":
			s.Delivery = receipt.DeliveryRetrying
		default:
			s.Delivery = receipt.DeliveryUnknown
		}
	}
	return statuses
}
