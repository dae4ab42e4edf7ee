// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

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
	// for, and how long one of them takes, but for its last request: delivery
	// waits meanwhile.
	requestInterval = time.Second
	// maxRequests is how many of them are done at one look.
	maxRequests = 100
	// replayTimeout is how long the next consumer may take for one of them:
	// an exporter that tries again by itself would hold up delivery for minutes.
	replayTimeout = 10 * time.Second
	// restShare is how many times as long as a look took delivery has to itself
	// after it.
	restShare = 10
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
	keepRecords(logs, func(int) bool { return true }) // nothing empty before it
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
	began := time.Now()
	if began.Before(f.lookAt) {
		return
	}
	defer func() { f.lookAt = time.Now().Add(max(requestInterval, restShare*time.Since(began))) }()
	asked, err := quarantine.Requests(f.quarantine, maxRequests)
	if err != nil {
		f.requestFailed(ctx, err)
	}
	for _, c := range asked {
		if err := f.answer(ctx, c); err != nil {
			f.requestFailed(ctx, fmt.Errorf("%s: %w", c, err))
		}
		if ctx.Err() != nil || time.Since(began) >= requestInterval {
			return
		}
	}
}

func (f *forwarder) requestFailed(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, journal.ErrClosed) {
		return // the next life does it
	}
	f.telemetry.ProcessorAuditQuarantineFailures.Add(ctx, 1)
	f.logger.Error("a request for a record in quarantine could not be done; trying again", zap.Error(err))
}

func (f *forwarder) answer(ctx context.Context, c quarantine.Coordinate) error {
	request, err := quarantine.ReadRequest(f.quarantine, c)
	if errors.Is(err, quarantine.ErrMalformed) {
		return f.failRequest(c, quarantine.Unreadable, "the request could not be read")
	}
	if err != nil {
		return err
	}
	entry, err := quarantine.Read(f.quarantine, c)
	switch {
	case errors.Is(err, os.ErrNotExist): // killed before it was done with the request
		return quarantine.Remove(f.quarantine, c)
	case errors.Is(err, quarantine.ErrMalformed):
		return f.failRequest(c, request.Action, "the record in quarantine is damaged")
	case err != nil:
		return err
	}
	switch request.Action {
	case quarantine.Replay:
		return f.replay(ctx, &entry, request.Reason)
	case quarantine.Drop:
		return f.sealRequest(ctx, &entry, receipt.Dropped, request.Reason)
	default:
		return f.failRequest(c, request.Action, "the action is not known")
	}
}

// sealRequest says in the log what was done with a record in quarantine, and
// takes it out of there.
func (f *forwarder) sealRequest(ctx context.Context, entry *quarantine.Entry, action receipt.Action, reason string) error {
	c := entry.Coordinate()
	return f.sealReport(ctx, &receipt.Report{
		Action: action, Origin: c.Origin, Index: c.Index, Digest: entry.Link.Digest, Sink: nextConsumer, Reason: reason,
		Sealed: func() error { return quarantine.Remove(f.quarantine, c) },
	})
}

func (f *forwarder) failRequest(c quarantine.Coordinate, action quarantine.Action, reason string) error {
	f.logger.Warn("a request for a record in quarantine failed",
		zap.Stringer("record", c), zap.String("action", string(action)), zap.String("reason", reason))
	return quarantine.Fail(f.quarantine, c, quarantine.Request{Action: action, At: f.now(), Reason: reason})
}

// replay sends a record that is in quarantine once more.
func (f *forwarder) replay(ctx context.Context, entry *quarantine.Entry, reason string) error {
	logs, err := canonical.Parse(entry.Event)
	if err != nil {
		return f.failRequest(entry.Coordinate(), quarantine.Replay, "the record cannot be rebuilt from its canonical bytes")
	}
	record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	putLink(record.Attributes(), &entry.Link, entry.Hash)
	within, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	refusal, err := f.sendWithin(ctx, within, logs, &receipt.Delivery{Early: true})
	switch {
	case err != nil:
		return err
	case refusal != nil && within.Err() != nil:
		return f.failRequest(entry.Coordinate(), quarantine.Replay, "the next consumer did not take it in time: ask again once it takes records quickly")
	case refusal != nil && permanent(refusal):
		return f.failRequest(entry.Coordinate(), quarantine.Replay, refusalReason(refusal))
	case refusal != nil:
		return refusal
	}
	return f.sealRequest(ctx, entry, receipt.Replayed, reason)
}
