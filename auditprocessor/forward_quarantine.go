// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/quarantine"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

const (
	// quarantineDirectory is the folder in the journal directory that keeps
	// what the next consumer refused for good.
	quarantineDirectory = "quarantine"

	// nextConsumer stands for the sink in the evidence: which of the exporters
	// behind a fan-out refused cannot be seen from here.
	nextConsumer = "next consumer"

	// requestInterval is the least time between two looks at what operators ask
	// for.
	requestInterval = time.Second

	// maxRequests bounds how many are done at a time; the rest follows.
	maxRequests = 1000
)

// putAway settles a record that the next consumer refuses for good: first it
// is durable in the quarantine directory, then in the log that it is there.
func (f *forwarder) putAway(ctx context.Context, poison *piece, refusal error) error {
	reason := refusalReason(refusal)
	link := &poison.request.Links[poison.from]
	err := f.insist(ctx, func() error { return f.put(poison, reason) })
	if err != nil {
		return err
	}
	f.logger.Warn("the next consumer refused a record for good; it is in quarantine",
		zap.String("origin", link.Origin), zap.Uint64("index", link.Index), zap.String("reason", reason))
	f.logger.Debug("why a record was refused for good", zap.Error(refusal))
	return f.sealReports(ctx, []receipt.Report{{
		Action: receipt.Quarantined, Origin: link.Origin, Index: link.Index, Digest: link.Digest,
		Sink: nextConsumer, Reason: reason,
	}})
}

func (f *forwarder) put(poison *piece, reason string) error {
	event, err := poison.canonical()
	if err != nil {
		return err
	}
	err = quarantine.Put(f.quarantine, &quarantine.Entry{
		Link: poison.request.Links[poison.from], Hash: poison.request.Hashes[poison.from],
		Sink: nextConsumer, Reason: reason, At: f.now(), Event: event,
	})
	if errors.Is(err, quarantine.ErrConflict) {
		return fmt.Errorf("%w: %w", receipt.ErrConflict, err)
	}
	return err
}

// canonical returns the canonical bytes of the one record in p.
func (p *piece) canonical() ([]byte, error) {
	logs, err := p.decode()
	if err != nil {
		return nil, err
	}
	keep(logs, 0, p.records()) // nothing empty before it
	resource := logs.ResourceLogs().At(0)
	scope := resource.ScopeLogs().At(0)
	var encoder canonical.Encoder
	if err := encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()); err != nil {
		return nil, err
	}
	event, _, err := encoder.Append(nil, scope.LogRecords().At(0))
	return event, err
}

// answerRequests does what operators ask for records in quarantine. It is
// called when the next consumer has just taken something, so an idle log does it
// with the next heartbeat. What cannot be done now is tried again then.
func (f *forwarder) answerRequests(ctx context.Context) {
	if time.Since(f.asked) < requestInterval {
		return
	}
	f.asked = time.Now()
	asked, err := quarantine.Requests(f.quarantine, maxRequests)
	for i := 0; err == nil && i < len(asked) && ctx.Err() == nil; i++ {
		err = f.answer(ctx, asked[i])
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, journal.ErrClosed) {
		f.telemetry.ProcessorAuditQuarantineFailures.Add(ctx, 1)
		f.logger.Error("a request for a record in quarantine could not be done; trying again", zap.Error(err))
	}
}

func (f *forwarder) answer(ctx context.Context, c quarantine.Coordinate) error {
	request, err := quarantine.ReadRequest(f.quarantine, c)
	if errors.Is(err, quarantine.ErrMalformed) {
		return f.failRequest(c, quarantine.Request{Action: quarantine.Replay}, "the request could not be read")
	}
	if err != nil {
		return err
	}
	entry, err := quarantine.Read(f.quarantine, c)
	switch {
	case errors.Is(err, os.ErrNotExist): // killed before it was done with the request
		return quarantine.Remove(f.quarantine, c)
	case errors.Is(err, quarantine.ErrMalformed):
		return f.failRequest(c, request, "the record in quarantine is damaged")
	case err != nil:
		return err
	}
	action := receipt.Dropped
	if request.Action == quarantine.Replay {
		action = receipt.Replayed
		refusal, err := f.replay(ctx, &entry)
		if refusal != nil && permanent(refusal) {
			return f.failRequest(c, request, refusalReason(refusal))
		}
		if err := errors.Join(refusal, err); err != nil {
			return err
		}
	}
	return f.sealReport(ctx, &receipt.Report{
		Action: action, Origin: c.Origin, Index: c.Index, Digest: entry.Link.Digest, Sink: nextConsumer, Reason: request.Reason,
		Sealed: func() error { return quarantine.Remove(f.quarantine, c) },
	})
}

func (f *forwarder) failRequest(c quarantine.Coordinate, request quarantine.Request, reason string) error {
	f.logger.Warn("a request for a record in quarantine failed",
		zap.Stringer("record", c), zap.String("action", string(request.Action)), zap.String("reason", reason))
	request.At, request.Reason = f.now(), reason
	return quarantine.Fail(f.quarantine, c, request)
}

// replay sends a record that is in quarantine once more.
func (f *forwarder) replay(ctx context.Context, entry *quarantine.Entry) (refusal, err error) {
	logs, err := canonical.Parse(entry.Event)
	if err != nil {
		return nil, err
	}
	putLink(onlyRecord(logs).Attributes(), &entry.Link, entry.Hash)
	return f.send(ctx, logs)
}

func onlyRecord(logs plog.Logs) plog.LogRecord {
	return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
}
