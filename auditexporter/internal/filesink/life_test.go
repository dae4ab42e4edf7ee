// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// sealer makes what a processor seals over several lives.
type sealer struct {
	t       testing.TB
	encoder canonical.Encoder
	heads   map[string]chain.Head
	tree    chain.Tree
	origin  string
	lives   int
	now     int64
	pending []sink.Entry // of the next batch
}

func newSealer(t testing.TB) *sealer {
	return &sealer{t: t, heads: map[string]chain.Head{}, now: 1_790_000_000_000_000_000}
}

func (s *sealer) record(stream, event string, attributes map[string]any) {
	logs := plog.NewLogs()
	group := logs.ResourceLogs().AppendEmpty()
	scope := group.ScopeLogs().AppendEmpty()
	record := scope.LogRecords().AppendEmpty()
	record.SetEventName(event)
	require.NoError(s.t, record.Attributes().FromRaw(attributes))
	s.encoder.SetGroup(group.Resource(), "", scope.Scope(), "") //nolint:errcheck // Append returns it
	text, _, err := s.encoder.Append(nil, record)
	require.NoError(s.t, err)
	head := s.heads[stream]
	link := chain.Link{
		Origin: s.origin, Index: s.tree.Size(), Stream: stream, Seq: head.Seq + 1,
		SealedAt: s.now, Prev: head.Hash, Digest: sum(text),
	}
	hash := link.Hash()
	s.heads[stream] = chain.Head{Seq: link.Seq, Hash: hash}
	s.tree.Append(hash)
	s.pending = append(s.pending, sink.Entry{Kind: audit.LineEvent, Link: link, Hash: hash, Event: text})
}

func (s *sealer) checkpoint() {
	c := chain.Checkpoint{Origin: s.origin, Size: s.tree.Size(), Root: s.tree.Root()}
	signed, err := chain.SignCheckpoint(c, testKey)
	require.NoError(s.t, err)
	s.pending = append(s.pending, sink.Entry{
		Kind: audit.LineCheckpoint, Link: chain.Link{Origin: s.origin, Index: c.Size}, Note: signed, Range: s.tree.Range(),
	})
}

// start begins another life.
func (s *sealer) start() {
	attributes := map[string]any{
		audit.AttributeOriginVersion: "1.0.0",
		audit.AttributeOriginCause:   "first",
		audit.AttributeOriginKey:     base64.StdEncoding.EncodeToString(testKey.Public().(ed25519.PublicKey)),
	}
	if s.origin != "" {
		attributes[audit.AttributeOriginCause] = "crash"
		attributes[audit.AttributeOriginPrevious] = s.origin
		attributes[audit.AttributeOriginPreviousSize] = int64(s.tree.Size())
		attributes[audit.AttributeOriginPreviousRoot] = s.tree.Root().String()
	}
	s.lives++
	// Names are not in order: nobody may rely on a clock.
	s.origin = fmt.Sprintf("host-1/00112233445566ff/20261123T09%02d00Z-%08x", 59-s.lives, s.lives)
	s.tree = chain.Tree{}
	s.record(audit.StreamOrigin, audit.EventOriginStart, attributes)
	s.checkpoint()
}

func (s *sealer) events(n int) {
	for range n {
		s.now += 1_000_000_000
		s.record("service:shop", "user.login", map[string]any{audit.AttributeRecordID: fmt.Sprint(s.tree.Size())})
	}
}

// take returns the batch and begins another one.
func (s *sealer) take() []sink.Entry {
	batch := s.pending
	s.pending = nil
	return batch
}

// deliverInOrder hands a batch to the sink as the exporter does when it comes
// from the forwarder.
func deliverInOrder(t testing.TB, s *Sink, batch []sink.Entry) sink.Condition {
	t.Helper()
	condition := s.Upkeep(t.Context(), &batch[0])
	require.NoError(t, condition.Trouble)
	write(t, s, batch...)
	return condition
}

// verifyStore verifies what is below directory.
func verifyStore(t testing.TB, directory string) verify.Report {
	t.Helper()
	v, err := verify.New(verify.Options{Keys: []ed25519.PublicKey{testKey.Public().(ed25519.PublicKey)}})
	require.NoError(t, err)
	require.NoError(t, filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".jsonl") {
			return err
		}
		text, err := os.ReadFile(path)
		offset := int64(0)
		for line := range strings.Lines(string(text)) {
			if whole, ok := strings.CutSuffix(line, "\n"); ok {
				v.Line(path, offset, []byte(whole))
			} else {
				v.Torn(path, offset)
			}
			offset += int64(len(line))
		}
		return err
	}))
	report, err := v.Finish()
	require.NoError(t, err)
	return report
}

// kinds returns the kinds of findings, each once, in order.
func kinds(r verify.Report) []verify.Kind {
	var all []verify.Kind
	for _, f := range r.Findings {
		all = append(all, f.Kind)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// stored returns the paths of all files with lines, below directory.
func stored(t testing.TB, directory string) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".jsonl") {
			relative, err := filepath.Rel(directory, path)
			require.NoError(t, err)
			all = append(all, filepath.ToSlash(relative))
		}
		return err
	}))
	return all
}
