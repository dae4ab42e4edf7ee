// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// As in config/multi-tenant.yaml: the tenant is who authenticates, whatever an
// event claims, and what breaks the schema is refused.
func TestAuthenticatedTenant(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir(), Extra: []string{`
extensions: {basicauth: {htpasswd: {inline: "acme:acme-pass\nglobex:globex-pass\n"}}}
receivers: {audit: {http: {auth: {authenticator: basicauth}}, tenant: {attribute: username}}}
processors: {audit: {validation: {on_invalid: reject}}}
service: {extensions: [basicauth, health_check]}
`}}
	c := start(t, settings)
	event := func(id, tenant, outcome string) string {
		return fmt.Sprintf(`{"eventId":%q,"action":"a.b","outcome":%q,"actor":{"type":"user","id":"u"},"context":{"occurredAt":%q%s}}`,
			id, outcome, time.Now().UTC().Format(time.RFC3339), tenant)
	}
	tests := []struct {
		name, user, event string
		code              int
		stream            string
	}{
		{"own tenant", "acme:acme-pass@", event("1", `,"tenantId":"acme"`, "SUCCESS"), http.StatusOK, "tenant:acme"},
		{"no tenant in the event", "globex:globex-pass@", event("2", "", "SUCCESS"), http.StatusOK, "tenant:globex"},
		{"another tenant", "acme:acme-pass@", event("3", `,"tenantId":"globex"`, "SUCCESS"), http.StatusForbidden, ""},
		{"wrong password", "acme:guess@", event("4", "", "SUCCESS"), http.StatusUnauthorized, ""},
		{"nobody", "", event("5", "", "SUCCESS"), http.StatusUnauthorized, ""},
		{"breaks the schema", "acme:acme-pass@", fmt.Sprintf(`{"eventId":"6","action":"a.b","outcome":"SUCCESS","context":{"occurredAt":%q}}`, time.Now().UTC().Format(time.RFC3339)), http.StatusBadRequest, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := testbed.NewClient(test.user + c.HTTP)
			defer client.Close()
			answer, err := client.Send(t.Context(), "application/json", []byte(test.event))
			require.NoError(t, err)
			assert.Equal(t, test.code, answer.Code, "%s", answer.Body)
			if test.stream != "" && assert.Len(t, answer.Results, 1) {
				assert.Equal(t, test.stream, answer.Results[0].Stream)
			}
		})
	}
	stop(t, c)
	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	assert.Equal(t, map[string]int{"1": 1, "2": 1}, stored.Records)
	leaks, err := testbed.FindLeaks(settings.Directory+"/journal", []testbed.Needle{{Name: "password", Text: "acme-pass"}, {Name: "header", Text: "YWNtZTphY21lLXBhc3M"}})
	require.NoError(t, err)
	assert.Empty(t, leaks)
}
