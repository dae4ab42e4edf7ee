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
		for s, ways := range failures {
			for _, f := range ways {
				require.NotZero(t, happened[string(s)+": "+string(f)], "no seed lets %q fail with %s", s, f)
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
		w.disk.setWeather(w.weather())
		w.act()
		if w.disk.gone() {
			w.die()
		}
	}
	w.restart()
	w.disk.setWeather(nil)
	if w.disk.gone() {
		w.kill()
		w.open()
	}
	require.NoError(w.t, w.seal(w.control(Heartbeat)))
	w.finish()
	for what, n := range w.happened {
		happened[what] += n
	}
	for what, n := range w.disk.fired {
		happened[what] += n
	}
}

// weather returns which steps fail during the next act, and whether one of the
// failures is deadly.
func (w *world) weather() func(step) (failure, bool) {
	often := []float64{0, 0, 0.05, 0.3}[w.random.IntN(4)]
	deadly := []float64{0, 0.3}[w.random.IntN(2)]
	chance := rand.New(rand.NewPCG(w.random.Uint64(), 0))
	return func(s step) (failure, bool) {
		if chance.Float64() >= often {
			return "", false
		}
		w.disk.dead = chance.Float64() < deadly
		ways := failures[s]
		return ways[chance.IntN(len(ways))], true
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
	if w.disk.gone() {
		w.remember(w.disk.survivors())
	}
	w.reopen()
}

// die ends the process in one of the ways that processes end.
func (w *world) die() {
	w.disk.kill()
	_ = w.journal.Close() // it cannot touch the disk any more
	w.remember(w.afterDeath())
	w.reopen()
}

func (w *world) afterDeath() *faultDisk {
	switch w.random.IntN(4) {
	case 0:
		return w.disk.survivors()
	case 1:
		return w.disk.powerCut(w.t, loseAll, w.random)
	case 2:
		return w.disk.powerCut(w.t, loseNone, w.random)
	default:
		return w.disk.powerCut(w.t, loseSome, w.random)
	}
}

func (w *world) remember(next *faultDisk) {
	for what, n := range w.disk.fired {
		w.happened[what] += n
	}
	w.disk = next
}

// reopen starts processes until one of them has sealed its start record. Each
// attempt may meet bad weather, but for the last.
func (w *world) reopen() {
	for attempt := 0; ; attempt++ {
		w.disk.setWeather(w.weather())
		if attempt == 5 {
			w.disk.setWeather(nil)
		}
		err := w.tryOpen()
		if err == nil {
			if err = w.start(); err == nil {
				return
			}
			require.ErrorIs(w.t, err, ErrWrite)
			_ = w.journal.Close() // nothing was delivered
		} else {
			require.True(w.t, errors.Is(err, errFault) || errors.Is(err, errDead), "%v", err)
		}
		if w.disk.gone() {
			w.remember(w.afterDeath())
		}
	}
}
