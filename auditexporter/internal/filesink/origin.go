// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// origin is the open folder of one origin. Lines go to its newest file, the
// one of the highest number.
type origin struct {
	config  *Config
	name    string
	folder  string
	locator locator
	used    uint64

	unscanned []uint64 // files that load has still to read
	stored    index

	// The newest file. All that follows describes its durable part.
	newest     file // nil until load opened it
	first      uint64
	size       int64
	checkpoint []byte // its last line if that is a checkpoint, with its newline
	number     uint64 // the size of that checkpoint
	broken     bool   // bytes of a failed write may follow size
}

// work is memory that a Write uses and leaves to the next.
type work struct {
	lines []byte // to be written
	marks []mark // one for each of lines
	line  []byte
	asked map[coordinate]int // position in the entries
	known []known            // by position
}

// known is what is there of an entry already.
type known uint8

const (
	absent  known = iota
	stubbed       // only its stub is stored
	whole         // it is stored
	earlier       // it comes earlier in the entries
)

// keepMemory is the size in bytes up to which work is kept between Writes.
const keepMemory = 16 << 20

// release drops memory that only an unusual Write needed.
func (w *work) release() {
	if cap(w.lines)+cap(w.line) > keepMemory {
		*w = work{}
	}
}

type mark struct {
	at     coordinate
	length int
	stub   bool
}

func newOrigin(config *Config, name string) (*origin, error) {
	parsed, err := chain.ParseOrigin(name)
	if err != nil {
		return nil, err
	}
	// The name becomes a path: `..` must not.
	if err := chain.CheckInstance(parsed.Instance); err != nil {
		return nil, err
	}
	return &origin{
		config:  config,
		name:    name,
		folder:  filepath.Join(config.Directory, filepath.FromSlash(name)),
		locator: newLocator(name),
	}, nil
}

func (o *origin) path(first uint64) string { return filepath.Join(o.folder, fileName(first)) }

// load reads what the folder holds. A load that the context cuts goes on where
// it stopped.
func (o *origin) load(ctx context.Context) error {
	if o.newest == nil {
		if err := o.openNewest(); err != nil {
			return err
		}
	}
	for len(o.unscanned) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := o.scan(o.unscanned[0]); err != nil {
			return err
		}
		o.unscanned = o.unscanned[1:]
	}
	return nil
}

// openNewest makes the folder, lists its files and repairs the newest.
func (o *origin) openNewest() error {
	if err := o.makeFolder(); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	firsts, err := o.list()
	if err != nil {
		return fmt.Errorf("list folder: %w", err)
	}
	if len(firsts) == 0 {
		f, err := o.create(0, nil)
		if err != nil {
			return err
		}
		o.newest = f
		return nil
	}
	o.first = firsts[len(firsts)-1]
	f, err := o.config.files.open(o.path(o.first))
	if err != nil {
		return err
	}
	if err := o.repair(f); err != nil {
		return fmt.Errorf("repair %s: %w", o.path(o.first), errors.Join(err, f.Close()))
	}
	o.newest, o.unscanned = f, firsts
	return nil
}

// makeFolder makes the origin's folder. Folders that exist are synced as well:
// a process that was killed may have made them and not got further.
func (o *origin) makeFolder() error {
	parsed, err := chain.ParseOrigin(o.name)
	if err != nil {
		return err
	}
	path := o.config.Directory
	for _, part := range []string{parsed.Instance, parsed.Journal, parsed.Life} {
		parent := path
		path = filepath.Join(parent, part)
		if err := o.config.files.mkdir(path); err != nil {
			return err
		}
		if err := o.config.files.syncDir(parent); err != nil {
			return err
		}
	}
	return o.config.files.syncDir(path)
}

// list returns the first numbers of the origin's files in order, and removes
// what a crash in create left.
func (o *origin) list() ([]uint64, error) {
	names, err := o.config.files.names(o.folder)
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, name := range names {
		if _, ok := parseName(name, ".tmp"); ok {
			if err := o.config.files.remove(filepath.Join(o.folder, name)); err != nil {
				return nil, err
			}
		}
		if first, ok := parseName(name, ".jsonl"); ok {
			firsts = append(firsts, first)
		}
	}
	return firsts, nil
}

// create makes the file of the given number with its first line. It appears
// under its name only when that line is durable, so no crash leaves a file that
// verification could not start with.
func (o *origin) create(first uint64, line []byte) (file, error) {
	temporary := filepath.Join(o.folder, stem(first)+".tmp")
	f, err := o.config.files.create(temporary)
	if err != nil {
		return nil, fmt.Errorf("create file: %w", err)
	}
	if err := o.fill(f, temporary, o.path(first), line); err != nil {
		return nil, fmt.Errorf("create %s: %w", o.path(first), errors.Join(err, f.Close()))
	}
	return f, nil
}

func (o *origin) fill(f file, temporary, path string, line []byte) error {
	if _, err := f.Write(line); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := o.config.files.rename(temporary, path); err != nil {
		return err
	}
	return o.config.files.syncDir(o.folder)
}

// repair cuts off what a crash left at the end of the newest file, and makes
// the rest durable before any of it is believed: a process that was killed
// after its write may not have got to its sync.
func (o *origin) repair(f file) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	found, err := readTail(f, size)
	if err != nil {
		return err
	}
	if found.cut > 0 {
		if err := o.cut(f, found, size); err != nil {
			return err
		}
	}
	if found.damaged > 0 {
		o.config.Logger.Error("unreadable lines in the audit store; run `otelaudit verify` on it",
			zap.String("file", o.path(o.first)), zap.Int("lines", found.damaged))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	o.size, o.checkpoint = found.end, found.checkpoint
	if at, ok := o.locator.locate(found.checkpoint); ok {
		o.number = at.number
	} else {
		o.checkpoint = nil
	}
	return nil
}

// cut takes the unsound end off the newest file. Where it holds whole lines,
// they are kept in a file beside it: damage that is no crash is evidence.
func (o *origin) cut(f file, found tail, size int64) error {
	fields := []zap.Field{
		zap.String("file", o.path(o.first)), zap.Int64("offset", found.end), zap.Int64("bytes", found.cut),
	}
	if found.whole {
		kept := filepath.Join(o.folder, fmt.Sprintf("%s.torn-%d", stem(o.first), found.end))
		if err := o.keep(io.NewSectionReader(f, found.end, size-found.end), kept); err != nil {
			return fmt.Errorf("keep the damaged end: %w", err)
		}
		fields = append(fields, zap.String("kept", kept))
	}
	if err := f.Truncate(found.end); err != nil {
		return err
	}
	o.config.Logger.Warn("cut a torn end off an audit file; what it held was not acknowledged, or verification will miss it",
		fields...)
	return nil
}

func (o *origin) keep(source io.Reader, path string) error {
	f, err := o.config.files.create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, source)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return o.config.files.syncDir(o.folder)
}

// scan notes the lines of one file.
func (o *origin) scan(first uint64) error {
	return o.eachLine(first, 0, -1, func(line []byte, offset int64) error {
		if at, ok := o.locator.locate(line); ok {
			o.stored.add(first, offset, int64(len(line)), at)
		}
		return nil
	})
}

// eachLine calls visit for each line of a part of a file. to < 0 is its end. A
// file that is gone (retention) has no lines.
func (o *origin) eachLine(first uint64, from, to int64, visit func(line []byte, offset int64) error) error {
	f, err := o.config.files.read(o.path(first))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if to < 0 {
		if to, err = f.Size(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	lines := newLineReader(f, from, to)
	for {
		line, offset, err := lines.next()
		if errors.Is(err, io.EOF) {
			return f.Close()
		}
		if err == nil {
			err = visit(line, offset)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read %s: %w", o.path(first), err), f.Close())
		}
	}
}

// write stores those of entries that are not stored yet.
func (o *origin) write(entries []sink.Entry, refuse sink.Refuse, w *work, result *sink.Result) error {
	if err := o.ask(entries, w); err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		switch w.known[i] {
		case stubbed:
			if err := refuse(e, "a stub is stored for it: it was refused before"); err != nil {
				return fmt.Errorf("%s: %w", coordinateOf(e), err)
			}
			result.Repeated++
		case whole, earlier:
			result.Repeated++
		default:
			if err := o.stage(e, refuse, w, result); err != nil {
				return err
			}
		}
	}
	return o.flush(w, result)
}

// replay stores e beside its stub.
func (o *origin) replay(e *sink.Entry, w *work, result *sink.Result) error {
	if err := o.ask([]sink.Entry{*e}, w); err != nil {
		return err
	}
	switch w.known[0] {
	case whole:
		result.Repeated++
		return nil
	case absent:
		return fmt.Errorf("%s: %w", coordinateOf(e), sink.ErrNoStub)
	}
	refused := func(_ *sink.Entry, reason string) error { return fmt.Errorf("%w: %s", sink.ErrRefused, reason) }
	if err := o.stage(e, refused, w, result); err != nil {
		return err
	}
	return o.flush(w, result)
}

// ask finds out which of entries are stored, or come earlier in entries. Before
// that it brings the newest file in order.
func (o *origin) ask(entries []sink.Entry, w *work) error {
	if err := o.restore(); err != nil {
		return err
	}
	w.lines, w.marks = w.lines[:0], w.marks[:0]
	if w.asked == nil {
		w.asked = make(map[coordinate]int, len(entries))
	}
	clear(w.asked)
	w.known = append(w.known[:0], make([]known, len(entries))...)
	var wanted spans
	for i := range entries {
		at := coordinateOf(&entries[i])
		if first, ok := w.asked[at]; ok {
			if w.compare(&entries[i], appendLine(nil, &entries[first])) != whole {
				return fmt.Errorf("%w: %s twice in one batch", sink.ErrConflict, at)
			}
			w.known[i] = earlier
			continue
		}
		w.asked[at] = i
		if o.stored.all.holds(at) {
			wanted.add(at)
		}
	}
	return o.compare(entries, &wanted, w)
}

// compare reads the blocks that may hold what is wanted.
func (o *origin) compare(entries []sink.Entry, wanted *spans, w *work) error {
	for i := range o.stored.blocks {
		b := &o.stored.blocks[i]
		if !b.spans.meets(wanted) {
			continue
		}
		err := o.eachLine(b.file, b.offset, b.offset+b.length, func(line []byte, offset int64) error {
			at, sound := o.locator.locate(line)
			position, asked := w.asked[at]
			if !sound || !asked {
				return nil
			}
			found := w.compare(&entries[position], line)
			if found == absent {
				return fmt.Errorf("%w: %s at offset %d", sink.ErrConflict, at, offset)
			}
			// A record that was replayed is there both as a stub and whole.
			w.known[position] = max(w.known[position], found)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// compare says what line, which is of e's coordinate, is of e: absent is that
// it is something else.
func (w *work) compare(e *sink.Entry, line []byte) known {
	w.line = appendLine(w.line[:0], e)
	if bytes.Equal(w.line, line) {
		return whole
	}
	if e.Kind == audit.LineEvent {
		if w.line = appendStub(w.line[:0], e); bytes.Equal(w.line, line) {
			return stubbed
		}
	}
	return absent
}

func (at coordinate) String() string {
	if at.checkpoint {
		return fmt.Sprintf("checkpoint of size %d", at.number)
	}
	return fmt.Sprintf("index %d", at.number)
}

// stage adds the line of e to those to be written, or its stub. Where the
// newest file is full before it, that is written and a new one begun.
func (o *origin) stage(e *sink.Entry, refuse sink.Refuse, w *work, result *sink.Result) error {
	if o.full(w) {
		if err := o.rotate(w, result); err != nil {
			return err
		}
	}
	m := mark{at: coordinateOf(e)}
	start := len(w.lines)
	w.lines = appendLine(w.lines, e)
	length, limit := len(w.lines)-start-len("\n"), o.config.MaxLineBytes
	switch {
	case length <= limit, e.IsOurs() && length <= audit.MaxLine:
	case e.IsOurs():
		return fmt.Errorf("%s: line of %d bytes is longer than %d", m.at, length, audit.MaxLine)
	default:
		reason := fmt.Sprintf("its line of %d bytes is longer than `file::max_line_bytes`, %d", length, limit)
		if err := refuse(e, reason); err != nil {
			return fmt.Errorf("%s: %w", m.at, err)
		}
		// The record is safe: now a stub may say that it is not here.
		w.lines = appendStub(w.lines[:start], e)
		m.stub = true
	}
	m.length = len(w.lines) - start
	w.marks = append(w.marks, m)
	return nil
}

// full says whether the newest file, once the staged lines are in it, ends and
// the next line starts a new one: only directly behind a checkpoint, and one
// that gives the new file a higher number than any before.
func (o *origin) full(w *work) bool {
	if o.size+int64(len(w.lines)) < o.config.MaxFileBytes {
		return false
	}
	if len(w.marks) == 0 {
		return len(o.checkpoint) > 0 && o.number > o.first
	}
	last := w.marks[len(w.marks)-1].at
	return last.checkpoint && last.number > o.first
}

// rotate writes the staged lines and starts a new file with the checkpoint
// that ends the old one.
func (o *origin) rotate(w *work, result *sink.Result) error {
	if err := o.flush(w, result); err != nil {
		return err
	}
	start := time.Now()
	f, err := o.create(o.number, o.checkpoint)
	result.Sync += time.Since(start)
	if err != nil {
		return err // the old file is still the newest, and still full
	}
	old := o.newest
	o.newest, o.first, o.size = f, o.number, 0
	o.advance(coordinate{checkpoint: true, number: o.number}, len(o.checkpoint))
	result.Bytes += o.size
	if err := old.Close(); err != nil {
		return fmt.Errorf("close file: %w", err)
	}
	return nil
}

// flush writes the staged lines durably. What is remembered moves only then.
func (o *origin) flush(w *work, result *sink.Result) error {
	if len(w.lines) == 0 {
		return nil
	}
	start := time.Now()
	if err := o.append(w.lines); err != nil {
		o.broken = true
		return errors.Join(err, o.restore())
	}
	result.Sync += time.Since(start)
	result.Bytes += int64(len(w.lines))
	// Committed: a crash from here on costs nothing.
	for _, m := range w.marks {
		o.advance(m.at, m.length)
		switch {
		case m.at.checkpoint:
			result.Checkpoints++
		case m.stub:
			result.Refused++
		default:
			result.Stored++
		}
	}
	o.endsWith(w)
	w.lines, w.marks = w.lines[:0], w.marks[:0]
	return nil
}

func (o *origin) append(lines []byte) error {
	path := o.path(o.first)
	if _, err := o.newest.Write(lines); err != nil {
		return fmt.Errorf("append to %s: %w", path, err)
	}
	if err := o.newest.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	// Somebody who moves files away must not make us write to nowhere.
	if err := o.newest.At(path); err != nil {
		return err
	}
	size, err := o.newest.Size()
	if err != nil {
		return err
	}
	if size != o.size+int64(len(lines)) {
		return fmt.Errorf("%w: %s has %d bytes, want %d", errStale, path, size, o.size+int64(len(lines)))
	}
	return nil
}

// advance notes a durable line at the end of the newest file.
func (o *origin) advance(at coordinate, length int) {
	o.stored.add(o.first, o.size, int64(length), at)
	o.size += int64(length)
}

// endsWith remembers the checkpoint that the newest file now ends with, if any.
func (o *origin) endsWith(w *work) {
	last := w.marks[len(w.marks)-1]
	o.checkpoint = o.checkpoint[:0]
	if last.at.checkpoint {
		o.checkpoint = append(o.checkpoint, w.lines[len(w.lines)-last.length:]...)
		o.number = last.at.number
	}
}

// restore brings the newest file back to its durable part after a failed write
// or sync. A sync that failed once may say that all is well the next time with
// the bytes lost, so what it should have saved is cut off, and written again.
func (o *origin) restore() error {
	if !o.broken {
		return nil
	}
	path := o.path(o.first)
	if err := o.newest.At(path); err != nil {
		return err
	}
	f, err := o.config.files.open(path)
	if err != nil {
		return fmt.Errorf("reopen %s: %w", path, err)
	}
	if err := o.truncate(f); err != nil {
		return fmt.Errorf("cut %s to %d bytes: %w", path, o.size, errors.Join(err, f.Close()))
	}
	old := o.newest
	o.newest, o.broken = f, false
	// The descriptor of a failed sync may report the same failure again here.
	if err := old.Close(); err != nil {
		o.config.Logger.Warn("close an audit file after a failed write", zap.String("file", path), zap.Error(err))
	}
	return nil
}

func (o *origin) truncate(f file) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size < o.size {
		return errStale
	}
	if err := f.Truncate(o.size); err != nil {
		return err
	}
	return f.Sync()
}

func (o *origin) close() error {
	if o.newest == nil {
		return nil
	}
	return o.newest.Close()
}
