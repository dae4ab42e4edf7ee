// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/verify"
)

const readBuffer = 1 << 20

// source is one file to read.
type source struct {
	path string
	size int64
}

// findFiles lists the files to read, in path order below each of paths, each
// once. whole says that one of paths is a directory, so that what is not there
// is missing. The error names what could not be looked at; the rest is listed.
func findFiles(paths []string) (files []source, whole bool, unread error) {
	seen := map[string]bool{}
	add := func(path string, info fs.FileInfo) error {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("read %s: not a regular file", path)
		}
		// A file without bytes has no lines. Those that the system makes up,
		// like /proc/kmsg behind a link, say so too, and may never end.
		if !seen[path] && info.Size() > 0 {
			seen[path] = true
			files = append(files, source{path, info.Size()})
		}
		return nil
	}
	for _, path := range paths {
		path = filepath.Clean(path)
		info, err := os.Stat(path)
		if err != nil {
			unread = errors.Join(unread, err)
			continue
		}
		if !info.IsDir() {
			unread = errors.Join(unread, add(path, info))
			continue
		}
		whole = true
		unread = errors.Join(unread, walk(path, add))
	}
	return files, whole, unread
}

// walk calls add for every file below root that can hold stored lines. It goes
// on after an error.
func walk(root string, add func(string, fs.FileInfo) error) (unread error) {
	resolved := root
	if target, err := filepath.EvalSymlinks(root); err == nil {
		resolved = target
	}
	err := filepath.WalkDir(resolved, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			unread = errors.Join(unread, err)
			return nil
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".jsonl") {
			return nil
		}
		info, err := os.Stat(path)
		if err == nil {
			err = add(root+strings.TrimPrefix(path, resolved), info)
		}
		unread = errors.Join(unread, err)
		return nil
	})
	return errors.Join(unread, err)
}

// fileLine is one line of a file.
type fileLine struct {
	offset, size int64  // size with the newline
	text         []byte // without the newline; nil if it is longer than audit.MaxLine, or torn
	torn         bool   // the file ends without a newline
}

// readLines feeds one file to v.
func readLines(v *verify.Verifier, path string, bar *progress) error {
	return eachLine(path, 0, func(l *fileLine) error {
		switch {
		case l.torn:
			v.Torn(path, l.offset)
		case l.text == nil:
			v.TooLong(path, l.offset)
		default:
			v.Line(path, l.offset, l.text)
		}
		bar.add(l.size)
		return nil
	})
}

// errEnough ends the reading of a store without an error.
var errEnough = errors.New("enough")

// eachLine calls visit for every line of a file from an offset on. The line is
// valid until visit returns, whose error ends the reading and is returned.
func eachLine(path string, from int64, visit func(*fileLine) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	reader := bufio.NewReaderSize(f, readBuffer)
	var long []byte // of a line that does not fit the buffer
	for line := (fileLine{offset: from}); ; line.offset += line.size {
		var ended bool
		line.text, line.size, ended, err = nextLine(reader, &long)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if line.size == 0 {
			return nil
		}
		line.torn = !ended
		if err := visit(&line); err != nil {
			return err
		}
	}
}

// nextLine returns the next line without its newline, nil if it is longer than
// audit.MaxLine, and its size with the newline: 0 at the end of the file. The
// line is valid until the next call.
func nextLine(reader *bufio.Reader, long *[]byte) (line []byte, size int64, ended bool, err error) {
	*long = (*long)[:0]
	for {
		part, err := reader.ReadSlice('\n')
		size += int64(len(part))
		ended = err == nil
		switch {
		case ended && size == int64(len(part)):
			return part[:len(part)-1], size, true, nil
		case size <= audit.MaxLine+1:
			*long = append(*long, part...)
		}
		switch {
		case ended && size > audit.MaxLine+1:
			return nil, size, true, nil
		case ended:
			return (*long)[:len(*long)-1], size, true, nil
		case errors.Is(err, io.EOF):
			return nil, size, false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, size, false, err
		}
	}
}

// spillFile is scratch space in a temporary file, made when it is first needed.
type spillFile struct{ file *os.File }

func (s *spillFile) WriteAt(b []byte, at int64) (int, error) {
	if s.file == nil {
		f, err := os.CreateTemp("", "otelaudit-verify-")
		if err != nil {
			return 0, err
		}
		s.file = f
		// Unlinked at once, it goes with the process, however that ends.
		if err := os.Remove(f.Name()); err != nil {
			return 0, err
		}
	}
	return s.file.WriteAt(b, at)
}

func (s *spillFile) ReadAt(b []byte, at int64) (int, error) {
	if s.file == nil {
		return 0, io.EOF
	}
	return s.file.ReadAt(b, at)
}

func (s *spillFile) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
