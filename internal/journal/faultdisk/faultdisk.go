// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package faultdisk is a disk for tests of the journal and of what is built on
// it: its steps fail on demand, and it loses what was not synced when its power
// is cut. Only tests import it.
package faultdisk

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

	"github.com/otelaudit/otelaudit/internal/durable"
)

var (
	// ErrFault is the error of a step that was let fail.
	ErrFault = errors.New("injected fault")
	// ErrDead is the error of every step once the process is gone.
	ErrDead = errors.New("the machine is off")
)

// Names in a journal's directory, and where a frame says what it is. They are
// the journal's own; were they others, the steps below would not be met, and
// the tables of faults would say so.
const (
	segmentSuffix = ".segment"
	idSuffix      = ".ids"
	cursorFile    = "cursor"
	reserveFile   = "reserve"

	kindOffset = 4
	kindState  = 1
	kindGroup  = 2
)

// Step is one kind of thing that the journal asks of its disk.
type Step string

// The steps.
//
//nolint:gosec // no credentials
const (
	StepCreate          Step = "create segment"
	StepWriteState      Step = "write state frame"
	StepSyncState       Step = "sync state frame"
	StepSyncCreated     Step = "sync directory of a new segment"
	StepWriteGroup      Step = "write group"
	StepSyncGroup       Step = "sync group"
	StepWriteCheckpoint Step = "write checkpoint"
	StepSyncCheckpoint  Step = "sync checkpoint"
	StepTruncate        Step = "cut off what failed"
	StepIdentity        Step = "write identity"
	StepCursor          Step = "write cursor"
	StepTail            Step = "write the last frame again"
	StepReserve         Step = "set the reserve aside"
	StepIDs             Step = "write ids"
	StepRemove          Step = "remove segment"
	StepSyncRemoved     Step = "sync directory of a removed segment"
)

// Failure is how a step fails: how much of it happens nevertheless.
type Failure string

// The failures.
const (
	Nothing   Failure = "nothing persisted"
	Short     Failure = "half persisted"
	Persisted Failure = "all persisted"
)

// Failures says in which ways each step can fail.
var Failures = map[Step][]Failure{
	StepCreate:          {Nothing, Persisted},
	StepWriteState:      {Nothing, Short, Persisted},
	StepSyncState:       {Nothing, Persisted},
	StepSyncCreated:     {Nothing, Persisted},
	StepWriteGroup:      {Nothing, Short, Persisted},
	StepSyncGroup:       {Nothing, Persisted},
	StepWriteCheckpoint: {Nothing, Short, Persisted},
	StepSyncCheckpoint:  {Nothing, Persisted},
	StepTruncate:        {Nothing, Persisted},
	StepIdentity:        {Nothing, Persisted},
	StepCursor:          {Nothing, Persisted},
	StepTail:            {Nothing, Short, Persisted},
	StepReserve:         {Nothing, Persisted},
	StepIDs:             {Nothing, Persisted},
	StepRemove:          {Nothing, Persisted},
	StepSyncRemoved:     {Nothing, Persisted},
}

// Loss is what becomes of unsynced bytes and directory entries when the
// machine loses power.
type Loss string

// The losses.
const (
	LoseAll  Loss = "all that was not synced is lost"
	LoseNone Loss = "nothing is lost"
	LoseSome Loss = "each thing by chance"
)

// Fault is what befalls one step. The zero Fault lets it succeed.
type Fault struct {
	Failure Failure
	Deadly  bool // it ends the process
	Full    bool // it says that there is no room
}

// Weather says what befalls the next such step.
type Weather func(Step) Fault

// Inode is a file's content: as processes see it, and as the platter has it.
type Inode struct {
	Live, Stable []byte
	// holes are ranges of Live that a failed sync has marked clean: they are
	// in the page cache, and no later sync writes them.
	holes [][2]int
}

func (n *Inode) sync() {
	n.Stable = bytes.Clone(n.Live)
	for _, hole := range n.holes {
		clear(n.Stable[min(hole[0], len(n.Stable)):min(hole[1], len(n.Stable))])
	}
}

// FailSync is a sync that failed without writing anything.
func (n *Inode) FailSync() {
	n.holes = append(n.holes, [2]int{min(len(n.Stable), len(n.Live)), len(n.Live)})
}

// Disk is a real directory with a second, pessimistic view of it: what would
// be there after a power cut. Files in it that others wrote stay as they are.
type Disk struct {
	Directory string
	// Live are the files as processes see them, by name. Tests look at them,
	// and change them, while nobody uses the disk.
	Live map[string]*Inode
	// Gate, if it is set, is called before each step but those of the reserve,
	// which are under a lock that others wait for.
	Gate func(Step)

	mu      sync.Mutex
	stable  map[string]*Inode
	changed Step // the newest change of the directory that is not synced
	weather Weather
	dead    bool           // nothing works any more: the process is gone
	hold    chan struct{}  // while set, the next write of a group waits for it to be closed
	fired   map[string]int // how often each step failed in each way

	counting sync.Mutex   // not mu: a Weather, which is asked under that, may want to know
	seen     map[Step]int // guarded by counting; how often each step was asked for
}

var _ durable.Disk = (*Disk)(nil)

// Scratch returns a directory for a disk whose syncs are played: in memory
// where the system has such a place.
func Scratch(t testing.TB) string {
	directory, err := os.MkdirTemp("/dev/shm", "journal") //nolint:usetesting // t.TempDir knows no other place
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(directory)) })
	return directory
}

// New returns the disk of an empty directory.
func New(directory string) *Disk {
	return &Disk{
		Directory: directory, Live: map[string]*Inode{}, stable: map[string]*Inode{},
		seen: map[Step]int{}, fired: map[string]int{},
	}
}

// FailOnce lets the next such step fail, and with deadly ends the process
// there.
func (d *Disk) FailOnce(s Step, f Failure, deadly bool) {
	armed := true
	d.SetWeather(func(asked Step) Fault {
		if !armed || asked != s {
			return Fault{}
		}
		armed = false
		return Fault{Failure: f, Deadly: deadly}
	})
}

// SetWeather says what befalls steps from now on; nil lets all succeed.
func (d *Disk) SetWeather(weather Weather) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.weather = weather
}

// Hold lets the next write of a group wait until release is closed. Nil lets it
// not wait.
func (d *Disk) Hold(release chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold = release
}

// Kill ends the process: no step works from now on.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
}

// Gone says whether the process was ended.
func (d *Disk) Gone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// Asked says how often a step was asked for. It may be called in a Weather.
func (d *Disk) Asked(s Step) int {
	d.counting.Lock()
	defer d.counting.Unlock()
	return d.seen[s]
}

// Name is what Fired calls a fault.
func Name(s Step, f Failure) string { return string(s) + ": " + string(f) }

// Count says how often a step failed in a way.
func (d *Disk) Count(s Step, f Failure) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fired[Name(s, f)]
}

// Failed says whether a step failed in any way.
func (d *Disk) Failed(s Step) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range Failures[s] {
		if d.fired[Name(s, f)] > 0 {
			return true
		}
	}
	return false
}

// Fired says how often each fault befell a step, by Name.
func (d *Disk) Fired() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.fired)
}

func (d *Disk) gate(s Step) {
	if d.Gate != nil {
		d.Gate(s)
	}
}

// ask says how the step goes. The caller holds mu.
func (d *Disk) ask(s Step) (Failure, error) {
	if d.dead {
		return Nothing, ErrDead
	}
	d.counting.Lock()
	d.seen[s]++
	d.counting.Unlock()
	var fault Fault
	if d.weather != nil {
		fault = d.weather(s)
	}
	if fault.Failure == "" {
		return Persisted, nil
	}
	d.fired[Name(s, fault.Failure)]++
	d.dead = fault.Deadly
	if fault.Full {
		return fault.Failure, syscall.ENOSPC
	}
	return fault.Failure, ErrFault
}

// Create implements durable.Disk.
func (d *Disk) Create(path string) (durable.Appender, error) {
	d.gate(StepCreate)
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(StepCreate)
	if f == Nothing {
		return nil, err
	}
	name := filepath.Base(path)
	if d.Live[name] == nil {
		d.Live[name] = &Inode{}
	}
	d.Live[name].Live, d.Live[name].holes = nil, nil
	d.changed = StepSyncCreated
	if e := ReplaceFile(path, nil); e != nil || err != nil {
		return nil, errors.Join(err, e)
	}
	opened, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
	return &file{disk: d, real: opened, inode: d.Live[name]}, err
}

// SyncDir implements durable.Disk.
func (d *Disk) SyncDir(string) error {
	d.mu.Lock()
	changed, locked := d.changed, d.stable[reserveFile] != nil && d.Live[reserveFile] == nil
	d.mu.Unlock()
	if !locked {
		d.gate(changed)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(d.changed)
	if f == Persisted {
		d.stable = maps.Clone(d.Live)
	}
	return err
}

func stepOf(name string) Step {
	switch {
	case name == cursorFile:
		return StepCursor
	case strings.HasSuffix(name, idSuffix):
		return StepIDs
	default:
		return StepIdentity
	}
}

// WriteFile implements durable.Disk.
func (d *Disk) WriteFile(path string, data []byte) error {
	name := filepath.Base(path)
	s := stepOf(name)
	d.gate(s)
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(s)
	if f == Nothing {
		return err
	}
	d.Live[name] = &Inode{Live: bytes.Clone(data), Stable: bytes.Clone(data)}
	if e := ReplaceFile(path, data); e != nil {
		return e
	}
	if err == nil {
		d.stable = maps.Clone(d.Live)
	}
	return err
}

// Rewrite implements durable.Disk.
func (d *Disk) Rewrite(path string, offset int64, data []byte) error {
	d.gate(StepTail)
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(StepTail)
	if f == Nothing {
		return err
	}
	n := d.Live[filepath.Base(path)]
	if n == nil { // a test put the file there
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n = &Inode{Live: content, Stable: bytes.Clone(content)}
		d.Live[filepath.Base(path)] = n
	}
	length := map[Failure]int{Short: len(data) / 2, Persisted: len(data)}[f]
	n.rewrite(int(offset), data[:length])
	if f == Persisted {
		n.Live = n.Live[:int(offset)+len(data)]
		n.sync()
		d.stable = maps.Clone(d.Live)
	}
	return errors.Join(err, ReplaceFile(path, n.Live))
}

// rewrite puts data over what is there: those pages are dirty again, whatever
// an earlier sync has made of them.
func (n *Inode) rewrite(offset int, data []byte) {
	n.Live = slices.Concat(n.Live[:offset], data, n.Live[min(offset+len(data), len(n.Live)):])
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

// Allocate implements durable.Disk.
func (d *Disk) Allocate(path string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(StepReserve)
	if f == Persisted {
		d.Live[filepath.Base(path)] = &Inode{}
		return errors.Join(err, os.WriteFile(path, nil, 0o600), os.Truncate(path, size))
	}
	return err
}

// Remove implements durable.Disk.
func (d *Disk) Remove(path string) error {
	name := filepath.Base(path)
	if name != reserveFile {
		d.gate(StepRemove)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.ask(StepRemove)
	if f == Nothing {
		return err
	}
	delete(d.Live, name)
	d.changed = StepSyncRemoved
	if e := os.Remove(path); e != nil && !errors.Is(e, os.ErrNotExist) {
		return e
	}
	return err
}

// file is a segment that is being written.
type file struct {
	disk  *Disk
	real  *os.File
	inode *Inode
	kind  byte // of the newest frame
}

func (f *file) step(state, group, checkpoint Step) Step {
	switch f.kind {
	case kindState:
		return state
	case kindGroup:
		return group
	default:
		return checkpoint
	}
}

func (f *file) Write(b []byte) (int, error) {
	f.kind = b[kindOffset]
	d := f.disk
	step := f.step(StepWriteState, StepWriteGroup, StepWriteCheckpoint)
	d.mu.Lock()
	hold := d.hold
	if f.kind == kindGroup {
		d.hold = nil
	}
	d.mu.Unlock()
	if f.kind == kindGroup && hold != nil {
		<-hold
	}
	d.gate(step)
	d.mu.Lock()
	defer d.mu.Unlock()
	how, err := d.ask(step)
	n := map[Failure]int{Nothing: 0, Short: len(b) / 2, Persisted: len(b)}[how]
	f.inode.Live = append(f.inode.Live, b[:n]...)
	if n == 0 {
		return 0, err
	}
	_, e := f.real.Write(b[:n])
	return n, errors.Join(err, e)
}

func (f *file) Sync() error {
	d := f.disk
	step := f.step(StepSyncState, StepSyncGroup, StepSyncCheckpoint)
	d.gate(step)
	d.mu.Lock()
	defer d.mu.Unlock()
	how, err := d.ask(step)
	switch {
	case how == Persisted:
		f.inode.sync()
	case !d.dead:
		f.inode.FailSync()
	}
	return err
}

func (f *file) Truncate(size int64) error {
	d := f.disk
	d.gate(StepTruncate)
	d.mu.Lock()
	defer d.mu.Unlock()
	how, err := d.ask(StepTruncate)
	if how == Nothing {
		return err
	}
	f.inode.Live = f.inode.Live[:size:size]
	return errors.Join(err, f.real.Truncate(size))
}

func (f *file) Close() error { return f.real.Close() }

// ReplaceFile writes a file anew. Nobody reads it meanwhile; to truncate it in
// place would be slow, because file systems then sync it.
func ReplaceFile(path string, data []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// Survivors returns the disk as the next process finds it when this one was
// killed: all that was written is there, synced or not.
func (d *Disk) Survivors() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := New(d.Directory)
	next.Live, next.stable, next.changed, next.Gate = d.Live, d.stable, d.changed, d.Gate
	return next
}

// PowerCut returns the disk as the machine finds it when it comes back. The
// process must be gone.
func (d *Disk) PowerCut(t testing.TB, how Loss, random *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := New(d.Directory)
	next.Gate = d.Gate
	names := slices.Collect(maps.Keys(d.Live))
	for name := range d.stable {
		if d.Live[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		path := filepath.Join(d.Directory, name)
		n := d.Live[name]
		if how == LoseAll || how == LoseSome && random.IntN(2) == 0 {
			n = d.stable[name]
		}
		if n == nil {
			if d.Live[name] != nil {
				require.NoError(t, os.Remove(path))
			}
			continue
		}
		content := n.afterPowerCut(how, random)
		if d.Live[name] == nil || !bytes.Equal(content, d.Live[name].Live) || name == reserveFile {
			require.NoError(t, ReplaceFile(path, content))
		}
		next.Live[name] = &Inode{Live: content, Stable: bytes.Clone(content)}
	}
	next.stable = maps.Clone(next.Live)
	return next
}

func (n *Inode) afterPowerCut(how Loss, random *rand.Rand) []byte {
	onDisk := Inode{Live: n.Live, holes: n.holes}
	onDisk.sync()
	switch how {
	case LoseAll:
		return n.Stable
	case LoseNone:
		return onDisk.Stable
	}
	if !bytes.HasPrefix(n.Live, n.Stable) {
		return [][]byte{n.Stable, onDisk.Stable}[random.IntN(2)]
	}
	// The file grew: any part of the growth may be there, its size included.
	grown := onDisk.Stable[len(n.Stable):]
	content := slices.Concat(n.Stable, grown[:random.IntN(len(grown)+1)])
	if more := content[len(n.Stable):]; random.IntN(3) == 0 {
		clear(more[:random.IntN(len(more)+1)]) // the later page came first
	}
	return content
}

// Segments returns the names of the segment files, sorted.
func (d *Disk) Segments() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := slices.Sorted(maps.Keys(d.Live))
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, segmentSuffix) })
}
