// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

// inWorld runs a test in a bubble with a world of its own.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, 1)) })
}

// next returns the next frame, which must be there.
func (w *world) next() *Frame {
	w.t.Helper()
	frame, err := w.journal.Poll()
	require.NoError(w.t, err)
	require.NotNil(w.t, frame)
	w.given(frame)
	return frame
}

func (w *world) noNext() {
	w.t.Helper()
	frame, err := w.journal.Poll()
	require.NoError(w.t, err)
	require.Nil(w.t, frame)
}

func TestRoundTrip(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		request := w.client(3)
		require.NoError(t, w.seal(request))

		start := w.next().Group
		require.Equal(t, Start, start.Kind)
		require.Equal(t, audit.StreamOrigin, start.Requests[0].Links[0].Stream)
		require.EqualValues(t, 1, w.next().Checkpoint.Size)
		frame := w.next()
		require.Equal(t, request.Frame, frame.Number)
		require.Equal(t, Client, frame.Group.Kind)
		require.Equal(t, 3, frame.Group.Records)
		require.Equal(t, time.Now().UnixNano(), frame.Group.SealedAt)
		require.Equal(t, Sealed{Payload: request.Payload, Links: request.Links, Hashes: request.Hashes}, frame.Group.Requests[0])
		w.noNext()

		w.advance(time.Second)
		require.EqualValues(t, 4, w.next().Checkpoint.Size)
		w.finish()
	})
}

func TestWaitingRequestsShareOneGroup(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		var requests []*Request
		for range 50 {
			requests = append(requests, w.client(2))
		}
		for _, err := range w.sealTogether(requests...) {
			require.NoError(t, err)
		}
		for _, r := range requests[2:] {
			require.Equal(t, requests[1].Frame, r.Frame)
		}
		require.Equal(t, requests[0].Frame+1, requests[1].Frame)
		require.Equal(t, 3, w.disk.Asked(faultdisk.StepSyncGroup), "the start record, the first request and all others")
		w.finish()
	})
}

func TestGroupIsClosedByItsBytes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.option.GroupBytes, w.option.SegmentBytes = 1000, 1<<20
		w.open()
		var requests []*Request
		for _, size := range []int{1, 5000, 100, 100, 5000, 1} {
			r := w.client(1)
			r.Payload = make([]byte, size)
			requests = append(requests, r)
		}
		for _, err := range w.sealTogether(requests...) {
			require.NoError(t, err)
		}
		var groups []uint64
		for _, r := range requests {
			groups = append(groups, r.Frame-requests[0].Frame)
		}
		require.Equal(t, []uint64{0, 1, 2, 2, 3, 4}, groups)
		w.finish()
	})
}

func TestControlRecordsStandAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		first, second, beat, third := w.client(1), w.client(1), w.control(Heartbeat), w.client(1)
		for _, err := range w.sealTogether(first, second, beat, third) {
			require.NoError(t, err)
		}
		w.receive(100)
		require.Equal(t, Heartbeat, w.groups[beat.Frame].Kind)
		require.Len(t, w.groups[beat.Frame].Requests, 1)
		require.NotNil(t, w.points[beat.Frame+1], "a heartbeat is signed at once")
		require.Greater(t, third.Frame, beat.Frame)
		w.finish()
	})
}

func TestLives(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for life := range 9 {
			w.open()
			require.NoError(t, w.seal(w.client(3)))
			w.receive(life)
			w.deliver(life - 1)
			switch life % 3 {
			case 0:
				require.NoError(t, w.seal(w.control(Stop)))
				require.NoError(t, w.journal.Close())
			case 1:
				require.NoError(t, w.journal.Close())
			case 2:
				w.kill()
			}
		}
		var causes []Cause
		for _, claim := range w.claims {
			causes = append(causes, claim.Cause)
		}
		require.Equal(t, []Cause{CauseFirst, CauseClean, CauseCrash, CauseCrash, CauseClean, CauseCrash, CauseCrash, CauseClean, CauseCrash}, causes)
		w.open()
		w.finish()
	})
}

func TestLifeWithoutStartRecordIsSkipped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		origin := w.journal.Origin()
		require.NoError(t, w.seal(w.control(Stop)))
		require.NoError(t, w.journal.Close())
		for range 3 {
			require.NoError(t, w.tryOpen())
			w.disk.FailOnce(faultdisk.StepSyncGroup, faultdisk.Nothing, false)
			require.ErrorIs(t, w.start(), ErrWrite)
			require.NoError(t, w.journal.Close())
		}
		w.open()
		previous := w.claims[len(w.claims)-1]
		require.Equal(t, CauseClean, previous.Cause)
		require.Equal(t, origin, previous.Origin)
		require.EqualValues(t, 2, previous.Size)
		w.finish()
	})
}

func TestLifeBeginsWithItsOneStartRecord(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		require.NoError(t, w.tryOpen())
		require.ErrorIs(t, w.seal(w.client(1)), errNoStart)
		require.ErrorIs(t, w.seal(w.control(Stop)), errNoStart)
		w.disk.FailOnce(faultdisk.StepWriteGroup, faultdisk.Short, false)
		require.ErrorIs(t, w.start(), ErrWrite)
		require.ErrorIs(t, w.seal(w.client(1)), errNoStart, "nothing may join the life before")
		require.NoError(t, w.start())
		require.ErrorIs(t, w.seal(w.control(Start)), errSecondStart)
		require.NoError(t, w.seal(w.client(1)))
		w.finish()
	})
}

func TestLifeEndsWithItsStopRecord(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		stop, late := w.control(Stop), w.client(1)
		errs := w.sealTogether(w.client(1), stop, late)
		require.NoError(t, errs[1])
		require.ErrorIs(t, errs[2], ErrClosed)
		require.ErrorIs(t, w.seal(w.control(Heartbeat)), ErrClosed)
		w.receive(100)
		require.Equal(t, stop.Links[0].Index+1, w.points[stop.Frame+1].Size, "the last checkpoint covers the stop record")
		w.finish()
	})
}

func TestFull(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.option.MaxBytes = 1000
		w.open()
		fill := func(size int) error {
			r := w.client(1)
			r.Payload = make([]byte, size)
			return w.seal(r)
		}
		w.receive(10)
		w.deliver(10)
		require.NoError(t, fill(600))
		require.ErrorIs(t, fill(401), ErrFull)
		require.NoError(t, fill(400))
		require.ErrorIs(t, fill(1), ErrFull)
		require.NoError(t, w.seal(w.control(Heartbeat)), "control records are exempt")
		bytes, records := w.journal.Backlog()
		require.Greater(t, bytes, int64(1000))
		require.EqualValues(t, 2, records, "client records only")

		w.receive(1)
		require.ErrorIs(t, fill(1), ErrFull, "given out is not delivered")
		w.deliver(1)
		require.NoError(t, fill(100))

		w.kill()
		w.option.MaxBytes = 2000
		w.open()
		bytes, records = w.journal.Backlog()
		require.EqualValues(t, 3, records)
		require.ErrorIs(t, fill(int(2001-bytes)), ErrFull, "a restart does not make room")
		w.finish()
	})
}

func TestFailedRequestsGiveTheirRoomBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		w.receive(10)
		w.deliver(10)
		w.disk.FailOnce(faultdisk.StepSyncGroup, faultdisk.Persisted, false)
		require.ErrorIs(t, w.seal(w.client(2)), ErrWrite)
		bytes, records := w.journal.Backlog()
		require.Zero(t, bytes)
		require.Zero(t, records)
		w.finish()
	})
}

func TestRefusedRequests(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.option.MaxBytes = 1 << 40
		w.open()
		for name, test := range map[string]struct {
			change func(r *Request)
			want   string
		}{
			"no records":        {func(r *Request) { r.Links = nil }, "cannot have 0 records"},
			"two in a control":  {func(r *Request) { r.Kind, r.Links = Heartbeat, append(r.Links, r.Links...) }, "cannot have 2 records"},
			"unknown kind":      {func(r *Request) { r.Kind = 9 }, "kind 9"},
			"long stream":       {func(r *Request) { r.Links[0].Stream = strings.Repeat("x", chain.MaxName+1) }, "record 0 is longer than 512 bytes"},
			"more than a frame": {func(r *Request) { r.Payload = make([]byte, maxRequest) }, ErrTooLarge.Error()},
		} {
			r := w.client(1)
			test.change(r)
			require.ErrorContains(t, w.seal(r), test.want, name)
		}
		w.journal.options.MaxBytes = 10
		r := w.client(1)
		r.Payload = make([]byte, 11)
		require.ErrorIs(t, w.seal(r), ErrTooLarge)
		w.finish()
	})
}

func TestStreamsBeyondTheMostOverflow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.option.MaxStreams = 3
		w.open()
		streams := func(names ...string) (sealed []string) {
			r := w.client(len(names))
			for i := range names {
				r.Links[i].Stream = names[i]
			}
			require.NoError(t, w.seal(r))
			for i := range names {
				sealed = append(sealed, r.Links[i].Stream)
			}
			return sealed
		}
		require.Equal(t, []string{"a", "b", audit.StreamOverflow, "a"}, streams("a", "b", "c", "a"), "with the origin's stream, a and b are three")
		w.kill()
		w.open()
		require.Equal(t, []string{audit.StreamOverflow, "b"}, streams("d", "b"))
		w.finish()
	})
}

func TestFailedGroupGivesItsStreamsBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.option.MaxStreams = 2
		w.open()
		failed := w.client(1)
		w.disk.FailOnce(faultdisk.StepWriteGroup, faultdisk.Nothing, false)
		require.ErrorIs(t, w.seal(failed), ErrWrite)
		other := w.client(1)
		other.Links[0].Stream = "other"
		require.NoError(t, w.seal(other))
		require.Equal(t, "other", other.Links[0].Stream)
		w.finish()
	})
}

func TestCheckpointsKeepTheirDistance(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.option.CheckpointInterval = time.Minute
		w.open()
		for range 5 {
			require.NoError(t, w.seal(w.client(1)))
			w.advance(time.Second)
		}
		require.Equal(t, 1, w.disk.Asked(faultdisk.StepWriteCheckpoint), "the start record's")
		w.advance(time.Minute)
		require.Equal(t, 2, w.disk.Asked(faultdisk.StepWriteCheckpoint))
		w.advance(time.Hour)
		require.Equal(t, 2, w.disk.Asked(faultdisk.StepWriteCheckpoint), "nothing new")
		require.NoError(t, w.seal(w.control(Heartbeat)))
		require.Equal(t, 3, w.disk.Asked(faultdisk.StepWriteCheckpoint), "a control record's comes at once")
		w.finish()
	})
}

func TestFailedCheckpointIsTriedAgainInItsTime(t *testing.T) {
	for _, s := range []faultdisk.Step{faultdisk.StepWriteCheckpoint, faultdisk.StepSyncCheckpoint, faultdisk.StepCreate} {
		t.Run(string(s), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.option.SegmentBytes = 1 // each frame behind the state frame fills the segment
				w.open()
				w.disk.SetWeather(func(asked faultdisk.Step) faultdisk.Fault { // the group passes, its checkpoint does not
					if asked != s || w.disk.Asked(faultdisk.StepSyncGroup) != 2 {
						return faultdisk.Fault{}
					}
					return faultdisk.Fault{Failure: faultdisk.Nothing}
				})
				require.NoError(t, w.seal(w.control(Heartbeat)))
				before := w.disk.Asked(s)
				w.advance(10*time.Second + time.Millisecond)
				require.Equal(t, before+10, w.disk.Asked(s), "once a second, no more")
				w.disk.SetWeather(nil)
				w.advance(time.Second)
				w.receive(100)
				require.EqualValues(t, 2, w.points[w.pending[len(w.pending)-1]].Size)
				w.finish()
			})
		})
	}
}

// A caller that gives up does not take its request back: it counts, and comes
// out, once it is durable.
func TestCallerThatGivesUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		bytes, records := w.journal.Backlog()
		release := make(chan struct{})
		w.disk.Hold(release)
		ctx, cancel := context.WithCancel(t.Context())
		r := w.client(3)
		var err error
		go func() { err = w.journal.Seal(ctx, r) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.ErrorIs(t, err, ErrUnknown)
		require.ErrorIs(t, err, context.Canceled)
		var told []error
		r.Settled(func(err error) { told = append(told, err) })
		require.Empty(t, told, "its fate is not known yet")
		close(release)
		synctest.Wait()
		require.Equal(t, []error{nil}, told, "it is durable all the same")
		r.Settled(func(err error) { told = append(told, err) })
		require.Len(t, told, 2, "who asks late is told at once")
		after, more := w.journal.Backlog()
		require.Equal(t, records+3, more)
		require.Equal(t, bytes+int64(len(r.Payload)), after)
		require.NoError(t, w.journal.Close())
	})
}

func TestCloseWaitsForRequestsUnderWay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		release := make(chan struct{})
		w.disk.Hold(release)
		first, second := w.client(1), w.client(1)
		var errs [2]error
		closed := false
		go func() { errs[0] = w.journal.Seal(context.Background(), first) }()
		synctest.Wait()
		go func() { errs[1] = w.journal.Seal(context.Background(), second) }()
		synctest.Wait()
		go func() { assert.NoError(t, w.journal.Close()); closed = true }()
		synctest.Wait()
		require.False(t, closed)
		require.ErrorIs(t, w.seal(w.client(1)), ErrClosed)
		close(release)
		synctest.Wait()
		require.True(t, closed)
		require.NoError(t, errors.Join(errs[:]...))
		w.acknowledged(first)
		w.acknowledged(second)
		require.NoError(t, w.journal.Close(), "a second time does nothing")
		w.open()
		w.finish()
	})
}

func TestNextWaits(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		w.receive(2)
		ctx, cancel := context.WithCancel(t.Context())
		frames := make(chan *Frame, 1)
		go func() {
			for {
				frame, err := w.journal.Next(ctx)
				if err != nil {
					assert.ErrorIs(t, err, context.Canceled)
					close(frames)
					return
				}
				frames <- frame
			}
		}()
		synctest.Wait()
		require.Empty(t, frames)
		request := w.client(1)
		require.NoError(t, w.seal(request))
		frame := <-frames
		require.Equal(t, request.Frame, frame.Number)
		w.given(frame)
		cancel()
		synctest.Wait()
		_, open := <-frames
		require.False(t, open)
		w.finish()
	})
}

func TestIdleForwarderWritesTheCursorDown(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		w.receive(1)
		w.deliver(1)
		w.receive(1)
		w.deliver(1)
		require.Less(t, w.journal.reader.persisted, w.journal.reader.delivered)
		ctx, cancel := context.WithTimeout(t.Context(), 2*cursorInterval)
		defer cancel()
		_, err := w.journal.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, w.journal.reader.delivered, w.journal.reader.persisted)
		require.Equal(t, formatCursor(w.journal.reader.delivered), string(w.read(cursorFile)))
		w.finish()
	})
}

func TestDeliveredNeverGoesBackNorAhead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		require.NoError(t, w.seal(w.client(1)))
		w.receive(2)
		w.journal.Delivered(1 << 60)
		require.Equal(t, w.pending[1], w.journal.reader.delivered)
		w.journal.Delivered(1)
		require.Equal(t, w.pending[1], w.journal.reader.delivered)
		w.pending = nil
		bytes, records := w.journal.Backlog()
		require.Positive(t, bytes)
		require.EqualValues(t, 1, records)
		w.finish()
	})
}

func TestSecondOpenerIsRefused(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "a", "b")
	j, err := Open(Options{Directory: directory, Key: testKey})
	require.NoError(t, err)
	_, err = Open(Options{Directory: directory, Key: testKey})
	require.ErrorIs(t, err, durable.ErrLocked)
	require.ErrorContains(t, err, "give each `audit` processor a `journal::directory` of its own")
	require.NoError(t, j.Close())
	j, err = Open(Options{Directory: directory, Key: testKey})
	require.NoError(t, err)
	require.NoError(t, j.Close())
}

func TestOpenRefusesWhatIsNotItsOwn(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, directory string, options *Options)
		want  string
	}{
		"other instance": {func(_ *testing.T, _ string, o *Options) { o.Instance = "other" }, "`chain::instance` is \"other\""},
		"no key":         {func(_ *testing.T, _ string, o *Options) { o.Key = nil }, "no Ed25519 key"},
		"no identity": {func(t *testing.T, d string, _ *Options) {
			require.NoError(t, os.Remove(filepath.Join(d, identityFile)))
		}, "restore it"},
		"identity no JSON": {func(t *testing.T, d string, _ *Options) { write(t, d, identityFile, "{") }, "journal identity"},
		"bad instance":     {func(t *testing.T, d string, _ *Options) { write(t, d, identityFile, `{"instance":"a/b"}`) }, "journal identity"},
		"bad journal id": {func(t *testing.T, d string, _ *Options) {
			write(t, d, identityFile, `{"instance":"test","journal":"12"}`)
		}, "16 hex digits"},
		"strange segment": {func(t *testing.T, d string, _ *Options) { write(t, d, "1.segment", "") }, "move it out"},
		"segment 0":       {func(t *testing.T, d string, _ *Options) { write(t, d, fmt.Sprintf("%020d.segment", 0), "") }, "move it out"},
		"cursor ahead":    {func(t *testing.T, d string, _ *Options) { write(t, d, cursorFile, formatCursor(99)) }, "behind its last frame"},
		"damaged cursor":  {func(t *testing.T, d string, _ *Options) { write(t, d, cursorFile, "1 00000000\n") }, "remove it to deliver again"},
		"empty cursor":    {func(t *testing.T, d string, _ *Options) { write(t, d, cursorFile, "") }, "remove it to deliver again"},
		"no segments": {func(t *testing.T, d string, _ *Options) {
			write(t, d, cursorFile, formatCursor(1))
			require.NoError(t, os.Remove(filepath.Join(d, "00000000000000000001.segment")))
		}, "behind its last frame 0"},
	} {
		t.Run(name, func(t *testing.T) {
			options := Options{Directory: t.TempDir(), Instance: "test", Key: testKey}
			j, err := Open(options)
			require.NoError(t, err)
			require.NoError(t, j.Close())
			test.spoil(t, options.Directory, &options)
			_, err = Open(options)
			require.ErrorContains(t, err, test.want)
			lock, err := durable.LockDirectory(options.Directory)
			require.NoError(t, err, "the lock is free again")
			require.NoError(t, lock.Unlock())
		})
	}
}

func write(t *testing.T, directory, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600))
}

func TestInstanceComesFromTheHostThenFromTheDirectory(t *testing.T) {
	directory := t.TempDir()
	open := func() chain.Origin {
		j, err := Open(Options{Directory: directory, Key: testKey})
		require.NoError(t, err)
		require.NoError(t, j.Close())
		origin, err := chain.ParseOrigin(j.Origin())
		require.NoError(t, err)
		return origin
	}
	first, second := open(), open()
	require.Equal(t, hostInstance(), first.Instance)
	require.Equal(t, first.Log(), second.Log())
	require.NotEqual(t, first.Life, second.Life)
}

// TestManyClientsOnARealDisk lets clients, the forwarder and the clock run as
// they like.
func TestManyClientsOnARealDisk(t *testing.T) {
	const clients, each = 32, 40
	directory := t.TempDir()
	options := Options{Directory: directory, Instance: "test", Key: testKey, SegmentBytes: 20 << 10, CheckpointInterval: time.Millisecond}
	w := newWorld(t, 1)
	j, err := Open(options)
	require.NoError(t, err)
	w.journal = j
	require.NoError(t, j.Seal(context.Background(), w.control(Start)))
	ctx, stop := context.WithCancel(t.Context())
	var forwarder, callers sync.WaitGroup
	forwarder.Go(func() {
		for {
			frame, err := j.Next(ctx)
			if err != nil {
				assert.ErrorIs(t, err, context.Canceled)
				return
			}
			w.given(frame)
			w.deliver(1)
		}
	})
	requests := make([]*Request, clients*each)
	for i := range requests {
		requests[i] = w.client(1 + i%3)
	}
	for c := range clients {
		callers.Go(func() {
			for _, r := range requests[c*each : (c+1)*each] {
				assert.NoError(t, j.Seal(context.Background(), r))
			}
		})
	}
	callers.Wait()
	require.NoError(t, j.Seal(context.Background(), w.control(Stop)))
	stop()
	forwarder.Wait()
	w.receive(1 << 30)
	w.deliver(1 << 30)
	require.NoError(t, j.Close())
	w.owed = requests
	w.checkOwed()
	w.checkLog()
	numbers, err := listSegments(directory)
	require.NoError(t, err)
	require.Len(t, numbers, 1, "delivered segments go")
}

// A request that was sealed a moment ago comes back in its live form; one that
// was sealed too long ago for that, or by another process, does not.
func TestLiveForms(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.option.GroupBytes, w.option.MaxBytes = maxLive, 8*maxLive
		w.open()
		small, large := w.client(1), w.client(1)
		small.Live, large.Live = "small", "large"
		large.Payload = make([]byte, maxLive)
		last := w.client(1)
		last.Live = "last"
		for _, r := range []*Request{small, large, last} {
			require.NoError(t, w.seal(r))
		}
		var forms []any
		for range 5 {
			frame, err := w.journal.Poll()
			require.NoError(t, err)
			if frame != nil && frame.Group != nil && frame.Group.Kind == Client {
				forms = append(forms, frame.Group.Requests[0].Live)
			}
		}
		require.Equal(t, []any{"small", nil, "last"}, forms)
		require.Zero(t, w.journal.liveBytes)
		require.Empty(t, w.journal.live)
		w.kill()
		w.open()
		for frame, err := w.journal.Poll(); frame != nil; frame, err = w.journal.Poll() {
			require.NoError(t, err)
			if frame.Group != nil {
				require.Nil(t, frame.Group.Requests[0].Live)
			}
		}
		w.kill()
	})
}

// Callers who give up on a disk that does not answer leave their requests
// behind. However often they come again, memory stays bounded.
func TestWaitingIsBounded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.option.SegmentBytes = 1 << 30
		w.open()
		release := make(chan struct{})
		w.disk.Hold(release)
		held := w.client(1)
		result := make(chan error, 1)
		go func() { result <- w.journal.Seal(context.Background(), held) }()
		synctest.Wait()
		given, cancel := context.WithCancel(t.Context())
		cancel()
		var left []*Request
		var err error
		for err = ErrUnknown; errors.Is(err, ErrUnknown) && len(left) < 1000; {
			r := w.client(1)
			r.Payload = make([]byte, 1<<20)
			if err = w.journal.Seal(given, r); errors.Is(err, ErrUnknown) {
				left = append(left, r)
			}
		}
		require.ErrorIs(t, err, ErrBusy)
		require.Len(t, left, maxWaiting>>20-1)
		close(release)
		synctest.Wait()
		require.NoError(t, <-result)
		w.acknowledged(held)
		for _, r := range left {
			require.NoError(t, r.err)
			w.acknowledged(r)
		}
		require.NoError(t, w.seal(w.client(1)))
		require.Zero(t, w.journal.waits)
		w.finish()
	})
}
