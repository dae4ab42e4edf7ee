// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

func postgresConfig(t *testing.T, block, rest map[string]any) (*Config, error) {
	t.Helper()
	all := map[string]any{"postgres": block}
	maps.Copy(all, rest)
	config := createDefaultConfig().(*Config)
	if err := confmap.NewFromStringMap(all).Unmarshal(config); err != nil {
		return nil, err
	}
	return config, confmap.Validate(config)
}

var kept = map[string]any{"quarantine": map[string]any{"directory": "./data/quarantine"}}

func TestPostgresDefaults(t *testing.T) {
	config, err := postgresConfig(t, map[string]any{"dsn": "postgres://collector@127.0.0.1/audit"}, kept)
	require.NoError(t, err)
	assert.Equal(t, PostgresConfig{
		DSN: "postgres://collector@127.0.0.1/audit", Table: "audit_events", CreateSchema: true,
		MaxConnections: 4, StatementTimeout: 30 * time.Second,
	}, *config.Postgres.Get())
	assert.Equal(t, "./data/quarantine", config.quarantineDirectory())
}

func TestPostgresIsWrong(t *testing.T) {
	good := "postgres://127.0.0.1/audit"
	for name, c := range map[string]struct {
		block, rest map[string]any
		want        string
	}{
		"no dsn":       {map[string]any{}, kept, "`dsn` must not be empty"},
		"bad dsn":      {map[string]any{"dsn": "postgres://u:se%cret@host:port/x"}, kept, "`dsn`: dsn cannot be read"},
		"table":        {map[string]any{"dsn": good, "table": `a"b`}, kept, "`table`: table must be a name"},
		"connections":  {map[string]any{"dsn": good, "max_connections": 0}, kept, "`max_connections` must be from 1 to 100, found 0"},
		"timeout":      {map[string]any{"dsn": good, "statement_timeout": "1ms"}, kept, "`statement_timeout` must be from 100ms to 1h0m0s"},
		"quarantine":   {map[string]any{"dsn": good}, nil, "`quarantine::directory` must be set"},
		"another sink": {map[string]any{"dsn": good}, map[string]any{"file": map[string]any{"directory": "./data"}}, "one exporter has one sink"},
		"unknown key":  {map[string]any{"dsn": good, "tabel": "x"}, kept, "tabel"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := postgresConfig(t, c.block, c.rest)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "se%cret", "no password in errors")
		})
	}
}
