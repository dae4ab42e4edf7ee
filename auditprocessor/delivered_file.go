// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/otelaudit/otelaudit/internal/receipt"
)

// refusedFile holds, in the journal's directory, the coordinates of the records
// that required sinks refused for good, so that who asks for one after a restart
// is not told that it was delivered. It is a sequence of JSON lines; of several
// for one coordinate and sink the last counts. A line is synced before delivery goes on,
// unless the disk does not take it, which is counted. What a crash cut off is
// reported again by the sink, because the cursor had not passed it.
const refusedFile = "refused"

// refusedLine is one line of the file.
type refusedLine struct {
	Origin string `json:"origin"`
	Index  uint64 `json:"index,string"`
	Sink   string `json:"sink"`
	Taken  bool   `json:"taken,omitempty"` // the sink has it after all
}

// open reads the file in directory, if there is one, and says how many of its
// lines could not be read.
func (q *quarantineMemory) open(directory string) (damaged int, err error) {
	q.path = filepath.Join(directory, refusedFile)
	data, err := os.ReadFile(q.path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read what sinks refused: %w", err)
	}
	complete := data[:bytes.LastIndexByte(data, '\n')+1] // what is behind it was being written
	for text := range bytes.Lines(complete) {
		var line refusedLine
		if json.Unmarshal(text, &line) != nil || line.Origin == "" || line.Sink == "" {
			damaged++
			continue
		}
		action := receipt.Quarantined
		if line.Taken {
			action = receipt.Replayed
		}
		q.note(&receipt.Report{Action: action, Origin: line.Origin, Index: line.Index, Sink: line.Sink})
	}
	return damaged, nil
}

// save makes durable what was noted. Where the file cannot be appended to, or
// has grown too long, it is written anew, with what could not be saved before.
func (q *quarantineMemory) save(r *receipt.Report) error {
	if q.path == "" || r.Action == receipt.Dropped {
		return nil
	}
	if q.file == nil || q.lines >= 2*maxRemembered {
		return q.rewrite()
	}
	data, err := encodeRefused(refusedLine{Origin: r.Origin, Index: r.Index, Sink: r.Sink, Taken: r.Action == receipt.Replayed})
	if err == nil {
		err = q.append(data)
	}
	if err != nil {
		return fmt.Errorf("write what sinks refused: %w", err)
	}
	q.lines++
	return nil
}

func (q *quarantineMemory) rewrite() error {
	remembered := q.remembered()
	data, err := encodeRefused(remembered...)
	if err == nil {
		err = q.replace(data)
	}
	if err != nil {
		return fmt.Errorf("write what sinks refused: %w", err)
	}
	q.lines = len(remembered)
	return nil
}

func encodeRefused(lines ...refusedLine) ([]byte, error) {
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	for _, line := range lines {
		if err := encoder.Encode(line); err != nil {
			return nil, err
		}
	}
	return data.Bytes(), nil
}

// remembered is what there is to save, oldest first.
func (q *quarantineMemory) remembered() []refusedLine {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := make([]refusedLine, 0, len(q.order))
	for _, r := range q.order {
		lines = append(lines, refusedLine{Origin: r.at.origin, Index: r.at.index, Sink: r.sink})
	}
	return lines
}

// close saves what is left.
func (q *quarantineMemory) close() error {
	var err error
	if q.unsaved {
		err = q.rewrite()
	}
	return errors.Join(err, q.letGo())
}
