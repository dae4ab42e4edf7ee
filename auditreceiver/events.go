// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/internal/receipt"
)

// Reasons of refused records in the metrics.
const (
	reasonMalformed   = "malformed"
	reasonTenant      = "tenant"
	reasonTooLarge    = "too_large"
	reasonOverloaded  = "overloaded"
	reasonRefused     = "refused"
	reasonIDTaken     = "id_taken"
	reasonUnavailable = "unavailable"
)

// What the records come as, for the collector's own metrics.
const (
	format         = "json"
	formatProtobuf = "protobuf"
)

// events answers POST /v1/events: read, decode, hand on, and say what became
// of each event. A request is taken whole or not at all.
func (r *auditReceiver) events(w http.ResponseWriter, req *http.Request) answer {
	if req.Method != http.MethodPost {
		return answer{status: http.StatusMethodNotAllowed, allow: http.MethodPost, problem: "use POST"}
	}
	if !isContentType(req.Header.Get("Content-Type")) {
		return answer{status: http.StatusUnsupportedMediaType, problem: "the content type must be application/json or application/x-ndjson, in UTF-8"}
	}
	who, err := r.config.caller(req.Context(), req.Header, req.TLS)
	if err != nil {
		return answer{status: http.StatusForbidden, problem: err.Error()}
	}
	taken := newShare(&r.budget, req.RemoteAddr, req.Context().Done())
	defer taken.release()
	var body strings.Builder
	if err := r.read(w, req, &body, taken); err != nil {
		return unreadable(err)
	}
	return r.take(req, body.String(), who, taken)
}

// read gathers a body, for as long as there is time for it.
func (r *auditReceiver) read(w http.ResponseWriter, req *http.Request, into text, taken *share) error {
	endIn := func(after time.Duration) {
		// Where it cannot be set, the server's own read timeout has to do.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(after))
	}
	taken.read(func() { endIn(0) })
	defer taken.hasRead()
	defer context.AfterFunc(r.stopping, func() { endIn(lastReadTime) })()
	return readBody(req, r.config.maxBody(), into, taken)
}

// take decodes a body and hands its events on.
func (r *auditReceiver) take(req *http.Request, text string, who *caller, taken *share) answer {
	ctx := r.obsreport.StartLogsOp(r.config.Tenant.callerContext(req.Context(), req.Header))
	b, err := decode(text, who, taken)
	switch {
	case err != nil:
		r.obsreport.EndLogsOp(ctx, format, b.events, err)
		a := unreadable(err)
		a.events = b.events
		return a
	case len(b.faults) > 0:
		r.obsreport.EndLogsOp(ctx, format, b.events, errFaulty)
		return b.refused()
	case b.events == 0 && !isLines(req.Header.Get("Content-Type")) && strings.TrimSpace(text) == "":
		r.obsreport.EndLogsOp(ctx, format, 0, errEmpty)
		return answer{status: http.StatusBadRequest, problem: errEmpty.Error()}
	case b.events == 0:
		r.obsreport.EndLogsOp(ctx, format, 0, nil)
		return answer{status: http.StatusOK}
	}
	filled := who.receipt()
	err = r.consume(ctx, b, filled)
	r.obsreport.EndLogsOp(ctx, format, b.events, err)
	return r.conclude(err, b, filled)
}

// conclude answers for what the pipeline was handed.
func (r *auditReceiver) conclude(err error, b *batch, filled *receipt.Receipt) answer {
	if err != nil {
		return r.failed(err, b, filled)
	}
	a := answer{status: http.StatusOK, events: b.events, results: resultsOf(filled.Results, statusDurable, statusFlagged)}
	if filled.Pending {
		a.status = http.StatusAccepted
	}
	return a
}

// errEmpty: no JSON is empty, and a client that could not read its event sends
// just that. Lines of JSON may be none.
var errEmpty = errors.New("the body is empty: send an event, or [] for none")

// errFaulty stands for a refused request in traces: the texts are the
// client's.
var errFaulty = errors.New("the request holds faulty events")

// consume hands the events to the pipeline. It returns nil only if every one
// of them is durable.
func (r *auditReceiver) consume(ctx context.Context, b *batch, filled *receipt.Receipt) error {
	ctx, cancel := context.WithTimeout(receipt.NewContext(ctx, filled), r.config.RequestTimeout)
	defer cancel()
	if err := r.next.ConsumeLogs(ctx, b.logs); err != nil {
		return err
	}
	return checkReceipt(filled, b.events)
}

// unreadable answers for a body that was not read to its end.
func unreadable(err error) answer {
	var large *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &large):
		return answer{status: http.StatusRequestEntityTooLarge, reason: reasonTooLarge, problem: fmt.Sprintf("the body is larger than %d bytes, the collector's `http::max_request_body_size`: send fewer events at a time", large.Limit)}
	case errors.Is(err, errNeverFits), errors.Is(err, errTooMany):
		return answer{status: http.StatusRequestEntityTooLarge, reason: reasonTooLarge, problem: err.Error()}
	case errors.Is(err, errBusy):
		return answer{status: http.StatusTooManyRequests, reason: reasonOverloaded, problem: err.Error(), retryAfter: retryBusy}
	case errors.As(err, &network) && network.Timeout():
		return answer{status: http.StatusServiceUnavailable, reason: reasonOverloaded, problem: "the body did not come in time: send again", retryAfter: retryBusy}
	default:
		return answer{status: http.StatusBadRequest, reason: reasonMalformed, problem: "the body cannot be read: " + err.Error()}
	}
}

// refused answers for events that are faulty before the pipeline sees them.
func (b *batch) refused() answer {
	a := answer{status: http.StatusBadRequest, reason: reasonMalformed, problem: b.problem(), results: b.results(), events: b.events}
	if !b.malformed() {
		a.status, a.reason = http.StatusForbidden, reasonTenant
	}
	return a
}

// failed answers for what the pipeline did not take.
func (r *auditReceiver) failed(err error, b *batch, filled *receipt.Receipt) answer {
	if errors.Is(err, errNoReceipt) || errors.Is(err, errMiscount) || errors.Is(err, receipt.ErrFilledTwice) {
		r.settings.Logger.Error("the pipeline of this receiver is wired wrongly", zap.Error(err))
		return answer{status: http.StatusServiceUnavailable, retryAfter: retryWiring, problem: err.Error(), events: b.events, reason: reasonUnavailable}
	}
	v := judgeError(err)
	if v.problem == "" {
		// Whose text it is nobody knows: it is for the operator, not for the
		// client.
		r.settings.Logger.Warn("the pipeline did not take a request", zap.Int("events", b.events), zap.Error(err))
		v.problem = "the pipeline could not take the events: see the collector's log"
	}
	a := answer{status: v.status, retryAfter: v.retryAfter, problem: v.problem, events: b.events, reason: reasonUnavailable}
	switch v.status {
	case http.StatusBadRequest, http.StatusConflict:
		a.reason = reasonRefused
		if v.status == http.StatusConflict {
			a.reason = reasonIDTaken
		}
		if filled.Filled() {
			a.results = resultsOf(filled.Results, statusWithheld, statusRefused)
		}
	case http.StatusRequestEntityTooLarge:
		a.reason = reasonTooLarge
	case http.StatusTooManyRequests:
		a.reason = reasonOverloaded
	}
	return a
}

// resultsOf tells what became of each event: sound where the processor gave no
// reason against it, faulty where it did.
func resultsOf(judged []receipt.Result, sound, faulty string) []result {
	results := make([]result, len(judged))
	for i := range judged {
		results[i] = result{status: sound, reason: strings.Join(judged[i].Reasons, "; "), sealed: &judged[i]}
		if len(judged[i].Reasons) > 0 {
			results[i].status = faulty
		}
	}
	return results
}
