// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestReceiptIsFilledOnce(t *testing.T) {
	var r Receipt
	require.False(t, r.Filled())
	require.NoError(t, r.Fill([]Result{{RecordID: "first"}}))
	require.True(t, r.Filled())
	require.ErrorIs(t, r.Fill([]Result{{RecordID: "second"}}), ErrFilledTwice)
	require.Equal(t, []Result{{RecordID: "first"}}, r.Results, "the first results stay")
}

func TestReceiptOfAnEmptyRequestIsFilledToo(t *testing.T) {
	var r Receipt
	require.NoError(t, r.Fill(nil))
	require.True(t, r.Filled())
}

func TestContext(t *testing.T) {
	require.Nil(t, FromContext(t.Context()))
	r := &Receipt{Tenant: "acme"}
	ctx := NewContext(t.Context(), r)
	derived, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	require.Same(t, r, FromContext(derived))
}

func TestErrorsAreWhatStockReceiversExpect(t *testing.T) {
	for name, test := range map[string]struct {
		err      error
		code     codes.Code
		retry    time.Duration
		tooLarge bool
	}{
		"refused":     {err: Refused("field `x` is missing"), code: codes.InvalidArgument},
		"too large":   {err: TooLarge("field `x` is missing"), code: codes.InvalidArgument, tooLarge: true},
		"unavailable": {err: Unavailable("field `x` is missing", 5*time.Second), code: codes.Unavailable, retry: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{test.err, fmt.Errorf("outer: %w", test.err), errors.Join(test.err, nil)} {
				s, ok := status.FromError(err)
				require.True(t, ok)
				require.Equal(t, test.code, s.Code())
				require.Contains(t, s.Message(), "field `x` is missing")
				require.Equal(t, test.tooLarge, IsTooLarge(err))
				require.Equal(t, test.retry, retryDelay(s))
			}
		})
	}
	require.False(t, IsTooLarge(nil))
	require.False(t, IsTooLarge(errors.New("other")))
}

// retryDelay returns the delay in the RetryInfo of s, 0 if there is none.
func retryDelay(s *status.Status) time.Duration {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
