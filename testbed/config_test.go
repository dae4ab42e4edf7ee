// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/pgtest"
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

// The ready configurations that store in PostgreSQL start, and what they are
// sent is in each of their sinks.
func TestPostgresConfigsStart(t *testing.T) {
	for _, name := range []string{"postgres.yaml", "fan-out.yaml"} {
		t.Run(name, func(t *testing.T) {
			sink := newHTTPSink(t)
			sink.Secret = "" // the example does not sign
			require.NoError(t, sink.Up())
			dsn := pgtest.Database(t)
			t.Setenv("AUDIT_POSTGRES", dsn)
			t.Setenv("AUDIT_ENDPOINT", "http://"+sink.Endpoint)
			t.Setenv("AUDIT_ENDPOINT_TOKEN", "token")
			c := startReady(t, name)
			send(t, c, "ready", 10)
			stop(t, c)

			stores := []string{dsn}
			if name == "fan-out.yaml" {
				stores = append(stores, c.Store(), sink.Store())
			}
			for _, store := range stores {
				requireSoundStore(t, c.Settings, store)
			}
			assert.Len(t, readPostgres(t, dsn).Records, 10)
		})
	}
}

// startReady starts a ready configuration, on ports that are free and with its
// data in a directory of the test's.
func startReady(t *testing.T, name string) *testbed.Collector {
	t.Helper()
	root, err := testbed.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "config", name))
	require.NoError(t, err)
	ports := map[string]string{}
	text = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllFunc(text, func(endpoint []byte) []byte {
		ports[string(endpoint)] = freePort(t)
		return []byte(ports[string(endpoint)])
	})
	_, metrics, err := net.SplitHostPort(freePort(t))
	require.NoError(t, err)
	text = bytes.ReplaceAll(text, []byte("port: 8888"), []byte("port: "+metrics))
	directory := t.TempDir()
	text = bytes.ReplaceAll(text, []byte("/var/lib/otelcol-audit/"), []byte(directory+"/"))
	require.NoError(t, os.WriteFile(filepath.Join(directory, name), text, 0o600))
	binary, err := testbed.Binary("otelcol-audit")
	require.NoError(t, err)
	c, err := testbed.StartCommand(t.Context(), testbed.Settings{Directory: directory}, ports["127.0.0.1:13133"], binary, "--config", name)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Kill()) })
	c.HTTP = ports["127.0.0.1:4319"]
	return c
}

func validate(t *testing.T, binary string, args ...string) (string, error) {
	t.Helper()
	command := exec.Command(binary, append([]string{"validate"}, args...)...)
	command.Dir = t.TempDir()
	command.Env = append(os.Environ(), "AUDIT_TLS_CERT=cert.pem", "AUDIT_TLS_KEY=key.pem", "AUDIT_CLIENT_CA=ca.pem",
		"AUDIT_POSTGRES=postgres://audit@localhost/audit", "AUDIT_ENDPOINT=https://siem.example/audit", "AUDIT_ENDPOINT_TOKEN=t",
		"AUDIT_TENANTS=htpasswd", "AUDIT_TOKENS=tokens", "AUDIT_SIGNING_KEY=signing.pem", "AUDIT_UPSTREAM=https://collector.example", "AUDIT_UPSTREAM_TOKEN=t")
	output, err := command.CombinedOutput()
	return string(output), err
}
