// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net"
	"net/netip"
	"strings"
)

const defaultAuditEndpoint = "127.0.0.1:4319"

// checkReceivers judges the doors of the audit pipelines.
func (e *examination) checkReceivers() {
	for _, p := range e.audits {
		for _, r := range receiversBefore(p) {
			if r.defined {
				e.checkReceiver(r)
			}
		}
	}
}

func (e *examination) checkReceiver(r *part) {
	switch {
	case r.is(auditType):
		e.checkOurDoors(r)
		e.checkTenantHeader(r)
	case r.is("otlp"):
		e.checkProtocol(r, "localhost:4317", "protocols", "grpc")
		e.checkProtocol(r, "localhost:4318", "protocols", "http")
	case r.is("nop"):
	case r.is("kafka"):
		e.checkKafka(r)
	case r.is("filelog", "journald", "windowseventlog", "otlpjsonfile"):
		e.checkTail(r)
	default:
		e.found(codeReceiverOther, r, nil,
			"it is not known whether it answers its senders only once the events are kept, nor whom it lets in",
			"send audit events to the `audit` or the `otlp` receiver")
	}
}

// checkOurDoors judges the servers of an audit receiver, and whether it is told
// to bear plaintext for nothing.
func (e *examination) checkOurDoors(r *part) {
	plain := e.checkDoor(r, defaultAuditEndpoint, "http")
	plain = e.checkProtocol(r, "127.0.0.1:4317", "grpc") || plain
	if bears, ok := e.boolean(r, false, "insecure"); ok && bears && !plain {
		e.found(codeInsecureIdle, r, []string{"insecure"},
			"no endpoint of this receiver takes plaintext from other machines: once one does, nothing refuses it any more",
			"remove `insecure: true`")
	}
}

// checkProtocol judges one server of a receiver, if it is on. See checkDoor.
func (e *examination) checkProtocol(r *part, fallback string, keys ...string) (plain bool) {
	n := r.node.at(keys...)
	if n == nil {
		return false
	}
	if enabled, ok := n.at("enabled").boolean(); ok && !enabled {
		return false
	}
	return e.checkDoor(r, fallback, keys...)
}

// checkDoor judges a server that the audit events come in by. It is plain if
// other machines reach it without TLS, or may.
func (e *examination) checkDoor(r *part, fallback string, keys ...string) (plain bool) {
	at := func(key string) []string { return append(keys[:len(keys):len(keys)], key) }
	if n := r.node.at(keys...); n.unknown() {
		e.unresolved(n, r.path(keys...))
		return true
	}
	if transport, ok := e.string(r, "tcp", at("transport")...); ok && strings.HasPrefix(transport, "unix") {
		return false
	}
	protected := e.has(r, at("tls")...)
	authenticated := e.has(r, at("auth")...) || protected && !r.node.at(append(at("tls"), "client_ca_file")...).unset()
	if protected && authenticated {
		return false
	}
	endpoint, ok := e.endpoint(r, fallback, at("endpoint")...)
	if !ok || loopback(endpoint) {
		return !ok
	}
	bears, _ := r.node.at("insecure").boolean()
	switch {
	case protected:
	case bears && isAudit(r):
		e.found(codePlaintextAsked, r, at("endpoint"),
			"`insecure: true` has "+shorten(endpoint)+" take audit events in plaintext from other machines: whoever listens on the way reads them, before redaction, and the credentials of their senders",
			"set `"+join(at("tls")...)+"`, or make sure that a service mesh or a gateway on the same machine encrypts the way")
	default:
		e.found(codePlaintextDoor, r, at("endpoint"),
			shorten(endpoint)+" is reachable from other machines, without TLS: whoever listens on the way reads audit events, before redaction, and the credentials of their senders",
			"set `"+join(at("tls")...)+"`: `{cert_file: …, key_file: …}`, or listen on 127.0.0.1")
	}
	if !authenticated {
		e.found(codeOpenDoor, r, at("endpoint"),
			shorten(endpoint)+" takes events from whoever reaches it: evidence then says what anybody wrote",
			"set `"+join(at("auth")...)+"`: `{authenticator: …}`, or `"+join(append(at("tls"), "client_ca_file")...)+"`")
	}
	return !protected
}

// endpoint is where a server listens. Its host may be known where its port is
// not: `0.0.0.0:${env:PORT}`.
func (e *examination) endpoint(r *part, fallback string, keys ...string) (string, bool) {
	n := r.node.at(keys...)
	if n.unknown() && n.kind == scalar {
		if host, _, _ := strings.Cut(n.text, "${"); strings.HasSuffix(host, ":") {
			return host + "0", true
		}
	}
	return e.string(r, fallback, keys...)
}

// loopback says that no other machine reaches an endpoint.
func loopback(endpoint string) bool {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		host = endpoint
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

func (e *examination) checkTenantHeader(r *part) {
	if r.node.at("tenant", "header").unset() || e.has(r, "http", "auth") {
		return
	}
	e.found(codeTenantHeader, r, []string{"tenant", "header"},
		"whoever reaches the endpoint chooses the tenant: the header is believed without authentication",
		"set `http::auth` and `tenant::attribute`, or let only a gateway that overwrites the header reach the endpoint")
}

func (e *examination) checkKafka(r *part) {
	const cure = "write `message_marking: {after: true, on_error: false}`: an offset is then committed once the journal has the events"
	after, ok := e.boolean(r, false, "message_marking", "after")
	if !ok {
		return
	}
	if !after {
		e.found(codeKafkaMarks, r, []string{"message_marking", "after"},
			"offsets are marked before the journal has the events, and committed by themselves: a crash or a refusal skips messages for good", cure)
		return
	}
	onError, ok := e.boolean(r, false, "message_marking", "on_error")
	if ok && onError {
		e.found(codeKafkaMarks, r, []string{"message_marking", "on_error"},
			"messages that the journal refused for the moment are marked as done and never read again", cure)
		return
	}
	if permanent, ok := e.boolean(r, false, "message_marking", "on_permanent_error"); ok && permanent {
		e.found(codeKafkaMarks, r, []string{"message_marking", "on_permanent_error"},
			"messages that are refused for good are marked as done: nothing keeps them",
			"keep `on_permanent_error: false`, or `validation: {on_invalid: flag}` in the processor, which refuses none")
	}
}

// checkTail judges receivers that read on from where they were.
func (e *examination) checkTail(r *part) {
	retries, ok := e.boolean(r, false, "retry_on_failure", "enabled")
	if ok && !retries {
		e.found(codeReceiverDrops, r, []string{"retry_on_failure"},
			"off by default: what the journal refuses for the moment, full or starting, is dropped",
			"write `retry_on_failure: {enabled: true, max_elapsed_time: 0}`")
	}
	if ok && retries {
		elapsed, known := e.duration(r, defaultMaxElapsed, "retry_on_failure", "max_elapsed_time")
		if known && elapsed != 0 {
			e.found(codeReceiverDrops, r, []string{"retry_on_failure", "max_elapsed_time"},
				"after "+elapsed.String()+" of refusals the receiver drops the events",
				"write `retry_on_failure: {enabled: true, max_elapsed_time: 0}`")
		}
	}
	if r.node.at("storage").unset() {
		e.found(codeReceiverOffset, r, []string{"storage"},
			"where it has read up to is kept in memory: after a restart events are skipped or come again",
			"write `storage: file_storage`, and define that extension with `fsync: true`")
		return
	}
	e.checkStorage(r, "storage")
}
