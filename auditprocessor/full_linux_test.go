// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
)

// full is a file on a disk without room.
func full(t *testing.T) *os.File {
	t.Helper()
	file, err := os.OpenFile("/dev/full", os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	return file
}

// What is kept beside the journal has the room of its reserve: a disk that is
// full makes no gap of records that are stored, and nothing delivered of what was
// refused.
func TestFilesBesideTheJournalOnAFullDisk(t *testing.T) {
	directory := t.TempDir()
	reserve := filepath.Join(directory, "reserve")
	expect := func(p *auditProcessor, number int64) {
		t.Helper()
		findings, err := sendChained(t, p, chained(t, "a", number))
		require.NoError(t, err)
		assert.Equal(t, []string{""}, findings)
	}
	p := startProcessor(t, testConfig(t, directory), newSinkFake())
	expect(p, 1)
	require.FileExists(t, reserve)
	require.NoError(t, p.sequences.file.file.Close())
	p.sequences.file.file = full(t)
	expect(p, 2)
	require.NoFileExists(t, reserve)
	file, known, err := openHeads(directory)
	require.NoError(t, err)
	require.NoError(t, file.letGo())
	require.Len(t, known, 1)
	require.EqualValues(t, 2, known[0].head.Number)
	require.NoError(t, p.Shutdown(t.Context()))

	p, err = newProcessor(processortest.NewNopSettings(metadata.Type), testConfig(t, directory), newStockFake(refusing("b-1")))
	require.NoError(t, err)
	p.quarantined.file = full(t)
	require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
	require.FileExists(t, reserve)
	filled := ask(t, p, events(ids("b", 3)...), make(chan struct{}))
	require.NoFileExists(t, reserve)
	var next quarantineMemory
	_, err = next.open(directory)
	require.NoError(t, err)
	require.NotEmpty(t, next.by(coordinateOf(&filled.Results[1].Link)))
	require.NoError(t, p.Shutdown(t.Context()))
}
