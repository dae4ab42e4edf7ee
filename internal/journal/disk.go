// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/otelaudit/otelaudit/internal/durable"
)

const segmentSuffix = ".segment"

// disk is where the writer's bytes go. Tests put a faulty one in its place.
type disk interface {
	// create makes the file at path, empty, open for appending.
	create(path string) (appender, error)
	// syncDir makes the entries of the directory durable.
	syncDir(directory string) error
	// writeFile replaces a file, durably and at once.
	writeFile(path string, data []byte) error
	// rewrite puts data over what stands at offset and cuts off what is behind
	// it, durably, the file's entry in its directory included.
	rewrite(path string, offset int64, data []byte) error
	// allocate makes a file that takes size bytes of the disk.
	allocate(path string, size int64) error
	// remove deletes a file. That it is not there is no error.
	remove(path string) error
}

// appender is a file that only grows.
type appender interface {
	Write(b []byte) (int, error)
	// Sync makes all that was written durable.
	Sync() error
	// Truncate cuts the file to size bytes.
	Truncate(size int64) error
	Close() error
}

type realDisk struct{}

func (realDisk) create(path string) (appender, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return realFile{f}, nil
}

func (realDisk) remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (realDisk) syncDir(directory string) error           { return durable.SyncDir(directory) }
func (realDisk) writeFile(path string, data []byte) error { return durable.WriteFile(path, data) }

func (realDisk) allocate(path string, size int64) error { return durable.Allocate(path, size) }

func (realDisk) rewrite(path string, offset int64, data []byte) error {
	return durable.Rewrite(path, offset, data)
}

type realFile struct{ *os.File }

func (f realFile) Sync() error { return durable.Sync(f.File) }

// segment is one file of frames.
type segment struct {
	first  uint64 // number of its first frame, a state frame
	salt   uint64 // of all its frames
	length int64  // accepted bytes
	last   uint64 // number of its last accepted frame
}

func (j *Journal) segmentPath(first uint64) string {
	return filepath.Join(j.options.Directory, fmt.Sprintf("%020d%s", first, segmentSuffix))
}

// listSegments returns the numbers in the names of the segment files, sorted.
func listSegments(directory string) ([]uint64, error) { return listFiles(directory, segmentSuffix) }

// listFiles returns the numbers in the names of the files with a suffix,
// sorted.
func listFiles(directory, suffix string) ([]uint64, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	var numbers []uint64
	for _, entry := range entries {
		name, found := strings.CutSuffix(entry.Name(), suffix)
		if !found {
			continue
		}
		number, err := strconv.ParseUint(name, 10, 64)
		if err != nil || len(name) != 20 || number == 0 {
			return nil, fmt.Errorf("journal file %s has no frame number for a name: move it out of the directory", entry.Name())
		}
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers, nil
}

// removeSegment deletes a segment durably. Callers go from the oldest to the
// newest and stop at an error: so no gap appears between those that are left.
func (j *Journal) removeSegment(first uint64) error {
	if err := j.removeFile(j.segmentPath(first)); err != nil {
		return fmt.Errorf("remove delivered segment: %w", err)
	}
	return nil
}

// removeFile deletes a file durably.
func (j *Journal) removeFile(path string) error {
	if err := j.disk.remove(path); err != nil {
		return err
	}
	return j.disk.syncDir(j.options.Directory)
}
