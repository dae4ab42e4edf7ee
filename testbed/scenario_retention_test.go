// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// Retention over two kills and a clean stop: what is left is sound and closed,
// only its head is open, and the collector says how much it removed.
func TestScenarioRetention(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir(), Extra: []string{
		"exporters::audit::file::max_file_bytes: 65536",
		"exporters::audit::file::retention::max_bytes: 1048576",
	}}
	sent := 0
	var removed int64
	for _, name := range []string{"first", "second", "third"} {
		c := start(t, settings)
		for round := range 4 {
			outcome := sendLoad(t, c, name+"-"+roundName(round), 300)
			sent += len(outcome.Acknowledged)
			covered(t, settings, outcome) // files end with a checkpoint
		}
		drained(t, c, time.Minute)
		removed += metric(t, c, "otelcol_exporter_audit_removed_files")
		if name == "third" {
			require.Positive(t, metric(t, c, "otelcol_exporter_audit_free_bytes"))
			stop(t, c)
		} else {
			require.NoError(t, c.Kill())
		}
	}
	require.Positive(t, removed)
	report := verify(t, "--key", settings.Key(), settings.Store())
	assert.Equal(t, 4, report.Exit, "%+v", report)
	for _, finding := range report.Findings {
		assert.Equal(t, "open-head", finding.Kind, "%+v", finding)
	}
	stored := readStore(t, settings.Store())
	assert.NotEmpty(t, stored.Records)
	assert.Less(t, len(stored.Records), sent)
	measured(t, "events", sent, "files removed", removed, "stored", len(stored.Records))
}
