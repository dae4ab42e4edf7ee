// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	errFault = errors.New("injected fault")
	errDead  = errors.New("the machine is off")
)

// step is one kind of thing that the journal asks of its disk.
type step string

const (
	stepCreate          step = "create segment"
	stepWriteState      step = "write state frame"
	stepSyncState       step = "sync state frame"
	stepSyncCreated     step = "sync directory of a new segment"
	stepWriteGroup      step = "write group"
	stepSyncGroup       step = "sync group"
	stepWriteCheckpoint step = "write checkpoint"
	stepSyncCheckpoint  step = "sync checkpoint"
	stepTruncate        step = "cut off what failed"
	stepIdentity        step = "write identity"
	stepCursor          step = "write cursor"
	stepTail            step = "write the last frame again"
	stepReserve         step = "set the reserve aside"
	stepIDs             step = "write ids"
	stepRemove          step = "remove segment"
	stepSyncRemoved     step = "sync directory of a removed segment"
)

// failure is how a step fails: how much of it happens nevertheless.
type failure string

const (
	nothing   failure = "nothing persisted"
	short     failure = "half persisted"
	persisted failure = "all persisted"
)

// failures says in which ways each step can fail.
var failures = map[step][]failure{
	stepCreate:          {nothing, persisted},
	stepWriteState:      {nothing, short, persisted},
	stepSyncState:       {nothing, persisted},
	stepSyncCreated:     {nothing, persisted},
	stepWriteGroup:      {nothing, short, persisted},
	stepSyncGroup:       {nothing, persisted},
	stepWriteCheckpoint: {nothing, short, persisted},
	stepSyncCheckpoint:  {nothing, persisted},
	stepTruncate:        {nothing, persisted},
	stepIdentity:        {nothing, persisted},
	stepCursor:          {nothing, persisted},
	stepTail:            {nothing, short, persisted},
	stepReserve:         {nothing, persisted},
	stepIDs:             {nothing, persisted},
	stepRemove:          {nothing, persisted},
	stepSyncRemoved:     {nothing, persisted},
}

// loss is what becomes of unsynced bytes and directory entries when the
// machine loses power.
type loss string

const (
	loseAll  loss = "all that was not synced is lost"
	loseNone loss = "nothing is lost"
	loseSome loss = "each thing by chance"
)

// inode is a file's content: as processes see it, and as the platter has it.
type inode struct {
	live, stable []byte
	// holes are ranges of live that a failed sync has marked clean: they are
	// in the page cache, and no later sync writes them.
	holes [][2]int
}

func (n *inode) sync() {
	n.stable = bytes.Clone(n.live)
	for _, hole := range n.holes {
		clear(n.stable[min(hole[0], len(n.stable)):min(hole[1], len(n.stable))])
	}
}

// failSync is a sync that failed without writing anything.
func (n *inode) failSync() {
	n.holes = append(n.holes, [2]int{min(len(n.stable), len(n.live)), len(n.live)})
}

// faultDisk is a real directory with a second, pessimistic view of it: what
// would be there after a power cut. Steps fail where decide says so.
type faultDisk struct {
	directory string

	mu      sync.Mutex
	live    map[string]*inode
	stable  map[string]*inode
	changed step // the newest change of the directory that is not synced
	decide  func(step) (failure, bool)
	full    bool           // faults say that the disk is full
	dead    bool           // nothing works any more: the process is gone
	hold    chan struct{}  // while set, the next write of a group waits for it to be closed
	seen    map[step]int   // how often each step was asked for
	fired   map[string]int // how often each step failed in each way
}

// scratch returns a directory for a disk whose syncs are played: in memory
// where the system has such a place.
func scratch(t testing.TB) string {
	directory, err := os.MkdirTemp("/dev/shm", "journal") //nolint:usetesting // t.TempDir knows no other place
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(directory)) })
	return directory
}

func newFaultDisk(directory string) *faultDisk {
	return &faultDisk{
		directory: directory, live: map[string]*inode{}, stable: map[string]*inode{},
		seen: map[step]int{}, fired: map[string]int{},
	}
}

// failOnce lets the next such step fail, and with deadly ends the process
// there.
func (d *faultDisk) failOnce(s step, f failure, deadly bool) {
	armed := true
	d.setWeather(func(asked step) (failure, bool) {
		if !armed || asked != s {
			return "", false
		}
		armed, d.dead = false, deadly
		return f, true
	})
}

// setWeather says which steps fail from now on; nil lets all succeed.
func (d *faultDisk) setWeather(decide func(step) (failure, bool)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.decide = decide
}

func (d *faultDisk) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
}

// gone says whether a deadly fault has ended the process.
func (d *faultDisk) gone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// asked says how often a step was asked for.
func (d *faultDisk) asked(s step) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[s]
}

func (d *faultDisk) count(s step, f failure) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fired[string(s)+": "+string(f)]
}

// ask says how the step goes. The caller holds mu.
func (d *faultDisk) ask(s step) (f failure, err error) {
	if d.dead {
		return nothing, errDead
	}
	d.seen[s]++
	if d.decide == nil {
		return persisted, nil
	}
	f, failed := d.decide(s)
	if !failed {
		return persisted, nil
	}
	d.fired[string(s)+": "+string(f)]++
	if d.full {
		return f, syscall.ENOSPC
	}
	return f, errFault
}

func (d *faultDisk) create(path string) (appender, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(stepCreate)
	if f == nothing {
		return nil, err
	}
	name := filepath.Base(path)
	if d.live[name] == nil {
		d.live[name] = &inode{}
	}
	d.live[name].live, d.live[name].holes = nil, nil
	d.changed = stepSyncCreated
	if e := replaceFile(path, nil); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	return &faultFile{disk: d, path: path, inode: d.live[name]}, nil
}

func (d *faultDisk) syncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(d.changed)
	if f == persisted {
		d.stable = maps.Clone(d.live)
	}
	return err
}

func (d *faultDisk) writeFile(path string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := filepath.Base(path)
	s := stepIdentity
	switch {
	case name == cursorFile:
		s = stepCursor
	case strings.HasSuffix(name, idSuffix):
		s = stepIDs
	}
	f, err := d.ask(s)
	if f == nothing {
		return err
	}
	n := &inode{live: bytes.Clone(data), stable: bytes.Clone(data)}
	d.live[name] = n
	if e := replaceFile(path, data); e != nil {
		return e
	}
	if err == nil {
		d.stable = maps.Clone(d.live)
	}
	return err
}

func (d *faultDisk) rewrite(path string, offset int64, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(stepTail)
	if f == nothing {
		return err
	}
	n := d.live[filepath.Base(path)]
	if n == nil { // a test put the file there
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n = &inode{live: content, stable: bytes.Clone(content)}
		d.live[filepath.Base(path)] = n
	}
	length := map[failure]int{short: len(data) / 2, persisted: len(data)}[f]
	n.rewrite(int(offset), data[:length])
	if f == persisted {
		n.live = n.live[:int(offset)+len(data)]
		n.sync()
		d.stable = maps.Clone(d.live)
	}
	return errors.Join(err, replaceFile(path, n.live))
}

// rewrite puts data over what is there: those pages are dirty again, whatever
// an earlier sync has made of them.
func (n *inode) rewrite(offset int, data []byte) {
	n.live = slices.Concat(n.live[:offset], data, n.live[min(offset+len(data), len(n.live)):])
	var holes [][2]int
	for _, hole := range n.holes {
		if before := [2]int{hole[0], min(hole[1], offset)}; before[0] < before[1] {
			holes = append(holes, before)
		}
		if after := [2]int{max(hole[0], offset+len(data)), hole[1]}; after[0] < after[1] {
			holes = append(holes, after)
		}
	}
	n.holes = holes
}

func (d *faultDisk) allocate(path string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(stepReserve)
	if f == persisted {
		d.live[filepath.Base(path)] = &inode{}
		return errors.Join(err, os.WriteFile(path, nil, 0o600), os.Truncate(path, size))
	}
	return err
}

func (d *faultDisk) remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(stepRemove)
	if f == nothing {
		return err
	}
	delete(d.live, filepath.Base(path))
	d.changed = stepSyncRemoved
	if e := os.Remove(path); e != nil && !errors.Is(e, os.ErrNotExist) {
		return e
	}
	return err
}

type faultFile struct {
	disk  *faultDisk
	path  string
	inode *inode
	kind  frameKind // of the newest frame
}

func (f *faultFile) step(state, group, checkpoint step) step {
	switch f.kind {
	case frameState:
		return state
	case frameGroup:
		return group
	default:
		return checkpoint
	}
}

func (f *faultFile) Write(b []byte) (int, error) {
	f.kind = frameKind(b[kindOffset])
	d := f.disk
	d.mu.Lock()
	hold := d.hold
	if f.kind == frameGroup {
		d.hold = nil
	}
	d.mu.Unlock()
	if f.kind == frameGroup && hold != nil {
		<-hold
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	how, err := d.ask(f.step(stepWriteState, stepWriteGroup, stepWriteCheckpoint))
	n := map[failure]int{nothing: 0, short: len(b) / 2, persisted: len(b)}[how]
	f.inode.live = append(f.inode.live, b[:n]...)
	return n, errors.Join(err, f.store(b[:n]))
}

// store appends to the real file.
func (f *faultFile) store(b []byte) error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	return errors.Join(err, file.Close())
}

// replaceFile writes a file anew. Nobody reads it meanwhile; to truncate it in
// place would be slow, because file systems then sync it.
func replaceFile(path string, data []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

func (f *faultFile) Sync() error {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	how, err := d.ask(f.step(stepSyncState, stepSyncGroup, stepSyncCheckpoint))
	switch {
	case how == persisted:
		f.inode.sync()
	case !d.dead:
		f.inode.failSync()
	}
	return err
}

func (f *faultFile) Truncate(size int64) error {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	how, err := d.ask(stepTruncate)
	if how == nothing {
		return err
	}
	f.inode.live = f.inode.live[:size:size]
	return errors.Join(err, os.Truncate(f.path, size))
}

func (f *faultFile) Close() error { return nil }

// survivors returns the directory as the next process finds it when this one
// was killed: all that was written is there, synced or not.
func (d *faultDisk) survivors() *faultDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := newFaultDisk(d.directory)
	next.live, next.stable, next.changed = d.live, d.stable, d.changed
	return next
}

// powerCut returns the directory as the machine finds it when it comes back.
func (d *faultDisk) powerCut(t testing.TB, how loss, random *rand.Rand) *faultDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := newFaultDisk(scratch(t))
	names := slices.Sorted(maps.Keys(d.live))
	for name := range d.stable {
		if d.live[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		n := d.live[name]
		if how == loseAll || how == loseSome && random.IntN(2) == 0 {
			n = d.stable[name]
		}
		if n == nil {
			continue
		}
		content := n.afterPowerCut(how, random)
		next.live[name] = &inode{live: content, stable: bytes.Clone(content)}
		require.NoError(t, os.WriteFile(filepath.Join(next.directory, name), content, 0o600))
	}
	next.stable = maps.Clone(next.live)
	return next
}

func (n *inode) afterPowerCut(how loss, random *rand.Rand) []byte {
	onDisk := inode{live: n.live, holes: n.holes}
	onDisk.sync()
	switch how {
	case loseAll:
		return n.stable
	case loseNone:
		return onDisk.stable
	}
	if !bytes.HasPrefix(n.live, n.stable) {
		return [][]byte{n.stable, onDisk.stable}[random.IntN(2)]
	}
	// The file grew: any part of the growth may be there, its size included.
	grown := onDisk.stable[len(n.stable):]
	content := slices.Concat(n.stable, grown[:random.IntN(len(grown)+1)])
	if more := content[len(n.stable):]; random.IntN(3) == 0 {
		clear(more[:random.IntN(len(more)+1)]) // the later page came first
	}
	return content
}

func (d *faultDisk) segments() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := slices.Sorted(maps.Keys(d.live))
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, segmentSuffix) })
}
