// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/otelaudit/otelaudit/audit"
)

// backBlock is how much is read at a time from the end of a file.
const backBlock = 256 << 10

// followedFiles is a store in files.
type followedFiles struct {
	paths []string
	read  map[string]*followed
}

// followed is a file as far as it was read.
type followed struct {
	info   fs.FileInfo
	offset int64 // behind the last whole line that was read
	seen   bool  // when the store was looked at last
}

func (f *followedFiles) close() error { return nil }

// last begins with the files that were written last, and ends where no other can
// hold a newer event than those found: what is in a file was sealed before the
// file was written last.
func (f *followedFiles) last(ctx context.Context, show *shower, n int) error {
	files, unread := f.newestFirst()
	var newest []recent
	for _, path := range files {
		at := f.read[path]
		want := n
		if len(newest) > 0 && len(newest) == n && newest[0].event.Link.SealedAt > at.info.ModTime().UnixNano() {
			want = 0
		}
		found, err := at.last(ctx, show, path, want)
		unread = errors.Join(unread, err)
		newest = newestOf(append(newest, found...), n)
	}
	return errors.Join(unread, showRecent(show, newest))
}

// newestFirst lists the files by when they were written last.
func (f *followedFiles) newestFirst() (paths []string, unread error) {
	files, _, unread := findFiles(f.paths)
	for _, file := range files {
		info, err := os.Stat(file.path)
		if err != nil {
			unread = errors.Join(unread, err)
			continue
		}
		f.read[file.path] = &followed{info: info}
		paths = append(paths, file.path)
	}
	slices.SortStableFunc(paths, func(a, b string) int {
		return f.read[b].info.ModTime().Compare(f.read[a].info.ModTime())
	})
	return paths, unread
}

// last returns the last n events of a file that are wanted, in their order, and
// takes the whole of it as read.
func (f *followed) last(ctx context.Context, show *shower, path string, n int) (found []recent, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	f.offset, err = eachLineBack(file, f.info.Size(), func(offset int64, text []byte) error {
		if len(found) == n {
			return errEnough
		}
		line, err := audit.ParseLine(text)
		if err != nil {
			show.cannot(path, offset, err)
			return ctx.Err()
		}
		e, err := show.sieve.Take(&line)
		switch {
		case err != nil:
			show.cannot(path, offset, err)
		case e != nil:
			found = append(found, recent{path, offset, e})
		}
		return ctx.Err()
	})
	slices.Reverse(found)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, err
}

// next shows what was written behind what is read, in every file.
func (f *followedFiles) next(ctx context.Context, show *shower) error {
	files, _, unread := findFiles(f.paths)
	for _, at := range f.read {
		at.seen = false
	}
	for _, file := range files {
		at := f.read[file.path]
		if at == nil {
			at = &followed{}
			f.read[file.path] = at
		}
		at.seen = true
		err := at.next(ctx, show, file.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went away while the store was being listed
		}
		unread = errors.Join(unread, err)
	}
	for path, at := range f.read {
		if !at.seen {
			delete(f.read, path)
		}
	}
	return unread
}

func (f *followed) next(ctx context.Context, show *shower, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch {
	case f.info != nil && !os.SameFile(f.info, info): // another file took its place
		f.offset = 0
	case info.Size() < f.offset:
		complain(show.stderr, fmt.Errorf("%s became shorter, which no collector does to it: run verify", path))
		f.offset = info.Size()
	}
	f.info = info
	if info.Size() == f.offset {
		return nil
	}
	return eachLine(path, f.offset, func(l *fileLine) error {
		if l.torn {
			return nil // the rest is still to come
		}
		f.offset = l.offset + l.size
		if err := show.text(path, l); err != nil {
			return err
		}
		return ctx.Err()
	})
}

// eachLineBack calls visit for the lines of a file from the last to the first,
// until that returns an error, which is returned. Text stays valid. end is where
// the last whole line ends.
func eachLineBack(f io.ReaderAt, size int64, visit func(offset int64, text []byte) error) (end int64, err error) {
	var held []byte // the bytes from start on that are not yet told
	end = -1
	for start := size; ; {
		i := bytes.LastIndexByte(held, '\n')
		switch {
		case i >= 0 && end < 0:
			end = start + int64(i) + 1
			held = held[:i]
			continue
		case len(held)-i-1 > audit.MaxLine:
			return max(end, start), fmt.Errorf("the line that ends at byte %d is too long to be read", start+int64(len(held)))
		case i >= 0:
			if err := visit(start+int64(i)+1, held[i+1:]); err != nil {
				return end, err
			}
			held = held[:i]
			continue
		case start == 0 && end < 0:
			return 0, nil
		case start == 0:
			return end, visit(0, held)
		}
		n := min(start, int64(max(backBlock, len(held))))
		start -= n
		more := make([]byte, n, n+int64(len(held)))
		if _, err := f.ReadAt(more, start); err != nil {
			return max(end, start), fmt.Errorf("read from the end: %w", err)
		}
		held = append(more, held...)
	}
}
