// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"context"
	"sync"

	"github.com/otelaudit/otelaudit/audit/chain"
)

// Action is what an exporter did with a sealed record beside storing it.
type Action string

// The actions that the processor seals.
const (
	// Quarantined: a sink refused the record for good. The record is in a
	// quarantine directory, and a stub stands in its place where the sink has
	// stubs.
	Quarantined Action = "quarantine"
	// Replayed: a quarantined record was stored in the sink after all.
	Replayed Action = "replay"
	// Dropped: an operator gave a quarantined record up.
	Dropped Action = "drop"
)

// Report is what an exporter did with one sealed record.
type Report struct {
	Action Action
	// Origin, Index and Digest name the record.
	Origin string
	Index  uint64
	Digest chain.Hash
	Sink   string // id of the exporter, for example `audit/archive`
	Reason string // for people; never a part of the record
	// Sealed is called once a sealed record that says all this is durable, from
	// the forwarder's goroutine. May be nil. An error is counted and logged; the
	// report comes again from whoever made it.
	Sealed func() error
}

// Delivery travels down a pipeline in the context of one ConsumeLogs call of
// the processor's forwarder. What an exporter reports to it before that call
// returns nil is sealed before the delivery counts. Safe for concurrent use.
type Delivery struct {
	// Attempted hears of each attempt of a sink, while the call lasts. Set
	// before the call; may be nil. Called from any goroutine.
	Attempted func(Attempt)

	// Early says that the records come before their turn, to see whether they
	// are taken: what precedes them need not be delivered. Else all of the log
	// before the first of them was taken by every required consumer.
	Early bool

	mu      sync.Mutex
	reports []Report // guarded by mu
}

// Report adds r to what the processor seals. After a call that failed, the
// repeated one must report again.
func (d *Delivery) Report(r Report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports = append(d.reports, r)
}

// Take returns what was reported since the last Take, in order.
func (d *Delivery) Take() []Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	reports := d.reports
	d.reports = nil
	return reports
}

type deliveryKey struct{}

// WithDelivery returns a context that carries d.
func WithDelivery(ctx context.Context, d *Delivery) context.Context {
	return context.WithValue(ctx, deliveryKey{}, d)
}

// DeliveryFrom returns the delivery in ctx, nil if there is none: nobody then
// seals what an exporter does.
func DeliveryFrom(ctx context.Context) *Delivery {
	d, _ := ctx.Value(deliveryKey{}).(*Delivery)
	return d
}
