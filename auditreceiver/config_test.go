// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

func load(t *testing.T, id string) (*Config, error) {
	t.Helper()
	all, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := all.Sub(id)
	require.NoError(t, err)
	config := createDefaultConfig().(*Config)
	if err := sub.Unmarshal(config); err != nil {
		return nil, err
	}
	return config, confmap.Validate(config)
}

func TestDefaultConfigIsComplete(t *testing.T) {
	require.NoError(t, componenttest.CheckConfigStruct(createDefaultConfig()))
	config, err := load(t, "audit")
	require.NoError(t, err)
	assert.Equal(t, createDefaultConfig(), config)
	assert.Equal(t, "127.0.0.1:4319", config.HTTP.NetAddr.Endpoint)
}

func TestFullConfig(t *testing.T) {
	config, err := load(t, "audit/full")
	require.NoError(t, err)
	assert.Equal(t, "0.0.0.0:8443", config.HTTP.NetAddr.Endpoint)
	assert.Equal(t, "clients.crt", config.HTTP.TLS.Get().ClientCAFile)
	assert.Equal(t, "basicauth", config.HTTP.Auth.Get().AuthenticatorID.String())
	assert.Equal(t, "0.0.0.0:8444", config.GRPC.Get().NetAddr.Endpoint)
	assert.Equal(t, int64(2<<20), config.maxMessage())
	assert.Equal(t, TenantConfig{Attribute: "username", Header: "X-Tenant"}, config.Tenant)
	assert.Equal(t, int64(2<<20), config.MaxInFlightBytes)
	assert.Equal(t, 5*time.Second, config.RequestTimeout)
}

func TestGRPCIsOnWhereItIsWritten(t *testing.T) {
	config, err := load(t, "audit")
	require.NoError(t, err)
	assert.False(t, config.GRPC.HasValue())
	config, err = load(t, "audit/grpc")
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:4317", config.GRPC.Get().NetAddr.Endpoint)
	assert.Equal(t, int64(4<<20), config.maxMessage())
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	for id, want := range map[string]string{
		"no_endpoint":                 "`http::endpoint`",
		"small_budget":                "`max_in_flight_bytes` must be at least `http::max_request_body_size` (20971520), found 1000",
		"no_time":                     "`request_timeout` must be positive",
		"long_time":                   "`request_timeout` must be below `http::write_timeout` (30s)",
		"attribute_without_auth":      "`tenant::attribute` needs an authenticator",
		"no_grpc_endpoint":            "`grpc::endpoint`",
		"large_message":               "`max_in_flight_bytes` must be at least `grpc::max_recv_msg_size_mib` (68157440), found 67108864",
		"attribute_without_grpc_auth": "set `grpc::auth`",
		"secret_header":               "`tenant::header` must not name a header that carries secrets",
		"bad_header":                  "`tenant::header` must be the name of a header",
		"unknown_key":                 "htp",
	} {
		_, err := load(t, "audit/"+id)
		assert.ErrorContains(t, err, want, id)
	}
}
