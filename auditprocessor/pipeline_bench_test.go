// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"golang.org/x/sys/unix"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditexporter"
)

// BenchmarkPipeline is everything behind a receiver: decode, stages, journal
// with its sync, forwarder, exporter, file with its sync. One operation is one
// record; what is left in the journal at the end is delivered before the clock
// stops.
func BenchmarkPipeline(b *testing.B) {
	for _, records := range []int{1, 100} {
		for _, callers := range []int{8, 64} {
			b.Run(fmt.Sprintf("%dx%d", callers, records), func(b *testing.B) { benchPipeline(b, callers, records) })
		}
	}
}

func benchPipeline(b *testing.B, callers, records int) {
	directory := b.TempDir()
	factory := auditexporter.NewFactory()
	exporterConfig := factory.CreateDefaultConfig().(*auditexporter.Config)
	exporterConfig.File.GetOrInsertDefault().Directory = filepath.Join(directory, "store")
	exporter, err := factory.CreateLogs(context.Background(), exportertest.NewNopSettings(factory.Type()), exporterConfig)
	require.NoError(b, err)
	require.NoError(b, exporter.Start(context.Background(), componenttest.NewNopHost()))
	config := createDefaultConfig().(*Config)
	config.Journal.Directory = filepath.Join(directory, "journal")
	p := startProcessor(b, config, exporter)
	var sent atomic.Int64
	template := benchLogs(true)
	template.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().RemoveIf(func(plog.LogRecord) bool { return sent.Add(1) > int64(records) })
	sent.Store(0)
	b.ReportAllocs()
	before := processorTime(b)
	b.ResetTimer()
	done := make(chan error, callers)
	for range callers {
		go func() {
			body, err := marshaler.MarshalLogs(template)
			for err == nil && sent.Load() < int64(b.N) {
				n := sent.Add(int64(records))
				var logs plog.Logs
				if logs, err = unmarshaler.UnmarshalLogs(body); err == nil {
					for i, record := range logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
						record.Attributes().PutStr(audit.AttributeRecordID, fmt.Sprintf("01935a3c-7c5b-7aaa-8bbb-%012x", n+int64(i)))
					}
					err = p.ConsumeLogs(context.Background(), logs)
				}
			}
			done <- err
		}()
	}
	for range callers {
		require.NoError(b, <-done)
	}
	require.Eventually(b, func() bool { _, left := p.journal.Backlog(); return left == 0 }, 5*time.Minute, time.Millisecond)
	b.StopTimer()
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
	require.NoError(b, p.Shutdown(context.Background()))
	require.NoError(b, exporter.Shutdown(context.Background()))
}

// processorTime is what the process has used of all processors.
func processorTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
