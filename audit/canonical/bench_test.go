// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// auditLogs is one realistic event: a user changes a project's settings. Its
// canonical bytes are about 1.9 KiB, 1.5 of them `record`. order permutes the
// attributes.
func auditLogs(order *rand.Rand) plog.Logs {
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	attributes := resource.Resource().Attributes()
	attributes.PutStr("service.name", "project-service")
	attributes.PutStr("service.version", "2.14.3")
	attributes.PutStr("service.instance.id", "project-service-7d9c6b5f4-x2x7q")
	attributes.PutStr("deployment.environment.name", "production")
	attributes.PutStr("host.name", "node-17.eu-central-1.example.com")

	record := resource.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName("project.settings.update")
	record.SetTimestamp(1779096939611093600)
	record.SetObservedTimestamp(1779096939612204711)
	record.SetTraceID(pcommon.TraceID{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36})
	record.SetSpanID(pcommon.SpanID{0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7})
	put := auditAttributes(record.Attributes())
	if order != nil {
		order.Shuffle(len(put), func(i, j int) { put[i], put[j] = put[j], put[i] })
	}
	for _, f := range put {
		f()
	}
	return logs
}

func auditAttributes(m pcommon.Map) []func() {
	text := func(key, value string) func() { return func() { m.PutStr(key, value) } }
	return []func(){
		text("audit.record.id", "01931f2b-7f5c-7d4e-9a1c-2f6d8e4b7a90"),
		text("audit.schema.version", "1.0.0"),
		text("audit.actor.id", "user-48213"),
		text("audit.actor.type", "user"),
		text("audit.actor.name", "Alice Example"),
		func() { _ = m.PutEmptySlice("audit.actor.roles").FromRaw([]any{"admin", "billing"}) },
		text("audit.action", "UPDATE"),
		text("audit.outcome", "success"),
		text("audit.target.type", "project"),
		text("audit.target.id", "project-99817"),
		text("audit.target.name", "Website relaunch"),
		text("audit.source.id", "203.0.113.42"),
		text("audit.source.type", "ipv4"),
		text("client.address", "203.0.113.42"),
		text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
		text("session.id", "s-5f0c1b7e"),
		text("audit.request.id", "req-7c1d2e9f"),
		text("audit.tenant.id", "acme"),
		text("audit.org.id", "acme-eu"),
		text("audit.retention.tag", "standard"),
		func() {
			metadata := m.PutEmptyMap("audit.metadata")
			metadata.PutStr("route", "/projects/:id/settings")
			metadata.PutInt("status", 200)
			metadata.PutDouble("duration_ms", 12.75)
			metadata.PutBool("mfa", true)
		},
		func() {
			diff := m.PutEmptyMap("audit.diff")
			before, after := diff.PutEmptyMap("before"), diff.PutEmptyMap("after")
			before.PutStr("visibility", "private")
			before.PutInt("quota", 10)
			after.PutStr("visibility", "internal")
			after.PutInt("quota", 25)
		},
		text("audit.integrity.collector.tenant", "acme"),
	}
}

func firstRecord(logs plog.Logs) plog.LogRecord {
	return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
}

func setGroup(e *Encoder, logs plog.Logs) error {
	resource := logs.ResourceLogs().At(0)
	scope := resource.ScopeLogs().At(0)
	return e.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl())
}

func BenchmarkAppend(b *testing.B) {
	b.Run("alike", func(b *testing.B) { benchmarkAppend(b, []plog.Logs{auditLogs(nil)}) })
	b.Run("shuffled", func(b *testing.B) {
		orders := rand.New(rand.NewPCG(1, 2))
		var logs []plog.Logs
		for range 64 {
			logs = append(logs, auditLogs(orders))
		}
		benchmarkAppend(b, logs)
	})
}

func benchmarkAppend(b *testing.B, logs []plog.Logs) {
	var e Encoder
	require.NoError(b, setGroup(&e, logs[0]))
	records := make([]plog.LogRecord, len(logs))
	for i := range logs {
		records[i] = firstRecord(logs[i])
	}
	var dst []byte
	var err error
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if dst, _, err = e.Append(dst[:0], records[i%len(records)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(dst)), "canonical-B")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)*1024/float64(len(dst)), "ns/KiB")
}

func BenchmarkSetGroup(b *testing.B) {
	logs := auditLogs(nil)
	var e Encoder
	b.ReportAllocs()
	for b.Loop() {
		if err := setGroup(&e, logs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	logs := auditLogs(nil)
	var e Encoder
	require.NoError(b, setGroup(&e, logs))
	text, _, err := e.Append(nil, firstRecord(logs))
	require.NoError(b, err)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDigest is what the budget of Append leaves out.
func BenchmarkDigest(b *testing.B) {
	logs := auditLogs(nil)
	var e Encoder
	require.NoError(b, setGroup(&e, logs))
	text, _, err := e.Append(nil, firstRecord(logs))
	require.NoError(b, err)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		sha256.Sum256(text)
	}
}
