// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/otelaudit/otelaudit/internal/durable"
)

// CheckReport is what a journal holds.
type CheckReport struct {
	Instance   string `json:"instance"`
	Journal    string `json:"journal"`
	Running    bool   `json:"running"` // a collector uses it: what it writes now may look like a torn tail
	Origin     string `json:"origin"`  // of the newest life, empty if there was none
	Size       uint64 `json:"size"`    // records of that life
	Ended      bool   `json:"ended"`   // with a stop record
	Segments   int    `json:"segments"`
	LastFrame  uint64 `json:"last_frame"`
	Cursor     uint64 `json:"cursor"`              // the newest delivered frame
	Records    int64  `json:"undelivered_records"` // of clients
	Bytes      int64  `json:"undelivered_bytes"`
	Torn       int64  `json:"torn_bytes"` // of a write that nobody was told of; a start leaves them behind
	IDsThrough uint64 `json:"ids_through"`
	IDs        int    `json:"ids_in_files"`
}

// Check reads a journal as a start would, and further: every segment is
// computed again from its first frame and compared with its successor. Nothing
// is changed. A CorruptError says where it is damaged; any other error that it
// could not be read or that its parts do not belong together.
func Check(directory string) (CheckReport, error) {
	report, err := check(filepath.Clean(directory))
	if report.Running && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the journal moved on while it was read: check it again: %w", err)
	}
	return report, err
}

func check(directory string) (report CheckReport, err error) {
	switch _, err := os.Stat(filepath.Join(directory, identityFile)); {
	case errors.Is(err, fs.ErrPermission):
		return report, fmt.Errorf("read it as the user who runs the collector: %w", err)
	case err != nil:
		return report, fmt.Errorf("%s is no journal directory: %w", directory, err)
	}
	if report.Running, err = durable.IsLocked(directory); err != nil {
		return report, err
	}
	j := &Journal{options: Options{Directory: directory}, disk: readOnly{}}
	j.options.setDefaults()
	id, err := j.loadIdentity()
	if err != nil {
		return report, err
	}
	report.Instance, report.Journal = id.Instance, id.Journal
	if report.Cursor, err = j.readCursor(); err != nil {
		return report, err
	}
	if err := j.checkIDs(&report); err != nil {
		return report, err
	}
	r, err := j.recoverSegments(report.Cursor)
	if err != nil {
		return report, err
	}
	report.Segments, report.LastFrame, report.Torn = len(r.segments), r.lastNumber(), r.torn
	report.Bytes, report.Records = r.backlog.bytes, r.backlog.records
	report.Origin, report.Size, report.Ended = r.state.origin, r.state.tree.Size(), r.state.ended
	return report, j.checkStates(r)
}

// checkIDs reads every id file to its end.
func (j *Journal) checkIDs(report *CheckReport) (err error) {
	numbers, err := listFiles(j.options.Directory, idSuffix)
	if err != nil {
		return err
	}
	j.ids = &idStore{journal: j, current: newIDTable(1)}
	for _, number := range numbers {
		file, err := openIDFile(j.idPath(number), number)
		if err != nil {
			return err
		}
		_, err = file.load()
		if err := errors.Join(err, file.close()); err != nil {
			return err
		}
		report.IDs += file.count
		report.IDsThrough = max(report.IDsThrough, file.through)
	}
	j.ids.through = report.IDsThrough
	j.ids.current.through = math.MaxUint64 // what the frames have is not entered
	return nil
}

// checkStates computes each segment again and compares what comes out with the
// state that its successor begins with.
func (j *Journal) checkStates(r *recovery) error {
	var computed []byte
	for i, segment := range r.segments {
		path := j.segmentPath(segment.first)
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read segment: %w", err)
		}
		if int64(len(data)) < segment.length {
			return &CorruptError{File: path, Offset: int64(len(data)), Err: errors.New("the file is cut")}
		}
		stated, next, err := replaySegment(data[:segment.length])
		if err == nil && i > 0 && !bytes.Equal(stated, computed) {
			err = errors.New("its state is not what the segment before it leads to")
		}
		if err != nil {
			return &CorruptError{File: path, Err: err}
		}
		computed = next
	}
	return nil
}

// replaySegment returns the state that a segment begins with, and the one that
// its groups lead to, both without what they say of earlier segments.
func replaySegment(data []byte) (stated, computed []byte, err error) {
	var s *state
	for offset := 0; offset < len(data); {
		f, err := parseFrame(data[offset:])
		if err != nil {
			return nil, nil, err
		}
		offset += f.size()
		switch f.kind {
		case frameState:
			if _, s, err = parseState(f.payload); err != nil {
				return nil, nil, err
			}
			stated = appendState(nil, acceptedEnd{}, s)
		case frameGroup:
			group, err := parseGroup(f.payload, false)
			if err != nil {
				return nil, nil, err
			}
			if err := s.replay(&group); err != nil {
				return nil, nil, err
			}
		}
	}
	return stated, appendState(nil, acceptedEnd{}, s), nil
}

// readOnly is a disk that is only looked at: what a start would remove stays.
type readOnly struct{}

var errReadOnly = errors.New("the journal is only read")

func (readOnly) Create(string) (durable.Appender, error) { return nil, errReadOnly }
func (readOnly) WriteFile(string, []byte) error          { return errReadOnly }
func (readOnly) Rewrite(string, int64, []byte) error     { return errReadOnly }
func (readOnly) Allocate(string, int64) error            { return errReadOnly }
func (readOnly) Remove(string) error                     { return nil }
func (readOnly) SyncDir(string) error                    { return nil }
