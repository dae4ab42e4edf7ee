// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package quarantine keeps the sealed records that a sink refused for good, in
// a directory, until an operator has them stored after all (replay) or gives
// them up (drop). The exporter that filled the directory does either; an
// operator's command only leaves a request.
//
//	<directory>/records/<name>.json    the record
//	<directory>/requests/<name>.json   what an operator asks for it
//	<directory>/failures/<name>.json   why the last request could not be done
//
// The name is the record's coordinate, so that names sort by time:
//
//	<life>-<20-digit index>-<journal id>-<instance>
//
// A file of a record is one line of JSON in one spelling: no white space,
// members in this order, strings as in stored lines, the time in nanoseconds
// since 1970 as a string, and the line that a file sink would have stored:
//
//	{"at":"…","reason":"…","sink":"…","line":{"chain":{…},"event":<canonical>}}
//
// SHA-256 of the bytes of `event` is the digest that the link binds. A request
// and a failure are
//
//	{"at":"…","action":"replay","reason":"…"}
//
// with the action `replay` or `drop`, a failure also with `unreadable`.
//
// A record is as secret here as in its sink, in plain text: directories have
// mode 0700, files 0600. Whoever leaves requests must be the user who runs the
// collector. Calls that write to one directory must not run at the same time,
// but those of an operator (Ask) may beside the collector's.
package quarantine

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/durable"
)

var (
	// ErrConflict says that another record is in quarantine under the same
	// coordinate. It is an alarm, as it is in a sink.
	ErrConflict = errors.New("coordinate is in quarantine with another content")
	// ErrMalformed says that a file is not what this package writes.
	ErrMalformed = errors.New("malformed file")
)

// The folders of a directory.
const (
	records  = "records"
	requests = "requests"
	failures = "failures"
)

const (
	// maxFile bounds what is read of a record. Put refuses what would be longer.
	maxFile = 1 << 30
	// maxRequest bounds what is read of a request or a failure: a text of
	// MaxText bytes has at most six times as many in JSON.
	maxRequest = 64 << 10
)

// Coordinate names a sealed record.
type Coordinate struct {
	Origin string
	Index  uint64
}

// String returns the coordinate as ParseCoordinate reads it: <origin>/<index>.
func (c Coordinate) String() string {
	return c.Origin + "/" + strconv.FormatUint(c.Index, 10)
}

// ParseCoordinate reads <instance>/<journal id>/<life>/<index>.
func ParseCoordinate(text string) (Coordinate, error) {
	cut := strings.LastIndexByte(text, '/')
	c := Coordinate{Origin: text[:max(cut, 0)]}
	var err error
	if c.Index, err = strconv.ParseUint(text[cut+1:], 10, 64); err == nil {
		_, err = chain.ParseOrigin(c.Origin)
	}
	if err != nil || c.String() != text {
		return Coordinate{}, fmt.Errorf("coordinate %q is not <instance>/<journal id>/<life>/<index>", text)
	}
	return c, nil
}

// Lengths of the parts of a file's name before the instance.
const (
	lifeLength    = len("20261123T090700Z-0a1b2c3d")
	indexLength   = len("18446744073709551615")
	journalLength = len("00112233445566aa")
	extension     = ".json"
)

// name returns the name of the coordinate's files. An origin that is none, or
// whose name would lead elsewhere, is an error.
func (c Coordinate) name() (string, error) {
	origin, err := chain.ParseOrigin(c.Origin)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s-%020d-%s-%s%s", origin.Life, c.Index, origin.Journal, origin.Instance, extension), nil
}

// parseName reads what name returns.
func parseName(name string) (Coordinate, bool) {
	const indexAt = lifeLength + 1
	const journalAt = indexAt + indexLength + 1
	const instanceAt = journalAt + journalLength + 1
	stem, ok := strings.CutSuffix(name, extension)
	if !ok || len(stem) <= instanceAt {
		return Coordinate{}, false
	}
	index, err := strconv.ParseUint(stem[indexAt:journalAt-1], 10, 64)
	origin := chain.Origin{Life: stem[:indexAt-1], Journal: stem[journalAt : instanceAt-1], Instance: stem[instanceAt:]}
	c := Coordinate{origin.String(), index}
	again, nameErr := c.name()
	return c, err == nil && nameErr == nil && again == name
}

// Put stores e durably. When it returns nil, e survives a power cut. The same
// record again is fine and keeps what is there; the coordinate with another
// hash is ErrConflict. The directory and its parents are made where they are
// missing.
func Put(directory string, e *Entry) error {
	c := e.Coordinate()
	path, err := file(directory, records, c)
	if err != nil {
		return err
	}
	if err := e.check(); err != nil {
		return fmt.Errorf("quarantine %s: %w", c, err)
	}
	if err := Make(directory); err != nil {
		return err
	}
	there, err := Read(directory, c)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case there.Hash != e.Hash:
		return fmt.Errorf("quarantine %s: %w", c, ErrConflict)
	default:
		// Whoever wrote it may have died before its name was durable.
		return durable.SyncDir(filepath.Dir(path))
	}
	text := e.text()
	if len(text) > maxFile {
		return fmt.Errorf("quarantine %s: record of %d bytes is longer than %d", c, len(text), maxFile)
	}
	return durable.WriteFile(path, text)
}

// Make makes the directory and its folders durably where they are missing.
func Make(directory string) error {
	for _, folder := range []string{records, requests, failures} {
		if err := durable.MkdirAll(filepath.Join(directory, folder)); err != nil {
			return fmt.Errorf("quarantine: %w", err)
		}
	}
	return nil
}

// Exists says whether the directory is a quarantine.
func Exists(directory string) (bool, error) {
	info, err := os.Stat(filepath.Join(directory, records))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}

// Read returns the record of the given coordinate. The error wraps
// os.ErrNotExist if there is none, ErrMalformed if the file is damaged.
func Read(directory string, c Coordinate) (Entry, error) {
	path, err := file(directory, records, c)
	if err != nil {
		return Entry{}, err
	}
	text, err := readFile(path, maxFile)
	if err != nil {
		return Entry{}, fmt.Errorf("quarantine: %w", err)
	}
	e, err := ParseEntry(text)
	if err == nil && e.Coordinate() != c {
		err = fmt.Errorf("%w: it holds the record of another coordinate", ErrMalformed)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("quarantine: read %s: %w", path, err)
	}
	return e, nil
}

// List returns the coordinates of the records in quarantine, sorted by the
// start of their life and then by index. A directory that Put never made has
// none.
func List(directory string) ([]Coordinate, error) { return list(directory, records, math.MaxInt) }

// Has says whether the record of the given coordinate is in quarantine.
func Has(directory string, c Coordinate) (bool, error) {
	path, err := file(directory, records, c)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Remove removes the record of the given coordinate, what was asked for it and
// what failed. It is for whoever made sure that a sealed record says what
// became of it. A crash in between leaves a request without record, which
// another Remove cleans up. What is not there is no error.
func Remove(directory string, c Coordinate) error {
	for _, folder := range []string{records, failures, requests} {
		if err := remove(directory, folder, c); err != nil {
			return err
		}
	}
	return nil
}

func remove(directory, folder string, c Coordinate) error {
	path, err := file(directory, folder, c)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	return durable.SyncDir(filepath.Dir(path))
}

func file(directory, folder string, c Coordinate) (string, error) {
	name, err := c.name()
	if err != nil {
		return "", fmt.Errorf("quarantine: %w", err)
	}
	return filepath.Join(directory, folder, name), nil
}

// list returns coordinates that the files of a folder are named after, at most
// so many, sorted; a folder that is missing has none. Files of other names are
// not ours: what a crash left of a file that was never there.
func list(directory, folder string, most int) (found []Coordinate, err error) {
	f, err := os.Open(filepath.Join(directory, folder))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for len(found) < most {
		names, err := f.Readdirnames(min(most, 1024))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("quarantine: %w", err)
		}
		for _, name := range names {
			if c, ok := parseName(name); ok {
				found = append(found, c)
			}
		}
	}
	slices.SortFunc(found, Coordinate.compare)
	return found[:min(most, len(found))], nil
}

// compare orders by the start of the life, then by index.
func (c Coordinate) compare(other Coordinate) int {
	life := func(origin string) string { return origin[strings.LastIndexByte(origin, '/')+1:] }
	return cmp.Or(strings.Compare(life(c.Origin), life(other.Origin)), cmp.Compare(c.Index, other.Index),
		strings.Compare(c.Origin, other.Origin))
}

// readFile reads a file of at most so many bytes. What is no file is malformed:
// a pipe would have us wait for ever, a device would never end.
func readFile(path string, most int64) (text []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EOPNOTSUPP) { // a socket, on Linux and on macOS
		err = fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrMalformed, path)
	case info.Size() > most:
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", ErrMalformed, path, most)
	}
	var read bytes.Buffer
	n, err := read.ReadFrom(io.LimitReader(f, most+1))
	if err == nil && n > most {
		err = fmt.Errorf("%w: %s is longer than %d bytes", ErrMalformed, path, most)
	}
	return read.Bytes(), err
}

// Action is what an operator asks for a record in quarantine.
type Action string

// The actions.
const (
	Replay Action = "replay" // store it in its sink after all
	Drop   Action = "drop"   // give it up
	// Unreadable is the action of a failure whose request could not be read.
	Unreadable Action = "unreadable"
)

// Request is what an operator asks for one record, or why that failed.
type Request struct {
	Action Action
	At     time.Time
	Reason string // of a drop it must not be empty
}

// Ask leaves a request for the exporter, in place of an earlier one. The error
// wraps os.ErrNotExist if the record is not in quarantine.
func Ask(directory string, c Coordinate, r Request) error {
	if r.Action != Replay && r.Action != Drop {
		return fmt.Errorf("action %q is neither %s nor %s", r.Action, Replay, Drop)
	}
	if err := r.check(); err != nil {
		return err
	}
	has, err := Has(directory, c)
	if err != nil {
		return err
	}
	if !has {
		return fmt.Errorf("%s is not in quarantine: %w", c, os.ErrNotExist)
	}
	path, err := file(directory, requests, c)
	if err != nil {
		return err
	}
	// Operators may ask for one record at once, and as different users: each has
	// a file of their own until it is whole, and nothing stays that only one of
	// them may open.
	own := path + "." + rand.Text()
	if err := durable.WriteFile(own, r.text()); err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	if err := os.Rename(own, path); err != nil {
		return fmt.Errorf("quarantine: %w", errors.Join(err, os.Remove(own)))
	}
	return durable.SyncDir(filepath.Dir(path))
}

// Requests returns the coordinates of records that something is asked for, at
// most so many of them. It costs the reading of one small directory.
func Requests(directory string, most int) ([]Coordinate, error) {
	return list(directory, requests, most)
}

// ReadRequest returns what is asked for a record. The error wraps
// os.ErrNotExist if nothing is.
func ReadRequest(directory string, c Coordinate) (Request, error) {
	return readRequest(directory, requests, c)
}

// Fail notes why the request for a record could not be done, and removes it.
func Fail(directory string, c Coordinate, r Request) error {
	if err := write(directory, failures, c, r); err != nil {
		return err
	}
	return remove(directory, requests, c)
}

// ReadFailure returns why the last request for a record could not be done. The
// error wraps os.ErrNotExist if none failed.
func ReadFailure(directory string, c Coordinate) (Request, error) {
	return readRequest(directory, failures, c)
}

func write(directory, folder string, c Coordinate, r Request) error {
	path, err := file(directory, folder, c)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, r.text())
}

func readRequest(directory, folder string, c Coordinate) (Request, error) {
	path, err := file(directory, folder, c)
	if err != nil {
		return Request{}, err
	}
	text, err := readFile(path, maxRequest)
	if err != nil {
		return Request{}, fmt.Errorf("quarantine: %w", err)
	}
	r, err := ParseRequest(text)
	if err != nil {
		return Request{}, fmt.Errorf("quarantine: read %s: %w", path, err)
	}
	return r, nil
}
