// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// fill makes the disk full but for the reserve, until it is emptied.
func (w *world) fill() {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	w.disk.full = true
	w.disk.decide = func(s step) (failure, bool) {
		switch s {
		case stepReserve:
			return nothing, true
		case stepRemove, stepSyncRemoved, stepTruncate, stepSyncCreated, stepTail:
			return "", false
		default:
			return nothing, w.disk.live[reserveFile] != nil
		}
	}
}

func (w *world) empty() {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	w.disk.full, w.disk.decide = false, nil
}

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
		require.Greater(w.t, len(w.disk.segments()), 3)
		w.fill()
		for range 3 {
			require.ErrorIs(w.t, w.seal(w.client(1)), syscall.ENOSPC)
		}
		require.NoError(w.t, w.seal(w.control(Heartbeat)))
		require.Nil(w.t, w.disk.live[reserveFile], "the reserve was used")
		require.ErrorIs(w.t, w.seal(w.client(1)), errReserve)
		w.receive(1 << 30)
		w.deliver(1 << 30)
		require.NoError(w.t, w.journal.PersistCursor())
		require.Len(w.t, w.disk.segments(), 1, "a full disk gets room again")
		w.empty()
		w.advance(reserveRetry)
		require.NoError(w.t, w.seal(w.client(1)))
		require.NotNil(w.t, w.disk.live[reserveFile])
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
