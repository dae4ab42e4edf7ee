// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

// aftermath is what happens once a step has failed.
type aftermath string

const (
	goesOn   aftermath = "the process goes on"
	killed   aftermath = "the process is killed"
	lostAll  aftermath = "power is cut, unsynced things are lost"
	lostNone aftermath = "power is cut, unsynced things are kept"
)

var aftermaths = []aftermath{goesOn, killed, lostAll, lostNone}

// TestFaults lets every step of the journal fail in every way and be followed
// by every aftermath.
func TestFaults(t *testing.T) {
	rows := 0
	for _, s := range slices.Sorted(maps.Keys(faultdisk.Failures)) {
		for _, f := range faultdisk.Failures[s] {
			for _, after := range aftermaths {
				rows++
				t.Run(fmt.Sprintf("%s/%s/%s", s, f, after), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { runFault(t, s, f, after) })
				})
			}
		}
	}
	require.Equal(t, (12*2+4*3)*len(aftermaths), rows, "16 steps, four of which can fail by half")
}

func runFault(t *testing.T, s faultdisk.Step, f faultdisk.Failure, after aftermath) {
	w := newWorld(t, uint64(len(s)))
	w.repeating = true
	switch s {
	case faultdisk.StepIdentity:
		w.faultyOpen(s, f, after)
		w.open()
	case faultdisk.StepReserve:
		w.openWithoutReserve(s, f, after)
	default:
		w.open()
		w.everything()
	}
	if s == faultdisk.StepTail {
		w.kill()
		w.faultyOpen(s, f, after)
		w.open()
	}
	if s != faultdisk.StepIdentity && s != faultdisk.StepTail && s != faultdisk.StepReserve {
		w.faultyRun(s, f, after)
	}
	require.Equal(t, 1, w.failed(s, f), "the fault did not happen")
	w.everything()
	require.NoError(t, w.seal(w.control(Stop)))
	w.finish()
	w.reopenClean()
	w.finish()
}

// faultyOpen lets a step of Open fail.
func (w *world) faultyOpen(s faultdisk.Step, f faultdisk.Failure, after aftermath) {
	w.disk.FailOnce(s, f, after != goesOn)
	require.ErrorIs(w.t, w.tryOpen(), faultdisk.ErrFault)
	w.suffer(after, false)
}

// openWithoutReserve lets the reserve fail, which ends no process that is not
// killed: it delivers, and takes nothing in until the reserve is there.
func (w *world) openWithoutReserve(s faultdisk.Step, f faultdisk.Failure, after aftermath) {
	w.disk.FailOnce(s, f, after != goesOn)
	if after != goesOn {
		require.Error(w.t, w.tryOpen())
		w.suffer(after, false)
		w.open()
		return
	}
	w.open()
	require.ErrorIs(w.t, w.seal(w.client(1)), errReserve)
	w.advance(reserveRetry)
	require.NoError(w.t, w.seal(w.client(1)))
}

// faultyRun lets a step fail at work.
func (w *world) faultyRun(s faultdisk.Step, f faultdisk.Failure, after aftermath) {
	if s == faultdisk.StepTruncate { // something must fail first
		w.failTwice(faultdisk.StepSyncGroup, faultdisk.Persisted, s, f, after != goesOn)
	} else {
		w.disk.FailOnce(s, f, after != goesOn)
	}
	for range 10 {
		if w.failed(s, f) > 0 {
			break
		}
		w.everythingThatWorks()
	}
	w.suffer(after, true)
}

func (w *world) suffer(after aftermath, running bool) {
	if after == goesOn {
		return
	}
	for what, n := range w.disk.Fired() {
		w.happened[what] += n
	}
	switch {
	case !running && after == killed:
		w.disk = w.disk.Survivors()
	case !running && after == lostAll:
		w.disk = w.disk.PowerCut(w.t, faultdisk.LoseAll, w.random)
	case !running:
		w.disk = w.disk.PowerCut(w.t, faultdisk.LoseNone, w.random)
	case after == killed:
		w.kill()
	case after == lostAll:
		w.powerCut(faultdisk.LoseAll)
	default:
		w.powerCut(faultdisk.LoseNone)
	}
	if running {
		w.open()
	}
}

func (w *world) failed(s faultdisk.Step, f faultdisk.Failure) int {
	return w.happened[faultdisk.Name(s, f)] + w.disk.Count(s, f)
}

// everything makes groups, checkpoints, segments and deliveries.
func (w *world) everything() {
	for range 3 {
		for _, err := range w.sealTogether(w.client(1), w.client(2), w.client(3)) {
			require.NoError(w.t, err)
		}
		require.NoError(w.t, w.seal(w.control(Heartbeat)))
		w.advance(time.Second)
		w.receive(4)
		w.deliver(3)
	}
	require.NoError(w.t, w.journal.PersistCursor())
}

// everythingThatWorks is everything on a disk that may fail.
func (w *world) everythingThatWorks() {
	for range 3 {
		for _, err := range w.sealTogether(w.client(1), w.client(2), w.client(3)) {
			w.allow(err)
		}
		w.allow(w.seal(w.control(Heartbeat)))
		w.advance(time.Second)
		w.receive(4)
		w.deliver(3)
	}
	_ = w.journal.PersistCursor() // tried again by the next
}

// allow takes the one error that a failing disk may cause.
func (w *world) allow(err error) {
	if err != nil {
		require.ErrorIs(w.t, err, ErrWrite)
	}
}

func (w *world) reopenClean() {
	w.t.Helper()
	w.open()
	require.Equal(w.t, CauseClean, w.claims[len(w.claims)-1].Cause)
}

// failTwice is FailOnce for a step that comes only when another has failed.
func (w *world) failTwice(first faultdisk.Step, how faultdisk.Failure, s faultdisk.Step, f faultdisk.Failure, deadly bool) {
	stage := 0
	w.disk.SetWeather(func(asked faultdisk.Step) faultdisk.Fault {
		switch {
		case stage == 0 && asked == first:
			stage = 1
			return faultdisk.Fault{Failure: how}
		case stage == 1 && asked == s:
			stage = 2
			return faultdisk.Fault{Failure: f, Deadly: deadly}
		}
		return faultdisk.Fault{}
	})
}
