// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// ward takes what a sink refuses, in memory.
type ward struct{ held map[string]bool }

func newWard() *ward { return &ward{held: map[string]bool{}} }

func (w *ward) refuse(e *sink.Entry, _ string) error {
	w.held[key(e.Link.Origin, coordinateOf(e))] = true
	return nil
}

func (w *ward) holds(e *sink.Entry) bool { return w.held[key(e.Link.Origin, coordinateOf(e))] }

// long is a record that limited refuses.
func (m *maker) long() sink.Entry {
	size := m.size
	m.size = 5000
	defer func() { m.size = size }()
	return m.record()
}

func limited(directory string) Config {
	config := testConfig(directory)
	config.MaxLineBytes = 4096
	return config
}

// lines returns the stored lines of the test origin in path order.
func lines(t *testing.T, directory string) []string {
	t.Helper()
	var all []byte
	for _, name := range names(t, folder(directory)) {
		text, err := os.ReadFile(filepath.Join(folder(directory), name))
		require.NoError(t, err)
		all = append(all, text...)
	}
	return slices.Collect(strings.Lines(string(all)))
}

func TestRefusedBecomesAStub(t *testing.T) {
	directory := t.TempDir()
	s := open(t, limited(directory))
	m := newMaker()
	entries := []sink.Entry{m.record(), m.long(), m.record(), m.checkpoint()}
	var reasons []string
	refuse := func(e *sink.Entry, reason string) error {
		assert.Equal(t, entries[1], *e)
		reasons = append(reasons, reason)
		return nil
	}
	result, err := s.Write(t.Context(), entries, refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 2, Refused: 1, Checkpoints: 1}, counts(result))
	require.Len(t, reasons, 1)
	assert.Regexp(t, `^its line of 5\d\d\d bytes is longer than .file::max_line_bytes., 4096$`, reasons[0])
	stored := lines(t, directory)
	require.Len(t, stored, 4)
	assert.Equal(t, string(appendStub(nil, &entries[1])), stored[1], "in its place")
	for _, i := range []int{0, 2} {
		assert.Equal(t, string(appendLine(nil, &entries[i])), stored[i])
	}
}

// The limit is that of the line without its line feed, to the byte.
func TestLimitIsExact(t *testing.T) {
	for _, more := range []int{0, 1} {
		m := newMaker()
		e := m.record()
		config := testConfig(t.TempDir())
		config.MaxLineBytes = len(appendLine(nil, &e)) - len("\n") - more
		w := newWard()
		result, err := open(t, config).Write(t.Context(), []sink.Entry{e}, w.refuse)
		require.NoError(t, err)
		assert.Equal(t, more, result.Refused)
		assert.Equal(t, more == 1, w.holds(&e))
	}
}

// What the collector itself makes has no limit: without it nothing could be
// verified.
func TestOursAreNeverRefused(t *testing.T) {
	directory := t.TempDir()
	config := testConfig(directory)
	config.MaxLineBytes = 1
	m := newMaker()
	control := m.long()
	control.Link.Stream = audit.StreamOrigin
	control.Hash = control.Link.Hash()
	result := write(t, open(t, config), control, m.checkpoint())
	assert.Equal(t, sink.Result{Stored: 1, Checkpoints: 1}, counts(result))
}

func TestStubComesAgain(t *testing.T) {
	directory := t.TempDir()
	m := newMaker()
	entries := []sink.Entry{m.record(), m.long(), m.record()}
	s := open(t, limited(directory))
	_, err := s.Write(t.Context(), entries, newWard().refuse)
	require.NoError(t, err)
	for name, config := range map[string]Config{"same limit": limited(directory), "raised": testConfig(directory)} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, s.Close())
			s = open(t, config)
			w := newWard()
			result, err := s.Write(t.Context(), append([]sink.Entry{entries[1]}, entries...), w.refuse)
			require.NoError(t, err)
			assert.Equal(t, sink.Result{Repeated: 4}, counts(result))
			assert.True(t, w.holds(&entries[1]), "told again")
			assert.Len(t, w.held, 1)
			assert.Len(t, lines(t, directory), 3)
		})
	}
	// A line that was stored before the limit was lowered stays stored.
	require.NoError(t, s.Close())
	config := testConfig(directory)
	config.MaxLineBytes = 1
	s = open(t, config)
	result, err := s.Write(t.Context(), []sink.Entry{entries[0]}, noRefusal)
	require.NoError(t, err)
	assert.Equal(t, 1, result.Repeated)

	forged := entries[1]
	forged.Link.SealedAt++
	forged.Hash = forged.Link.Hash()
	_, err = s.Write(t.Context(), []sink.Entry{forged}, noRefusal)
	require.ErrorIs(t, err, sink.ErrConflict, "a stub binds its record")
}

// Where the record cannot be kept there is no stub, and nothing else of the
// batch is taken for granted.
func TestFailedRefusalStoresNoStub(t *testing.T) {
	directory := t.TempDir()
	s := open(t, limited(directory))
	m := newMaker()
	entries := []sink.Entry{m.record(), m.long(), m.record()}
	full := errors.New("no room")
	_, err := s.Write(t.Context(), entries, func(*sink.Entry, string) error { return full })
	require.ErrorIs(t, err, full)
	require.ErrorContains(t, err, "index 1")
	for _, line := range lines(t, directory) {
		assert.NotContains(t, line, `"gone"`)
	}
	_, err = s.Write(t.Context(), entries, newWard().refuse)
	require.NoError(t, err)
	assert.Len(t, lines(t, directory), 3)
}

func TestReplay(t *testing.T) {
	directory := t.TempDir()
	m := newMaker()
	entries := []sink.Entry{m.record(), m.long(), m.record(), m.checkpoint()}
	s := open(t, limited(directory))
	_, err := s.Write(t.Context(), entries, newWard().refuse)
	require.NoError(t, err)
	_, err = s.Replay(t.Context(), &entries[1])
	require.ErrorIs(t, err, sink.ErrRefused)
	missing := m.record()
	_, err = s.Replay(t.Context(), &missing)
	require.ErrorIs(t, err, sink.ErrNoStub)
	require.Len(t, lines(t, directory), 4)
	require.NoError(t, s.Close())

	s = open(t, testConfig(directory))
	forged := entries[1]
	forged.Link.SealedAt++
	forged.Hash = forged.Link.Hash()
	_, err = s.Replay(t.Context(), &forged)
	require.ErrorIs(t, err, sink.ErrConflict)
	result, err := s.Replay(t.Context(), &entries[1])
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 1}, counts(result))
	for _, restart := range []bool{false, true} {
		if restart {
			require.NoError(t, s.Close())
			s = open(t, testConfig(directory))
		}
		result, err = s.Replay(t.Context(), &entries[1])
		require.NoError(t, err)
		assert.Equal(t, sink.Result{Repeated: 1}, counts(result))
		assert.Equal(t, 4, write(t, s, entries...).Repeated, "it is no stub any more")
	}
	stored := lines(t, directory)
	require.Len(t, stored, 5)
	assert.Equal(t, string(appendLine(nil, &entries[1])), stored[4])
	require.NoError(t, s.Close())
	_, err = s.Replay(t.Context(), &entries[1])
	require.ErrorIs(t, err, sink.ErrClosed)
}

// keeping is the disk of the fault tests, and a quarantine whose Put counts as
// one more operation on it.
type keeping struct {
	*faulty
	*ward
}

func newKeeping() *keeping { return &keeping{newFaulty(), newWard()} }

func (k *keeping) refuse(e *sink.Entry, reason string) error {
	return k.do("quarantine", func() error { return k.ward.refuse(e, reason) })
}

// poisonedBatches are batches with records that are refused: between others, at
// a rotation, and alone.
func poisonedBatches() [][]sink.Entry {
	m := newMaker()
	first := append(m.records(2), m.long(), m.record())
	second := []sink.Entry{m.record(), m.checkpoint(), m.long(), m.checkpoint()}
	return [][]sink.Entry{first, second, {m.long()}}
}

func keepingConfig(directory string, files fileSystem) Config {
	config := faultConfig(directory, files)
	config.MaxLineBytes = 4096
	return config
}

// deliverPoisoned sends each batch until it is acknowledged, and then has the
// first refused record replayed as an operator would who raised the limit.
func deliverPoisoned(t *testing.T, s *Sink, refuse sink.Refuse, acknowledge func([]sink.Entry)) (failures int) {
	t.Helper()
	again := func(do func() error) {
		for attempt := 0; ; attempt++ {
			err := do()
			if err == nil {
				return
			}
			require.Less(t, attempt, 5, "%v", err)
			require.ErrorIs(t, err, errFault)
			failures++
		}
	}
	for _, batch := range poisonedBatches() {
		again(func() error {
			_, err := s.Write(t.Context(), batch, refuse)
			return err
		})
		acknowledge(batch)
	}
	s.config.MaxLineBytes = 1 << 20
	replayed := poisonedBatches()[0][2]
	again(func() error {
		_, err := s.Replay(t.Context(), &replayed)
		return err
	})
	acknowledge([]sink.Entry{replayed})
	return failures
}

// checkPoisoned is the invariant with refused records: what was acknowledged is
// stored whole, or as a stub and then in quarantine; a stub is nowhere without
// that; nothing is stored twice.
func checkPoisoned(t *testing.T, directory string, held map[string]bool, acknowledged []sink.Entry) {
	t.Helper()
	whole, stubs := map[string]bool{}, map[string]bool{}
	if _, err := os.Stat(folder(directory)); err == nil {
		var before string
		for _, line := range lines(t, directory) {
			if line == before && strings.HasPrefix(line, `{"checkpoint"`) {
				continue // repeated at a rotation
			}
			before = line
			if !strings.HasSuffix(line, "\n") {
				continue // torn
			}
			found := key(testOrigin, checkLine(t, testOrigin, []byte(line)))
			into := whole
			if strings.HasSuffix(line, `"gone":"quarantined"}`+"\n") {
				into = stubs
				require.True(t, held[found], "%s is a stub and not in quarantine", found)
			}
			require.False(t, into[found], "%s is stored twice", found)
			into[found] = true
		}
	}
	for i := range acknowledged {
		at := key(testOrigin, coordinateOf(&acknowledged[i]))
		require.True(t, whole[at] || stubs[at] && held[at], "%s is acknowledged and nowhere", at)
	}
}

// poisonedOperations names every operation of a delivery with refused records.
func poisonedOperations(t *testing.T) []string {
	t.Helper()
	files := newKeeping()
	s := open(t, keepingConfig(t.TempDir(), files))
	require.Zero(t, deliverPoisoned(t, s, files.refuse, func([]sink.Entry) {}))
	require.NoError(t, s.Close())
	return files.ops
}

// The table of faults must not lose a row: each refused record is kept before
// the write that makes its stub, and each step of the replay is there.
func TestPoisonedOperations(t *testing.T) {
	ops := poisonedOperations(t)
	for _, name := range []string{"mkdir", "create", "write", "sync", "rename", "syncDir", "quarantine", "read"} {
		require.Contains(t, ops, name)
	}
	kept := 0
	for i, name := range ops {
		if name == "quarantine" {
			kept++
			require.Contains(t, ops[i:], "write")
		}
	}
	require.Equal(t, 3, kept)
	end := ops[len(ops)-3:]
	require.Equal(t, []string{"read", "write", "sync"}, end, "the replay")
}

func TestEveryFaultWithRefusals(t *testing.T) {
	for at, name := range poisonedOperations(t) {
		for _, kind := range []fault{failed, failedDone, failedShort} {
			t.Run(fmt.Sprintf("operation %d/%s/fault %d", at+1, name, kind), func(t *testing.T) {
				directory := t.TempDir()
				files := newKeeping()
				files.at, files.fault = at+1, kind
				s := open(t, keepingConfig(directory, files))
				var acknowledged []sink.Entry
				failures := deliverPoisoned(t, s, files.refuse, func(batch []sink.Entry) {
					acknowledged = append(acknowledged, batch...)
					checkPoisoned(t, directory, files.held, acknowledged)
				})
				require.Equal(t, 1, failures, "the fault was not told")
				require.NoError(t, s.Close())
				restartedPoisoned(t, directory, files.held)
			})
		}
	}
}

// restartedPoisoned delivers all of it again to what a crash left.
func restartedPoisoned(t *testing.T, directory string, held map[string]bool) {
	t.Helper()
	files := newKeeping()
	for at := range held {
		files.held[at] = true
	}
	s := open(t, keepingConfig(directory, files))
	var acknowledged []sink.Entry
	require.Zero(t, deliverPoisoned(t, s, files.refuse, func(batch []sink.Entry) { acknowledged = append(acknowledged, batch...) }))
	require.NoError(t, s.Close())
	checkPoisoned(t, directory, files.held, acknowledged)
	replayed := poisonedBatches()[0][2]
	text := string(bytes.TrimSuffix(appendLine(nil, &replayed), []byte("\n")))
	require.True(t, slices.ContainsFunc(lines(t, directory), func(line string) bool {
		return strings.TrimSuffix(line, "\n") == text
	}), "the replayed record is stored whole")
}

// Killed, or without power, before each operation and in the middle of each
// write: no stub is on the disk whose record is not in quarantine.
func TestEveryCrashWithRefusals(t *testing.T) {
	var crashes []func(*testing.T)
	directory := t.TempDir()
	files := newKeeping()
	var acknowledged []sink.Entry
	files.before = func() {
		killed, powerless := t.TempDir(), t.TempDir()
		copyKilled(t, directory, killed)
		files.copyPowerCut(t, directory, powerless)
		then, operation, held := acknowledged, files.count, map[string]bool{}
		for at := range files.held {
			held[at] = true
		}
		for name, crashed := range map[string]string{"killed": killed, "power cut": powerless} {
			crashes = append(crashes, func(t *testing.T) {
				t.Run(fmt.Sprintf("%s before %d", name, operation), func(t *testing.T) {
					checkPoisoned(t, crashed, held, then)
					restartedPoisoned(t, crashed, held)
				})
			})
		}
	}
	s := open(t, keepingConfig(directory, files))
	require.Zero(t, deliverPoisoned(t, s, files.refuse, func(batch []sink.Entry) {
		acknowledged = append(acknowledged, batch...)
	}))
	files.before()
	require.Greater(t, len(crashes), 40)
	for _, crash := range crashes {
		crash(t)
	}
}

// Lines are found in any order: a stub behind its record changes nothing.
func TestStubBehindItsRecord(t *testing.T) {
	directory := t.TempDir()
	m := newMaker()
	e := m.record()
	s := open(t, testConfig(directory))
	write(t, s, e)
	require.NoError(t, s.Close())
	appendTo(t, filepath.Join(folder(directory), fileName(0)), string(appendStub(nil, &e)))
	assert.Equal(t, sink.Result{Repeated: 1}, counts(write(t, open(t, testConfig(directory)), e)))
}
