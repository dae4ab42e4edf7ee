// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/otelaudit/otelaudit/audit/chain"
)

const testOrigin = "host-1/00112233445566aa/20261123T090700Z-0123abcd"

func entry(index uint64, event string) *Entry {
	link := chain.Link{
		Origin: testOrigin, Index: index, Stream: "tenant:acme", Seq: index + 1, SealedAt: 1,
		Prev: sha256.Sum256([]byte("before")), Digest: sha256.Sum256([]byte(event)),
	}
	return &Entry{
		Link: link, Hash: link.Hash(), Sink: "audit/archive", Reason: "line is too long",
		At: time.Unix(0, 1_800_000_000_000_000_001).UTC(), Event: []byte(event),
	}
}

const event = `{"record":{"event_name":"user.login"}}`

func TestPutAndRead(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "below", "quarantine")
	e := entry(7, event)
	require.NoError(t, Put(directory, e))
	read, err := Read(directory, e.Coordinate())
	require.NoError(t, err)
	assert.Equal(t, *e, read)
	listed, err := List(directory)
	require.NoError(t, err)
	assert.Equal(t, []Coordinate{{testOrigin, 7}}, listed)

	text, err := os.ReadFile(filepath.Join(directory, "records",
		"20261123T090700Z-0123abcd-00000000000000000007-00112233445566aa-host-1.json"))
	require.NoError(t, err)
	assert.True(t, bytes.Contains(text, []byte(`,"event":`+event+"}}\n")), "an auditor hashes bytes of the file")
}

// A record that is delivered again is refused again.
func TestPutRepeats(t *testing.T) {
	directory := t.TempDir()
	first := entry(7, event)
	require.NoError(t, Put(directory, first))
	again := entry(7, event)
	again.At, again.Reason = again.At.Add(time.Hour), "another reason"
	require.NoError(t, Put(directory, again))
	read, err := Read(directory, first.Coordinate())
	require.NoError(t, err)
	assert.Equal(t, first.At, read.At, "the first refusal stays")

	require.ErrorIs(t, Put(directory, entry(7, `{"record":{}}`)), ErrConflict)
	read, err = Read(directory, first.Coordinate())
	require.NoError(t, err)
	assert.Equal(t, *first, read)
}

func TestPutRefusesWhatDoesNotBelongTogether(t *testing.T) {
	for name, change := range map[string]func(*Entry){
		"digest":       func(e *Entry) { e.Event = []byte(`{"record":{"secret":1}}`) },
		"hash":         func(e *Entry) { e.Hash[0]++ },
		"way up":       func(e *Entry) { e.Link.Origin = "../00112233445566aa/20261123T090700Z-0123abcd" },
		"no origin":    func(e *Entry) { e.Link.Origin = "host-1/../x" },
		"empty origin": func(e *Entry) { e.Link.Origin = "" },
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			e := entry(7, event)
			change(e)
			err := Put(directory, e)
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "secret", "no content in errors")
			_, err = os.Stat(filepath.Join(directory, records))
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

func TestPutKeepsADamagedFile(t *testing.T) {
	directory := t.TempDir()
	e := entry(7, event)
	require.NoError(t, Put(directory, e))
	path, err := file(directory, records, e.Coordinate())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("{}"), 0o600))
	err = Put(directory, e)
	require.ErrorIs(t, err, ErrMalformed)
	assert.ErrorContains(t, err, path)
}

// The words of a refusal keep no record out.
func TestPutMakesTextOfReasons(t *testing.T) {
	directory := t.TempDir()
	e := entry(7, event)
	e.Reason = "bad \xff byte, " + strings.Repeat("ü", MaxText)
	require.NoError(t, Put(directory, e))
	read, err := Read(directory, e.Coordinate())
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(read.Reason, "bad \uFFFD byte, üüü"))
	assert.LessOrEqual(t, len(read.Reason), MaxText)
	assert.Greater(t, len(read.Reason), MaxText-4)
}

func TestPutSaysWhatFailed(t *testing.T) {
	obstacle := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(obstacle, nil, 0o600))
	require.ErrorContains(t, Put(obstacle, entry(1, event)), obstacle)
}

func TestModes(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "quarantine")
	e := entry(7, event)
	require.NoError(t, Put(directory, e))
	require.NoError(t, Ask(directory, e.Coordinate(), Request{Action: Replay, At: e.At}))
	require.NoError(t, filepath.WalkDir(directory, func(path string, found fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := found.Info()
		require.NoError(t, err)
		want := fs.FileMode(0o600)
		if found.IsDir() {
			want = 0o700
		}
		assert.Equal(t, want, info.Mode().Perm(), path)
		return nil
	}))
}

func TestList(t *testing.T) {
	directory := t.TempDir()
	for _, made := range []bool{false, true} {
		if made {
			require.NoError(t, Make(directory))
		}
		exists, err := Exists(directory)
		require.NoError(t, err)
		assert.Equal(t, made, exists)
		empty, err := List(directory)
		require.NoError(t, err)
		assert.Empty(t, empty)
		assertRequests(t, directory)
	}

	later := entry(3, event)
	later.Link.Origin = "host-1/00112233445566aa/20261124T090700Z-00000000"
	later.Hash = later.Link.Hash()
	for _, e := range []*Entry{later, entry(10, event), entry(9, event)} {
		require.NoError(t, Put(directory, e))
	}
	for _, name := range []string{
		"x.json", "20261123T090700Z-0123abcd-00000000000000000001-00112233445566aa-host-1.json.tmp",
		"20261123T090700Z-0123abcd-00000000000000000001-00112233445566aa-..json",
		"20261123T090700Z-0123abcd-+0000000000000000001-00112233445566aa-host-1.json",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(directory, "records", name), nil, 0o600))
	}
	listed, err := List(directory)
	require.NoError(t, err)
	assert.Equal(t, []Coordinate{{testOrigin, 9}, {testOrigin, 10}, later.Coordinate()}, listed)
}

func TestCoordinates(t *testing.T) {
	for _, c := range []Coordinate{{testOrigin, 0}, {testOrigin, 1<<64 - 1}, {"-.-_.json/00112233445566aa/20261123T090700Z-0123abcd", 5}} {
		parsed, err := ParseCoordinate(c.String())
		require.NoError(t, err)
		assert.Equal(t, c, parsed)
		name, err := c.name()
		require.NoError(t, err)
		parsed, ok := parseName(name)
		require.True(t, ok, name)
		assert.Equal(t, c, parsed)
	}
	for _, text := range []string{"", "7", testOrigin, testOrigin + "/", testOrigin + "/07", testOrigin + "/+7", testOrigin + "/-1", "/" + testOrigin + "/7"} {
		_, err := ParseCoordinate(text)
		assert.Error(t, err, text)
	}
}

func TestRequests(t *testing.T) {
	directory := t.TempDir()
	e := entry(7, event)
	c := e.Coordinate()
	require.ErrorIs(t, Ask(directory, c, Request{Action: Replay, At: e.At}), os.ErrNotExist)
	require.NoError(t, Put(directory, e))
	require.ErrorContains(t, Ask(directory, c, Request{Action: Drop, At: e.At, Reason: " "}), "reason")
	require.ErrorContains(t, Ask(directory, c, Request{Action: "burn", At: e.At}), "burn")
	assertRequests(t, directory)

	require.NoError(t, Ask(directory, c, Request{Action: Replay, At: e.At}))
	drop := Request{Action: Drop, At: e.At, Reason: "ticket 7"}
	require.NoError(t, Ask(directory, c, drop), "the last word counts")
	assertRequests(t, directory, c)
	read, err := ReadRequest(directory, c)
	require.NoError(t, err)
	assert.Equal(t, drop, read)

	_, err = ReadFailure(directory, c)
	require.ErrorIs(t, err, os.ErrNotExist)
	failure := Request{Action: Drop, At: e.At, Reason: "no room"}
	require.NoError(t, Fail(directory, c, failure))
	assertRequests(t, directory)
	read, err = ReadFailure(directory, c)
	require.NoError(t, err)
	assert.Equal(t, failure, read)

	require.NoError(t, Ask(directory, c, drop))
	require.NoError(t, Remove(directory, c))
	require.NoError(t, Remove(directory, c), "twice is fine")
	assertRequests(t, directory)
	_, err = Read(directory, c)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ReadFailure(directory, c)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func assertRequests(t *testing.T, directory string, want ...Coordinate) {
	t.Helper()
	found, err := Requests(directory, 10)
	require.NoError(t, err)
	assert.Equal(t, append([]Coordinate{}, want...), append([]Coordinate{}, found...))
}

// However much is asked for at once, it is done piece by piece.
func TestRequestsAreBounded(t *testing.T) {
	directory := t.TempDir()
	for i := range uint64(5) {
		require.NoError(t, Put(directory, entry(i, event)))
		require.NoError(t, Ask(directory, Coordinate{testOrigin, i}, Request{Action: Replay, At: time.Unix(1, 0)}))
	}
	require.NoError(t, os.WriteFile(filepath.Join(directory, requests, "x.json.tmp"), nil, 0o600))
	for left := 5; left > 0; {
		found, err := Requests(directory, 2)
		require.NoError(t, err)
		require.Len(t, found, min(2, left))
		for _, c := range found {
			require.NoError(t, Remove(directory, c))
			left--
		}
	}
	assertRequests(t, directory)
}

func TestReadRefusesWhatStandsUnderAnotherName(t *testing.T) {
	directory := t.TempDir()
	require.NoError(t, Put(directory, entry(7, event)))
	from, err := file(directory, records, Coordinate{testOrigin, 7})
	require.NoError(t, err)
	to, err := file(directory, records, Coordinate{testOrigin, 8})
	require.NoError(t, err)
	require.NoError(t, os.Rename(from, to))
	_, err = Read(directory, Coordinate{testOrigin, 8})
	require.ErrorIs(t, err, ErrMalformed)
}

func TestParseRefuses(t *testing.T) {
	good := string(entry(7, event).text())
	change := func(old, replacement string) string {
		require.Contains(t, good, old)
		return strings.Replace(good, old, replacement, 1)
	}
	for name, text := range map[string]string{
		"nothing":       "",
		"cut":           good[:len(good)-1],
		"more":          good + "\n",
		"space":         change(`,"sink"`, `, "sink"`),
		"order":         change(`"reason":"line is too long","sink":"audit/archive"`, `"sink":"audit/archive","reason":"line is too long"`),
		"escape":        change(`line is`, `line\u0020is`),
		"long reason":   change(`line is`, strings.Repeat("x", MaxText+1)),
		"time":          change(`{"at":"18`, `{"at":"018`),
		"time too long": change(`{"at":"18`, `{"at":"`+strings.Repeat("1", 100)),
		"event":         change("user.login", "user.logout"),
		"link":          change(`"seq":"8"`, `"seq":"9"`),
	} {
		_, err := ParseEntry([]byte(text))
		assert.ErrorIs(t, err, ErrMalformed, name)
	}
	_, err := ParseEntry([]byte(good))
	require.NoError(t, err)
	for _, text := range []string{
		"", `{"at":"1","action":"burn","reason":""}` + "\n", `{"at":"1","action":"drop","reason":""}` + "\n",
		`{"at":"1","action":"replay","reason":""}`, `{"at":"+1","action":"replay","reason":""}` + "\n",
	} {
		_, err := ParseRequest([]byte(text))
		assert.ErrorIs(t, err, ErrMalformed, text)
	}
}

// What is accepted has one spelling.
func FuzzParse(f *testing.F) {
	f.Add(entry(7, event).text())
	for _, r := range []Request{{Action: Replay}, {Action: Drop, Reason: "ticket \"7\""}} {
		f.Add(r.text())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if e, err := ParseEntry(text); err == nil {
			require.Equal(t, text, e.text())
			require.Equal(t, e.Link.Digest, chain.Hash(sha256.Sum256(e.Event)))
		}
		if r, err := ParseRequest(text); err == nil {
			require.Equal(t, text, r.text())
		}
	})
}

// What is no file, or far too long, is malformed at once: it neither holds up
// who reads nor takes memory.
func TestReadsFilesOnly(t *testing.T) {
	places := map[string]func(t *testing.T, path string){
		"pipe":      func(t *testing.T, path string) { require.NoError(t, unix.Mkfifo(path, 0o600)) },
		"directory": func(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o700)) },
		"device":    func(t *testing.T, path string) { require.NoError(t, os.Symlink("/dev/zero", path)) },
		"socket": func(t *testing.T, path string) {
			s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, unix.Close(s)) })
			t.Chdir(filepath.Dir(path)) // the address of a socket is short
			require.NoError(t, unix.Bind(s, &unix.SockaddrUnix{Name: "socket"}))
			require.NoError(t, os.Rename("socket", path))
		},
		"long": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, nil, 0o600))
			require.NoError(t, os.Truncate(path, maxFile+1))
		},
	}
	for name, put := range places {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			e := entry(7, event)
			c := e.Coordinate()
			require.NoError(t, Put(directory, e))
			for _, folder := range []string{requests, failures, records} {
				path, err := file(directory, folder, c)
				require.NoError(t, err)
				require.NoError(t, os.RemoveAll(path))
				put(t, path)
			}
			_, err := ReadRequest(directory, c)
			require.ErrorIs(t, err, ErrMalformed)
			_, err = ReadFailure(directory, c)
			require.ErrorIs(t, err, ErrMalformed)
			_, err = Read(directory, c)
			require.ErrorIs(t, err, ErrMalformed)
			require.ErrorIs(t, Put(directory, e), ErrMalformed)
		})
	}
}

// Operators who ask for one record at once leave one request, whole.
func TestAskAtOnce(t *testing.T) {
	directory := t.TempDir()
	e := entry(7, event)
	require.NoError(t, Put(directory, e))
	const operators = 16
	var all sync.WaitGroup
	for i := range operators {
		all.Go(func() {
			for range 8 {
				err := Ask(directory, e.Coordinate(), Request{Action: Drop, At: time.Unix(0, int64(i)), Reason: "ticket"})
				if !assert.NoError(t, err) {
					return
				}
				_, err = ReadRequest(directory, e.Coordinate())
				assert.NoError(t, err)
			}
		})
	}
	all.Wait()
	asked, err := Requests(directory, operators)
	require.NoError(t, err)
	assert.Len(t, asked, 1)
	// Nothing else stays, least of all what only one of them could open.
	for folder, want := range map[string]int{".": 3, requests: 1} {
		left, err := os.ReadDir(filepath.Join(directory, folder))
		require.NoError(t, err)
		assert.Len(t, left, want, folder)
	}
}
