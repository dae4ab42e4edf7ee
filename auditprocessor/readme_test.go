// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The examples in README.md, before and after.
func TestReadmeRedaction(t *testing.T) {
	logs := event("readme")
	record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	require.NoError(t, record.Body().SetEmptyMap().FromRaw(map[string]any{
		"user_password": "hunter2", "x-api-key": "k", "accessToken": "t",
		"header":      map[string]any{"name": "Authorization", "value": "Basic dXNlcjpwYXNz"},
		"note":        "card 4111 1111 1111 1111 declined",
		"text":        `{"otp": "123456"}`,
		"token_count": int64(17), "password_changed_at": "2026-01-01", "max_tokens": int64(5),
	}))
	s, err := newStages(newValidationConfig(), newRedactionConfig(), newLimitsConfig(), time.Now)
	require.NoError(t, err)
	s.apply(logs, "", false)
	require.Equal(t, map[string]any{
		"user_password": "***", "x-api-key": "***", "accessToken": "***",
		"header":      map[string]any{"name": "Authorization", "value": "***"},
		"note":        "card *** declined",
		"text":        `{"otp": "***"}`,
		"token_count": int64(17), "password_changed_at": "2026-01-01", "max_tokens": int64(5),
	}, record.Body().AsRaw())
}
