// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package durable does the few file operations whose order decides what
// survives a power cut.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process, or another part of this one, holds a
// directory or a file.
var ErrLocked = errors.New("directory is in use")

const (
	fileMode = 0o600
	dirMode  = 0o700
)

// MkdirAll creates the directory and its missing parents with mode 0700. When
// it returns nil the entries of those it created survive a power cut.
func MkdirAll(directory string) error {
	directory = filepath.Clean(directory)
	if info, err := os.Stat(directory); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("make directory %s: a file is in its place", directory)
		}
		return nil
	}
	parent := filepath.Dir(directory)
	if parent != directory {
		if err := MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(directory, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make directory: %w", err)
	}
	return SyncDir(parent)
}

// SyncDir makes the entries of directory durable.
func SyncDir(directory string) error {
	d, err := os.Open(directory)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", directory, err)
	}
	return nil
}

// Create makes an empty file, mode 0600, for reading and for writing at its end,
// in place of what is at path. A link there is replaced, never followed: who may
// make names in a directory must not have us empty files elsewhere.
func Create(path string) (*os.File, error) {
	if err := unix.Unlink(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace %s: %w", path, err) // a directory stays
	}
	return os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, fileMode)
}

// WriteFile replaces the file at path with data, mode 0600. A reader sees the
// old content or the new, also after a crash; when WriteFile returns nil the
// new one survives a power cut. Calls for one path must not run at the same
// time.
func WriteFile(path string, data []byte) error {
	temporary := path + ".tmp"
	f, err := Create(temporary)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = writeSlices(f, data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(temporary)))
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// slice is what WriteFile writes before it syncs: the syncs of others, on the
// same file system, wait for what is dirty.
const slice = 1 << 20

func writeSlices(f *os.File, data []byte) error {
	for len(data) > slice {
		if _, err := f.Write(data[:slice]); err != nil {
			return err
		}
		if err := Sync(f); err != nil {
			return err
		}
		data = data[slice:]
	}
	_, err := f.Write(data)
	return err
}

// Allocate makes the file at path, mode 0600, and takes size bytes of the disk
// for it. On an error there is no such file.
func Allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return fmt.Errorf("allocate %s: %w", path, err)
	}
	if err := errors.Join(allocate(f, size), f.Close()); err != nil {
		return fmt.Errorf("allocate %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// fill writes size zero bytes.
func fill(f *os.File, size int64) error {
	zeros := make([]byte, 1<<16)
	for size > 0 {
		n, err := f.Write(zeros[:min(size, int64(len(zeros)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return f.Sync()
}

// IsFull says whether err is a disk, or somebody's share of it, without room.
func IsFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// Rewrite puts data over what stands at offset of the file at path, cuts off
// what is behind it, and makes both durable, the file's entry included.
func Rewrite(path string, offset int64, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, fileMode)
	if err != nil {
		return fmt.Errorf("rewrite %s: %w", path, err)
	}
	_, err = f.WriteAt(data, offset)
	if err == nil {
		err = f.Truncate(offset + int64(len(data)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("rewrite %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// Lock is the exclusive hold on a directory or a file.
type Lock struct{ file *os.File }

// LockDirectory takes the exclusive lock of directory, a file named `lock` in
// it, or returns an error that wraps ErrLocked. The kernel frees it when the
// process ends. A link in its place is an error: it would have us make a file
// elsewhere, or take the lock of another directory.
func LockDirectory(directory string) (*Lock, error) {
	return LockFile(filepath.Join(directory, "lock"))
}

// LockFile takes the exclusive lock of the file at path, which it makes if it is
// missing, or returns an error that wraps ErrLocked. A link there is an error. A
// file that WriteFile replaces cannot be locked itself: lock another one beside
// it.
func LockFile(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", filepath.Dir(path), errors.Join(err, f.Close()))
	}
	return &Lock{file: f}, nil
}

// Held says whether the lock file that is held is still the one in the
// directory: where the directory was moved away or made anew it is not, and
// others may lock what is there now.
func (l *Lock) Held() (bool, error) {
	held, err := l.file.Stat()
	if err != nil {
		return false, fmt.Errorf("look at the lock: %w", err)
	}
	there, err := os.Stat(l.file.Name())
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the lock: %w", err)
	}
	return os.SameFile(held, there), nil
}

// IsLocked says whether somebody holds directory. It shares the lock for the
// moment that it looks: who wants to take it just then is told that it is held.
func IsLocked(directory string) (locked bool, err error) {
	f, err := os.Open(filepath.Join(directory, "lock"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the lock: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// LockFileWithin is LockFile, but waits for as long as wait for who holds the file.
// It asks again and again: flock itself would wait for ever.
func LockFileWithin(path string, wait time.Duration) (*Lock, error) {
	const poll = 10 * time.Millisecond
	for end := time.Now().Add(wait); ; time.Sleep(poll) {
		lock, err := LockFile(path)
		if !errors.Is(err, ErrLocked) || time.Now().After(end) {
			return lock, err
		}
	}
}

// Unlock frees the directory. The lock file stays.
func (l *Lock) Unlock() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}
