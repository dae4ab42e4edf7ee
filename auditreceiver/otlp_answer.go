// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// statusOf is an answer to OTLP: what gRPC returns, and what an error's body is
// over HTTP. Only what a retry can cure carries RetryInfo, or is of a class that
// clients repeat.
func (a *answer) statusOf() *status.Status {
	s := status.New(codeOf(a.status), strings.ToValidUTF8(a.problem, "\uFFFD"))
	if a.retryAfter > 0 {
		if detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(a.retryAfter)}); err == nil {
			return detailed
		}
	}
	return s
}

// codeOf maps the statuses that our answers have. What is too large is an
// invalid argument: clients repeat RESOURCE_EXHAUSTED, some of them for ever.
func codeOf(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusOK, http.StatusAccepted:
		return codes.OK
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusConflict:
		return codes.AlreadyExists
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusMethodNotAllowed:
		return codes.Unimplemented
	default:
		return codes.InvalidArgument
	}
}

// encodeOTLP returns the body of an answer over HTTP: an ExportLogsServiceResponse
// or a google.rpc.Status in the encoding of the request. In JSON it also has our
// results, which clients of OTLP pass over.
func (a *answer) encodeOTLP(form encoding) (contentType string, body []byte) {
	switch {
	case form != encodingProtobuf && a.status/100 == 2:
		return string(encodingJSON), a.append(nil)
	case form != encodingProtobuf:
		return string(encodingJSON), a.appendStatus(nil)
	case a.status/100 == 2:
		return string(form), nil // the empty response: no partial success
	}
	body, err := proto.Marshal(a.statusOf().Proto())
	if err != nil { // impossible: its text is UTF-8; the status line says what matters
		return string(form), nil
	}
	return string(form), body
}

// appendStatus writes a google.rpc.Status in JSON.
func (a *answer) appendStatus(dst []byte) []byte {
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(codeOf(a.status)), 10)
	dst = append(dst, `,"message":`...)
	dst = appendText(dst, a.problem)
	if a.retryAfter > 0 {
		dst = append(dst, `,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"`...)
		dst = strconv.AppendFloat(dst, a.retryAfter.Seconds(), 'f', -1, 64)
		dst = append(dst, `s"}]`...)
	}
	if len(a.results) > 0 {
		dst = append(dst, ',')
		dst = a.appendResults(dst)
	}
	return append(dst, "}\n"...)
}
