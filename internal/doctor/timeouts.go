// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"time"
)

// Defaults of the time-outs that must stand in order.
const (
	defaultRequestTimeout  = 25 * time.Second // audit receiver
	defaultWriteTimeout    = 30 * time.Second // its HTTP server
	defaultAckTimeout      = 10 * time.Second // audit processor
	defaultExporterTimeout = 5 * time.Second
	defaultOTLPHTTPTimeout = 30 * time.Second
)

// checkTimeouts finds time-outs in an order that cannot hold: one attempt of
// an exporter < all its attempts < the processor's wait for a delivery < the
// receiver's wait for the pipeline < the server's for the answer.
func (e *examination) checkTimeouts() {
	for _, p := range e.sealed() {
		request := e.checkRequestTimeouts(p)
		seal := p.processors[p.seal()]
		ack, ok := e.string(seal, "durable", "ack")
		if !ok || ack != "delivered" {
			continue
		}
		wait, ok := e.duration(seal, defaultAckTimeout, "ack_timeout")
		if !ok {
			continue
		}
		if request > 0 && wait >= request {
			e.found(codeTimeoutOrder, seal, []string{"ack_timeout"},
				fmt.Sprintf("the receiver gives up after %v and answers 503, before the processor after %v answers 202: clients send again what is kept", request, wait),
				"set `ack_timeout` below the receiver's `request_timeout`")
		}
		for _, x := range exportersBehind(p) {
			if x.section == exporters && x.defined && !x.is(passing...) {
				e.checkAttempts(x, wait)
			}
		}
	}
}

// checkRequestTimeouts returns the shortest wait of the audit receivers, 0 if
// none is known.
func (e *examination) checkRequestTimeouts(p *pipeline) time.Duration {
	var shortest time.Duration
	for _, r := range receiversBefore(p) {
		if !isAudit(r) || !r.defined {
			continue
		}
		request, ok := e.duration(r, defaultRequestTimeout, "request_timeout")
		if !ok {
			continue
		}
		if shortest == 0 || request < shortest {
			shortest = request
		}
		write, ok := e.duration(r, defaultWriteTimeout, "http", "write_timeout")
		if ok && write > 0 && request >= write {
			e.found(codeTimeoutCut, r, []string{"request_timeout"},
				fmt.Sprintf("the server cuts a request off after %v, before the receiver answers after %v: the receiver does not start", write, request),
				"set `request_timeout` below `http::write_timeout`")
		}
	}
	return shortest
}

// checkAttempts finds an exporter that is still trying when the processor has
// stopped waiting.
func (e *examination) checkAttempts(x *part, wait time.Duration) {
	if e.isOptional(x) {
		return // nobody waits for it
	}
	if waits, ok := e.boolean(x, isAudit(x), "sending_queue", "wait_for_result"); ok && !waits && e.queues(x) {
		return // it answers at once, which is worse and said of the queue
	}
	const cure = "set it below the processor's `ack_timeout`"
	fallback := defaultExporterTimeout
	if x.is("otlphttp") {
		fallback = defaultOTLPHTTPTimeout
	}
	attempt, ok := e.duration(x, fallback, "timeout")
	if ok && (attempt == 0 || attempt >= wait) {
		e.found(codeTimeoutOrder, x, []string{"timeout"},
			fmt.Sprintf("one attempt may take %s, and the processor waits %v: a slow store makes every answer 202, and `ack: delivered` says nothing", endless(attempt), wait), cure)
	}
	enabled, ok := e.boolean(x, !isAudit(x), "retry_on_failure", "enabled")
	if !ok || !enabled {
		return
	}
	gives := defaultMaxElapsed
	if isAudit(x) {
		gives = 0 // ours does not give up
	}
	elapsed, ok := e.duration(x, gives, "retry_on_failure", "max_elapsed_time")
	if ok && (elapsed == 0 || elapsed >= wait) {
		e.found(codeTimeoutOrder, x, []string{"retry_on_failure", "max_elapsed_time"},
			fmt.Sprintf("its attempts may take %s, and the processor waits %v: the processor learns of a failure after it has answered", endless(elapsed), wait),
			"write `retry_on_failure: {enabled: false}` without a queue: the processor repeats without end; or "+cure)
	}
}

func endless(d time.Duration) string {
	if d == 0 {
		return "for ever"
	}
	return d.String()
}

// checkTelemetry finds collectors that nobody can watch.
func (e *examination) checkTelemetry() {
	level := e.at(service, "telemetry", "metrics", "level")
	if len(e.audits) == 0 || level == nil || level.kind != scalar || level.text != "none" {
		return
	}
	e.add(codeNoMetrics, level, join(service, "telemetry", "metrics", "level"),
		"without metrics nothing can alert: a full journal or a store that refuses shows only in the log",
		"write `level: normal`")
}
