// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// Every ready configuration is one that the distribution takes.
func TestQuickstartConfigs(t *testing.T) {
	root, err := testbed.Root()
	require.NoError(t, err)
	binary, err := testbed.Binary("otelcol-audit")
	require.NoError(t, err)
	configs, err := filepath.Glob(filepath.Join(root, "config", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, configs)
	for _, config := range configs {
		t.Run(filepath.Base(config), func(t *testing.T) {
			output, err := validate(t, binary, "--config", config)
			assert.NoError(t, err, "%s", output)
		})
	}
	// What the command takes must mean something.
	output, err := validate(t, binary, "--config", configs[0], "--config", "yaml:processors::audit::no_such_key: 1")
	require.Error(t, err)
	assert.Contains(t, output, "no_such_key")
}

// The shortest configuration is complete; without its one required key the
// error names it.
func TestMinimalConfig(t *testing.T) {
	binary, err := testbed.Binary("otelcol-audit")
	require.NoError(t, err)
	const minimal = `yaml:
receivers: {audit: {http: {endpoint: 127.0.0.1:4319}}}
processors: {audit: {journal: {directory: ./data/journal}}}
exporters: {audit: {file: {directory: ./data/audit}}}
service: {pipelines: {logs/audit: {receivers: [audit], processors: [audit], exporters: [audit]}}}
`
	output, err := validate(t, binary, "--config", minimal)
	require.NoError(t, err, "%s", output)
	output, err = validate(t, binary, "--config", minimal, "--config", `yaml:processors::audit::journal::directory: ""`)
	require.Error(t, err)
	assert.Contains(t, output, "journal::directory")
}

func validate(t *testing.T, binary string, args ...string) (string, error) {
	t.Helper()
	command := exec.Command(binary, append([]string{"validate"}, args...)...)
	command.Dir = t.TempDir()
	command.Env = append(os.Environ(), "AUDIT_TLS_CERT=cert.pem", "AUDIT_TLS_KEY=key.pem", "AUDIT_CLIENT_CA=ca.pem",
		"AUDIT_TENANTS=htpasswd", "AUDIT_SIGNING_KEY=signing.pem", "AUDIT_UPSTREAM=https://collector.example", "AUDIT_UPSTREAM_TOKEN=t")
	output, err := command.CombinedOutput()
	return string(output), err
}
