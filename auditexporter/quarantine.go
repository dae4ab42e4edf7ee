// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/quarantine"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// maxRequests bounds what is done for operators in one delivery, and so what
// the processor has to seal for it.
const maxRequests = 64

// unsealed says why nobody seals what the exporter does.
const unsealed = "this delivery does not come straight from an `audit` processor:" +
	" a queue that does not wait, one with `batch`, or another component between them loses the way back; remove it"

// ward is the quarantine of one sink: it keeps what the sink refuses for good,
// and does what operators ask for it. Safe for concurrent use.
type ward struct {
	id        string // of the exporter
	directory string
	sink      sink.Sink
	logger    *zap.Logger
	telemetry *telemetry

	mu   sync.Mutex    // over every change of the directory
	lock *durable.Lock // guarded by mu, nil once closed: then the directory is not ours
}

// openWard makes the directory and locks it, so that what is wrong with it shows
// at the start and not when a record needs it.
func openWard(id component.ID, directory string, of sink.Sink, logger *zap.Logger, telemetry *telemetry) (*ward, error) {
	if err := quarantine.Make(directory); err != nil {
		return nil, err
	}
	lock, err := durable.LockDirectory(directory)
	if errors.Is(err, durable.ErrLocked) {
		return nil, fmt.Errorf("quarantine: another exporter uses %s:"+
			" give each its own `quarantine::directory`: %w", directory, err)
	}
	if err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	return &ward{id: id.String(), directory: directory, sink: of, logger: logger, telemetry: telemetry, lock: lock}, nil
}

// close frees the directory. Twice is fine.
func (w *ward) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	lock := w.lock
	w.lock = nil
	if lock == nil {
		return nil
	}
	return lock.Unlock()
}

// admission collects what the sink refuses of one batch.
type admission struct {
	ward    *ward
	reports []receipt.Report
}

// refuse is the sink's sink.Refuse.
func (a *admission) refuse(e *sink.Entry, reason string) error {
	kept, err := a.ward.put(e, reason)
	if err == nil {
		a.reports = append(a.reports, report(&kept, receipt.Quarantined, kept.Reason))
	}
	return err
}

// put makes e durable in the directory and returns what is there: of a record
// that is refused again it is the first refusal.
func (w *ward) put(e *sink.Entry, reason string) (quarantine.Entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lock == nil {
		return quarantine.Entry{}, sink.ErrClosed
	}
	err := quarantine.Put(w.directory, &quarantine.Entry{
		Link: e.Link, Hash: e.Hash, Sink: w.id, Reason: reason, At: time.Now(), Event: e.Event,
	})
	if err != nil {
		return quarantine.Entry{}, err
	}
	return quarantine.Read(w.directory, quarantine.Coordinate{Origin: e.Link.Origin, Index: e.Link.Index})
}

// report is what the processor is told of a record in quarantine.
func report(e *quarantine.Entry, action receipt.Action, reason string) receipt.Report {
	return receipt.Report{
		Action: action, Origin: e.Link.Origin, Index: e.Link.Index, Digest: e.Link.Digest, Sink: e.Sink, Reason: reason,
	}
}

// tell has the processor seal what was refused, once the sink has the batch. One
// line in the log serves for all: while another exporter fails, they come again
// with every attempt.
func (a *admission) tell(ctx context.Context) {
	if len(a.reports) == 0 {
		return
	}
	first := &a.reports[0]
	a.ward.logger.Warn("the sink refuses audit records for good: they are in quarantine; see `otelaudit quarantine ls`",
		zap.Int("records", len(a.reports)), zap.String("directory", a.ward.directory),
		zap.String("first_origin", first.Origin), zap.Uint64("first_index", first.Index), zap.String("first_reason", first.Reason))
	delivery := receipt.DeliveryFrom(ctx)
	if delivery == nil {
		a.ward.missed(ctx, len(a.reports))
		return
	}
	for _, r := range a.reports {
		delivery.Report(r)
	}
}

// missed says that nobody seals what was done with n records.
func (w *ward) missed(ctx context.Context, n int) {
	w.telemetry.ExporterAuditUnsealedReports.Add(ctx, int64(n), w.telemetry.exporter)
	w.logger.Warn("no `audit.quarantine` record will be sealed, and verification will report what stands there as unexplained",
		zap.String("cause", unsealed), zap.Int("records", n))
}

// answer does what operators ask for. What fails is noted beside the record and
// does not touch the delivery: a request must not be able to stop it.
func (w *ward) answer(ctx context.Context) {
	asked, err := quarantine.Requests(w.directory, maxRequests)
	if err != nil {
		w.logger.Error("read the requests of the quarantine", zap.Error(err))
		w.telemetry.ExporterAuditFailedRequests.Add(ctx, 1, w.telemetry.exporter)
		return
	}
	for _, c := range asked {
		if ctx.Err() != nil {
			return // the next delivery goes on
		}
		w.do(ctx, c)
	}
}

func (w *ward) do(ctx context.Context, c quarantine.Coordinate) {
	request, err := quarantine.ReadRequest(w.directory, c)
	if errors.Is(err, os.ErrNotExist) {
		return // another delivery did it
	}
	if err != nil {
		w.fail(ctx, c, quarantine.Unreadable, err)
		return
	}
	e, err := quarantine.Read(w.directory, c)
	switch {
	case errors.Is(err, os.ErrNotExist):
		// It was done, and a crash kept the request from being removed.
		err = w.remove(c)
	case err != nil:
	case request.Action == quarantine.Replay:
		err = w.replay(ctx, &e, request.Reason)
	case request.Action == quarantine.Drop:
		err = w.drop(ctx, &e, request.Reason)
	default:
		err = fmt.Errorf("action %q is not known to this version", request.Action)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, sink.ErrClosed) {
		w.fail(ctx, c, request.Action, err)
	}
}

// replay stores the record in its sink after all.
func (w *ward) replay(ctx context.Context, e *quarantine.Entry, reason string) error {
	logs, err := canonical.Parse(e.Event)
	if err != nil {
		return err
	}
	resource := logs.ResourceLogs().At(0)
	scope := resource.ScopeLogs().At(0)
	result, err := w.sink.Replay(ctx, &sink.Entry{
		Kind: audit.LineEvent, Link: e.Link, Hash: e.Hash,
		Event: e.Event, Resource: resource, Scope: scope, Record: scope.LogRecords().At(0),
	})
	w.telemetry.count(ctx, &result)
	if errors.Is(err, sink.ErrConflict) {
		w.telemetry.conflict(ctx)
	}
	if err != nil {
		return err
	}
	done := func() error {
		err := w.remove(e.Coordinate())
		if err == nil { // else it is done once more
			w.telemetry.ExporterAuditReplayedRecords.Add(context.WithoutCancel(ctx), 1, w.telemetry.exporter)
		}
		return err
	}
	delivery := receipt.DeliveryFrom(ctx)
	if delivery == nil {
		w.missed(ctx, 1) // nothing is lost by that: the record is where it belongs
		return done()
	}
	r := report(e, receipt.Replayed, reason)
	r.Sealed = done
	delivery.Report(r)
	return nil
}

// drop gives the record up. Without a sealed record that says so it would be
// gone silently.
func (w *ward) drop(ctx context.Context, e *quarantine.Entry, reason string) error {
	delivery := receipt.DeliveryFrom(ctx)
	if delivery == nil {
		return errors.New("nobody would seal that it was dropped: " + unsealed)
	}
	r := report(e, receipt.Dropped, reason)
	r.Sealed = func() error {
		err := w.remove(e.Coordinate())
		if err == nil { // else it is done once more
			w.telemetry.ExporterAuditDroppedRecords.Add(context.WithoutCancel(ctx), 1, w.telemetry.exporter)
		}
		return err
	}
	delivery.Report(r)
	return nil
}

func (w *ward) remove(c quarantine.Coordinate) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lock == nil {
		return sink.ErrClosed
	}
	return quarantine.Remove(w.directory, c)
}

// fail notes for the operator why a request could not be done.
func (w *ward) fail(ctx context.Context, c quarantine.Coordinate, action quarantine.Action, cause error) {
	w.telemetry.ExporterAuditFailedRequests.Add(ctx, 1, w.telemetry.exporter)
	fields := []zap.Field{zap.Stringer("coordinate", c), zap.String("action", string(action)), zap.Error(cause)}
	w.mu.Lock()
	defer w.mu.Unlock()
	err := sink.ErrClosed
	if w.lock != nil {
		err = quarantine.Fail(w.directory, c, quarantine.Request{Action: action, At: time.Now(), Reason: cause.Error()})
	}
	if err != nil {
		fields = append(fields, zap.NamedError("note", err))
	}
	w.logger.Error("what was asked for a record in quarantine cannot be done", fields...)
}
