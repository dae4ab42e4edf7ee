// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"
	"math/bits"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/durable"
)

// ID is the keyed hash of a record id and its scope. Without the journal's
// secret it says nothing about what it was made of.
type ID [16]byte

// Fingerprint is the keyed hash of a record's content, as ID is of its id.
type Fingerprint [16]byte

// Identity makes a record known when it comes again. The zero Identity is that
// of a record that came without an id.
type Identity struct {
	ID          ID
	Fingerprint Fingerprint
	// Integrity is answered again as it was the first time; zero if it was not
	// asked for then.
	Integrity chain.Hash
	// Verdict, up to MaxVerdict, is answered again as well. The journal does not
	// look into it.
	Verdict uint8
}

// MaxVerdict is the largest verdict that a journal keeps.
const MaxVerdict = 254

// Identifier makes identities under the secret of one journal. Safe for
// concurrent use.
type Identifier struct{ pool sync.Pool }

func newIdentifier(secret []byte) *Identifier {
	i := &Identifier{}
	i.pool.New = func() any { return hmac.New(sha256.New, secret) }
	return i
}

// What is hashed begins with what it is.
const (
	hashedID      = 1
	hashedContent = 2
	hashedText    = 3
	hashedStream  = 4
)

// ID identifies a record id within its scope.
func (i *Identifier) ID(scope, id string) ID {
	head := binary.BigEndian.AppendUint32([]byte{hashedID}, uint32(len(scope)))
	return ID(i.sum(head, []byte(scope), []byte(id)))
}

// Fingerprint identifies content.
func (i *Identifier) Fingerprint(content []byte) Fingerprint {
	return Fingerprint(i.sum([]byte{hashedContent}, content))
}

// Blind stands for a text that is not kept: a signature, a hash.
func (i *Identifier) Blind(text string) [16]byte {
	return i.sum([]byte{hashedText}, []byte(text))
}

// Stream identifies a producer's stream within its tenant.
func (i *Identifier) Stream(tenant, id string) [16]byte {
	head := binary.BigEndian.AppendUint32([]byte{hashedStream}, uint32(len(tenant)))
	return i.sum(head, []byte(tenant), []byte(id))
}

func (i *Identifier) sum(parts ...[]byte) (short [16]byte) {
	mac := i.pool.Get().(hash.Hash)
	defer i.pool.Put(mac)
	mac.Reset()
	for _, part := range parts {
		mac.Write(part)
	}
	var sum [sha256.Size]byte
	copy(short[:], mac.Sum(sum[:0]))
	return short
}

// Known is what was answered to a record that came before.
type Known struct {
	// Conflict is true where it came with other content: then nothing else is
	// set but where the first one stands.
	Conflict  bool
	Link      chain.Link // without prev and digest; no origin: the record is new
	Hash      chain.Hash
	Integrity chain.Hash
	Verdict   uint8
	Frame     uint64 // that holds it
}

// KnownError says that records of a request came before. Nothing of the
// request was kept: without those records it may be sealed.
type KnownError struct{ Records []Known } // one for each link of the request

func (e *KnownError) Error() string { return "records of the request came before" }

// fullTable is how many ids a table and a file hold, about.
const fullTable = 1 << 17

// idEntry is one known id. It holds no pointer, so a table costs the garbage
// collector nothing.
type idEntry struct {
	identity       Identity
	frame          uint64
	index, seq     uint64
	sealedAt       int64
	hash           chain.Hash
	origin, stream uint32 // positions in the table's names
}

// idTable is the ids of a run of frames, in memory.
type idTable struct {
	first   uint64 // frame
	through uint64 // frame; its ids and those of all before, from first on, are here
	byID    map[ID]int32
	entries []idEntry
	names   names
}

func newIDTable(first uint64) *idTable {
	return &idTable{first: first, through: first - 1, byID: make(map[ID]int32)}
}

// names gives texts numbers. Neighbours often share them.
type names struct {
	list   []string
	number map[string]uint32
	last   uint32
}

func (n *names) of(text string) uint32 {
	if int(n.last) < len(n.list) && n.list[n.last] == text {
		return n.last
	}
	number, known := n.number[text]
	if !known {
		if n.number == nil {
			n.number = make(map[string]uint32)
		}
		number = uint32(len(n.list))
		n.list = append(n.list, text)
		n.number[text] = number
	}
	n.last = number
	return number
}

// add enters a record. A later one with the same id, which only an expired
// first one lets in, takes its place.
func (t *idTable) add(identity *Identity, frame uint64, link *chain.Link, hash chain.Hash) {
	entry := idEntry{
		identity: *identity, frame: frame, index: link.Index, seq: link.Seq, sealedAt: link.SealedAt, hash: hash,
		origin: t.names.of(link.Origin), stream: t.names.of(link.Stream),
	}
	if at, again := t.byID[identity.ID]; again {
		t.entries[at] = entry
		return
	}
	t.byID[identity.ID] = int32(len(t.entries))
	t.entries = append(t.entries, entry)
}

// enter adds the records of a request that came with an id.
func (t *idTable) enter(frame uint64, identities []Identity, links []chain.Link, hashes []chain.Hash) {
	for i := range identities {
		if identities[i].ID != (ID{}) {
			t.add(&identities[i], frame, &links[i], hashes[i])
		}
	}
}

func (t *idTable) find(id ID) (Known, Fingerprint, bool) {
	at, found := t.byID[id]
	if !found {
		return Known{}, Fingerprint{}, false
	}
	e := &t.entries[at]
	return e.known(t.names.list[e.origin], t.names.list[e.stream]), e.identity.Fingerprint, true
}

func (e *idEntry) known(origin, stream string) Known {
	return Known{
		Link: chain.Link{
			Origin: origin, Index: e.index, Stream: stream, Seq: e.seq, SealedAt: e.sealedAt,
		},
		Hash: e.hash, Integrity: e.identity.Integrity, Verdict: e.identity.Verdict, Frame: e.frame,
	}
}

// idStore remembers the ids of the last while. Newest first, they are in the
// table that grows, in one that is being written, and in files.
type idStore struct {
	journal *Journal
	work    chan struct{} // capacity 1: there is a frozen table, or closing
	done    chan struct{}

	// writing is held while a file is written, before mu.
	writing sync.Mutex

	mu      sync.Mutex
	current *idTable    // guarded by mu
	frozen  *idTable    // guarded by mu; full and not in a file yet, nil if there is none
	files   []*idFile   // guarded by mu; oldest first
	filters []*idMatrix // guarded by mu; of files
	through uint64      // guarded by mu; the ids of this frame and all before are in files
	closing bool        // guarded by mu
}

// openIDs reads what the id files in the directory say. Damage costs no event,
// but the knowledge of those that came before: it is an error all the same.
func (j *Journal) openIDs() (*idStore, error) {
	s := &idStore{journal: j, work: make(chan struct{}, 1), done: make(chan struct{})}
	numbers, err := listFiles(j.options.Directory, idSuffix)
	if err != nil {
		return nil, err
	}
	for _, number := range numbers {
		file, err := openIDFile(j.idPath(number), number)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w: to go on without it remove it; events that come again may then be stored again", err), s.closeFiles())
		}
		s.files = append(s.files, file)
		s.through = max(s.through, file.through)
	}
	if err := s.resume(); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	for _, file := range s.files {
		s.filter(file)
	}
	return s, nil
}

// resume makes the newest file the current table again if it is not full.
func (s *idStore) resume() error {
	s.current = newIDTable(s.through + 1)
	if len(s.files) == 0 {
		return nil
	}
	newest := s.files[len(s.files)-1]
	if newest.count >= s.journal.options.fullTable {
		return nil
	}
	table, err := newest.load()
	if err != nil {
		return err
	}
	s.current = table
	s.files = s.files[:len(s.files)-1]
	return newest.close()
}

// filter makes a file found. Only one goroutine at a time does.
func (s *idStore) filter(file *idFile) {
	blocks := len(file.filter) / filterBlock
	for _, m := range s.filters {
		if m.blocks == blocks && m.used != math.MaxUint64 {
			m.put(file, &s.mu)
			return
		}
	}
	m := &idMatrix{blocks: blocks, rows: make([]uint64, blocks*blockBits)}
	m.put(file, &s.mu)
	s.mu.Lock()
	s.filters = append(s.filters, m)
	s.mu.Unlock()
}

func (s *idStore) closeFiles() error {
	var errs []error
	for _, file := range s.files {
		errs = append(errs, file.close())
	}
	s.files, s.filters = nil, nil
	return errors.Join(errs...)
}

// recovered enters the group of a frame that a previous process made durable,
// unless the files have it.
func (s *idStore) recovered(frame uint64, group *Group) error {
	if frame <= s.current.through {
		return nil
	}
	if s.room() != nil {
		if err := s.persist(false); err != nil {
			return fmt.Errorf("%w: %w", errIDs, err)
		}
		s.freeze()
	}
	for i := range group.Requests {
		sealed := &group.Requests[i]
		s.current.enter(frame, sealed.Identities, sealed.Links, sealed.Hashes)
	}
	s.current.through = frame
	if s.freeze() {
		return s.tryPersist()
	}
	return nil
}

// tryPersist is persist for a process that starts. Where the disk is full it
// leaves the table to run: a process that cannot start cannot deliver either,
// and so never gets the disk room. The one before it had no more in memory.
func (s *idStore) tryPersist() error {
	err := s.persist(false)
	if durable.IsFull(err) {
		s.journal.options.Observe.Failed(err)
		s.wakeUp()
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errIDs, err)
	}
	return nil
}

// committed enters what a durable group holds.
func (s *idStore) committed(frame uint64, group []*Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, request := range group {
		s.current.enter(frame, request.Identities, request.Links, request.Hashes)
	}
	s.current.through = frame
	if s.freeze() {
		s.wakeUp()
	}
}

// freeze gives a full table to the one who writes files, if he is free.
func (s *idStore) freeze() bool {
	if len(s.current.entries) < s.journal.options.fullTable || s.frozen != nil {
		return false
	}
	s.frozen, s.current = s.current, newIDTable(s.current.through+1)
	return true
}

// errIDs says that no more ids can be remembered for now.
var errIDs = errors.New("the ids of the last records cannot be written to disk")

// room says whether another group's ids can be remembered. Memory is bounded
// by two full tables and a group.
func (s *idStore) room() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.current.entries) >= s.journal.options.fullTable && s.frozen != nil {
		return errIDs
	}
	return nil
}

func (s *idStore) wakeUp() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// lookup says what is known of an id.
func (s *idStore) lookup(identity *Identity, now time.Time) (Known, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, fingerprint, found, err := s.find(identity.ID)
	expired := known.Link.SealedAt < now.Add(-s.journal.options.IDWindow).UnixNano()
	if err != nil || !found || expired {
		return Known{}, false, err
	}
	known.Conflict = !hmac.Equal(fingerprint[:], identity.Fingerprint[:])
	return known, true, nil
}

// Knows says whether a record came before, with the same content. Safe for
// concurrent use; a later Seal decides.
func (j *Journal) Knows(identity *Identity) (bool, error) {
	if identity.ID == (ID{}) {
		return false, nil
	}
	known, found, err := j.ids.lookup(identity, j.options.Now())
	return found && !known.Conflict, err
}

// find searches the newest first. The caller holds mu.
func (s *idStore) find(id ID) (Known, Fingerprint, bool, error) {
	for _, table := range [...]*idTable{s.current, s.frozen} {
		if table == nil {
			continue
		}
		if known, fingerprint, found := table.find(id); found {
			return known, fingerprint, true, nil
		}
	}
	return s.findInFiles(id)
}

// findInFiles returns the newest of what the files have of an id: one that
// came again after the window is in two.
func (s *idStore) findInFiles(id ID) (newest Known, content Fingerprint, found bool, err error) {
	for _, m := range s.filters {
		for columns := m.candidates(id); columns != 0; columns &= columns - 1 {
			known, fingerprint, hit, err := m.files[bits.TrailingZeros64(columns)].find(id)
			if err != nil {
				return Known{}, Fingerprint{}, false, err
			}
			if hit && (!found || known.Frame > newest.Frame) {
				newest, content, found = known, fingerprint, true
			}
		}
	}
	return newest, content, found, nil
}

// run writes tables that are full, trying again until it can.
func (s *idStore) run() {
	defer close(s.done)
	for range s.work {
		for s.hasFrozen() {
			err := s.persist(false)
			if err == nil {
				break
			}
			s.journal.options.Observe.Failed(err)
			if !s.pause() {
				return
			}
		}
		if s.isClosing() {
			return
		}
	}
}

// idRetry is how long a file that cannot be written is left alone.
const idRetry = time.Second

// pause waits before another try. It is false if the journal is closing: what
// is not in a file is in the frames.
func (s *idStore) pause() bool {
	timer := time.NewTimer(idRetry)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return !s.isClosing() // whose token may have been taken for the frozen table's
		case <-s.work:
			if s.isClosing() {
				return false
			}
		}
	}
}

func (s *idStore) hasFrozen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen != nil
}

func (s *idStore) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// close ends run. Only the frames know what no file has: the next process
// reads it there.
func (s *idStore) close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.wakeUp()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeFiles()
}

// covers makes the ids of all frames up to the given one durable in files.
func (s *idStore) covers(frame uint64) error {
	s.mu.Lock()
	covered := s.through >= frame
	s.mu.Unlock()
	if covered {
		return nil
	}
	return s.persist(true)
}

// persist writes the frozen table and, with all, what the current one has so
// far, which a later call writes again under the same name, grown.
func (s *idStore) persist(all bool) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for {
		frozen, copied := s.unwritten(all)
		switch {
		case frozen != nil:
			if err := s.writeFrozen(frozen); err != nil {
				return err
			}
		case copied != nil:
			return s.writeCurrent(copied)
		}
		if !all {
			return nil
		}
	}
}

// unwritten returns the frozen table or, where there is none and all is asked
// for, a copy of the current one: what is current has all before it in files
// only while nothing is frozen.
func (s *idStore) unwritten(all bool) (frozen, copied *idTable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil || !all {
		return s.frozen, nil
	}
	return nil, &idTable{
		first: s.current.first, through: s.current.through,
		entries: slices.Clone(s.current.entries), names: names{list: slices.Clone(s.current.names.list)},
	}
}

// writeCurrent makes a file of a copy of the current table.
func (s *idStore) writeCurrent(copied *idTable) error {
	if len(copied.entries) > 0 {
		if err := s.write(copied); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.through = copied.through
	return nil
}

// writeFrozen makes a file of a table that is full. The table is found until
// the file is.
func (s *idStore) writeFrozen(table *idTable) error {
	if err := s.write(&idTable{
		first: table.first, through: table.through, entries: slices.Clone(table.entries), names: table.names,
	}); err != nil {
		return err
	}
	file, err := openIDFile(s.journal.idPath(table.first), table.first)
	if err != nil {
		return err
	}
	s.filter(file)
	s.mu.Lock()
	s.files = append(s.files, file)
	s.frozen, s.through = nil, table.through
	s.mu.Unlock()
	return s.expire()
}

// write makes t's file, durably and at once. It orders t's entries.
func (s *idStore) write(t *idTable) error {
	if err := s.journal.disk.WriteFile(s.journal.idPath(t.first), t.encode(filterBlocks(s.journal.options.fullTable))); err != nil {
		return fmt.Errorf("write ids: %w", err)
	}
	return nil
}

// expire removes files whose ids are older than the window, or above the
// quota. What cannot be removed is tried again with the next file.
func (s *idStore) expire() error {
	for {
		file := s.expired()
		if file == nil {
			return nil
		}
		if err := s.journal.removeFile(s.journal.idPath(file.first)); err != nil {
			return fmt.Errorf("remove old ids: %w", err)
		}
		s.mu.Lock()
		s.files = s.files[1:]
		for _, m := range s.filters {
			if m.drop(file) {
				break
			}
		}
		s.mu.Unlock()
		if err := file.close(); err != nil {
			return fmt.Errorf("close old ids: %w", err)
		}
	}
}

// expired returns the oldest file if it has to go.
func (s *idStore) expired() *idFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return nil
	}
	var size int64
	for _, file := range s.files {
		size += file.size
	}
	oldest := s.files[0]
	limit := s.journal.options.Now().Add(-s.journal.options.IDWindow).UnixNano()
	if oldest.newest < limit || size > s.journal.options.IDBytes {
		return oldest
	}
	return nil
}

func (j *Journal) idPath(first uint64) string {
	return filepath.Join(j.options.Directory, fmt.Sprintf("%020d%s", first, idSuffix))
}
