// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// maxReason bounds what an exporter says about a record, in bytes.
const maxReason = 512

// quarantineRecord seals what an exporter did with a record.
func quarantineRecord(r *receipt.Report) controlRecord {
	action := bound(string(r.Action), chain.MaxName)
	return controlRecord{
		kind: journal.Quarantine, event: audit.EventQuarantine, verb: strings.ToUpper(action),
		set: func(attributes pcommon.Map) {
			attributes.PutStr(audit.AttributeQuarantineOrigin, bound(r.Origin, chain.MaxName))
			attributes.PutInt(audit.AttributeQuarantineIndex, clampInt(r.Index))
			attributes.PutStr(audit.AttributeQuarantineDigest, r.Digest.String())
			attributes.PutStr(audit.AttributeQuarantineSink, bound(r.Sink, chain.MaxName))
			attributes.PutStr(audit.AttributeQuarantineReason, bound(r.Reason, maxReason))
			attributes.PutStr(audit.AttributeQuarantineAction, action)
		},
	}
}

// bound makes text valid UTF-8 of at most the given number of bytes.
func bound(text string, most int) string {
	text = strings.ToValidUTF8(text[:min(len(text), 2*most)], "\uFFFD")
	for n := 0; n < len(text); {
		_, size := utf8.DecodeRuneInString(text[n:])
		if n += size; n > most {
			return text[:n-size]
		}
	}
	return text
}

// sealReports makes durable what exporters did with records, before the cursor
// passes them. It does not send again: the reports are in hand.
func (f *forwarder) sealReports(ctx context.Context, reports []receipt.Report) error {
	for i := range reports {
		if err := f.insist(ctx, func() error { return f.sealReport(ctx, &reports[i]) }); err != nil {
			return err
		}
		if reports[i].Action == receipt.Quarantined {
			f.gone[coordinate{reports[i].Origin, reports[i].Index}] = struct{}{}
		}
	}
	return nil
}

func (f *forwarder) sealReport(ctx context.Context, r *receipt.Report) error {
	if _, err := quarantineRecord(r).seal(ctx, f.journal, f.instance, f.now()); err != nil {
		return err
	}
	// Committed: the log says what became of the record.
	f.quarantined.note(r)
	if err := f.journal.UseReserve(func() error { return f.quarantined.save(r) }); err != nil {
		// Delivery goes on: it may be what frees the disk. It is tried again with
		// the next report, and at the end.
		f.telemetry.ProcessorAuditQuarantineFailures.Add(ctx, 1)
		f.logger.Error("what a sink refused for good is not saved yet: after a crash, who asks may be told that it was delivered", zap.Error(err))
	}
	f.tellSealed(ctx, r)
	return nil
}

func (f *forwarder) tellSealed(ctx context.Context, r *receipt.Report) {
	if r.Sealed == nil {
		return
	}
	if err := r.Sealed(); err != nil {
		f.telemetry.ProcessorAuditQuarantineFailures.Add(ctx, 1)
		f.logger.Error("an exporter could not close its report; it comes again",
			zap.String("sink", bound(r.Sink, chain.MaxName)), zap.Uint64("index", r.Index), zap.Error(err))
	}
}

// insist repeats what the cursor has to wait for until it succeeds. It returns
// an error when ctx ended or the journal takes nothing more: then the next life
// delivers again what this is about.
func (f *forwarder) insist(ctx context.Context, do func() error) error {
	for attempt := 0; ; attempt++ {
		err := do()
		if err == nil || errors.Is(err, journal.ErrClosed) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.telemetry.ProcessorAuditQuarantineFailures.Add(ctx, 1)
		f.failed(err)
		if err := f.waitBackOff(ctx, attempt, 0); err != nil {
			return err
		}
	}
}
