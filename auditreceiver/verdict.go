// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/internal/receipt"
)

const (
	// retryBusy is when to come again while the receiver itself is full.
	retryBusy = time.Second
	// retryFailed is when to come again if the pipeline does not say.
	retryFailed = 5 * time.Second
	// retryOperator is when to ask again for what an operator has to decide.
	retryOperator = 5 * time.Minute
	// retryWiring is when to come again after somebody has corrected the
	// configuration.
	retryWiring = time.Minute
)

var (
	errNoReceipt = errors.New("no audit processor stands behind this receiver: put `audit` among the processors of its pipeline")
	errMiscount  = errors.New("the audit processor did not account for every event: put it directly behind the `audit` receiver")
)

// verdict is what an error of the pipeline means to a client.
type verdict struct {
	status     int
	retryAfter time.Duration
	problem    string // "" where the error's text is for the operator alone
}

// judgeError maps an error of the pipeline to an answer. A request is final
// only if every part of a joined error is: what a retry can cure is never
// answered as if it could not.
func judgeError(err error) verdict {
	// One level at a time: the parts of a joined error are judged apart.
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return judgeParts(joined.Unwrap())
	}
	inner := errors.Unwrap(err)
	carrier, isStatus := err.(interface{ GRPCStatus() *status.Status })
	switch {
	case receipt.IsTooLarge(err) && isStatus:
		return verdict{status: http.StatusRequestEntityTooLarge, problem: carrier.GRPCStatus().Message()}
	case receipt.IsIDTaken(err) && isStatus:
		return verdict{status: http.StatusConflict, problem: carrier.GRPCStatus().Message()}
	case isStatus:
		return judgeStatus(carrier.GRPCStatus())
	case consumererror.IsPermanent(err) && (inner == nil || !consumererror.IsPermanent(inner)):
		return judgePermanent(inner)
	case inner != nil:
		return judgeError(inner)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return verdict{
			status: http.StatusServiceUnavailable, retryAfter: retryFailed,
			problem: "the pipeline did not finish in time: whether the events are stored is unknown, send them again with the same ids",
		}
	}
	return verdict{status: http.StatusServiceUnavailable, retryAfter: retryFailed}
}

// judgeParts takes the part that leaves the client the most hope, and the
// longest wait of any.
func judgeParts(parts []error) verdict {
	rank := map[int]int{
		http.StatusBadRequest: 1, http.StatusConflict: 2, http.StatusRequestEntityTooLarge: 3, http.StatusTooManyRequests: 4,
		http.StatusServiceUnavailable: 5,
	}
	var worst verdict
	var wait time.Duration
	for _, part := range parts {
		if part == nil {
			continue
		}
		v := judgeError(part)
		wait = max(wait, v.retryAfter)
		if rank[v.status] > rank[worst.status] {
			worst = v
		}
	}
	if worst.status == 0 {
		worst.status, wait = http.StatusServiceUnavailable, retryFailed
	}
	if worst.retryAfter > 0 {
		worst.retryAfter = wait
	}
	return worst
}

func judgeStatus(s *status.Status) verdict {
	v := verdict{problem: s.Message(), retryAfter: retryFailed}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok && info.GetRetryDelay().AsDuration() > 0 {
			v.retryAfter = info.GetRetryDelay().AsDuration()
		}
	}
	switch s.Code() {
	case codes.InvalidArgument:
		v.status, v.retryAfter = http.StatusBadRequest, 0
	case codes.ResourceExhausted:
		v.status = http.StatusTooManyRequests
	default:
		v.status = http.StatusServiceUnavailable
	}
	return v
}

// judgePermanent reads an error that says of itself that a retry is no use.
func judgePermanent(inner error) verdict {
	v := verdict{status: http.StatusBadRequest, problem: "the pipeline refuses the events for good"}
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(inner, &carrier) {
		v.problem = carrier.GRPCStatus().Message()
	}
	return v
}

// checkReceipt says whether a pipeline that returned no error has accounted
// for every one of n events.
func checkReceipt(filled *receipt.Receipt, n int) error {
	switch {
	case !filled.Filled():
		return errNoReceipt
	case len(filled.Results) != n:
		return errMiscount
	}
	for i := range filled.Results {
		if !filled.Results[i].Sealed {
			return errMiscount
		}
	}
	return nil
}
