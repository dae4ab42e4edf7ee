// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/doctor"
)

const (
	quickstart = "../../config/quickstart.yaml"
	unsafe     = "../../internal/doctor/testdata/queue-in-memory.yaml"
)

func TestDoctorText(t *testing.T) {
	out := otelaudit("doctor", unsafe)
	assert.Equal(t, exitBroken, out.code)
	assert.Empty(t, out.stderr)
	assert.Contains(t, out.stdout, "error queue-in-memory at exporters::otlp::sending_queue\n  "+unsafe+":8\n  `sending_queue` is on by default")
	assert.Contains(t, out.stdout, "  cure: write `sending_queue: {enabled: false}`")
	assert.True(t, strings.HasSuffix(out.stdout, "audit pipelines: logs/audit\nerrors: 4, warnings: 0\n"), out.stdout)
}

func TestDoctorWarningsAlone(t *testing.T) {
	out := otelaudit("doctor", quickstart)
	assert.Equal(t, exitSound, out.code)
	assert.Contains(t, out.stdout, "warning directory-relative at ")
	assert.Contains(t, out.stdout, "errors: 0, warnings: 2\n")
}

func TestDoctorSaysThatFilesAreMerged(t *testing.T) {
	assert.NotContains(t, otelaudit("doctor", quickstart).stdout, "one configuration of")
	out := otelaudit("doctor", unsafe, quickstart)
	assert.Contains(t, out.stdout, "one configuration of 2 files, later ones over earlier ones: "+unsafe+", "+quickstart+"\n")
}

func TestDoctorJSON(t *testing.T) {
	out := otelaudit("doctor", unsafe, "--json")
	assert.Equal(t, exitBroken, out.code)
	var report doctor.Report
	require.NoError(t, json.Unmarshal([]byte(out.stdout), &report))
	assert.Equal(t, 4, report.Errors)
	require.Len(t, report.Findings, 4)
	assert.True(t, strings.HasPrefix(out.stdout, `{
  "errors": 4,
  "warnings": 0,
  "pipelines": [
    "logs/audit"
  ],
  "findings": [
    {
      "severity": "error",
      "code": "retry-off",
      "path": "exporters::kafka::retry_on_failure",
      "file": "`+unsafe+`",
      "line": 9,
      "reason": "`), out.stdout)

	out = otelaudit("doctor", "--json", "../../internal/doctor/testdata/sound.yaml")
	assert.Equal(t, exitSound, out.code)
	assert.Contains(t, out.stdout, `"findings": []`)
}

// Several files are one configuration: the later one cures the earlier one.
func TestDoctorMergesFiles(t *testing.T) {
	over := filepath.Join(t.TempDir(), "over.yaml")
	require.NoError(t, os.WriteFile(over, []byte("exporters:\n  otlp: {sending_queue: {enabled: false}}\n  kafka: {sending_queue: {enabled: false}}\n"), 0o600))
	assert.Equal(t, exitSound, otelaudit("doctor", unsafe, over).code)
	assert.Equal(t, exitBroken, otelaudit("doctor", over, unsafe).code, "`otlp:` without a value in the later file takes the earlier one away")
}

// A name in a configuration does not forge a line of the report.
func TestDoctorPrintsNamesOnOneLine(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(config, []byte(`service: {pipelines: {"logs/\n\e[2Jerrors: 0": {receivers: ["audit/\nx"]}}}`), 0o600))
	out := otelaudit("doctor", config)
	assert.Equal(t, exitBroken, out.code)
	assert.NotContains(t, out.stdout, "\x1b")
	assert.NotContains(t, out.stdout, "\nx")
	assert.NotContains(t, out.stdout, "\nerrors: 0")
}

func TestDoctorLargeFile(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large.yaml")
	require.NoError(t, os.WriteFile(large, make([]byte, doctor.MaxFileBytes+1), 0o600))
	out := otelaudit("doctor", large)
	assert.Equal(t, exitRead, out.code)
	assert.Contains(t, out.stderr, "is larger than 1048576 bytes")
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// A report that nobody got is not a pass.
func TestDoctorReportsFailedOutput(t *testing.T) {
	for _, args := range [][]string{{"doctor", quickstart}, {"doctor", "--json", quickstart}} {
		var stderr strings.Builder
		assert.Equal(t, exitRead, run(t.Context(), args, console{strings.NewReader(""), brokenWriter{}, &stderr}))
		assert.Contains(t, stderr.String(), "no space left")
	}
}
