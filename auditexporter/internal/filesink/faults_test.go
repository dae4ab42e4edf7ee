// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

var errFault = errors.New("injected fault")

// fault is what happens to one operation.
type fault uint8

const (
	none        fault = iota
	failed            // the operation fails and does nothing
	failedDone        // the operation does its work and fails
	failedShort       // half of a write is done, then it fails
)

// faulty is the disk with a fault at one operation, counted over all, and a
// memory of what would survive a power cut.
type faulty struct {
	disk
	at     int // operation number, from 1; 0 is never
	fault  fault
	count  int
	ops    []string
	before func() // called before each operation, and in the middle of writes
	begin  func(name string)

	synced  map[string]int64 // path → durable length
	entries map[string]bool  // paths whose directory entry is durable
}

func newFaulty() *faulty {
	return &faulty{before: func() {}, begin: func(string) {}, synced: map[string]int64{}, entries: map[string]bool{}}
}

// do runs one operation, or its fault.
func (f *faulty) do(name string, operation func() error) error {
	f.before()
	f.begin(name)
	f.count++
	f.ops = append(f.ops, name)
	if f.count != f.at {
		return operation()
	}
	if f.fault == failedDone {
		return errors.Join(operation(), errFault)
	}
	return errFault
}

func (f *faulty) mkdir(path string) error {
	return f.do("mkdir", func() error { return f.disk.mkdir(path) })
}

func (f *faulty) create(path string) (file, error) { return f.openWith("create", path, f.disk.create) }
func (f *faulty) open(path string) (file, error)   { return f.openWith("open", path, f.disk.open) }
func (f *faulty) read(path string) (file, error)   { return f.openWith("read", path, f.disk.read) }

func (f *faulty) openWith(name, path string, open func(string) (file, error)) (opened file, err error) {
	err = f.do(name, func() error {
		opened, err = open(path)
		return err
	})
	if err != nil {
		if opened != nil {
			return nil, errors.Join(err, opened.Close())
		}
		return nil, err
	}
	return &faultyFile{file: opened, system: f, path: path}, nil
}

func (f *faulty) rename(from, to string) error {
	return f.do("rename", func() error {
		if err := f.disk.rename(from, to); err != nil {
			return err
		}
		f.synced[to] = f.synced[from]
		delete(f.synced, from)
		return nil
	})
}

func (f *faulty) protect(path string) error {
	return f.do("protect", func() error { return f.disk.protect(path) })
}

func (f *faulty) unprotect(path string) error {
	return f.do("unprotect", func() error { return f.disk.unprotect(path) })
}

func (f *faulty) remove(path string) error {
	return f.do("remove", func() error { return f.disk.remove(path) })
}

func (f *faulty) syncDir(directory string) error {
	return f.do("syncDir", func() error {
		listed, err := os.ReadDir(directory)
		for _, entry := range listed {
			f.entries[filepath.Join(directory, entry.Name())] = true
		}
		return err
	})
}

type faultyFile struct {
	file
	system *faulty
	path   string
}

// path follows a rename as an inode does.
func (f *faultyFile) now() string {
	if strings.HasSuffix(f.path, ".tmp") && f.At(f.path) != nil {
		if manifest, ok := strings.CutSuffix(f.path, ".manifest.tmp"); ok {
			return manifest + manifestExtension
		}
		return strings.TrimSuffix(f.path, ".tmp") + ".jsonl"
	}
	return f.path
}

func (f *faultyFile) Write(b []byte) (n int, err error) {
	err = f.system.do("write", func() error {
		half := len(b) / 2
		if n, err = f.file.Write(b[:half]); err != nil {
			return err
		}
		f.system.before()
		more, err := f.file.Write(b[half:])
		n += more
		return err
	})
	if errors.Is(err, errFault) && f.system.fault == failedShort {
		n, shortErr := f.file.Write(b[:len(b)/2])
		return n, errors.Join(err, shortErr)
	}
	return n, err
}

func (f *faultyFile) Sync() error {
	return f.system.do("sync", func() error {
		size, err := f.Size()
		f.system.synced[f.now()] = size
		return err
	})
}

func (f *faultyFile) Truncate(size int64) error {
	return f.system.do("truncate", func() error {
		f.system.synced[f.now()] = min(f.system.synced[f.now()], size)
		return f.file.Truncate(size)
	})
}

// copyKilled copies the store as a killed process leaves it.
func copyKilled(t *testing.T, from, to string) {
	copyStore(t, from, to, func(string) int64 { return -1 })
}

// copyPowerCut copies what must have survived a power cut, and no more.
func (f *faulty) copyPowerCut(t *testing.T, from, to string) {
	copyStore(t, from, to, func(path string) int64 {
		if path != from && !f.entries[path] {
			return -2
		}
		return f.synced[path]
	})
}

// copyStore copies files up to the length that keep names: -1 is all, -2 not
// at all.
func copyStore(t *testing.T, from, to string, keep func(path string) int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		length := keep(path)
		if entry.IsDir() {
			if length == -2 {
				return fs.SkipDir
			}
			return os.MkdirAll(target, dirMode)
		}
		if length == -2 || entry.Name() == "lock" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if length >= 0 {
			text = text[:min(length, int64(len(text)))]
		}
		return os.WriteFile(target, text, fileMode)
	}))
}

// batches are what a forwarder sends: with a rotation inside a batch, one
// between two batches, and two origins in one batch.
func batches() [][]sink.Entry {
	m, other := newMaker(), newMaker()
	other.origin = otherOrigin
	first := append(m.records(4), m.checkpoint(), m.record())
	second := append(m.records(3), m.checkpoint())
	third := append(m.records(2), other.records(3)...)
	return [][]sink.Entry{first, second, third, append(other.records(1), other.checkpoint())}
}

func faultConfig(directory string, files fileSystem) Config {
	config := testConfig(directory)
	config.MaxFileBytes = 1000
	config.files = files
	return config
}

// deliver sends each batch until it is acknowledged, as the forwarder does.
func deliver(t *testing.T, s *Sink, batches [][]sink.Entry, acknowledge func([]sink.Entry)) (failures int) {
	t.Helper()
	for _, batch := range batches {
		for attempt := 0; ; attempt++ {
			_, err := s.Write(t.Context(), batch, noRefusal)
			if err == nil {
				break
			}
			require.Less(t, attempt, 5, "%v", err)
			require.ErrorIs(t, err, errFault)
			failures++
		}
		acknowledge(batch)
	}
	return failures
}

// operations counts what delivering all batches takes, from opening on.
func operations(t *testing.T) int {
	t.Helper()
	files := newFaulty()
	s := open(t, faultConfig(t.TempDir(), files))
	require.Zero(t, deliver(t, s, batches(), func([]sink.Entry) {}))
	require.NoError(t, s.Close())
	for _, name := range []string{"mkdir", "create", "write", "sync", "rename", "syncDir", "protect"} {
		require.Contains(t, files.ops, name)
	}
	return files.count
}

// Whatever single operation fails, and whether or not it did its work: after a
// retry all is stored once, and again after a restart.
func TestEveryFault(t *testing.T) {
	last := operations(t)
	for at := 1; at <= last; at++ {
		for _, kind := range []fault{failed, failedDone, failedShort} {
			t.Run(fmt.Sprintf("operation %d/fault %d", at, kind), func(t *testing.T) {
				directory := t.TempDir()
				files := newFaulty()
				files.at, files.fault = at, kind
				s := open(t, faultConfig(directory, files))
				var acknowledged []sink.Entry
				failures := deliver(t, s, batches(), func(batch []sink.Entry) {
					acknowledged = append(acknowledged, batch...)
					check(t, directory, acknowledged)
				})
				require.Equal(t, 1, failures, "the fault at %v was not told", files.ops[at-1])
				require.NoError(t, s.Close())
				restarted(t, directory, acknowledged)
			})
		}
	}
}

// restarted opens the store again, checks that it knows what it has, that all
// can be sent again, and that it goes on.
func restarted(t *testing.T, directory string, acknowledged []sink.Entry) {
	t.Helper()
	s := open(t, faultConfig(directory, nil))
	result := write(t, s, acknowledged...)
	require.Equal(t, len(acknowledged), result.Repeated, "known again after a restart")
	for _, batch := range batches() {
		write(t, s, batch...)
	}
	all := flatten(batches())
	check(t, directory, all)
	checkSealed(t, folder(directory))
	require.NoError(t, s.Close())
}

func flatten(batches [][]sink.Entry) []sink.Entry {
	var all []sink.Entry
	for _, batch := range batches {
		all = append(all, batch...)
	}
	return all
}

// A second fault while the first is being repaired.
func TestFaultsInRow(t *testing.T) {
	last := operations(t)
	for at := 1; at <= last; at++ {
		directory := t.TempDir()
		files := newFaulty()
		files.at, files.fault = at, failedDone
		again := 3
		files.before = func() {
			if files.count == files.at && again > 0 { // the operation after a fault fails too
				files.at++
				again--
			}
		}
		s := open(t, faultConfig(directory, files))
		deliver(t, s, batches(), func([]sink.Entry) {})
		require.Zero(t, again)
		check(t, directory, flatten(batches()))
		require.NoError(t, s.Close())
	}
}

// Killed, or without power, before each operation and in the middle of each
// write: what was acknowledged is there, and delivery goes on.
func TestEveryCrash(t *testing.T) {
	var crashes []func(*testing.T)
	directory := t.TempDir()
	files := newFaulty()
	var acknowledged []sink.Entry
	files.before = func() {
		killed, powerless := t.TempDir(), t.TempDir()
		copyKilled(t, directory, killed)
		files.copyPowerCut(t, directory, powerless)
		then := acknowledged
		operation := files.count
		crashes = append(crashes, func(t *testing.T) {
			t.Run(fmt.Sprintf("killed before %d", operation), func(t *testing.T) { restarted(t, killed, then) })
			t.Run(fmt.Sprintf("power cut before %d", operation), func(t *testing.T) { restarted(t, powerless, then) })
		})
	}
	s := open(t, faultConfig(directory, files))
	require.Zero(t, deliver(t, s, batches(), func(batch []sink.Entry) {
		acknowledged = append(acknowledged, batch...)
	}))
	files.before()
	require.Greater(t, len(crashes), 20)
	for _, crash := range crashes {
		crash(t)
	}
}

// Killed at each step of the recovery from a torn tail, which keeps evidence.
func TestCrashInRecovery(t *testing.T) {
	source := t.TempDir()
	s := open(t, faultConfig(source, nil))
	all := flatten(batches()[:2])
	write(t, s, all...)
	require.NoError(t, s.Close())
	listed := names(t, folder(source))
	appendTo(t, filepath.Join(folder(source), listed[len(listed)-1]), "{\x00}\nmore")

	var copies []string
	directory := t.TempDir()
	copyKilled(t, source, directory)
	files := newFaulty()
	files.before = func() {
		copies = append(copies, t.TempDir())
		copyKilled(t, directory, copies[len(copies)-1])
	}
	recovered := open(t, faultConfig(directory, files))
	require.Equal(t, len(all), write(t, recovered, all...).Repeated)
	require.Contains(t, files.ops, "truncate")
	require.NotEmpty(t, copies)
	for _, killed := range copies {
		restarted(t, killed, all)
	}
}

// A sync that failed is not believed when it says later that all is well: its
// bytes are cut off before anything else is written.
func TestFailedSyncIsCutOff(t *testing.T) {
	directory := t.TempDir()
	files := newFaulty()
	s := open(t, faultConfig(directory, files))
	m := newMaker()
	first, second := m.record(), m.record()
	write(t, s, first)
	files.at, files.fault = files.count+2, failed // its write works
	_, err := s.Write(t.Context(), []sink.Entry{second}, noRefusal)
	require.ErrorIs(t, err, errFault)
	require.Equal(t, "truncate", files.ops[len(files.ops)-2])
	check(t, directory, []sink.Entry{first})
	text, err := os.ReadFile(filepath.Join(folder(directory), fileName(0)))
	require.NoError(t, err)
	require.Equal(t, string(appendLine(nil, &first)), string(text))
	write(t, s, second)
	check(t, directory, []sink.Entry{first, second})
}

// A load that its context cut goes on where it stopped.
func TestCutLoadGoesOn(t *testing.T) {
	directory := t.TempDir()
	s := open(t, faultConfig(directory, nil))
	all := flatten(batches())
	write(t, s, all...)
	require.NoError(t, s.Close())
	require.Greater(t, len(names(t, folder(directory))), 1)

	files := newFaulty()
	s = open(t, faultConfig(directory, files))
	for attempt := 0; ; attempt++ {
		require.Less(t, attempt, 10)
		ctx := cutAt(t, files, "read")
		result, err := s.Write(ctx, all[:6], noRefusal)
		if err == nil {
			require.Equal(t, 6, result.Repeated)
			require.Positive(t, attempt)
			return
		}
		require.ErrorIs(t, err, ctx.Err())
	}
}

// cutAt returns a context that ends when the next operation of the given name
// begins.
func cutAt(t *testing.T, files *faulty, name string) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	files.begin = func(begun string) {
		if begun == name {
			cancel()
		}
	}
	return ctx
}

// A process that was killed before its sync, restarted, and told that what it
// wrote is stored: that is true after a power cut as well.
func TestRepeatIsDurable(t *testing.T) {
	source := t.TempDir()
	s := open(t, testConfig(source))
	all := newMaker().records(3)
	write(t, s, all...)
	require.NoError(t, s.Close())

	directory, powerless := t.TempDir(), t.TempDir()
	copyKilled(t, source, directory)
	files := newFaulty() // knows of nothing that was synced
	config := testConfig(directory)
	config.files = files
	require.Equal(t, len(all), write(t, open(t, config), all...).Repeated)
	files.copyPowerCut(t, directory, powerless)
	check(t, powerless, all)
}

// What is cut off is safe in its own file before it goes.
func TestEvidenceIsDurableBeforeTheCut(t *testing.T) {
	directory := t.TempDir()
	s := open(t, testConfig(directory))
	entry := newMaker().record()
	write(t, s, entry)
	require.NoError(t, s.Close())
	const damage = "what is this\nand this\n"
	appendTo(t, filepath.Join(folder(directory), fileName(0)), damage)

	files := newFaulty()
	cuts := 0
	files.begin = func(name string) {
		if name != "truncate" {
			return
		}
		cuts++
		powerless := t.TempDir()
		files.copyPowerCut(t, directory, powerless)
		kept, err := filepath.Glob(filepath.Join(folder(powerless), "*.torn-*"))
		require.NoError(t, err)
		require.Len(t, kept, 1)
		text, err := os.ReadFile(kept[0])
		require.NoError(t, err)
		require.Equal(t, damage, string(text))
	}
	config := testConfig(directory)
	config.files = files
	write(t, open(t, config), entry)
	require.Equal(t, 1, cuts)
}

// An origin whose file could not be cut after a failed sync is not forgotten
// for another one: then nobody would know where its sound part ends.
func TestBrokenOriginIsNotForgotten(t *testing.T) {
	directory := t.TempDir()
	files := newFaulty()
	config := testConfig(directory)
	config.files, config.origins = files, 1
	s := open(t, config)
	m, other := newMaker(), newMaker()
	other.origin = otherOrigin
	first, second := m.record(), m.record()
	write(t, s, first)

	files.at, files.fault = files.count+2, failed // the sync
	cutFails := true
	files.begin = func(name string) {
		if name == "truncate" && cutFails {
			files.at = files.count + 1
		}
	}
	_, err := s.Write(t.Context(), []sink.Entry{second}, noRefusal)
	require.ErrorIs(t, err, errFault)
	elsewhere := other.record()
	_, err = s.Write(t.Context(), []sink.Entry{elsewhere}, noRefusal)
	require.ErrorIs(t, err, errFault)

	cutFails = false
	write(t, s, elsewhere)
	check(t, directory, []sink.Entry{first, elsewhere})
	require.Equal(t, 1, write(t, s, first, second).Stored, "what was not synced was cut off")
	check(t, directory, []sink.Entry{first, second, elsewhere})
}

// A file that a crash left half made is removed.
func TestHalfMadeFileIsRemoved(t *testing.T) {
	directory := t.TempDir()
	require.NoError(t, os.MkdirAll(folder(directory), dirMode))
	stray := filepath.Join(folder(directory), stem(7)+".tmp")
	require.NoError(t, os.WriteFile(stray, []byte("{"), fileMode))
	write(t, open(t, testConfig(directory)), newMaker().record())
	require.Equal(t, []string{fileName(0)}, names(t, folder(directory)))
}
