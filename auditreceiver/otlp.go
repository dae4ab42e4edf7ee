// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/receiver/receiverhelper"

	"github.com/otelaudit/otelaudit/internal/receipt"
)

const pathLogs = "/v1/logs"

// encoding is one of the two that OTLP has over HTTP.
type encoding string

const (
	noEncoding       encoding = ""
	encodingProtobuf encoding = "application/x-protobuf"
	encodingJSON     encoding = "application/json"
)

// encodingOf reads the content type of a request.
func encodingOf(header http.Header) encoding {
	kind, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return noEncoding
	}
	switch e := encoding(kind); {
	case e == encodingProtobuf:
		return e
	case e == encodingJSON && (parameters["charset"] == "" || strings.EqualFold(parameters["charset"], "utf-8")):
		return e
	}
	return noEncoding
}

// format names an encoding for the collector's own metrics.
func (e encoding) format() string {
	if e == encodingProtobuf {
		return formatProtobuf
	}
	return format
}

// otlp answers POST /v1/logs, OTLP over HTTP, and /v1/audit. A request is taken
// whole or not at all: there is no partial success.
func (r *auditReceiver) otlp(w http.ResponseWriter, req *http.Request) answer {
	if req.Method != http.MethodPost {
		return answer{status: http.StatusMethodNotAllowed, allow: http.MethodPost, problem: "use POST"}
	}
	form := encodingOf(req.Header)
	if form == noEncoding {
		return answer{status: http.StatusUnsupportedMediaType, problem: "the content type must be " + string(encodingProtobuf) + " or " + string(encodingJSON)}
	}
	who, err := r.config.caller(req.Context(), req.Header, req.TLS)
	if err != nil {
		return answer{status: http.StatusForbidden, problem: err.Error()}
	}
	taken := newShare(&r.budget, req.RemoteAddr, req.Context().Done())
	defer taken.release()
	var body bytes.Buffer
	if err := r.read(w, req, &body, taken); err != nil {
		return unreadable(err)
	}
	in := inbound{report: r.obsreport, form: form, body: body.Bytes(), taken: taken, who: who, filled: who.receipt()}
	if req.URL.Path == pathAudit {
		in.ask(r.stopping.Done())
	}
	a := r.takeOTLP(r.config.Tenant.callerContext(req.Context(), req.Header), &in)
	if in.audit {
		in.complete(&a)
	}
	return a
}

// inbound is a request of OTLP that has been read.
type inbound struct {
	report *receiverhelper.ObsReport // of the transport
	form   encoding
	body   []byte
	taken  *share
	who    *caller
	filled *receipt.Receipt
	audit  bool     // it came to /v1/audit
	ids    []string // of its records, where audit is set: the pipeline takes the records away
}

// takeOTLP decodes a request and hands its records on.
func (r *auditReceiver) takeOTLP(ctx context.Context, in *inbound) answer {
	report, form, filled := in.report, in.form, in.filled
	ctx = report.StartLogsOp(ctx)
	b, err := in.decode()
	if b.unknown > 0 {
		r.telemetry.ReceiverAuditUnknownFields.Add(ctx, int64(b.unknown))
	}
	switch {
	case err != nil:
		report.EndLogsOp(ctx, form.format(), b.events, errUnreadable)
		a := unreadable(err)
		a.events = b.events
		return a
	case len(b.faults) > 0:
		report.EndLogsOp(ctx, form.format(), b.events, errFaulty)
		return b.refused()
	case b.events == 0:
		report.EndLogsOp(ctx, form.format(), 0, nil)
		return answer{status: http.StatusOK}
	}
	err = r.consume(ctx, b, filled)
	report.EndLogsOp(ctx, form.format(), b.events, err)
	return r.conclude(err, b, filled)
}

// errUnreadable stands for a request that cannot be decoded in traces: the
// text quotes the client.
var errUnreadable = errors.New("the request cannot be decoded")

// decode decodes a request, once its memory is admitted. Records that the door
// refuses become faults; an error is about the whole request.
func (in *inbound) decode() (*batch, error) {
	b := &batch{noun: "record"}
	if err := in.unwrap(); err != nil {
		return b, err
	}
	scan := scanJSON
	if in.form == encodingProtobuf {
		scan = scanProto
	}
	found, err := scan(in.body)
	if err != nil {
		return b, err
	}
	if err := in.taken.admit(found.memory()); err != nil {
		return b, err
	}
	b.unknown = found.unknown
	request := plogotlp.NewExportRequest()
	if in.form == encodingProtobuf {
		err = request.UnmarshalProto(in.body)
	} else {
		err = request.UnmarshalJSON(in.body)
	}
	if err != nil {
		return b, errors.New(cut(err.Error()))
	}
	b.logs = request.Logs()
	b.events = b.logs.LogRecordCount()
	b.judgeCaller(in.who)
	if in.audit {
		in.ids = b.ids()
		b.judgeMandatory()
	}
	return b, nil
}

// judgeCaller makes faults of the records that are not the caller's to write.
func (b *batch) judgeCaller(who *caller) {
	if who.tenant == "" && who.allow == nil {
		return
	}
	b.each(func(resource pcommon.Resource, record plog.LogRecord) (foreign bool, problem string) {
		problem = who.judge(resource, record, &recordNames)
		return true, problem
	})
}

// each makes faults of the records that judge finds a problem with, up to
// maxFaults.
func (b *batch) each(judge func(pcommon.Resource, plog.LogRecord) (foreign bool, problem string)) {
	position := 0
	for _, ofResource := range b.logs.ResourceLogs().All() {
		for _, ofScope := range ofResource.ScopeLogs().All() {
			for _, record := range ofScope.LogRecords().All() {
				if foreign, problem := judge(ofResource.Resource(), record); problem != "" && len(b.faults) < maxFaults {
					b.faults = append(b.faults, fault{position: position, foreign: foreign, problem: problem})
				}
				position++
			}
		}
	}
}
