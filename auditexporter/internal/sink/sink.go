// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package sink is the contract between the audit exporter and what stores its
// records. Package sinktest holds every implementation to it.
package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// What a sink's errors wrap. All others mean that the batch is to be written
// again, in whole, later.
var (
	// ErrConflict says that a coordinate is stored with other content. It is
	// an alarm: either the store was changed or a coordinate was used twice.
	ErrConflict = errors.New("coordinate is stored with other content")
	// ErrClosed says that the sink was closed.
	ErrClosed = errors.New("sink is closed")
	// ErrNoStub says, of Replay, that nothing is stored for a coordinate.
	ErrNoStub = errors.New("no stub is stored for this coordinate")
	// ErrRefused says, of Replay, that the sink still refuses the record.
	ErrRefused = errors.New("the sink still refuses the record")
	// ErrOperator says that only a person can cure it: a wrong password, a
	// missing right, an address that is not there. The text says what to do.
	// The batch is written again all the same, for when that was done.
	ErrOperator = errors.New("needs an operator")
)

// LaterError is the error of a sink that is up and asked for a rest: before At
// another attempt would only be refused. Nor does it say that the sink is ill.
type LaterError struct {
	At    time.Time
	Cause error
}

// Error returns the text of the cause.
func (e *LaterError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *LaterError) Unwrap() error { return e.Cause }

// Sink stores sealed records and checkpoints. Its methods may be called by
// several goroutines at once, Close included.
//
// Durable: what Write counted in a nil return survives the crash of every
// machine that the sink promises to survive; for a disk or a database that is a
// power cut, for a remote endpoint what its 2xx promises.
//
// Repeatable: each entry is stored once, however often it comes, in whatever
// order, in whichever batches, also after a restart, and also where an earlier
// Write failed after it was stored.
//
// One content per coordinate: what is stored is never written over. An entry
// whose coordinate holds something else is ErrConflict.
type Sink interface {
	// Write stores entries. An entry whose coordinate is stored already is
	// compared by hash and skipped.
	//
	// What the sink can never store, though others are fine, it hands to
	// refuse, one by one, and goes on without it: in its place it stores a
	// stub, if it has stubs. A record that is stored as a stub and comes
	// again is handed to refuse again; only Replay stores it. What the
	// collector itself sealed is never refused.
	//
	// After an error some of entries may be stored, of which the Result counts
	// those that are known to be. The error names the first coordinate that
	// is the cause, where it has one, and never content. A context that is
	// done ends the wait for a slow store; the batch is then as after any
	// other error.
	Write(ctx context.Context, entries []Entry, refuse Refuse) (Result, error)

	// Replay stores a record in place of its stub, or beside it. One that is
	// stored whole already is fine. The error wraps ErrNoStub if the sink has
	// stubs and neither is there, ErrRefused if the record would be refused
	// again, ErrConflict if something else is stored.
	Replay(ctx context.Context, e *Entry) (Result, error)

	// Close ends what runs and frees what is held. Writes from then on return
	// ErrClosed. Twice is fine.
	Close() error
}

// Keeper is a Sink that has work beside writing: it removes what is old, and
// looks at what it stores to.
type Keeper interface {
	// Upkeep does such work, a bounded part of it at a time. It is called
	// before each Write. delivered, if not nil, is an entry before which every
	// entry of its log is in every required sink of the pipeline, this one
	// included: what does not precede it is not removed. A log is the lives of
	// one instance and journal.
	Upkeep(ctx context.Context, delivered *Entry) Condition
}

// Condition is what a Keeper did since the last call, and how it stands.
type Condition struct {
	Removed      int   // files that retention removed
	RemovedBytes int64 // what they held
	Reopened     int   // times that what is stored to was changed by others and was opened again
	FreeBytes    int64 // room that is left; below 0 if nothing new is known
	// Trouble is what an operator should see to although writes succeed. It
	// is repeated in each Condition until it is over.
	Trouble error
}

// Refuse takes a record that the sink refuses for good, and why: a text for
// people without any of its content. When it returns nil the record is durable
// elsewhere: only then does the sink store a stub in its place. Where it fails
// the Write fails.
type Refuse func(e *Entry, reason string) error

// Result counts what a Write or a Replay did.
type Result struct {
	Stored      int           // records that are durable now
	Refused     int           // records that were refused for the first time, and whose stubs are durable now
	Checkpoints int           // checkpoints that are durable now
	Repeated    int           // records and checkpoints that were stored already
	Bytes       int64         // bytes that were written or sent
	Sync        time.Duration // time spent in making them durable
}

// Entry is one sealed record or one checkpoint to store. A sink must not change
// it, and not keep it or what it points to once the call has returned.
type Entry struct {
	Kind audit.LineKind // LineEvent or LineCheckpoint
	// Link of a checkpoint has Origin and, as Index, its size, nothing else.
	Link chain.Link
	Hash chain.Hash // of an event's link

	// Event is the canonical form of an event. Its digest is Link.Digest,
	// which is the caller's to make sure of.
	Event []byte
	// Resource, Scope and Record are what Event is the canonical form of.
	Resource plog.ResourceLogs
	Scope    plog.ScopeLogs
	Record   plog.LogRecord

	Note  []byte       // a checkpoint's signed note
	Range []chain.Hash // a checkpoint's compact range
}

// AppendLine appends the stored line of e, without newline.
func (e *Entry) AppendLine(dst []byte) []byte {
	if e.Kind == audit.LineCheckpoint {
		return audit.AppendCheckpoint(dst, e.Note, e.Range)
	}
	return audit.AppendEvent(dst, &e.Link, e.Hash, e.Event)
}

// AppendStub appends the stored line that stands for a record that is refused,
// without newline.
func (e *Entry) AppendStub(dst []byte) []byte { return audit.AppendStub(dst, &e.Link, e.Hash) }

// IsOurs says whether the collector itself made e, which no client can. Without
// it an origin could not be verified, so it is never refused.
func (e *Entry) IsOurs() bool {
	return e.Kind == audit.LineCheckpoint || e.Link.Stream == audit.StreamOrigin
}

// Coordinate returns where e belongs.
func (e *Entry) Coordinate() Coordinate {
	return Coordinate{Origin: e.Link.Origin, Checkpoint: e.Kind == audit.LineCheckpoint, Index: e.Link.Index}
}

// Coordinate is the place of one entry: a sealed record's index in its origin,
// or the size that a checkpoint covers.
type Coordinate struct {
	Origin     string
	Checkpoint bool
	Index      uint64
}

// String is the text in errors and logs.
func (c Coordinate) String() string {
	kind := "index"
	if c.Checkpoint {
		kind = "checkpoint of size"
	}
	return fmt.Sprintf("origin %s, %s %d", c.Origin, kind, c.Index)
}
