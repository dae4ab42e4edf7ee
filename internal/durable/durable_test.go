// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// lockVariable makes the test binary a process that holds a lock until its
// standard input ends.
const lockVariable = "OTELAUDIT_TEST_LOCK"

func TestMain(m *testing.M) {
	directory := os.Getenv(lockVariable)
	if directory == "" {
		os.Exit(m.Run())
	}
	if _, err := LockDirectory(directory); err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString("locked\n") // the parent sees what is missing
	_, _ = os.Stdin.Read(make([]byte, 1))    // ends with the parent
}

func TestMkdirAll(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "a", "b", "c")
	require.NoError(t, MkdirAll(directory))
	for path := directory; filepath.Base(path) != "a"; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.ModeDir|dirMode, info.Mode())
	}
	require.NoError(t, MkdirAll(directory), "it is there already")
	require.NoError(t, MkdirAll("."))
}

func TestMkdirAllRefusesAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.ErrorContains(t, MkdirAll(file), "a file is in its place")
	require.Error(t, MkdirAll(filepath.Join(file, "below")))
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"first, and longer", strings.Repeat("larger than a slice", slice/8), "second", ""} {
		require.NoError(t, WriteFile(path, []byte(content)))
		read, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(read))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.EqualValues(t, fileMode, info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file stays")
}

func TestWriteFileReplacesTheLeftoverOfACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path+".tmp", []byte("much longer than what is written now"), 0o600))
	require.NoError(t, WriteFile(path, []byte("new")))
	read, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "new", string(read))
}

func TestFailedWriteFileKeepsTheOldContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, WriteFile(path, []byte("old")))
	require.NoError(t, os.Mkdir(path+".tmp", 0o700))
	require.ErrorContains(t, WriteFile(path, []byte("new")), path)
	read, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(read))
	require.Error(t, WriteFile(filepath.Join(path, "below"), nil))
	require.Error(t, WriteFile(path+".tmp", nil), "a directory is not replaced")
}

func TestSync(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	_, err = f.WriteString("content")
	require.NoError(t, err)
	require.NoError(t, Sync(f))
	require.NoError(t, f.Close())
	require.Error(t, Sync(f), "a closed file cannot be synced")
	require.Error(t, SyncDir(filepath.Join(t.TempDir(), "missing")))
}

func TestLockExcludesThisProcess(t *testing.T) {
	directory := t.TempDir()
	lock, err := LockDirectory(directory)
	require.NoError(t, err)
	_, err = LockDirectory(directory)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, directory)
	require.NoError(t, lock.Unlock())
	require.Error(t, lock.Unlock(), "it is free already")
	lock, err = LockDirectory(directory)
	require.NoError(t, err)
	require.NoError(t, lock.Unlock())
	_, err = LockDirectory(filepath.Join(directory, "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestLockExcludesOtherProcessesUntilTheyDie(t *testing.T) {
	directory := t.TempDir()
	other := exec.CommandContext(t.Context(), os.Args[0])
	other.Env = append(os.Environ(), lockVariable+"="+directory)
	_, err := other.StdinPipe()
	require.NoError(t, err)
	output, err := other.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)

	_, err = LockDirectory(directory)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, other.Process.Kill())
	require.Error(t, other.Wait(), "it was killed")
	lock, err := LockDirectory(directory)
	require.NoError(t, err, "the kernel frees the lock of a dead process")
	require.NoError(t, lock.Unlock())
}

func TestHeld(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "store")
	require.NoError(t, MkdirAll(directory))
	lock, err := LockDirectory(directory)
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Unlock()) }()
	requireHeld := func(want bool) {
		t.Helper()
		held, err := lock.Held()
		require.NoError(t, err)
		require.Equal(t, want, held)
	}
	requireHeld(true)
	require.NoError(t, os.Rename(directory, directory+".away"))
	requireHeld(false)
	require.NoError(t, os.WriteFile(directory, nil, fileMode))
	requireHeld(false)
	require.NoError(t, os.Remove(directory))
	require.NoError(t, MkdirAll(directory))
	other, err := LockDirectory(directory)
	require.NoError(t, err, "the new directory is free")
	requireHeld(false)
	require.NoError(t, other.Unlock())
	require.NoError(t, os.RemoveAll(directory))
	require.NoError(t, os.Rename(directory+".away", directory))
	requireHeld(true)
}

// Who may make names in the directory must not have us empty another file, or
// wait for somebody who reads from a pipe.
func TestWriteFileFollowsNoLink(t *testing.T) {
	directory := t.TempDir()
	other, path := filepath.Join(directory, "other"), filepath.Join(directory, "file")
	require.NoError(t, os.WriteFile(other, []byte("precious"), 0o600))
	for name, plant := range map[string]func(at string) error{
		"link":          func(at string) error { return os.Symlink(other, at) },
		"dangling link": func(at string) error { return os.Symlink(filepath.Join(directory, "nothing"), at) },
		"pipe":          func(at string) error { return unix.Mkfifo(at, fileMode) },
		"hard link":     func(at string) error { return os.Link(other, at) },
	} {
		for _, at := range []string{path, path + ".tmp"} {
			require.NoError(t, plant(at), name)
			require.NoError(t, WriteFile(path, []byte(name)), name)
			read, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, name, string(read))
			require.NoError(t, os.Remove(path))
		}
	}
	read, err := os.ReadFile(other)
	require.NoError(t, err)
	require.Equal(t, "precious", string(read))
	require.NoFileExists(t, filepath.Join(directory, "nothing"))
}

// A planted link is not the lock: it would have us make a file elsewhere, or take
// the lock of another directory.
func TestLockFollowsNoLink(t *testing.T) {
	directory, other := t.TempDir(), t.TempDir()
	lock, err := LockDirectory(other)
	require.NoError(t, err)
	for _, name := range []string{"nothing", "lock"} {
		path := filepath.Join(directory, "lock")
		require.NoError(t, os.Symlink(filepath.Join(other, name), path))
		_, err := LockDirectory(directory)
		require.ErrorContains(t, err, path)
		require.NotErrorIs(t, err, ErrLocked)
		require.NoError(t, os.Remove(path))
	}
	require.NoFileExists(t, filepath.Join(other, "nothing"))
	require.NoError(t, lock.Unlock())
}
