// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var permanentType = reflect.TypeOf(consumererror.NewPermanent(errors.New("")))

// isPermanent says whether err is permanent in all its parts: a fan-out joins
// the errors of its consumers, and one of them that refuses a record for good
// says nothing about another that is down. consumererror.IsPermanent is content
// with one part. A gRPC status counts only where somebody called it permanent.
func isPermanent(err error) bool {
	for err != nil {
		if reflect.TypeOf(err) == permanentType {
			return true
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			return allPermanent(joined.Unwrap())
		}
		err = errors.Unwrap(err)
	}
	return false
}

func allPermanent(parts []error) bool {
	for _, part := range parts {
		if !isPermanent(part) {
			return false
		}
	}
	return len(parts) > 0
}

const maxHint = 30 * time.Second

// retryHint is how long the consumer asks to wait: the longest gRPC RetryInfo
// in any part of err, at most maxHint, 0 if there is none.
func retryHint(err error) time.Duration {
	var hint time.Duration
	for err != nil {
		//nolint:errorlint // this very error, not one that it wraps
		switch e := err.(type) {
		case interface{ GRPCStatus() *status.Status }:
			hint = max(hint, statusHint(e.GRPCStatus()))
		case interface{ Unwrap() []error }:
			for _, part := range e.Unwrap() {
				hint = max(hint, retryHint(part))
			}
		}
		err = errors.Unwrap(err)
	}
	return min(hint, maxHint)
}

func statusHint(s *status.Status) time.Duration {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// refusalReason describes a refusal for the evidence: by its class alone,
// because an exporter's text may quote the record.
func refusalReason(err error) string {
	const reason = "refused for good"
	var transport *consumererror.Error
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return fmt.Sprintf("%s: %s", reason, s.Code())
	}
	if errors.As(err, &transport) {
		return fmt.Sprintf("%s: HTTP status %d", reason, consumererror.ToHTTPStatus(err))
	}
	return reason
}
