// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"go.opentelemetry.io/collector/client"

	"github.com/otelaudit/otelaudit/audit"
)

// maxTenant keeps the name of a tenant's stream within audit.MaxStream.
const maxTenant = audit.MaxStream - len(audit.StreamTenant)

// tenant returns the authenticated tenant of a caller, "" where the
// configuration names no source for it. An error is for the caller to read.
func (c *TenantConfig) tenant(ctx context.Context, header http.Header) (string, error) {
	if c.Attribute == "" && c.Header == "" {
		return "", nil
	}
	name, err := c.fromAuth(ctx)
	if name == "" && err == nil {
		name, err = c.fromHeader(header)
	}
	switch {
	case err != nil:
		return "", err
	case name == "":
		return "", errors.New("the caller has no tenant: authenticate as one, or name it where this collector looks for it")
	case len(name) > maxTenant:
		return "", fmt.Errorf("the caller's tenant is longer than %d bytes", maxTenant)
	case !utf8.ValidString(name):
		return "", errors.New("the caller's tenant is not valid UTF-8")
	}
	return name, nil
}

func (c *TenantConfig) fromAuth(ctx context.Context) (string, error) {
	auth := client.FromContext(ctx).Auth
	if c.Attribute == "" || auth == nil {
		return "", nil
	}
	switch value := auth.GetAttribute(c.Attribute).(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	case []string:
		if len(value) == 1 {
			return value[0], nil
		}
	}
	return "", errors.New("the caller's authentication does not name exactly one tenant")
}

func (c *TenantConfig) fromHeader(header http.Header) (string, error) {
	if c.Header == "" {
		return "", nil
	}
	values := header.Values(c.Header)
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", fmt.Errorf("the header %s is there %d times: send it once", c.Header, len(values))
}

// callerContext is what the pipeline gets: it goes on when the client has gone
// away, and knows of the client its address and its tenant's header alone. No
// credential is in it, because queues write what they know to disk.
func (c *TenantConfig) callerContext(ctx context.Context, header http.Header) context.Context {
	info := client.Info{Addr: client.FromContext(ctx).Addr}
	if c.Header != "" {
		if values := header.Values(c.Header); len(values) > 0 {
			info.Metadata = client.NewMetadata(map[string][]string{c.Header: values})
		}
	}
	return client.NewContext(context.WithoutCancel(ctx), info)
}
