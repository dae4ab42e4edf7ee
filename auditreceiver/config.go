// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
)

const (
	defaultEndpoint       = "127.0.0.1:4319"
	defaultGRPCEndpoint   = "127.0.0.1:4317"
	defaultMessageMiB     = 4
	defaultMaxBody        = 20 << 20
	defaultMaxInFlight    = 64 << 20
	defaultRequestTimeout = 25 * time.Second
	defaultReadTimeout    = 30 * time.Second
	defaultHeaderTimeout  = 10 * time.Second
)

// Config of the audit receiver.
type Config struct {
	// HTTP is the server: endpoint, tls, auth, cors, max_request_body_size and
	// everything else that the collector's HTTP servers have. Default endpoint
	// 127.0.0.1:4319.
	HTTP confighttp.ServerConfig `mapstructure:"http"`

	// GRPC is a server of OTLP over gRPC: endpoint, tls, auth, keepalive,
	// max_recv_msg_size_mib and everything else that the collector's gRPC
	// servers have. Default: off; where it is written, its endpoint is
	// 127.0.0.1:4317 and its largest message 4 MiB.
	GRPC configoptional.Optional[configgrpc.ServerConfig] `mapstructure:"grpc"`

	// Tenant says where the tenant of a caller comes from. Default: nowhere,
	// the events name their own.
	Tenant TenantConfig `mapstructure:"tenant"`

	// Callers says which caller may write for which tenants and services.
	// Default: every caller for any.
	Callers CallersConfig `mapstructure:"callers"`

	// Insecure lets a server listen without TLS where other machines reach it.
	// Default false: plaintext is for loopback addresses and unix sockets.
	Insecure bool `mapstructure:"insecure"`

	// MaxInFlightBytes bounds the memory of all requests that are worked on at
	// one time: their bodies after decompression and an estimate of what their
	// events take. Requests above it are answered with 429. Messages that are
	// being read from gRPC may take as much again. At least
	// http::max_request_body_size. Default 64 MiB.
	MaxInFlightBytes int64 `mapstructure:"max_in_flight_bytes"`

	// RequestTimeout bounds the time that the pipeline has for one request;
	// the answer then is 503, and whether the events are stored is unknown.
	// Below http::write_timeout, so that the answer is still sent. Default 25 s.
	RequestTimeout time.Duration `mapstructure:"request_timeout"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// TenantConfig says where the tenant of a caller comes from. Once either is
// set, a caller without a tenant is refused with 403.
type TenantConfig struct {
	// Attribute names what the authenticators of http::auth and grpc::auth know
	// a caller's tenant by. It wins over Header.
	Attribute string `mapstructure:"attribute"`
	// Header is a request header. Whoever can reach the endpoint can choose
	// it: set it only behind a gateway that overwrites it.
	Header string `mapstructure:"header"`

	// prevent unkeyed literal initialization
	_ struct{}
}

func createDefaultConfig() component.Config {
	server := confighttp.NewDefaultServerConfig()
	server.NetAddr.Endpoint = defaultEndpoint
	server.MaxRequestBodySize = defaultMaxBody
	// A slow sender holds its part of the budget: not for ever.
	server.ReadTimeout = defaultReadTimeout
	server.ReadHeaderTimeout = defaultHeaderTimeout
	// Not snappy: its blocks are read whole before anything can admit them.
	server.CompressionAlgorithms = []string{"", "gzip", encodingZstd, "zlib", "deflate"}
	calls := configgrpc.NewDefaultServerConfig()
	calls.NetAddr.Endpoint = defaultGRPCEndpoint
	calls.MaxRecvMsgSizeMiB = defaultMessageMiB
	calls.MaxConcurrentStreams = maxStreams
	return &Config{
		HTTP:             server,
		GRPC:             configoptional.Default(calls),
		MaxInFlightBytes: defaultMaxInFlight,
		RequestTimeout:   defaultRequestTimeout,
	}
}

// Validate names every key whose value cannot work.
func (c *Config) Validate() error {
	var errs []error
	if c.HTTP.NetAddr.Endpoint == "" {
		errs = append(errs, errors.New("`http::endpoint` must be set, for example to "+defaultEndpoint))
	}
	if c.GRPC.HasValue() && c.GRPC.Get().NetAddr.Endpoint == "" {
		errs = append(errs, errors.New("`grpc::endpoint` must be set, for example to "+defaultGRPCEndpoint))
	}
	if message := c.maxMessage(); c.GRPC.HasValue() && c.MaxInFlightBytes < message {
		errs = append(errs, fmt.Errorf("`max_in_flight_bytes` must be at least `grpc::max_recv_msg_size_mib` (%d), found %d", message, c.MaxInFlightBytes))
	}
	if body := c.maxBody(); c.MaxInFlightBytes < body {
		errs = append(errs, fmt.Errorf("`max_in_flight_bytes` must be at least `http::max_request_body_size` (%d), found %d", body, c.MaxInFlightBytes))
	}
	if c.RequestTimeout <= 0 {
		errs = append(errs, fmt.Errorf("`request_timeout` must be positive, found %s", c.RequestTimeout))
	}
	if c.HTTP.WriteTimeout > 0 && c.RequestTimeout >= c.HTTP.WriteTimeout {
		errs = append(errs, fmt.Errorf("`request_timeout` must be below `http::write_timeout` (%s), found %s", c.HTTP.WriteTimeout, c.RequestTimeout))
	}
	return errors.Join(append(errs, c.validateTenant(), c.validateCallers(), c.validateTransport())...)
}

func (c *Config) validateTenant() error {
	var errs []error
	if c.Tenant.Attribute != "" && !c.HTTP.Auth.HasValue() {
		errs = append(errs, errors.New("`tenant::attribute` needs an authenticator: set `http::auth`"))
	}
	if c.Tenant.Attribute != "" && c.GRPC.HasValue() && !c.GRPC.Get().Auth.HasValue() {
		errs = append(errs, errors.New("`tenant::attribute` needs an authenticator: set `grpc::auth`"))
	}
	if c.Tenant.Header == "" {
		return errors.Join(errs...)
	}
	if strings.ContainsFunc(c.Tenant.Header, notInHeaderName) {
		errs = append(errs, fmt.Errorf("`tenant::header` must be the name of a header, found %q", c.Tenant.Header))
	}
	if strings.EqualFold(c.Tenant.Header, "Authorization") || strings.EqualFold(c.Tenant.Header, "Cookie") {
		errs = append(errs, fmt.Errorf("`tenant::header` must not name a header that carries secrets, found %q", c.Tenant.Header))
	}
	return errors.Join(errs...)
}

// validateCallers sees to it that each server can tell who calls.
func (c *Config) validateCallers() error {
	const noCertificate = "`callers::identity: certificate` needs certificates of clients: set `%s::tls::client_ca_file`"
	const noAttribute = "`callers::identity` needs an authenticator: set `%s::auth`"
	var errs []error
	check := func(server string, tls *configoptional.Optional[configtls.ServerConfig], auth bool) {
		switch {
		case c.Callers.Identity == identityCertificate && (!tls.HasValue() || tls.Get().ClientCAFile == ""):
			errs = append(errs, fmt.Errorf(noCertificate, server))
		case c.Callers.Identity != identityCertificate && !auth:
			errs = append(errs, fmt.Errorf(noAttribute, server))
		}
	}
	if c.Callers.Identity == "" {
		return nil
	}
	check("http", &c.HTTP.TLS, c.HTTP.Auth.HasValue())
	if c.GRPC.HasValue() {
		check("grpc", &c.GRPC.Get().TLS, c.GRPC.Get().Auth.HasValue())
	}
	return errors.Join(errs...)
}

// notInHeaderName says that r is not a token character of RFC 9110.
func notInHeaderName(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// maxBody is the size in bytes that the server takes at most; confighttp reads
// a missing one as its default.
func (c *Config) maxBody() int64 {
	if c.HTTP.MaxRequestBodySize <= 0 {
		return defaultMaxBody
	}
	return c.HTTP.MaxRequestBodySize
}

// maxMessage is the size in bytes of the largest gRPC message; configgrpc reads
// a missing one as grpc's default.
func (c *Config) maxMessage() int64 {
	if !c.GRPC.HasValue() || c.GRPC.Get().MaxRecvMsgSizeMiB <= 0 {
		return defaultMessageMiB << 20
	}
	return int64(c.GRPC.Get().MaxRecvMsgSizeMiB) << 20
}

// readTimeout is what a request has to come in, over gRPC as over HTTP.
func (c *Config) readTimeout() time.Duration {
	if c.HTTP.ReadTimeout <= 0 {
		return defaultReadTimeout
	}
	return c.HTTP.ReadTimeout
}
