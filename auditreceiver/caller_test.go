// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// authority signs certificates for a test.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	directory   string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, directory: t.TempDir()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.certificate, err = x509.ParseCertificate(raw)
	require.NoError(t, err)
	a.write("ca.pem", "CERTIFICATE", raw)
	return a
}

func (a *authority) write(name, kind string, raw []byte) {
	a.t.Helper()
	require.NoError(a.t, os.WriteFile(filepath.Join(a.directory, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600))
}

// sign makes a certificate with the given names, and its files.
func (a *authority) sign(file string, template x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template.SerialNumber, template.NotAfter = big.NewInt(2), time.Now().Add(time.Hour)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	raw, err := x509.CreateCertificate(rand.Reader, &template, a.certificate, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	a.write(file+".crt", "CERTIFICATE", raw)
	private, err := x509.MarshalECPrivateKey(key)
	require.NoError(a.t, err)
	a.write(file+".key", "EC PRIVATE KEY", private)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// server returns the settings of a server that wants certificates of clients.
func (a *authority) server() configoptional.Optional[configtls.ServerConfig] {
	a.sign("server", x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	path := func(name string) string { return filepath.Join(a.directory, name) }
	config := configtls.NewDefaultServerConfig()
	config.CertFile, config.KeyFile, config.ClientCAFile = path("server.crt"), path("server.key"), path("ca.pem")
	return configoptional.Some(config)
}

// client returns the settings of a client, with certificates or without.
func (a *authority) client(certificates ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	return &tls.Config{RootCAs: roots, Certificates: certificates, MinVersion: tls.VersionTLS12}
}

func uri(t *testing.T, text string) *url.URL {
	t.Helper()
	parsed, err := url.Parse(text)
	require.NoError(t, err)
	return parsed
}

func TestCertificateName(t *testing.T) {
	one, two := uri(t, "spiffe://acme/billing"), uri(t, "spiffe://acme/web")
	for want, certificate := range map[string]x509.Certificate{
		"spiffe://acme/billing": {URIs: []*url.URL{one}, DNSNames: []string{"a", "b"}},
		"a":                     {DNSNames: []string{"a"}, Subject: pkix.Name{CommonName: "cn"}},
		"cn":                    {Subject: pkix.Name{CommonName: "cn"}},
		"":                      {URIs: []*url.URL{one, two}, DNSNames: []string{"a"}, Subject: pkix.Name{CommonName: "cn"}},
	} {
		assert.Equal(t, want, certificateName(&certificate))
	}
	assert.Empty(t, certificateName(&x509.Certificate{DNSNames: []string{"a", "b"}, Subject: pkix.Name{CommonName: "cn"}}))
}

// writeFor makes a request for a tenant and a service.
func writeFor(tenant, service string) plog.Logs {
	logs := records("a")
	group := logs.ResourceLogs().At(0)
	group.Resource().Attributes().Clear()
	if service != "" {
		group.Resource().Attributes().PutStr(audit.ResourceServiceName, service)
	}
	if tenant != "" {
		group.ScopeLogs().At(0).LogRecords().At(0).Attributes().PutStr(audit.AttributeTenantID, tenant)
	}
	return logs
}

// Mutual TLS over HTTP and gRPC: the name in the certificate decides what may be
// written.
func TestCallersByCertificate(t *testing.T) {
	authority := newAuthority(t)
	config := grpcConfig()
	config.HTTP.TLS = authority.server()
	config.GRPC.Get().TLS = authority.server()
	config.Callers = CallersConfig{Identity: identityCertificate, Allow: []AllowConfig{
		{Identity: "spiffe://acme/billing", Tenants: []string{"acme"}, Services: []string{"billing", "web"}},
		{Identity: "gateway", Tenants: []string{"acme", "globex"}},
	}}
	require.NoError(t, config.Validate())
	var tenant string
	r, address := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), func(ctx context.Context, logs plog.Logs) error {
		tenant = receipt.FromContext(ctx).Tenant
		return seal(ctx, logs)
	})
	billing := authority.sign("billing", x509.Certificate{URIs: []*url.URL{uri(t, "spiffe://acme/billing")}})
	gateway := authority.sign("gateway", x509.Certificate{DNSNames: []string{"gateway"}})
	unknown := authority.sign("unknown", x509.Certificate{Subject: pkix.Name{CommonName: "unknown"}})
	unnamed := authority.sign("unnamed", x509.Certificate{DNSNames: []string{"gateway", "other"}})
	for name, c := range map[string]struct {
		certificate     tls.Certificate
		tenant, service string
		want            int
		sealed          string // for which tenant
	}{
		"its own":              {billing, "acme", "billing", 200, "acme"},
		"the only tenant":      {billing, "", "web", 200, "acme"},
		"another tenant":       {billing, "globex", "billing", 403, ""},
		"another service":      {billing, "acme", "shop", 403, ""},
		"no service":           {billing, "acme", "", 403, ""},
		"one of its tenants":   {gateway, "globex", "anything", 200, ""},
		"none of its tenants":  {gateway, "initech", "anything", 403, ""},
		"no tenant of several": {gateway, "", "anything", 403, ""},
		"not allowed":          {unknown, "acme", "billing", 403, ""},
		"two names":            {unnamed, "acme", "billing", 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tenant = ""
			sent := writeFor(c.tenant, c.service)
			transport := &http.Transport{TLSClientConfig: authority.client(c.certificate), DisableKeepAlives: true}
			base := strings.Replace(strings.Replace(address, "http://", "https://", 1), pathEvents, "", 1)
			for _, path := range []string{pathLogs, pathAudit} {
				resp, err := (&http.Client{Transport: transport}).Post(base+path, string(encodingJSON), strings.NewReader(marshalJSON(t, sent))) //nolint:noctx // bounded by the test's server
				require.NoError(t, err)
				assert.Equal(t, c.want, resp.StatusCode)
				require.NoError(t, resp.Body.Close())
				assert.Equal(t, c.sealed, tenant)
			}
			event := `{"action":"a","context":{"tenantId":"` + c.tenant + `","sourceService":"` + c.service + `"}}`
			event = strings.NewReplacer(`"tenantId":"",`, "", `,"sourceService":""`, "").Replace(event)
			resp, err := (&http.Client{Transport: transport}).Post(base+pathEvents, string(encodingJSON), strings.NewReader(event)) //nolint:noctx // bounded by the test's server
			require.NoError(t, err)
			assert.Equal(t, c.want, resp.StatusCode, event)
			require.NoError(t, resp.Body.Close())

			connection, err := grpc.NewClient(r.grpc.listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(authority.client(c.certificate))))
			require.NoError(t, err)
			_, err = plogotlp.NewGRPCClient(connection).Export(t.Context(), plogotlp.NewExportRequestFromLogs(sent))
			assert.Equal(t, codeOf(c.want), status.Code(err), "%v", err)
			require.NoError(t, connection.Close())
		})
	}
	t.Run("no certificate", func(t *testing.T) {
		transport := &http.Transport{TLSClientConfig: authority.client(), DisableKeepAlives: true}
		_, err := (&http.Client{Transport: transport}).Get(strings.Replace(address, "http://", "https://", 1)) //nolint:noctx,bodyclose // there is no answer
		require.ErrorContains(t, err, "certificate")
	})
	t.Run("certificate of another authority", func(t *testing.T) {
		foreign := newAuthority(t).sign("billing", x509.Certificate{URIs: []*url.URL{uri(t, "spiffe://acme/billing")}})
		transport := &http.Transport{TLSClientConfig: authority.client(foreign), DisableKeepAlives: true}
		_, err := (&http.Client{Transport: transport}).Get(strings.Replace(address, "http://", "https://", 1)) //nolint:noctx,bodyclose // there is no answer
		require.Error(t, err)
	})
}

// What an authenticator knows a caller by decides as well, and together with the
// tenant that it names.
func TestCallersByAttribute(t *testing.T) {
	id := component.MustNewID("fakeauth")
	h := newHost()
	h.extensions = map[component.ID]component.Component{id: &authenticator{tenants: map[string]any{
		"good": "acme", "other": "globex", "list": []string{"acme"}, "two": []string{"a", "b"}, "none": nil, "new": "initech",
	}}}
	config := testConfig()
	config.HTTP.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: id}})
	config.Callers = CallersConfig{Identity: "tenant", Allow: []AllowConfig{
		{Identity: "acme", Tenants: []string{"acme"}}, {Identity: "globex", Tenants: []string{"acme"}},
	}}
	require.NoError(t, config.Validate())
	send := func(config *Config, who string) int {
		_, address := start(t, config, receivertest.NewNopSettings(metadata.Type), h, seal)
		return post(t, address, contentJSON, `{"action":"a"}`, "Authorization", who).status
	}
	for who, want := range map[string]int{"good": 200, "list": 200, "other": 200, "two": 403, "none": 403, "nobody": 401} {
		assert.Equal(t, want, send(config, who), who)
	}
	_, address := start(t, config, receivertest.NewNopSettings(metadata.Type), h, seal)
	refused := post(t, address, contentJSON, `{"action":"a"}`, "Authorization", "new")
	assert.Equal(t, 403, refused.status)
	assert.Contains(t, refused.text, `the caller \"initech\" is not one`, "who configures it must see what the caller is known by")
	config.Tenant.Attribute = "tenant"
	for who, want := range map[string]int{"good": 200, "other": 403} {
		assert.Equal(t, want, send(config, who), "%s: the authenticated tenant must be allowed", who)
	}
}

// Of a name that is there twice each is judged: who reads the first sees
// another than who reads the last.
func TestEachOfRepeatedNamesIsJudged(t *testing.T) {
	logs := writeFor("acme", "billing")
	record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	record.Attributes().PutStr("audit.tenant.XX", "globex")
	raw := strings.Replace(marshalProto(t, logs), "audit.tenant.XX", audit.AttributeTenantID, 1)
	request := plogotlp.NewExportRequest()
	require.NoError(t, request.UnmarshalProto([]byte(raw)))
	record = request.Logs().ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	first, _ := record.Attributes().Get(audit.AttributeTenantID)
	require.Equal(t, "acme", first.Str())
	assert.False(t, allows([]string{"acme"}, record.Attributes(), audit.AttributeTenantID))
	assert.True(t, allows([]string{"acme", "globex"}, record.Attributes(), audit.AttributeTenantID))
	assert.True(t, isForeign(record, "acme"))
}

func TestPlaintextIsRefused(t *testing.T) {
	for endpoint, fine := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true, "LOCALHOST.:1": true, "web.localhost:1": true,
		"[::ffff:127.0.0.1]:1": true, "0.0.0.0:1": false, ":1": false, "[::]:1": false, "192.0.2.1:1": false, "collector:1": false,
		"notlocalhost:1": false, "127.0.0.1.example:1": false,
	} {
		config := createDefaultConfig().(*Config)
		config.HTTP.NetAddr.Endpoint = endpoint
		if err := config.Validate(); fine {
			require.NoError(t, err, endpoint)
		} else {
			require.ErrorContains(t, err, "`http::endpoint` "+endpoint, endpoint)
			require.ErrorContains(t, err, "`insecure: true`", endpoint)
		}
		config.Insecure = true
		require.NoError(t, config.Validate(), endpoint)

		config = createDefaultConfig().(*Config)
		config.GRPC.GetOrInsertDefault().NetAddr.Endpoint = endpoint
		if err := config.Validate(); !fine {
			require.ErrorContains(t, err, "`grpc::tls`", endpoint)
		}
		config.GRPC.Get().TLS = configoptional.Some(configtls.NewDefaultServerConfig())
		require.NoError(t, config.Validate(), endpoint)
	}
	config := createDefaultConfig().(*Config)
	config.HTTP.NetAddr.Transport, config.HTTP.NetAddr.Endpoint = "unix", "/run/audit.sock"
	require.NoError(t, config.Validate())
}

func TestCallersConfig(t *testing.T) {
	one := AllowConfig{Identity: "a"}
	for want, c := range map[string]CallersConfig{
		"both `identity` and `allow`":                     {Identity: "x"},
		"`callers` must have both":                        {Allow: []AllowConfig{one}},
		"`callers::allow[0]::identity` must be set":       {Identity: "x", Allow: []AllowConfig{{}}},
		"`callers::allow[1]::identity` is there twice":    {Identity: "x", Allow: []AllowConfig{one, one}},
		"`callers::allow[0]` must not name an empty":      {Identity: "x", Allow: []AllowConfig{{Identity: "a", Services: []string{""}}}},
		"`callers::allow[0]` must not name an empty tena": {Identity: "x", Allow: []AllowConfig{{Identity: "a", Tenants: []string{""}}}},
	} {
		require.ErrorContains(t, c.Validate(), want)
	}
	config := grpcConfig()
	config.Callers = CallersConfig{Identity: "x", Allow: []AllowConfig{one}}
	require.ErrorContains(t, config.Validate(), "set `http::auth`")
	require.ErrorContains(t, config.Validate(), "set `grpc::auth`")
	config.Callers.Identity = identityCertificate
	require.ErrorContains(t, config.Validate(), "set `http::tls::client_ca_file`")
	require.ErrorContains(t, config.Validate(), "set `grpc::tls::client_ca_file`")
	assert.Equal(t, codes.PermissionDenied, codeOf(http.StatusForbidden))
}
