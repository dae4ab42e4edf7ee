// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelaudit/otelaudit/audit/verify"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/durable"
)

// disturbed writes the first two batches of a life, has them disturbed, and
// writes the third: it must be acknowledged, stored, and told of once.
func disturbed(t *testing.T, disturb func(t *testing.T, directory, path string)) (directory string, batches [][]sink.Entry) {
	t.Helper()
	directory = filepath.Join(t.TempDir(), "store")
	core, logs := observer.New(zap.ErrorLevel)
	config := testConfig(directory)
	config.MaxFileBytes = 3500
	config.Logger = zap.New(core)
	s := open(t, config)
	batches = history(t, 1, 4)
	for _, batch := range batches[:3] {
		write(t, s, batch...)
	}
	at := filepath.Join(directory, filepath.FromSlash(batches[0][0].Link.Origin))
	listed := names(t, at)
	require.Len(t, listed, 2)
	disturb(t, directory, filepath.Join(at, listed[1]))

	result := write(t, s, batches[3]...)
	require.Equal(t, len(batches[3])-1, result.Stored)
	require.Equal(t, 1, logs.Len())
	require.Equal(t, 1, s.Upkeep(t.Context(), nil).Reopened)
	write(t, s, batches[4]...)
	require.Equal(t, 1, logs.Len(), "told of more than once")
	for _, batch := range batches[3:] {
		require.Equal(t, len(batch), write(t, s, batch...).Repeated)
	}
	require.NoError(t, s.Close())
	s = open(t, config)
	for _, batch := range batches[3:] {
		require.Equal(t, len(batch), write(t, s, batch...).Repeated, "known again after a restart")
	}
	return directory, batches
}

// requireHole requires that verification names what the file held, and nothing
// else: what came later is sound.
func requireHole(t *testing.T, directory string) {
	t.Helper()
	report := verifyStore(t, directory)
	require.Equal(t, []verify.Kind{verify.Missing}, withoutTail(report), "%+v", report.Findings)
}

// What logrotate does: the file is renamed. The store goes on in a new one, and
// with the moved one back in its place it is whole.
func TestReopensWhenTheFileWasMovedAway(t *testing.T) {
	var moved, place string
	directory, _ := disturbed(t, func(t *testing.T, directory, path string) {
		moved, place = filepath.Join(filepath.Dir(directory), "rotated"), path
		require.NoError(t, os.Rename(path, moved))
	})
	requireHole(t, directory)
	require.NoFileExists(t, place, "the new file begins with the newest checkpoint")
	require.NoError(t, os.Rename(moved, place))
	require.Empty(t, withoutTail(verifyStore(t, directory)))
}

// vault #31718: the file is deleted, and nobody hears of it.
func TestReopensWhenTheFileWasDeleted(t *testing.T) {
	directory, _ := disturbed(t, func(t *testing.T, _, path string) { require.NoError(t, os.Remove(path)) })
	requireHole(t, directory)
}

// What logrotate does with copytruncate.
func TestReopensWhenTheFileWasEmptied(t *testing.T) {
	directory, _ := disturbed(t, func(t *testing.T, _, path string) { require.NoError(t, os.Truncate(path, 0)) })
	requireHole(t, directory)
}

func TestReopensWhenTheDirectoryWasDeleted(t *testing.T) {
	directory, _ := disturbed(t, func(t *testing.T, directory, _ string) { require.NoError(t, os.RemoveAll(directory)) })
	requireHead(t, directory)
}

func TestReopensWhenTheDirectoryWasReplaced(t *testing.T) {
	directory, _ := disturbed(t, func(t *testing.T, directory, _ string) {
		require.NoError(t, os.Rename(directory, directory+".away"))
		require.NoError(t, os.Mkdir(directory, dirMode))
	})
	requireHead(t, directory)
	_, err := Open(testConfig(directory))
	require.ErrorIs(t, err, durable.ErrLocked, "the new directory is locked")
}

// requireHead requires a store that begins later than its log, and is sound.
func requireHead(t *testing.T, directory string) {
	t.Helper()
	report := verifyStore(t, directory)
	require.Equal(t, []verify.Kind{verify.OpenHead}, withoutTail(report), "%+v", report.Findings)
}

// Somebody else has the new directory: nothing is written to it, and every
// attempt says why.
func TestReplacedDirectoryOfAnother(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "store")
	s := open(t, testConfig(directory))
	m := newMaker()
	write(t, s, m.record())
	require.NoError(t, os.Rename(directory, directory+".away"))
	other := open(t, testConfig(directory))
	next := m.record()
	for range 3 {
		_, err := s.Write(t.Context(), []sink.Entry{next}, noRefusal)
		require.ErrorIs(t, err, durable.ErrLocked)
		require.ErrorContains(t, err, "stop what writes to it")
	}
	require.Empty(t, stored(t, directory))
	require.NoError(t, other.Close())
	assert.Equal(t, 1, write(t, s, next).Stored)
	check(t, directory, []sink.Entry{next})
}

// The file goes while a batch is written that fills more than one: all of the
// batch is stored, what was in the file included.
func TestFileMovedInTheMiddleOfABatch(t *testing.T) {
	directory := t.TempDir()
	files := newFaulty()
	s := open(t, faultConfig(directory, files))
	m := newMaker()
	batch := append(m.records(4), m.checkpoint())
	batch = append(batch, append(m.records(4), m.checkpoint(), m.record())...)
	writes := 0
	files.begin = func(name string) {
		if name != "write" {
			return
		}
		if writes++; writes == 6 {
			require.NoError(t, os.RemoveAll(directory))
		}
	}
	write(t, s, batch...)
	require.GreaterOrEqual(t, writes, 7)
	check(t, directory, batch)
}

// A store of which only sealed files are left, after a restart: they get no more
// lines.
func TestSealedFilesStayAsTheyAre(t *testing.T) {
	directory := t.TempDir()
	config := testConfig(directory)
	config.MaxFileBytes = 3500
	batches := history(t, 1, 4)
	s := open(t, config)
	write(t, s, flatten(batches[:3])...)
	require.NoError(t, s.Close())
	at := filepath.Join(directory, filepath.FromSlash(batches[0][0].Link.Origin))
	listed := names(t, at)
	require.NoError(t, os.Remove(filepath.Join(at, listed[len(listed)-1])))
	before, err := os.ReadFile(filepath.Join(at, listed[0]))
	require.NoError(t, err)

	write(t, open(t, config), flatten(batches[3:])...)
	after, err := os.ReadFile(filepath.Join(at, listed[0]))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
	requireHole(t, directory)
}

func TestRotationByAge(t *testing.T) {
	directory := t.TempDir()
	config := testConfig(directory)
	config.MaxFileAge = 10 * time.Second
	seal := newSealer(t)
	seal.start()
	var all []sink.Entry
	for range 9 {
		s := open(t, config) // no state but the files'
		seal.events(3)       // a second each
		seal.checkpoint()
		batch := seal.take()
		all = append(all, batch...)
		write(t, s, batch...)
		require.NoError(t, s.Close())
	}
	at := filepath.Join(directory, filepath.FromSlash(all[0].Link.Origin))
	require.Equal(t, []string{fileName(0), fileName(13), fileName(25)}, names(t, at))
	checkManifests(t, at, all[0].Link.Origin)
	checkSealed(t, at)
	require.Empty(t, withoutTail(verifyStore(t, directory)))

	// A backlog that comes late and at once makes the same files.
	late := t.TempDir()
	config.Directory = late
	write(t, open(t, config), all...)
	require.Equal(t, stored(t, directory), stored(t, late))
}

// Files of older versions, and of a life that is over, get their manifests.
func TestManifestsAreMadeUpFor(t *testing.T) {
	directory := t.TempDir()
	batches := history(t, 2, 3)
	s := open(t, retaining(directory, Retention{}))
	write(t, s, flatten(batches[:3])...)
	require.NoError(t, s.Close())
	life := batches[0][0].Link.Origin
	at := filepath.Join(directory, filepath.FromSlash(life))
	list, err := listFolder(disk{}, at)
	require.NoError(t, err)
	require.NotEmpty(t, list.manifests)
	for first := range list.manifests {
		require.NoError(t, os.Remove(filepath.Join(at, manifestName(first))))
		require.NoError(t, os.Chmod(filepath.Join(at, fileName(first)), fileMode))
	}

	s = open(t, retaining(directory, Retention{}))
	for _, batch := range batches[3:] {
		deliverInOrder(t, s, batch)
	}
	list, err = listFolder(disk{}, at)
	require.NoError(t, err)
	require.Len(t, list.manifests, len(list.files), "the last file of a life that is over is sealed as well")
	checkManifests(t, at, life)
	// What comes again is known; nothing is added.
	require.Equal(t, len(batches[2]), write(t, s, batches[2]...).Repeated)
	require.Empty(t, withoutTail(verifyStore(t, directory)))
}

func TestFreeRoom(t *testing.T) {
	directory := t.TempDir()
	files := &roomy{left: 1000}
	now := time.Unix(0, 0)
	config := testConfig(directory)
	config.files, config.MinFreeBytes, config.now = files, 500, func() time.Time { return now }
	s := open(t, config)
	condition := s.Upkeep(t.Context(), nil)
	require.NoError(t, condition.Trouble)
	require.Equal(t, int64(1000), condition.FreeBytes)

	files.left = 400
	condition = s.Upkeep(t.Context(), nil)
	require.NoError(t, condition.Trouble)
	require.Negative(t, condition.FreeBytes, "asked again at once")
	now = now.Add(upkeepEvery)
	condition = s.Upkeep(t.Context(), nil)
	require.ErrorContains(t, condition.Trouble, "400 bytes left")
	require.Equal(t, int64(400), condition.FreeBytes)
	write(t, s, newMaker().record())
	require.Error(t, s.Upkeep(t.Context(), nil).Trouble, "it lasts")

	files.left = 600
	now = now.Add(upkeepEvery)
	require.NoError(t, s.Upkeep(t.Context(), nil).Trouble)

	free, err := disk{}.free(directory)
	require.NoError(t, err)
	require.Positive(t, free)
}

// roomy is a disk with so much room.
type roomy struct {
	disk
	left int64
}

func (r *roomy) free(string) (int64, error) { return r.left, nil }
