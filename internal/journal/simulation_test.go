// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

// seedVariable runs one seed of the simulation alone.
const seedVariable = "OTELAUDIT_JOURNAL_SEED"

// TestSimulation drives the journal through chance requests, faults, deaths
// and deliveries. Each seed is the same run every time.
func TestSimulation(t *testing.T) {
	first, seeds := uint64(1), uint64(100)
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, seedVariable)
		first, seeds = seed, 1
	}
	happened := map[string]int{}
	for seed := first; seed < first+seeds; seed++ {
		passed := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(newWorld(t, seed), happened) })
		})
		require.True(t, passed, "run it alone with %s=%d", seedVariable, seed)
	}
	if seeds > 1 {
		require.NotZero(t, happened["repeat"], "no seed sends a record again")
		for s, ways := range faultdisk.Failures {
			for _, f := range ways {
				require.NotZero(t, happened[faultdisk.Name(s, f)], "no seed lets %q fail with %s", s, f)
			}
		}
	}
}

func simulate(w *world, happened map[string]int) {
	w.repeating = true
	w.option.SegmentBytes = 1 << (8 + w.random.IntN(5))
	w.option.MaxBytes = 1 << (10 + w.random.IntN(5))
	w.reopen()
	for range 60 {
		w.disk.SetWeather(w.weather())
		w.act()
		if w.disk.Gone() {
			w.die()
		}
	}
	w.restart()
	w.disk.SetWeather(nil)
	if w.disk.Gone() {
		w.kill()
		w.open()
	}
	require.NoError(w.t, w.seal(w.control(Heartbeat)))
	w.finish()
	for what, n := range w.happened {
		happened[what] += n
	}
	for what, n := range w.disk.Fired() {
		happened[what] += n
	}
}

// weather returns which steps fail during the next act, and whether one of the
// failures is deadly.
func (w *world) weather() func(faultdisk.Step) faultdisk.Fault {
	often := []float64{0, 0, 0.05, 0.3}[w.random.IntN(4)]
	deadly := []float64{0, 0.3}[w.random.IntN(2)]
	chance := rand.New(rand.NewPCG(w.random.Uint64(), 0))
	return func(s faultdisk.Step) faultdisk.Fault {
		if chance.Float64() >= often {
			return faultdisk.Fault{}
		}
		ways := faultdisk.Failures[s]
		return faultdisk.Fault{Deadly: chance.Float64() < deadly, Failure: ways[chance.IntN(len(ways))]}
	}
}

// act does one thing that a processor, an operator or fate may do.
func (w *world) act() {
	switch w.random.IntN(14) {
	case 0, 1, 2:
		w.tolerate(w.seal(w.client(1 + w.random.IntN(4))))
	case 3, 4:
		for _, err := range w.sealTogether(w.client(1), w.client(1+w.random.IntN(3)), w.client(2)) {
			w.tolerate(err)
		}
	case 5:
		w.tolerate(w.seal(w.control(Heartbeat)))
	case 6:
		w.advance(time.Second)
	case 7, 8, 9:
		w.receive(w.random.IntN(6))
		w.deliver(w.random.IntN(6))
	case 10:
		_ = w.journal.PersistCursor() // tried again by the next
	case 11:
		w.tolerate(w.seal(w.control(Stop)))
	case 12:
		w.restart()
	case 13:
		w.die()
	}
}

// tolerate takes the errors that Seal may return when nothing is wrong with
// the request or the journal.
func (w *world) tolerate(err error) {
	switch {
	case err == nil, errors.Is(err, ErrWrite):
	case errors.Is(err, ErrFull):
		w.happened["full"]++
	case errors.Is(err, ErrClosed):
		require.True(w.t, w.stopped(), "the journal takes nothing although it was not stopped")
	default:
		require.NoError(w.t, err)
	}
}

func (w *world) stopped() bool { return w.journal.writer.state.ended }

// restart ends the process in peace, as far as the disk lets it.
func (w *world) restart() {
	_ = w.journal.Close() // a cursor that is not written only delivers again
	if w.disk.Gone() {
		w.remember(w.disk.Survivors())
	}
	w.reopen()
}

// die ends the process in one of the ways that processes end.
func (w *world) die() {
	w.disk.Kill()
	_ = w.journal.Close() // it cannot touch the disk any more
	w.remember(w.afterDeath())
	w.reopen()
}

func (w *world) afterDeath() *faultdisk.Disk {
	switch w.random.IntN(4) {
	case 0:
		return w.disk.Survivors()
	case 1:
		return w.disk.PowerCut(w.t, faultdisk.LoseAll, w.random)
	case 2:
		return w.disk.PowerCut(w.t, faultdisk.LoseNone, w.random)
	default:
		return w.disk.PowerCut(w.t, faultdisk.LoseSome, w.random)
	}
}

func (w *world) remember(next *faultdisk.Disk) {
	for what, n := range w.disk.Fired() {
		w.happened[what] += n
	}
	w.disk = next
}

// reopen starts processes until one of them has sealed its start record. Each
// attempt may meet bad weather, but for the last.
func (w *world) reopen() {
	for attempt := 0; ; attempt++ {
		w.disk.SetWeather(w.weather())
		if attempt == 5 {
			w.disk.SetWeather(nil)
		}
		err := w.tryOpen()
		if err == nil {
			if err = w.start(); err == nil {
				return
			}
			require.ErrorIs(w.t, err, ErrWrite)
			_ = w.journal.Close() // nothing was delivered
		} else {
			require.True(w.t, errors.Is(err, faultdisk.ErrFault) || errors.Is(err, faultdisk.ErrDead), "%v", err)
		}
		if w.disk.Gone() {
			w.remember(w.afterDeath())
		}
	}
}
