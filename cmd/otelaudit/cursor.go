// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/query"
	"github.com/otelaudit/otelaudit/internal/durable"
)

// maxCursor bounds the file of a cursor: some 100 bytes for each life of a log.
const maxCursor = 64 << 20

// cursor is where an export ended. Its file is JSON:
//
//	{"filter":{…},"folders":{"<folder>":{"file":"<name>","offset":"<bytes>","last":{"bytes":"<length>","sha256":"<hex>"}}}}
//	{"filter":{…},"origins":{"<origin>":{"next":"<index>","gaps":[{"from":"<index>","below":"<index>"}]}}}
//
// Of each folder of a store in files: the file that was read last, how much of
// it, and the last line of that. Records are only ever put behind the last of a
// folder, so this finds all that is stored later, whichever log or life it
// belongs to; and the line shows whether what comes now is what follows.
//
// Of each origin in a database: the index behind the last one that was read, and
// what was not there below it. So this finds all that is stored later, whenever it
// occurred, what is taken out of quarantine included.
type cursor struct {
	Filter  query.Filter           `json:"filter"`
	Folders map[string]folderMark  `json:"folders,omitempty"`
	Origins map[string]*originMark `json:"origins,omitempty"`
}

type folderMark struct {
	File   string `json:"file"`
	Offset int64  `json:"offset,string"`
	// Last is the last line before Offset. It is nil where none was read, and
	// in files of versions that did not keep it.
	Last *lineMark `json:"last,omitempty"`
	// Gone says that an export has told that nothing is there any more.
	Gone bool `json:"gone,omitempty"`
}

// lineMark knows a line again.
type lineMark struct {
	Bytes  int64  `json:"bytes,string"` // with its line feed
	SHA256 string `json:"sha256"`
}

// markLine is the mark of a line, given without its line feed.
func markLine(text []byte) *lineMark {
	sum := sha256.Sum256(text)
	return &lineMark{int64(len(text)) + 1, hex.EncodeToString(sum[:])}
}

// isAt says whether the line at offset of the file at path is the one.
func (l *lineMark) isAt(path string, offset int64) (there bool, err error) {
	err = eachLine(path, offset, func(line *fileLine) error {
		there = !line.torn && line.text != nil && *markLine(line.text) == *l
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return there, err
}

type originMark struct {
	Next uint64 `json:"next,string"`
	Gaps []gap  `json:"gaps,omitempty"`
}

// gap is the indices from From on and below Below.
type gap struct {
	From  uint64 `json:"from,string"`
	Below uint64 `json:"below,string"`
}

// unread returns what is not read of the origin, in its order.
func (m *originMark) unread() []gap {
	return append(slices.Clone(m.Gaps), gap{m.Next, math.MaxInt64})
}

// take notes that the record with the given index is read.
func (m *originMark) take(index uint64) {
	if index >= m.Next {
		m.Gaps = appendGap(m.Gaps, m.Next, index)
		m.Next = index + 1
		return
	}
	i := slices.IndexFunc(m.Gaps, func(g gap) bool { return g.From <= index && index < g.Below })
	if i >= 0 {
		g := m.Gaps[i]
		m.Gaps = slices.Replace(m.Gaps, i, i+1, appendGap(appendGap(nil, g.From, index), index+1, g.Below)...)
	}
}

func appendGap(gaps []gap, from, below uint64) []gap {
	if from == below {
		return gaps
	}
	return append(gaps, gap{from, below})
}

// lockCursor keeps other exports with the same cursor away: two at once would
// print the same, and the slower one would set the cursor back.
func lockCursor(path string) (*durable.Lock, error) {
	lock, err := durable.LockFile(path + ".lock")
	if errors.Is(err, durable.ErrLocked) {
		return nil, fmt.Errorf("--cursor %s: another export is at work with it: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("--cursor: %w", err)
	}
	return lock, nil
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
		if l := mark.Last; l != nil && (l.Bytes < 1 || l.Bytes > min(mark.Offset, audit.MaxLine+1)) {
			return nil, errors.New("is not the cursor of an export: its last line is where none can be")
		}
	}
	switch {
	case !sameFilter(&at.Filter, &s.filter):
		return nil, errors.New("was written with other filters: use the same, or another file")
	case at.Origins != nil && s.database == "", at.Folders != nil && s.database != "":
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
		return mark.Offset, mark.isIn(file.path)
	}
}

// isIn says whether the last line that was read still stands in the file. The
// sink begins a file of the same name anew where somebody moves one away.
func (m *folderMark) isIn(path string) error {
	if m.Last == nil {
		return nil
	}
	there, err := m.Last.isAt(path, m.Offset-m.Last.Bytes)
	if err == nil && !there {
		err = fmt.Errorf("%s is another file than at the last export: run verify, and begin with a new cursor", path)
	}
	return err
}

// move notes that a file is read up to offset, and its last line, nil if none
// was read of it now.
func (c *cursor) move(path string, offset int64, last *lineMark) {
	if c.Folders == nil {
		c.Folders = map[string]folderMark{}
	}
	name := filepath.Base(path)
	if before := c.Folders[folder(path)]; last == nil && before.File == name && before.Offset == offset {
		last = before.Last
	}
	c.Folders[folder(path)] = folderMark{File: name, Offset: offset, Last: last}
}

// leftOut names where files are gone that the last export had not read to their
// end, or not at all: retention removes what is delivered, exported or not. It
// moves the cursor behind them, so that they are named once. files is what there
// is now below roots, in path order.
func (c *cursor) leftOut(roots []string, files []source) []error {
	there := map[string][]string{} // the names in each folder
	for _, file := range files {
		there[folder(file.path)] = append(there[folder(file.path)], filepath.Base(file.path))
	}
	newest := map[string]string{} // of each log, the last life that was read of
	for name := range c.Folders {
		log := filepath.Dir(name)
		newest[log] = max(newest[log], name)
	}
	var gone []error
	for _, name := range slices.Sorted(maps.Keys(c.Folders)) {
		if !isBelow(name, roots) {
			continue // the cursor is of more than this store
		}
		if err := c.goneFrom(name, there[name], newest[filepath.Dir(name)] == name); err != nil {
			gone = append(gone, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		_, known := c.Folders[name]
		before, first := newest[filepath.Dir(name)], there[name][0]
		if !known && before != "" && name > before && isBelow(name, roots) && isSinkName(first) && first != firstFile {
			c.Folders[name] = folderMark{File: first}
			gone = append(gone, fmt.Errorf("%s: files before %s were removed before an export read them", name, first))
		}
	}
	return gone
}

// goneFrom is leftOut for a folder that was read of. there are the names in it
// now, newest says that no later life of its log was read of.
func (c *cursor) goneFrom(name string, there []string, newest bool) error {
	mark := c.Folders[name]
	next := slices.IndexFunc(there, func(file string) bool { return file >= mark.File })
	if next < 0 {
		if mark.Gone || !newest { // told, or a later life was there already
			return nil
		}
		mark.Gone = true
		c.Folders[name] = mark
		return fmt.Errorf("%s: it was removed, and what came behind it;"+
			" nobody knows whether the last export had read all of that", filepath.Join(name, mark.File))
	}
	if there[next] == mark.File || !isSinkName(mark.File) || mark.precedes(filepath.Join(name, there[next])) {
		return nil
	}
	c.Folders[name] = folderMark{File: there[next]}
	return fmt.Errorf("%s: what the last export had not read of it was removed meanwhile", filepath.Join(name, mark.File))
}

// firstFile is the name of the first file of a folder that the file sink makes.
const firstFile = "00000000000000000000.jsonl"

// isSinkName says whether a file is named as the file sink names them. Of others
// nobody knows which ones follow each other.
func isSinkName(name string) bool {
	number, ok := strings.CutSuffix(name, ".jsonl")
	return ok && len(name) == len(firstFile) && strings.Trim(number, "0123456789") == ""
}

// precedes says whether the file at path begins with the last line that was
// read, as the next file of a folder does.
func (m *folderMark) precedes(path string) bool {
	if m.Last == nil {
		return m.Offset > 0 // not known, but for a file of which nothing was read
	}
	same, err := m.Last.isAt(path, 0)
	return err == nil && same
}

// isBelow says whether a folder is one of roots or below it.
func isBelow(name string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		absolute, err := filepath.Abs(root)
		if err != nil {
			return false
		}
		relative, err := filepath.Rel(absolute, name)
		return err == nil && filepath.IsLocal(relative)
	})
}

// origin is how far an origin in a database is read.
func (c *cursor) origin(name string) *originMark {
	if c.Origins == nil {
		c.Origins = map[string]*originMark{}
	}
	if c.Origins[name] == nil {
		c.Origins[name] = &originMark{}
	}
	return c.Origins[name]
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
