// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configopaque"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/httpsink/receivertest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
)

func integrityOf(t *testing.T, e *sink.Entry) string {
	t.Helper()
	var encoder canonical.Encoder
	require.NoError(t, encoder.SetGroup(e.Resource.Resource(), "", e.Scope.Scope(), ""))
	record, err := encoder.AppendRecord(nil, e.Record)
	require.NoError(t, err)
	sum := sha256.Sum256(record)
	return hex.EncodeToString(sum[:])
}

// The vectors of docs/http.md.
const (
	keyOrigin = "host-1/00112233445566aa/20261123T090700Z-0a1b2c3d"
	keyText   = "otelaudit/1 ndjson\n" +
		"event " + keyOrigin + " 41 ab00000000000000000000000000000000000000000000000000000000000001\n" +
		"stub " + keyOrigin + " 42 cd00000000000000000000000000000000000000000000000000000000000002\n" +
		"checkpoint " + keyOrigin + " 43 389ed6887e49a315f706f6c2b931b1dcf0d797c91437124f32eb98555c669758\n"
	keyVector = "d68b126e7fca85edab27a9488e8cdd91dbbada2dc71bda1c6cda9258b22bddda"

	signatureVector = "t=1790000000,v1=630f2d68459fdd1dec6c99ac9ae354cb2d961888fb993dd04643838d9b0811dc," +
		"v1=bbe9edc8de208c240e1e4d0d82fe9aa25d396e8f3005450d431190b76a839e73"
)

func TestIdempotencyKeyVector(t *testing.T) {
	event := sink.Entry{Kind: audit.LineEvent, Link: chain.Link{Origin: keyOrigin, Index: 41}, Hash: chain.Hash{0: 0xab, 31: 0x01}}
	gone := sink.Entry{Kind: audit.LineEvent, Link: chain.Link{Origin: keyOrigin, Index: 42}, Hash: chain.Hash{0: 0xcd, 31: 0x02}}
	checkpoint := sink.Entry{Kind: audit.LineCheckpoint, Link: chain.Link{Origin: keyOrigin, Index: 43}, Note: []byte("note\n")}
	s := &Sink{config: Config{Format: FormatNDJSON}}
	assert.Equal(t, keyVector, s.keyOf([]item{{entry: &event}, {entry: &gone, refused: "too long"}, {entry: &checkpoint}}))
	sum := sha256.Sum256([]byte(keyText))
	assert.Equal(t, keyVector, hex.EncodeToString(sum[:]))
	for _, other := range [][]item{
		{{entry: &event}, {entry: &gone}, {entry: &checkpoint}},
		{{entry: &gone, refused: "too long"}, {entry: &event}, {entry: &checkpoint}},
		{{entry: &event}, {entry: &gone, refused: "too long"}},
	} {
		assert.NotEqual(t, keyVector, s.keyOf(other))
	}
	fresh := s.freshKey()
	assert.NotEqual(t, fresh, s.freshKey())
}

func TestSignatureVector(t *testing.T) {
	at := time.Unix(1_790_000_000, 999)
	body := []byte(`{"events":[]}`)
	got := signature([]configopaque.String{"0123456789abcdef", "fedcba9876543210"}, at, body)
	assert.Equal(t, signatureVector, got)
	for _, secret := range []string{"0123456789abcdef", "fedcba9876543210"} {
		assert.True(t, receivertest.CheckSignature(secret, got, body, at.Add(time.Minute)))
		assert.False(t, receivertest.CheckSignature(secret, got, append(body, ' '), at))
		assert.False(t, receivertest.CheckSignature(secret, got, body, at.Add(time.Hour)), "old")
		assert.False(t, receivertest.CheckSignature(secret, strings.Replace(got, "t=179", "t=178", 1), body, at))
	}
	assert.False(t, receivertest.CheckSignature("another secret 1234", got, body, at))
	assert.False(t, receivertest.CheckSignature("another secret 1234", "", body, at))
}

func TestSigned(t *testing.T) {
	r := receivertest.New(t, receivertest.Config{Format: "ndjson", Secret: "the new secret 1"})
	config := testConfig(r, FormatNDJSON)
	config.Secrets = []configopaque.String{"the old secret 1"}
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 2)
	_, err := open(t, config).Write(t.Context(), batch, noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	config.Secrets = append(config.Secrets, "the new secret 1")
	write(t, open(t, config), batch...)
	assert.Equal(t, lines(batch...), r.Lines())
}

// moved redirects every request at / to target, by status.
func moved(t *testing.T, target string, status int) string {
	t.Helper()
	server := httptest.NewServer(http.RedirectHandler(target, status))
	t.Cleanup(server.Close)
	return server.URL
}

func TestRedirects(t *testing.T) {
	for name, c := range map[string]struct {
		status              int
		follow, credentials bool
		ok                  bool
	}{
		"307":                        {status: 307, follow: true, ok: true},
		"308":                        {status: 308, follow: true, ok: true},
		"301 would lose the body":    {status: 301, follow: true},
		"302 would lose the body":    {status: 302, follow: true},
		"303 would lose the body":    {status: 303, follow: true},
		"credentials":                {status: 307, follow: true, credentials: true},
		"not configured":             {status: 307},
		"not configured permanently": {status: 308},
	} {
		t.Run(name, func(t *testing.T) {
			r := receivertest.New(t, receivertest.Config{Format: "ndjson"})
			config := testConfig(r, FormatNDJSON)
			config.Endpoint = moved(t, r.URL, c.status)
			config.FollowRedirects, config.Credentials = c.follow, c.credentials
			s := open(t, config)
			m := sinktest.NewMaker(sinktest.Origin)
			batch := m.Records(t, 2)
			_, err := s.Write(t.Context(), batch, noRefusal)
			if c.ok {
				require.NoError(t, err)
				assert.Equal(t, lines(batch...), r.Lines())
				return
			}
			require.ErrorIs(t, err, sink.ErrOperator)
			require.ErrorContains(t, err, "127.0.0.1")
			assertNoSecrets(t, err)
			assert.Empty(t, r.Requests())
		})
	}
}

func TestRedirectsDoNotGoInCircles(t *testing.T) {
	requests := 0
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		http.Redirect(w, r, server.URL, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	config := testConfig(&receivertest.Receiver{URL: server.URL}, FormatNDJSON)
	config.FollowRedirects, config.Credentials = true, true // the same host
	m := sinktest.NewMaker(sinktest.Origin)
	_, err := open(t, config).Write(t.Context(), m.Records(t, 1), noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	assert.Equal(t, maxRedirects+1, requests)
}

func TestNoWayBackToPlainHTTP(t *testing.T) {
	r := receivertest.New(t, receivertest.Config{Format: "ndjson"})
	server := httptest.NewTLSServer(http.RedirectHandler(r.URL, http.StatusTemporaryRedirect))
	t.Cleanup(server.Close)
	config := testConfig(r, FormatNDJSON)
	config.Endpoint, config.Client, config.FollowRedirects = server.URL, server.Client(), true
	m := sinktest.NewMaker(sinktest.Origin)
	_, err := open(t, config).Write(t.Context(), m.Records(t, 1), noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	assert.Empty(t, r.Requests())
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// A redirect does not lead records out of the machine in plain text, unless the
// configuration allows that for the endpoint itself.
func TestNoPlainHTTPToOthers(t *testing.T) {
	for target, c := range map[string]struct {
		plaintext, ok bool
	}{
		"http://collect.example/":  {},
		"http://192.0.2.1/":        {},
		"http://192.0.2.2/":        {plaintext: true, ok: true},
		"http://127.0.0.2/":        {ok: true},
		"http://[::1]/":            {ok: true},
		"https://collect.example/": {ok: true},
	} {
		t.Run(target, func(t *testing.T) {
			var hosts []string
			config := testConfig(&receivertest.Receiver{URL: "http://127.0.0.1/"}, FormatNDJSON)
			config.FollowRedirects, config.Plaintext = true, c.plaintext
			config.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
				hosts = append(hosts, r.URL.String())
				w := httptest.NewRecorder()
				if len(hosts) == 1 {
					http.Redirect(w, r, target, http.StatusTemporaryRedirect)
				}
				return w.Result(), nil
			})}
			m := sinktest.NewMaker(sinktest.Origin)
			_, err := open(t, config).Write(t.Context(), m.Records(t, 1), noRefusal)
			if c.ok {
				require.NoError(t, err)
				assert.Equal(t, []string{"http://127.0.0.1/", target}, hosts)
				return
			}
			require.ErrorIs(t, err, sink.ErrOperator)
			assert.Len(t, hosts, 1)
		})
	}
}

// Whoever was reached by https does not send records on in plain text, also where
// the endpoint itself is http.
func TestNoWayBackToPlainHTTPOnTheWay(t *testing.T) {
	var hosts []string
	config := testConfig(&receivertest.Receiver{URL: "http://127.0.0.1/"}, FormatNDJSON)
	config.FollowRedirects, config.Plaintext = true, true
	config.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		hosts = append(hosts, r.URL.String())
		w := httptest.NewRecorder()
		switch len(hosts) {
		case 1:
			http.Redirect(w, r, "https://collect.example/", http.StatusTemporaryRedirect)
		case 2:
			http.Redirect(w, r, "http://collect.example/", http.StatusTemporaryRedirect)
		}
		return w.Result(), nil
	})}
	m := sinktest.NewMaker(sinktest.Origin)
	_, err := open(t, config).Write(t.Context(), m.Records(t, 1), noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	assert.Equal(t, []string{"http://127.0.0.1/", "https://collect.example/"}, hosts)
}

// What a certificate says is the endpoint's word as well: it is not repeated.
func TestForeignCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = quietLog(t)
	server.StartTLS()
	t.Cleanup(server.Close)
	config := testConfig(&receivertest.Receiver{URL: strings.Replace(server.URL, "127.0.0.1", "localhost", 1)}, FormatNDJSON)
	config.Client = server.Client()
	m := sinktest.NewMaker(sinktest.Origin)
	_, err := open(t, config).Write(t.Context(), m.Records(t, 1), noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	require.ErrorContains(t, err, "is for other names")
	assert.NotContains(t, err.Error(), "example.com")
}

func TestUntrustedCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = quietLog(t)
	server.StartTLS()
	t.Cleanup(server.Close)
	config := testConfig(&receivertest.Receiver{URL: server.URL}, FormatNDJSON)
	m := sinktest.NewMaker(sinktest.Origin)
	_, err := open(t, config).Write(t.Context(), m.Records(t, 1), noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	require.ErrorContains(t, err, "`http::tls::ca_file`")
	var untrusted *tls.CertificateVerificationError
	require.ErrorAs(t, err, &untrusted)
}

// Nobody listens, and nothing of the address shows.
func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	config := testConfig(&receivertest.Receiver{URL: "http://hush:hush@" + listener.Addr().String() + "/hush?hush"}, FormatNDJSON)
	m := sinktest.NewMaker(sinktest.Origin)
	_, err = open(t, config).Write(t.Context(), m.Records(t, 1), noRefusal)
	require.ErrorContains(t, err, "connection refused")
	assertNoSecrets(t, err)
}

func TestAnswersThatAreNotHTTP(t *testing.T) {
	for name, answer := range map[string]string{
		"text":           "hush hush hush\r\n\r\n",
		"header":         "HTTP/1.1 200 OK\r\nhush hush\r\n\r\n",
		"initial line":   "HTTP/1.1 200 OK\r\n hush: hush\r\n\r\n",
		"content length": "HTTP/1.1 200 OK\r\nContent-Length: hush\r\n\r\n",
		"encoding":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: hush\r\n\r\n",
		"nothing":        "",
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := start(t, FormatNDJSON, receivertest.Config{Handler: func(w http.ResponseWriter, _ *http.Request) bool {
				connection, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					_, _ = connection.Write([]byte(answer)) // the client may have left
					_ = connection.Close()
				}
				return true
			}})
			m := sinktest.NewMaker(sinktest.Origin)
			_, err := s.Write(t.Context(), m.Records(t, 1), noRefusal)
			require.ErrorContains(t, err, "no answer from the endpoint")
			assertNoSecrets(t, err)
		})
	}
}

func TestFault(t *testing.T) {
	cause := errors.New("dial: " + strings.Repeat("x", 300))
	assert.Len(t, fault{cause}.Error(), maxFault)
	assert.ErrorIs(t, fault{cause}, cause)
	assert.Equal(t, "cannot fetch token: 401", fault{errors.New("cannot fetch token: 401\nResponse: hush")}.Error())
	assert.Equal(t, "malformed HTTP response", fault{errors.New(`malformed HTTP response "hush"`)}.Error())
	assert.Equal(t, "malformed answer", fault{textproto.ProtocolError("malformed MIME header line: hush")}.Error())
}

func TestOpenRefuses(t *testing.T) {
	_, err := Open(Config{Client: http.DefaultClient, Format: "csv"})
	require.ErrorContains(t, err, `format "csv" is not known`)
	_, err = Open(Config{Client: http.DefaultClient, Format: FormatEvents, Endpoint: "http://hush:hush@[hush"})
	require.ErrorContains(t, err, "not a URL")
	assertNoSecrets(t, err)
}

// quietLog takes what a server says of clients that do not trust it.
func quietLog(t *testing.T) *log.Logger { return log.New(t.Output(), "", 0) }

// docs/http.md shows the vectors and the check that the tests use.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../../docs/http.md")
	require.NoError(t, err)
	assert.Contains(t, string(page), keyVector)
	assert.Contains(t, string(page), keyText)
	assert.Contains(t, string(page), "\n"+signatureVector+"\n")
	source, err := os.ReadFile("receivertest/signature.go")
	require.NoError(t, err)
	_, check, found := strings.Cut(string(source), "\nfunc CheckSignature")
	require.True(t, found)
	assert.Contains(t, string(page), "func CheckSignature"+check)
}
