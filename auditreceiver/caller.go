// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// identityCertificate is the value of callers::identity that means the name in
// the client's certificate.
const identityCertificate = "certificate"

// CallersConfig says which caller may write for which tenants and services.
// Once it is set, a caller that it does not name is refused with 403.
type CallersConfig struct {
	// Identity says what a caller is known by: `certificate`, the name in the
	// client's certificate, or else an attribute of the authenticators of
	// http::auth and grpc::auth. The name in a certificate is its only URI, else
	// its only DNS name, else the common name of its subject.
	Identity string `mapstructure:"identity"`
	// Allow has one entry for each caller.
	Allow []AllowConfig `mapstructure:"allow"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// AllowConfig is what one caller may write.
type AllowConfig struct {
	// Identity of the caller.
	Identity string `mapstructure:"identity"`
	// Tenants that it may write for. With one, that is the tenant of all its
	// events. With several each event names its own. Empty: any.
	Tenants []string `mapstructure:"tenants"`
	// Services that it may write for, as service.name of the resource (for
	// /v1/events: context.sourceService). Empty: any.
	Services []string `mapstructure:"services"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// Validate names the keys whose values cannot work.
func (c *CallersConfig) Validate() error {
	var errs []error
	if (c.Identity == "") != (len(c.Allow) == 0) {
		errs = append(errs, errors.New("`callers` must have both `identity` and `allow`, or neither"))
	}
	known := map[string]bool{}
	for i := range c.Allow {
		allow := &c.Allow[i]
		if allow.Identity == "" {
			errs = append(errs, fmt.Errorf("`callers::allow[%d]::identity` must be set", i))
		}
		if known[allow.Identity] {
			errs = append(errs, fmt.Errorf("`callers::allow[%d]::identity` is there twice: %q", i, allow.Identity))
		}
		known[allow.Identity] = true
		if slices.Contains(allow.Tenants, "") || slices.Contains(allow.Services, "") {
			errs = append(errs, fmt.Errorf("`callers::allow[%d]` must not name an empty tenant or service", i))
		}
	}
	return errors.Join(errs...)
}

// caller is who sent a request, as far as it matters.
type caller struct {
	tenant string       // authenticated; empty if none
	allow  *AllowConfig // what it may write; nil: anything
}

var (
	errNoIdentity  = errors.New("the caller cannot be identified: authenticate, with a certificate or a user that has exactly one name")
	errWrongTenant = errors.New("the caller may not write for this tenant")
)

// caller finds out who sent a request. An error is for the caller to read.
func (c *Config) caller(ctx context.Context, header http.Header, connection *tls.ConnectionState) (*caller, error) {
	tenant, err := c.Tenant.tenant(ctx, header)
	if err != nil {
		return nil, err
	}
	who := &caller{tenant: tenant}
	if c.Callers.Identity == "" {
		return who, nil
	}
	name := c.Callers.identityOf(ctx, connection)
	if name == "" {
		return nil, errNoIdentity
	}
	i := slices.IndexFunc(c.Callers.Allow, func(a AllowConfig) bool { return a.Identity == name })
	if i < 0 {
		return nil, fmt.Errorf("the caller %q is not one that may write here: `callers::allow` does not have it", shortName(name))
	}
	who.allow = &c.Callers.Allow[i]
	switch tenants := who.allow.Tenants; {
	case tenant == "" && len(tenants) == 1:
		who.tenant = tenants[0]
	case tenant != "" && len(tenants) > 0 && !slices.Contains(tenants, tenant):
		return nil, errWrongTenant
	}
	return who, nil
}

// receipt returns one for the pipeline to fill.
func (c *caller) receipt() *receipt.Receipt {
	return &receipt.Receipt{Tenant: c.tenant, IntegrityHash: true}
}

// identityOf returns the one name of a caller, empty if there is not just one.
func (c *CallersConfig) identityOf(ctx context.Context, connection *tls.ConnectionState) string {
	if c.Identity == identityCertificate {
		// Verified: who only holds a certificate may have made it himself.
		if connection == nil || len(connection.VerifiedChains) == 0 {
			return ""
		}
		return certificateName(connection.PeerCertificates[0])
	}
	auth := client.FromContext(ctx).Auth
	if auth == nil {
		return ""
	}
	switch value := auth.GetAttribute(c.Identity).(type) {
	case string:
		return value
	case []string:
		if len(value) == 1 {
			return value[0]
		}
	}
	return ""
}

// shortName bounds what an answer repeats of a caller's name.
func shortName(name string) string {
	const most = 256
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}

func certificateName(certificate *x509.Certificate) string {
	switch {
	case len(certificate.URIs) == 1:
		return certificate.URIs[0].String()
	case len(certificate.URIs) > 1:
		return ""
	case len(certificate.DNSNames) == 1:
		return certificate.DNSNames[0]
	case len(certificate.DNSNames) > 1:
		return ""
	}
	return certificate.Subject.CommonName
}

// names is what a path calls the members that say whose a record is.
type names struct{ tenant, service string }

var (
	eventNames  = names{tenant: "context.tenantId", service: "context.sourceService"}
	recordNames = names{tenant: audit.AttributeTenantID, service: audit.ResourceServiceName}
)

const (
	problemForeign  = ": is not the tenant of the caller: leave it out, or authenticate as that tenant"
	problemTenant   = ": must be a tenant that the caller may write for"
	problemServices = ": must be a service that the caller may write for"
)

// judge says what is wrong with a record of the caller's, empty if nothing is.
func (c *caller) judge(resource pcommon.Resource, record plog.LogRecord, called *names) string {
	if isForeign(record, c.tenant) {
		return called.tenant + problemForeign
	}
	if c.allow == nil {
		return ""
	}
	if c.tenant == "" && !allows(c.allow.Tenants, record.Attributes(), audit.AttributeTenantID) {
		return called.tenant + problemTenant
	}
	if !allows(c.allow.Services, resource.Attributes(), audit.ResourceServiceName) {
		return called.service + problemServices
	}
	return ""
}

// allows says whether an attribute is one of those that are allowed, each time
// that it is there: of repeated names the last counts, and a redactor or a
// sink may see another.
func allows(allowed []string, attributes pcommon.Map, name string) bool {
	if len(allowed) == 0 {
		return true
	}
	found := false
	for key, value := range attributes.All() {
		if key != name {
			continue
		}
		if value.Type() != pcommon.ValueTypeStr || !slices.Contains(allowed, value.Str()) {
			return false
		}
		found = true
	}
	return found
}

// isForeign says whether a record names another tenant than the authenticated
// one.
func isForeign(record plog.LogRecord, tenant string) bool {
	if tenant == "" {
		return false
	}
	for key, value := range record.Attributes().All() {
		if key == audit.AttributeTenantID && (value.Type() != pcommon.ValueTypeStr || value.Str() != tenant) {
			return true
		}
	}
	return false
}
