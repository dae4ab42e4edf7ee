// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/otelaudit/otelaudit/audit/query"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// maxCursor bounds the file of a cursor: some 100 bytes for each life of a log.
const maxCursor = 64 << 20

// cursor is where an export ended. Its file is JSON:
//
//	{"filter":{…},"folders":{"<folder>":{"file":"<name>","offset":"<bytes>"}}}
//	{"filter":{…},"row":{"occurred_at":"<RFC 3339>","origin":"…","index":"…"}}
//
// Of each folder of a store in files: the file that was read last, and how much
// of it. Records are only ever put behind the last of a folder, so this finds all
// that is stored later, whichever log or life it belongs to. Of a database: the
// last row in the order of its key.
type cursor struct {
	Filter  query.Filter          `json:"filter"`
	Folders map[string]folderMark `json:"folders,omitempty"`
	Row     *rowMark              `json:"row,omitempty"`
}

type folderMark struct {
	File   string `json:"file"`
	Offset int64  `json:"offset,string"`
}

type rowMark struct {
	OccurredAt time.Time `json:"occurred_at"`
	Origin     string    `json:"origin"`
	Index      uint64    `json:"index,string"`
}

// openCursor reads the cursor at path for a search. A file that is not there is
// the beginning.
func openCursor(path string, s *search) (*cursor, error) {
	text, err := readBounded(path, maxCursor)
	if errors.Is(err, fs.ErrNotExist) {
		return &cursor{Filter: s.filter}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--cursor: %w", err)
	}
	at, err := parseCursor(text, s)
	if err != nil {
		return nil, fmt.Errorf("--cursor %s %w", path, err)
	}
	return at, nil
}

// parseCursor reads the text of a cursor for a search.
func parseCursor(text []byte, s *search) (*cursor, error) {
	at := &cursor{}
	if err := decode(text, at); err != nil {
		return nil, fmt.Errorf("is not the cursor of an export: %w", err)
	}
	for _, mark := range at.Folders {
		if mark.Offset < 0 {
			return nil, errors.New("is not the cursor of an export: an offset is negative")
		}
	}
	switch {
	case !sameFilter(&at.Filter, &s.filter):
		return nil, errors.New("was written with other filters: use the same, or another file")
	case at.Row != nil && s.database == "", at.Folders != nil && s.database != "":
		return nil, errors.New("was written for another kind of store: use another file")
	}
	return at, nil
}

// sameFilter compares what was asked for. A time that was given as how long ago
// is another one with each run, so times are not compared.
func sameFilter(a, b *query.Filter) bool {
	x, y := *a, *b
	x.Since, x.Until, y.Since, y.Until = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return x == y
}

// from is the offset from which to read a file, negative if it is behind.
func (c *cursor) from(file source) (int64, error) {
	mark, ok := c.Folders[folder(file.path)]
	switch name := filepath.Base(file.path); {
	case !ok || name > mark.File:
		return 0, nil
	case name < mark.File:
		return -1, nil
	case file.size < mark.Offset:
		return 0, fmt.Errorf("%s is shorter than at the last export: run verify, and begin with a new cursor", file.path)
	default:
		return mark.Offset, nil
	}
}

// move notes that a file is read up to offset.
func (c *cursor) move(path string, offset int64) {
	if c.Folders == nil {
		c.Folders = map[string]folderMark{}
	}
	c.Folders[folder(path)] = folderMark{filepath.Base(path), offset}
}

// row is the place in a database, the beginning if there is none yet.
func (c *cursor) row() postgres.Cursor {
	if c.Row == nil {
		return postgres.Cursor{}
	}
	return postgres.Cursor{OccurredAt: c.Row.OccurredAt, Origin: c.Row.Origin, Index: c.Row.Index}
}

func (c *cursor) moveRow(to postgres.Cursor) {
	c.Row = &rowMark{to.OccurredAt, to.Origin, to.Index}
}

// folder names the folder of a file, so that the working directory of the next
// run does not matter.
func folder(path string) string {
	directory := filepath.Dir(path)
	absolute, err := filepath.Abs(directory)
	if err != nil {
		return directory
	}
	return absolute
}

func (c *cursor) save(path string) error {
	text, err := json.Marshal(c)
	if err == nil {
		err = durable.WriteFile(path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("--cursor: %w", err)
	}
	return nil
}

// syncOutput makes what was printed durable, where it goes to a file: a cursor
// must not be ahead of it.
func syncOutput(w io.Writer) error {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the output: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("make the output durable: %w", err)
	}
	return nil
}
