// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/otelaudit/otelaudit/internal/durable"
)

const (
	fileMode   = 0o600
	sealedMode = 0o400
	dirMode    = 0o700
)

// errStale says that a file is not the one that the sink wrote to: somebody
// moved, removed, truncated or extended it.
var errStale = errors.New("the file was changed by another program")

// vanished makes of a folder that is not there any more what a file that is gone
// is: errStale.
func vanished(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", errStale, err)
	}
	return err
}

// fileSystem is the handful of operations that decide what survives a crash.
// Tests put one in its place that fails.
type fileSystem interface {
	// mkdir makes one directory; an existing one is fine.
	mkdir(path string) error
	// names lists a directory in order.
	names(directory string) ([]string, error)
	// create makes an empty file, in place of what is there. It follows no link.
	create(path string) (file, error)
	// open opens an existing file for reading and for writing at its end.
	open(path string) (file, error)
	// read opens an existing file for reading only: an operator may have
	// protected the older ones.
	read(path string) (file, error)
	rename(from, to string) error
	// protect makes a file read-only, unprotect undoes that.
	protect(path string) error
	unprotect(path string) error
	remove(path string) error
	size(path string) (int64, error)
	// free is the room that is left, in bytes.
	free(directory string) (int64, error)
	// syncDir makes the entries of a directory durable.
	syncDir(directory string) error
}

// file is an open file. Writes go to its end.
type file interface {
	io.Writer
	io.ReaderAt
	io.Closer
	// Sync makes all that was written durable.
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
	// At returns errStale unless the file at path is this one.
	At(path string) error
}

// disk is the fileSystem of the operating system.
type disk struct{}

func (disk) mkdir(path string) error {
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func (disk) names(directory string) ([]string, error) {
	entries, err := os.ReadDir(directory)
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	return names, err
}

func (disk) create(path string) (file, error) {
	f, err := durable.Create(path)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (disk) open(path string) (file, error) { return openFile(path, os.O_RDWR|os.O_APPEND) }

func (disk) read(path string) (file, error) { return openFile(path, os.O_RDONLY) }

func (disk) rename(from, to string) error   { return os.Rename(from, to) }
func (disk) protect(path string) error      { return os.Chmod(path, sealedMode) }
func (disk) unprotect(path string) error    { return os.Chmod(path, fileMode) }
func (disk) remove(path string) error       { return os.Remove(path) }
func (disk) syncDir(directory string) error { return durable.SyncDir(directory) }

func (disk) size(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (disk) free(directory string) (int64, error) { return freeBytes(directory) }

func isNotEmpty(err error) bool { return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) }

func openFile(path string, flags int) (file, error) {
	f, err := os.OpenFile(path, flags, fileMode)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

type diskFile struct{ *os.File }

func (f diskFile) Sync() error { return durable.Sync(f.File) }

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f diskFile) At(path string) error {
	there, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errStale, err)
	}
	here, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(here, there) {
		return fmt.Errorf("%w: another file is at %s", errStale, path)
	}
	return nil
}
