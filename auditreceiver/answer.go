// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// Statuses of one event in an answer.
const (
	statusDurable  = "durable"  // stored for good at the coordinates beside it
	statusFlagged  = "flagged"  // the same, but it breaks the schema: see reason
	statusRefused  = "refused"  // not stored, and why
	statusWithheld = "withheld" // not stored, because another event refused the request
)

// answer is what a request gets.
type answer struct {
	status     int
	problem    string        // what is wrong with the request, "" for 200 and 202
	retryAfter time.Duration // 0 is none
	allow      string        // the methods of a 405
	results    []result      // one for each event, in order; may be empty

	// Of /v1/audit alone.
	ids        []string            // of the records, in order; may be empty
	checkpoint *receipt.Checkpoint // may be nil
	sinks      []receipt.SinkStatus

	// For the metrics: how many events were read and, unless the status is 200
	// or 202, why they were refused.
	events int
	reason string
}

// result is one event's part of an answer.
type result struct {
	status string
	reason string
	// sealed is set where the pipeline has looked at the event.
	sealed *receipt.Result
}

// count counts an answer.
func (r *auditReceiver) count(ctx context.Context, a *answer) {
	r.telemetry.ReceiverAuditRequests.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(attribute.Int("status_code", a.status))))
	r.telemetry.ReceiverAuditReceivedRecords.Add(ctx, int64(a.events))
	if a.status/100 != 2 && a.events > 0 {
		r.telemetry.ReceiverAuditRefusedRecords.Add(ctx, int64(a.events), metric.WithAttributeSet(attribute.NewSet(attribute.String("reason", a.reason))))
	}
}

// send writes a, in the form that the path has, and counts it.
func (r *auditReceiver) send(w http.ResponseWriter, req *http.Request, a answer) {
	r.count(req.Context(), &a)
	header := w.Header()
	contentType, body := a.encode(req)
	header.Set("Content-Type", contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	if a.allow != "" {
		header.Set("Allow", a.allow)
	}
	if a.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(a.retryAfter.Seconds()))))
	}
	w.WriteHeader(a.status)
	//nolint:gosec // not a page: the type is JSON or protobuf, nosniff is set, and every text is escaped
	if _, err := w.Write(body); err != nil {
		// The client has gone away; what happened to its events stands.
		r.settings.Logger.Debug("answer was not sent", zap.Int("status", a.status), zap.Error(err))
	}
}

// encode returns the body and its type.
func (a *answer) encode(req *http.Request) (contentType string, body []byte) {
	switch req.URL.Path {
	case pathLogs:
		return a.encodeOTLP(encodingOf(req.Header))
	case pathAudit:
		return a.encodeAudit(encodingOf(req.Header), req.Header.Values("Accept"))
	}
	return string(encodingJSON), a.append(nil)
}

// append writes the body.
func (a *answer) append(dst []byte) []byte {
	dst = append(dst, '{')
	if a.problem != "" {
		dst = append(dst, `"error":`...)
		dst = append(appendText(dst, a.problem), ',')
	}
	return append(a.appendResults(dst), "}\n"...)
}

func (a *answer) appendResults(dst []byte) []byte {
	dst = append(dst, `"results":[`...)
	for i := range a.results {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = a.results[i].append(dst)
	}
	return append(dst, ']')
}

func (r *result) append(dst []byte) []byte {
	dst = append(dst, '{')
	if r.sealed != nil && r.sealed.RecordID != "" {
		dst = append(dst, `"record_id":`...)
		dst = append(appendText(dst, r.sealed.RecordID), ',')
	}
	dst = append(dst, `"status":"`...)
	dst = append(dst, r.status...)
	dst = append(dst, '"')
	if r.sealed != nil && r.sealed.Sealed {
		dst = appendCoordinates(dst, r.sealed)
	}
	if r.reason != "" {
		dst = append(dst, `,"reason":`...)
		dst = appendText(dst, r.reason)
	}
	return append(dst, '}')
}

func appendCoordinates(dst []byte, sealed *receipt.Result) []byte {
	if sealed.IntegrityHash != (chain.Hash{}) { // who first sent a repeated event may not have asked for it
		dst = append(dst, `,"integrity_hash":"`...)
		dst = append(sealed.IntegrityHash.AppendHex(dst), '"')
	}
	dst = append(dst, `,"origin":`...)
	dst = appendText(dst, sealed.Link.Origin)
	dst = append(dst, `,"index":"`...)
	dst = strconv.AppendUint(dst, sealed.Link.Index, 10)
	dst = append(dst, `","stream":`...)
	dst = appendText(dst, sealed.Link.Stream)
	dst = append(dst, `,"seq":"`...)
	dst = strconv.AppendUint(dst, sealed.Link.Seq, 10)
	dst = append(dst, `","hash":"`...)
	dst = sealed.Hash.AppendHex(dst)
	return append(dst, '"')
}

func appendText(dst []byte, text string) []byte {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	return canonical.AppendString(dst, text)
}
