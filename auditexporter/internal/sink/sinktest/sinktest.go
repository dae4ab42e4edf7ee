// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package sinktest holds every sink to the contract of package sink.
package sinktest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// Store is what a sink writes to, empty at first.
type Store struct {
	// Open opens a sink on the store, once the one before it was closed. Its
	// limits are such that Poison is refused.
	Open func(t *testing.T) sink.Sink
	// OpenCured opens a sink that takes what Open's refuses.
	OpenCured func(t *testing.T) sink.Sink
	// Lines returns the stored lines without their newlines, in any order: what
	// `otelaudit verify` would be given.
	Lines func(t *testing.T) []string
	// Poison seals a record that the sink refuses for good.
	Poison func(t *testing.T, m *Maker) sink.Entry
	// Fail makes the next Write fail, once: after it stored its batch, or
	// before. It is called while a sink is open.
	Fail func(t *testing.T, stored bool)
	// NoStubs says that the sink has no place for stubs.
	NoStubs bool
	// Blind says that the sink cannot read what is stored: once it is opened
	// anew it sends what it is given, may count that as stored, and leaves it to
	// the store to know repeats.
	Blind bool
}

// Run runs the suite. start makes an empty store for each of its tests.
func Run(t *testing.T, start func(t *testing.T) *Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *Store){
		"stores":                stores,
		"repeat":                repeat,
		"repeat after reopen":   repeatAfterReopen,
		"any order":             anyOrder,
		"conflict":              conflict,
		"conflict in one batch": conflictInOneBatch,
		"partial failure":       partialFailure,
		"only poison":           onlyPoison,
		"refused again":         refusedAgain,
		"refusal fails":         refusalFails,
		"ours are kept":         oursAreKept,
		"cancel":                cancelled,
		"close":                 closed,
		"concurrent use":        concurrentUse,
		"failed but stored":     func(t *testing.T, s *Store) { failed(t, s, true) },
		"failed and not stored": func(t *testing.T, s *Store) { failed(t, s, false) },
		"replay":                replay,
		"replay that cannot be": replayThatCannotBe,
	} {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

func stores(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := append(m.Records(t, 3), m.Checkpoint(t), m.Record(t, nil))
	other := NewMaker(OtherOrigin).Records(t, 2)
	s := opened(t, store)
	result := write(t, s, append(batch, other...)...)
	assert.Equal(t, sink.Result{Stored: 6, Checkpoints: 1}, counts(result))
	assert.Positive(t, result.Bytes)
	store.holds(t, append(batch, other...))
	assert.Equal(t, sink.Result{}, write(t, s), "nothing is nothing")
}

func repeat(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := append(m.Records(t, 3), m.Checkpoint(t))
	s := opened(t, store)
	write(t, s, batch...)
	assert.Equal(t, sink.Result{Repeated: 4}, counts(write(t, s, batch...)), "the same again")
	more := m.Records(t, 2)
	mixed := []sink.Entry{batch[1], more[0], batch[3], more[0], more[1]}
	assert.Equal(t, sink.Result{Stored: 2, Repeated: 3}, counts(write(t, s, mixed...)), "old beside new, and new twice")
	store.holds(t, append(batch, more...))
}

func repeatAfterReopen(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := append(m.Records(t, 3), m.Checkpoint(t))
	first := store.Open(t)
	write(t, first, batch...)
	require.NoError(t, first.Close())
	more := append(batch[1:], m.Record(t, nil))
	write(t, opened(t, store), more...)
	store.holds(t, append(batch, more[3]))
}

func anyOrder(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	var all []sink.Entry
	for range 10 {
		all = append(append(all, m.Records(t, 7)...), m.Checkpoint(t))
	}
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	shuffled := append([]sink.Entry{}, all...)
	random.Shuffle(len(shuffled), func(i, k int) { shuffled[i], shuffled[k] = shuffled[k], shuffled[i] })
	s := opened(t, store)
	for len(shuffled) > 0 {
		n := min(1+random.IntN(9), len(shuffled))
		write(t, s, shuffled[:n]...)
		shuffled = shuffled[n:]
	}
	store.holds(t, all)
}

func conflict(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := m.Records(t, 3)
	s := opened(t, store)
	write(t, s, batch...)
	forged := Forge(t, &batch[1])
	next := m.Record(t, nil)
	_, err := s.Write(t.Context(), []sink.Entry{forged, next}, noRefusal(t))
	require.ErrorIs(t, err, sink.ErrConflict)
	require.ErrorContains(t, err, Origin)
	assert.NotContains(t, err.Error(), "forged", "no content in errors")
	write(t, s, next)
	store.holds(t, append(batch, next))
}

func conflictInOneBatch(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	e := m.Record(t, nil)
	s := opened(t, store)
	_, err := s.Write(t.Context(), []sink.Entry{e, Forge(t, &e)}, noRefusal(t))
	require.ErrorIs(t, err, sink.ErrConflict)
	write(t, s, e)
	store.holds(t, []sink.Entry{e})
}

// ward takes what a sink refuses, in memory.
type ward struct {
	reasons []string
	entries []sink.Entry
}

func (w *ward) refuse(e *sink.Entry, reason string) error {
	w.reasons, w.entries = append(w.reasons, reason), append(w.entries, *e)
	return nil
}

func partialFailure(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := m.Records(t, 5)
	batch = append(batch, store.Poison(t, m))
	batch = append(batch, m.Records(t, 6)...)
	batch = append(batch, store.Poison(t, m), m.Checkpoint(t))
	var w ward
	result, err := opened(t, store).Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 11, Refused: 2, Checkpoints: 1}, counts(result))
	require.Len(t, w.entries, 2)
	assert.Equal(t, batch[5].Link, w.entries[0].Link)
	assert.Equal(t, batch[12].Link, w.entries[1].Link)
	for _, reason := range w.reasons {
		assert.NotEmpty(t, reason)
	}
	store.holds(t, batch, 5, 12)
}

func onlyPoison(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := append(m.Records(t, 1), store.Poison(t, m))
	s := opened(t, store)
	write(t, s, batch[0])
	var w ward
	result, err := s.Write(t.Context(), batch[1:], w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Refused: 1}, counts(result))
	assert.Len(t, w.entries, 1)
	store.holds(t, batch, 1)
}

func refusedAgain(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := append(m.Records(t, 2), store.Poison(t, m), m.Record(t, nil))
	first := store.Open(t)
	var w ward
	_, err := first.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	_, err = opened(t, store).Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	require.Len(t, w.entries, 2, "whoever counts on it hears of it each time")
	assert.Equal(t, w.entries[0].Link, w.entries[1].Link)
	store.holds(t, batch, 2)
}

func refusalFails(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := append(m.Records(t, 2), store.Poison(t, m), m.Record(t, nil))
	s := opened(t, store)
	full := errors.New("quarantine is full")
	_, err := s.Write(t.Context(), batch, func(*sink.Entry, string) error { return full })
	require.ErrorIs(t, err, full)
	stub := string(batch[2].AppendStub(nil))
	assert.NotContains(t, store.Lines(t), stub, "no stub for what is nowhere")
	var w ward
	_, err = s.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Len(t, w.entries, 1)
	store.holds(t, batch, 2)
}

func oursAreKept(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := []sink.Entry{m.Control(t), m.Checkpoint(t), m.Record(t, nil), m.Control(t)}
	write(t, opened(t, store), batch...)
	store.holds(t, batch)
}

func cancelled(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := m.Records(t, 3)
	s := opened(t, store)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Write(ctx, batch, noRefusal(t))
	require.ErrorIs(t, err, context.Canceled)
	write(t, s, batch...)
	store.holds(t, batch)
}

func closed(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	s := store.Open(t)
	batch := m.Records(t, 1)
	write(t, s, batch...)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "twice is fine")
	_, err := s.Write(t.Context(), m.Records(t, 1), noRefusal(t))
	require.ErrorIs(t, err, sink.ErrClosed)
	_, err = s.Replay(t.Context(), &batch[0])
	require.ErrorIs(t, err, sink.ErrClosed)
	store.holds(t, batch)
}

// Several goroutines store overlapping batches of several origins.
func concurrentUse(t *testing.T, store *Store) {
	var all []sink.Entry
	for _, origin := range []string{Origin, OtherOrigin} {
		m := NewMaker(origin)
		for range 5 {
			all = append(append(all, m.Records(t, 8)...), m.Checkpoint(t))
		}
	}
	s := opened(t, store)
	var writers sync.WaitGroup
	for writer := range 4 {
		writers.Go(func() {
			for i := 0; i < len(all); i += 5 {
				at := (i + writer*20) % len(all)
				// A sink may ask to try again where two writers met.
				for range 100 {
					_, err := s.Write(t.Context(), all[at:min(at+12, len(all))], noRefusal(t))
					if err == nil {
						break
					}
					assert.NotErrorIs(t, err, sink.ErrConflict)
				}
			}
		})
	}
	writers.Wait()
	write(t, s, all...)
	store.holds(t, all)
}

func failed(t *testing.T, store *Store, stored bool) {
	m := NewMaker(Origin)
	before := m.Records(t, 2)
	s := opened(t, store)
	write(t, s, before...)
	store.Fail(t, stored)
	batch := append(m.Records(t, 3), m.Checkpoint(t))
	_, err := s.Write(t.Context(), batch, noRefusal(t))
	require.Error(t, err)
	assert.NotErrorIs(t, err, sink.ErrConflict)
	batch = append(batch, m.Record(t, nil))
	write(t, s, batch...)
	store.holds(t, append(before, batch...))
}

func replay(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := append(m.Records(t, 2), store.Poison(t, m), m.Record(t, nil))
	first := store.Open(t)
	var w ward
	_, err := first.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	_, err = first.Replay(t.Context(), &batch[2])
	require.ErrorIs(t, err, sink.ErrRefused)
	require.NoError(t, first.Close())
	store.holds(t, batch, 2)

	s := store.OpenCured(t)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	result, err := s.Replay(t.Context(), &batch[2])
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 1}, counts(result))
	result, err = s.Replay(t.Context(), &batch[2])
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Repeated: 1}, counts(result))
	result = counts(write(t, s, batch...))
	if store.Blind {
		result = sink.Result{Repeated: result.Repeated + result.Stored}
	}
	assert.Equal(t, sink.Result{Repeated: 4}, result, "whole beats stub")
	lines := store.Lines(t)
	for i := range batch {
		assert.Equal(t, 1, count(lines, string(batch[i].AppendLine(nil))), "index %d", i)
	}
}

func replayThatCannotBe(t *testing.T, store *Store) {
	m := NewMaker(Origin)
	batch := append(m.Records(t, 2), store.Poison(t, m))
	first := store.Open(t)
	var w ward
	_, err := first.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	s := store.OpenCured(t)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	if !store.NoStubs {
		forged := Forge(t, &batch[2])
		_, err = s.Replay(t.Context(), &forged)
		require.ErrorIs(t, err, sink.ErrConflict)
	}
	if !store.NoStubs && !store.Blind {
		never := m.Record(t, nil)
		_, err = s.Replay(t.Context(), &never)
		require.ErrorIs(t, err, sink.ErrNoStub)
	}
	store.holds(t, batch, 2)
}

func opened(t *testing.T, store *Store) sink.Sink {
	t.Helper()
	s := store.Open(t)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// noRefusal is the Refuse of tests in which nothing is refused.
func noRefusal(t *testing.T) sink.Refuse {
	return func(e *sink.Entry, reason string) error {
		t.Errorf("%s is refused: %s", e.Coordinate(), reason)
		return nil
	}
}

func write(t *testing.T, s sink.Sink, entries ...sink.Entry) sink.Result {
	t.Helper()
	result, err := s.Write(t.Context(), entries, noRefusal(t))
	require.NoError(t, err)
	return result
}

func counts(r sink.Result) sink.Result {
	return sink.Result{Stored: r.Stored, Refused: r.Refused, Checkpoints: r.Checkpoints, Repeated: r.Repeated}
}

// holds asserts that the store holds all of entries once and nothing else, with
// stubs for those at the given positions.
func (store *Store) holds(t *testing.T, entries []sink.Entry, stubs ...int) {
	t.Helper()
	var want []string
	for i := range entries {
		isStub := false
		for _, stub := range stubs {
			isStub = isStub || stub == i
		}
		switch {
		case !isStub:
			want = append(want, string(entries[i].AppendLine(nil)))
		case !store.NoStubs:
			want = append(want, string(entries[i].AppendStub(nil)))
		}
	}
	assert.ElementsMatch(t, want, store.Lines(t))
}

func count(lines []string, line string) int {
	n := 0
	for _, l := range lines {
		if l == line {
			n++
		}
	}
	return n
}
