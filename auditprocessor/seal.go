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

	"github.com/otelaudit/otelaudit/audit/chain"
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
	verdicts, tally := p.stages.apply(logs, filled.Tenant, filled.IntegrityHash)
	if reasons := refusals(verdicts); len(reasons) > 0 {
		p.refused(ctx, "invalid", len(verdicts))
		return errors.Join(receipt.Refused(strings.Join(reasons, "; ")), filled.Fill(results(verdicts, nil)))
	}
	request, err := newRequest(logs, verdicts)
	if err != nil {
		return receipt.Refused(err.Error())
	}
	if err := p.journal.Seal(ctx, request); err != nil {
		return p.sealError(ctx, err, len(verdicts))
	}
	p.hasSealed()
	p.count(ctx, len(verdicts), &tally)
	return filled.Fill(results(verdicts, request))
}

// newRequest keeps the records as OTLP bytes, in the order of the verdicts.
func newRequest(logs plog.Logs, verdicts []verdict) (*journal.Request, error) {
	payload, err := marshaler.MarshalLogs(logs)
	if err != nil {
		return nil, fmt.Errorf("marshal records: %w", err)
	}
	links := make([]chain.Link, len(verdicts))
	for i := range verdicts {
		links[i].Stream, links[i].Digest = verdicts[i].stream, verdicts[i].digest
	}
	return &journal.Request{Kind: journal.Client, Payload: payload, Links: links}, nil
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

// results tells the receiver what became of each record; request is nil where
// nothing was sealed.
func results(verdicts []verdict, request *journal.Request) []receipt.Result {
	filled := make([]receipt.Result, len(verdicts))
	for i := range verdicts {
		v := &verdicts[i]
		result := &filled[i]
		result.RecordID, result.IntegrityHash = v.recordID, v.integrity
		switch {
		case request != nil:
			result.Sealed, result.Reasons = true, v.reasons
			result.Link, result.Hash = request.Links[i], request.Hashes[i]
		case v.refused:
			result.Reasons = v.reasons
		}
	}
	return filled
}

func (p *auditProcessor) sealError(ctx context.Context, err error, records int) error {
	switch {
	case errors.Is(err, journal.ErrTooLarge):
		p.refused(ctx, "too_large", records)
		return receipt.TooLarge(err.Error())
	case errors.Is(err, journal.ErrFull):
		p.refused(ctx, "full", records)
		return receipt.Unavailable(err.Error(), retryFull)
	case errors.Is(err, journal.ErrUnknown):
		p.refused(ctx, "timeout", records)
		return receipt.Unavailable(journal.ErrUnknown.Error(), retryFailed)
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
