// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
)

const (
	instance = "host-1"
	journal  = "00112233445566aa"
	// firstSeal is when the first record of a test log is sealed.
	firstSeal = 1_800_000_000_000_000_000
)

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// stored is one file of a store in memory.
type stored struct {
	name  string
	lines [][]byte
	torn  []byte // after the last newline
}

type store []*stored

func (s store) clone() store {
	out := make(store, 0, len(s))
	for _, f := range s {
		c := &stored{name: f.name, torn: slices.Clone(f.torn)}
		for _, line := range f.lines {
			c.lines = append(c.lines, slices.Clone(line))
		}
		out = append(out, c)
	}
	return out
}

// feed gives s to a verifier in path order.
func (s store) feed(v *verify.Verifier) {
	files := slices.SortedFunc(slices.Values(s), func(a, b *stored) int { return strings.Compare(a.name, b.name) })
	for _, f := range files {
		offset := int64(0)
		for _, line := range f.lines {
			v.Line(f.name, offset, line)
			offset += int64(len(line)) + 1
		}
		if len(f.torn) > 0 {
			v.Torn(f.name, offset)
		}
	}
}

func check(t testing.TB, s store, options verify.Options) verify.Report {
	t.Helper()
	v, err := verify.New(options)
	require.NoError(t, err)
	s.feed(v)
	report, err := v.Finish()
	require.NoError(t, err)
	return report
}

// kinds returns the kinds of findings, each once, in order.
func kinds(r verify.Report) []verify.Kind {
	set := map[verify.Kind]bool{}
	for _, f := range r.Findings {
		set[f.Kind] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func describe(r verify.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%+v\n", f)
	}
	return b.String()
}

// sealer seals records as the processor does, into a store in memory.
type sealer struct {
	t       testing.TB
	key     ed25519.PrivateKey
	journal string
	encoder canonical.Encoder
	heads   map[string]chain.Head
	tree    chain.Tree
	origin  string
	lives   int
	now     int64
	files   store
	note    []byte // newest checkpoint
	cause   string
	// fill pads the text of an event.
	fill string
}

func newSealer(t testing.TB, key ed25519.PrivateKey) *sealer {
	return &sealer{t: t, key: key, journal: journal, heads: map[string]chain.Head{}, now: firstSeal}
}

// copyOf returns a sealer that goes on from where s stands, as a copied journal
// directory does. It writes to its own store.
func (s *sealer) copyOf() *sealer {
	c := *s
	c.heads = maps.Clone(s.heads)
	c.tree = s.tree.Clone()
	c.encoder = canonical.Encoder{}
	c.files = nil
	c.lives += 100
	return &c
}

func (s *sealer) file() *stored { return s.files[len(s.files)-1] }

func (s *sealer) line(line []byte) { s.file().lines = append(s.file().lines, line) }

func (s *sealer) newFile() {
	s.files = append(s.files, &stored{name: fmt.Sprintf("%s/%020d.jsonl", s.origin, s.tree.Size())})
}

// record seals one record with the given event name and attributes.
func (s *sealer) record(stream, event string, attributes map[string]any) {
	s.seal(stream, s.canonical(event, attributes), false)
}

func (s *sealer) canonical(event string, attributes map[string]any) []byte {
	logs := plog.NewLogs()
	group := logs.ResourceLogs().AppendEmpty()
	group.Resource().Attributes().PutStr("service.name", "shop")
	record := group.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName(event)
	require.NoError(s.t, record.Attributes().FromRaw(attributes))
	require.NoError(s.t, s.encoder.SetGroup(group.Resource(), "", group.ScopeLogs().At(0).Scope(), ""))
	event64, _, err := s.encoder.Append(nil, record)
	require.NoError(s.t, err)
	return event64
}

func (s *sealer) link(stream string, digest chain.Hash) chain.Link {
	head := s.heads[stream]
	s.now += 1_000_000
	return chain.Link{
		Origin: s.origin, Index: s.tree.Size(), Stream: stream, Seq: head.Seq + 1,
		SealedAt: s.now, Prev: head.Hash, Digest: digest,
	}
}

func (s *sealer) seal(stream string, event []byte, stub bool) chain.Link {
	link := s.link(stream, sha256.Sum256(event))
	hash := link.Hash()
	if stub {
		s.line(audit.AppendStub(nil, &link, hash))
	} else {
		s.line(audit.AppendEvent(nil, &link, hash, event))
	}
	s.heads[stream] = chain.Head{Seq: link.Seq, Hash: hash}
	s.tree.Append(hash)
	return link
}

func (s *sealer) event(tenant, text string) {
	s.record(audit.StreamTenant+tenant, "user.login", map[string]any{
		audit.AttributeRecordID:        fmt.Sprintf("%s-%d", tenant, s.tree.Size()),
		audit.AttributeActorID:         text,
		audit.AttributeAction:          "LOGIN",
		audit.AttributeMetadata:        map[string]any{"text": text + s.fill, "count": int64(7)},
		audit.AttributeCollectorTenant: tenant,
	})
}

// events seals n events of three tenants.
func (s *sealer) events(n int) {
	for i := range n {
		s.event([]string{"acme", "globex", "initech"}[i%3], fmt.Sprintf("user-%d", i))
	}
}

// start begins a life.
func (s *sealer) start() {
	attributes := map[string]any{
		audit.AttributeOriginVersion: "1.0.0",
		audit.AttributeOriginCause:   "first",
		audit.AttributeOriginKey:     base64.StdEncoding.EncodeToString(public(s.key)),
	}
	if s.origin != "" {
		attributes[audit.AttributeOriginCause] = s.cause
		attributes[audit.AttributeOriginPrevious] = s.origin
		attributes[audit.AttributeOriginPreviousSize] = int64(s.tree.Size())
		attributes[audit.AttributeOriginPreviousRoot] = s.tree.Root().String()
	}
	s.lives++
	s.origin = fmt.Sprintf("%s/%s/20261123T09%02d00Z-%08x", instance, s.journal, s.lives%60, s.lives)
	s.tree = chain.Tree{}
	s.cause = "crash"
	s.newFile()
	s.record(audit.StreamOrigin, audit.EventOriginStart, attributes)
	s.checkpoint()
}

func (s *sealer) stop() {
	s.record(audit.StreamOrigin, audit.EventOriginStop, nil)
	s.checkpoint()
	s.cause = "clean"
}

func (s *sealer) checkpoint() {
	note, err := chain.SignCheckpoint(chain.Checkpoint{Origin: s.origin, Size: s.tree.Size(), Root: s.tree.Root()}, s.key)
	require.NoError(s.t, err)
	s.note = note
	s.line(audit.AppendCheckpoint(nil, note, s.tree.Range()))
}

// rotate begins a new file with the checkpoint that ends the one before.
func (s *sealer) rotate() {
	s.checkpoint()
	last := s.file().lines[len(s.file().lines)-1]
	s.newFile()
	s.line(slices.Clone(last))
}

// quarantine stores a stub in place of an event, and seals the reason if it is
// to be explained.
func (s *sealer) quarantine(explained bool) chain.Link {
	link := s.seal(audit.StreamTenant+"acme", s.poison(), true)
	if explained {
		s.did("quarantine", "audit/file", &link)
	}
	return link
}

// poison is the event that quarantine stores a stub of.
func (s *sealer) poison() []byte {
	return s.canonical("user.login", map[string]any{audit.AttributeActorID: "poison"})
}

// did seals what a sink or an operator did with the record of link.
func (s *sealer) did(action, sink string, link *chain.Link) {
	s.record(audit.StreamOrigin, audit.EventQuarantine, map[string]any{
		audit.AttributeQuarantineAction: action,
		audit.AttributeQuarantineOrigin: link.Origin,
		audit.AttributeQuarantineIndex:  int64(link.Index),
		audit.AttributeQuarantineDigest: link.Digest.String(),
		audit.AttributeQuarantineSink:   sink,
		audit.AttributeQuarantineReason: "refused",
	})
}

// replay stores the whole record beside its stub.
func (s *sealer) replay(link *chain.Link) {
	s.line(audit.AppendEvent(nil, link, link.Hash(), s.poison()))
}

// standard is a log of two lives, the first with four files, closed by a stop:
//
//	life 1: index 0 start, 1–12 events, checkpoint, 13–24, checkpoint, 25–36,
//	        checkpoint, 37–48, stop 49, checkpoint
//	life 2: index 0 start, 1–9 events, checkpoint, 10–18, stop 19, checkpoint
func standard(t testing.TB, key ed25519.PrivateKey) *sealer {
	s := newSealer(t, key)
	s.start()
	for range 3 {
		s.events(12)
		s.rotate()
	}
	s.events(12)
	s.stop()
	s.start()
	s.events(9)
	s.checkpoint()
	s.events(9)
	s.stop()
	return s
}
