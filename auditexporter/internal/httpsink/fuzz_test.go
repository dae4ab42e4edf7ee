// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// Whatever an endpoint answers, only a 2xx is taken, each other answer is an
// error or a refusal, nobody is silenced for long, and none of its words show.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "", "", []byte(`{"partialSuccess":{"rejectedLogRecords":"1"}}`), false)
	f.Add(409, "", "", []byte(`{"hash":"00"}`), false)
	f.Add(429, "7", "", []byte(nil), false)
	f.Add(503, "Tue, 24 Nov 2026 18:00:00 GMT", "", []byte(nil), true)
	f.Add(302, "", "https://a:b@c/d?e#f", []byte(nil), false)
	f.Fuzz(func(t *testing.T, code int, retryAfter, location string, body []byte, cut bool) {
		now := time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC)
		var readErr error
		if cut {
			readErr = errors.New("cut")
		}
		for _, format := range []Format{FormatEvents, FormatNDJSON, FormatOTLPJSON} {
			s := &Sink{config: Config{Format: format, Logger: zap.NewNop(), now: func() time.Time { return now }}, form: forms[format]}
			response := &http.Response{StatusCode: code, Header: http.Header{"Retry-After": {retryAfter}, "Location": {location}}}
			a, err := s.read(response, body, readErr)
			if err == nil {
				require.NotZero(t, a.verdict)
				require.True(t, a.verdict != taken || code/100 == 2)
			} else {
				require.Less(t, len(err.Error()), 600+4*maxHost)
			}
			if code/100 == 2 && format != FormatOTLPJSON {
				require.Equal(t, taken, a.verdict)
			}
			require.False(t, s.notBefore.After(now.Add(maxWait)))
		}
	})
}
