// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/verify"
)

// BenchmarkLine verifies lines of about 1 KiB, a checkpoint every 4,096.
func BenchmarkLine(b *testing.B) {
	s := newSealer(b, testKey("a"))
	s.fill = strings.Repeat("x", 320)
	s.start()
	for range 8 {
		s.events(4_096)
		s.checkpoint()
	}
	lines, size := 0, 0
	for _, f := range s.files {
		lines += len(f.lines)
		for _, line := range f.lines {
			size += len(line) + 1
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		v, err := verify.New(givenKey(s.key))
		require.NoError(b, err)
		s.files.feed(v)
		report, err := v.Finish()
		require.NoError(b, err)
		require.Equal(b, 4, report.ExitCode())
	}
	b.ReportMetric(float64(size)/float64(lines), "B/line")
	b.ReportMetric(float64(lines)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
