// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"testing"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// BenchmarkWrite stores batches of 512 entries of about 1 KiB, a sync each.
func BenchmarkWrite(b *testing.B) {
	s := open(b, testConfigBig(b.TempDir()))
	m := newMaker()
	m.size = 680 // a line of 1 KiB
	batches := make([][]sink.Entry, b.N)
	for i := range batches {
		batches[i] = m.records(512)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var written int64
	for _, batch := range batches {
		result, err := s.Write(b.Context(), batch, noRefusal)
		if err != nil {
			b.Fatal(err)
		}
		written += result.Bytes
	}
	b.SetBytes(written / int64(b.N))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/event")
}

// BenchmarkRepeat sends the same batch again: it is read and compared.
func BenchmarkRepeat(b *testing.B) {
	s := open(b, testConfigBig(b.TempDir()))
	m := newMaker()
	m.size = 680
	batch := m.records(512)
	write(b, s, batch...)
	for range 64 {
		write(b, s, m.records(512)...)
	}
	b.ReportAllocs()
	for b.Loop() {
		if result := write(b, s, batch...); result.Repeated != len(batch) {
			b.Fatal(result)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/event")
}

// BenchmarkLoad reads an origin of 64 MiB, as after a restart.
func BenchmarkLoad(b *testing.B) {
	directory := b.TempDir()
	s := open(b, testConfigBig(directory))
	m := newMaker()
	m.size = 680
	var bytes int64
	for range 128 {
		bytes += write(b, s, m.records(512)...).Bytes
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(bytes)
	for b.Loop() {
		s := open(b, testConfigBig(directory))
		o, err := s.origin(b.Context(), testOrigin)
		if err != nil || len(o.stored.blocks) == 0 {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func testConfigBig(directory string) Config {
	config := testConfig(directory)
	config.MaxFileBytes = 128 << 20
	return config
}
