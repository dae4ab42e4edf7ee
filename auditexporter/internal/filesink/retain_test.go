// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

func sum(text []byte) chain.Hash { return sha256.Sum256(text) }

// retaining is a configuration of small files, which looks after them each time.
func retaining(directory string, keep Retention) Config {
	config := testConfig(directory)
	config.MaxFileBytes = 1000
	config.Retention = keep
	now := time.Unix(0, newSealer(nil).now)
	config.now = func() time.Time {
		now = now.Add(upkeepEvery)
		return now
	}
	return config
}

// history is a log of some lives, in so many batches of one file each. The names
// of the lives are not in their order.
func history(t testing.TB, lives, files int) (batches [][]sink.Entry) {
	s := newSealer(t)
	for range lives {
		s.start()
		for range files {
			s.events(5)
			s.checkpoint()
			batches = append(batches, s.take())
		}
	}
	s.events(2)
	return append(batches, s.take())
}

// What is left after a retention cut is sound, and its head is open.
func requireCut(t testing.TB, directory string) {
	t.Helper()
	report := verifyStore(t, directory)
	require.Equal(t, []verify.Kind{verify.OpenHead}, withoutTail(report), "%+v", report.Findings)
}

// withoutTail leaves out what a store of a running collector may well have.
func withoutTail(r verify.Report) []verify.Kind {
	var rest []verify.Kind
	for _, kind := range kinds(r) {
		if kind != verify.OpenTail && kind != verify.Reordered {
			rest = append(rest, kind)
		}
	}
	return rest
}

func TestRetentionByBytes(t *testing.T) {
	directory := t.TempDir()
	core, logs := observer.New(zap.InfoLevel)
	config := retaining(directory, Retention{MaxBytes: 8000})
	config.Logger = zap.New(core)
	s := open(t, config)
	batches := history(t, 3, 4)
	removed := 0
	for _, batch := range batches {
		condition := deliverInOrder(t, s, batch)
		removed += condition.Removed
		if removed == 0 {
			require.Empty(t, withoutTail(verifyStore(t, directory)))
		} else {
			requireCut(t, directory)
		}
	}
	require.Greater(t, removed, 4)
	total := int64(0)
	for _, name := range stored(t, directory) {
		size, err := disk{}.size(filepath.Join(directory, name))
		require.NoError(t, err)
		total += size
	}
	assert.Less(t, total, int64(8000+2*4000), "what came in since is not counted yet")
	entries := logs.FilterMessage("retention removed an audit file").All()
	require.Len(t, entries, removed)
	assert.Len(t, entries[0].ContextMap()["sha256"], 64)
}

func TestRetentionByAge(t *testing.T) {
	directory := t.TempDir()
	s := open(t, retaining(directory, Retention{MaxAge: 12 * time.Second}))
	batches := history(t, 3, 4)
	for _, batch := range batches {
		deliverInOrder(t, s, batch)
	}
	requireCut(t, directory)
	newest := batches[len(batches)-1][0].Link.SealedAt
	for _, name := range stored(t, directory) {
		text, err := os.ReadFile(filepath.Join(directory, name))
		require.NoError(t, err)
		var first uint64
		_, err = fmt.Sscanf(filepath.Base(name), "%d.jsonl", &first)
		require.NoError(t, err)
		m := describe(t, filepath.ToSlash(filepath.Dir(name)), first, text)
		assert.LessOrEqual(t, newest-m.latest, int64(12*time.Second), name)
	}
}

// A clock that leaps ahead does not make all that is stored old, and shows while
// it is ahead.
func TestRetentionAfterALeapOfTheClock(t *testing.T) {
	directory := t.TempDir()
	core, logs := observer.New(zap.ErrorLevel)
	config := retaining(directory, Retention{MaxAge: 24 * time.Hour})
	config.Logger = zap.New(core)
	s := open(t, config)
	maker := newSealer(t)
	for life := range 3 {
		maker.start()
		for range 4 {
			maker.events(5)
			maker.checkpoint()
			batch := maker.take()
			condition := s.Upkeep(t.Context(), &batch[0])
			assert.Zero(t, condition.Removed)
			if life == 1 {
				require.ErrorContains(t, condition.Trouble, "leapt ahead")
			} else {
				require.NoError(t, condition.Trouble)
			}
			write(t, s, batch...)
		}
		switch life {
		case 0:
			maker.now += int64(10 * 365 * 24 * time.Hour)
		case 1:
			maker.now -= int64(10 * 365 * 24 * time.Hour)
		}
	}
	require.Empty(t, withoutTail(verifyStore(t, directory)))
	require.Len(t, logs.FilterMessageSnippet("retention by age rests").All(), 1)
}

// A whole life goes, with its folder, once a later one is there.
func TestRetentionRemovesWholeLives(t *testing.T) {
	directory := t.TempDir()
	s := open(t, retaining(directory, Retention{MaxBytes: 1}))
	batches := history(t, 3, 4)
	for _, batch := range batches {
		deliverInOrder(t, s, batch)
	}
	requireCut(t, directory)
	lives := map[string]bool{}
	for _, name := range stored(t, directory) {
		lives[filepath.Dir(name)] = true
	}
	require.Len(t, lives, 1)
	folders, err := os.ReadDir(filepath.Join(directory, "host-1", "00112233445566ff"))
	require.NoError(t, err)
	require.Len(t, folders, 1, "empty folders stay")
}

// Nobody says that anything is delivered, or only some of it is: what is not
// stays.
func TestRetentionKeepsWhatIsNotDelivered(t *testing.T) {
	batches := history(t, 3, 4)
	t.Run("nothing known", func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		directory := t.TempDir()
		config := retaining(directory, Retention{MaxBytes: 1, MaxAge: 1})
		config.Logger = zap.New(core)
		s := open(t, config)
		for _, batch := range batches {
			require.Zero(t, s.Upkeep(t.Context(), nil).Removed)
			write(t, s, batch...)
		}
		require.Empty(t, withoutTail(verifyStore(t, directory)))
		require.Equal(t, 1, logs.FilterMessageSnippet("retention removes nothing").Len(), "once")
	})
	t.Run("another sink is behind", func(t *testing.T) {
		directory := t.TempDir()
		s := open(t, retaining(directory, Retention{MaxBytes: 1, MaxAge: 1}))
		// All of it is stored here, and the forwarder repeats a batch for a
		// sink that has it not.
		write(t, s, flatten(batches)...)
		for range 5 {
			deliverInOrder(t, s, batches[2])
		}
		requireCut(t, directory)
		index := batches[2][0].Link.Index
		at := filepath.Join(directory, filepath.FromSlash(batches[2][0].Link.Origin))
		for _, name := range names(t, at) {
			first, ok := parseName(name, ".jsonl")
			require.True(t, ok)
			require.GreaterOrEqual(t, first+6, index, "%s is older than need be", name)
		}
		require.NotEmpty(t, names(t, at))
		// Everything from there on is there.
		for _, batch := range batches[2:] {
			require.Equal(t, len(batch), write(t, s, batch...).Repeated)
		}
	})
}

// A log whose deliveries are not known is not touched, and neither is a life
// that no start record leads to.
func TestRetentionKeepsOtherLogs(t *testing.T) {
	directory := t.TempDir()
	stray := filepath.Join(directory, "host-1", "00112233445566ff", "20200101T000000Z-00000001")
	other := filepath.Join(directory, "host-1", "ffeeddccbbaa9988", "20200101T000000Z-00000001")
	for _, at := range []string{stray, other} {
		require.NoError(t, os.MkdirAll(at, dirMode))
		require.NoError(t, os.WriteFile(filepath.Join(at, fileName(0)), []byte("kept\n"), fileMode))
	}
	s := open(t, retaining(directory, Retention{MaxBytes: 1}))
	batches := history(t, 3, 4)
	for _, batch := range batches {
		deliverInOrder(t, s, batch)
	}
	for _, at := range []string{stray, other} {
		require.FileExists(t, filepath.Join(at, fileName(0)))
	}
}

// What retention has removed is not stored again when it is delivered again,
// also after a restart.
func TestRemovedIsStored(t *testing.T) {
	directory := t.TempDir()
	s := open(t, retaining(directory, Retention{MaxBytes: 1}))
	batches := history(t, 3, 4)
	life := batches[:4]
	for _, batch := range life {
		deliverInOrder(t, s, batch)
	}
	before := stored(t, directory)
	require.Less(t, len(before), 4)
	for _, batch := range life {
		require.Equal(t, len(batch), write(t, s, batch...).Repeated)
	}
	require.NoError(t, s.Close())
	s = open(t, retaining(directory, Retention{}))
	for _, batch := range life {
		require.Equal(t, len(batch), write(t, s, batch...).Repeated)
	}
	require.Equal(t, before, stored(t, directory))
	requireCut(t, directory)

	_, err := s.Replay(t.Context(), &life[0][2])
	require.ErrorIs(t, err, sink.ErrNoStub, "its stub went as well")
}

// A record that was replayed stands in a later file, with an early index: it
// goes together with what is around its index, so that no gap appears.
func TestRetentionOfReplayed(t *testing.T) {
	directory := t.TempDir()
	config := retaining(directory, Retention{MaxBytes: 1})
	s := open(t, config)
	batches := history(t, 3, 4)
	late := batches[0][3]
	first := append(append([]sink.Entry{}, batches[0][:3]...), batches[0][4:]...)
	write(t, s, first...)
	write(t, s, batches[1]...)
	write(t, s, late)
	write(t, s, batches[2]...)
	require.Zero(t, deliverInOrder(t, s, batches[2]).Removed, "the newest delivered files hold the late record")
	require.Empty(t, withoutTail(verifyStore(t, directory)))
	deliverInOrder(t, s, batches[3])
	require.Positive(t, deliverInOrder(t, s, batches[4]).Removed+deliverInOrder(t, s, batches[5]).Removed)
	requireCut(t, directory)
}

func TestDivide(t *testing.T) {
	file := func(low, high uint64) old {
		return old{manifest: manifest{records: span{low, high, true}}}
	}
	for name, c := range map[string]struct {
		files []old
		least uint64
		want  []int
	}{
		"in order":          {[]old{file(0, 4), file(5, 9)}, 10, []int{1, 1}},
		"late in the next":  {[]old{file(0, 4), file(2, 9), file(10, 14)}, 15, []int{2, 1}},
		"late in the rest":  {[]old{file(0, 4), file(5, 9)}, 2, nil},
		"late behind a cut": {[]old{file(0, 4), file(5, 9), file(10, 14)}, 7, []int{1}},
	} {
		var sizes []int
		for _, group := range divide(c.files, c.least) {
			sizes = append(sizes, len(group))
		}
		assert.Equal(t, c.want, sizes, name)
	}
}

// Whatever single operation of sealing and removing fails, or is the last one
// before a crash: no store is left that verification misjudges, and in the end
// all is as without.
func TestRetentionFaults(t *testing.T) {
	batches := history(t, 2, 2)
	run := func(t *testing.T, directory string, files *faulty) []string {
		config := retaining(directory, Retention{MaxBytes: 1})
		config.files = files
		s := open(t, config)
		for _, batch := range batches {
			for attempt := 0; ; attempt++ {
				require.Less(t, attempt, 5)
				trouble := s.Upkeep(t.Context(), &batch[0]).Trouble
				if _, err := s.Write(t.Context(), batch, noRefusal); err == nil && trouble == nil {
					break
				}
			}
		}
		for range 2 { // the first one may be the one that fails
			s.Upkeep(t.Context(), &batches[len(batches)-1][0])
		}
		requireCut(t, directory)
		require.NoError(t, s.Close())
		return stored(t, directory)
	}
	files := newFaulty()
	want := run(t, t.TempDir(), files)
	last, removals := files.count, strings.Count(strings.Join(files.ops, " "), "remove")
	require.Greater(t, removals, 4)
	for at := 1; at <= last; at++ {
		for _, kind := range []fault{failed, failedDone} {
			files := newFaulty()
			files.at, files.fault = at, kind
			directory := t.TempDir()
			require.Equal(t, want, run(t, directory, files), "operation %d, fault %d: %s", at, kind, files.ops[at-1])
		}
	}
	crashed := newFaulty()
	directory := t.TempDir()
	crashed.begin = func(name string) {
		if name != "remove" && name != "syncDir" {
			return
		}
		killed, powerless := t.TempDir(), t.TempDir()
		copyKilled(t, directory, killed)
		crashed.copyPowerCut(t, directory, powerless)
		for _, at := range []string{killed, powerless} {
			report := verifyStore(t, at)
			for _, kind := range withoutTail(report) {
				require.Equal(t, verify.OpenHead, kind, "%+v", report.Findings)
			}
		}
	}
	run(t, directory, crashed)
}

// What went wrong is told also where the time for it was over.
func TestUpkeepTellsFaultsThoughTimeIsOver(t *testing.T) {
	batches := history(t, 2, 2)
	config := retaining(t.TempDir(), Retention{MaxBytes: 1})
	files := newFaulty()
	config.files = files
	core, logs := observer.New(zap.ErrorLevel)
	config.Logger = zap.New(core)
	s := open(t, config)
	newest := batches[len(batches)-1]
	for _, batch := range batches {
		write(t, s, batch...)
	}
	late, cancel := context.WithCancel(t.Context())
	files.begin = func(name string) {
		if name == "remove" {
			cancel()
			files.at, files.fault = files.count+1, failed // the one that begins
			files.begin = func(string) {}
		}
	}
	require.Error(t, s.Upkeep(late, &newest[0]).Trouble)
	require.Equal(t, 1, logs.FilterMessageSnippet("could not be sealed or removed").Len())
	require.NoError(t, s.Upkeep(t.Context(), &newest[0]).Trouble)
}

// A pass that time cut short does not say that what failed before is over.
func TestCutUpkeepKeepsTheFault(t *testing.T) {
	batches := history(t, 2, 2)
	config := retaining(t.TempDir(), Retention{MaxBytes: 1})
	s := open(t, config)
	for _, batch := range batches {
		write(t, s, batch...)
	}
	s.upkeep.failure = errors.New("failed before")
	for _, o := range s.origins { // as after a start: there is something to read
		require.NoError(t, s.forget(o))
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	newest := batches[len(batches)-1]
	require.Error(t, s.Upkeep(over, &newest[0]).Trouble)
	require.NoError(t, s.Upkeep(t.Context(), &newest[0]).Trouble)
}
