// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package filesink stores sealed records and checkpoints as lines of files, a
// folder for each origin:
//
//	<directory>/<instance>/<journal id>/<life>/<20-digit number>.jsonl
//	<directory>/<instance>/<journal id>/<life>/<20-digit number>.manifest.json
//
// The second one describes a file that gets no more lines. docs/format.md has
// both formats.
//
// What [Sink.Write] acknowledged survives a power cut and is stored once per
// coordinate, or as a stub if its line would be too long. Lines are only ever
// appended; a coordinate that is stored with other bytes is [sink.ErrConflict] and
// stays as it is.
package filesink

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/durable"
)

// maxOrigins is how many origins are kept open. One that is not costs a scan
// of its folder when it is written to again.
const maxOrigins = 64

// Config says where and how to store.
type Config struct {
	// Directory holds the store. It is made if it is missing and locked: one
	// Sink at a time.
	Directory string
	// MaxFileBytes is the size in bytes from which on a file is followed by a
	// new one, at its next checkpoint.
	MaxFileBytes int64
	// MaxFileAge is the time over which the records of one file may have been
	// sealed; at its next checkpoint another one follows. 0 is without end.
	MaxFileAge time.Duration
	// MaxLineBytes is the longest line of a client's record, in bytes without
	// the newline, at most audit.MaxLine. A record of a longer one is refused.
	// Checkpoints and what the collector itself seals have no such limit.
	MaxLineBytes int
	// Logger is told of repairs, never of content.
	Logger *zap.Logger

	// Retention removes sealed files.
	Retention Retention
	// MinFreeBytes is how much room there should be on the disk. 0 is any.
	MinFreeBytes int64

	files   fileSystem       // tests only
	origins int              // tests only
	now     func() time.Time // tests only
}

// Sink is an open store. Safe for concurrent use.
type Sink struct {
	config Config
	opened time.Time
	lock   *durable.Lock

	mu      sync.Mutex
	origins map[string]*origin // guarded by mu, at most config.origins
	before  map[string]*origin // guarded by mu, at most maxOrigins; those whose folder has to be read again
	uses    uint64             // guarded by mu; counts Writes, the clock of what was used last
	work    work               // guarded by mu
	closed  bool               // guarded by mu
	upkeep  upkeep             // guarded by mu
}

// Open opens the store and locks its directory. An error that wraps
// durable.ErrLocked says that another Sink has it.
func Open(config Config) (*Sink, error) {
	if config.files == nil {
		config.files = disk{}
	}
	if config.origins == 0 {
		config.origins = maxOrigins
	}
	if config.now == nil {
		config.now = time.Now
	}
	config.Directory = filepath.Clean(config.Directory)
	if err := durable.MkdirAll(config.Directory); err != nil {
		return nil, fmt.Errorf("open file sink: %w", err)
	}
	lock, err := durable.LockDirectory(config.Directory)
	if errors.Is(err, durable.ErrLocked) {
		return nil, fmt.Errorf("open file sink: another collector or exporter writes to %s:"+
			" stop it, or give each its own `file::directory`: %w", config.Directory, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open file sink: %w", err)
	}
	return &Sink{config: config, opened: config.now(), lock: lock, origins: map[string]*origin{}, before: map[string]*origin{}, upkeep: newUpkeep()}, nil
}

// Write stores entries durably, in order. When it returns nil all of them
// survive a power cut. Entries may repeat what is stored: that is skipped once
// the stored line was read and is the same, byte for byte; where it is not,
// Write returns sink.ErrConflict. After an error some entries may be stored (sink.Result
// says how many); writing all of them again is right. The context is looked at
// before the disk is, not in between: what was begun is ended.
//
// A record whose line is too long is handed to refuse, and a stub is stored in
// its place with the rest. A record that is stored as a stub and comes again,
// whole, is handed to refuse again, however long it is: only Replay stores it.
func (s *Sink) Write(ctx context.Context, entries []sink.Entry, refuse sink.Refuse) (sink.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.work.release()
	var result sink.Result
	if s.closed {
		return result, sink.ErrClosed
	}
	for len(entries) > 0 {
		n := run(entries)
		err := s.inOrigin(ctx, entries[0].Link.Origin, func(o *origin) error {
			return o.write(entries[:n], refuse, &s.work, &result)
		})
		if err != nil {
			return result, err
		}
		entries = entries[n:]
	}
	return result, nil
}

// Replay stores a record durably beside its stub, which it supersedes. One that
// is stored whole already is fine. The error wraps sink.ErrNoStub if neither is
// there, sink.ErrRefused if the record would be refused again, sink.ErrConflict if what is
// stored is not this record's.
func (s *Sink) Replay(ctx context.Context, e *sink.Entry) (sink.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.work.release()
	var result sink.Result
	if s.closed {
		return result, sink.ErrClosed
	}
	err := s.inOrigin(ctx, e.Link.Origin, func(o *origin) error { return o.replay(e, &s.work, &result) })
	return result, err
}

// run returns how many entries at the start are of one origin.
func run(entries []sink.Entry) int {
	n := 1
	for n < len(entries) && entries[n].Link.Origin == entries[0].Link.Origin {
		n++
	}
	return n
}

// inOrigin calls write with the origin of the given name. Where somebody else
// changed a file under it, the folder is read again and all of it is written
// once more: what of it went with the file is stored again.
func (s *Sink) inOrigin(ctx context.Context, name string, write func(*origin) error) error {
	err := s.onceInOrigin(ctx, name, write)
	if errors.Is(err, errStale) {
		err = s.reopen(ctx, name, err, write)
	}
	if err != nil {
		return fmt.Errorf("write to origin %s: %w", name, err)
	}
	return nil
}

func (s *Sink) onceInOrigin(ctx context.Context, name string, write func(*origin) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o, err := s.origin(ctx, name)
	if err != nil {
		return err
	}
	return write(o)
}

// reopen forgets what is remembered of an origin, since it is wrong, and writes
// with what is on the disk now.
func (s *Sink) reopen(ctx context.Context, name string, cause error, write func(*origin) error) error {
	before := s.origins[name]
	if before == nil {
		return cause
	}
	delete(s.origins, before.name)
	if err := before.close(); err != nil {
		cause = errors.Join(cause, err)
	}
	if len(s.before) >= maxOrigins {
		clear(s.before)
	}
	s.before[before.name] = before
	s.upkeep.condition.Reopened++
	s.config.Logger.Error("an audit file was moved, removed or changed under the collector; the store goes on without it,"+
		" what it held is missing there until it is brought back", zap.String("origin", name), zap.Error(cause))
	return s.onceInOrigin(ctx, name, write)
}

// holdDirectory makes and locks the directory again where another one, or none,
// has taken its place.
func (s *Sink) holdDirectory() error {
	held, err := s.lock.Held()
	if held || err != nil {
		return err
	}
	if err := durable.MkdirAll(s.config.Directory); err != nil {
		return err
	}
	lock, err := durable.LockDirectory(s.config.Directory)
	if err != nil {
		return fmt.Errorf("%s was replaced while the collector wrote to it, and the new one cannot be locked:"+
			" stop what writes to it: %w", s.config.Directory, err)
	}
	old := s.lock
	s.lock = lock
	return old.Unlock()
}

// origin returns the origin of the given name, read from disk if need be.
func (s *Sink) origin(ctx context.Context, name string) (*origin, error) {
	s.uses++
	o, ok := s.origins[name]
	if !ok {
		if err := s.evict(); err != nil {
			return nil, err
		}
		if err := s.holdDirectory(); err != nil {
			return nil, err
		}
		var err error
		if o, err = newOrigin(&s.config, strings.Clone(name)); err != nil {
			return nil, err
		}
		if before := s.before[name]; before != nil {
			o.latest, o.latestAt = before.latest, before.latestAt
			o.bound = before.end()
		}
		s.origins[o.name] = o
	}
	o.used = s.uses
	if err := o.load(ctx); err != nil {
		if ctx.Err() == nil {
			delete(s.origins, o.name)
			err = errors.Join(err, o.close())
		}
		return nil, err // a cut load goes on where it stopped
	}
	delete(s.before, o.name)
	return o, nil
}

// evict makes room for one more origin.
func (s *Sink) evict() error {
	if len(s.origins) < s.config.origins {
		return nil
	}
	var oldest *origin
	for _, o := range s.origins {
		if oldest == nil || o.used < oldest.used {
			oldest = o
		}
	}
	return s.forget(oldest)
}

// forget closes an origin. A file with an unsound tail must not be forgotten
// before it is cut.
func (s *Sink) forget(o *origin) error {
	if err := o.restore(); err != nil && !errors.Is(err, errStale) {
		return fmt.Errorf("close origin %s: %w", o.name, err)
	}
	delete(s.origins, o.name)
	return o.close()
}

// Close closes the files and frees the directory. Twice is fine.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, o := range s.origins {
		errs = append(errs, o.restore(), o.close())
	}
	s.origins = nil
	return errors.Join(append(errs, s.lock.Unlock())...)
}

// coordinateOf is where e belongs in its origin.
func coordinateOf(e *sink.Entry) coordinate {
	return coordinate{checkpoint: e.Kind == audit.LineCheckpoint, number: e.Link.Index}
}

// appendLine appends the stored line of e with its newline.
func appendLine(dst []byte, e *sink.Entry) []byte { return append(e.AppendLine(dst), '\n') }

// appendStub appends the stub of e with its newline.
func appendStub(dst []byte, e *sink.Entry) []byte { return append(e.AppendStub(dst), '\n') }
