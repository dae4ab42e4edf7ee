// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

const (
	sendRecords = 8192    // most records in one send, beyond a request's own
	sendBytes   = 3 << 20 // most encoded bytes in one send, beyond a request's own

	firstBackOff = 100 * time.Millisecond
	maxBackOff   = 5 * time.Second
)

// forwarder delivers what the journal holds, in order and without end: it
// moves on only when the next consumer took everything before. What it sends
// after a crash is byte for byte what it sent before.
type forwarder struct {
	journal   *journal.Journal
	next      consumer.Logs
	path      string // of the checkpoint file
	telemetry *metadata.TelemetryBuilder
	logger    *zap.Logger
	host      component.Host

	cancel context.CancelFunc
	done   chan struct{}

	// Owned by the goroutine of run.
	failing bool
	stopAt  uint64 // size of the tree with the stop record of this life, once that is delivered

	conflict *atomic.Bool // intake stops while it is set
	oldest   atomic.Int64 // when the oldest undelivered group was sealed, 0 if there is none in hand
	caughtUp chan struct{}
}

func newForwarder(j *journal.Journal, next consumer.Logs, directory string, telemetry *metadata.TelemetryBuilder, logger *zap.Logger, host component.Host, conflict *atomic.Bool) *forwarder {
	return &forwarder{
		journal: j, next: next, path: filepath.Join(directory, checkpointFile),
		telemetry: telemetry, logger: logger, host: host, conflict: conflict,
		done: make(chan struct{}), caughtUp: make(chan struct{}),
	}
}

func (f *forwarder) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go f.run(ctx)
}

// drain waits until the stop record and its checkpoint are delivered, at most
// for the given time, and ends the forwarder.
func (f *forwarder) drain(timeout time.Duration, stopSealed bool) {
	if stopSealed {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-f.caughtUp:
		case <-timer.C:
		case <-f.done:
		}
	}
	f.cancel()
	<-f.done
}

func (f *forwarder) run(ctx context.Context) {
	defer close(f.done)
	for {
		items, err := f.gather(ctx)
		if err == nil {
			err = f.deliver(ctx, items)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil { // the journal cannot be read: nothing may be skipped
			f.report(err)
			f.logger.Error("the journal cannot be read; forwarding has stopped, intake goes on until the journal is full", zap.Error(err))
			<-ctx.Done()
			return
		}
	}
}

// item is the smallest piece that is delivered: a request or a checkpoint.
type item struct {
	frame      uint64 // its number, where the item is the last of its frame, else 0
	kind       journal.RecordKind
	sealedAt   int64 // of a checkpoint, which does not say: when it was read
	request    *journal.Sealed
	checkpoint *journal.Checkpoint
}

func (i *item) size() (records, bytes int) {
	if i.request != nil {
		return len(i.request.Links), len(i.request.Payload)
	}
	return 1, len(i.checkpoint.Note)
}

// gather waits for a frame and takes what else is there, up to one send.
func (f *forwarder) gather(ctx context.Context) ([]item, error) {
	frame, err := f.journal.Next(ctx)
	var items []item
	bytes, records := 0, 0
	for frame != nil && err == nil {
		items = appendItems(items, frame)
		bytes += frame.Bytes
		if frame.Group != nil {
			records += frame.Group.Records
		}
		if bytes >= sendBytes || records >= sendRecords {
			break
		}
		frame, err = f.journal.Poll()
	}
	if len(items) > 0 {
		return items, nil // an error comes again at the next call
	}
	return nil, err
}

func appendItems(items []item, frame *journal.Frame) []item {
	if frame.Checkpoint != nil {
		return append(items, item{frame: frame.Number, sealedAt: time.Now().UnixNano(), checkpoint: frame.Checkpoint})
	}
	group := frame.Group
	for i := range group.Requests {
		items = append(items, item{
			kind: group.Kind, sealedAt: group.SealedAt, request: &group.Requests[i],
		})
	}
	items[len(items)-1].frame = frame.Number
	return items
}

// deliver sends the items in sends of bounded size. It returns an error only
// when ctx ended or an item cannot be decoded.
func (f *forwarder) deliver(ctx context.Context, items []item) error {
	for len(items) > 0 {
		f.oldest.Store(items[0].sealedAt)
		n := cutSend(items)
		if err := f.sendUntilTaken(ctx, items[:n]); err != nil {
			return err
		}
		f.delivered(ctx, items[:n])
		items = items[n:]
	}
	f.oldest.Store(0)
	return nil
}

// cutSend returns how many items one send takes, at least one.
func cutSend(items []item) int {
	n, records, bytes := 0, 0, 0
	for n < len(items) {
		r, b := items[n].size()
		records, bytes = records+r, bytes+b
		if n > 0 && (records > sendRecords || bytes > sendBytes) {
			break
		}
		n++
	}
	return n
}

func (f *forwarder) sendUntilTaken(ctx context.Context, items []item) error {
	for attempt := 0; ; attempt++ {
		logs, err := build(items) // anew each time: the next consumer may have changed the last
		if err != nil {
			return err
		}
		if err = f.next.ConsumeLogs(ctx, logs); err == nil {
			f.recovered()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.failed(ctx, err)
		if err := waitBackOff(ctx, attempt); err != nil {
			return err
		}
	}
}

func waitBackOff(ctx context.Context, attempt int) error {
	pause := min(firstBackOff<<min(attempt, 16), maxBackOff)
	pause = pause/2 + rand.N(pause/2) //nolint:gosec // jitter is no secret
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (f *forwarder) failed(ctx context.Context, err error) {
	f.telemetry.ProcessorAuditDeliveryFailures.Add(ctx, 1)
	alarm := errors.Is(err, receipt.ErrConflict) && !f.conflict.Swap(true) // it lasts, whatever else fails meanwhile
	if !f.failing || alarm {
		f.failing = true
		f.report(err)
		f.logger.Warn("delivery failed; the records stay in the journal and are sent again", zap.Error(err))
	}
}

func (f *forwarder) recovered() {
	if f.failing {
		f.failing = false
		f.conflict.Store(false)
		componentstatus.ReportStatus(f.host, componentstatus.NewEvent(componentstatus.StatusOK))
		f.logger.Info("delivery works again")
	}
}

func (f *forwarder) report(err error) {
	componentstatus.ReportStatus(f.host, componentstatus.NewRecoverableErrorEvent(err))
}

// delivered moves the cursor past the items and publishes their newest
// checkpoint.
func (f *forwarder) delivered(ctx context.Context, items []item) {
	var records int64
	var newest *journal.Checkpoint
	for i := range items {
		if items[i].frame != 0 {
			f.journal.Delivered(items[i].frame)
		}
		switch sealed := items[i].request; {
		case sealed == nil:
			newest = items[i].checkpoint
		case items[i].kind == journal.Client:
			records += int64(len(sealed.Links))
		case items[i].kind == journal.Stop && sealed.Links[0].Origin == f.journal.Origin():
			f.stopAt = sealed.Links[0].Index + 1
		}
	}
	f.telemetry.ProcessorAuditDeliveredRecords.Add(ctx, records)
	if newest == nil {
		return
	}
	// The cursor first: what the file names shall not come again after a crash,
	// behind older checkpoints that take its place.
	err := f.journal.PersistCursor()
	if err == nil {
		err = durable.WriteFile(f.path, newest.Note)
	}
	if err != nil {
		f.telemetry.ProcessorAuditJournalFailures.Add(ctx, 1)
		f.logger.Error("the checkpoint file could not be replaced; the next checkpoint tries again", zap.Error(err))
	}
	if f.stopAt > 0 && newest.Origin == f.journal.Origin() && newest.Size == f.stopAt {
		close(f.caughtUp) // nothing of this life comes after it
	}
}

// build makes log records of the items, each with its coordinates.
func build(items []item) (plog.Logs, error) {
	logs := plog.NewLogs()
	for i := range items {
		if items[i].checkpoint != nil {
			appendCheckpointRecord(logs, items[i].checkpoint)
			continue
		}
		sealed := items[i].request
		decoded, err := unmarshaler.UnmarshalLogs(sealed.Payload)
		if err != nil {
			return plog.Logs{}, fmt.Errorf("decode journal request: %w", err)
		}
		if err := putLinks(decoded, sealed); err != nil {
			return plog.Logs{}, err
		}
		decoded.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	}
	return logs, nil
}

var errLinks = errors.New("a journal request has another number of links than of records")

func putLinks(logs plog.Logs, sealed *journal.Sealed) error {
	n := 0
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if n == len(sealed.Links) {
					return errLinks
				}
				putLink(record.Attributes(), &sealed.Links[n], sealed.Hashes[n])
				n++
			}
		}
	}
	if n != len(sealed.Links) {
		return errLinks
	}
	return nil
}

func putLink(attributes pcommon.Map, link *chain.Link, hash chain.Hash) {
	attributes.EnsureCapacity(attributes.Len() + 7)
	attributes.PutStr(audit.AttributeChainOrigin, link.Origin)
	attributes.PutInt(audit.AttributeChainIndex, clampInt(link.Index))
	attributes.PutStr(audit.AttributeChainStream, link.Stream)
	attributes.PutInt(audit.AttributeChainSeq, clampInt(link.Seq))
	attributes.PutInt(audit.AttributeChainSealedAt, link.SealedAt)
	attributes.PutStr(audit.AttributeChainPrev, link.Prev.String())
	attributes.PutStr(audit.AttributeChainHash, hash.String())
}

func appendCheckpointRecord(logs plog.Logs, checkpoint *journal.Checkpoint) {
	record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	attributes := record.Attributes()
	attributes.PutStr(audit.AttributeChainOrigin, checkpoint.Origin)
	attributes.PutInt(audit.AttributeChainIndex, clampInt(checkpoint.Size))
	attributes.PutStr(audit.AttributeChainCheckpoint, string(checkpoint.Note))
	hashes := attributes.PutEmptySlice(audit.AttributeChainRange)
	hashes.EnsureCapacity(len(checkpoint.Range))
	for _, hash := range checkpoint.Range {
		hashes.AppendEmpty().SetStr(hash.String())
	}
}
