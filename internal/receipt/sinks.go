// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package receipt

import "time"

// Codes of failed attempts at a sink. The texts of the errors stay with the
// operator.
const (
	CodeTimeout  = "timeout"
	CodeConflict = "conflict"
	CodeFailed   = "failed"
)

// Attempt is one attempt of a sink to take records. An optional sink, which takes
// them later, tells instead how its last attempt ended.
type Attempt struct {
	Sink string // id of the exporter, for example `audit/archive`
	Type string // what it writes to, for example `file`
	Code string // one of those above; empty: it has the records
	// Optional says that no delivery waits for the sink.
	Optional bool
}

// Tell reports an attempt. Safe on a nil Delivery, where nobody listens.
func (d *Delivery) Tell(a Attempt) {
	if d != nil && d.Attempted != nil {
		d.Attempted(a)
	}
}

// SinkStatus is how one sink stands to a request. Words in it are those of OTEP
// 0267.
type SinkStatus struct {
	Sink     string
	Type     string
	Optional bool
	// Delivery is one of the words below.
	Delivery string
	// Attempts counts those in a row that failed; LastAttempt is of whatever
	// records. Of optional sinks, and of those that have the request's records,
	// both are zero.
	Attempts    int
	LastAttempt time.Time
	Code        string // of the last attempt, where it failed
}

// Words of SinkStatus.Delivery.
const (
	DeliverySuccess  = "success"
	DeliveryRetrying = "retrying"
	DeliveryTimeout  = "timeout" // retrying as well
	DeliveryFailed   = "failed"  // a record was refused for good
	DeliveryUnknown  = "unknown" // the records wait for their turn, or the sink is optional
)
