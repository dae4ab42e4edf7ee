// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

var testKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// coordinate is where a record stands.
type coordinate struct {
	origin string
	index  uint64
}

// world drives a journal on a disk that may fail, through any number of
// processes, and remembers all that it ever told anybody. It runs in a
// synctest bubble: its clock moves only by advance.
type world struct {
	t      testing.TB
	random *rand.Rand
	disk   *faultdisk.Disk
	option Options

	journal *Journal
	made    int // requests so far

	digests    map[coordinate]chain.Hash    // all that was acknowledged or given out
	owed       []*Request                   // acknowledged: must be given out
	frames     map[uint64][sha256.Size]byte // what was given out, by number
	groups     map[uint64]*Group
	points     map[uint64]*Checkpoint
	claims     []Previous              // what each life says of the one before it
	repeating  bool                    // clients send some records again
	sent       []Identity              // of all requests ever made
	identities map[chain.Hash]Identity // of all records ever made, by digest
	repeats    map[ID]Known            // what a repeated record was told
	sealed     map[ID]struct{}         // acknowledged
	happened   map[string]int          // what befell the earlier disks
	pending    []uint64                // given out in this process and not yet delivered
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), disk: faultdisk.New(faultdisk.Scratch(t)),
		option:   Options{Instance: "test", Key: testKey, SegmentBytes: 2 << 10, fullTable: 16},
		happened: map[string]int{}, digests: map[coordinate]chain.Hash{},
		identities: map[chain.Hash]Identity{}, repeats: map[ID]Known{}, sealed: map[ID]struct{}{},
		frames: map[uint64][sha256.Size]byte{}, groups: map[uint64]*Group{}, points: map[uint64]*Checkpoint{},
	}
	t.Cleanup(func() { // also where a check has failed
		if w.journal != nil {
			w.disk.Kill()
			_ = w.journal.Close() // it was closed, or cannot touch the disk
		}
	})
	return w
}

// advance lets time pass, and the journal do what was due.
func (w *world) advance(d time.Duration) {
	time.Sleep(d) // the bubble's clock: returns when all else waits
	synctest.Wait()
}

// tryOpen starts the next process on the disk as it is.
func (w *world) tryOpen() error {
	options := w.option
	options.Directory = w.disk.Directory
	options.Disk = w.disk
	j, err := Open(options)
	if err != nil {
		return err
	}
	w.journal, w.pending = j, nil
	require.Equal(w.t, j.reader.persisted, j.reader.delivered)
	return nil
}

// open starts the next process and its life.
func (w *world) open() {
	w.t.Helper()
	require.NoError(w.t, w.tryOpen())
	require.NoError(w.t, w.start())
}

// start seals the start record.
func (w *world) start() error {
	previous := w.journal.Previous()
	err := w.seal(w.control(Start))
	if err == nil {
		w.claims = append(w.claims, previous)
	}
	return err
}

// client returns a request of the given number of records in chance streams.
func (w *world) client(records int) *Request {
	w.made++
	r := &Request{Payload: fmt.Appendf(nil, "request %d %x", w.made, make([]byte, w.random.IntN(100)))}
	for i := range records {
		r.Links = append(r.Links, chain.Link{
			Stream: fmt.Sprintf("%s%d", audit.StreamTenant, w.random.IntN(5)),
			Digest: sha256.Sum256(fmt.Appendf(nil, "%d/%d", w.made, i)),
		})
		r.Identities = append(r.Identities, w.identity(r.Identities))
		w.identities[r.Links[i].Digest] = r.Identities[i]
	}
	return r
}

// identity returns that of a record without an id, of a new one, or of one that
// was sent before, with the same content or another.
func (w *world) identity(taken []Identity) Identity {
	chance := w.random.IntN(6)
	if chance == 0 {
		return Identity{}
	}
	made := Identity{Fingerprint: Fingerprint{1}, Integrity: chain.Hash{byte(w.made)}, Verdict: uint8(w.made % (MaxVerdict + 1))}
	binary.BigEndian.PutUint64(made.ID[:], w.random.Uint64()|1)
	if w.repeating && chance < 3 && len(w.sent) > 0 {
		made = w.sent[w.random.IntN(len(w.sent))]
		made.Integrity, made.Verdict = chain.Hash{byte(w.made), 1}, made.Verdict/2
		if chance == 1 && w.random.IntN(4) == 0 {
			made.Fingerprint = Fingerprint{2}
		}
	}
	if slices.ContainsFunc(taken, func(other Identity) bool { return other.ID == made.ID }) {
		return Identity{}
	}
	w.sent = append(w.sent, made)
	return made
}

func (w *world) control(kind RecordKind) *Request {
	r := w.client(1)
	r.Kind, r.Links[0].Stream, r.Identities = kind, audit.StreamOrigin, nil
	delete(w.identities, r.Links[0].Digest)
	return r
}

// seal seals r, or of it what did not come before, and remembers what was
// acknowledged.
func (w *world) seal(r *Request) error {
	err := w.journal.Seal(context.Background(), r)
	synctest.Wait()
	return w.answered(r, err)
}

func (w *world) answered(r *Request, err error) error {
	var known *KnownError
	if errors.As(err, &known) {
		if r = w.without(r, known); r == nil {
			return nil
		}
		return w.seal(r)
	}
	if err == nil {
		w.acknowledged(r)
	}
	return err
}

// without checks what a request is told of records that came before, and
// returns what is left of it.
func (w *world) without(r *Request, known *KnownError) *Request {
	require.Len(w.t, known.Records, len(r.Links))
	left := &Request{Payload: append(bytes.Clone(r.Payload), " again"...)}
	for i, record := range known.Records {
		if record.Link.Origin == "" {
			left.Links = append(left.Links, r.Links[i])
			left.Identities = append(left.Identities, r.Identities[i])
			continue
		}
		id := r.Identities[i].ID
		w.happened["repeat"]++
		if before, told := w.repeats[id]; told {
			before.Conflict = record.Conflict
			require.Equal(w.t, before, record, "the first result again")
		}
		record.Conflict = false
		w.repeats[id] = record
	}
	require.Less(w.t, len(left.Links), len(r.Links))
	if len(left.Links) == 0 {
		return nil
	}
	return left
}

func (w *world) acknowledged(r *Request) {
	w.owed = append(w.owed, r)
	for _, identity := range r.Identities {
		if identity.ID != (ID{}) {
			require.NotContains(w.t, w.sealed, identity.ID, "a record is acknowledged once")
			w.sealed[identity.ID] = struct{}{}
		}
	}
	for i := range r.Links {
		require.Equal(w.t, w.journal.Origin(), r.Links[i].Origin)
		w.bind(&r.Links[i], r.Hashes[i])
	}
}

// sealTogether seals the requests so that all but the first are one group, and
// returns each one's error.
func (w *world) sealTogether(requests ...*Request) []error {
	release := make(chan struct{})
	w.disk.Hold(release)
	errs := make([]error, len(requests))
	for i, r := range requests {
		go func() { errs[i] = w.journal.Seal(context.Background(), r) }()
		synctest.Wait()
	}
	close(release)
	w.disk.Hold(nil)
	synctest.Wait()
	for i, r := range requests {
		errs[i] = w.answered(r, errs[i])
	}
	return errs
}

// bind checks I1: a coordinate never gets a second digest.
func (w *world) bind(link *chain.Link, hash chain.Hash) {
	at := coordinate{link.Origin, link.Index}
	if before, bound := w.digests[at]; bound {
		require.Equal(w.t, before, link.Digest, "%v is bound to two digests", at)
	}
	w.digests[at] = link.Digest
	require.Equal(w.t, link.Hash(), hash)
}

// receive takes up to n frames from the journal.
func (w *world) receive(n int) {
	for range n {
		frame, err := w.journal.Poll()
		require.NoError(w.t, err)
		if frame == nil {
			return
		}
		w.given(frame)
	}
}

func (w *world) given(frame *Frame) {
	t := w.t
	newest := w.journal.reader.delivered
	if len(w.pending) > 0 {
		newest = w.pending[len(w.pending)-1]
	}
	require.Greater(t, frame.Number, newest, "frames come in order, none twice")
	for number := range w.frames {
		require.False(t, number > newest && number < frame.Number, "frame %d was skipped", number)
	}
	for _, r := range w.owed {
		require.False(t, r.Frame > newest && r.Frame < frame.Number, "acknowledged frame %d was skipped", r.Frame)
	}
	w.pending = append(w.pending, frame.Number)
	content := w.content(frame)
	if before, again := w.frames[frame.Number]; again {
		require.Equal(t, before, content, "frame %d was given out with two contents", frame.Number)
	}
	w.frames[frame.Number] = content
	if frame.Group != nil {
		w.groups[frame.Number] = frame.Group
		for i := range frame.Group.Requests {
			sealed := &frame.Group.Requests[i]
			for k := range sealed.Links {
				w.bind(&sealed.Links[k], sealed.Hashes[k])
			}
		}
	} else {
		w.points[frame.Number] = frame.Checkpoint
	}
}

func (w *world) content(frame *Frame) [sha256.Size]byte {
	if frame.Checkpoint != nil {
		return sha256.Sum256(appendCheckpoint(nil, frame.Checkpoint))
	}
	return sha256.Sum256(appendGroup(nil, frame.Group))
}

// deliver says that up to n of the frames given out are delivered.
func (w *world) deliver(n int) {
	if n = min(n, len(w.pending)); n > 0 {
		w.journal.Delivered(w.pending[n-1])
		w.pending = slices.Delete(w.pending, 0, n)
	}
}

// kill ends the process at once. Its memory is gone; the lock is free.
func (w *world) kill() {
	w.disk.Kill()
	_ = w.journal.Close() // it cannot touch the disk any more
	w.disk = w.disk.Survivors()
}

// powerCut ends the process and takes away what was not synced.
func (w *world) powerCut(how faultdisk.Loss) {
	w.disk.Kill()
	_ = w.journal.Close() // as in kill
	w.disk = w.disk.PowerCut(w.t, how, w.random)
}

// finish delivers all that is left and judges everything that ever happened.
func (w *world) finish() {
	t := w.t
	w.receive(1 << 30)
	w.deliver(1 << 30)
	bytes, records := w.journal.Backlog()
	require.Zero(t, bytes, "bytes of the backlog")
	require.Zero(t, records, "records of the backlog")
	require.NoError(t, w.journal.PersistCursor())
	require.Len(t, w.disk.Segments(), 1, "delivered segments go")
	require.NoError(t, w.journal.Close())
	w.checkOwed()
	w.checkLog()
	w.checkIDs()
}

// checkIDs checks I5: an id is sealed once, with one content, and whoever sent
// it again was told where.
func (w *world) checkIDs() {
	first := map[ID]Fingerprint{}
	for number, group := range w.groups {
		for i := range group.Requests {
			sealed := &group.Requests[i]
			for k := range sealed.Links {
				identity := w.identities[sealed.Links[k].Digest]
				if identity.ID == (ID{}) {
					continue
				}
				require.NotContains(w.t, first, identity.ID, "an id is sealed twice")
				first[identity.ID] = identity.Fingerprint
				told, again := w.repeats[identity.ID]
				if !again {
					continue
				}
				link := sealed.Links[k]
				link.Prev, link.Digest = chain.Hash{}, chain.Hash{}
				require.Equal(w.t, Known{Link: link, Hash: sealed.Hashes[k], Integrity: identity.Integrity, Verdict: identity.Verdict, Frame: number}, told)
				delete(w.repeats, identity.ID)
			}
		}
	}
	require.Empty(w.t, w.repeats, "a repeated record was told of one that is not there")
}

// checkOwed checks I4: what was acknowledged was given out, as it was.
func (w *world) checkOwed() {
	for _, r := range w.owed {
		group := w.groups[r.Frame]
		require.NotNil(w.t, group, "acknowledged frame %d was not given out", r.Frame)
		require.True(w.t, slices.ContainsFunc(group.Requests, func(s Sealed) bool {
			return bytes.Equal(s.Payload, r.Payload) && slices.Equal(s.Links, r.Links) && slices.Equal(s.Hashes, r.Hashes)
		}), "frame %d lacks an acknowledged request", r.Frame)
	}
}

// checkLog follows the chain over all lives, as a verifier would.
func (w *world) checkLog() {
	t := w.t
	trees := map[string]*chain.Tree{}
	heads := map[string]chain.Head{}
	numbers := slices.Sorted(maps.Keys(w.frames))
	for _, number := range numbers {
		if c := w.points[number]; c != nil {
			w.checkCheckpoint(trees[c.Origin], c)
			continue
		}
		group := w.groups[number]
		first := group.Requests[0].Links[0]
		if trees[first.Origin] == nil {
			require.Equal(t, Start, group.Kind, "a life begins with its start record")
			trees[first.Origin] = &chain.Tree{}
		}
		for i := range group.Requests {
			sealed := &group.Requests[i]
			for k := range sealed.Links {
				link := &sealed.Links[k]
				tree, head := trees[link.Origin], heads[link.Stream]
				require.Equal(t, tree.Size(), link.Index, "index is dense")
				require.Equal(t, head.Seq+1, link.Seq, "seq is dense")
				require.Equal(t, head.Hash, link.Prev, "prev is the stream's newest hash")
				heads[link.Stream] = chain.Head{Seq: link.Seq, Hash: sealed.Hashes[k]}
				tree.Append(sealed.Hashes[k])
			}
		}
	}
	for _, claim := range w.claims {
		if claim.Cause == CauseFirst {
			require.Empty(t, claim.Origin)
			continue
		}
		require.Equal(t, trees[claim.Origin].Size(), claim.Size, "a life names its predecessor's size")
		require.Equal(t, trees[claim.Origin].Root(), claim.Root, "a life names its predecessor's root")
	}
}

func (w *world) checkCheckpoint(tree *chain.Tree, c *Checkpoint) {
	t := w.t
	require.NotNil(t, tree, "a checkpoint stands behind the records that it covers")
	require.Equal(t, tree.Size(), c.Size, "a checkpoint stands between leaves size-1 and size")
	require.Equal(t, tree.Root(), c.Root)
	require.Equal(t, tree.Range(), c.Range)
	opened, _, err := chain.OpenCheckpoint(c.Note, []ed25519.PublicKey{testKey.Public().(ed25519.PublicKey)})
	require.NoError(t, err)
	require.Equal(t, c.Checkpoint, opened)
}

// appendGroup is what the writer does, for a group that was read.
func appendGroup(dst []byte, g *Group) []byte {
	dst = appendGroupHeader(dst, &g.header)
	for i := range g.Requests {
		s := &g.Requests[i]
		dst = appendCount(dst, len(s.Links))
		for k := range s.Links {
			dst = appendSealedRecord(dst, &s.Links[k], &s.Hashes[k], identityAt(s.Identities, k))
		}
		dst = append(appendCount(dst, len(s.Payload)), s.Payload...)
	}
	return dst
}

func identityAt(identities []Identity, i int) *Identity {
	if len(identities) == 0 {
		return nil
	}
	return &identities[i]
}

// read returns a file of the journal's directory.
func (w *world) read(name string) []byte {
	data, err := os.ReadFile(filepath.Join(w.disk.Directory, name))
	require.NoError(w.t, err)
	return data
}
