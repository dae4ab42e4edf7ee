// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/multierr" //nolint:depguard // what the collector's fan-out joins errors with
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/internal/receipt"
)

func TestIsPermanent(t *testing.T) {
	plain := errors.New("down")
	permanent := consumererror.NewPermanent(errors.New("no such field"))
	invalid := status.Error(codes.InvalidArgument, "no such field")
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"nil":                                {nil, false},
		"plain":                              {plain, false},
		"permanent":                          {permanent, true},
		"permanent, wrapped":                 {fmt.Errorf("sink: %w", permanent), true},
		"status":                             {invalid, false},
		"status, called permanent":           {consumererror.NewPermanent(invalid), true},
		"joined, one part permanent":         {errors.Join(permanent, plain), false},
		"joined, the other part":             {errors.Join(plain, permanent), false},
		"joined, all parts permanent":        {errors.Join(permanent, permanent), true},
		"joined, one part":                   {errors.Join(permanent), true},
		"multierr, one part permanent":       {multierr.Append(permanent, plain), false},
		"multierr, all parts permanent":      {multierr.Combine(permanent, permanent, permanent), true},
		"multierr, one part":                 {multierr.Append(nil, permanent), true},
		"wrapped join, one part":             {fmt.Errorf("fan-out: %w", errors.Join(permanent, plain)), false},
		"wrapped join, all parts":            {fmt.Errorf("fan-out: %w", errors.Join(permanent, permanent)), true},
		"join in a join":                     {errors.Join(permanent, errors.Join(permanent, plain)), false},
		"two verbs":                          {fmt.Errorf("%w: %w", plain, permanent), false},
		"a join that was called permanent":   {consumererror.NewPermanent(errors.Join(plain, plain)), true},
		"partial failure":                    {consumererror.NewLogs(plain, plog.NewLogs()), false},
		"partial failure, permanent":         {consumererror.NewLogs(permanent, plog.NewLogs()), true},
		"retryable":                          {consumererror.NewRetryableError(plain), false},
		"HTTP 400":                           {consumererror.NewOTLPHTTPError(plain, 400), false},
		"HTTP 400, called permanent":         {consumererror.NewPermanent(consumererror.NewOTLPHTTPError(plain, 400)), true},
		"gRPC, not called so":                {consumererror.NewOTLPGRPCError(plain, status.New(codes.InvalidArgument, "")), false},
		"context":                            {context.DeadlineExceeded, false},
		"conflict, wrapped":                  {fmt.Errorf("sink: %w", receipt.ErrConflict), false},
		"empty join":                         {emptyJoin{}, false},
		"joined with nothing else permanent": {errors.Join(nil, permanent, nil), true},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, isPermanent(test.err)) })
	}
}

type emptyJoin struct{}

func (emptyJoin) Error() string   { return "nothing" }
func (emptyJoin) Unwrap() []error { return nil }

func TestRetryHint(t *testing.T) {
	hint := receipt.Unavailable("busy", 7*time.Second)
	for name, test := range map[string]struct {
		err  error
		want time.Duration
	}{
		"nil":       {nil, 0},
		"plain":     {errors.New("down"), 0},
		"status":    {status.Error(codes.Unavailable, "busy"), 0},
		"hint":      {hint, 7 * time.Second},
		"wrapped":   {fmt.Errorf("sink: %w", hint), 7 * time.Second},
		"longest":   {errors.Join(hint, receipt.Unavailable("busy", 9*time.Second), errors.New("down")), 9 * time.Second},
		"bounded":   {receipt.Unavailable("busy", time.Hour), maxHint},
		"negative":  {receipt.Unavailable("busy", -time.Hour), 0},
		"permanent": {consumererror.NewPermanent(hint), 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, retryHint(test.err)) })
	}
}

// What an exporter says may quote the record: it has no place in the evidence.
func TestRefusalReasonHasNoPayload(t *testing.T) {
	quoted := errors.New("cannot store password hunter2")
	for want, err := range map[string]error{
		"refused for good":                  quoted,
		"refused for good: InvalidArgument": fmt.Errorf("sink: %w", status.Error(codes.InvalidArgument, quoted.Error())),
		"refused for good: HTTP status 413": consumererror.NewOTLPHTTPError(quoted, 413),
	} {
		require.Equal(t, want, refusalReason(consumererror.NewPermanent(err)))
	}
}
