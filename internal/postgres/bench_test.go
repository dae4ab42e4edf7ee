// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import "testing"

// usualEvent is about 1 KiB in canonical form.
const usualEvent = `{"schemaVersion":1,"eventId":"018f1a2b-0000-7abc-8abc-0123456789ab","action":"invoice.paid","outcome":"SUCCESS",
	"actor":{"type":"user","id":"u-42","displayName":"Ada Lovelace","roles":["accountant","approver"],"ip":"203.0.113.7",
	"userAgent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
	"target":{"type":"invoice","id":"inv-4711"},
	"context":{"occurredAt":"2026-11-23T09:07:00.123456789Z","tenantId":"acme","requestId":"req-1","sourceService":"billing","sourceHost":"billing-7f9c"},
	"metadata":{"path":"/v2/invoices/4711","durationMs":12,"viaApi":true},"diff":{"before":{"state":"open"},"after":{"state":"paid"}}}`

// BenchmarkDerive makes rows as the sink does, and encodes them.
func BenchmarkDerive(b *testing.B) {
	s := decoded(b, usualEvent)
	var d Deriver
	var encoded []byte
	b.ReportAllocs()
	for b.Loop() {
		encoded = s.derive(&d).AppendCopy(encoded[:0])
	}
	b.ReportMetric(float64(len(s.canonical)), "canonical-bytes")
	b.ReportMetric(float64(len(encoded)), "row-bytes")
}

// BenchmarkCheck derives a row again and compares it, as reading does.
func BenchmarkCheck(b *testing.B) {
	s := decoded(b, usualEvent)
	var made, again Deriver
	row := *s.derive(&made)
	b.ReportAllocs()
	for b.Loop() {
		if column := row.Difference(again.DeriveCanonical(&row.Link, row.Hash, row.Canonical)); column != "" {
			b.Fatal(column)
		}
	}
}
