// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

const (
	firstBackOff = 100 * time.Millisecond
	maxBackOff   = 5 * time.Second
)

// settle brings a send to its end. An answer of the next consumer means:
//
//	taken                          settled; what exporters reported is sealed first
//	refused                        again after a pause, without end
//	refused for good, many records each half by itself, in order
//	refused for good, one record   judged: the consumer is asked for the witness and for the record once more
//
// and the judgement:
//
//	witness taken, record refused for good again   poison: into quarantine, sealed, settled
//	anything else                                  an outage that is reported as permanent: again after a pause
//
// So a consumer that refuses everything for good empties nothing into
// quarantine. The witness is the newest checkpoint that the consumer took in
// this life, before that a heartbeat; both may come twice without harm. A
// checkpoint or control record itself is never judged: a log without it proves
// less, so it is repeated without end, and the status says which it is. So is a
// conflict: it is an alarm about the store, not about the record.
//
// A crash anywhere costs repetitions only: the cursor passes a frame when all
// its records are settled.
func (f *forwarder) settle(ctx context.Context, send []piece) error {
	f.watch.begin(send[0].String())
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			return ctx.Err() // a consumer that takes no notice of it would go on and on
		}
		refusal, err := f.offer(ctx, send)
		if err != nil {
			return err
		}
		poison := false
		if refusal != nil && permanent(refusal) {
			if countRecords(send) > 1 {
				return f.settleHalves(ctx, send)
			}
			if refusal, poison, err = f.judge(ctx, send, refusal); err != nil {
				return err
			}
		}
		if poison {
			if err := f.putAway(ctx, &send[0], refusal); err != nil {
				return err
			}
		}
		if poison || refusal == nil {
			f.recovered()
			f.delivered(ctx, send)
			f.answerRequests(ctx)
			return nil
		}
		f.failed(refusal)
		if err := f.waitBackOff(ctx, attempt, retryHint(refusal)); err != nil {
			return err
		}
	}
}

func permanent(refusal error) bool {
	return isPermanent(refusal) && !errors.Is(refusal, receipt.ErrConflict)
}

func (f *forwarder) settleHalves(ctx context.Context, send []piece) error {
	first, second := halve(send)
	if err := f.settle(ctx, first); err != nil {
		return err
	}
	return f.settle(ctx, second)
}

// offer gives the pieces to the next consumer once, and seals what exporters
// report of it. refusal is the consumer's error; err says that the forwarder
// cannot go on.
func (f *forwarder) offer(ctx context.Context, pieces []piece) (refusal, err error) {
	logs, err := build(pieces) // anew each time: the next consumer may have changed the last
	if err != nil {
		return nil, err
	}
	return f.send(ctx, logs)
}

// offerWitness is offer of a piece whose turn has not come.
func (f *forwarder) offerWitness(ctx context.Context, witness *piece) (refusal, err error) {
	logs, err := build([]piece{*witness})
	if err != nil {
		return nil, err
	}
	return f.sendWithin(ctx, ctx, logs, &receipt.Delivery{Early: true})
}

func (f *forwarder) send(ctx context.Context, logs plog.Logs) (refusal, err error) {
	return f.sendWithin(ctx, ctx, logs, &receipt.Delivery{})
}

// sendWithin is send with a context of its own, derived from ctx, for the call
// of the next consumer.
// What a failed call reported to delivery comes again.
func (f *forwarder) sendWithin(ctx, within context.Context, logs plog.Logs, delivery *receipt.Delivery) (refusal, err error) {
	delivery.Attempted = f.sinks.note
	if refusal := f.next.ConsumeLogs(receipt.WithDelivery(within, delivery), logs); refusal != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f.telemetry.ProcessorAuditDeliveryFailures.Add(ctx, 1)
		return refusal, nil
	}
	return nil, f.sealReports(ctx, delivery.Take())
}

// judge is about a single record that was refused for good. It returns nil
// where the record is taken after all, and else whether it is poison.
func (f *forwarder) judge(ctx context.Context, suspect []piece, refusal error) (again error, poison bool, err error) {
	if suspect[0].checkpoint != nil || suspect[0].kind != journal.Client {
		return refusal, false, nil
	}
	witness := f.takeWitness(ctx)
	if witness == nil {
		return refusal, false, nil
	}
	if other, err := f.offerWitness(ctx, witness); err != nil || other != nil {
		return refusal, false, err
	}
	again, err = f.offer(ctx, suspect)
	return again, again != nil && permanent(again), err
}

// takeWitness returns the witness, nil where there is none: the journal cannot
// be written, or has its stop record already.
func (f *forwarder) takeWitness(ctx context.Context) *piece {
	if f.witness != nil {
		return f.witness
	}
	request, err := heartbeatRecord().seal(ctx, f.journal, f.instance, f.now())
	if err != nil {
		if !errors.Is(err, journal.ErrClosed) {
			f.logger.Warn("no heartbeat could be sealed as a witness; trying again", zap.Error(err))
		}
		return nil
	}
	f.witness = &piece{kind: request.Kind, to: 1, request: &journal.Sealed{
		Payload: request.Payload, Links: request.Links, Hashes: request.Hashes,
	}}
	return f.witness
}

func (f *forwarder) waitBackOff(ctx context.Context, attempt int, hint time.Duration) error {
	pause := min(firstBackOff<<min(attempt, 16), maxBackOff)
	pause = pause/2 + f.jitter(pause/2)
	timer := time.NewTimer(max(pause, hint))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (f *forwarder) failed(refusal error) {
	f.watch.failed(refusal)
	alarm := errors.Is(refusal, receipt.ErrConflict) && !f.conflict.Swap(true) // it lasts, whatever else fails meanwhile
	if !f.failing || alarm {
		f.failing = true
		f.report(refusal)
		f.logger.Warn("delivery failed; the records stay in the journal and are sent again", zap.Error(refusal))
	}
}

func (f *forwarder) recovered() {
	if spoke := f.watch.end(); !spoke && !f.failing {
		return
	}
	f.failing = false
	f.conflict.Store(false)
	componentstatus.ReportStatus(f.host, componentstatus.NewEvent(componentstatus.StatusOK))
	f.logger.Info("delivery works again")
}
