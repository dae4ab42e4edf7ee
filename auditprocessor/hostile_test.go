// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/journal"
)

// Whatever a client sends: what the journal keeps has the digest that was
// sealed, or the exporter would hold up everything behind it for ever.
func FuzzKeptIsSealed(f *testing.F) {
	f.Add([]byte{}, true)
	seed := func(logs plog.Logs) {
		b, err := marshaler.MarshalLogs(logs)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	seed(together(eventOf("id-1", "alice"), eventOf("id-1", "alice"), eventOf("id-2", "alice\xff")))
	odd := eventOf("id-1", "alice")
	odd.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	odd.ResourceLogs().AppendEmpty()
	record := onlyRecordOf(odd)
	record.SetSeverityNumber(-1)
	record.Body().SetEmptyMap().PutEmptySlice("").AppendEmpty().SetEmptyMap().PutEmpty("x")
	record.Attributes().PutEmptyBytes("bytes").FromRaw([]byte{1})
	record.Attributes().PutEmptyBytes("none")
	record.Attributes().PutEmpty("empty")
	record.Attributes().PutEmptyMap("audit.metadata").PutStr("password", "x")
	record.Attributes().PutDouble("zero", 0)
	record.SetTraceID(pcommon.TraceID{1})
	record.SetSpanID(pcommon.SpanID{1})
	seed(odd)
	f.Fuzz(requireKeptIsSealed)
}

func requireKeptIsSealed(t *testing.T, b []byte, bounded bool) {
	logs, err := unmarshaler.UnmarshalLogs(b)
	if err != nil || logs.LogRecordCount() == 0 || logs.LogRecordCount() > 1000 {
		return
	}
	limits := createDefaultConfig().(*Config).Limits
	config := createDefaultConfig().(*Config)
	if bounded {
		limits.MaxRecordBytes, limits.MaxMetadataBytes, limits.MaxDiffBytes = 4096, 1024, 1024
	}
	stages, err := newStages(config.Validation, config.Redaction, limits, time.Now)
	require.NoError(t, err)
	verdicts, _ := stages.apply(logs, "", true)
	for i := range verdicts {
		if verdicts[i].refused {
			return
		}
		binary.BigEndian.PutUint64(verdicts[i].identity.ID[:], uint64(len(verdicts[i].recordID)+1))
	}
	s, err := newSealing(logs, verdicts)
	require.NoError(t, err)
	r, err := s.newRequest()
	require.NoError(t, err)
	kept, err := unmarshaler.UnmarshalLogs(r.Payload)
	require.NoError(t, err)
	for _, form := range []plog.Logs{kept, s.logs} {
		require.Equal(t, len(r.Links), form.LogRecordCount())
		k := 0
		for _, resource := range form.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				var encoder canonical.Encoder
				require.NoError(t, encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()))
				for _, record := range scope.LogRecords().All() {
					event, _, err := encoder.Append(nil, record)
					require.NoError(t, err)
					require.Equal(t, sha256.Sum256(event), [32]byte(r.Links[k].Digest))
					k++
				}
			}
		}
	}
	sealed := &journal.Sealed{Payload: r.Payload, Links: r.Links, Hashes: make([]chain.Hash, len(r.Links)), Live: r.Live}
	pieces, err := (&piece{request: sealed, to: len(r.Links)}).fit()
	require.NoError(t, err)
	require.Equal(t, len(r.Links), countRecords(pieces))
	_, err = build(pieces)
	require.NoError(t, err)
}

// wire writes OTLP that no honest client writes: values of every kind at chance
// places, members twice, members of other versions.
type wire struct{ *rand.Rand }

func (w wire) bytes(field protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), content)
}

func (w wire) varint(field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), n)
}

func (w wire) fixed(field protowire.Number, n uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(nil, field, protowire.Fixed64Type), n)
}

func (w wire) text() []byte {
	texts := []string{
		"", "x", "a\xff", "\x00", "password", "audit.metadata", "audit.diff", "audit.record.id", "log.record.uid", "audit.tenant.id", "service.name",
		"audit.integrity.chain.origin", "audit.integrity.collector.tenant", "audit.integrity.signature", "4111111111111111", "{\"password\":\"x\"}", "\u2028<&>",
	}
	return []byte(texts[w.IntN(len(texts))])
}

func (w wire) value(depth int) (b []byte) {
	for range 1 + w.IntN(5)/4 {
		switch kind := w.IntN(10); {
		case kind == 0:
			b = append(b, w.bytes(1, w.text())...)
		case kind == 1:
			b = append(b, w.varint(2, uint64(w.IntN(3)))...)
		case kind == 2:
			b = append(b, w.varint(3, w.Uint64())...)
		case kind == 3:
			b = append(b, w.fixed(4, []uint64{0, 1 << 63, 0x7ff0000000000000, 0x7ff8000000000001, w.Uint64()}[w.IntN(5)])...)
		case kind == 4:
			b = append(b, w.bytes(7, w.text())...)
		case kind == 5:
			b = append(b, w.varint(8, uint64(w.IntN(3)))...) // a string by its index
		case kind <= 7 && depth > 0:
			var list []byte
			for range w.IntN(4) {
				list = append(list, w.bytes(1, w.value(depth-1))...)
			}
			b = append(b, w.bytes(5, list)...)
		case depth > 0:
			b = append(b, w.bytes(6, w.attributes(1, depth-1))...)
		}
	}
	return b
}

func (w wire) attributes(field protowire.Number, depth int) (b []byte) {
	for range w.IntN(6) {
		pair := w.bytes(1, w.text())
		if w.IntN(10) > 0 {
			pair = append(pair, w.bytes(2, w.value(depth))...)
		}
		if w.IntN(10) == 0 {
			pair = append(pair, w.varint(3, 1)...) // a key by its index
		}
		b = append(b, w.bytes(field, pair)...)
	}
	return b
}

func (w wire) record() []byte {
	depth := []int{1, 4, 70}[w.IntN(3)]
	b := w.attributes(6, depth)
	for range w.IntN(8) {
		switch w.IntN(8) {
		case 0:
			b = append(b, w.fixed(1, w.Uint64())...)
		case 1:
			b = append(b, w.fixed(11, w.Uint64())...)
		case 2:
			b = append(b, w.varint(2, w.Uint64())...)
		case 3:
			b = append(b, w.bytes(3, w.text())...)
		case 4:
			b = append(b, w.bytes(5, w.value(depth))...)
		case 5:
			b = append(b, w.bytes(9, make([]byte, 16*w.IntN(2)))...)
		case 6:
			b = append(b, w.bytes(12, w.text())...)
		case 7:
			b = append(b, w.varint(7, 3)...)
		}
	}
	return b
}

func (w wire) logs() (b []byte) {
	for range 1 + w.IntN(3) {
		resource := w.bytes(1, append(w.attributes(1, 3), w.bytes(3, w.bytes(2, w.text()))...))
		for range w.IntN(3) {
			scope := w.bytes(1, append(w.bytes(1, w.text()), w.attributes(3, 3)...))
			for range w.IntN(4) {
				scope = append(scope, w.bytes(2, w.record())...)
			}
			resource = append(resource, w.bytes(2, append(scope, w.bytes(3, w.text())...))...)
		}
		b = append(b, w.bytes(1, append(resource, w.bytes(3, w.text())...))...)
	}
	return b
}

func TestKeptIsSealed(t *testing.T) {
	for seed := range uint64(3000) {
		b := wire{rand.New(rand.NewPCG(seed, 0))}.logs()
		requireKeptIsSealed(t, b, seed%2 == 0)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
