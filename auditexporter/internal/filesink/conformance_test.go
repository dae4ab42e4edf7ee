// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
)

func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Store {
		directory := t.TempDir()
		files := newFaulty()
		openWith := func(t *testing.T, limit int) sink.Sink {
			config := faultConfig(directory, files)
			config.MaxLineBytes = limit
			s, err := Open(config)
			require.NoError(t, err)
			return s
		}
		return &sinktest.Store{
			Open:      func(t *testing.T) sink.Sink { return openWith(t, 4096) },
			OpenCured: func(t *testing.T) sink.Sink { return openWith(t, 1<<20) },
			Lines:     func(t *testing.T) []string { return storedLines(t, directory) },
			Poison: func(t *testing.T, m *sinktest.Maker) sink.Entry {
				return m.Record(t, func(r plog.LogRecord) { r.Body().SetStr(strings.Repeat("x", 5000)) })
			},
			Fail: func(_ *testing.T, stored bool) { failNext(files, stored) },
		}
	})
}

// failNext makes the next write fail, or the next sync once it was done.
func failNext(files *faulty, stored bool) {
	operation, fault := "write", failed
	if stored {
		operation, fault = "sync", failedDone
	}
	files.begin = func(name string) {
		if name == operation {
			files.at, files.fault = files.count+1, fault
			files.begin = func(string) {}
		}
	}
}

// storedLines returns all lines below directory, those of checkpoints that begin
// a file and end the one before it once.
func storedLines(t *testing.T, directory string) []string {
	t.Helper()
	var all []string
	seen := map[string]bool{}
	require.NoError(t, filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".jsonl") {
			return err
		}
		text, err := os.ReadFile(path)
		head := true
		for line := range strings.Lines(string(text)) {
			if !head || !seen[line] {
				all = append(all, strings.TrimSuffix(line, "\n"))
			}
			seen[line], head = true, false
		}
		return err
	}))
	return all
}
