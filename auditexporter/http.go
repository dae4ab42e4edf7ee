// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/extension/extensionmiddleware"

	"github.com/otelaudit/otelaudit/auditexporter/internal/httpsink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// Bounds of HTTPConfig.
const (
	minRequestBytes     = 4 << 10
	defaultRequestBytes = 1 << 20
	maxRequestBytes     = 64 << 20

	defaultRequestRecords = 1_000
	maxRequestRecords     = 100_000

	minSecretBytes = 16
)

// HTTPConfig says where and how the HTTP sink sends. It has all the keys of the
// collector's HTTP clients: `endpoint` (required, the whole URL), `tls`, `auth`,
// `compression`, `headers`, `timeout` of one request (default 30 s) and others.
type HTTPConfig struct {
	confighttp.ClientConfig `mapstructure:",squash"`

	// Format is what a body holds: `events` (default), `ndjson` or `otlp_json`.
	Format string `mapstructure:"format"`
	// MaxRequestBytes bounds a body before compression. A single record that
	// is larger is sent alone. 4 KiB to 64 MiB, default 1 MiB.
	MaxRequestBytes int `mapstructure:"max_request_bytes"`
	// MaxRequestRecords bounds the records and checkpoints of a request. 1 to
	// 100,000, default 1,000.
	MaxRequestRecords int `mapstructure:"max_request_records"`
	// SigningSecrets sign each request in X-Audit-Signature, each for itself,
	// so that one can take the place of another. At least 16 bytes each.
	SigningSecrets []configopaque.String `mapstructure:"signing_secrets"`
	// FollowRedirects allows 307 and 308; never from https to http, over http
	// to another machine only with `tls::insecure`, and to another host only
	// without credentials. Default false.
	FollowRedirects bool `mapstructure:"follow_redirects"`
}

func defaultHTTPConfig() HTTPConfig {
	client := confighttp.NewDefaultClientConfig()
	client.Timeout = 30 * time.Second
	return HTTPConfig{
		ClientConfig: client, Format: string(httpsink.FormatEvents),
		MaxRequestBytes: defaultRequestBytes, MaxRequestRecords: defaultRequestRecords,
	}
}

// ownHeaders are set by the sink for each request.
var ownHeaders = []string{"Content-Type", "Content-Encoding", "Content-Length", "Idempotency-Key", "X-Audit-Signature"}

// Validate says what is wrong with the HTTP sink's configuration. It repeats no
// address and no secret.
func (c *HTTPConfig) Validate() error {
	errs := []error{c.validateEndpoint()}
	switch httpsink.Format(c.Format) {
	case httpsink.FormatEvents, httpsink.FormatNDJSON, httpsink.FormatOTLPJSON:
	default:
		errs = append(errs, fmt.Errorf("`format` must be events, ndjson or otlp_json, found %q", c.Format))
	}
	if c.MaxRequestBytes < minRequestBytes || c.MaxRequestBytes > maxRequestBytes {
		errs = append(errs, fmt.Errorf("`max_request_bytes` must be from %d to %d, found %d", minRequestBytes, maxRequestBytes, c.MaxRequestBytes))
	}
	if c.MaxRequestRecords < 1 || c.MaxRequestRecords > maxRequestRecords {
		errs = append(errs, fmt.Errorf("`max_request_records` must be from 1 to %d, found %d", maxRequestRecords, c.MaxRequestRecords))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("`timeout` must not be negative, found %s", c.Timeout))
	}
	for i, secret := range c.SigningSecrets {
		if len(secret) < minSecretBytes {
			errs = append(errs, fmt.Errorf("`signing_secrets[%d]` must have at least %d bytes, found %d", i, minSecretBytes, len(secret)))
		}
	}
	for name := range c.Headers.Iter {
		if slices.Contains(ownHeaders, textproto.CanonicalMIMEHeaderKey(name)) {
			errs = append(errs, fmt.Errorf("`headers` must not set %s: the sink does that for each request; remove it", textproto.CanonicalMIMEHeaderKey(name)))
		}
	}
	return errors.Join(errs...)
}

func (c *HTTPConfig) validateEndpoint() error {
	if c.Endpoint == "" {
		return errors.New("`endpoint` must not be empty: it is the whole URL that records are posted to")
	}
	address, err := url.Parse(c.Endpoint)
	switch {
	case err != nil, address.Scheme != "http" && address.Scheme != "https", address.Hostname() == "":
		return errors.New("`endpoint` must be a URL that begins with https:// or http:// and names a host")
	case address.Fragment != "":
		return errors.New("`endpoint` must not have a fragment (#…): no request carries it")
	case address.Scheme == "http" && !c.TLS.Insecure && !httpsink.IsLoopback(address.Hostname()):
		return errors.New("`endpoint` must begin with https://: over plain http everybody on the way can read and change" +
			" audit records; if that is what you want, set `tls::insecure: true`")
	}
	return nil
}

// open makes the client and the sink. Nothing is sent yet.
func (c *HTTPConfig) open(ctx context.Context, host component.Host, settings component.TelemetrySettings) (sink.Sink, error) {
	client, transport, err := c.client(ctx, host, settings)
	if err != nil {
		return nil, fmt.Errorf("`http`: %w", err)
	}
	return httpsink.Open(httpsink.Config{
		Client: client, CloseIdle: transport.closeIdle, Endpoint: c.Endpoint, Format: httpsink.Format(c.Format),
		MaxRequestBytes: c.MaxRequestBytes, MaxRequestRecords: c.MaxRequestRecords, Secrets: c.SigningSecrets,
		FollowRedirects: c.FollowRedirects, Credentials: c.hasCredentials(), Plaintext: c.TLS.Insecure, Logger: settings.Logger,
	})
}

func (c *HTTPConfig) client(ctx context.Context, host component.Host, settings component.TelemetrySettings) (*http.Client, *innermost, error) {
	transport := &innermost{}
	id := component.MustNewIDWithName("audit", "http_transport")
	extensions := map[component.ID]component.Component{id: transport}
	maps.Copy(extensions, host.GetExtensions())
	config := c.ClientConfig
	config.Middlewares = append(slices.Clone(config.Middlewares), configmiddleware.Config{ID: id})
	client, err := config.ToClient(ctx, extensions, settings)
	return client, transport, err
}

// maxAnswerHeader is what the header of an answer may have, in bytes: it is in
// memory before anybody looks at it, and Go's client takes 10 MiB.
const maxAnswerHeader = 64 << 10

// innermost is the last middleware of the client. It learns the transport:
// nothing that the collector puts around that closes idle connections or can be
// told how long a header may be.
type innermost struct {
	component.StartFunc
	component.ShutdownFunc
	transport http.RoundTripper
}

// GetHTTPRoundTripper implements extensionmiddleware.HTTPClient.
func (i *innermost) GetHTTPRoundTripper(context.Context) (extensionmiddleware.WrapHTTPRoundTripperFunc, error) {
	return func(_ context.Context, transport http.RoundTripper) (http.RoundTripper, error) {
		i.transport = transport
		if transport, ok := transport.(*http.Transport); ok {
			transport.MaxResponseHeaderBytes = maxAnswerHeader
		}
		return transport, nil
	}, nil
}

func (i *innermost) closeIdle() { (&http.Client{Transport: i.transport}).CloseIdleConnections() }

// hasCredentials says whether requests carry something that another host must
// not see.
func (c *HTTPConfig) hasCredentials() bool {
	address, err := url.Parse(c.Endpoint)
	return c.Auth.HasValue() || c.Cookies.HasValue() || len(c.Middlewares) > 0 || len(c.Headers) > 0 ||
		err != nil || address.User != nil || address.RawQuery != ""
}
