// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
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

	listed    bool     // load knows the files
	unscanned []uint64 // files that load has still to read
	manifests map[uint64]bool
	stored    index
	floor     uint64    // what is below was stored, and removed by retention
	bound     uint64    // what manifests can name at most, as far as that is known
	toldGone  bool      // in the log
	unsealed  []sealing // files that get no more lines and have no manifest yet

	// The newest file. All that follows describes its durable part.
	newest     file // nil while there is none: the first line that is written makes it
	first      uint64
	size       int64
	checkpoint []byte // its last line if that is a checkpoint, with its newline
	number     uint64 // the size of that checkpoint
	broken     bool   // bytes of a failed write may follow size
	summary    summary
	rotated    bool // since retention looked

	// latest is the newest checkpoint that was seen, with its newline: what a
	// file begins with that takes the place of one that is gone.
	latest   []byte
	latestAt uint64
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
	at       coordinate
	length   int
	stub     bool
	sealedAt int64
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
		bound:   math.MaxUint64,
	}, nil
}

func (o *origin) path(first uint64) string { return filepath.Join(o.folder, fileName(first)) }

// load reads what the folder holds. A load that the context cuts goes on where
// it stopped.
func (o *origin) load(ctx context.Context) error {
	if !o.listed {
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

// openNewest makes the folder, lists its files and repairs the newest, unless
// that was sealed.
func (o *origin) openNewest() error {
	if err := o.makeFolder(); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	list, err := o.list()
	if err != nil {
		return fmt.Errorf("list folder: %w", err)
	}
	if err := o.readFloor(&list); err != nil {
		return err
	}
	o.first, o.unscanned, o.manifests = o.floor, list.files, list.manifests
	if len(list.files) > 0 {
		o.first = list.files[len(list.files)-1]
		if err := o.takeNewest(list.manifests[o.first]); err != nil {
			return err
		}
	}
	o.replace()
	o.listed = true
	return nil
}

// takeNewest opens the file of the highest number, to go on in it. One that is
// sealed gets no more lines: another one follows it.
func (o *origin) takeNewest(sealed bool) error {
	path := o.path(o.first)
	if sealed {
		return o.follow(path)
	}
	f, err := o.openProtected(path)
	if err != nil {
		return err
	}
	if err := o.repair(f); err != nil {
		return fmt.Errorf("repair %s: %w", path, errors.Join(err, f.Close()))
	}
	if o.size == 0 && o.latestAt > o.first {
		return f.Close() // emptied: see replace
	}
	o.newest = f
	return nil
}

// openProtected opens the newest file, which has no manifest. Where that was
// moved away, the file is read-only still.
func (o *origin) openProtected(path string) (file, error) {
	f, err := o.config.files.open(path)
	if !errors.Is(err, os.ErrPermission) {
		return f, err
	}
	if o.config.files.unprotect(path) != nil {
		return nil, err
	}
	return o.config.files.open(path)
}

// follow prepares the file behind the sealed one at path.
func (o *origin) follow(path string) error {
	m, err := readManifest(o.config.files, o.folder, o.name, o.first)
	if err != nil {
		return fmt.Errorf("%w: move the manifest away, it is made anew", err)
	}
	f, err := o.config.files.read(path)
	if err != nil {
		return err
	}
	size, err := f.Size()
	var found tail
	if err == nil {
		found, err = readTail(f, size)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	at, ok := o.locator.locate(found.checkpoint)
	o.first = max(o.first+1, o.endOf(&m, o.first))
	if ok && at.number == o.first {
		o.sawCheckpoint(found.checkpoint, at)
	}
	return nil
}

// replace makes the file that is begun next begin with the newest checkpoint
// that is known, where that can be: verification may then start with it. The
// newest file may be gone or emptied although checkpoints behind its start were
// seen.
func (o *origin) replace() {
	if o.newest == nil && o.latestAt > o.first {
		o.first = o.latestAt
	}
}

// readFloor reads what retention has removed: of the newest file that it
// removed, the manifest stays.
func (o *origin) readFloor(list *folderList) error {
	for _, first := range list.removed() {
		m, err := readManifest(o.config.files, o.folder, o.name, first)
		if err != nil {
			return fmt.Errorf("%w: it says what retention has removed; bring it back, or move it away", err)
		}
		o.floor = max(o.floor, o.endOf(&m, first))
	}
	return nil
}

// endOf is the end of what the manifest of a file names, as far as that can be
// true.
func (o *origin) endOf(m *manifest, first uint64) uint64 {
	end := m.end()
	if end <= o.bound {
		return end
	}
	o.config.Logger.Error("a manifest names what was never stored; it is not believed",
		zap.String("file", filepath.Join(o.folder, manifestName(first))), zap.Uint64("end", end), zap.Uint64("stored", o.bound))
	return o.bound
}

// end is the number below which all is that was ever stored, as far as the sink
// has seen it.
func (o *origin) end() uint64 {
	end := max(o.floor, o.latestAt)
	if all := &o.stored.all.records; all.used {
		end = max(end, all.high+1)
	}
	return end
}

// tellGone says once that records come again which are not stored any more: who
// can write manifests can have the sink believe that of any record.
func (o *origin) tellGone(at coordinate) {
	if o.toldGone {
		return
	}
	o.toldGone = true
	o.config.Logger.Warn("what is delivered is not stored: by the manifest that retention left, it was stored and removed before;"+
		" after a crash that may be so, otherwise run `otelaudit verify` and look at that manifest",
		zap.String("origin", o.name), zap.Stringer("first", at), zap.Uint64("removed_below", o.floor))
}

// gone says whether retention has removed what is at the coordinate.
func (o *origin) gone(at coordinate) bool {
	return at.number < o.floor || at.checkpoint && at.number == o.floor && o.floor > 0
}

// sawCheckpoint remembers the newest checkpoint.
func (o *origin) sawCheckpoint(line []byte, at coordinate) {
	if at.checkpoint && at.number >= o.latestAt {
		o.latest, o.latestAt = append(o.latest[:0], line...), at.number
	}
}

// begin makes the file that lines go to, if there is none.
func (o *origin) begin(result *sink.Result) error {
	if o.newest != nil {
		return nil
	}
	head := o.head()
	start := time.Now()
	f, err := o.create(o.first, head)
	result.Sync += time.Since(start)
	if err != nil {
		return err
	}
	o.begun(f, o.first, head)
	result.Bytes += o.size
	return nil
}

// head is the first line of the file that is begun next, if it has one.
func (o *origin) head() []byte {
	if o.newest == nil && o.latestAt == o.first {
		return o.latest
	}
	return nil
}

// isHead says whether e is stored by beginning the next file.
func (o *origin) isHead(e *sink.Entry, w *work) bool {
	head := o.head()
	return len(head) > 0 && e.Kind == audit.LineCheckpoint && w.compare(e, head) == whole
}

// begun notes the file that was made, and its first line.
func (o *origin) begun(f file, first uint64, head []byte) {
	o.newest, o.first, o.size, o.summary = f, first, 0, newSummary()
	o.checkpoint, o.number = append(o.checkpoint[:0], head...), first
	if len(head) > 0 {
		o.summary.write(head)
		o.advance(mark{at: coordinate{checkpoint: true, number: first}, length: len(head)})
	}
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

// list returns the origin's files, and removes what a crash left half made.
func (o *origin) list() (folderList, error) {
	list, err := listFolder(o.config.files, o.folder)
	if err != nil {
		return folderList{}, err
	}
	for _, name := range list.left {
		if err := o.config.files.remove(filepath.Join(o.folder, name)); err != nil {
			return folderList{}, err
		}
	}
	return list, nil
}

// create makes the file of the given number with its first line. It appears
// under its name only when that line is durable, so no crash leaves a file that
// verification could not start with.
func (o *origin) create(first uint64, line []byte) (file, error) {
	temporary := filepath.Join(o.folder, stem(first)+".tmp")
	f, err := o.config.files.create(temporary)
	if err != nil {
		return nil, fmt.Errorf("create file: %w", vanished(err))
	}
	if err := o.fill(f, temporary, o.path(first), line); err != nil {
		return nil, fmt.Errorf("create %s: %w", o.path(first), errors.Join(vanished(err), f.Close()))
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

// scan notes the lines of one file. One that gets no more lines and has no
// manifest, because of a crash or of an older version, gets it now.
func (o *origin) scan(first uint64) error {
	found := newSummary()
	sealed := o.manifests[first]
	err := o.eachLine(first, 0, -1, func(line []byte, offset int64) error {
		if !sealed {
			found.write(line)
		}
		at, ok := o.locator.locate(line)
		if ok {
			o.stored.add(first, offset, int64(len(line)), at)
			found.note(at, o.locator.sealedAt(line))
			o.sawCheckpoint(line, at)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case sealed:
		return o.protect(first) // a crash may have come before it
	case o.newest != nil && first == o.first:
		o.summary = found
	default:
		o.toSeal(first, &found)
	}
	return nil
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
			if at := coordinateOf(e); o.gone(at) {
				o.tellGone(at)
				result.Repeated++
				continue
			}
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
	if err := o.seal(); err != nil {
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
	if o.isHead(e, w) {
		if err := o.begin(result); err != nil {
			return err
		}
		result.Checkpoints++
		return nil
	}
	m := mark{at: coordinateOf(e), sealedAt: e.Link.SealedAt}
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
	if len(w.marks) == 0 {
		if len(o.checkpoint) == 0 || o.number <= o.first {
			return false
		}
	} else if last := w.marks[len(w.marks)-1].at; !last.checkpoint || last.number <= o.first {
		return false
	}
	return o.size+int64(len(w.lines)) >= o.config.MaxFileBytes || o.aged(w)
}

// aged says whether the records of the newest file and the staged ones were
// sealed over a longer time than a file may hold. That is told by the records:
// a backlog that is delivered late makes no more files than it would have, and
// no clock and no restart changes it.
func (o *origin) aged(w *work) bool {
	if o.config.MaxFileAge <= 0 {
		return false
	}
	age := summary{records: o.summary.records, earliest: o.summary.earliest, latest: o.summary.latest}
	for i := range w.marks {
		age.note(w.marks[i].at, w.marks[i].sealedAt)
	}
	return age.records.used && age.latest-age.earliest >= int64(o.config.MaxFileAge)
}

// rotate writes the staged lines and starts a new file with the checkpoint
// that ends the old one, which is sealed.
func (o *origin) rotate(w *work, result *sink.Result) error {
	if err := o.flush(w, result); err != nil {
		return err
	}
	start := time.Now()
	defer func() { result.Sync += time.Since(start) }()
	f, err := o.create(o.number, o.checkpoint)
	if err != nil {
		return err // the old file is still the newest, and still full
	}
	old := o.newest
	o.toSeal(o.first, &o.summary)
	o.begun(f, o.number, o.checkpoint)
	result.Bytes += o.size
	o.rotated = true
	if err := old.Close(); err != nil {
		return fmt.Errorf("close file: %w", err)
	}
	return o.seal()
}

// flush writes the staged lines durably. What is remembered moves only then.
func (o *origin) flush(w *work, result *sink.Result) error {
	if len(w.lines) == 0 {
		return nil
	}
	if err := o.begin(result); err != nil {
		return err
	}
	start := time.Now()
	if err := o.append(w.lines); err != nil {
		o.broken = true
		return errors.Join(err, o.restore())
	}
	result.Sync += time.Since(start)
	result.Bytes += int64(len(w.lines))
	// Committed: a crash from here on costs nothing.
	o.summary.write(w.lines)
	for _, m := range w.marks {
		o.advance(m)
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
	// Before, so that nothing goes to a file that was moved away, and after:
	// what was acknowledged must be where it is looked for.
	if err := o.unchanged(path, o.size); err != nil {
		return err
	}
	if _, err := o.newest.Write(lines); err != nil {
		return fmt.Errorf("append to %s: %w", path, err)
	}
	if err := o.newest.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return o.unchanged(path, o.size+int64(len(lines)))
}

// unchanged returns errStale unless the newest file is at path and has so many
// bytes.
func (o *origin) unchanged(path string, want int64) error {
	if err := o.newest.At(path); err != nil {
		return err
	}
	size, err := o.newest.Size()
	if err == nil && size != want {
		err = fmt.Errorf("%w: %s has %d bytes, want %d", errStale, path, size, want)
	}
	return err
}

// advance notes a durable line at the end of the newest file.
func (o *origin) advance(m mark) {
	o.stored.add(o.first, o.size, int64(m.length), m.at)
	o.summary.note(m.at, m.sealedAt)
	o.size += int64(m.length)
}

// endsWith remembers the checkpoint that the newest file now ends with, if any,
// and the newest of all.
func (o *origin) endsWith(w *work) {
	o.checkpoint = o.checkpoint[:0]
	end := len(w.lines)
	for i, m := range slices.Backward(w.marks) {
		line := w.lines[end-m.length : end]
		end -= m.length
		if !m.at.checkpoint {
			continue
		}
		if i == len(w.marks)-1 {
			o.checkpoint, o.number = append(o.checkpoint, line...), m.at.number
		}
		o.sawCheckpoint(line, m.at)
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
