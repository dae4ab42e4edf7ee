// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

// journalFiles is a journal's directory as a dead process left it.
type journalFiles map[string][]byte

func (w *world) files() journalFiles {
	w.kill()
	files := journalFiles{}
	for name := range w.disk.Live {
		if name != reserveFile { // large, and nothing in it
			files[name] = w.read(name)
		}
	}
	return files
}

// with returns the files with one of them changed, or gone where content is nil.
func (f journalFiles) with(name string, content []byte) journalFiles {
	changed := journalFiles{}
	for other := range f {
		changed[other] = f[other]
	}
	if changed[name] = content; content == nil {
		delete(changed, name)
	}
	return changed
}

func (f journalFiles) segments() []string {
	var names []string
	for name := range f {
		if filepath.Ext(name) == segmentSuffix {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// store puts the files into a directory.
func (f journalFiles) store(t testing.TB, directory string) {
	require.NoError(t, os.RemoveAll(directory))
	require.NoError(t, os.Mkdir(directory, 0o700))
	for name, content := range f {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), content, 0o600))
	}
}

// open starts a process on the files and ends it at once.
func (f journalFiles) open(t testing.TB, directory string) (*Journal, error) {
	f.store(t, directory)
	j, err := Open(Options{Directory: directory, Instance: "test", Key: testKey, Disk: faultdisk.New(directory)})
	if err == nil {
		require.NoError(t, j.Close())
	}
	return j, err
}

// frameStarts returns where the frames of a segment begin, and its end.
func frameStarts(t testing.TB, data []byte) []int {
	offsets := []int{0}
	for offset := 0; offset < len(data); {
		f, err := parseFrame(data[offset:])
		require.NoError(t, err)
		offset += f.size()
		offsets = append(offsets, offset)
	}
	return offsets
}

// filled returns the files of a journal with at least three segments and some
// delivered frames.
func filled(w *world) journalFiles {
	w.open()
	for len(w.disk.Segments()) < 3 {
		require.NoError(w.t, w.seal(w.client(2)))
		w.advance(time.Second)
	}
	for range 3 {
		require.NoError(w.t, w.seal(w.client(1)))
	}
	w.receive(3)
	w.deliver(2)
	require.NoError(w.t, w.journal.PersistCursor())
	return w.files()
}

func TestTornTailAtEveryByte(t *testing.T) {
	for _, last := range []string{"group", "checkpoint", "state"} {
		t.Run(last, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.open()
				require.NoError(t, w.seal(w.client(2)))
				switch last {
				case "checkpoint":
					w.advance(time.Second)
				case "state":
					require.NoError(t, w.journal.Close())
					require.NoError(t, w.tryOpen())
				}
				files := w.files()
				tearEveryByte(t, files)
			})
		})
	}
}

// tearEveryByte cuts the newest segment within its last frame, with nothing,
// zeros or other bytes behind the cut.
func tearEveryByte(t *testing.T, files journalFiles) {
	names := files.segments()
	newest := names[len(names)-1]
	whole := files[newest]
	starts := frameStarts(t, whole)
	start := starts[len(starts)-2]
	directory := filepath.Join(faultdisk.Scratch(t), "journal")
	full, err := files.open(t, directory)
	require.NoError(t, err)
	before, err := files.with(newest, whole[:start]).open(t, directory)
	require.NoError(t, err)
	for cut := start; cut < len(whole); cut++ {
		for i, torn := range [][]byte{whole[:cut:cut], append(whole[:cut:cut], make([]byte, len(whole)-cut)...), append(whole[:cut:cut], "oaf2 and more"...)} {
			if bytes.Equal(torn, whole) {
				continue // it ends in zeros anyway
			}
			j, err := files.with(newest, torn).open(t, directory)
			require.NoError(t, err, "cut at %d, way %d", cut, i)
			require.Equal(t, before.Previous(), j.Previous(), "cut at %d, way %d", cut, i)
			require.Equal(t, before.backlog, j.backlog)
			if start > 0 {
				require.EqualValues(t, len(torn)-start, j.Torn())
				require.Equal(t, full.durable-1, j.durable)
			} else {
				require.NotEqual(t, torn, readFile(t, directory, newest), "an unborn segment is made anew")
			}
		}
	}
}

func readFile(t *testing.T, directory, name string) []byte {
	data, err := os.ReadFile(filepath.Join(directory, name))
	require.NoError(t, err)
	return data
}

func TestFlippedByteIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		files := filled(w)
		directory := filepath.Join(faultdisk.Scratch(t), "journal")
		names := files.segments()
		for i, name := range names {
			data := files[name]
			starts := frameStarts(t, data)
			ends := len(starts) - 1
			if i == len(names)-1 {
				ends-- // the last frame of all may be torn
			}
			for k := range ends {
				for _, at := range []int{0, kindOffset, numberOffset + 7, saltOffset, lengthOffset, lengthOffset + 3, crcOffset, headerSize, starts[k+1] - starts[k] - 1} {
					flipped := bytes.Clone(data)
					flipped[starts[k]+at] ^= 1
					_, err := files.with(name, flipped).open(t, directory)
					var corrupt *CorruptError
					require.ErrorAs(t, err, &corrupt, "segment %d, frame %d, byte %d", i, k, at)
					require.Equal(t, filepath.Join(directory, name), corrupt.File)
					require.EqualValues(t, starts[k], corrupt.Offset)
					require.ErrorContains(t, err, name)
					require.ErrorContains(t, err, "keep a copy of the directory")
					require.Equal(t, flipped, readFile(t, directory, name), "evidence is left alone")
				}
			}
		}
	})
}

// TestForgedRecordIsRefused changes a hash and repairs the checksum: the chain
// would not go on.
func TestForgedRecordIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		request := w.client(1)
		require.NoError(t, w.seal(request))
		files := w.files()
		name := files.segments()[0]
		data := bytes.Clone(files[name])
		at := bytes.Index(data, request.Hashes[0][:])
		require.Positive(t, at)
		data[at] ^= 1
		starts := frameStarts(t, files[name])
		last := data[starts[len(starts)-2]:]
		f, _, err := parseHeader(last)
		require.NoError(t, err)
		require.NoError(t, finishFrame(last, f.kind, f.number, f.salt))
		_, err = files.with(name, data).open(t, filepath.Join(faultdisk.Scratch(t), "journal"))
		require.ErrorContains(t, err, "does not continue its stream")
	})
}

// TestUnknownFrameIsRefused holds for a frame of a later version and for a
// state frame that is not the first.
func TestUnknownFrameIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		files := w.files()
		name := files.segments()[0]
		for _, kind := range []frameKind{0, frameState, frameCheckpoint + 1} {
			data := bytes.Clone(files[name])
			starts := frameStarts(t, data)
			at := starts[len(starts)-2]
			f, _, err := parseHeader(data[at:])
			require.NoError(t, err)
			require.NoError(t, finishFrame(data[at:], kind, f.number, f.salt))
			_, err = files.with(name, data).open(t, filepath.Join(faultdisk.Scratch(t), "journal"))
			require.ErrorContains(t, err, fmt.Sprintf("kind %d does not belong here", kind))
		}
	})
}

func TestCutOrMissingSegmentIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		files := filled(w)
		names := files.segments()
		directory := filepath.Join(faultdisk.Scratch(t), "journal")
		for name, test := range map[string]struct {
			files journalFiles
			want  string
		}{
			"cut":                     {files.with(names[1], files[names[1]][:len(files[names[1]])-1]), "the file is cut"},
			"empty":                   {files.with(names[1], []byte{}), "no valid frame"},
			"middle":                  {files.with(names[1], nil), "which it continues, is missing"},
			"oldest":                  {files.with(names[0], nil), "which were not delivered"},
			"other content":           {files.with(names[1], files[names[0]]), "no state frame"},
			"no cursor and no middle": {files.with(cursorFile, nil).with(names[1], nil), "which it continues, is missing"},
		} {
			_, err := test.files.open(t, directory)
			require.ErrorContains(t, err, test.want, name)
		}
	})
}

func TestCursorBehindDeliversAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		files := filled(w)
		names := files.segments()
		for number := range w.frames {
			delete(w.frames, number) // w judges a journal of its own below
		}
		for cursor := range uint64(5) {
			directory := filepath.Join(faultdisk.Scratch(t), "journal")
			changed := files.with(cursorFile, []byte(formatCursor(cursor)))
			if cursor == 0 {
				changed = files.with(cursorFile, nil)
			}
			changed.store(t, directory)
			j, err := Open(Options{Directory: directory, Instance: "test", Key: testKey, Disk: faultdisk.New(directory)})
			require.NoError(t, err)
			requireFrames(t, j, framesAfter(t, changed, names, cursor))
			require.NoError(t, j.Close())
		}
	})
}

// framesAfter returns the groups and checkpoints in the segments that a cursor
// has not passed.
func framesAfter(t *testing.T, files journalFiles, names []string, cursor uint64) (frames []frame) {
	for _, name := range names {
		for data := files[name]; len(data) > 0; {
			f, err := parseFrame(data)
			require.NoError(t, err)
			data = data[f.size():]
			if f.number > cursor && f.kind != frameState {
				frames = append(frames, f)
			}
		}
	}
	return frames
}

// requireFrames receives exactly the frames, byte for byte.
func requireFrames(t *testing.T, j *Journal, want []frame) {
	for _, f := range want {
		frame, err := j.Poll()
		require.NoError(t, err)
		require.NotNil(t, frame)
		require.Equal(t, f.number, frame.Number)
		require.Equal(t, len(f.payload), frame.Bytes)
		if frame.Group != nil {
			group, err := parseGroup(f.payload, false)
			require.NoError(t, err)
			require.Equal(t, &group, frame.Group)
		} else {
			require.Equal(t, f.payload, appendCheckpoint(nil, frame.Checkpoint))
		}
	}
	frame, err := j.Poll()
	require.NoError(t, err)
	require.Nil(t, frame)
}

// TestLeftoversBehindAGap puts back delivered segments, as a removal that did
// not outlive a power cut does, one with a refused frame at its end.
func TestLeftoversBehindAGap(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		files := filled(w)
		names := files.segments()
		w.open()
		w.receive(1 << 30)
		w.deliver(1 << 30)
		require.NoError(t, w.journal.PersistCursor())
		w.kill()
		require.NotContains(t, w.disk.Segments(), names[2])
		for i, name := range names[:2] {
			content := append(bytes.Clone(files[name]), files[names[2]][:50*i]...)
			w.disk.Live[name] = &faultdisk.Inode{Live: content, Stable: content}
			require.NoError(t, faultdisk.ReplaceFile(filepath.Join(w.disk.Directory, name), content))
		}
		w.open()
		for _, name := range names {
			require.NotContains(t, w.disk.Segments(), name)
		}
		w.finish()
	})
}

// TestPayloadCannotPassForAFrame cuts the write of a group whose payload holds
// frames, as a client may make it: it is a torn tail all the same.
func TestPayloadCannotPassForAFrame(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		forged := beginFrame(nil)
		require.NoError(t, finishFrame(forged, frameGroup, 1<<40, 12345))
		request := w.client(1)
		request.Payload = bytes.Repeat(forged, 1000)
		require.NoError(t, w.seal(request))
		files := w.files()
		name := files.segments()[0]
		j, err := files.with(name, files[name][:len(files[name])-1]).open(t, filepath.Join(faultdisk.Scratch(t), "journal"))
		require.NoError(t, err)
		require.Greater(t, j.Torn(), int64(len(request.Payload)))
	})
}

// TestUnreadableFrameIsNeverSkipped lets the disk lose what it had taken while
// the journal is open.
func TestUnreadableFrameIsNeverSkipped(t *testing.T) {
	spoiled := map[string]func(w *world, name string, data []byte, start int){
		"flipped": func(w *world, name string, data []byte, start int) {
			data[start+headerSize] ^= 1
			require.NoError(w.t, os.WriteFile(filepath.Join(w.disk.Directory, name), data, 0o600))
		},
		"cut": func(w *world, name string, _ []byte, start int) {
			require.NoError(w.t, os.Truncate(filepath.Join(w.disk.Directory, name), int64(start+headerSize+1)))
		},
		"valid frame of an unknown kind": func(w *world, name string, data []byte, start int) {
			f, _, err := parseHeader(data[start:])
			require.NoError(w.t, err)
			require.NoError(w.t, finishFrame(data[start:], 9, f.number, f.salt))
			require.NoError(w.t, os.WriteFile(filepath.Join(w.disk.Directory, name), data, 0o600))
		},
		"valid frame that does not parse": func(w *world, name string, data []byte, start int) {
			f, _, err := parseHeader(data[start:])
			require.NoError(w.t, err)
			data[start+headerSize] = 200 // the kind of the records
			require.NoError(w.t, finishFrame(data[start:], f.kind, f.number, f.salt))
			require.NoError(w.t, os.WriteFile(filepath.Join(w.disk.Directory, name), data, 0o600))
		},
	}
	for name, spoil := range spoiled {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.open()
				require.NoError(t, w.seal(w.client(1)))
				w.receive(2)
				segment := w.disk.Segments()[0]
				data := w.read(segment)
				starts := frameStarts(t, data)
				start := starts[len(starts)-2]
				spoil(w, segment, data, start)
				for range 2 {
					frame, err := w.journal.Next(t.Context())
					require.Nil(t, frame)
					var corrupt *CorruptError
					require.ErrorAs(t, err, &corrupt)
					require.EqualValues(t, start, corrupt.Offset)
				}
			})
		})
	}
}

// TestRefusedFrameIsNotFoundByARestart fails the sync of a group that is on
// disk all the same: what was refused does not come back.
func TestRefusedFrameIsNotFoundByARestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		w.disk.FailOnce(faultdisk.StepSyncGroup, faultdisk.Persisted, false)
		require.ErrorIs(t, w.seal(w.client(1)), ErrWrite)
		w.disk.SetWeather(func(faultdisk.Step) faultdisk.Fault { return faultdisk.Fault{Failure: faultdisk.Nothing} }) // the disk is full for good
		require.ErrorIs(t, w.seal(w.client(1)), ErrWrite)
		w.kill()
		w.open()
		require.EqualValues(t, 1, w.claims[1].Size)
		w.finish()
	})
}

// TestLastFrameIsWrittenAnew recovers a frame that only the page cache has, and
// then cuts the power.
func TestLastFrameIsWrittenAnew(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open()
		request := w.client(1)
		require.NoError(t, w.seal(request))
		segment := w.disk.Live[w.disk.Segments()[0]]
		segment.Stable = segment.Stable[:len(segment.Stable)-10]
		segment.FailSync()
		w.kill()
		w.open()
		w.powerCut(faultdisk.LoseAll)
		w.open()
		w.finish()
	})
}

func TestStateFrameIsOneSpelling(t *testing.T) {
	s := newState()
	s.enter("origin")
	for i := range 100 {
		s.seal(&chain.Link{Stream: fmt.Sprint(i % 30)}, 100)
	}
	first := appendState(nil, acceptedEnd{segment: 1, length: 2}, s)
	for range 5 {
		require.Equal(t, first, appendState(nil, acceptedEnd{segment: 1, length: 2}, s))
	}
	before, again, err := parseState(first)
	require.NoError(t, err)
	require.Equal(t, acceptedEnd{segment: 1, length: 2}, before)
	require.Equal(t, s.heads, again.heads)
	require.Equal(t, s.tree.Root(), again.tree.Root())
	require.Equal(t, s.tree.Size(), again.tree.Size())
}

func TestCorruptErrorUnwraps(t *testing.T) {
	cause := errors.New("cause")
	require.ErrorIs(t, &CorruptError{File: "f", Offset: 7, Err: cause}, cause)
	require.ErrorContains(t, &CorruptError{File: "f", Offset: 7, Err: cause}, "in f at byte 7: cause")
}

// An identity whose write failed behind its rename is found by the next start:
// a power cut must not take it from the segments that are then made.
func TestIdentityIsDurableBeforeSegments(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.disk.FailOnce(faultdisk.StepIdentity, faultdisk.Persisted, false)
		require.ErrorIs(t, w.tryOpen(), faultdisk.ErrFault)
		w.disk.FailOnce(faultdisk.StepSyncCreated, faultdisk.Nothing, true)
		require.ErrorIs(t, w.tryOpen(), faultdisk.ErrFault)
		w.disk = w.disk.PowerCut(t, faultdisk.LoseAll, w.random)
		require.NotNil(t, w.disk.Live[identityFile])
		w.open()
		w.finish()
	})
}
