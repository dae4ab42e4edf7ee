// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
)

// stub replaces the line of a record by its stub: the leaf stays the same.
func stub(t *testing.T, s store, origin, index string) {
	t.Helper()
	line := s.line(t, origin, index)
	link := parsedLink(t, *line)
	*line = audit.AppendStub(nil, &link, link.Hash())
}

// explain appends an audit.quarantine record as anyone can who writes to the
// store: with sound hashes, and above every checkpoint.
func (s *sealer) explain(origin string, index uint64) {
	s.did("quarantine", "audit/file", &chain.Link{Origin: origin, Index: index})
}

// Whoever can write to the store must not erase a record below the checkpoint
// by a stub and an explanation of their own.
func TestExplanationMustBeSigned(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	s.events(5)
	s.checkpoint()
	options := givenKey(s.key)
	options.Checkpoints = [][]byte{s.note}
	stub(t, s.files, s.origin, "3")
	s.explain(s.origin, 3)
	report := check(t, s.files, options)
	assert.Equal(t, 4, report.ExitCode(), describe(report))

	// The sealer's own explanation comes under a checkpoint, or its life ends
	// and the next one names it.
	s.checkpoint()
	report = check(t, s.files, options)
	assert.Equal(t, 0, report.ExitCode(), describe(report))
}

func TestExplanationInTheTailOfADeadLife(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	s.quarantine(true)
	s.start()
	s.stop()
	report := check(t, s.files, givenKey(s.key))
	assert.Equal(t, 0, report.ExitCode(), describe(report))
	assert.Equal(t, []verify.Kind{verify.Quarantined}, kinds(report), describe(report))
}

// Without its start record a life does not say what came before it.
func TestStubOfAStartRecord(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	s.events(3)
	s.start()
	second := s.origin
	s.events(3)
	s.explain(second, 0)
	s.stop()
	stub(t, s.files, second, "0")
	report := check(t, s.files[1:], givenKey(s.key))
	require.Equal(t, 1, report.ExitCode(), describe(report))
	assert.Equal(t, []verify.Kind{verify.Missing}, kinds(report), describe(report))
}

// A forged life that names the one of a given checkpoint as its predecessor
// does not excuse that it is gone.
func TestForgedLifeExcusesNothing(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	s.events(3)
	s.stop()
	first := s.files.clone()
	s.start()
	s.events(3)
	s.checkpoint()
	options := givenKey(s.key)
	options.Checkpoints = [][]byte{s.note}
	s.start()
	forged := s.files[len(s.files)-1]
	forged.lines = forged.lines[:1] // without the checkpoint, which they cannot sign
	link := parsedLink(t, forged.lines[0])
	parsed, err := audit.ParseLine(forged.lines[0])
	require.NoError(t, err)
	event := slices.Clone(parsed.Event)
	link.Seq = 1 // with the older name it comes before the first life
	link.Origin = strings.Replace(link.Origin, "/20261123T", "/20200101T", 1)
	forged.lines[0] = audit.AppendEvent(nil, &link, link.Hash(), event)
	report := check(t, append(store{forged}, first...), options)
	require.Equal(t, 1, report.ExitCode(), describe(report))
	assert.Contains(t, kinds(report), verify.Missing, describe(report))
}

// What the sealed records say of a stub, in a log that is closed and in one
// that is not.
func TestAccountsOfAStub(t *testing.T) {
	type did struct{ action, sink string }
	cases := map[string]struct {
		did          []did
		whole        bool // the full line stands beside the stub
		open, closed int  // exit code
		kind         verify.Kind
		detail       string
	}{
		"nobody":               {nil, false, 4, 1, verify.Missing, "no sealed record says that it was quarantined"},
		"unknown action":       {[]did{{"burn", "a"}, {"", "a"}}, false, 4, 1, verify.Missing, "no sealed record"},
		"quarantined":          {[]did{{"quarantine", "a"}}, false, 4, 0, verify.Quarantined, "in the quarantine directory"},
		"twice":                {[]did{{"quarantine", "a"}, {"quarantine", "a"}}, false, 4, 0, verify.Quarantined, "in the quarantine directory"},
		"dropped":              {[]did{{"quarantine", "a"}, {"drop", "a"}}, false, 4, 0, verify.Quarantined, "given up by an operator"},
		"drop alone":           {[]did{{"drop", "a"}}, false, 4, 0, verify.Quarantined, "given up by an operator"},
		"replayed":             {[]did{{"quarantine", "a"}, {"replay", "a"}}, true, 4, 0, "", ""},
		"replayed, not sealed": {[]did{{"quarantine", "a"}}, true, 4, 0, "", ""},
		"replayed and gone":    {[]did{{"quarantine", "a"}, {"replay", "a"}}, false, 4, 1, verify.Missing, "the whole record was stored beside it"},
		"replay alone":         {[]did{{"replay", "a"}}, false, 4, 1, verify.Missing, "the whole record was stored beside it"},
		"replayed elsewhere":   {[]did{{"quarantine", "a"}, {"quarantine", "b"}, {"replay", "a"}}, false, 4, 0, verify.Quarantined, "in the quarantine directory"},
	}
	for name, c := range cases {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, closed=%v", name, closed), func(t *testing.T) {
				s := newSealer(t, testKey("a"))
				s.start()
				link := s.quarantine(false)
				for _, did := range c.did {
					s.did(did.action, did.sink, &link)
				}
				if c.whole {
					s.replay(&link)
				}
				kind, code := c.kind, c.open
				if closed {
					s.stop()
					code = c.closed
				} else {
					s.checkpoint()
					if kind == verify.Missing {
						kind = verify.Quarantined
					}
				}
				report := check(t, s.files, givenKey(s.key))
				assert.Equal(t, code, report.ExitCode(), describe(report))
				about := slices.DeleteFunc(slices.Clone(report.Findings), func(f verify.Finding) bool { return f.Index != "1" })
				if c.kind == "" {
					assert.Empty(t, about)
					return
				}
				require.Len(t, about, 1, describe(report))
				assert.Equal(t, kind, about[0].Kind)
				if closed {
					assert.Contains(t, about[0].Detail, c.detail)
				}
			})
		}
	}
}

// Anyone can write audit.quarantine records with sound hashes. What is kept of
// them does not grow with what they call a sink.
func TestLongNamesOfSinksAreNotKept(t *testing.T) {
	const records, long = 24, 2 << 20
	s := newSealer(t, testKey("a"))
	s.start()
	v, err := verify.New(verify.Options{})
	require.NoError(t, err)
	before := heap()
	for i := range records {
		s.files = nil
		s.newFile()
		s.did("quarantine", fmt.Sprint(i)+strings.Repeat("x", long), &chain.Link{Origin: s.origin, Index: 1})
		s.files.feed(v)
	}
	s.files = nil
	assert.Less(t, heap()-before, int64(records*long/4))
	_, err = v.Finish()
	require.NoError(t, err)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
