// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/otelaudit/otelaudit/audit"
)

// Stored is what a store holds.
type Stored struct {
	Records     map[string]int    // by audit.record.id: number of lines
	Hashes      map[string]string // by audit.record.id: chain hash
	Flagged     int               // lines in a `flagged:` stream
	Controls    int               // lines in the stream `origin:`
	Checkpoints int
	Stubs       map[string]int // by chain hash: number of lines that stand for a record in quarantine
	Quarantined map[string]int // by coordinate, origin/index: sealed records that say so
	Bytes       int64
}

func newStored() Stored {
	return Stored{Records: map[string]int{}, Hashes: map[string]string{}, Stubs: map[string]int{}, Quarantined: map[string]int{}}
}

const maxLine = 4 << 20

// ReadStore reads every stored line below directory.
func ReadStore(directory string) (Stored, error) {
	s := newStored()
	files, err := StoredFiles(directory)
	for _, path := range files {
		if err == nil {
			err = s.readFile(path)
		}
	}
	return s, err
}

// StoredFiles returns the .jsonl files below directory in path order.
func StoredFiles(directory string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".jsonl") {
			files = append(files, path)
		}
		return err
	})
	slices.Sort(files)
	return files, err
}

func (s *Stored) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read store: %w", err)
	}
	scanner := bufio.NewScanner(f)
	scanner.Buffer(make([]byte, 64<<10), maxLine)
	for scanner.Scan() && err == nil {
		s.Bytes += int64(len(scanner.Bytes())) + 1
		err = s.add(scanner.Bytes())
	}
	if err := errors.Join(err, scanner.Err(), f.Close()); err != nil {
		return fmt.Errorf("read store %s: %w", path, err)
	}
	return nil
}

func (s *Stored) add(text []byte) error {
	line, err := audit.ParseLine(text)
	switch {
	case err != nil:
		return err
	case line.Kind == audit.LineCheckpoint:
		s.Checkpoints++
		return nil
	case line.Kind == audit.LineStub:
		s.Stubs[line.Hash.String()]++
		return nil
	}
	return s.addEvent(line.Link.Stream, line.Hash.String(), line.Event)
}

// addEvent adds a sealed record, by its canonical bytes.
func (s *Stored) addEvent(stream, hash string, canonical []byte) error {
	var event event
	if err := json.Unmarshal(canonical, &event); err != nil {
		return err
	}
	if stream == audit.StreamOrigin {
		return s.addControl(&event)
	}
	if strings.HasPrefix(stream, audit.StreamFlagged) {
		s.Flagged++
	}
	id, err := event.text(audit.AttributeRecordID)
	if err != nil {
		return err
	}
	s.Records[id]++
	s.Hashes[id] = hash
	return nil
}

func (s *Stored) addControl(event *event) error {
	s.Controls++
	if event.Record.EventName != audit.EventQuarantine {
		return nil
	}
	origin, err := event.text(audit.AttributeQuarantineOrigin)
	if err != nil {
		return err
	}
	index, err := event.text(audit.AttributeQuarantineIndex)
	if err != nil {
		return err
	}
	s.Quarantined[origin+"/"+index]++
	return nil
}

// Difference is where a store is not what clients were told. Every list holds
// ids in order.
type Difference struct {
	Lost    []string // acknowledged, but not stored
	Changed []string // stored under another hash than the client was told
	Doubled []string // stored more than once
	Foreign []string // stored, but not the id of an event whose fate the clients know or wait for
}

// Compare compares what clients saw with what is stored. The answers of OTLP
// tell no hash, so none is compared for them.
func (o *Outcome) Compare(stored Stored) Difference {
	var d Difference
	for id, result := range o.Acknowledged {
		switch {
		case stored.Records[id] == 0:
			d.Lost = append(d.Lost, id)
		case result.Hash != "" && stored.Hashes[id] != result.Hash:
			d.Changed = append(d.Changed, id)
		}
	}
	for id, n := range stored.Records {
		if n > 1 {
			d.Doubled = append(d.Doubled, id)
		}
		_, acknowledged := o.Acknowledged[id]
		_, unknown := o.Unknown[id]
		if !acknowledged && !unknown {
			d.Foreign = append(d.Foreign, id)
		}
	}
	for _, ids := range [][]string{d.Lost, d.Changed, d.Doubled, d.Foreign} {
		slices.Sort(ids)
	}
	return d
}

// event is what this package reads of canonical bytes.
type event struct {
	Record struct {
		EventName  string `json:"event_name"`
		Attributes map[string]json.RawMessage
	}
}

// text returns the string or integer of an attribute.
func (e *event) text(name string) (string, error) {
	var value struct{ StringValue, IntValue string }
	if err := json.Unmarshal(e.Record.Attributes[name], &value); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return value.StringValue + value.IntValue, nil
}

// Leak is a secret that was found on disk.
type Leak struct {
	Needle string // name of the secret
	File   string
	Offset int
}

// FindLeaks looks for the needles in every byte of every file below directory.
func FindLeaks(directory string, needles []Needle) ([]Leak, error) {
	var leaks []Leak
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		found, err := leaksIn(path, needles)
		leaks = append(leaks, found...)
		return err
	})
	return leaks, err
}

func leaksIn(path string, needles []Needle) ([]Leak, error) {
	const window, overlap = 8 << 20, 4 << 10
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	var (
		leaks  []Leak
		buffer = make([]byte, 0, window)
		base   int
	)
	for {
		n, readErr := io.ReadFull(f, buffer[len(buffer):window])
		buffer = buffer[:len(buffer)+n]
		for _, needle := range needles {
			if i := bytes.Index(buffer, []byte(needle.Text)); i >= 0 {
				leaks = append(leaks, Leak{Needle: needle.Name, File: path, Offset: base + i})
			}
		}
		if readErr != nil {
			if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
				readErr = nil
			}
			return leaks, errors.Join(readErr, f.Close())
		}
		keep := copy(buffer[:overlap], buffer[len(buffer)-overlap:])
		base += len(buffer) - keep
		buffer = buffer[:keep]
	}
}

// Report is what `otelaudit verify --json` says, and its exit code.
type Report struct {
	Exit         int             `json:"-"`
	Integrity    json.RawMessage `json:"integrity"`
	Completeness json.RawMessage `json:"completeness"`
	Trust        json.RawMessage `json:"trust"`
	Records      json.Number     `json:"records"`
	Checkpoints  json.Number     `json:"checkpoints"`
	Findings     []Finding       `json:"findings"`
	Stderr       string          `json:"-"`
}

// Finding is one finding of a Report.
type Finding struct {
	Kind   string `json:"kind"`
	Origin string `json:"origin"`
	Index  any    `json:"index"`
	File   string `json:"file"`
	Offset any    `json:"offset"`
	Detail string `json:"detail"`
}

// Kinds returns the kinds of the findings, sorted, each once.
func (r Report) Kinds() []string {
	kinds := []string{}
	for _, finding := range r.Findings {
		kinds = append(kinds, finding.Kind)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// Verify runs `otelaudit verify --json` with the given arguments, its memory
// of earlier runs below configuration.
func Verify(configuration string, args ...string) (Report, error) {
	stdout, stderr, exit, err := Tool(configuration, append([]string{"verify", "--json"}, args...)...)
	report := Report{Exit: exit, Stderr: string(stderr)}
	if err != nil || len(stdout) == 0 {
		return report, err
	}
	if err := json.Unmarshal(stdout, &report); err != nil {
		return report, fmt.Errorf("verify: exit code %d, report: %w\n%s", report.Exit, err, stdout)
	}
	return report, nil
}

// Tool runs otelaudit with the given arguments, its memory of earlier runs below
// configuration.
func Tool(configuration string, args ...string) (stdout, stderr []byte, exit int, err error) {
	binary, err := Binary("otelaudit")
	if err != nil {
		return nil, nil, 0, err
	}
	var out, complaints bytes.Buffer
	command := exec.Command(binary, args...)
	command.Env = append(os.Environ(), "XDG_CONFIG_HOME="+configuration, "HOME="+configuration)
	command.Stdout, command.Stderr = &out, &complaints
	err = command.Run()
	if exited := new(exec.ExitError); err != nil && !errors.As(err, &exited) {
		return nil, nil, 0, fmt.Errorf("otelaudit: %w", err)
	}
	return out.Bytes(), complaints.Bytes(), command.ProcessState.ExitCode(), nil
}
