// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
)

func TestCrashBetweenLives(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	s.events(10)
	s.checkpoint()
	s.events(3) // durable, but no checkpoint came after them
	s.start()
	s.events(5)
	s.start() // died at once
	s.start()
	s.events(2)
	s.stop()
	report := check(t, s.files, givenKey(s.key))
	assert.Empty(t, report.Findings, describe(report))
	assert.Equal(t, 0, report.ExitCode())
	assert.Len(t, report.Logs[0].Lives, 4)
	dead := report.Logs[0].Lives[0]
	assert.Equal(t, "11", dead.Verified)
	assert.Equal(t, dead.Size, dead.Proven, "the next life has signed the end of the one before")
}

func TestTailOfDeadLife(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	s.events(10)
	s.checkpoint()
	s.events(3)
	s.start()
	s.stop()

	cut := s.files.clone()
	cut[0].lines = cut[0].lines[:len(cut[0].lines)-2]
	report := check(t, cut, givenKey(s.key))
	assert.Equal(t, []verify.Kind{verify.Missing}, kinds(report), describe(report))
	assert.Equal(t, "12", report.Findings[0].Index)
	assert.Contains(t, report.Findings[0].Detail, "indexes 12 to 13 (2)")

	edited := s.files.clone()
	last := &edited[0].lines[len(edited[0].lines)-1]
	*last = forge(parsedLink(t, *last), "forged")
	report = check(t, edited, givenKey(s.key))
	assert.Equal(t, []verify.Kind{verify.Tampered}, kinds(report), describe(report))
}

func TestLiveStoreIsOpen(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	s.events(10)
	s.checkpoint()
	options := givenKey(s.key)
	report := check(t, s.files, options)
	assert.Equal(t, []verify.Kind{verify.OpenTail}, kinds(report))
	assert.Equal(t, 4, report.ExitCode())

	options.Checkpoints = [][]byte{s.note}
	report = check(t, s.files, options)
	assert.Empty(t, report.Findings)
	assert.Equal(t, 0, report.ExitCode())

	s.events(3)
	report = check(t, s.files, options)
	assert.Equal(t, []verify.Kind{verify.OpenTail}, kinds(report), "leaves above the checkpoint are a notice")
	assert.Equal(t, 0, report.ExitCode())
}

func TestGivenCheckpoint(t *testing.T) {
	s := standard(t, testKey("a"))
	options := givenKey(s.key)

	options.Checkpoints = [][]byte{[]byte("hello")}
	_, err := verify.New(options)
	require.ErrorIs(t, err, chain.ErrCheckpoint)

	forged, err := chain.SignCheckpoint(chain.Checkpoint{Origin: s.origin, Size: s.tree.Size(), Root: s.tree.Root()}, testKey("b"))
	require.NoError(t, err)
	options.Checkpoints = [][]byte{forged}
	report := check(t, s.files, options)
	assert.Equal(t, []verify.Kind{verify.BadSignature}, kinds(report))

	other := newSealer(t, s.key)
	other.journal = "ffffffffffffffff"
	other.start()
	other.stop()
	options.Checkpoints = [][]byte{other.note}
	report = check(t, s.files, options)
	assert.Equal(t, []verify.Kind{verify.Missing}, kinds(report), "a log of which nothing is left")
	report = check(t, nil, options)
	assert.Equal(t, []verify.Kind{verify.Missing}, kinds(report))
	assert.Equal(t, 1, report.ExitCode())
}

func TestForks(t *testing.T) {
	t.Run("a copied journal started twice", func(t *testing.T) {
		s := newSealer(t, testKey("a"))
		s.start()
		s.events(10)
		s.stop()
		c := s.copyOf()
		for _, each := range []*sealer{s, c} {
			each.start()
			each.events(5)
			each.stop()
		}
		report := check(t, append(s.files, c.files...), givenKey(s.key))
		assert.Equal(t, []verify.Kind{verify.Forked}, kinds(report), describe(report))
		assert.Equal(t, 1, report.ExitCode())
	})
	t.Run("a snapshot restored", func(t *testing.T) {
		s := newSealer(t, testKey("a"))
		s.start()
		s.events(10)
		s.checkpoint()
		c := s.copyOf()
		s.events(10)
		s.checkpoint()
		c.start()
		c.stop()
		report := check(t, append(s.files, c.files...), givenKey(s.key))
		assert.Equal(t, []verify.Kind{verify.Forked}, kinds(report), describe(report))
	})
	t.Run("the running process copied", func(t *testing.T) {
		s := newSealer(t, testKey("a"))
		s.start()
		s.events(10)
		s.checkpoint()
		c := s.copyOf()
		c.files = store{{name: s.origin + "/copy.jsonl"}}
		s.stop()
		c.event("acme", "other")
		c.checkpoint()
		report := check(t, append(s.files, c.files...), givenKey(s.key))
		assert.Equal(t, 1, report.ExitCode(), describe(report))
		assert.Contains(t, kinds(report), verify.Forked)
	})
}

func TestFloors(t *testing.T) {
	s := standard(t, testKey("a"))
	options := givenKey(s.key)
	before := check(t, s.files, options)
	require.Equal(t, 0, before.ExitCode())
	options.Floors = before.Learned.Floors
	require.Len(t, options.Floors[instance+"/"+journal].Lives, 2)

	report := check(t, s.files, options)
	assert.Equal(t, 0, report.ExitCode(), describe(report))

	cases := []struct {
		name string
		do   func(*testing.T, store) store
		kind verify.Kind
	}{
		{"tail cut", cutLines(5), verify.RolledBack},
		{"last life deleted", deleteFile(4), verify.RolledBack},
		{"first file deleted", deleteFile(0), verify.Missing},
		{"first life deleted", func(_ *testing.T, s store) store { return s[4:] }, verify.Missing},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			report := check(t, c.do(t, s.files.clone()), options)
			assert.Contains(t, kinds(report), c.kind, describe(report))
			assert.Equal(t, 1, report.ExitCode())
			for _, f := range report.Findings {
				assert.True(t, f.Kind == c.kind || !f.Kind.Integrity(), "%v", f)
			}
			assert.Empty(t, report.Learned.Floors, "nothing is learned from a broken store")
		})
	}
	t.Run("another history", func(t *testing.T) {
		other := newSealer(t, s.key)
		other.start()
		other.events(60)
		other.stop()
		report := check(t, other.files, options)
		assert.Equal(t, 1, report.ExitCode())
		assert.Equal(t, []verify.Kind{verify.RolledBack}, kinds(report), describe(report))
	})
	t.Run("the log goes on", func(t *testing.T) {
		s.start()
		s.events(4)
		report := check(t, s.files, options)
		assert.Equal(t, 4, report.ExitCode(), "a floor never makes 0 of 4")
		assert.Equal(t, []verify.Kind{verify.OpenTail}, kinds(report), describe(report))
	})
	t.Run("the head was gone already", func(t *testing.T) {
		cut := deleteFile(0)(t, s.files.clone())
		first := check(t, cut, givenKey(s.key))
		require.Equal(t, 4, first.ExitCode())
		options := givenKey(s.key)
		options.Floors = first.Learned.Floors
		report := check(t, cut, options)
		assert.Equal(t, 4, report.ExitCode(), describe(report))
	})
}

func TestRetentionWithoutKey(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	for range 4 {
		s.events(10)
		s.rotate()
	}
	s.stop()
	report := check(t, s.files[2:], verify.Options{})
	assert.Equal(t, 4, report.ExitCode())
	assert.Equal(t, []verify.Kind{verify.OpenHead}, kinds(report), describe(report))
	assert.Contains(t, report.Findings[0].Detail, "unless the key is given")
	assert.Equal(t, verify.CompletenessOpen, report.Completeness)
	assert.Equal(t, verify.TrustNone, report.Trust)

	report = check(t, s.files[2:], givenKey(s.key))
	assert.Equal(t, []verify.Kind{verify.OpenHead}, kinds(report), describe(report))
	assert.Equal(t, "21", report.Logs[0].Lives[0].First)
}

// The key comes with a later life than the checkpoints that it signed.
func TestKeyLearnedLate(t *testing.T) {
	s := standard(t, testKey("a"))
	report := check(t, s.files[1:], verify.Options{})
	assert.Equal(t, []verify.Kind{verify.OpenHead}, kinds(report), describe(report))
	assert.Equal(t, verify.TrustFirstUse, report.Trust)

	forged := s.files[1:].clone()
	for _, f := range forged[:3] {
		for i, line := range f.lines {
			parsed, err := audit.ParseLine(line)
			require.NoError(t, err)
			if parsed.Kind != audit.LineCheckpoint {
				continue
			}
			c, err := chain.ParseCheckpoint(parsed.Note)
			require.NoError(t, err)
			note, err := chain.SignCheckpoint(c, testKey("mallory"))
			require.NoError(t, err)
			f.lines[i] = audit.AppendCheckpoint(nil, note, parsed.Range)
		}
	}
	report = check(t, forged, verify.Options{})
	assert.Equal(t, 1, report.ExitCode())
	assert.Contains(t, kinds(report), verify.BadSignature, describe(report))
}

func TestQuarantine(t *testing.T) {
	build := func(explained bool) *sealer {
		s := newSealer(t, testKey("a"))
		s.start()
		s.events(5)
		s.quarantine(explained)
		s.events(5)
		s.checkpoint()
		return s
	}
	s := build(true)
	options := givenKey(s.key)
	options.Checkpoints = [][]byte{s.note}
	report := check(t, s.files, options)
	assert.Equal(t, []verify.Kind{verify.Quarantined}, kinds(report), describe(report))
	assert.Equal(t, 0, report.ExitCode())

	s = build(false)
	options.Checkpoints = [][]byte{s.note}
	report = check(t, s.files, options)
	assert.Equal(t, []verify.Kind{verify.Quarantined}, kinds(report), describe(report))
	assert.Equal(t, 4, report.ExitCode())

	s.stop()
	report = check(t, s.files, givenKey(s.key))
	assert.Equal(t, []verify.Kind{verify.Missing}, kinds(report), describe(report))
	assert.Equal(t, 1, report.ExitCode())

	// Replay: the full line of equal hash takes the stub's place.
	link := parsedLink(t, *s.files.line(t, s.origin, "6"))
	event := s.canonical("user.login", map[string]any{audit.AttributeActorID: "poison"})
	full := audit.AppendEvent(nil, &link, link.Hash(), event)
	for _, at := range []int{0, len(s.files[0].lines)} {
		replayed := s.files.clone()
		replayed[0].lines = slices.Insert(replayed[0].lines, at, full)
		report = check(t, replayed, givenKey(s.key))
		assert.Equal(t, 0, report.ExitCode(), describe(report))
		assert.NotContains(t, kinds(report), verify.Missing)
	}
}

// Two sound lines for one coordinate above the newest checkpoint.
func TestConflict(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	s.events(7)
	f, i := s.files.find(t, s.origin, "7")
	f.lines = append(f.lines, forge(parsedLink(t, f.lines[i]), "forged"))
	report := check(t, s.files, givenKey(s.key))
	assert.Equal(t, []verify.Kind{verify.Conflict}, kinds(report), describe(report))

	s.events(6) // what follows names the genuine one
	for _, first := range []bool{true, false} {
		if first {
			f.lines[i], f.lines[i+1] = f.lines[i+1], f.lines[i]
		}
		report = check(t, s.files, givenKey(s.key))
		assert.Equal(t, []verify.Kind{verify.Inserted}, kinds(report), describe(report))
	}
}

func TestSeveralLogs(t *testing.T) {
	a, b := standard(t, testKey("a")), newSealer(t, testKey("a"))
	b.journal = "ffffffffffffffff"
	b.start()
	b.events(3)
	report := check(t, append(a.files, b.files...), givenKey(a.key))
	assert.Equal(t, 4, report.ExitCode())
	require.Len(t, report.Logs, 2)
	assert.Equal(t, verify.CompletenessComplete, report.Logs[0].Completeness)
	assert.Equal(t, verify.CompletenessOpen, report.Logs[1].Completeness)
}

func TestFindingsAreBounded(t *testing.T) {
	v, err := verify.New(verify.Options{})
	require.NoError(t, err)
	for i := range 5 * verify.MaxFindings {
		v.Line("a.jsonl", int64(i), []byte("hello"))
	}
	report, err := v.Finish()
	require.NoError(t, err)
	assert.Len(t, report.Findings, verify.MaxFindings)
	assert.EqualValues(t, 4*verify.MaxFindings, report.MoreFindings)
}

// What a start record says of the life before is shown to people, and what an
// audit.quarantine record says of a place is held to the end: nothing but the
// name of an origin is either.
func TestNamesThatAreNoneAreNotTaken(t *testing.T) {
	s := standard(t, testKey("a"))
	s.journal, s.origin = "8899aabbccddeeff", "\x1b]0;title\a\u009b2J"+strings.Repeat("x", 1<<20)
	s.start()
	s.did("drop", "audit/file", &chain.Link{Origin: s.origin + strings.Repeat("x", 1<<20)})
	report := check(t, s.files, verify.Options{Keys: []ed25519.PublicKey{public(s.key)}})
	for _, f := range report.Findings {
		assert.Less(t, len(f.Detail), 1<<10)
		assert.NotContains(t, f.Detail, "\x1b")
	}
	assert.NotEmpty(t, report.Findings)
}

// memory is a Spill that counts.
type memory struct {
	data  []byte
	calls int
	fail  bool
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	m.calls++
	if m.fail {
		return 0, io.ErrShortWrite
	}
	if need := int(at) + len(b); need > len(m.data) {
		m.data = append(m.data, make([]byte, need-len(m.data))...)
	}
	return copy(m.data[at:], b), nil
}

func (m *memory) ReadAt(b []byte, at int64) (int, error) { return copy(b, m.data[at:]), nil }

// More pages than are held in memory.
const sparsePages = 9_000

// Lines of many distant places of many origins do not fit into memory.
func TestSpill(t *testing.T) {
	key := testKey("a")
	sparse := func(v *verify.Verifier) {
		for n := range sparsePages {
			link := chain.Link{
				Origin: fmt.Sprintf("%s/%s/20261123T090000Z-%08x", instance, journal, n%10), Stream: "none:",
				Index: uint64(n) * 300, Seq: 1,
			}
			v.Line("a.jsonl", int64(n), forge(link, "x"))
		}
	}
	for _, fail := range []bool{false, true} {
		spill := &memory{fail: fail}
		v, err := verify.New(verify.Options{Keys: []ed25519.PublicKey{public(key)}, Spill: spill, Window: 10})
		require.NoError(t, err)
		sparse(v)
		report, err := v.Finish()
		assert.Positive(t, spill.calls)
		if fail {
			require.ErrorIs(t, err, io.ErrShortWrite)
			continue
		}
		require.NoError(t, err)
		assert.EqualValues(t, sparsePages, report.Records)
	}
}

// A narrow window changes what is held in memory, not what is found.
func TestWindow(t *testing.T) {
	s := standard(t, testKey("a"))
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		shuffled := s.files.clone()
		for _, f := range shuffled {
			random.Shuffle(len(f.lines), func(i, j int) { f.lines[i], f.lines[j] = f.lines[j], f.lines[i] })
		}
		options := givenKey(s.key)
		options.Window = 1 + random.IntN(8)
		report := check(t, shuffled, options)
		assert.Equal(t, 0, report.ExitCode(), describe(report))
	}
}

// More damage than there is room for: what late lines repair in time is no
// finding, the rest is.
func TestManyRegions(t *testing.T) {
	s := newSealer(t, testKey("a"))
	s.start()
	const regions, room, lateness = 400, 96, 80
	for range regions {
		s.event("acme", "a")
		s.event("acme", "b")
		s.checkpoint()
	}
	s.stop()
	file := s.file()
	verdict := func(lines [][]byte) verify.Report {
		options := givenKey(s.key)
		options.Window = 1
		v, err := verify.New(options)
		require.NoError(t, err)
		v.LimitRegions(room)
		store{{name: file.name, lines: lines}}.feed(v)
		report, err := v.Finish()
		require.NoError(t, err)
		return report
	}
	var damaged, late [][]byte // the first line of each region is taken away
	var repaired [][]byte      // and comes back `lateness` regions later
	for i, line := range file.lines {
		if region := (i - 2) / 3; i >= 2 && region < regions && i%3 == 2 {
			late = append(late, line)
			if region >= lateness {
				repaired = append(repaired, late[region-lateness])
			}
			continue
		}
		damaged, repaired = append(damaged, line), append(repaired, line)
	}
	repaired = append(repaired, late[regions-lateness:]...)

	report := verdict(damaged)
	assert.Equal(t, []verify.Kind{verify.Missing}, kinds(report))
	assert.Len(t, report.Findings, regions)

	report = verdict(repaired)
	assert.Equal(t, []verify.Kind{verify.Reordered}, kinds(report))
	assert.Equal(t, 0, report.ExitCode())
}

// mutate changes one thing in s and says what; it returns false where the
// change means nothing.
func mutate(random *rand.Rand, s store) (string, bool) {
	f := s[random.IntN(len(s))]
	i := random.IntN(len(f.lines))
	switch random.IntN(6) {
	case 0, 1:
		line := f.lines[i]
		at := random.IntN(len(line))
		line[at] ^= 1 << random.IntN(8)
		return fmt.Sprintf("flip %s:%d byte %d", f.name, i, at), true
	case 2:
		checkpoint := bytes.HasPrefix(f.lines[i], []byte(`{"checkpoint"`))
		f.lines = slices.Delete(f.lines, i, i+1)
		return fmt.Sprintf("delete %s:%d", f.name, i), !checkpoint
	case 3:
		j := random.IntN(len(f.lines))
		f.lines[i], f.lines[j] = f.lines[j], f.lines[i]
		return "swap", false
	case 4:
		if bytes.HasPrefix(f.lines[i], []byte(`{"checkpoint"`)) {
			return "", false
		}
		parsed, err := audit.ParseLine(f.lines[i])
		if err != nil {
			return "", false
		}
		f.lines = slices.Insert(f.lines, random.IntN(len(f.lines)+1), forge(parsed.Link, "forged"))
		return fmt.Sprintf("insert %d", parsed.Link.Index), true
	default:
		line := f.lines[i]
		f.lines[i] = line[:random.IntN(len(line))]
		return fmt.Sprintf("truncate %s:%d", f.name, i), true
	}
}

// randomStore seals a random number of lives.
func randomStore(t *testing.T, random *rand.Rand) *sealer {
	s := newSealer(t, testKey("a"))
	for range 1 + random.IntN(4) {
		s.start()
		for range random.IntN(5) {
			s.events(random.IntN(15))
			switch random.IntN(3) {
			case 0:
				s.checkpoint()
			case 1:
				s.rotate()
			}
		}
		if random.IntN(2) == 0 {
			s.stop()
		}
	}
	if s.cause != "clean" {
		s.stop()
	}
	return s
}

func TestNoMutationPasses(t *testing.T) {
	var s *sealer
	for seed := range uint64(240) {
		random := rand.New(rand.NewPCG(seed, 1))
		if seed%8 == 0 {
			s = randomStore(t, random)
		}
		mutated := s.files.clone()
		what, meant := mutate(random, mutated)
		options := givenKey(s.key)
		options.Checkpoints = [][]byte{s.note}
		report := check(t, mutated, options)
		switch {
		case meant && slices.Equal(kinds(report), []verify.Kind{verify.OpenHead}):
			require.Equal(t, 4, report.ExitCode(), "seed %d: %s", seed, what)
		case meant:
			require.Equal(t, 1, report.ExitCode(), "seed %d: %s\n%s", seed, what, describe(report))
		default:
			require.Equal(t, 0, report.ExitCode(), "seed %d: %s\n%s", seed, what, describe(report))
		}
	}
}

func TestNoFalseAlarm(t *testing.T) {
	var s *sealer
	for seed := range uint64(120) {
		random := rand.New(rand.NewPCG(seed, 2))
		if seed%5 == 0 {
			s = randomStore(t, random)
		}
		disturbed := s.files.clone()
		for range random.IntN(20) {
			from, to := disturbed[random.IntN(len(disturbed))], disturbed[random.IntN(len(disturbed))]
			line := from.lines[random.IntN(len(from.lines))]
			to.lines = slices.Insert(to.lines, random.IntN(len(to.lines)+1), slices.Clone(line))
		}
		if random.IntN(2) == 0 {
			for _, f := range disturbed {
				random.Shuffle(len(f.lines), func(i, j int) { f.lines[i], f.lines[j] = f.lines[j], f.lines[i] })
			}
		}
		options := givenKey(s.key)
		options.Window = 1 + random.IntN(200)
		if random.IntN(2) == 0 {
			options = verify.Options{}
		}
		report := check(t, disturbed, options)
		require.Equal(t, 0, report.ExitCode(), "seed %d\n%s", seed, describe(report))
	}
}

func FuzzVerifier(f *testing.F) {
	s := standard(f, testKey("a"))
	for _, line := range s.files[0].lines[:4] {
		f.Add(append(line, '\n'), true)
	}
	f.Add([]byte("hello\n\n{}"), false)
	f.Fuzz(func(t *testing.T, text []byte, between bool) {
		v, err := verify.New(verify.Options{Window: 4})
		require.NoError(t, err)
		if between {
			s.files.feed(v)
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			v.Line("a.jsonl", int64(i), line)
		}
		_, err = v.Finish()
		require.NoError(t, err)
	})
}
