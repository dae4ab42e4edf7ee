// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"os"
)

// Disk is where bytes go that must survive. OS is the real one; tests put one
// that fails in its place.
type Disk interface {
	// Create makes the file at path, empty, open for appending.
	Create(path string) (Appender, error)
	// SyncDir makes the entries of the directory durable.
	SyncDir(directory string) error
	// WriteFile replaces a file, durably and at once.
	WriteFile(path string, data []byte) error
	// Rewrite puts data over what stands at offset and cuts off what is behind
	// it, durably, the file's entry in its directory included.
	Rewrite(path string, offset int64, data []byte) error
	// Allocate makes a file that takes size bytes of the disk.
	Allocate(path string, size int64) error
	// Remove deletes a file. That it is not there is no error.
	Remove(path string) error
}

// Appender is a file that only grows.
type Appender interface {
	Write(b []byte) (int, error)
	// Sync makes all that was written durable.
	Sync() error
	// Truncate cuts the file to size bytes.
	Truncate(size int64) error
	Close() error
}

// OS is the disk of the operating system.
type OS struct{}

// Create implements Disk.
func (OS) Create(path string) (Appender, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, fileMode)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// SyncDir implements Disk.
func (OS) SyncDir(directory string) error { return SyncDir(directory) }

// WriteFile implements Disk.
func (OS) WriteFile(path string, data []byte) error { return WriteFile(path, data) }

// Rewrite implements Disk.
func (OS) Rewrite(path string, offset int64, data []byte) error { return Rewrite(path, offset, data) }

// Allocate implements Disk.
func (OS) Allocate(path string, size int64) error { return Allocate(path, size) }

// Remove implements Disk.
func (OS) Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

type file struct{ *os.File }

func (f file) Sync() error { return Sync(f.File) }
