// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"go.opentelemetry.io/collector/config/confignet"
)

// validateTransport refuses plaintext that leaves the machine: audit events are
// not redacted yet, and credentials travel with them.
func (c *Config) validateTransport() error {
	if c.Insecure {
		return nil
	}
	errs := []error{plaintext("http", &c.HTTP.NetAddr, c.HTTP.TLS.HasValue())}
	if c.GRPC.HasValue() {
		errs = append(errs, plaintext("grpc", &c.GRPC.Get().NetAddr, c.GRPC.Get().TLS.HasValue()))
	}
	return errors.Join(errs...)
}

func plaintext(server string, address *confignet.AddrConfig, encrypted bool) error {
	if encrypted || address.Endpoint == "" || strings.HasPrefix(string(address.Transport), "unix") || isLoopback(address.Endpoint) {
		return nil
	}
	return fmt.Errorf("`%s::endpoint` %s takes audit events in plaintext from other machines: "+
		"set `%s::tls`, listen on 127.0.0.1, or write `insecure: true` if something else protects the way", server, address.Endpoint, server)
}

// isLoopback says that no other machine reaches an endpoint.
func isLoopback(endpoint string) bool {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
