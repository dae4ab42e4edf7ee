// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
)

// BenchmarkWrite posts sends of the forwarder's size to an endpoint that throws
// them away.
func BenchmarkWrite(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the client sees it
	}))
	b.Cleanup(server.Close)
	const records = 4096
	batch := sinktest.NewMaker(sinktest.Origin).Records(b, records)
	for format := range forms {
		b.Run(string(format), func(b *testing.B) {
			config := Config{
				Client: &http.Client{Transport: &http.Transport{}}, Endpoint: server.URL, Format: format,
				MaxRequestBytes: 1 << 20, MaxRequestRecords: 1000, Logger: zap.NewNop(),
			}
			s := open(b, config)
			b.ReportAllocs()
			for b.Loop() {
				result, err := s.Write(b.Context(), batch, noRefusal)
				require.NoError(b, err)
				require.Equal(b, records, result.Stored)
				s.delivered = newMemory(maxRemembered)
				b.SetBytes(result.Bytes)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
		})
	}
}
