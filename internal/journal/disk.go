// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const segmentSuffix = ".segment"

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
	if err := j.disk.Remove(path); err != nil {
		return err
	}
	return j.disk.SyncDir(j.options.Directory)
}
