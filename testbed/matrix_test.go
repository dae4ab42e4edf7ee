// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/testbed"
)

// visit is one caller at one door, and what each of its requests ends as.
type visit struct {
	name            string
	door            string
	tls             *tls.Config // nil: plaintext
	authorization   string
	tenant, service string
	code            int // 0: no connection
	call            codes.Code
}

// Every way to a door against everybody who may stand there: the answer is the
// same on all paths, what is refused is nowhere, and no credential, right or
// wrong, is on a disk: not in the journal, the store, the quarantine, a stock
// exporter's queue or the log, however much is logged and passed on.
func TestWhoMayWrite(t *testing.T) {
	authority := newAuthority(t)
	authority.sign(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	authority.writeFile(t, "tokens", []byte("first-secret-token\nsecond-secret-token\n"))
	addresses := map[string][2]string{}
	for _, door := range []string{"plain", "tls", "mtls", "bearer", "basic"} {
		addresses[door] = [2]string{freeEndpoint(t), freeEndpoint(t)}
	}
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = []string{doorsConfig(authority.settings.Directory, settings.Directory, freeEndpoint(t), addresses)}
	c := start(t, settings)

	want := map[string]int{}
	for _, v := range visitsOf(t, authority) {
		t.Run(v.name, func(t *testing.T) {
			for _, path := range []string{"/v1/audit", "/v1/logs", "/v1/events"} {
				id := v.name + path
				code, body := v.post(t, addresses[v.door][0], path, id)
				assert.Equal(t, v.code, code, path)
				refused := code == http.StatusUnauthorized || code == http.StatusForbidden
				assert.Equal(t, refused && path == "/v1/audit", strings.Contains(body, `"status":"rejected_authz"`), "%s: %s", path, body)
				if v.code == http.StatusOK {
					want[id] = 1
				}
			}
			id := v.name + " over gRPC"
			assert.Equal(t, v.call, v.export(t, addresses[v.door][1], id))
			if v.call == codes.OK {
				want[id] = 1
			}
		})
	}
	long := visit{tls: authority.as(t, ""), authorization: "Bearer first-secret-token", tenant: "acme", service: strings.Repeat("x", 8192)}
	code, _ := long.post(t, addresses["bearer"][0], "/v1/logs", "long")
	assert.Equal(t, http.StatusOK, code)
	quarantine := settings.Store() + ".quarantine"
	eventually(t, 20*time.Second, func() bool { return len(inQuarantine(t, quarantine)) == 1 }, "the sink has refused it")
	stop(t, c)

	assert.Equal(t, want, readStore(t, settings.Store()).Records)
	assert.Equal(t, []string{"quarantined"}, verify(t, "--key", settings.Key(), settings.Store()).Kinds())
	secrets := []testbed.Needle{{Name: "scheme", Text: "Bearer "}, {Name: "scheme", Text: "Basic "}}
	for _, secret := range []string{"secret-token", "guessed-token", "billing-pass", "guessed-pass", encoded("billing", "billing-pass"), encoded("billing", "guessed-pass"), encoded("shop", "shop-pass")} {
		secrets = append(secrets, testbed.Needle{Name: secret, Text: secret})
	}
	assert.Empty(t, find(t, settings.Directory, secrets...), "in the log as well")
	for _, directory := range []string{settings.Journal(), settings.Store(), quarantine, filepath.Join(settings.Directory, "queue")} {
		assert.Empty(t, find(t, directory, testbed.Needle{Name: "header", Text: "uthorization"}), directory)
		assert.NotEmpty(t, find(t, directory, testbed.Needle{Name: "tenant", Text: "acme"}), "records are in %s", directory)
	}
}

func find(t *testing.T, directory string, needles ...testbed.Needle) []testbed.Leak {
	t.Helper()
	found, err := testbed.FindLeaks(directory, needles)
	require.NoError(t, err)
	return found
}

func encoded(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// doorsConfig has a receiver for each way in, all on one pipeline. Headers are
// passed on as far as a receiver does so at all, and everything is logged.
func doorsConfig(secrets, data, nobody string, addresses map[string][2]string) string {
	doors := map[string][2]string{} // what each server has, and each receiver
	server := fmt.Sprintf("cert_file: %q, key_file: %q", filepath.Join(secrets, "server.crt"), filepath.Join(secrets, "server.key"))
	doors["plain"] = [2]string{"", ""}
	doors["tls"] = [2]string{", tls: {" + server + "}", ""}
	doors["mtls"] = [2]string{fmt.Sprintf(", tls: {%s, client_ca_file: %q}", server, filepath.Join(secrets, "ca.crt")), `, callers: {identity: certificate, allow: [
  {identity: "spiffe://example.org/billing", tenants: [acme], services: [billing]}, {identity: gateway.example.org, tenants: [acme, globex]}]}`}
	doors["bearer"] = [2]string{", tls: {" + server + "}, auth: {authenticator: bearertokenauth}", ""}
	doors["basic"] = [2]string{", tls: {" + server + "}, auth: {authenticator: basicauth}", `, callers: {identity: username, allow: [
  {identity: billing, tenants: [acme], services: [billing]}]}`}
	var receivers, names []string
	for name, door := range doors {
		names = append(names, "audit/"+name)
		receivers = append(receivers, fmt.Sprintf("audit/%s: {http: {endpoint: %q, include_metadata: true%s}, grpc: {endpoint: %q, include_metadata: true%s}%s}",
			name, addresses[name][0], door[0], addresses[name][1], door[0], door[1]))
	}
	return fmt.Sprintf(`
receivers: {%s}
exporters:
  audit: {file: {max_line_bytes: 4096}}
  otlp/queue: {endpoint: %s, tls: {insecure: true}, sending_queue: {storage: file_storage}, retry_on_failure: {max_elapsed_time: 0}}
extensions:
  bearertokenauth: {filename: %q}
  basicauth: {htpasswd: {inline: "billing:billing-pass\nshop:shop-pass\n"}}
  file_storage: {directory: %q, create_directory: true}
service:
  extensions: [health_check, bearertokenauth, basicauth, file_storage]
  pipelines: {logs/audit: {receivers: [audit, %s], exporters: [audit, otlp/queue]}}
  telemetry: {logs: {level: debug}}
`, strings.Join(receivers, ", "), nobody, filepath.Join(secrets, "tokens"), filepath.Join(data, "queue"), strings.Join(names, ", "))
}

func newAuthority(t *testing.T) *door {
	t.Helper()
	d := &door{settings: testbed.Settings{Directory: t.TempDir()}}
	d.makeAuthority(t)
	return d
}

func visitsOf(t *testing.T, authority *door) []visit {
	t.Helper()
	spiffe, err := url.Parse("spiffe://example.org/billing")
	require.NoError(t, err)
	authority.sign(t, "billing", &x509.Certificate{URIs: []*url.URL{spiffe}})
	authority.sign(t, "gateway", &x509.Certificate{DNSNames: []string{"gateway.example.org"}})
	authority.sign(t, "stranger", &x509.Certificate{DNSNames: []string{"stranger.example.org"}})
	nobody, billing, gateway, stranger := authority.as(t, ""), authority.as(t, "billing"), authority.as(t, "gateway"), authority.as(t, "stranger")

	another := newAuthority(t)
	another.sign(t, "billing", &x509.Certificate{URIs: []*url.URL{spiffe}})
	forged := authority.as(t, "")
	forged.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // shown whatever the server asks for
		return &another.as(t, "billing").Certificates[0], nil
	}
	deceived := another.as(t, "") // by a server of another authority
	old := authority.as(t, "")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 // which the server has to refuse

	const none = codes.Unavailable // no connection
	const denied, unknown = codes.PermissionDenied, codes.Unauthenticated
	const ok, no, who = http.StatusOK, http.StatusForbidden, http.StatusUnauthorized
	const bearer = "Bearer "
	basic := func(user, password string) string { return "Basic " + encoded(user, password) }
	return []visit{
		{"plaintext on loopback", "plain", nil, "", "acme", "billing", ok, codes.OK},
		{"TLS at a plaintext door", "plain", nobody, "", "acme", "billing", 0, none},

		{"TLS", "tls", nobody, "", "acme", "billing", ok, codes.OK},
		{"plaintext at a TLS door", "tls", nil, "", "acme", "billing", http.StatusBadRequest, none},
		{"TLS 1.1", "tls", old, "", "acme", "billing", 0, none},
		{"a client that trusts another authority", "tls", deceived, "", "acme", "billing", 0, none},

		{"certificate", "mtls", billing, "", "acme", "billing", ok, codes.OK},
		{"certificate, another service", "mtls", billing, "", "acme", "shop", no, denied},
		{"certificate, no service", "mtls", billing, "", "acme", "", no, denied},
		{"certificate, another tenant", "mtls", billing, "", "globex", "billing", no, denied},
		{"certificate, its only tenant", "mtls", billing, "", "", "billing", ok, codes.OK},
		{"gateway, first tenant", "mtls", gateway, "", "acme", "shop", ok, codes.OK},
		{"gateway, second tenant", "mtls", gateway, "", "globex", "billing", ok, codes.OK},
		{"gateway, third tenant", "mtls", gateway, "", "initech", "billing", no, denied},
		{"gateway, no tenant", "mtls", gateway, "", "", "billing", no, denied},
		{"certificate that nothing is allowed", "mtls", stranger, "", "acme", "billing", no, denied},
		{"certificate of another authority", "mtls", forged, "", "acme", "billing", 0, none},
		{"no certificate", "mtls", nobody, "", "acme", "billing", 0, none},
		{"no certificate, but a token", "mtls", nobody, bearer + "first-secret-token", "acme", "billing", 0, none},
		{"no TLS at all", "mtls", nil, "", "acme", "billing", http.StatusBadRequest, none},

		{"token", "bearer", nobody, bearer + "first-secret-token", "acme", "billing", ok, codes.OK},
		{"the other token", "bearer", nobody, bearer + "second-secret-token", "acme", "shop", ok, codes.OK},
		{"wrong token", "bearer", nobody, bearer + "guessed-token", "acme", "billing", who, unknown},
		{"part of a token", "bearer", nobody, bearer + "first-secret-toke", "acme", "billing", who, unknown},
		{"empty token", "bearer", nobody, bearer, "acme", "billing", who, unknown},
		{"token of another scheme", "bearer", nobody, "Basic first-secret-token", "acme", "billing", who, unknown},
		{"no token", "bearer", nobody, "", "acme", "billing", who, unknown},
		{"certificate, but no token", "bearer", billing, "", "acme", "billing", who, unknown},

		{"user", "basic", nobody, basic("billing", "billing-pass"), "acme", "billing", ok, codes.OK},
		{"user, another service", "basic", nobody, basic("billing", "billing-pass"), "acme", "shop", no, denied},
		{"user, another tenant", "basic", nobody, basic("billing", "billing-pass"), "globex", "billing", no, denied},
		{"user that nothing is allowed", "basic", nobody, basic("shop", "shop-pass"), "acme", "shop", no, denied},
		{"wrong password", "basic", nobody, basic("billing", "guessed-pass"), "acme", "billing", who, unknown},
		{"no user", "basic", nobody, "", "acme", "billing", who, unknown},
	}
}

// records is one record as the caller sends it.
func (v *visit) records(id string) plog.Logs {
	logs := testbed.OTLPRecords("x", id)
	of := logs.ResourceLogs().At(0)
	of.Resource().Attributes().Clear()
	if v.service != "" {
		of.Resource().Attributes().PutStr("service.name", v.service)
	}
	attributes := of.ScopeLogs().At(0).LogRecords().At(0).Attributes()
	attributes.Remove("audit.tenant.id")
	if v.tenant != "" {
		attributes.PutStr("audit.tenant.id", v.tenant)
	}
	return logs
}

// event is the same in the original logger's shape.
func (v *visit) event(id string) []byte {
	event := fmt.Appendf(nil, `{"eventId":%q,"action":"a.b","outcome":"SUCCESS","actor":{"type":"user","id":"u"},"context":{"occurredAt":"2025-11-24T09:07:00Z"`, id)
	for name, value := range map[string]string{"tenantId": v.tenant, "sourceService": v.service} {
		if value != "" {
			event = fmt.Appendf(event, ",%q:%q", name, value)
		}
	}
	return append(event, "}}"...)
}

// post sends a record over HTTP and returns the answer, 0 without one.
func (v *visit) post(t *testing.T, address, path, id string) (code int, answer string) {
	t.Helper()
	body := v.event(id)
	if path != "/v1/events" {
		var err error
		body, err = plogotlp.NewExportRequestFromLogs(v.records(id)).MarshalJSON()
		require.NoError(t, err)
	}
	scheme := "http://"
	if v.tls != nil {
		scheme = "https://"
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+address+path, bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	if v.authorization != "" {
		request.Header.Set("Authorization", v.authorization)
	}
	response, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: v.tls, DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return 0, ""
	}
	text, _ := io.ReadAll(response.Body) // of a TLS door it may end early
	require.NoError(t, response.Body.Close())
	return response.StatusCode, string(text)
}

// export sends a record over gRPC and returns the status.
func (v *visit) export(t *testing.T, address, id string) codes.Code {
	t.Helper()
	transport := insecure.NewCredentials()
	if v.tls != nil {
		transport = credentials.NewTLS(v.tls)
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	require.NoError(t, err)
	defer func() { assert.NoError(t, connection.Close()) }()
	ctx := t.Context()
	if v.authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v.authorization)
	}
	_, err = plogotlp.NewGRPCClient(connection).Export(ctx, plogotlp.NewExportRequestFromLogs(v.records(id)))
	return status.Code(err)
}

// Where other machines reach it, a collector does not start with a plaintext
// door, over HTTP or gRPC, and says which key is missing. Asked for, it does.
func TestPlaintextDoor(t *testing.T) {
	binary, err := testbed.Binary("otelcol-audit")
	require.NoError(t, err)
	for _, server := range []string{"http", "grpc"} {
		t.Run(server, func(t *testing.T) {
			settings := testbed.Settings{Directory: t.TempDir()}
			_, port, err := net.SplitHostPort(freeEndpoint(t))
			require.NoError(t, err)
			door := fmt.Sprintf("receivers::audit::%s::endpoint: 0.0.0.0:%s", server, port)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, binary, "--config", fmt.Sprintf(`yaml:
receivers: {audit: {http: {endpoint: %q}}}
processors: {audit: {journal: {directory: %q}}}
exporters: {audit: {file: {directory: %q}}}
service: {pipelines: {logs/audit: {receivers: [audit], processors: [audit], exporters: [audit]}}, telemetry: {metrics: {level: none}}}
`, freeEndpoint(t), settings.Journal(), settings.Store()), "--config", "yaml:"+door)
			output, err := command.CombinedOutput()
			require.Error(t, err)
			require.NoError(t, ctx.Err(), "it runs")
			assert.Contains(t, string(output), "`"+server+"::tls`")
			assert.Contains(t, string(output), "`insecure: true`")
			assert.NoDirExists(t, settings.Journal())

			settings.Extra = []string{door, "receivers::audit::insecure: true"}
			c := start(t, settings)
			address := "127.0.0.1:" + port
			v := visit{tenant: "acme", service: "billing"}
			if server == "http" {
				code, body := v.post(t, address, "/v1/audit", "asked-for")
				assert.Equal(t, http.StatusOK, code, body)
			} else {
				assert.Equal(t, codes.OK, v.export(t, address, "asked-for"))
			}
			stop(t, c)
			requireSound(t, settings)
		})
	}
}
