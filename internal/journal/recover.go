// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"os"
)

// CorruptError says where a journal is damaged in a way that no crash leaves
// behind. Nothing is repaired by itself: acknowledged events may stand there.
type CorruptError struct {
	File   string
	Offset int64
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal is damaged in %s at byte %d: %v: keep a copy of the directory, restore it from one that is whole, or point `journal::directory` at an empty directory and keep this one as evidence; `otelaudit journal check` reads it without changing it", e.File, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// recovery is what Open found on disk.
type recovery struct {
	segments []segment // contiguous, oldest first
	state    *state
	backlog  backlog
	next     place  // of the first undelivered frame
	newest   []byte // the last frame of the last segment, as it stands there
	torn     int64  // bytes behind the accepted end of the last segment

	room []byte // memory of the reader of segments
}

// place is where a frame begins.
type place struct {
	number  uint64
	segment uint64
	offset  int64
}

// recoverSegments reads all segments and returns what was durable. It changes
// nothing but to remove a newest segment whose creation was cut, and delivered
// ones whose removal was.
func (j *Journal) recoverSegments(cursor uint64) (*recovery, error) {
	numbers, err := listSegments(j.options.Directory)
	if err != nil {
		return nil, err
	}
	if numbers, err = j.dropUnborn(numbers); err != nil {
		return nil, err
	}
	births, err := j.readBirths(numbers)
	if err != nil {
		return nil, err
	}
	oldest, err := j.oldestOf(births, cursor)
	if err != nil {
		return nil, err
	}
	r := &recovery{state: newState()}
	for i := oldest; i < len(births); i++ {
		if err := j.recoverSegment(r, births, i, cursor); err != nil {
			return nil, err
		}
	}
	if err := j.checkCursor(r, cursor); err != nil {
		return nil, err
	}
	for _, leftover := range births[:oldest] {
		if err := j.removeSegment(leftover.number); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// oldestOf returns which segment is the oldest that counts. A removal that did
// not outlive a power cut leaves delivered segments behind a gap: those are let
// go. Any other gap is damage.
func (j *Journal) oldestOf(births []birth, cursor uint64) (int, error) {
	for i := len(births) - 1; i > 0; i-- {
		if births[i].before.segment == births[i-1].number {
			continue
		}
		if births[i].number > cursor+1 {
			return 0, &CorruptError{
				File: j.segmentPath(births[i].number),
				Err:  fmt.Errorf("segment %d, which it continues, is missing", births[i].before.segment),
			}
		}
		return i, nil
	}
	return 0, nil
}

func (j *Journal) checkCursor(r *recovery, cursor uint64) error {
	if last := r.lastNumber(); cursor > last {
		return fmt.Errorf("the cursor of journal %s stands at frame %d, behind its last frame %d: parts of the directory are older than others; restore it as a whole", j.options.Directory, cursor, last)
	}
	if through := j.ids.through; through > r.lastNumber() {
		return fmt.Errorf("the ids of journal %s reach to frame %d, behind its last frame %d: parts of the directory are older than others; restore it as a whole", j.options.Directory, through, r.lastNumber())
	}
	if len(r.segments) > 0 && cursor+1 < r.segments[0].first {
		return fmt.Errorf("journal %s has lost its frames %d to %d, which were not delivered: restore the missing *%s files", j.options.Directory, cursor+1, r.segments[0].first-1, segmentSuffix)
	}
	return nil
}

func (r *recovery) lastNumber() uint64 {
	if len(r.segments) == 0 {
		return 0
	}
	return r.segments[len(r.segments)-1].last
}

// dropUnborn removes the newest segment if a crash cut its creation: it has no
// valid state frame, and so nothing was ever built on it.
func (j *Journal) dropUnborn(numbers []uint64) ([]uint64, error) {
	if len(numbers) == 0 {
		return nil, nil
	}
	newest := numbers[len(numbers)-1]
	path := j.segmentPath(newest)
	_, err := readStateFrame(path, newest)
	if !errors.Is(err, errFrame) {
		return numbers, nil // whole, or a fault that readBirths names
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read segment: %w", err)
	}
	if laterFrame(data, func(frame) bool { return true }) {
		return numbers, nil
	}
	if err := j.removeSegment(newest); err != nil {
		return nil, fmt.Errorf("unborn segment: %w", err)
	}
	return numbers[:len(numbers)-1], nil
}

// birth is what a segment's state frame says.
type birth struct {
	number uint64
	salt   uint64
	before acceptedEnd
	state  *state // of the newest segment only
}

func (j *Journal) readBirths(numbers []uint64) ([]birth, error) {
	births := make([]birth, len(numbers))
	for i, number := range numbers {
		path := j.segmentPath(number)
		f, err := readStateFrame(path, number)
		if err != nil {
			return nil, &CorruptError{File: path, Err: err}
		}
		before, state, err := parseState(f.payload)
		if err != nil {
			return nil, &CorruptError{File: path, Err: err}
		}
		births[i] = birth{number: number, salt: f.salt, before: before}
		if i == len(numbers)-1 {
			births[i].state = state
		}
	}
	return births, nil
}

// readStateFrame reads the frame at the start of a segment.
func readStateFrame(path string, number uint64) (f frame, err error) {
	file, err := os.Open(path)
	if err != nil {
		return frame{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	f, err = readFrame(file, 0)
	if err != nil {
		return frame{}, err
	}
	if f.kind != frameState || f.number != number {
		return frame{}, fmt.Errorf("%w: no state frame %d", errFrame, number)
	}
	return f, nil
}

// recoverSegment reads segment i. The newest one is replayed into the state;
// the others are checked, up to the length that their successor names.
func (j *Journal) recoverSegment(r *recovery, births []birth, i int, cursor uint64) (err error) {
	b := births[i]
	path := j.segmentPath(b.number)
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	scan := segmentScan{
		recovery: r, path: path, frames: frameReader{file: file, size: info.Size(), room: r.room}, cursor: cursor,
		ids: j.ids, newest: i == len(births)-1,
	}
	defer func() { r.room = scan.frames.room }()
	if scan.newest {
		r.state = b.state
		return scan.run(b)
	}
	accepted := int64(births[i+1].before.length)
	if scan.frames.size < accepted {
		return &CorruptError{File: path, Offset: scan.frames.size, Err: fmt.Errorf("the file is cut: its successor counts %d bytes", accepted)}
	}
	scan.frames.size = accepted
	if err := scan.run(b); err != nil {
		return err
	}
	if last := r.lastNumber(); last+1 != births[i+1].number {
		return &CorruptError{File: path, Offset: accepted, Err: fmt.Errorf("its last frame is %d, but its successor begins with %d", last, births[i+1].number)}
	}
	return nil
}

// frameReader reads the frames of a file through a window: a backlog may be far
// larger than memory.
type frameReader struct {
	file *os.File
	size int64 // of what counts

	start  int64  // of the window in the file
	window []byte // in room
	room   []byte
}

// windowSize is what is read at a time, if no frame is larger.
const windowSize = 1 << 20

// bytes returns n bytes from offset on, fewer where the file ends before.
func (r *frameReader) bytes(offset, n int64) ([]byte, error) {
	n = min(n, r.size-offset)
	if at := offset - r.start; at < 0 || at+n > int64(len(r.window)) {
		length := min(max(n, windowSize), r.size-offset)
		if int64(cap(r.room)) < length {
			r.room = make([]byte, length)
		}
		r.start, r.window = offset, r.room[:length]
		if _, err := r.file.ReadAt(r.window, offset); err != nil {
			return nil, fmt.Errorf("read segment: %w", err)
		}
	}
	return r.window[offset-r.start:][:n], nil
}

// frame reads the frame at offset. It is valid until the next call.
func (r *frameReader) frame(offset int64) (frame, error) {
	b, err := r.bytes(offset, int64(headerSize))
	if err != nil {
		return frame{}, err
	}
	_, length, err := parseHeader(b)
	if err != nil {
		return frame{}, err
	}
	if b, err = r.bytes(offset, int64(headerSize+length)); err != nil {
		return frame{}, err
	}
	return parseFrame(b)
}

// segmentScan walks the frames of one segment.
type segmentScan struct {
	recovery *recovery
	path     string
	frames   frameReader
	cursor   uint64
	ids      *idStore
	newest   bool
}

func (s *segmentScan) run(b birth) error {
	r := s.recovery
	seg := segment{first: b.number, salt: b.salt}
	number := b.number
	for offset := int64(0); offset < s.frames.size; number++ {
		f, err := s.frames.frame(offset)
		if err == nil {
			err = f.check(number, b.salt)
		}
		if torn, readErr := s.torn(err, offset, number, b.salt); readErr != nil {
			return readErr
		} else if torn {
			r.torn = s.frames.size - offset
			break
		}
		if err == nil {
			err = s.accept(f, place{number: number, segment: b.number, offset: offset})
		}
		if errors.Is(err, errIDs) {
			return err // the frame is sound
		}
		if err != nil {
			return &CorruptError{File: s.path, Offset: offset, Err: err}
		}
		if err := s.keep(offset, f.size()); err != nil {
			return err
		}
		offset += int64(f.size())
		seg.last, seg.length = number, offset
	}
	r.segments = append(r.segments, seg)
	return nil
}

// keep copies the newest frame so far, where it may be the last.
func (s *segmentScan) keep(offset int64, size int) error {
	if !s.newest {
		return nil
	}
	b, err := s.frames.bytes(offset, int64(size))
	s.recovery.newest = append(s.recovery.newest[:0], b...)
	return err
}

// torn says whether err, at offset, is what the write that a crash cut leaves.
// The next frame is written only after this one is durable.
func (s *segmentScan) torn(err error, offset int64, number, salt uint64) (bool, error) {
	if !s.newest || !errors.Is(err, errFrame) {
		return false, nil
	}
	rest, err := s.frames.bytes(offset, s.frames.size-offset)
	if err != nil {
		return false, err
	}
	return !laterFrame(rest, func(header frame) bool {
		return header.number > number && header.salt == salt
	}), nil
}

func (s *segmentScan) accept(f frame, at place) error {
	r := s.recovery
	if f.number == s.cursor+1 {
		r.next = at
	}
	switch {
	case f.kind == frameCheckpoint, f.kind == frameState && at.offset == 0:
		return nil
	case f.kind != frameGroup:
		return fmt.Errorf("%w: kind %d does not belong here: was it written by a later version?", errFrame, f.kind)
	}
	if f.number > s.cursor {
		c := cutter{rest: f.payload}
		header := c.groupHeader()
		r.backlog.add(&header)
	}
	if !s.newest && f.number <= s.ids.current.through {
		return nil
	}
	group, err := parseGroup(f.payload, true)
	if err != nil {
		return err
	}
	if s.newest {
		if err := r.state.replay(&group); err != nil {
			return err
		}
	}
	return s.ids.recovered(f.number, &group)
}

// secureTail makes the accepted tail durable before anything is built on it.
// The process that wrote the last frame may have died before its sync, or
// because of it: after a failed one the page cache still shows what the disk
// does not have, and the next sync is a success. So what was read is written
// again: over itself, which needs no room on a disk that is full. All frames
// before the last were durable, and so is the last if it was delivered.
func (j *Journal) secureTail(r *recovery, cursor uint64) error {
	if r.lastNumber() <= cursor {
		return nil
	}
	newest := r.segments[len(r.segments)-1]
	offset := newest.length - int64(len(r.newest))
	if err := j.disk.Rewrite(j.segmentPath(newest.first), offset, r.newest); err != nil {
		return fmt.Errorf("secure the tail of the journal: %w", err)
	}
	return nil
}
