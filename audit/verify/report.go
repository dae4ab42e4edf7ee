// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// MaxFindings bounds the findings of a report; Report.MoreFindings counts the
// rest.
const MaxFindings = 10_000

// Kind names what is wrong, or worth knowing.
type Kind string

// The kinds of findings. Those up to Malformed are integrity findings: exit
// code 1. The others are notices.
const (
	Tampered     Kind = "tampered"      // stored bytes are not what was sealed
	Missing      Kind = "missing"       // a record that was sealed is not there
	Inserted     Kind = "inserted"      // a line that was not sealed at its place
	Conflict     Kind = "conflict"      // two sound lines for one coordinate, nothing decides
	Forked       Kind = "forked"        // one log has two histories
	RolledBack   Kind = "rolled-back"   // less is there than an earlier run saw
	BadSignature Kind = "bad-signature" // no trusted key signed a checkpoint
	Malformed    Kind = "malformed"     // a line that no encoder writes

	Reordered    Kind = "reordered"    // lines not in the order of their index
	Duplicate    Kind = "duplicate"    // an identical line again
	Quarantined  Kind = "quarantined"  // a stub: a sink refused the record for good
	Unverifiable Kind = "unverifiable" // signed by a key whose validity ended
	OpenHead     Kind = "open-head"    // what precedes the first stored index is not proven
	OpenTail     Kind = "open-tail"    // what follows is not proven
)

// Integrity says whether k is an integrity finding; otherwise it is a notice.
func (k Kind) Integrity() bool {
	switch k {
	case Tampered, Missing, Inserted, Conflict, Forked, RolledBack, BadSignature, Malformed:
		return true
	default:
		return false
	}
}

// Finding is one thing that the verifier found. A run of neighbours is one
// finding whose detail names the range.
type Finding struct {
	Kind   Kind   `json:"kind"`
	Origin string `json:"origin"` // empty where the line does not say
	Index  string `json:"index"`  // decimal; of a checkpoint its size; empty where the line does not say
	File   string `json:"file"`   // empty where no stored line is to blame
	Offset int64  `json:"offset"` // of the line's first byte in File
	Detail string `json:"detail"`
}

// Verdicts of a report and of each log in it.
const (
	IntegritySound  = "sound"
	IntegrityBroken = "broken"

	CompletenessComplete = "complete" // head and tail are covered
	CompletenessOpen     = "open"     // head or tail is not proven
	CompletenessBroken   = "broken"   // something that was sealed is not there
)

// How far the keys are trusted that vouch for a log.
const (
	TrustGiven    = "given key"
	TrustPinned   = "pinned key"
	TrustFirstUse = "first use"
	TrustNone     = "none" // no trusted checkpoint
)

// Report is what a verifier found. Its JSON form is stable.
type Report struct {
	Integrity    string    `json:"integrity"`
	Completeness string    `json:"completeness"`
	Trust        string    `json:"trust"`
	Records      uint64    `json:"records"`     // stored records, control records and stubs included
	Checkpoints  uint64    `json:"checkpoints"` // checkpoint lines whose signature was accepted
	Logs         []Log     `json:"logs"`
	Findings     []Finding `json:"findings"`
	MoreFindings uint64    `json:"more_findings,omitempty"` // beyond MaxFindings

	// Learned is what the caller may remember for the next run. It is empty
	// after an integrity finding.
	Learned Learned `json:"-"`
}

// Log is the verdict on one log.
type Log struct {
	Name         string `json:"log"`
	Integrity    string `json:"integrity"`
	Completeness string `json:"completeness"`
	Trust        string `json:"trust"`
	Records      uint64 `json:"records"`
	Lives        []Life `json:"lives"`               // oldest first
	ClosedAt     string `json:"closed_at,omitempty"` // time of the final stop, where it closes the log
}

// Life is what was seen of one origin. Indexes are decimal strings.
type Life struct {
	Origin   string `json:"origin"`
	First    string `json:"first"`    // lowest index in the store
	Size     string `json:"size"`     // one more than the highest
	Verified string `json:"verified"` // size of the newest trusted checkpoint that fits, 0 if none
	Proven   string `json:"-"`        // every index below is covered by a signature, be it that of the next life
	Records  uint64 `json:"records"`
	Closed   bool   `json:"closed"` // ends with a verified audit.origin.stop
}

// Learned is what a run may remember: never more than it proved.
type Learned struct {
	Pins   map[string][]Pin
	Floors map[string]Floor
}

// ExitCode is 0 for sound and complete, 1 for an integrity finding, 4 for
// sound with a head or tail that is not proven.
func (r *Report) ExitCode() int {
	switch {
	case r.Integrity != IntegritySound:
		return 1
	case r.Completeness != CompletenessComplete:
		return 4
	default:
		return 0
	}
}

// place is where a stored line is.
type place struct {
	file   *file
	offset int64
}

func (p place) name() string {
	if p.file == nil {
		return ""
	}
	return p.file.name
}

// entry is a finding while it may still grow by its neighbour.
type entry struct {
	kind   Kind
	origin string
	first  uint64
	last   uint64
	indexd bool // first and last mean something
	at     place
	detail string
	number uint64 // lines or records it stands for
	shown  bool   // about what a store shows of a record, not about what was sealed
}

// findings collects entries: bounded, neighbours joined.
type findings struct {
	entries []entry
	more    uint64
	broken  bool            // an integrity finding was added
	damaged map[string]bool // origins with an integrity finding about records
	newest  map[Kind]int    // place of the newest entry of a kind
}

func (f *findings) add(e entry) {
	if e.number == 0 {
		e.number = 1
	}
	if e.kind.Integrity() {
		f.broken = true
		if e.origin != "" && e.kind != BadSignature && !e.shown {
			f.damaged[e.origin] = true
		}
	}
	if f.join(&e) {
		return
	}
	if len(f.entries) >= MaxFindings {
		f.more++
		return
	}
	f.newest[e.kind] = len(f.entries)
	f.entries = append(f.entries, e)
}

// join lets the newest finding of the kind grow by e, if e is its neighbour.
func (f *findings) join(e *entry) bool {
	i, ok := f.newest[e.kind]
	if !ok || !e.indexd {
		return false
	}
	old := &f.entries[i]
	if !old.indexd || old.origin != e.origin || old.at.file != e.at.file || old.detail != e.detail {
		return false
	}
	if e.kind != BadSignature && e.first != old.last+1 {
		return false
	}
	old.first = min(old.first, e.first)
	old.last = max(old.last, e.last)
	old.number += e.number
	return true
}

// list returns the findings in their final form: by origin, index, file and
// place.
func (f *findings) list() []Finding {
	slices.SortStableFunc(f.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.origin, b.origin), cmp.Compare(a.first, b.first),
			cmp.Compare(a.at.name(), b.at.name()), cmp.Compare(a.at.offset, b.at.offset))
	})
	list := make([]Finding, 0, len(f.entries))
	for i := range f.entries {
		list = append(list, f.entries[i].finding())
	}
	return list
}

func (e *entry) finding() Finding {
	found := Finding{Kind: e.kind, Origin: e.origin, File: e.at.name(), Offset: e.at.offset, Detail: e.detail}
	if !e.indexd {
		return found
	}
	found.Index = strconv.FormatUint(e.first, 10)
	if e.last > e.first {
		found.Detail = fmt.Sprintf("indexes %d to %d (%d): %s", e.first, e.last, e.number, e.detail)
	}
	return found
}
