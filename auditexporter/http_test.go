// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter/exportertest"

	"github.com/otelaudit/otelaudit/auditexporter/internal/httpsink/receivertest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/quarantine"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

func TestHTTPDefaults(t *testing.T) {
	config, err := loadConfig(t, "audit/http")
	require.NoError(t, err)
	c := config.HTTP.Get()
	assert.Equal(t, "https://collect.example/audit", c.Endpoint)
	assert.Equal(t, "events", c.Format)
	assert.Equal(t, 1<<20, c.MaxRequestBytes)
	assert.Equal(t, 1000, c.MaxRequestRecords)
	assert.Equal(t, 30*time.Second, c.Timeout)
	assert.False(t, c.FollowRedirects)
	assert.False(t, c.hasCredentials())
	assert.False(t, config.File.HasValue())
	assert.Equal(t, "./data/quarantine", config.quarantineDirectory())
}

func TestHTTPAllKeys(t *testing.T) {
	config, err := loadConfig(t, "audit/http_all")
	require.NoError(t, err)
	c := config.HTTP.Get()
	assert.Equal(t, "ndjson", c.Format)
	assert.Equal(t, 65536, c.MaxRequestBytes)
	assert.Equal(t, 50, c.MaxRequestRecords)
	assert.Equal(t, []configopaque.String{"0123456789abcdef", "fedcba9876543210"}, c.SigningSecrets)
	assert.True(t, c.FollowRedirects)
	assert.EqualValues(t, "gzip", c.Compression)
	assert.Equal(t, 3*time.Second, c.Timeout)
	assert.True(t, c.hasCredentials())
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", c, c, c.SigningSecrets[0]), "0123456789abcdef")
}

// Over plain http to this machine nobody listens on the way.
func TestHTTPPlain(t *testing.T) {
	for _, name := range []string{"audit/http_loopback", "audit/http_loopback6", "audit/http_localhost", "audit/http_insecure"} {
		_, err := loadConfig(t, name)
		assert.NoError(t, err, name)
	}
}

func TestHTTPInvalid(t *testing.T) {
	for name, want := range map[string]string{
		"audit/http_and_file":           "one exporter has one sink, found `file` and `http`",
		"audit/http_without_quarantine": "`quarantine::directory` must be set",
		"audit/http_empty":              "http: `endpoint` must not be empty",
		"audit/http_no_scheme":          "http: `endpoint` must be a URL that begins with https:// or http:// and names a host",
		"audit/http_no_host":            "http: `endpoint` must be a URL that begins with https:// or http:// and names a host",
		"audit/http_not_a_url":          "http: `endpoint` must be a URL that begins with https:// or http:// and names a host",
		"audit/http_fragment":           "http: `endpoint` must not have a fragment",
		"audit/http_plain":              "set `tls::insecure: true`",
		"audit/http_format":             "http: `format` must be events, ndjson or otlp_json, found \"csv\"",
		"audit/http_small":              "http: `max_request_bytes` must be from 4096 to 67108864, found 100",
		"audit/http_no_records":         "http: `max_request_records` must be from 1 to 100000, found 0",
		"audit/http_short_secret":       "http: `signing_secrets[1]` must have at least 16 bytes, found 4",
		"audit/http_own_header":         "http: `headers` must not set X-Audit-Signature",
		"audit/http_negative_timeout":   "http: `timeout` must not be negative",
		"audit/http_unknown":            "http_path",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(t, name)
			require.ErrorContains(t, err, want)
			assert.NotContains(t, err.Error(), "hush")
		})
	}
}

// startHTTP starts an exporter that posts to r.
func startHTTP(t *testing.T, r *receivertest.Receiver, change func(*HTTPConfig)) *fixture {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "none")
	return startWith(t, directory, func(c *Config) {
		block := defaultHTTPConfig()
		block.Endpoint = r.URL
		change(&block)
		c.File = configoptional.None[FileConfig]()
		c.HTTP = configoptional.Some(block)
		c.Quarantine.Directory = directory + ".quarantine"
		require.NoError(t, confmap.Validate(c))
	})
}

// What the endpoint gets is what was sealed: the whole way, compressed and
// signed, in each format.
func TestHTTPEndToEnd(t *testing.T) {
	for format, want := range map[string]int{"events": 20, "ndjson": 21, "otlp_json": 21} {
		t.Run(format, func(t *testing.T) {
			r := receivertest.New(t, receivertest.Config{Format: format, Secret: "0123456789abcdef"})
			f := startHTTP(t, r, func(c *HTTPConfig) {
				c.Format = format
				c.Compression = "gzip"
				c.SigningSecrets = []configopaque.String{"0123456789abcdef"}
				c.Headers.Set("X-Team", "audit")
			})
			var s sealer
			logs := s.batch(t, 20)
			s.checkpoint(t, logs)
			logs.MarkReadOnly()
			f.deliver(t, logs)
			assert.Len(t, r.Lines(), want)
			request := r.Requests()[0]
			assert.Equal(t, "gzip", request.Header.Get("Content-Encoding"))
			assert.Equal(t, "audit", request.Header.Get("X-Team"))
			assert.Equal(t, "Basic "+base64.StdEncoding.EncodeToString([]byte("user-hush:password-hush")), request.Header.Get("Authorization"))
			assert.NotContains(t, string(request.Body), "REDACTED")
		})
	}
}

// An expired token loses nothing, and says what to do; the status goes back to
// OK by itself.
func TestW19ExpiredTokenLosesNothing(t *testing.T) {
	r := receivertest.New(t, receivertest.Config{Format: "ndjson"})
	f := startHTTP(t, r, func(c *HTTPConfig) { c.Format = "ndjson" })
	var s sealer
	logs := s.batch(t, 3)
	r.Next(receivertest.Fault{Status: http.StatusUnauthorized, Body: "hush"})
	d := &receipt.Delivery{}
	err := f.ConsumeLogs(receipt.WithDelivery(t.Context(), d), logs)
	require.ErrorContains(t, err, "renew what `http::auth` or `http::headers` presents")
	assert.NotContains(t, err.Error(), "hush")
	f.deliver(t, logs)
	assert.Len(t, r.Lines(), 3)
	assert.Empty(t, d.Take())
	statuses := f.host.statuses()
	require.Len(t, statuses, 2)
	assert.Equal(t, componentstatus.StatusRecoverableError, statuses[0])
	assert.Equal(t, componentstatus.StatusOK, statuses[1])
	f.assertNoContentInLogs(t)
}

// An endpoint that says when to come again is written to then, and not after a
// cool-down that is longer.
func TestHTTPRetryAfterOpensNoBreaker(t *testing.T) {
	r := receivertest.New(t, receivertest.Config{Format: "ndjson"})
	f := startHTTP(t, r, func(c *HTTPConfig) { c.Format = "ndjson" })
	r.Next(receivertest.Fault{Status: http.StatusTooManyRequests, Header: map[string]string{"Retry-After": "1"}})
	var s sealer
	logs := s.batch(t, 3)
	start := time.Now()
	require.ErrorContains(t, f.ConsumeLogs(t.Context(), logs), "429")
	for range 10 { // as the processor does: each waits instead of failing
		if f.ConsumeLogs(t.Context(), logs) == nil {
			break
		}
	}
	assert.Len(t, r.Lines(), 3)
	assert.GreaterOrEqual(t, time.Since(start), time.Second)
	assert.Len(t, r.Requests(), 2, "nothing is sent before")
	assert.Empty(t, f.logs.FilterMessageSnippet("circuit breaker").All())
}

// A record that the endpoint refuses for good goes to quarantine, is reported to
// be sealed, and is sent once more when an operator asks for that.
func TestHTTPQuarantineAndReplay(t *testing.T) {
	r := receivertest.New(t, receivertest.Config{Format: "ndjson", Poison: func(line string) bool { return strings.Contains(line, "hushhush") }})
	f := startHTTP(t, r, func(c *HTTPConfig) { c.Format = "ndjson" })
	var s sealer
	reports := f.deliver(t, s.poisoned(t))
	require.Len(t, reports, 1)
	assert.Equal(t, receipt.Quarantined, reports[0].Action)
	assert.Contains(t, reports[0].Reason, "422")
	assert.Contains(t, r.Lines()[1], `"gone":"quarantined"`)
	f.assertHeld(t)

	ask(t, f, quarantine.Replay, "the endpoint was mended")
	assert.Empty(t, f.deliver(t, s.batch(t, 1)))
	assert.Contains(t, f.failure(t), "the sink still refuses the record")

	r.SetPoison(nil)
	ask(t, f, quarantine.Replay, "the endpoint was mended")
	reports = f.deliver(t, s.batch(t, 1))
	require.Len(t, reports, 1)
	assert.Equal(t, receipt.Replayed, reports[0].Action)
	assert.Len(t, r.Lines(), 7, "beside the stub")
	f.assertNoContentInLogs(t)
}

// A client that cannot be made names the block.
func TestHTTPStartRefuses(t *testing.T) {
	config := createDefaultConfig().(*Config)
	block := defaultHTTPConfig()
	block.Endpoint = "https://collect.example"
	block.Auth = configoptional.Some(configauth.Config{AuthenticatorID: component.MustNewID("bearertokenauth")})
	config.HTTP = configoptional.Some(block)
	config.Quarantine.Directory = t.TempDir()
	logs, err := NewFactory().CreateLogs(t.Context(), exportertest.NewNopSettings(metadata.Type), config)
	require.NoError(t, err)
	require.ErrorContains(t, logs.Start(t.Context(), componenttest.NewNopHost()), "`http`: ")
	require.NoError(t, logs.Shutdown(context.Background()))
}

// The header of an answer is bounded, as its body is.
func TestHTTPAnswerHeaderIsBounded(t *testing.T) {
	for _, size := range []int{maxAnswerHeader / 2, 2 * maxAnswerHeader} {
		r := receivertest.New(t, receivertest.Config{Format: "ndjson", Handler: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("X-Long", strings.Repeat("x", size))
			return false
		}})
		f := startHTTP(t, r, func(c *HTTPConfig) { c.Format = "ndjson" })
		var s sealer
		err := f.ConsumeLogs(t.Context(), s.batch(t, 1))
		if size < maxAnswerHeader {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "no answer from the endpoint")
		}
		require.NoError(t, f.Shutdown(t.Context()))
	}
}

// The endpoint outlives the exporter, and no connection to it is left.
func TestHTTPShutdownClosesConnections(t *testing.T) {
	r := receivertest.New(t, receivertest.Config{Format: "ndjson"})
	f := startHTTP(t, r, func(c *HTTPConfig) { c.Format = "ndjson" })
	var s sealer
	f.deliver(t, s.batch(t, 1))
	require.Equal(t, 1, r.Connections())
	require.NoError(t, f.Shutdown(t.Context()))
	assert.Eventually(t, func() bool { return r.Connections() == 0 }, time.Minute, time.Millisecond)
}
