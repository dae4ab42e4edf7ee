// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// Origins that a Maker may use.
const (
	Origin      = "host-1/00112233445566ff/20261123T090700Z-0a0b0c0d"
	OtherOrigin = "host-1/00112233445566ff/20261124T090700Z-0a0b0c0d"
)

// first is when the records of a Maker begin, in nanoseconds since 1970.
const first = 1_790_000_000_000_000_000

var key = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// Key is the public key of a Maker's checkpoints.
func Key() ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// Maker makes what an audit processor would seal for one origin: real records,
// links and checkpoints. Not safe for concurrent use.
type Maker struct {
	origin  string
	encoder canonical.Encoder
	tree    chain.Tree
	heads   map[string]chain.Head
}

// NewMaker returns a Maker at index 0 of an origin.
func NewMaker(origin string) *Maker { return &Maker{origin: origin, heads: map[string]chain.Head{}} }

// Record seals a usual event of tenant acme, changed by set if that is not nil.
func (m *Maker) Record(t testing.TB, set func(plog.LogRecord)) sink.Entry {
	t.Helper()
	return m.Seal(t, "tenant:acme", func(resource plog.ResourceLogs, record plog.LogRecord) {
		index := m.tree.Size()
		resource.Resource().Attributes().PutStr(audit.ResourceServiceName, "shop")
		record.SetEventName("invoice.viewed")
		record.SetTimestamp(pcommon.Timestamp(first + index*1_000_000))
		a := record.Attributes()
		a.PutStr(audit.AttributeRecordID, m.origin[len(m.origin)-8:]+"-"+strconv.FormatUint(index, 10))
		a.PutStr(audit.AttributeAction, "VIEWED")
		a.PutStr(audit.AttributeOutcome, "success")
		a.PutStr(audit.AttributeActorType, "user")
		a.PutStr(audit.AttributeActorID, "user-"+strconv.FormatUint(index%10, 10))
		a.PutStr(audit.AttributeTargetType, "invoice")
		a.PutStr(audit.AttributeTargetID, strconv.FormatUint(index, 10))
		a.PutStr(audit.AttributeTenantID, "acme")
		if set != nil {
			set(record)
		}
	})
}

// Control seals what the collector itself says.
func (m *Maker) Control(t testing.TB) sink.Entry {
	t.Helper()
	return m.Seal(t, audit.StreamOrigin, func(_ plog.ResourceLogs, record plog.LogRecord) {
		record.SetEventName(audit.EventOriginHeartbeat)
		record.SetTimestamp(pcommon.Timestamp(first + m.tree.Size()*1_000_000))
	})
}

// Seal seals the record that fill makes, in the given stream.
func (m *Maker) Seal(t testing.TB, stream string, fill func(plog.ResourceLogs, plog.LogRecord)) sink.Entry {
	t.Helper()
	e := m.fill(t, fill)
	head := m.heads[stream]
	index := m.tree.Size()
	e.Link = chain.Link{
		Origin: m.origin, Index: index, Stream: stream, Seq: head.Seq + 1,
		SealedAt: first + int64(index)*1_000_000, Prev: head.Hash, Digest: sha256.Sum256(e.Event),
	}
	e.Hash = e.Link.Hash()
	m.heads[stream] = chain.Head{Seq: e.Link.Seq, Hash: e.Hash}
	m.tree.Append(e.Hash)
	return e
}

func (m *Maker) fill(t testing.TB, fill func(plog.ResourceLogs, plog.LogRecord)) sink.Entry {
	t.Helper()
	resource := plog.NewLogs().ResourceLogs().AppendEmpty()
	scope := resource.ScopeLogs().AppendEmpty()
	record := scope.LogRecords().AppendEmpty()
	fill(resource, record)
	require.NoError(t, m.encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()))
	event, _, err := m.encoder.Append(nil, record)
	require.NoError(t, err)
	return sink.Entry{Kind: audit.LineEvent, Event: event, Resource: resource, Scope: scope, Record: record}
}

// Records seals n usual events.
func (m *Maker) Records(t testing.TB, n int) []sink.Entry {
	t.Helper()
	entries := make([]sink.Entry, n)
	for i := range entries {
		entries[i] = m.Record(t, nil)
	}
	return entries
}

// Checkpoint signs what was sealed so far.
func (m *Maker) Checkpoint(t testing.TB) sink.Entry {
	t.Helper()
	c := chain.Checkpoint{Origin: m.origin, Size: m.tree.Size(), Root: m.tree.Root()}
	signed, err := chain.SignCheckpoint(c, key)
	require.NoError(t, err)
	return sink.Entry{
		Kind: audit.LineCheckpoint, Link: chain.Link{Origin: m.origin, Index: c.Size},
		Note: signed, Range: m.tree.Range(),
	}
}

// Forge returns another record for the coordinate of e, as sound in itself.
func Forge(t testing.TB, e *sink.Entry) sink.Entry {
	t.Helper()
	m := NewMaker(e.Link.Origin)
	forged := m.fill(t, func(_ plog.ResourceLogs, record plog.LogRecord) {
		record.SetEventName("forged")
		record.SetTimestamp(first)
	})
	forged.Link = e.Link
	forged.Link.Digest = sha256.Sum256(forged.Event)
	forged.Hash = forged.Link.Hash()
	return forged
}
