// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// summary is what the manifest of a file says, kept while the file grows: a
// file that is full is sealed without being read.
type summary struct {
	hash             hash.Hash
	bytes            int64
	lines            uint64
	records          span
	earliest, latest int64
	checkpoint       uint64
	hasCheckpoint    bool
}

func newSummary() summary { return summary{hash: sha256.New()} }

// write adds whole lines' bytes. What they are of is note's to add.
func (s *summary) write(lines []byte) {
	s.hash.Write(lines)
	s.bytes += int64(len(lines))
	s.lines += uint64(bytes.Count(lines, []byte{'\n'}))
}

// note adds a line of this origin.
func (s *summary) note(at coordinate, sealedAt int64) {
	if at.checkpoint {
		s.checkpoint, s.hasCheckpoint = at.number, true
		return
	}
	if !s.records.used {
		s.earliest, s.latest = sealedAt, sealedAt
	}
	s.earliest, s.latest = min(s.earliest, sealedAt), max(s.latest, sealedAt)
	s.records.add(at.number)
}

func (s *summary) manifest(origin string, first uint64) manifest {
	m := manifest{
		origin: origin, file: fileName(first), bytes: s.bytes, lines: s.lines,
		records: s.records, earliest: s.earliest, latest: s.latest,
		checkpoint: s.checkpoint, hasCheckpoint: s.hasCheckpoint,
	}
	s.hash.Sum(m.sha256[:0])
	return m
}

// sealing is a file that gets no more lines and has no manifest yet.
type sealing struct {
	first    uint64
	manifest manifest
}

// toSeal notes that the file of the given number gets no more lines.
func (o *origin) toSeal(first uint64, s *summary) {
	o.unsealed = append(o.unsealed, sealing{first, s.manifest(o.name, first)})
}

// seal writes the manifests that are due, each durably, and protects the files.
// What fails is tried again before the next write.
func (o *origin) seal() error {
	for len(o.unsealed) > 0 {
		next := &o.unsealed[0]
		if err := o.sealOne(next); err != nil {
			return fmt.Errorf("seal %s: %w", o.path(next.first), err)
		}
		o.unsealed = o.unsealed[1:]
	}
	return nil
}

// sealOne writes the manifest before it protects the file: one that is
// protected and has none could be the newest, to which lines are to be added.
func (o *origin) sealOne(s *sealing) error {
	temporary := filepath.Join(o.folder, stem(s.first)+".manifest.tmp")
	f, err := o.config.files.create(temporary)
	if err != nil {
		return vanished(err)
	}
	err = o.fill(f, temporary, filepath.Join(o.folder, manifestName(s.first)), s.manifest.encode())
	if err = errors.Join(vanished(err), f.Close()); err != nil {
		return err
	}
	return o.protect(s.first)
}

// protect makes a sealed file read-only.
func (o *origin) protect(first uint64) error {
	err := o.config.files.protect(o.path(first))
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOTSUP):
		// Some file systems have no such modes, and an immutable file needs none.
		o.config.Logger.Debug("a sealed audit file cannot be made read-only", zap.String("file", o.path(first)), zap.Error(err))
	case errors.Is(err, os.ErrNotExist): // moved away meanwhile
	case err != nil:
		return err
	}
	return nil
}

// readManifest returns the manifest of the file of the given number.
func readManifest(files fileSystem, folder, origin string, first uint64) (m manifest, err error) {
	path := filepath.Join(folder, manifestName(first))
	f, err := files.read(path)
	if err != nil {
		return manifest{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxManifest+1))
	if err != nil {
		return manifest{}, fmt.Errorf("read %s: %w", path, err)
	}
	m, err = parseManifest(text)
	if err == nil && (m.origin != origin || m.file != fileName(first)) {
		err = fmt.Errorf("%w: of another file", errManifest)
	}
	if err != nil {
		return manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// folderList is what an origin's folder holds, numbers in order.
type folderList struct {
	files     []uint64
	manifests map[uint64]bool
	left      []string // what a crash left half made
}

func listFolder(files fileSystem, folder string) (folderList, error) {
	names, err := files.names(folder)
	if err != nil {
		return folderList{}, err
	}
	list := folderList{manifests: map[uint64]bool{}}
	for _, name := range names {
		if first, ok := parseName(name, ".jsonl"); ok {
			list.files = append(list.files, first)
		}
		if first, ok := parseName(name, manifestExtension); ok {
			list.manifests[first] = true
		}
		_, file := parseName(name, ".tmp")
		_, manifest := parseName(name, ".manifest.tmp")
		if file || manifest {
			list.left = append(list.left, name)
		}
	}
	return list, nil
}

// removed returns the numbers of files of which only the manifest is there.
func (l *folderList) removed() []uint64 {
	present := map[uint64]bool{}
	for _, first := range l.files {
		present[first] = true
	}
	var gone []uint64
	for first := range l.manifests {
		if !present[first] {
			gone = append(gone, first)
		}
	}
	return gone
}
