// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension"
)

func TestServesProfiles(t *testing.T) {
	created, err := NewFactory().Create(t.Context(), extension.Settings{ID: component.NewID(NewFactory().Type()), TelemetrySettings: componenttest.NewNopTelemetrySettings()}, &Config{Endpoint: "127.0.0.1:0"})
	require.NoError(t, err)
	answer := httptest.NewRecorder()
	created.(*profiler).server.Handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil))
	assert.Equal(t, http.StatusOK, answer.Code)
	require.NoError(t, created.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, created.Shutdown(t.Context()))
	require.NoError(t, created.Shutdown(t.Context()))
}

func TestListensToItselfOnly(t *testing.T) {
	require.NoError(t, (&Config{Endpoint: "127.0.0.1:1777"}).Validate())
	for _, endpoint := range []string{"0.0.0.0:1777", ":1777", "127.0.0.1", "example.com:1777"} {
		assert.ErrorContains(t, (&Config{Endpoint: endpoint}).Validate(), "`endpoint`", endpoint)
	}
}
