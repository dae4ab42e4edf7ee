// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// Verifier reads stored lines and says whether they are what was sealed. Feed
// it with Line and Torn, then ask Finish once. Not safe for concurrent use.
type Verifier struct {
	options Options
	given   []given
	window  int

	maxRegions int

	origins map[string]*origin
	order   []*origin // as first met
	current *origin   // of the line before; most lines go on with it
	pager   pager

	firstUse map[string][]byte // instance → key found in the log
	held     int               // lines that wait for their turn, over all origins

	files  []*file // as fed
	cursor cursor
	bads   []*bad

	stubs       map[coordinate]place                // not yet explained or superseded
	explained   map[coordinate]map[witness]struct{} // named by audit.quarantine records
	flagged     map[string]bool                     // origins with a checkpoint of bad signature or an unsound line
	forged      map[string]bool                     // origins with a checkpoint of bad signature
	checkpoints uint64
	found       findings
}

// file is one file of the store, as fed.
type file struct {
	name      string
	number    int
	lines     int
	origin    *origin // of its newest sound line
	reordered bool    // reported
	torn      int64   // offset of a last line without newline, -1 if none
}

// New returns a verifier. It fails if a given checkpoint is not one.
func New(options Options) (*Verifier, error) {
	parsed, err := parseGiven(options.Checkpoints)
	if err != nil {
		return nil, err
	}
	v := &Verifier{
		options:    options,
		given:      parsed,
		window:     options.Window,
		origins:    map[string]*origin{},
		pager:      pager{spill: options.Spill},
		maxRegions: maxRegions,
		firstUse:   map[string][]byte{},
		stubs:      map[coordinate]place{},
		explained:  map[coordinate]map[witness]struct{}{},
		flagged:    map[string]bool{},
		forged:     map[string]bool{},
		found:      findings{damaged: map[string]bool{}, newest: map[Kind]int{}},
	}
	if v.window <= 0 {
		v.window = DefaultWindow
	}
	return v, nil
}

// Line takes the next stored line, without its newline: files in the order of
// their paths, lines in the order of their offsets. Any other order costs
// memory but finds the same. It keeps nothing of text.
func (v *Verifier) Line(name string, offset int64, text []byte) {
	v.line(place{v.open(name), offset}, text)
}

// Row is Line for what a store keeps as a row, with columns that are derived
// from the record or the checkpoint. column names one that does not show what
// that says, "" if all do: what is sound but for such a column is tampered with
// as well.
func (v *Verifier) Row(name string, offset int64, text []byte, column string) {
	at := place{v.open(name), offset}
	o, index, what := v.line(at, text)
	if o == nil || column == "" {
		return
	}
	v.found.add(entry{
		kind: Tampered, origin: o.full, first: index, last: index, indexd: true, at: at, shown: true,
		detail: fmt.Sprintf("column %s does not show what the %s says", column, what),
	})
}

// line takes a line and, if it is sound, says whose and what it is.
func (v *Verifier) line(at place, text []byte) (o *origin, index uint64, what string) {
	at.file.lines++
	line, err := audit.ParseLine(text)
	switch {
	case err != nil:
		v.bad(&bad{kind: Malformed, at: at, detail: err.Error()})
	case line.Kind == audit.LineCheckpoint:
		o, index = v.checkpointLine(at, &line)
		return o, index, "checkpoint"
	default:
		o = v.recordLine(at, &line)
	}
	return o, line.Link.Index, "record"
}

// TooLong takes the place of a line that is longer than the caller reads.
func (v *Verifier) TooLong(name string, offset int64) {
	at := place{v.open(name), offset}
	at.file.lines++
	v.bad(&bad{kind: Malformed, at: at, detail: "line is too long to be read"})
}

// Torn says that the file ends, at offset, with a line without newline. What
// is there of it is not looked at.
func (v *Verifier) Torn(name string, offset int64) {
	v.open(name).torn = offset
}

func (v *Verifier) open(name string) *file {
	if n := len(v.files); n > 0 && v.files[n-1].name == name {
		return v.files[n-1]
	}
	f := &file{name: name, number: len(v.files), torn: -1}
	v.files = append(v.files, f)
	v.cursor = cursor{}
	return f
}

// recordLine returns the origin of a sound record, else nil.
func (v *Verifier) recordLine(at place, line *audit.Line) *origin {
	if line.Kind == audit.LineEvent {
		line.Link.Digest = sha256.Sum256(line.Event)
	}
	hash := line.Link.Hash()
	if hash != line.Hash {
		v.unsound(at, line, hash)
		return nil
	}
	if line.Link.Index >= maxIndex {
		v.bad(&bad{kind: Malformed, at: at, detail: errIndex.Error()})
		return nil
	}
	o := v.origin(line.Link.Origin)
	if o == nil {
		v.bad(&bad{kind: Malformed, at: at, detail: "the origin is not <instance>/<journal id>/<life>"})
		return nil
	}
	f := fact{
		index: line.Link.Index, seq: line.Link.Seq, prev: line.Link.Prev, hash: hash,
		stream: line.Link.Stream, sealedAt: line.Link.SealedAt, at: at, state: leafEvent,
	}
	if line.Kind == audit.LineStub {
		f.state = leafStub
	}
	if f.stream == audit.StreamOrigin {
		o.controlSeq = min(o.controlSeq, f.seq)
		if f.state == leafEvent {
			v.readControl(o, &f, line.Event)
		}
	}
	at.file.origin = o
	v.sound(o, f.index, f.index+1)
	v.add(o, &f)
	return o
}

// unsound takes a line whose hash is not that of its parts.
func (v *Verifier) unsound(at place, line *audit.Line, computed chain.Hash) {
	b := &bad{
		kind: Tampered, at: at, detail: "the stored hash is not that of the line",
		claims: true, claimed: coordinate{line.Link.Origin, line.Link.Index},
		leaves: []chain.Hash{line.Hash, computed},
	}
	if line.Kind == audit.LineEvent {
		if _, err := canonical.Parse(bytes.Clone(line.Event)); err != nil {
			b.kind, b.detail = Malformed, "the event is not in canonical form: "+err.Error()
		}
	}
	v.bad(b)
}

// origin returns the state of the origin, nil if there can be none of that
// name.
func (v *Verifier) origin(name string) *origin {
	if v.current != nil && v.current.full == name {
		return v.current
	}
	o := v.origins[name]
	if o == nil {
		parsed, err := chain.ParseOrigin(name)
		if err != nil {
			return nil
		}
		o = v.newOrigin(parsed)
		v.origins[name] = o
		v.order = append(v.order, o)
	}
	v.current = o
	return o
}

// notice reports once for each file that its lines are not in order.
func (v *Verifier) reordered(o *origin, index uint64, at place) {
	if at.file.reordered {
		return
	}
	at.file.reordered = true
	v.found.add(entry{
		kind: Reordered, origin: o.full, first: index, last: index, indexd: true, at: at,
		detail: "lines are not in the order of their index, here for the first time in this file",
	})
}

// quarantined notes that a record says what was done with the record at c.
func (v *Verifier) quarantined(c coordinate, by witness) {
	if v.explained[c] == nil {
		v.explained[c] = map[witness]struct{}{}
	}
	v.explained[c][by] = struct{}{}
}
