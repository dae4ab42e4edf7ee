// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
)

// within is how long a test waits for what must come.
const within = 30 * time.Second

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, within, 10*time.Millisecond)
}

// screen is what a command prints while it runs.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// running is a command that goes on until it is interrupted.
type running struct {
	stdout, stderr screen
	interrupt      func()
	ended          chan int
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{interrupt: cancel, ended: make(chan int, 1)}
	go func() { r.ended <- run(ctx, args, console{strings.NewReader(""), &r.stdout, &r.stderr}) }()
	t.Cleanup(cancel)
	return r
}

func (r *running) shows(t *testing.T, want ...string) {
	t.Helper()
	whole := func() []found { // a line may be half printed
		text := r.stdout.String()
		return parseFound(t, text[:strings.LastIndexByte(text, '\n')+1])
	}
	eventually(t, func() bool { return len(whole()) >= len(want) })
	assert.Equal(t, want, ids(whole()))
}

func (r *running) end(t *testing.T) int {
	t.Helper()
	r.interrupt()
	select {
	case code := <-r.ended:
		return code
	case <-time.After(within):
		t.Fatal("it does not end")
		return 0
	}
}

// Tail shows what comes, over rotations and new lives.
func TestTailFollows(t *testing.T) {
	directory := t.TempDir()
	store := filepath.Join(directory, "audit")
	config := map[string]any{"file": map[string]any{"directory": store, "max_file_bytes": 4 << 10}}
	p := startPipeline(t, directory, config)
	sendAll(t, p, event("a-0", 0, nil), event("a-1", 0, nil), event("a-2", 0, nil))
	eventually(t, func() bool { return len(parseFound(t, otelaudit("query", "--format", "jsonl", store).stdout)) == 3 })

	tail := start(t, "tail", "-f", "-n", "2", "--json", store)
	want := []string{"a-1", "a-2"}
	tail.shows(t, want...)
	eventually(t, func() bool { // at most one rotation a second
		id := "b-" + strconv.Itoa(len(want))
		sendAll(t, p, event(id, 0, nil))
		want = append(want, id)
		return len(jsonlFiles(t, store)) >= 3
	})
	tail.shows(t, want...)
	p.stop()
	p = startPipeline(t, directory, config)
	sendAll(t, p, event("c-0", 0, nil))
	tail.shows(t, append(want, "c-0")...)
	assert.Equal(t, exitSound, tail.end(t))
	assert.Empty(t, tail.stderr.String())
	p.stop()

	out := otelaudit("tail", "-n", "3", store)
	assert.Equal(t, exitSound, out.code)
	assert.Equal(t, 4, strings.Count(out.stdout, "\n"), "a head and three events")
	assert.Contains(t, out.stdout, "acme")
	assert.Empty(t, otelaudit("tail", "-n", "0", store).stdout)
}

// A line that is being written is shown once it is whole; a file in the place of
// another one is shown from its start; one that became shorter is named.
func TestTailFollowsOddFiles(t *testing.T) {
	first := jsonlFiles(t, searched(t))[0]
	content, err := os.ReadFile(first)
	require.NoError(t, err)
	lines := bytes.SplitAfter(content, []byte("\n"))
	var events [][]byte
	for _, line := range lines {
		if bytes.Contains(line, []byte(`"event_name":"file.`)) {
			events = append(events, line)
		}
	}
	require.GreaterOrEqual(t, len(events), 4)

	directory := t.TempDir()
	path := filepath.Join(directory, "00000000000000000000.jsonl")
	write := func(content []byte) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = f.Write(content)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	write(events[0])
	write(events[1][:10])
	tail := start(t, "tail", "-f", "--json", directory)
	tail.shows(t, "e-0")
	write(events[1][10:])
	tail.shows(t, "e-0", "e-1")

	aside := filepath.Join(directory, "new")
	require.NoError(t, os.WriteFile(aside, bytes.Join(events[2:4], nil), 0o600))
	require.NoError(t, os.Rename(aside, path))
	tail.shows(t, "e-0", "e-1", "e-2", "e-3")

	require.NoError(t, os.Truncate(path, int64(len(events[2]))))
	eventually(t, func() bool { return strings.Contains(tail.stderr.String(), "became shorter") })
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(filepath.Join(directory, "b.jsonl"), events[0], 0o600))
	tail.shows(t, "e-0", "e-1", "e-2", "e-3", "e-0")
	assert.Equal(t, exitSound, tail.end(t))
}

func TestEachLineBack(t *testing.T) {
	long := strings.Repeat("x", 3*backBlock)
	for _, text := range []string{"", "\n", "a\n", "a\nb\n", "a\nb", "\n\na\n", "a", long + "\nb\n" + long + "\nc\nrest", strings.Repeat("ab\n", backBlock)} {
		var want []string
		end := strings.LastIndexByte(text, '\n') + 1
		for line := range strings.Lines(text[:end]) {
			want = append(want, strings.TrimSuffix(line, "\n"))
		}
		slices.Reverse(want)
		var got []string
		at, err := eachLineBack(strings.NewReader(text), int64(len(text)), func(offset int64, line []byte) error {
			if string(line) != text[offset:int(offset)+len(line)] {
				t.Fatal("it is not at its offset") // the line is too long to be printed
			}
			got = append(got, string(line))
			return nil
		})
		require.NoError(t, err)
		assert.EqualValues(t, end, at)
		require.True(t, slices.Equal(want, got), "%d lines, want %d", len(got), len(want))
	}
	tooLong := strings.NewReader("a\n" + strings.Repeat("x", audit.MaxLine+2*backBlock) + "\n")
	_, err := eachLineBack(tooLong, tooLong.Size(), func(int64, []byte) error { return nil })
	assert.ErrorContains(t, err, "too long")
}
