// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// checkPlaintextSink finds sinks of ours on other machines that records may go
// to without TLS. What only the collector knows it does not judge: such
// addresses hold secrets, and belong into the environment.
func (e *examination) checkPlaintextSink(x *part) {
	const cure = "use `https`, or reach the endpoint through something on this machine that encrypts"
	if text, ok := x.node.at("http", "endpoint").partly(); ok {
		address, err := url.Parse(text)
		if err == nil && strings.EqualFold(address.Scheme, "http") && !loopback(address.Hostname()) {
			e.found(codePlaintextSink, x, []string{"http", "endpoint"},
				"records and credentials go to another machine without TLS: whoever listens on the way reads what was audited", cure)
		}
	}
	text, ok := x.node.at("postgres", "dsn").partly()
	if !ok {
		return
	}
	hosts, mode := readDSN(text)
	if !slices.ContainsFunc(hosts, isRemote) || slices.Contains([]string{"require", "verify-ca", "verify-full", unresolvedText}, mode) {
		return
	}
	if mode == "" {
		mode = "prefer, where it is left out,"
	}
	e.found(codePlaintextSink, x, []string{"postgres", "dsn"},
		"`sslmode` "+shorten(mode)+" lets records and the password go to another machine without TLS: whoever is on the way reads what was audited",
		"write `sslmode=verify-full` and `sslrootcert`")
}

// unresolvedText stands for what only the collector knows within a text.
const unresolvedText = "unresolved"

var placeholder = regexp.MustCompile(`\$\{[^}]*\}`)

// partly is a text, with unresolvedText for what only the collector knows. It
// is not ok where nothing else is there.
func (n *node) partly() (text string, ok bool) {
	if n == nil || n.kind != scalar || placeholder.ReplaceAllString(n.text, "") == "" {
		return "", false
	}
	return placeholder.ReplaceAllString(n.text, unresolvedText), true
}

var dsnPair = regexp.MustCompile(`(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)`)

// readDSN finds the hosts and the sslmode of a URL or of key=value pairs. Hosts
// that come from elsewhere, a service file or the environment, it does not know.
func readDSN(dsn string) (hosts []string, mode string) {
	if scheme, rest, isURL := strings.Cut(dsn, "://"); isURL && strings.HasPrefix(scheme, "postgres") {
		authority, query, _ := strings.Cut(rest, "?")
		authority, _, _ = strings.Cut(authority, "/")
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, ""
		}
		named := append(strings.Split(authority[strings.LastIndex(authority, "@")+1:], ","), values["host"]...)
		return named, values.Get("sslmode")
	}
	for _, pair := range dsnPair.FindAllStringSubmatch(dsn, -1) {
		value := strings.Trim(pair[2], "'")
		switch pair[1] {
		case "host", "hostaddr":
			hosts = append(hosts, strings.Split(value, ",")...)
		case "sslmode":
			mode = value
		}
	}
	return hosts, mode
}

// isRemote says that a host is another machine. One that is not known, or is a
// socket, is not.
func isRemote(host string) bool {
	known := host != "" && !strings.HasPrefix(host, "/") && !strings.HasPrefix(host, unresolvedText) && !strings.HasPrefix(host, "%2F")
	return known && !loopback(host) && !loopback(strings.Trim(host, "[]"))
}
