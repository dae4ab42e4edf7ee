// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

// named returns a client's request of one record with an id of its own.
func (w *world) named(id uint64, content byte) *Request {
	r := w.client(1)
	r.Identities[0] = Identity{Fingerprint: Fingerprint{content}, Integrity: chain.Hash{content}, Verdict: content}
	binary.BigEndian.PutUint64(r.Identities[0].ID[:], id)
	w.identities[r.Links[0].Digest] = r.Identities[0]
	return r
}

// knownOf seals r, which must have come before.
func (w *world) knownOf(r *Request) Known {
	w.t.Helper()
	err := w.journal.Seal(w.t.Context(), r)
	var known *KnownError
	require.ErrorAs(w.t, err, &known)
	require.Len(w.t, known.Records, 1)
	return known.Records[0]
}

func (w *world) requireSealed(r *Request) Known {
	w.t.Helper()
	require.NoError(w.t, w.seal(r))
	link := r.Links[0]
	link.Prev, link.Digest = chain.Hash{}, chain.Hash{}
	return Known{Link: link, Hash: r.Hashes[0], Integrity: r.Identities[0].Integrity, Verdict: r.Identities[0].Verdict, Frame: r.Frame}
}

func TestRepeatGetsTheFirstResult(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		first := w.requireSealed(w.named(1, 'a'))
		for range 2 { // before and after a kill
			require.Equal(w.t, first, w.knownOf(w.named(1, 'a')))
			other := w.knownOf(w.named(1, 'b'))
			require.True(w.t, other.Conflict)
			require.Equal(w.t, first.Link, other.Link)
			w.kill()
			w.open()
		}
		bytes, records := w.journal.Backlog()
		require.Equal(w.t, int64(1), records, "a repeat leaves nothing in the backlog")
		require.Positive(w.t, bytes)
		w.finish()
	})
}

// Two callers with one id at the same moment: one group seals one of them, and
// the other is told of it.
func TestSameIDAtTheSameMoment(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		errs := w.sealTogether(w.named(1, 'a'), w.named(2, 'a'), w.named(2, 'a'), w.named(3, 'a'), w.named(2, 'b'))
		require.Equal(w.t, make([]error, 5), errs, "what is known is judged by the world")
		require.Equal(w.t, 2, w.happened["repeat"])
		require.Len(w.t, w.sealed, 3)
		w.finish()
	})
}

func TestIDsExpire(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.option.IDWindow = time.Hour
		w.open()
		w.requireSealed(w.named(1, 'a'))
		w.advance(time.Hour)
		w.knownOf(w.named(1, 'a'))
		w.advance(time.Second)
		require.NoError(w.t, w.journal.Seal(w.t.Context(), w.named(1, 'b')), "an id outside the window is a new one")
		require.False(w.t, w.knownOf(w.named(1, 'b')).Conflict)
		require.NoError(w.t, w.journal.Close())
	})
}

// Ids outlive their segments, in files of their own, and the oldest files go
// when there are too many.
func TestIDFiles(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.option.SegmentBytes = 256
		w.open()
		results := map[uint64]Known{}
		for id := uint64(1); id <= 100; id++ {
			results[id] = w.requireSealed(w.named(id, 'a'))
			w.receive(1 << 30)
			w.deliver(1 << 30)
			require.NoError(w.t, w.journal.PersistCursor())
		}
		files, err := listFiles(w.disk.Directory, idSuffix)
		require.NoError(w.t, err)
		require.GreaterOrEqual(w.t, len(files), 100/w.option.fullTable)
		require.Len(w.t, w.disk.Segments(), 1)
		for range 2 {
			for id, first := range results {
				require.Equal(w.t, first, w.knownOf(w.named(id, 'a')), "id %d", id)
			}
			w.kill()
			w.open()
		}
		require.NoError(w.t, w.journal.Close())

		w.option.IDBytes = 1
		w.open()
		for id := uint64(1000); id < 1040; id++ {
			w.requireSealed(w.named(id, 'a'))
		}
		require.NoError(w.t, w.journal.Seal(w.t.Context(), w.named(1, 'b')))
		files, err = listFiles(w.disk.Directory, idSuffix)
		require.NoError(w.t, err)
		require.LessOrEqual(w.t, len(files), 1, "files above the quota go")
		require.NoError(w.t, w.journal.Close())
	})
}

// A disk that takes no ids: intake stops before memory grows without bound, and
// goes on by itself.
func TestIDsCannotBeWritten(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		w.disk.SetWeather(func(s faultdisk.Step) faultdisk.Fault {
			if s != faultdisk.StepIDs {
				return faultdisk.Fault{}
			}
			return faultdisk.Fault{Failure: faultdisk.Nothing}
		})
		var err error
		id := uint64(1)
		for ; err == nil && id < 1000; id++ {
			err = w.seal(w.named(id, 'a'))
		}
		require.ErrorIs(w.t, err, ErrWrite)
		require.ErrorContains(w.t, err, "ids")
		require.LessOrEqual(w.t, int(id), 2*w.option.fullTable+2)
		require.NoError(w.t, w.seal(w.control(Heartbeat)), "the log's own records need no id")
		w.disk.SetWeather(nil)
		w.advance(idRetry)
		require.NoError(w.t, w.seal(w.named(id, 'a')))
		w.finish()
	})
}

// A journal closes although its ids cannot be written, whoever took the token
// that says so.
func TestCloseWhileIDsCannotBeWritten(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		w.disk.SetWeather(noIDs)
		for id := uint64(1); id <= uint64(w.option.fullTable); id++ {
			w.requireSealed(w.named(id, 'a'))
		}
		ids := w.journal.ids
		ids.mu.Lock()
		ids.closing = true // as close does, while its token is the one that is taken already
		ids.mu.Unlock()
		w.advance(idRetry)
		select {
		case <-ids.done:
		default:
			require.Fail(w.t, "the writer of ids goes on")
		}
		w.disk.SetWeather(nil)
		require.NoError(w.t, w.journal.Close())
	})
}

// One entry that is damaged on disk refuses the requests that ask for it, and no
// others of their group.
func TestDamagedEntryRefusesItsRequestAlone(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		for id := uint64(1); id <= uint64(w.option.fullTable); id++ {
			w.requireSealed(w.named(id, 'a'))
		}
		files, err := listFiles(w.disk.Directory, idSuffix)
		require.NoError(w.t, err)
		require.Len(w.t, files, 1)
		path := w.journal.idPath(files[0])
		damaged, err := os.ReadFile(path)
		require.NoError(w.t, err)
		damaged[len(damaged)-1] ^= 1 // the checksum of the last id in their order
		require.NoError(w.t, os.WriteFile(path, damaged, 0o600))
		last := uint64(w.option.fullTable)
		errs := w.sealTogether(w.named(last+1, 'a'), w.named(last+2, 'a'), w.named(last, 'a'), w.named(last+3, 'a'))
		require.NoError(w.t, errs[1])
		require.ErrorIs(w.t, errs[2], ErrWrite)
		require.ErrorIs(w.t, errs[2], errIDFile)
		require.NoError(w.t, errs[3])
		require.NoError(w.t, w.journal.Close())
	})
}

func TestDamagedIDFileIsNamed(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		for id := range uint64(40) {
			w.requireSealed(w.named(id+1, 'a'))
		}
		require.NoError(w.t, w.journal.Close())
		files, err := listFiles(w.disk.Directory, idSuffix)
		require.NoError(w.t, err)
		require.NotEmpty(w.t, files)
		path := w.journal.idPath(files[0])
		whole, err := os.ReadFile(path)
		require.NoError(w.t, err)
		for at := range whole {
			damaged := []byte(string(whole))
			damaged[at] ^= 1
			require.NoError(w.t, faultdisk.ReplaceFile(path, damaged))
			file, err := openIDFile(path, files[0])
			if err == nil {
				_, err = file.load()
				require.NoError(w.t, file.close())
			}
			require.ErrorIs(w.t, err, errIDFile, "byte %d", at)
		}
		require.NoError(w.t, faultdisk.ReplaceFile(path, whole[:len(whole)-1]))
		require.ErrorContains(w.t, w.tryOpen(), filepath.Base(path))
		require.NoError(w.t, os.Remove(path))
		delete(w.disk.Live, filepath.Base(path))
		w.open()
		require.NoError(w.t, w.journal.Close())
	})
}

// In memory a filter takes up to 64 times what it takes in its file: one that is
// larger than any that is written is refused first.
func TestFilterIsBounded(t *testing.T) {
	most := filterBlocks(fullTable)
	for blocks, sound := range map[int]bool{1: true, most: true, most + 1: false} {
		path := filepath.Join(t.TempDir(), "ids")
		require.NoError(t, os.WriteFile(path, newIDTable(1).encode(blocks), 0o600))
		file, err := openIDFile(path, 1)
		if sound {
			require.NoError(t, err)
			require.NoError(t, file.close())
			continue
		}
		require.ErrorIs(t, err, errIDFile)
	}
}

// Ids of frames that the segments do not have belong to another journal: who is
// told that an event is stored must find it.
func TestIDsAheadOfTheSegments(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		table := newIDTable(1)
		table.through = 1000
		require.NoError(w.t, w.journal.Close())
		require.NoError(w.t, os.WriteFile(w.journal.idPath(1), table.encode(1), 0o600))
		require.ErrorContains(w.t, w.tryOpen(), "parts of the directory are older than others")
	})
}

func TestMatrixTellsMostApart(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	made := func() (id ID) {
		binary.BigEndian.PutUint64(id[:8], random.Uint64())
		binary.BigEndian.PutUint64(id[8:], random.Uint64())
		return id
	}
	const each = 4096
	var mu sync.Mutex
	m := &idMatrix{blocks: filterBlocks(each), rows: make([]uint64, filterBlocks(each)*blockBits)}
	var files []*idFile
	ids := map[ID]*idFile{}
	put := func() {
		file := &idFile{filter: make(idFilter, filterBlock*m.blocks)}
		for range each {
			id := made()
			ids[id] = file
			file.filter.add(id)
		}
		m.put(file, &mu)
		files = append(files, file)
	}
	for range matrixFiles {
		put()
	}
	for i := range 10 { // a column that is used again forgets its last file
		require.True(t, m.drop(files[i]))
		require.False(t, m.drop(files[i]))
		maps.DeleteFunc(ids, func(_ ID, file *idFile) bool { return file == files[i] })
		put()
	}
	for id, file := range ids {
		columns := m.candidates(id)
		found := false
		for ; columns != 0; columns &= columns - 1 {
			found = found || m.files[bits.TrailingZeros64(columns)] == file
		}
		require.True(t, found)
	}
	wrong := 0
	const asked = 10_000
	for range asked {
		wrong += bits.OnesCount64(m.candidates(made()))
	}
	assert.Less(t, wrong, asked*matrixFiles/200)
	t.Logf("%.3f %% of the files are asked in vain", 100*float64(wrong)/asked/matrixFiles)
}

func TestIdentifier(t *testing.T) {
	a, b := newIdentifier([]byte("one secret")), newIdentifier([]byte("another"))
	first := a.ID("tenant:x", "1")
	a.Fingerprint([]byte("something else"))
	assert.Equal(t, first, a.ID("tenant:x", "1"))
	different := []ID{a.ID("tenant:x", "1"), b.ID("tenant:x", "1"), a.ID("tenant:x1", ""), a.ID("tenant:", "x1"), ID(a.Fingerprint([]byte("tenant:x1")))}
	for i := range different {
		for k := range i {
			assert.NotEqual(t, different[i], different[k], "%d %d", i, k)
		}
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func FuzzIDFile(f *testing.F) {
	table := newIDTable(5)
	for i := range 3 {
		link := chain.Link{Origin: "o", Stream: fmt.Sprint("s", i%2), Index: uint64(i), Seq: 1, SealedAt: int64(i)}
		table.add(&Identity{ID: ID{byte(i + 1)}}, 5+uint64(i), &link, chain.Hash{byte(i)})
		table.through++
	}
	f.Add(table.encode(1))
	f.Add([]byte(strings.Repeat(idMagic, 20)))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := &idFile{file: readCloser{bytes.NewReader(b)}, path: "f", size: int64(len(b))}
		if err := file.readHead(); err != nil {
			require.ErrorIs(t, err, errIDFile)
			return
		}
		if _, _, _, err := file.find(ID{1}); err != nil {
			require.ErrorIs(t, err, errIDFile)
		}
		if _, err := file.load(); err != nil {
			require.ErrorIs(t, err, errIDFile)
		}
		require.NoError(t, file.close())
	})
}

func TestAwaitDelivery(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		r := w.named(1, 'a')
		require.NoError(w.t, w.seal(r))
		short, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(w.t, w.journal.AwaitDelivery(short, r.Frame), context.DeadlineExceeded)
		waited := make(chan error, 2)
		for range 2 {
			go func() { waited <- w.journal.AwaitDelivery(w.t.Context(), r.Frame) }()
		}
		w.advance(time.Second)
		require.Empty(w.t, waited)
		w.receive(1 << 30)
		w.deliver(1 << 30)
		require.NoError(w.t, <-waited)
		require.NoError(w.t, <-waited)
		require.NoError(w.t, w.journal.AwaitDelivery(w.t.Context(), w.knownOf(w.named(1, 'a')).Frame))
		w.finish()
	})
}

// removalHook calls back before each file is removed.
type removalHook struct {
	durable.Disk
	removing func()
}

func (d removalHook) Remove(path string) error {
	d.removing()
	return d.Disk.Remove(path)
}

// What is said to be in files is there, also if a table gets full between the
// write of the one before it and that of the rest: a segment goes because of it.
func TestCoveredIDsAreInFiles(t *testing.T) {
	hook := removalHook{Disk: durable.OS{}, removing: func() {}}
	j := &Journal{options: Options{Directory: t.TempDir(), IDBytes: 1 << 10, Now: time.Now, fullTable: 2}, disk: &hook}
	j.options.IDWindow = time.Hour
	s, err := j.openIDs()
	require.NoError(t, err)
	frame := uint64(0)
	commit := func() {
		frame++
		now := time.Now().UnixNano()
		r := &Request{Links: []chain.Link{{Origin: "o", SealedAt: now}}, Hashes: make([]chain.Hash, 1), Identities: make([]Identity, 1)}
		binary.BigEndian.PutUint64(r.Identities[0].ID[:], frame)
		s.committed(frame, []*Request{r})
	}
	for range 3 {
		commit()
		commit()
		require.NoError(t, s.persist(false))
	}
	commit()
	commit()
	commit()
	removed := 0
	hook.removing = func() {
		if removed++; removed == 1 {
			commit()
		}
	}
	require.NoError(t, s.covers(frame))
	require.Positive(t, removed)
	through := s.through
	require.NoError(t, s.closeFiles())

	again, err := j.openIDs()
	require.NoError(t, err)
	for frame := through - 3; frame <= through; frame++ {
		var id ID
		binary.BigEndian.PutUint64(id[:], frame)
		_, found, err := again.lookup(&Identity{ID: id}, time.Now())
		require.NoError(t, err)
		require.True(t, found, "id of frame %d", frame)
	}
	require.NoError(t, again.closeFiles())
}

// Many files about the same streams cost little more than one.
func TestIDFilesShareNames(t *testing.T) {
	const streams, files = 20_000, 20
	table := newIDTable(1)
	for i := range streams {
		var id ID
		binary.BigEndian.PutUint64(id[:], uint64(i+1))
		table.add(&Identity{ID: id}, 1, &chain.Link{Origin: "o", Stream: fmt.Sprintf("tenant:%0100d", i)}, chain.Hash{})
	}
	table.through = 1
	path := filepath.Join(t.TempDir(), "ids")
	require.NoError(t, os.WriteFile(path, table.encode(1), 0o600))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var open []*idFile
	for range files {
		file, err := openIDFile(path, 1)
		require.NoError(t, err)
		file.filter = nil // a matrix has it
		open = append(open, file)
	}
	require.Less(t, heap()-before, uint64(2*streams*100+files*streams*16))
	for _, file := range open {
		require.NoError(t, file.close())
	}
}
