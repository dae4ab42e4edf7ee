// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/durable"
)

// writer appends frames. It belongs to the goroutine of run (to Open before,
// to Close after).
type writer struct {
	journal *Journal
	state   *state
	next    uint64           // number of the next frame
	file    durable.Appender // nil: the next frame needs a new segment
	salt    uint64           // of file's frames
	length  int64            // accepted bytes of file
	birth   int64            // bytes of file's state frame
	buffer  []byte           // the frame being built
	group   map[ID]struct{}  // ids of the group being built

	checkpointed   uint64    // size of the tree at the newest checkpoint
	checkpointedAt time.Time // zero: one is due at once
	checkpointDue  bool      // a control record asks for one at once
}

var (
	errNoStart     = errors.New("the journal has no start record yet")
	errSecondStart = errors.New("the journal has its start record already")
)

// refusal says why records of the kind cannot be sealed now, nil if they can:
// a life begins with its one start record and ends with its stop record.
func (w *writer) refusal(kind RecordKind) error {
	begun := w.state.origin == w.journal.origin
	switch {
	case begun && kind == Start:
		return errSecondStart
	case !begun && kind != Start:
		return errNoStart
	case begun && w.state.ended:
		return ErrClosed
	}
	return nil
}

// commit seals the requests and makes them durable as one group. On failure
// everything is as before, and every request learns of it.
func (w *writer) commit(group []*Request) {
	err := w.refusal(group[0].Kind)
	if err == nil {
		if group, err = w.sift(group); err == nil && len(group) > 0 {
			err = w.seal(group)
		}
		if err != nil {
			w.journal.options.Observe.Failed(err)
		}
	}
	for _, request := range group {
		w.answer(request, err)
	}
	if cap(w.buffer) > 2*w.journal.options.GroupBytes { // one huge request must not cost its size for ever
		w.buffer = nil
	}
}

func (w *writer) answer(request *Request, err error) {
	if err != nil {
		w.journal.release(request.backlog())
	}
	request.settle(err)
}

// keptGroup is the most ids of a group whose memory the next one uses.
const keptGroup = 4096

// sift takes out of a group what cannot be sealed with it: requests with
// records that came before are answered, and those that share an id with an
// earlier one of the group wait until its fate is known.
func (w *writer) sift(group []*Request) ([]*Request, error) {
	if group[0].Kind != Client {
		return group, nil
	}
	if err := errors.Join(w.journal.ids.room(), w.journal.reserve.ensure()); err != nil {
		return group, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	if len(w.group) > keptGroup { // to clear what once was large is dear
		w.group = make(map[ID]struct{})
	}
	clear(w.group)
	now := w.journal.options.Now()
	kept := group[:0] // in place: nobody else has the group
	var late []*Request
	for _, request := range group {
		known, err := w.known(request, now)
		switch {
		case err != nil: // of this one alone: its ids may be what is damaged
			w.journal.options.Observe.Failed(err)
			w.answer(request, fmt.Errorf("%w: %w", ErrWrite, err))
		case known != nil:
			w.answer(request, known)
		case request.Probe:
			w.answer(request, ErrNew)
		case w.joins(request):
			kept = append(kept, request)
		default:
			late = append(late, request)
		}
	}
	if len(late) > 0 {
		w.journal.putBack(late)
	}
	return kept, nil
}

// known says which records of the request came before, nil if none did.
func (w *writer) known(request *Request, now time.Time) (known *KnownError, err error) {
	for i := range request.Identities {
		if request.Identities[i].ID == (ID{}) {
			continue
		}
		record, found, err := w.journal.ids.lookup(&request.Identities[i], now)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		if known == nil {
			known = &KnownError{Records: make([]Known, len(request.Links))}
		}
		known.Records[i] = record
	}
	return known, nil
}

// joins enters the request's ids into the group; it is false, and enters none,
// if one of them is there.
func (w *writer) joins(request *Request) bool {
	for i := range request.Identities {
		if _, taken := w.group[request.Identities[i].ID]; taken {
			return false
		}
	}
	for i := range request.Identities {
		if id := request.Identities[i].ID; id != (ID{}) {
			w.group[id] = struct{}{}
		}
	}
	return true
}

// seal writes the group; the log's own records find room on a full disk.
func (w *writer) seal(group []*Request) error {
	write := func() error { return w.writeGroup(group) }
	if group[0].Kind == Client {
		return write()
	}
	return w.journal.reserve.use(write)
}

func (w *writer) writeGroup(group []*Request) error {
	if err := w.ensureSegment(); err != nil {
		return err
	}
	w.state.begin()
	records := w.encodeGroup(group)
	started := time.Now()
	if err := w.append(frameGroup, group); err != nil {
		w.state.rollback()
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	// Committed: the records have their coordinates for good. A crash from
	// here on only delays their delivery.
	w.journal.ids.committed(w.next-1, group)
	w.state.ended = group[0].Kind == Stop
	w.checkpointDue = w.checkpointDue || group[0].Kind != Client
	w.journal.options.Observe.Committed(records, len(w.buffer), time.Since(started))
	return nil
}

// encodeGroup gives every record of the group its place and builds the frame's
// payload.
func (w *writer) encodeGroup(group []*Request) (records int) {
	if group[0].Kind == Start {
		w.state.enter(w.journal.origin)
	}
	var bytes int64
	for _, request := range group {
		records += len(request.Links)
		bytes += int64(len(request.Payload))
		request.Frame = w.next
	}
	header := groupHeader{
		kind: group[0].Kind, records: records, bytes: bytes, origin: w.state.origin, first: w.state.tree.Size(),
		sealedAt: w.journal.options.Now().UnixNano(), requests: len(group),
	}
	w.buffer = appendGroupHeader(beginFrame(w.buffer[:0]), &header)
	for _, request := range group {
		w.encodeRequest(request, header.sealedAt)
	}
	return records
}

func (w *writer) encodeRequest(request *Request, sealedAt int64) {
	w.buffer = appendCount(w.buffer, len(request.Links))
	for i := range request.Links {
		link := &request.Links[i]
		link.SealedAt = sealedAt
		request.Hashes[i] = w.state.seal(link, w.journal.options.MaxStreams)
		var identity *Identity
		if len(request.Identities) > 0 {
			identity = &request.Identities[i]
		}
		w.buffer = appendSealedRecord(w.buffer, link, &request.Hashes[i], identity)
	}
	w.buffer = appendCount(w.buffer, len(request.Payload))
	w.buffer = append(w.buffer, request.Payload...)
}

// append writes the frame in buffer, syncs it and publishes it. After a failure
// the segment is not written to again: the kernel may call the next sync a
// success although pages are lost. What failed is cut off again: it was refused,
// and a restart shall not find it. group is what the frame holds of requests.
func (w *writer) append(kind frameKind, group []*Request) error {
	if err := finishFrame(w.buffer, kind, w.next, w.salt); err != nil {
		return err
	}
	_, err := w.file.Write(w.buffer)
	if err == nil {
		err = w.file.Sync()
	}
	if err != nil {
		return w.abandon(err)
	}
	w.length += int64(len(w.buffer))
	w.journal.keepLive(w.next, group)
	w.journal.publish(w.next, w.length)
	w.next++
	return nil
}

func (w *writer) abandon(err error) error {
	err = errors.Join(err, w.file.Truncate(w.length), w.file.Close())
	w.file = nil
	return err
}

// ensureSegment opens a new segment where there is none or the current one is
// full.
func (w *writer) ensureSegment() error {
	if w.file != nil && w.length-w.birth < w.journal.options.SegmentBytes {
		return nil
	}
	if err := w.openSegment(); err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	return nil
}

// openSegment creates the segment that begins with the next frame number, its
// state frame naming how much of the current segment counts. A half-made
// segment is made again under the same name; until its state frame is durable
// nothing is built on it.
func (w *writer) openSegment() error {
	j := w.journal
	file, err := j.disk.Create(j.segmentPath(w.next))
	if err != nil {
		return fmt.Errorf("create segment: %w", err)
	}
	salt := randomSalt()
	b := appendState(beginFrame(nil), j.acceptedEnd(), w.state)
	err = finishFrame(b, frameState, w.next, salt)
	if err == nil {
		_, err = file.Write(b)
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = j.disk.SyncDir(j.options.Directory)
	}
	if err != nil {
		return fmt.Errorf("begin segment: %w", errors.Join(err, file.Close()))
	}
	w.switchTo(file, salt, int64(len(b)))
	return nil
}

func randomSalt() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see its documentation
	return binary.BigEndian.Uint64(b[:])
}

// acceptedEnd says where the newest segment ends.
func (j *Journal) acceptedEnd() acceptedEnd {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.segments) == 0 {
		return acceptedEnd{}
	}
	newest := j.segments[len(j.segments)-1]
	return acceptedEnd{segment: newest.first, length: uint64(newest.length)}
}

// switchTo makes file, which holds its state frame, the current segment.
func (w *writer) switchTo(file durable.Appender, salt uint64, birth int64) {
	j := w.journal
	old := w.file
	w.file, w.salt, w.length, w.birth = file, salt, birth, birth
	j.mu.Lock()
	j.segments = append(j.segments, segment{first: w.next, salt: salt})
	j.mu.Unlock()
	j.publish(w.next, birth)
	w.next++
	if old != nil {
		if err := old.Close(); err != nil {
			j.options.Observe.Failed(fmt.Errorf("close full segment: %w", err)) // all of it is synced
		}
	}
}

// checkpointIfDue signs the tree once CheckpointInterval has passed since the
// last checkpoint, or a control record asked for it. A failed one is tried again
// after CheckpointInterval.
func (w *writer) checkpointIfDue() {
	if w.untilCheckpoint() > 0 {
		return
	}
	w.checkpointedAt = time.Now()
	w.checkpointDue = false
	if err := w.journal.reserve.use(w.writeCheckpoint); err != nil {
		w.journal.options.Observe.Failed(err)
		return
	}
	w.checkpointed = w.state.tree.Size()
}

// untilCheckpoint returns how long to wait before the next checkpoint, for
// ever if the last one covers all there is.
func (w *writer) untilCheckpoint() time.Duration {
	size := w.state.tree.Size()
	if size == w.checkpointed || size == 0 || w.state.origin != w.journal.origin {
		return math.MaxInt64
	}
	if w.checkpointDue {
		return 0
	}
	return w.journal.options.CheckpointInterval - time.Since(w.checkpointedAt)
}

func (w *writer) writeCheckpoint() error {
	if err := w.ensureSegment(); err != nil {
		return err
	}
	c, err := w.signCheckpoint()
	if err != nil {
		return err
	}
	w.buffer = appendCheckpoint(beginFrame(w.buffer[:0]), c)
	return w.append(frameCheckpoint, nil)
}

func (w *writer) signCheckpoint() (*Checkpoint, error) {
	tree := &w.state.tree
	c := &Checkpoint{
		Checkpoint: chain.Checkpoint{Origin: w.state.origin, Size: tree.Size(), Root: tree.Root()},
		Range:      tree.Range(),
	}
	var err error
	c.Note, err = chain.SignCheckpoint(c.Checkpoint, w.journal.options.Key)
	return c, err
}

func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return nil
}
