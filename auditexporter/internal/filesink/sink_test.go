// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/durable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testOrigin  = "host-1/00112233445566ff/20261123T090700Z-0a0b0c0d"
	otherOrigin = "host-1/00112233445566ff/20261124T090700Z-0a0b0c0d"
)

var testKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// maker makes what a processor would seal for one origin.
type maker struct {
	origin string
	tree   chain.Tree
	head   chain.Head
	size   int // bytes of an event
}

func newMaker() *maker { return &maker{origin: testOrigin, size: 40} }

func (m *maker) record() sink.Entry {
	index := m.tree.Size()
	event := fmt.Appendf(nil, `{"record":{"body":"%0*d"}}`, m.size, index)
	link := chain.Link{
		Origin: m.origin, Index: index, Stream: "service:shop", Seq: m.head.Seq + 1,
		SealedAt: 1_790_000_000_000_000_000 + int64(index), Prev: m.head.Hash, Digest: sha256.Sum256(event),
	}
	hash := link.Hash()
	m.head = chain.Head{Seq: link.Seq, Hash: hash}
	m.tree.Append(hash)
	return sink.Entry{Kind: audit.LineEvent, Link: link, Hash: hash, Event: event}
}

func (m *maker) records(n int) []sink.Entry {
	entries := make([]sink.Entry, n)
	for i := range entries {
		entries[i] = m.record()
	}
	return entries
}

func (m *maker) checkpoint() sink.Entry {
	c := chain.Checkpoint{Origin: m.origin, Size: m.tree.Size(), Root: m.tree.Root()}
	signed, err := chain.SignCheckpoint(c, testKey)
	if err != nil {
		panic(err)
	}
	return sink.Entry{
		Kind: audit.LineCheckpoint, Link: chain.Link{Origin: m.origin, Index: c.Size},
		Note: signed, Range: m.tree.Range(),
	}
}

func testConfig(directory string) Config {
	return Config{Directory: directory, MaxFileBytes: 1 << 20, MaxLineBytes: 1 << 20, Logger: zap.NewNop()}
}

func open(t testing.TB, config Config) *Sink {
	t.Helper()
	s, err := Open(config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// noRefusal is the sink.Refuse of tests in which nothing is refused.
func noRefusal(e *sink.Entry, reason string) error {
	return fmt.Errorf("%s is refused: %s", coordinateOf(e), reason)
}

func write(t testing.TB, s *Sink, entries ...sink.Entry) sink.Result {
	t.Helper()
	result, err := s.Write(t.Context(), entries, noRefusal)
	require.NoError(t, err)
	return result
}

func counts(r sink.Result) sink.Result {
	return sink.Result{Stored: r.Stored, Refused: r.Refused, Checkpoints: r.Checkpoints, Repeated: r.Repeated}
}

func folder(directory string) string { return filepath.Join(directory, filepath.FromSlash(testOrigin)) }

// names lists a folder without manifests, half made ones included.
func names(t testing.TB, directory string) []string {
	t.Helper()
	listed, err := disk{}.names(directory)
	require.NoError(t, err)
	return slices.DeleteFunc(listed, func(name string) bool { return strings.Contains(name, ".manifest.") })
}

func isManifest(name string) bool { return strings.HasSuffix(name, manifestExtension) }

// check is the one invariant of a store: every line parses and is what its
// hash says, every coordinate is there once (a checkpoint also at the head of
// the file that follows it), each file but the first of an origin begins with
// the checkpoint that it is named by and that ends the file before, and all of
// acknowledged are there, byte for byte.
func check(t testing.TB, directory string, acknowledged []sink.Entry) {
	t.Helper()
	seen := map[string][]byte{}
	for _, origin := range []string{testOrigin, otherOrigin} {
		checkOrigin(t, filepath.Join(directory, filepath.FromSlash(origin)), origin, seen)
	}
	for i := range acknowledged {
		e := &acknowledged[i]
		require.Equal(t, string(appendLine(nil, e)), string(seen[key(e.Link.Origin, coordinateOf(e))]),
			"%s is acknowledged and not stored", coordinateOf(e))
	}
}

func key(origin string, at coordinate) string { return origin + " " + at.String() }

func checkOrigin(t testing.TB, directory, origin string, seen map[string][]byte) {
	t.Helper()
	if _, err := os.Stat(directory); err != nil {
		return
	}
	checkManifests(t, directory, origin)
	var before []byte
	for i, name := range names(t, directory) {
		require.NotContains(t, strings.TrimSuffix(name, ".jsonl"), "jsonl", "other files must not look like ours")
		if !strings.HasSuffix(name, ".jsonl") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(directory, name))
		require.NoError(t, err)
		lines := bytes.SplitAfter(text, []byte("\n"))
		require.Empty(t, lines[len(lines)-1], "%s ends within a line", name)
		lines = lines[:len(lines)-1]
		if i > 0 {
			require.NotEmpty(t, lines, name)
			require.Equal(t, string(before), string(lines[0]), "%s does not begin as the file before ends", name)
			at := checkLine(t, origin, lines[0])
			require.Equal(t, coordinate{true, at.number}, at)
			require.Equal(t, fileName(at.number), name)
			lines = lines[1:]
		}
		for _, line := range lines {
			at := checkLine(t, origin, line)
			_, twice := seen[key(origin, at)]
			require.False(t, twice, "%s is stored twice", at)
			seen[key(origin, at)] = line
			before = line
		}
	}
}

func checkLine(t testing.TB, origin string, text []byte) coordinate {
	t.Helper()
	line, err := audit.ParseLine(bytes.TrimSuffix(text, []byte("\n")))
	require.NoError(t, err)
	if line.Kind == audit.LineCheckpoint {
		c, _, err := chain.OpenCheckpoint(line.Note, []ed25519.PublicKey{testKey.Public().(ed25519.PublicKey)})
		require.NoError(t, err)
		_, err = chain.CheckRange(c.Size, c.Root, line.Range)
		require.NoError(t, err)
		require.Equal(t, origin, c.Origin)
		return coordinate{true, c.Size}
	}
	if line.Kind == audit.LineEvent {
		line.Link.Digest = sha256.Sum256(line.Event)
	}
	require.Equal(t, line.Hash, line.Link.Hash())
	require.Equal(t, origin, line.Link.Origin)
	return coordinate{false, line.Link.Index}
}

func TestWriteStoresInOrder(t *testing.T) {
	directory := t.TempDir()
	s := open(t, testConfig(directory))
	m := newMaker()
	entries := append(m.records(3), m.checkpoint(), m.record())
	result := write(t, s, entries...)
	assert.Equal(t, 4, result.Stored)
	assert.Equal(t, 1, result.Checkpoints)
	assert.Zero(t, result.Repeated)

	text, err := os.ReadFile(filepath.Join(folder(directory), "00000000000000000000.jsonl"))
	require.NoError(t, err)
	var want []byte
	for i := range entries {
		want = appendLine(want, &entries[i])
	}
	assert.Equal(t, string(want), string(text))
	assert.Equal(t, int64(len(want)), result.Bytes)
}

func TestModes(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "store")
	config := testConfig(directory)
	config.MaxFileBytes = 1
	s := open(t, config)
	m := newMaker()
	write(t, s, m.record(), m.checkpoint(), m.record())
	require.NoError(t, filepath.WalkDir(directory, func(path string, entry os.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		want := os.FileMode(0o600)
		switch {
		case entry.IsDir():
			want = 0o700
		case entry.Name() == fileName(0):
			want = 0o400 // sealed
		}
		assert.Equal(t, want, info.Mode().Perm(), path)
		return nil
	}))
}

func TestRepeatsAreSkipped(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			directory := t.TempDir()
			m := newMaker()
			m.size = 3000 // several blocks
			entries := append(m.records(800), m.checkpoint())
			entries = append(entries, m.records(300)...)
			s := open(t, testConfig(directory))
			write(t, s, entries[:1000]...)
			if restart {
				require.NoError(t, s.Close())
				s = open(t, testConfig(directory))
			}
			result := write(t, s, entries...)
			assert.Equal(t, 1000, result.Repeated)
			assert.Equal(t, 101, result.Stored)
			assert.Zero(t, result.Checkpoints)
			check(t, directory, entries)
		})
	}
}

// What arrives late and below the highest index is stored: the store is a set,
// not a high-water mark.
func TestLateIsStored(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			directory := t.TempDir()
			m := newMaker()
			entries := append(m.records(10), m.checkpoint())
			entries = append(entries, m.records(10)...)
			s := open(t, testConfig(directory))
			write(t, s, entries[12:]...)
			write(t, s, entries[3], entries[5])
			if restart {
				require.NoError(t, s.Close())
				s = open(t, testConfig(directory))
			}
			result := write(t, s, entries...)
			assert.Equal(t, 20-11, result.Stored)
			assert.Equal(t, 1, result.Checkpoints)
			assert.Equal(t, 11, result.Repeated)
			assert.Equal(t, 21, write(t, s, entries...).Repeated)
			check(t, directory, entries)
		})
	}
}

func TestRepeatWithinBatch(t *testing.T) {
	directory := t.TempDir()
	s := open(t, testConfig(directory))
	m := newMaker()
	e, c := m.record(), m.checkpoint()
	result := write(t, s, e, c, e, c)
	assert.Equal(t, 1, result.Stored)
	assert.Equal(t, 2, result.Repeated)
	check(t, directory, []sink.Entry{e, c})
}

// sealAgain returns another record, or checkpoint, at e's coordinate.
func sealAgain(e sink.Entry) sink.Entry {
	if e.Kind == audit.LineCheckpoint {
		e.Note = append(slices.Clone(e.Note), "— other AAAAAA==\n"...)
		return e
	}
	e.Event = []byte(`{"record":{"body":"forged"}}`)
	e.Link.Digest = sha256.Sum256(e.Event)
	e.Hash = e.Link.Hash()
	return e
}

func TestConflict(t *testing.T) {
	for name, position := range map[string]int{"record": 2, "checkpoint": 5} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restart=%v", name, restart), func(t *testing.T) {
				directory := t.TempDir()
				m := newMaker()
				entries := append(m.records(5), m.checkpoint(), m.record())
				s := open(t, testConfig(directory))
				write(t, s, entries[:6]...)
				if restart {
					require.NoError(t, s.Close())
					s = open(t, testConfig(directory))
				}
				_, err := s.Write(t.Context(), []sink.Entry{entries[6], sealAgain(entries[position])}, noRefusal)
				require.ErrorIs(t, err, sink.ErrConflict)
				require.ErrorContains(t, err, coordinateOf(&entries[position]).String())
				require.ErrorContains(t, err, testOrigin)
				assert.NotContains(t, err.Error(), "forged")
				check(t, directory, entries[:6])
				assert.Equal(t, 1, write(t, s, entries...).Stored, "nothing of the refused batch was stored")
			})
		}
	}
}

func TestConflictWithinBatch(t *testing.T) {
	directory := t.TempDir()
	s := open(t, testConfig(directory))
	m := newMaker()
	e := m.record()
	_, err := s.Write(t.Context(), []sink.Entry{e, sealAgain(e)}, noRefusal)
	require.ErrorIs(t, err, sink.ErrConflict)
	assert.Equal(t, 1, write(t, s, e).Stored)
}

// A stored line that was damaged is not taken for the record that it was.
func TestDamagedLineIsNoRepeat(t *testing.T) {
	directory := t.TempDir()
	m := newMaker()
	entries := m.records(3)
	s := open(t, testConfig(directory))
	write(t, s, entries...)
	require.NoError(t, s.Close())
	path := filepath.Join(folder(directory), fileName(0))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(text, []byte("0001"), []byte("0007"), 1), 0o600))
	s = open(t, testConfig(directory))
	_, err = s.Write(t.Context(), entries, noRefusal)
	require.ErrorIs(t, err, sink.ErrConflict)
}

func TestRotation(t *testing.T) {
	directory := t.TempDir()
	config := testConfig(directory)
	config.MaxFileBytes = 1000
	s := open(t, config)
	m := newMaker()
	var all []sink.Entry
	for range 4 {
		all = append(all, m.records(5)...)
		all = append(all, m.checkpoint())
	}
	all = append(all, m.record())
	write(t, s, all...)
	assert.Equal(t, []string{fileName(0), fileName(5), fileName(10), fileName(15), fileName(20)}, names(t, folder(directory)))
	check(t, directory, all)

	require.NoError(t, s.Close())
	s = open(t, config)
	assert.Equal(t, len(all), write(t, s, all...).Repeated)
	check(t, directory, all)
}

// A file grows past its limit until a checkpoint comes, and a file that ended
// with one when the process did is followed by a new one all the same.
func TestRotationOnlyBehindCheckpoint(t *testing.T) {
	directory := t.TempDir()
	config := testConfig(directory)
	config.MaxFileBytes = 1000
	s := open(t, config)
	m := newMaker()
	all := m.records(50)
	write(t, s, all...)
	require.Len(t, names(t, folder(directory)), 1)
	all = append(all, m.checkpoint())
	write(t, s, all...)
	require.Len(t, names(t, folder(directory)), 1)
	require.NoError(t, s.Close())

	s = open(t, config)
	all = append(all, m.record())
	write(t, s, all...)
	assert.Equal(t, []string{fileName(0), fileName(50)}, names(t, folder(directory)))
	check(t, directory, all)
}

// A late checkpoint below the newest file's number starts no file: the names
// would no longer be in the order in which the files were written.
func TestLateCheckpointStartsNoFile(t *testing.T) {
	directory := t.TempDir()
	config := testConfig(directory)
	config.MaxFileBytes = 1
	s := open(t, config)
	m := newMaker()
	late := append(m.records(2), m.checkpoint())
	early := append(m.records(2), m.checkpoint(), m.record())
	write(t, s, early...)
	require.Equal(t, []string{fileName(0), fileName(4)}, names(t, folder(directory)))
	write(t, s, late[0])
	write(t, s, append(late[1:], m.record())...)
	write(t, s, m.record())
	assert.Equal(t, []string{fileName(0), fileName(4)}, names(t, folder(directory)))
	check(t, directory, append(early, late...))
}

func TestTornTail(t *testing.T) {
	m := newMaker()
	entries := append(m.records(3), m.checkpoint())
	next := m.record()
	line := string(appendLine(nil, &next))
	var size int
	for _, entry := range entries {
		size += len(appendLine(nil, &entry))
	}
	require.Greater(t, len(line), toSector(size), "a hole can begin in the line")
	for name, test := range map[string]struct {
		tail string
		kept bool
	}{
		"no newline":             {tail: strings.TrimSuffix(line, "\n")},
		"half a line":            {tail: line[:len(line)/2]},
		"unparsable":             {tail: "{\"chain\":oh\n", kept: true},
		"zero bytes":             {tail: string(make([]byte, 5000))},
		"a hole, then lines":     {tail: string(make([]byte, toSector(size))) + "\n" + line, kept: true},
		"a hole in a line":       {tail: line[:toSector(size)] + string(make([]byte, sector)) + line[toSector(size):], kept: true},
		"longer than the buffer": {tail: line[:len(line)-4] + strings.Repeat("x", 3*readSize)},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			s := open(t, testConfig(directory))
			write(t, s, entries...)
			require.NoError(t, s.Close())
			appendTo(t, filepath.Join(folder(directory), fileName(0)), test.tail)

			core, logs := observer.New(zap.DebugLevel)
			config := testConfig(directory)
			config.Logger = zap.New(core)
			s = open(t, config)
			result := write(t, s, append(slices.Clone(entries), next)...)
			assert.Equal(t, 4, result.Repeated)
			assert.Equal(t, 1, result.Stored)
			check(t, directory, append(slices.Clone(entries), next))
			require.Equal(t, 1, logs.Len())
			assert.EqualValues(t, len(test.tail), logs.All()[0].ContextMap()["bytes"])
			kept := names(t, folder(directory))[1:]
			if !test.kept {
				assert.Empty(t, kept)
				return
			}
			require.Len(t, kept, 1)
			text, err := os.ReadFile(filepath.Join(folder(directory), kept[0]))
			require.NoError(t, err)
			assert.Equal(t, test.tail, string(text))
		})
	}
}

// toSector says how many bytes are left to the end of the sector at offset.
func toSector(offset int) int { return sector - offset%sector }

// A zero byte that no power cut leaves costs nothing of what stands behind it.
func TestZeroByteIsDamage(t *testing.T) {
	m := newMaker()
	entries := m.records(20)
	directory := t.TempDir()
	s := open(t, testConfig(directory))
	write(t, s, entries...)
	require.NoError(t, s.Close())
	path := filepath.Join(folder(directory), fileName(0))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	text[bytes.Index(text, []byte("body"))] = 0
	require.NoError(t, os.WriteFile(path, text, 0o600))

	s = open(t, testConfig(directory))
	write(t, s, m.record())
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(after, text), "nothing was cut")
	require.Equal(t, 21, bytes.Count(after, []byte("\n")))
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// A damaged line is not the record of any index, index 0 least of all.
func TestDamageIsNoConflict(t *testing.T) {
	m := newMaker()
	entries := m.records(3)
	directory := t.TempDir()
	s := open(t, testConfig(directory))
	write(t, s, entries[:2]...)
	require.NoError(t, s.Close())
	appendTo(t, filepath.Join(folder(directory), fileName(0)), "damaged\n"+string(appendLine(nil, &entries[2])))

	s = open(t, testConfig(directory))
	result := write(t, s, entries...)
	assert.Equal(t, sink.Result{Repeated: 3}, counts(result))
}

// Damage with sound lines behind it is for the verifier to name: it stays.
func TestDamageInTheMiddleStays(t *testing.T) {
	directory := t.TempDir()
	m := newMaker()
	s := open(t, testConfig(directory))
	write(t, s, m.record())
	require.NoError(t, s.Close())
	path := filepath.Join(folder(directory), fileName(0))
	appendTo(t, path, "what is this\n")
	last := m.record()
	appendTo(t, path, string(appendLine(nil, &last)))
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	core, logs := observer.New(zap.ErrorLevel)
	config := testConfig(directory)
	config.Logger = zap.New(core)
	s = open(t, config)
	assert.Equal(t, 1, write(t, s, last).Repeated)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
	assert.Equal(t, 1, logs.Len())
}

func TestDirectoryIsLocked(t *testing.T) {
	directory := t.TempDir()
	s := open(t, testConfig(directory))
	_, err := Open(testConfig(directory))
	require.ErrorIs(t, err, durable.ErrLocked)
	require.ErrorContains(t, err, directory)
	require.ErrorContains(t, err, "give each its own `file::directory`")
	require.NoError(t, s.Close())
	open(t, testConfig(directory))
}

func TestClosed(t *testing.T) {
	s := open(t, testConfig(t.TempDir()))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err := s.Write(t.Context(), newMaker().records(1), noRefusal)
	require.ErrorIs(t, err, sink.ErrClosed)
}

func TestOriginMustBeOne(t *testing.T) {
	directory := t.TempDir()
	s := open(t, testConfig(filepath.Join(directory, "store")))
	for _, origin := range []string{
		"", "x", "../00112233445566ff/20261123T090700Z-0a0b0c0d", "./00112233445566ff/20261123T090700Z-0a0b0c0d",
		"/etc", testOrigin + "/..", testOrigin + "\n",
	} {
		m := newMaker()
		m.origin = origin
		_, err := s.Write(t.Context(), m.records(1), noRefusal)
		require.Error(t, err, origin)
	}
	assert.Equal(t, []string{"lock"}, names(t, filepath.Join(directory, "store")))
	entries, err := os.ReadDir(directory)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// More origins than are kept open: each is read again when its turn comes.
func TestManyOrigins(t *testing.T) {
	directory := t.TempDir()
	config := testConfig(directory)
	config.origins = 1
	s := open(t, config)
	first, second := newMaker(), newMaker()
	second.origin = otherOrigin
	var all []sink.Entry
	for range 5 {
		all = append(all, first.record(), second.record())
		write(t, s, all...)
		require.Len(t, s.origins, 1)
	}
	check(t, directory, all)
}

func TestFileMovedAway(t *testing.T) {
	directory := t.TempDir()
	s := open(t, testConfig(directory))
	m := newMaker()
	first, second := m.record(), m.record()
	write(t, s, first)
	path := filepath.Join(folder(directory), fileName(0))
	require.NoError(t, os.Rename(path, filepath.Join(directory, "rotated")))
	assert.Equal(t, 1, write(t, s, second).Stored)
	check(t, directory, []sink.Entry{second})
	assert.Equal(t, 1, s.Upkeep(t.Context(), nil).Reopened)
}

func TestFileTruncatedByOthers(t *testing.T) {
	directory := t.TempDir()
	core, logs := observer.New(zap.DebugLevel)
	config := testConfig(directory)
	config.Logger = zap.New(core)
	s := open(t, config)
	m := newMaker()
	m.size = 400
	first := m.record()
	m.size = 40
	all := []sink.Entry{first, m.record()}
	write(t, s, first)
	require.NoError(t, os.Truncate(filepath.Join(folder(directory), fileName(0)), 0))
	assert.Equal(t, 1, write(t, s, all[1]).Stored)
	assert.Equal(t, sink.Result{Stored: 1, Repeated: 1}, counts(write(t, s, all...)))
	check(t, directory, all)
	require.Equal(t, 1, logs.Len(), "the file was not filled up with zeros")
	assert.Contains(t, logs.All()[0].Message, "changed under the collector")
}

// Retention may remove older files while the sink runs.
func TestOldFileRemoved(t *testing.T) {
	directory := t.TempDir()
	config := testConfig(directory)
	config.MaxFileBytes = 1
	s := open(t, config)
	m := newMaker()
	all := append(m.records(2), m.checkpoint(), m.record())
	write(t, s, all...)
	require.NoError(t, os.Remove(filepath.Join(folder(directory), fileName(0))))
	assert.Equal(t, 1, write(t, s, m.record()).Stored)
	assert.Equal(t, 2, write(t, s, all...).Repeated, "the record and the checkpoint of the newest file")
}

func TestConcurrentWrites(t *testing.T) {
	directory := t.TempDir()
	config := testConfig(directory)
	config.MaxFileBytes = 4000
	s := open(t, config)
	m := newMaker()
	var all []sink.Entry
	for range 20 {
		all = append(all, m.records(5)...)
		all = append(all, m.checkpoint())
	}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range len(all) / 6 {
				part := all[i*6 : i*6+6]
				if worker%2 == 1 {
					part = all[len(all)-i*6-6 : len(all)-i*6]
				}
				_, err := s.Write(t.Context(), part, noRefusal)
				assert.NoError(t, err)
			}
		})
	}
	group.Wait()
	check(t, directory, all)
}

func TestCancelled(t *testing.T) {
	directory := t.TempDir()
	s := open(t, testConfig(directory))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := newMaker()
	e := m.record()
	_, err := s.Write(ctx, []sink.Entry{e}, noRefusal)
	require.ErrorIs(t, err, ctx.Err())
	assert.Equal(t, 1, write(t, s, e).Stored)
}
