// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"sync"

	"github.com/otelaudit/otelaudit/internal/receipt"
)

// maxRemembered is how many quarantined records a processor knows of.
const maxRemembered = 1 << 16

// quarantineMemory remembers which records required sinks refused for good, the newest
// of this process. Safe for concurrent use.
type quarantineMemory struct {
	mu    sync.Mutex
	known map[coordinate]struct{} // guarded by mu
	order []coordinate            // guarded by mu; oldest first, some of them known no more
}

// note takes in what an exporter did with a record.
func (q *quarantineMemory) note(r *receipt.Report) {
	at := coordinate{r.Origin, r.Index}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch r.Action {
	case receipt.Quarantined:
		if q.known == nil {
			q.known = map[coordinate]struct{}{}
		}
		if _, again := q.known[at]; again {
			return
		}
		q.known[at] = struct{}{}
		if q.order = append(q.order, at); len(q.order) > maxRemembered {
			delete(q.known, q.order[0])
			q.order = q.order[1:]
		}
	case receipt.Replayed:
		delete(q.known, at)
	}
}

func (q *quarantineMemory) has(at coordinate) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, found := q.known[at]
	return found
}

// refuseFlagged refuses what is only flagged otherwise.
func refuseFlagged(verdicts []verdict) {
	for i := range verdicts {
		if len(verdicts[i].reasons) > 0 {
			verdicts[i].refused = true
		}
	}
}

// tellDelivery adds to a receipt what is known of the delivery of its records.
func (p *auditProcessor) tellDelivery(filled *receipt.Receipt, results []receipt.Result) {
	filled.Checkpoint = p.published.Load()
	for i := range results {
		results[i].Quarantined = p.quarantined.has(coordinateOf(&results[i].Link))
	}
}
