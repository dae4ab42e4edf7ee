// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// forwarder delivers what the journal holds, in order and without end: it
// moves on only when the next consumer took everything before, or refused a
// record for good that is then in quarantine. What it sends after a crash is
// byte for byte what it sent before. In hand it has one send and the groups
// that were read for it: less than one send and one group more.
type forwarder struct {
	journal    *journal.Journal
	next       consumer.Logs
	path       string // of the checkpoint file
	quarantine string // directory of the records that the next consumer refused for good
	instance   string // of the log: the actor of control records
	now        func() time.Time
	jitter     func(time.Duration) time.Duration
	telemetry  *metadata.TelemetryBuilder
	logger     *zap.Logger
	host       component.Host

	eager    bool          // no send waits for more: callers wait for deliveries
	draining chan struct{} // closed once shutdown waits for the last sends
	cancel   context.CancelFunc
	done     chan struct{}

	// Owned by the goroutine of run.
	failing bool
	stopAt  uint64                  // size of the tree with the stop record of this life, once that is delivered
	witness *piece                  // what the next consumer is asked to take beside a record that it refuses
	lookAt  time.Time               // when requests of operators are next looked for
	gone    map[coordinate]struct{} // quarantined records since the last that was delivered
	frame   outcome                 // of the records of the frame that is under way

	watch       watch
	quarantined *quarantineMemory                   // for who asks what became of a record
	published   *atomic.Pointer[receipt.Checkpoint] // the newest one that the next consumer has taken
	sinks       *sinkBoard                          // for who asks how delivery stands

	conflict *atomic.Bool // intake stops while it is set
	oldest   atomic.Int64 // when the oldest undelivered group was sealed, 0 if there is none in hand
	caughtUp chan struct{}
	catchUp  sync.Once // closes caughtUp
}

func newForwarder(p *auditProcessor, host component.Host) *forwarder {
	directory := p.config.Journal.Directory
	f := &forwarder{
		journal: p.journal, next: p.next, instance: p.instance, now: p.now, jitter: p.jitter,
		path:       filepath.Join(directory, checkpointFile),
		quarantine: filepath.Join(directory, quarantineDirectory),
		telemetry:  p.telemetry, logger: p.logger, host: host, conflict: &p.conflict,
		quarantined: &p.quarantined, published: &p.published, sinks: &p.sinks,
		gone: map[coordinate]struct{}{}, eager: p.config.Ack == ackDelivered, draining: make(chan struct{}),
		done: make(chan struct{}), caughtUp: make(chan struct{}),
	}
	f.watch = watch{after: p.config.StuckAfter, report: f.reportStuck}
	return f
}

func (f *forwarder) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go f.run(ctx)
}

// releaseTimeout is how long the next consumer may take to return once its
// context has ended. With the longest `drain_timeout` before it, the
// collector still ends within 30 s.
const releaseTimeout = 3 * time.Second

// drain waits until the stop record and its checkpoint are delivered, or until
// ctx ends, and ends the forwarder. It returns false where the forwarder goes
// on: the next consumer holds a send although its context has ended.
func (f *forwarder) drain(ctx context.Context, stopSealed bool) bool {
	if stopSealed {
		close(f.draining)
		select {
		case <-f.caughtUp:
		case <-ctx.Done():
		case <-f.done:
		}
	}
	f.cancel()
	timer := time.NewTimer(releaseTimeout)
	defer timer.Stop()
	select {
	case <-f.done:
		return true
	case <-timer.C:
		f.watch.end() // nobody listens any more
		return false
	}
}

func (f *forwarder) run(ctx context.Context) {
	defer close(f.done)
	defer f.watch.end()
	for {
		pieces, err := f.gather(ctx)
		if err == nil {
			err = f.deliver(ctx, pieces)
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, journal.ErrClosed):
			f.logger.Info("a record was refused for good after the stop record was sealed; the next start delivers it again and says so in the log")
			return
		case err != nil: // nothing may be skipped
			f.oldest.CompareAndSwap(0, time.Now().UnixNano()) // the age that operators watch goes on growing
			f.report(err)
			f.logger.Error("the journal cannot be read; forwarding has stopped, intake goes on until the journal is full", zap.Error(err))
			return
		}
	}
}

// linger is how long a send that is not full waits for more. Many small groups
// so become one send, and the sink's syncs, on the disk that acknowledgements
// wait for as well, become few.
const linger = 20 * time.Millisecond

// gather waits for a frame and takes what else is there, and what comes within
// linger unless somebody waits for the delivery, up to one send.
func (f *forwarder) gather(ctx context.Context) ([]piece, error) {
	frame, err := f.journal.Next(ctx)
	var g gathered
	for lingered := f.eager; frame != nil && err == nil; {
		if g.add(frame) {
			break
		}
		if frame, err = f.journal.Poll(); frame == nil && err == nil && !lingered {
			lingered = true
			f.pause(ctx)
			frame, err = f.journal.Poll()
		}
	}
	if len(g.pieces) > 0 {
		return g.pieces, nil // an error comes again at the next call
	}
	return nil, err
}

// pause waits for linger, or until everything has to go out.
func (f *forwarder) pause(ctx context.Context) {
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.draining:
	case <-ctx.Done():
	}
}

// gathered is what one send is made of.
type gathered struct {
	pieces         []piece
	bytes, records int
}

// add is true once there is enough for a send.
func (g *gathered) add(frame *journal.Frame) bool {
	g.pieces = appendPieces(g.pieces, frame)
	g.bytes += frame.Bytes
	if frame.Group != nil {
		g.records += frame.Group.Records
	}
	return g.bytes >= sendBytes || g.records >= sendRecords
}

// deliver hands the pieces over in sends of bounded size. It returns an error
// only when ctx ended, the journal takes no report any more, or a piece cannot
// be decoded.
func (f *forwarder) deliver(ctx context.Context, pieces []piece) error {
	for len(pieces) > 0 {
		f.oldest.Store(pieces[0].sealedAt)
		if pieces[0].oversize() {
			cut, err := pieces[0].fit()
			if err != nil {
				return err
			}
			pieces = append(cut, pieces[1:]...)
		}
		n := cutSend(pieces)
		if err := f.settle(ctx, pieces[:n]); err != nil {
			return err
		}
		pieces = pieces[n:]
	}
	f.oldest.Store(0)
	return nil
}

func (f *forwarder) report(err error) {
	componentstatus.ReportStatus(f.host, componentstatus.NewRecoverableErrorEvent(err))
}

// delivered counts the pieces, moves the cursor past the frames that they end
// and publishes their newest checkpoint. Everything before them is settled:
// taken, or in quarantine and sealed as such.
func (f *forwarder) delivered(ctx context.Context, pieces []piece) {
	var newest *journal.Checkpoint
	for i := range pieces {
		p := &pieces[i]
		switch {
		case p.checkpoint != nil:
			newest = p.checkpoint
		case p.kind == journal.Client:
			f.frame.add(p, f.gone)
		case p.kind == journal.Stop && p.request.Links[0].Origin == f.journal.Origin():
			f.stopAt = p.request.Links[0].Index + 1
		}
		if p.frame != 0 {
			f.journal.Delivered(p.frame)
			f.countFrame(ctx)
		}
	}
	clear(f.gone)
	if newest == nil {
		return
	}
	f.witness = &piece{checkpoint: newest}
	f.published.Store(&receipt.Checkpoint{Origin: newest.Origin, Size: newest.Size, Note: newest.Note})
	f.publish(ctx, newest)
	if f.stopAt > 0 && newest.Origin == f.journal.Origin() && newest.Size == f.stopAt {
		f.catchUp.Do(func() { close(f.caughtUp) }) // nothing of this life comes after it
	}
}

// publish replaces the checkpoint file. The cursor goes first: what the file
// names shall not come again after a crash, behind older checkpoints that take
// its place.
func (f *forwarder) publish(ctx context.Context, newest *journal.Checkpoint) {
	err := f.journal.PersistCursor()
	if err == nil {
		err = durable.WriteFile(f.path, newest.Note)
	}
	if err != nil {
		f.telemetry.ProcessorAuditJournalFailures.Add(ctx, 1)
		f.logger.Error("the checkpoint file could not be replaced; the next checkpoint tries again", zap.Error(err))
	}
}

// outcome counts what became of the client records of a frame. They count when
// the frame is delivered, as the journal's backlog does, so that the counters
// add up.
type outcome struct{ stored, quarantined int64 }

func (o *outcome) add(p *piece, gone map[coordinate]struct{}) {
	o.stored += int64(p.records())
	if len(gone) == 0 {
		return
	}
	for i := p.from; i < p.to; i++ {
		if _, found := gone[coordinateOf(&p.request.Links[i])]; found {
			o.stored--
			o.quarantined++
		}
	}
}

func (f *forwarder) countFrame(ctx context.Context) {
	f.telemetry.ProcessorAuditDeliveredRecords.Add(ctx, f.frame.stored)
	f.telemetry.ProcessorAuditQuarantinedRecords.Add(ctx, f.frame.quarantined)
	f.frame = outcome{}
}
