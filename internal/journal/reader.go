// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// cursorInterval is how old the cursor on disk may be: it saves syncs, and a
// crash only makes what was delivered since be delivered again.
const cursorInterval = 250 * time.Millisecond

// Frame is what the forwarder delivers: a group or a checkpoint.
type Frame struct {
	Number     uint64
	Bytes      int // of its payload
	Group      *Group
	Checkpoint *Checkpoint
}

// reader gives out durable frames in order, from disk. It belongs to the
// forwarder.
type reader struct {
	journal *Journal
	at      place // of the next frame
	file    *os.File
	salt    uint64 // of file

	delivered   uint64
	persisted   uint64
	persistedAt time.Time
	undelivered []undelivered // frames given out and not yet delivered
}

type undelivered struct {
	number  uint64
	backlog backlog
}

func newReader(j *Journal, cursor uint64, next place) reader {
	if next.number == 0 { // nothing is left of the last life
		next = place{number: cursor + 1, segment: cursor + 1}
	}
	return reader{journal: j, at: next, delivered: cursor, persisted: cursor}
}

// Next returns the next frame for delivery, waiting until there is one or ctx
// ends. A CorruptError means that the disk lost what it had taken.
func (j *Journal) Next(ctx context.Context) (*Frame, error) {
	for {
		if err := j.waitPersisting(ctx); err != nil {
			return nil, err
		}
		if frame, err := j.Poll(); frame != nil || err != nil {
			return frame, err
		}
	}
}

// Poll is Next without waiting: it returns nil if there is no frame.
func (j *Journal) Poll() (*Frame, error) {
	for j.ready() {
		frame, err := j.reader.step()
		if frame != nil || err != nil {
			return frame, err
		}
	}
	return nil, nil //nolint:nilnil // documented
}

// step reads the next frame and moves behind it. After an error the reader
// stands where it stood: nothing is skipped.
func (r *reader) step() (*Frame, error) {
	if err := r.openPlace(); err != nil {
		return nil, err
	}
	f, err := r.read()
	var opened *Frame
	if err == nil {
		opened, err = r.open(f)
	}
	if err != nil {
		return nil, &CorruptError{File: r.file.Name(), Offset: r.at.offset, Err: err}
	}
	r.at.number++
	r.at.offset += int64(f.size())
	return opened, nil
}

// open turns what was read into what the forwarder sees: nil for a state frame.
func (r *reader) open(f frame) (*Frame, error) {
	opened := &Frame{Number: f.number, Bytes: len(f.payload)}
	undelivered := undelivered{number: f.number}
	switch f.kind {
	case frameGroup:
		group, err := parseGroup(f.payload, false)
		if err != nil {
			return nil, err
		}
		r.journal.takeLive(f.number, &group)
		opened.Group = &group
		undelivered.backlog.add(&group.header)
	case frameCheckpoint:
		checkpoint, err := parseCheckpoint(f.payload)
		if err != nil {
			return nil, err
		}
		opened.Checkpoint = &checkpoint
	case frameState:
		return nil, nil //nolint:nilnil // documented
	default:
		return nil, fmt.Errorf("%w: unknown kind %d", errFrame, f.kind)
	}
	r.undelivered = append(r.undelivered, undelivered)
	return opened, nil
}

func (j *Journal) ready() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable >= j.reader.at.number
}

// waitPersisting waits for the next frame; a cursor that grew old meanwhile is
// written down.
func (j *Journal) waitPersisting(ctx context.Context) error {
	r := &j.reader
	if r.delivered > r.persisted {
		short, cancel := context.WithTimeout(ctx, cursorInterval)
		err := j.wait(short, r.at.number)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		j.persistLogged()
	}
	return j.wait(ctx, r.at.number)
}

func (r *reader) read() (frame, error) {
	f, err := readFrame(r.file, r.at.offset)
	if err == nil {
		err = f.check(r.at.number, r.salt)
	}
	return f, err
}

// check says whether f is the frame that is expected at its place.
func (f *frame) check(number, salt uint64) error {
	if f.number != number || f.salt != salt {
		return fmt.Errorf("%w: frame %d stands in place of %d", errFrame, f.number, number)
	}
	return nil
}

// readFrame reads the frame at offset into memory of its own.
func readFrame(file *os.File, offset int64) (frame, error) {
	var header [headerSize]byte
	if _, err := file.ReadAt(header[:], offset); err != nil {
		return frame{}, fmt.Errorf("%w: header: %w", errFrame, err)
	}
	_, length, err := parseHeader(header[:])
	if err != nil {
		return frame{}, err
	}
	if info, err := file.Stat(); err != nil || offset+int64(headerSize+length) > info.Size() {
		return frame{}, errors.Join(fmt.Errorf("%w: payload is cut", errFrame), err)
	}
	b := make([]byte, headerSize+length)
	if _, err := file.ReadAt(b, offset); err != nil {
		return frame{}, fmt.Errorf("%w: payload: %w", errFrame, err)
	}
	return parseFrame(b)
}

// openPlace opens the segment that holds the next frame, going on to the next
// segment at the accepted end of one.
func (r *reader) openPlace() error {
	segment, found := r.journal.segmentOf(r.at.number)
	if !found {
		return fmt.Errorf("journal has no segment for frame %d", r.at.number)
	}
	if segment.first != r.at.segment {
		if err := r.close(); err != nil {
			return err
		}
		r.at.segment, r.at.offset = segment.first, 0
	}
	if r.file != nil {
		return nil
	}
	file, err := os.Open(r.journal.segmentPath(segment.first))
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	r.file, r.salt = file, segment.salt
	return nil
}

func (j *Journal) segmentOf(number uint64) (segment, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.segments {
		if number >= j.segments[i].first && number <= j.segments[i].last {
			return j.segments[i], true
		}
	}
	return segment{}, false
}

func (r *reader) close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	if err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return nil
}

// Delivered says that the frame with the given number, and all before it, are
// durable where they were sent. It frees their room in the backlog. A number
// beyond what Next and Poll gave out counts as the newest that they did.
func (j *Journal) Delivered(number uint64) {
	r := &j.reader
	number = min(number, r.at.number-1)
	if number <= r.delivered {
		return
	}
	r.delivered = number
	n := 0
	for ; n < len(r.undelivered) && r.undelivered[n].number <= number; n++ {
		j.release(r.undelivered[n].backlog)
	}
	r.undelivered = append(r.undelivered[:0], r.undelivered[n:]...)
	j.announce(number)
	if time.Since(r.persistedAt) >= cursorInterval {
		j.persistLogged()
	}
}

// announce wakes those who wait for a delivery.
func (j *Journal) announce(number uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.delivered = number
	if j.moved != nil {
		close(j.moved)
		j.moved = nil
	}
}

// AwaitDelivery waits until the frame with the given number is delivered, or
// until ctx ends, whose error it then returns. May be called from many
// goroutines.
func (j *Journal) AwaitDelivery(ctx context.Context, number uint64) error {
	for {
		moved := j.waitBehind(number)
		if moved == nil {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitBehind returns what is closed once the cursor moves, nil if it has passed
// the given frame.
func (j *Journal) waitBehind(number uint64) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.delivered >= number {
		return nil
	}
	if j.moved == nil {
		j.moved = make(chan struct{})
	}
	return j.moved
}

func (j *Journal) persistLogged() {
	if err := j.PersistCursor(); err != nil {
		j.options.Observe.Failed(err) // the old cursor still holds
	}
}

// PersistCursor writes the cursor down and removes the segments that it has
// passed.
func (j *Journal) PersistCursor() error {
	r := &j.reader
	r.persistedAt = time.Now()
	if r.delivered > r.persisted {
		path := filepath.Join(j.options.Directory, cursorFile)
		write := func() error { return j.disk.WriteFile(path, []byte(formatCursor(r.delivered))) }
		if err := j.reserve.use(write); err != nil {
			return fmt.Errorf("write cursor: %w", err)
		}
		r.persisted = r.delivered
	}
	return j.removePassed(r.persisted)
}

// removePassed removes segments whose last frame the durable cursor has
// passed, once the ids in them are durable elsewhere. A segment is forgotten
// only once it is gone for good.
func (j *Journal) removePassed(cursor uint64) error {
	for {
		first, last, found := j.passed(cursor)
		if !found {
			return nil
		}
		if err := j.reserve.use(func() error { return j.ids.covers(last) }); err != nil {
			return err
		}
		if err := j.removeSegment(first); err != nil {
			return err
		}
		j.mu.Lock()
		j.segments = slices.Delete(j.segments, 0, 1)
		j.mu.Unlock()
	}
}

// passed returns the oldest segment if the cursor has passed it. The newest
// segment stays: its state frame is what a restart needs.
func (j *Journal) passed(cursor uint64) (first, last uint64, found bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.segments) < 2 || j.segments[0].last > cursor {
		return 0, 0, false
	}
	return j.segments[0].first, j.segments[0].last, true
}
