// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

// fill makes the disk full but for the reserve, until it is emptied.
func (w *world) fill() {
	full := faultdisk.Fault{Failure: faultdisk.Nothing, Full: true}
	w.disk.SetWeather(func(s faultdisk.Step) faultdisk.Fault {
		switch s {
		case faultdisk.StepReserve:
			return full
		case faultdisk.StepRemove, faultdisk.StepSyncRemoved, faultdisk.StepTruncate, faultdisk.StepSyncCreated, faultdisk.StepTail:
			return faultdisk.Fault{}
		}
		if w.disk.Live[reserveFile] == nil {
			return faultdisk.Fault{}
		}
		return full
	})
}

func (w *world) empty() { w.disk.SetWeather(nil) }

// On a full disk clients are refused, and the log's own records, checkpoints
// and the cursor are written from the reserve: what is delivered goes, and
// intake resumes by itself.
func TestFullDisk(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.option.SegmentBytes = 512
		w.open()
		for range 10 {
			require.NoError(w.t, w.seal(w.client(3)))
		}
		require.Greater(w.t, len(w.disk.Segments()), 3)
		w.fill()
		for range 3 {
			require.ErrorIs(w.t, w.seal(w.client(1)), syscall.ENOSPC)
		}
		require.NoError(w.t, w.seal(w.control(Heartbeat)))
		require.Nil(w.t, w.disk.Live[reserveFile], "the reserve was used")
		require.ErrorIs(w.t, w.seal(w.client(1)), errReserve)
		w.receive(1 << 30)
		w.deliver(1 << 30)
		require.NoError(w.t, w.journal.PersistCursor())
		require.Len(w.t, w.disk.Segments(), 1, "a full disk gets room again")
		w.empty()
		w.advance(reserveRetry)
		require.NoError(w.t, w.seal(w.client(1)))
		require.NotNil(w.t, w.disk.Live[reserveFile])
		w.finish()
	})
}

// A process that finds the disk full starts all the same, and delivers.
func TestStartOnAFullDisk(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		require.NoError(w.t, w.seal(w.client(3)))
		w.kill()
		w.fill()
		w.open()
		require.ErrorIs(w.t, w.seal(w.client(1)), errReserve)
		w.receive(1 << 30)
		w.deliver(1 << 30)
		require.NoError(w.t, w.journal.PersistCursor())
		w.empty()
		w.advance(reserveRetry)
		require.NoError(w.t, w.seal(w.client(1)))
		w.finish()
	})
}

// The same for a process that has more ids to file than a table holds: as many
// as the one before it could have in memory.
func TestStartOnAFullDiskWithManyIDs(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.option.SegmentBytes = 1 << 20
		w.open()
		w.disk.SetWeather(noIDs)
		id := uint64(1)
		for ; w.seal(w.named(id, 'a')) == nil; id++ {
			require.Less(w.t, id, uint64(1000))
		}
		require.Greater(w.t, int(id), 2*w.option.fullTable)
		w.kill()
		w.fill()
		w.open()
		w.receive(1 << 30)
		w.deliver(1 << 30)
		require.NoError(w.t, w.journal.PersistCursor())
		w.empty()
		w.advance(2 * reserveRetry)
		for known := uint64(1); known < id; known++ {
			require.False(w.t, w.knownOf(w.named(known, 'a')).Conflict)
		}
		w.requireSealed(w.named(id, 'a'))
		w.finish()
	})
}

// A disk that takes no ids for another reason is no damage of the journal.
func TestIDsCannotBeWrittenAtTheStart(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		w.disk.SetWeather(noIDs)
		for id := range uint64(w.option.fullTable) {
			w.requireSealed(w.named(id+1, 'a'))
		}
		w.kill()
		w.disk.SetWeather(noIDs)
		err := w.tryOpen()
		require.ErrorIs(w.t, err, errIDs)
		var corrupt *CorruptError
		require.NotErrorAs(w.t, err, &corrupt)
		w.disk.SetWeather(nil)
		w.open()
		require.False(w.t, w.knownOf(w.named(1, 'a')).Conflict)
		w.finish()
	})
}

// noIDs is a disk that takes no ids.
func noIDs(s faultdisk.Step) faultdisk.Fault {
	if s == faultdisk.StepIDs {
		return faultdisk.Fault{Failure: faultdisk.Nothing}
	}
	return faultdisk.Fault{}
}
