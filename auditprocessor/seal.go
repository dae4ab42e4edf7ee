// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

var (
	marshaler   = plog.ProtoMarshaler{}
	unmarshaler = plog.ProtoUnmarshaler{}
)

const (
	retryFull   = 5 * time.Second // a backlog takes a while to shrink
	retryFailed = time.Second

	// maxRequestRecords bounds what the smallest records, a few bytes each,
	// become once each has an id, a verdict and its marks.
	maxRequestRecords = 50_000

	// shownReasons bounds the text of an error: the receipt has them all.
	shownReasons = 10
)

// ConsumeLogs seals the records of one request, whole or not at all. When it
// returns nil they are durable. An error is a gRPC status: InvalidArgument for
// what would be refused again, Unavailable with RetryInfo for the rest.
func (p *auditProcessor) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	filled := receipt.FromContext(ctx)
	if filled == nil {
		filled = &receipt.Receipt{}
	}
	if filled.Filled() {
		return receipt.Unavailable(receipt.ErrFilledTwice.Error(), retryFull)
	}
	p.telemetry.ProcessorAuditReceivedRecords.Add(ctx, int64(logs.LogRecordCount()))
	if logs.LogRecordCount() == 0 {
		return filled.Fill(nil)
	}
	if n := logs.LogRecordCount(); n > maxRequestRecords {
		p.refused(ctx, "too_large", n)
		return receipt.TooLarge(fmt.Sprintf("request has %d records, more than %d: send smaller batches", n, maxRequestRecords))
	}
	if p.conflict.Load() {
		p.refused(ctx, "conflict", logs.LogRecordCount())
		return receipt.Unavailable(receipt.ErrConflict.Error(), retryFull)
	}
	session, err := p.beginSequences(ctx, logs, filled.Tenant)
	if err != nil {
		p.refused(ctx, "timeout", logs.LogRecordCount())
		return receipt.Unavailable(errSequenceHeld, retryFailed)
	}
	return p.consume(ctx, logs, filled, session)
}

// consume seals a request. It lets go of the streams that session holds for it,
// nil where it names none.
func (p *auditProcessor) consume(ctx context.Context, logs plog.Logs, filled *receipt.Receipt, session *sequenceSession) error {
	held := session
	defer func() { p.endSequences(held, false) }()
	verdicts, tally := p.stages.applyIn(session, logs, filled.Tenant, filled.IntegrityHash)
	p.countProofs(ctx, &tally)
	if filled.RejectInvalid {
		refuseFlagged(verdicts)
	}
	if reasons := refusals(verdicts); len(reasons) > 0 {
		p.refused(ctx, "invalid", len(verdicts))
		return errors.Join(receipt.Refused(strings.Join(reasons, "; ")), filled.Fill(refusedResults(verdicts)))
	}
	s, err := newSealing(logs, verdicts)
	if err == nil {
		err = s.seal(ctx, p.journal)
	}
	if err != nil {
		err = s.giveBack(logs, err)
	}
	if errors.Is(err, journal.ErrUnknown) {
		held = nil
		p.countLater(s, tally, session)
		return receipt.Unavailable(journal.ErrUnknown.Error(), retryFailed)
	}
	if err != nil {
		return p.sealError(ctx, err, filled, verdicts)
	}
	held = nil
	p.endSequences(session, true)
	p.sealed(ctx, s.sealed(), len(verdicts), &tally)
	p.countPlaces(ctx, s)
	filled.Pending = p.pending(ctx, s.frame(), filled.AwaitDelivery)
	results := s.results()
	if filled.AwaitDelivery != nil {
		p.tellDelivery(filled, results)
	}
	return filled.Fill(results)
}

// sealed takes note of a request of which so many records were sealed, and the
// others came before.
func (p *auditProcessor) sealed(ctx context.Context, sealed, records int, t *tally) {
	if sealed > 0 {
		p.hasSealed()
	}
	p.count(ctx, sealed, records-sealed, t)
}

// countLater counts a request whose caller gave up waiting for the journal, once
// its fate is known: it may be durable all the same, and counts as one thing.
// Its producers' streams are held for as long.
func (p *auditProcessor) countLater(s *sealing, t tally, session *sequenceSession) {
	sealed, records := s.sealed(), len(s.verdicts)
	s.request.Settled(func(err error) {
		if session != nil {
			session.end(err == nil)
		}
		if err != nil {
			p.refused(context.Background(), "timeout", records)
			return
		}
		p.sealed(context.Background(), sealed, records, &t)
	})
}

// pending says whether the delivery of a frame was to be waited for, and has
// not come in time.
func (p *auditProcessor) pending(ctx context.Context, frame uint64, asked <-chan struct{}) bool {
	if p.config.Ack != ackDelivered && asked == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.AckTimeout)
	defer cancel()
	if asked != nil {
		go func() {
			select {
			case <-asked:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return p.journal.AwaitDelivery(ctx, frame) != nil
}

// refusals names the records that refuse the request, with their position.
func refusals(verdicts []verdict) []string {
	var reasons []string
	more := 0
	for i := range verdicts {
		switch {
		case !verdicts[i].refused:
		case len(reasons) < shownReasons:
			reasons = append(reasons, fmt.Sprintf("record %d: %s", i, strings.Join(verdicts[i].reasons, ", ")))
		default:
			more++
		}
	}
	if more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more records", more))
	}
	return reasons
}

func (p *auditProcessor) sealError(ctx context.Context, err error, filled *receipt.Receipt, verdicts []verdict) error {
	records := len(verdicts)
	switch {
	case receipt.IsIDTaken(err):
		p.refused(ctx, "id_taken", records)
		if more, due := p.taken.due(time.Now()); due {
			p.logger.Warn("a record id came again with other content: the request was refused", zap.Int("since_the_last_line", more), zap.Error(err))
		}
		return errors.Join(err, filled.Fill(refusedResults(verdicts)))
	case receipt.IsRefused(err):
		p.refused(ctx, "invalid", records)
		if len(refusals(verdicts)) == 0 {
			return err
		}
		p.countRefusedPlaces(ctx, verdicts)
		return errors.Join(err, filled.Fill(refusedResults(verdicts)))
	case errors.Is(err, journal.ErrTooLarge):
		p.refused(ctx, "too_large", records)
		return receipt.TooLarge(err.Error())
	case errors.Is(err, journal.ErrFull):
		p.refused(ctx, "full", records)
		return receipt.Unavailable(err.Error(), retryFull)
	case errors.Is(err, journal.ErrBusy):
		p.refused(ctx, "busy", records)
		return receipt.Unavailable(err.Error(), retryFailed)
	case errors.Is(err, journal.ErrClosed):
		p.refused(ctx, "shutdown", records)
		return receipt.Unavailable(err.Error(), retryFailed)
	default: // the error itself, with its path, is for the log
		p.refused(ctx, "write_failed", records)
		return receipt.Unavailable(journal.ErrWrite.Error(), retryFailed)
	}
}

func (p *auditProcessor) refused(ctx context.Context, reason string, records int) {
	p.telemetry.ProcessorAuditRefusedRecords.Add(ctx, int64(records), labelled("reason", reason))
}
