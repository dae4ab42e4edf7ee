// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/testbed"
)

// door is a collector that runs on one of the ready configurations, on ports of
// the test's and with data below its directory.
type door struct {
	*testbed.Collector
	settings   testbed.Settings
	http, grpc string
	authority  *x509.Certificate
	key        *ecdsa.PrivateKey
}

// newDoor makes what the ready configurations are told by their variables.
func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{settings: testbed.Settings{Directory: t.TempDir()}, http: freeEndpoint(t), grpc: freeEndpoint(t)}
	d.makeAuthority(t)
	d.sign(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	d.writeFile(t, "tokens", []byte("first-secret-token\nsecond-secret-token\n"))
	d.writeFile(t, "tenants", []byte("acme:{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"))
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(signing)
	require.NoError(t, err)
	d.writeFile(t, "signing.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	for variable, file := range map[string]string{
		"AUDIT_TLS_CERT": "server.crt", "AUDIT_TLS_KEY": "server.key", "AUDIT_CLIENT_CA": "ca.crt",
		"AUDIT_TOKENS": "tokens", "AUDIT_SIGNING_KEY": "signing.pem", "AUDIT_TENANTS": "tenants",
	} {
		t.Setenv(variable, filepath.Join(d.settings.Directory, file))
	}
	return d
}

// openDoor starts the collector on config/<name>.
func openDoor(t *testing.T, name string) *door {
	t.Helper()
	root, err := testbed.Root()
	require.NoError(t, err)
	binary, err := testbed.Binary("otelcol-audit")
	require.NoError(t, err)
	d := newDoor(t)
	health := freeEndpoint(t)
	d.Collector, err = testbed.StartCommand(t.Context(), d.settings, health, binary, "--config", filepath.Join(root, "config", name), "--config", fmt.Sprintf(`yaml:
receivers: {audit: {http: {endpoint: %q}, grpc: {endpoint: %q}}}
processors: {audit: {journal: {directory: %q}}}
exporters: {audit: {file: {directory: %q}}}
extensions: {health_check: {endpoint: %s}}
service: {telemetry: {metrics: {level: none}}}
`, d.http, d.grpc, d.settings.Journal(), d.settings.Store(), health))
	require.NoError(t, err)
	return d
}

func (d *door) writeFile(t *testing.T, name string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(d.settings.Directory, name), content, 0o600))
}

func (d *door) makeAuthority(t *testing.T) {
	t.Helper()
	d.authority = &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	d.authority = d.sign(t, "ca", d.authority)
	var err error
	block, _ := pem.Decode(readFile(t, filepath.Join(d.settings.Directory, "ca.key")))
	d.key, err = x509.ParseECPrivateKey(block.Bytes)
	require.NoError(t, err)
}

// sign writes a certificate and its key. The authority signs itself.
func (d *door) sign(t *testing.T, file string, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signer := d.key
	if signer == nil {
		signer = key
	}
	template.SerialNumber, template.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
	raw, err := x509.CreateCertificate(rand.Reader, template, d.authority, &key.PublicKey, signer)
	require.NoError(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	d.writeFile(t, file+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
	d.writeFile(t, file+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
	certificate, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	return certificate
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

// as returns the TLS of a client with the named certificate, "" for none.
func (d *door) as(t *testing.T, file string) *tls.Config {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AddCert(d.authority)
	if file != "" {
		path := filepath.Join(d.settings.Directory, file)
		certificate, err := tls.LoadX509KeyPair(path+".crt", path+".key")
		require.NoError(t, err)
		config.Certificates = []tls.Certificate{certificate}
	}
	return config
}

// send sends records over HTTP to a path, and over gRPC, and returns the status
// of both. authorization may be empty.
func (d *door) send(t *testing.T, config *tls.Config, path, authorization string, logs plog.Logs) (code int, call codes.Code) {
	t.Helper()
	body, err := plogotlp.NewExportRequestFromLogs(logs).MarshalJSON()
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+d.http+path, strings.NewReader(string(body)))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	ctx := t.Context()
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
	}
	response, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}).Do(request)
	if err == nil {
		code = response.StatusCode
		require.NoError(t, response.Body.Close())
	}
	connection, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	require.NoError(t, err)
	defer func() { assert.NoError(t, connection.Close()) }()
	_, err = plogotlp.NewGRPCClient(connection).Export(ctx, plogotlp.NewExportRequestFromLogs(logs))
	return code, status.Code(err)
}

// config/bearer.yaml: who has no token is turned away, and no token is ever on
// a disk of the collector's.
func TestBearerDoor(t *testing.T) {
	d := openDoor(t, "bearer.yaml")
	for i, c := range []struct {
		authorization string
		code          int
		call          codes.Code
	}{
		{"Bearer first-secret-token", http.StatusOK, codes.OK},
		{"Bearer second-secret-token", http.StatusOK, codes.OK},
		{"Bearer guess", http.StatusUnauthorized, codes.Unauthenticated},
		{"", http.StatusUnauthorized, codes.Unauthenticated},
	} {
		for _, path := range []string{"/v1/logs", "/v1/audit"} {
			code, call := d.send(t, d.as(t, ""), path, c.authorization, testbed.OTLPRecords("x", fmt.Sprintf("r-%d", i)))
			assert.Equal(t, c.code, code, c.authorization)
			assert.Equal(t, c.call, call, c.authorization)
		}
	}
	require.NoError(t, d.Stop())
	stored := readStore(t, d.settings.Store())
	assert.Equal(t, map[string]int{"r-0": 1, "r-1": 1}, stored.Records)
	needles := []testbed.Needle{{Name: "token", Text: "secret-token"}, {Name: "scheme", Text: "Bearer "}, {Name: "header", Text: "uthorization"}}
	for _, directory := range []string{d.settings.Journal(), d.settings.Store()} {
		leaks, err := testbed.FindLeaks(directory, needles)
		require.NoError(t, err)
		assert.Empty(t, leaks)
	}
	assert.NotContains(t, string(readFile(t, d.settings.LogFile())), "secret-token")
}

// config/mutual-tls.yaml: the certificate says what may be written.
func TestMutualTLSDoor(t *testing.T) {
	d := openDoor(t, "mutual-tls.yaml")
	spiffe, err := url.Parse("spiffe://example.org/billing")
	require.NoError(t, err)
	d.sign(t, "billing", &x509.Certificate{URIs: []*url.URL{spiffe}})
	d.sign(t, "gateway", &x509.Certificate{DNSNames: []string{"gateway.example.org"}})
	d.sign(t, "stranger", &x509.Certificate{DNSNames: []string{"stranger.example.org"}})
	of := func(service, id string) plog.Logs {
		logs := testbed.OTLPRecords("x", id) // of tenant acme
		logs.ResourceLogs().At(0).Resource().Attributes().PutStr("service.name", service)
		return logs
	}
	for _, c := range []struct {
		certificate string
		logs        plog.Logs
		code        int
		call        codes.Code
	}{
		{"billing", of("billing", "1"), http.StatusOK, codes.OK},
		{"billing", of("shop", "2"), http.StatusForbidden, codes.PermissionDenied},
		{"gateway", of("shop", "3"), http.StatusOK, codes.OK},
		{"stranger", of("billing", "4"), http.StatusForbidden, codes.PermissionDenied},
		{"", of("billing", "5"), 0, codes.Unavailable}, // no handshake
	} {
		for _, path := range []string{"/v1/logs", "/v1/audit"} {
			code, call := d.send(t, d.as(t, c.certificate), path, "", c.logs)
			assert.Equal(t, c.code, code, c.certificate)
			assert.Equal(t, c.call, call, c.certificate)
		}
	}
	require.NoError(t, d.Stop())
	assert.Equal(t, map[string]int{"1": 1, "3": 1}, readStore(t, d.settings.Store()).Records)
}

// A variable that was forgotten must not leave the door open, or the signing
// key beside the data: the collector ends and names it.
func TestForgottenVariables(t *testing.T) {
	root, err := testbed.Root()
	require.NoError(t, err)
	binary, err := testbed.Binary("otelcol-audit")
	require.NoError(t, err)
	for _, c := range [][2]string{
		{"multi-tenant.yaml", "AUDIT_CLIENT_CA"},
		{"multi-tenant.yaml", "AUDIT_SIGNING_KEY"},
		{"multi-tenant.yaml", "AUDIT_TENANTS"},
		{"mutual-tls.yaml", "AUDIT_CLIENT_CA"},
		{"mutual-tls.yaml", "AUDIT_SIGNING_KEY"},
		{"bearer.yaml", "AUDIT_TOKENS"},
	} {
		t.Run(c[0]+" "+c[1], func(t *testing.T) {
			d := newDoor(t)
			require.NoError(t, os.Unsetenv(c[1])) // newDoor has it restored
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			output, err := exec.CommandContext(ctx, binary, "--config", filepath.Join(root, "config", c[0]), "--config", fmt.Sprintf(`yaml:
receivers: {audit: {http: {endpoint: %q}}}
processors: {audit: {journal: {directory: %q}}}
exporters: {audit: {file: {directory: %q}}}
extensions: {health_check: {endpoint: %s}}
service: {telemetry: {metrics: {level: none}}}
`, d.http, d.settings.Journal(), d.settings.Store(), freeEndpoint(t))).CombinedOutput()
			require.Error(t, err)
			require.NoError(t, ctx.Err(), "it runs: %s", output)
			assert.Contains(t, string(output), c[1])
		})
	}
}
