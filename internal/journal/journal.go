// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/durable"
)

var (
	// ErrFull says that the undelivered backlog has reached MaxBytes. Try
	// again later.
	ErrFull = errors.New("journal is full: the backlog of undelivered records has reached `journal::max_bytes`")
	// ErrBusy says that too much waits to be written already: the disk is too
	// slow or does not answer. Try again later.
	ErrBusy = errors.New("journal cannot keep up: too much waits to be written")
	// ErrTooLarge says that a request could never fit.
	ErrTooLarge = errors.New("request is larger than the journal can ever take: send its records in parts")
	// ErrClosed says that the journal takes nothing more.
	ErrClosed = errors.New("journal is closed")
	// ErrUnknown says that the caller gave up waiting: the request may become
	// durable or not.
	ErrUnknown = errors.New("journal did not answer in time")
	// ErrNew says that no record of a request that is a probe came before.
	ErrNew = errors.New("no record of the request came before")
	// ErrWrite says that a group could not be made durable and was taken back.
	// Try again later.
	ErrWrite = errors.New("journal could not be written")
)

// Options says how a journal works. Zero values of the optional fields mean
// the default.
type Options struct {
	Directory string
	Instance  string             // name of a new log; empty takes the host name, or what the directory says
	Key       ed25519.PrivateKey // signs checkpoints; required

	MaxBytes           int64         // undelivered payload bytes above which Seal answers ErrFull; default no bound
	MaxStreams         int           // streams above which records go to the overflow stream; default 100,000, at most maxHeads
	IDWindow           time.Duration // how long ids are remembered; default 24 h
	IDBytes            int64         // of files with ids above which the oldest go; default 1 GiB
	GroupBytes         int           // a group is closed once it has this much; default 4 MiB, at most maxRequest
	SegmentBytes       int64         // a segment is closed once it has this much behind its state frame; default 64 MiB
	CheckpointInterval time.Duration // least time between two checkpoints; default 1 s

	Now     func() time.Time // default time.Now
	Observe Observer         // optional
	Disk    durable.Disk     // default durable.OS; tests put one that fails in its place

	fullTable int // ids of a table and a file; tests only
}

const (
	// maxRequest is the largest request, and the largest sum of requests in a
	// group: whatever joins, the frame holds it.
	maxRequest = maxPayload / 2
	// maxWaiting bounds the requests that wait for their group, in bytes, once
	// one does: callers who give up on a disk that does not answer, and come
	// again, leave them in memory.
	maxWaiting = 32 << 20
	// maxHeads is how many streams a state frame holds, whatever their names.
	maxHeads = (maxPayload - 1<<13) / (2 + chain.MaxName + 8 + chain.HashSize)

	defaultStreams = 100_000
)

// Observer is told what the journal did. Its functions must not block.
type Observer struct {
	// Committed is called after each durable group with its number of
	// records, its bytes and how long write and sync took.
	Committed func(records, bytes int, took time.Duration)
	// Failed is called when a write, sync or cursor update failed; the journal
	// goes on.
	Failed func(err error)
}

func (o *Options) setDefaults() {
	if o.MaxBytes == 0 {
		o.MaxBytes = math.MaxInt64
	}
	if o.GroupBytes == 0 {
		o.GroupBytes = 4 << 20
	}
	if o.IDWindow == 0 {
		o.IDWindow = 24 * time.Hour
	}
	if o.IDBytes == 0 {
		o.IDBytes = 1 << 30
	}
	if o.fullTable == 0 {
		o.fullTable = min(fullTable, int(o.reserveBytes()/storedID))
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = time.Second
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = defaultStreams
	}
	o.GroupBytes = min(o.GroupBytes, maxRequest)
	o.MaxStreams = min(o.MaxStreams, maxHeads-2) // the origin's and the overflow stream come on top
	if o.Disk == nil {
		o.Disk = durable.OS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe.Committed == nil {
		o.Observe.Committed = func(int, int, time.Duration) {}
	}
	if o.Observe.Failed == nil {
		o.Observe.Failed = func(error) {}
	}
}

// Cause says how the life before this one ended.
type Cause string

// The causes that a start record names.
const (
	CauseFirst Cause = "first" // there was none
	CauseClean Cause = "clean" // with a Stop
	CauseCrash Cause = "crash" // without
)

// Previous is the life before this one.
type Previous struct {
	Cause  Cause
	Origin string // empty for CauseFirst
	Size   uint64
	Root   chain.Hash
}

// Journal makes requests durable, in groups, and gives them out again in
// order. Seal may be called from many goroutines. Next, Delivered and
// PersistCursor belong to one goroutine, the forwarder.
type Journal struct {
	options  Options
	disk     durable.Disk
	lock     *durable.Lock
	origin   string
	previous Previous
	torn     int64

	reserve    reserve
	ids        *idStore
	identifier *Identifier

	writer writer // owned by the goroutine of run
	done   chan struct{}
	wake   chan struct{} // capacity 1: there is something in waiting, or closing is set

	mu       sync.Mutex
	waiting  []*Request // guarded by mu
	waits    int        // guarded by mu; bytes that wait
	closing  bool       // guarded by mu
	segments []segment  // guarded by mu; the last one is being written to
	durable  uint64     // guarded by mu; number of the newest durable frame
	grown    chan struct{}
	backlog  backlog // guarded by mu

	live      map[uint64][]any // guarded by mu; by frame: what its requests have for Live
	liveBytes int              // guarded by mu; of the payloads that live stands for

	delivered uint64        // guarded by mu; number of the newest delivered frame
	moved     chan struct{} // guarded by mu; closed when delivered grows, nil while nobody waits

	reader reader // owned by the forwarder
}

// backlog counts what is in the journal and not delivered. Bytes of requests
// that wait for their group count as well.
type backlog struct {
	bytes   int64
	records int64
}

func (b *backlog) add(h *groupHeader) {
	b.bytes += h.bytes
	if h.kind == Client {
		b.records += int64(h.records)
	}
}

func (b *backlog) subtract(other backlog) {
	b.bytes -= other.bytes
	b.records -= other.records
}

// Open takes the journal in options.Directory, making it if it is not there,
// recovers what the last process left, and begins a segment. The returned
// journal waits for its start record: before one is sealed Seal takes nothing
// else, and after a Stop it takes nothing more.
func Open(options Options) (*Journal, error) {
	options.setDefaults()
	if len(options.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("journal has no Ed25519 key to sign checkpoints with")
	}
	options.Directory = filepath.Clean(options.Directory)
	if err := durable.MkdirAll(options.Directory); err != nil {
		return nil, err
	}
	lock, err := durable.LockDirectory(options.Directory)
	if errors.Is(err, durable.ErrLocked) {
		return nil, fmt.Errorf("journal %s is used by another pipeline, exporter or process: give each `audit` processor a `journal::directory` of its own, where no exporter keeps anything, and use one such processor in one pipeline only: %w", options.Directory, err)
	}
	if err != nil {
		return nil, err
	}
	j := &Journal{
		options: options, disk: options.Disk, lock: lock,
		done: make(chan struct{}), wake: make(chan struct{}, 1), grown: make(chan struct{}), live: map[uint64][]any{},
	}
	j.reserve.journal = j
	if err := j.start(); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return j, nil
}

func (j *Journal) start() error {
	id, err := j.loadIdentity()
	if err == nil {
		err = j.secureIdentity(id)
	}
	if err != nil {
		return err
	}
	cursor, err := j.readCursor()
	if err != nil {
		return err
	}
	secret, err := id.secret()
	if err != nil {
		return err
	}
	j.identifier = newIdentifier(secret)
	if j.ids, err = j.openIDs(); err != nil {
		return err
	}
	if err := j.begin(id, cursor); err != nil {
		return errors.Join(err, j.ids.closeFiles())
	}
	go j.ids.run()
	go j.run()
	return nil
}

// begin recovers the segments and opens one for this life.
func (j *Journal) begin(id identity, cursor uint64) error {
	r, err := j.recoverSegments(cursor)
	if err != nil {
		return err
	}
	if err := j.secureTail(r, cursor); err != nil {
		return err
	}
	j.origin = chain.Origin{Instance: id.Instance, Journal: id.Journal, Life: newLife(j.options.Now())}.String()
	j.previous = previousLife(r.state)
	j.torn = r.torn
	j.segments = r.segments
	j.durable = r.lastNumber()
	j.backlog = r.backlog
	j.delivered = cursor
	j.writer = writer{journal: j, state: r.state, next: j.durable + 1, group: map[ID]struct{}{}}
	j.reader = newReader(j, cursor, r.next)
	j.reserve.find()
	if err := j.reserve.ensure(); err != nil {
		j.options.Observe.Failed(err) // intake waits for it; what is here can be delivered
	}
	return j.reserve.use(j.writer.openSegment)
}

func previousLife(s *state) Previous {
	switch {
	case s.origin == "":
		return Previous{Cause: CauseFirst}
	case s.ended:
		return Previous{Cause: CauseClean, Origin: s.origin, Size: s.tree.Size(), Root: s.tree.Root()}
	default:
		return Previous{Cause: CauseCrash, Origin: s.origin, Size: s.tree.Size(), Root: s.tree.Root()}
	}
}

// Identifier makes the identities of this journal's records.
func (j *Journal) Identifier() *Identifier { return j.identifier }

// Origin returns the name of this life. It exists from its durable start
// record on.
func (j *Journal) Origin() string { return j.origin }

// Previous returns what is known of the life before this one.
func (j *Journal) Previous() Previous { return j.previous }

// Torn returns how many bytes of an unacknowledged write recovery left behind.
func (j *Journal) Torn() int64 { return j.torn }

// Backlog returns the payload bytes and client records that are not delivered.
func (j *Journal) Backlog() (bytes, records int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.backlog.bytes, j.backlog.records
}

// Request is whole or not at all: its records are sealed in one group.
type Request struct {
	Kind    RecordKind
	Payload []byte // kept as it is, for the forwarder
	// Links has one entry a record, at least one, and exactly one where Kind is
	// not Client. Stream (at most chain.MaxName bytes) and Digest are set; Seal
	// fills in the rest, and Hashes.
	Links  []chain.Link
	Hashes []chain.Hash
	// Identities has one entry a link, or none where no record came with an id.
	// No id is in it twice.
	Identities []Identity
	// Probe only asks which records came before: Seal then returns a KnownError,
	// or ErrNew, and seals nothing.
	Probe bool
	// Live is the caller's own form of Payload, which the journal does not look
	// into. While it has room for it, it hands it out with the sealed request,
	// and saves the reader to decode. The caller must not touch it again, but
	// after an error that says that nothing of r was kept.
	Live any
	// Frame is the number of the frame that holds the request.
	Frame uint64

	err    error
	sealed chan struct{}
	told   atomic.Pointer[func(error)] // who wants to know of err, or noted
}

// noted stands in Request.told once err is set.
var noted = func(error) {}

// Settled calls told with the fate of r, which is what Seal would have returned:
// at once, or later from the journal's goroutine, which told must not block. It
// is for a caller whom Seal told ErrUnknown.
func (r *Request) Settled(told func(err error)) {
	if !r.told.CompareAndSwap(nil, &told) {
		told(r.err)
	}
}

// settle is the journal's side of Settled.
func (r *Request) settle(err error) {
	r.err = err
	if !r.told.CompareAndSwap(nil, &noted) {
		(*r.told.Load())(err)
	}
	close(r.sealed)
}

// size is what r takes in a group frame, at most.
func (r *Request) size() int {
	size := 8 + len(r.Payload) + identitySize*len(r.Identities)
	for i := range r.Links {
		size += smallestRecord + len(r.Links[i].Stream)
	}
	return size
}

// check says what is wrong with r, whatever the journal's state.
func (r *Request) check() error {
	if r.Kind > maxRecordKind || len(r.Links) == 0 || r.Kind != Client && len(r.Links) != 1 {
		return fmt.Errorf("a request of kind %d cannot have %d records", r.Kind, len(r.Links))
	}
	if n := len(r.Identities); n > 0 && n != len(r.Links) {
		return fmt.Errorf("a request has %d identities for %d records", n, len(r.Links))
	}
	for i := range r.Links {
		if len(r.Links[i].Stream) > chain.MaxName {
			return fmt.Errorf("the stream of record %d is longer than %d bytes", i, chain.MaxName)
		}
		if len(r.Identities) > 0 && r.Identities[i].Verdict > MaxVerdict {
			return fmt.Errorf("the verdict of record %d is above %d", i, MaxVerdict)
		}
	}
	if r.size() > maxRequest {
		return ErrTooLarge
	}
	return nil
}

// Seal gives the records of r their coordinates and makes them durable. When
// it returns nil they survive any crash and will be delivered. On ErrFull,
// ErrBusy, ErrWrite, ErrClosed, ErrNew and a KnownError nothing of r was kept, and it may be sent
// again: after a KnownError without the records that it names. r
// belongs to the journal until Seal returns, and for good on ErrUnknown, which
// it returns when ctx ends first; r.Settled then says what became of it.
func (j *Journal) Seal(ctx context.Context, r *Request) error {
	if err := r.check(); err != nil {
		return err
	}
	r.Hashes = make([]chain.Hash, len(r.Links))
	r.sealed = make(chan struct{})
	r.told.Store(nil)
	if err := j.admit(r); err != nil {
		return err
	}
	j.wakeUp()
	select {
	case <-r.sealed:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

func (j *Journal) wakeUp() {
	select {
	case j.wake <- struct{}{}:
	default: // it will see this as well
	}
}

// backlog is what r adds to the backlog.
func (r *Request) backlog() backlog {
	b := backlog{bytes: int64(len(r.Payload))}
	if r.Kind == Client {
		b.records = int64(len(r.Links))
	}
	return b
}

func (j *Journal) admit(r *Request) error {
	size := int64(len(r.Payload))
	if size > j.options.MaxBytes {
		return ErrTooLarge
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing {
		return ErrClosed
	}
	if r.Kind == Client && j.backlog.bytes+size > j.options.MaxBytes {
		return ErrFull
	}
	if r.Kind == Client && len(j.waiting) > 0 && j.waits+r.size() > maxWaiting {
		return ErrBusy
	}
	j.backlog.bytes += size
	j.backlog.records += r.backlog().records
	j.waiting = append(j.waiting, r)
	j.waits += r.size()
	return nil
}

func (j *Journal) release(gone backlog) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.backlog.subtract(gone)
}

// Close refuses further requests, waits for those under way, and frees the
// directory. What is not delivered stays for the next life. The forwarder must
// have stopped.
func (j *Journal) Close() error {
	j.mu.Lock()
	closed := j.closing
	j.closing = true
	j.mu.Unlock()
	if closed {
		return nil
	}
	j.wakeUp()
	<-j.done
	return errors.Join(j.writer.close(), j.reader.close(), j.PersistCursor(), j.ids.close(), j.lock.Unlock())
}

// run is the one sealer: it takes all that waits, makes it durable as one
// group, and wakes the callers.
func (j *Journal) run() {
	defer close(j.done)
	timer := time.NewTimer(math.MaxInt64)
	defer timer.Stop()
	for {
		select {
		case <-j.wake:
		case <-timer.C:
		}
		for group := j.take(); len(group) > 0; group = j.take() {
			j.writer.commit(group)
			j.writer.checkpointIfDue()
		}
		j.writer.checkpointIfDue()
		if j.isClosing() {
			return
		}
		timer.Reset(j.writer.untilCheckpoint())
	}
}

func (j *Journal) isClosing() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closing && len(j.waiting) == 0
}

// take removes from waiting what the next group holds: requests of one kind,
// up to GroupBytes. A byte cap closes a group only after its first request.
func (j *Journal) take() []*Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, size := 0, 0
	for n < len(j.waiting) && (n == 0 || j.joins(j.waiting[n], size)) {
		size += j.waiting[n].size()
		n++
	}
	group := j.waiting[:n:n]
	j.waits -= size
	if j.waiting = j.waiting[n:]; len(j.waiting) == 0 {
		j.waiting = nil
	}
	return group
}

func (j *Journal) joins(r *Request, size int) bool {
	return r.Kind == Client && j.waiting[0].Kind == Client && size+r.size() <= j.options.GroupBytes
}

// putBack lets requests wait for the next group, before all others.
func (j *Journal) putBack(requests []*Request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range requests {
		j.waits += r.size()
	}
	j.waiting = slices.Concat(requests, j.waiting)
}

// maxLive bounds the payloads whose live forms are kept, in bytes. In memory
// each takes several times that.
const maxLive = 8 << 20

// keepLive remembers the live forms of a group until the reader comes to its
// frame. A reader that is far behind decodes.
func (j *Journal) keepLive(frame uint64, group []*Request) {
	size := 0
	for _, r := range group {
		if r.Live != nil {
			size += len(r.Payload)
		}
	}
	if size == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.liveBytes+size > maxLive {
		return
	}
	forms := make([]any, len(group))
	for i, r := range group {
		forms[i], r.Live = r.Live, nil
	}
	j.live[frame] = forms
	j.liveBytes += size
}

// takeLive gives the live forms of a group to its requests, once.
func (j *Journal) takeLive(frame uint64, group *Group) {
	j.mu.Lock()
	defer j.mu.Unlock()
	forms, kept := j.live[frame]
	if !kept {
		return
	}
	delete(j.live, frame)
	for i := range group.Requests {
		if group.Requests[i].Live = forms[i]; forms[i] != nil {
			j.liveBytes -= len(group.Requests[i].Payload)
		}
	}
}

// publish makes durable frames visible to the forwarder.
func (j *Journal) publish(number uint64, length int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.durable = number
	last := &j.segments[len(j.segments)-1]
	last.last, last.length = number, length
	close(j.grown)
	j.grown = make(chan struct{})
}

// wait blocks until a frame with the given number is durable or ctx ends.
func (j *Journal) wait(ctx context.Context, number uint64) error {
	for {
		j.mu.Lock()
		durable, grown := j.durable, j.grown
		j.mu.Unlock()
		if durable >= number {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
