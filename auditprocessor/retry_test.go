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
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// Who is told to come again may come with the very logs that it came with:
// receivers with a retry of their own and connectors that fail over do. Whatever
// the error, the records must still be in them, or the next attempt would
// succeed with nothing.
func TestErrorsLeaveTheRecordsWithTheCaller(t *testing.T) {
	sent := func() plog.Logs { return together(eventOf("id-1", "alice"), eventOf("id-2", "alice")) }
	for name, test := range map[string]struct {
		prepare func(t *testing.T, p *auditProcessor) context.Context
		sealed  bool // all the same: the caller does not know
	}{
		"caller gave up": {sealed: true, prepare: func(t *testing.T, _ *auditProcessor) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx
		}},
		"conflict": {prepare: func(t *testing.T, p *auditProcessor) context.Context {
			taken(t, p, eventOf("id-2", "mallory"))
			return t.Context()
		}},
		"full": {prepare: func(t *testing.T, p *auditProcessor) context.Context {
			for p.ConsumeLogs(t.Context(), sized("", 100<<10)) == nil {
			}
			for p.ConsumeLogs(t.Context(), eventOf("", "alice")) == nil {
			}
			return t.Context()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig(t, t.TempDir())
			config.Journal.MaxBytes = 1 << 20
			config.Limits.MaxRecordBytes = 1 << 20
			sink := newSinkFake()
			sink.setDown(errors.New("down"))
			p := startProcessor(t, config, sink)
			ctx := test.prepare(t, p)
			logs := sent()
			err := p.ConsumeLogs(ctx, logs)
			if !test.sealed { // the select in Seal may see the seal first
				require.Error(t, err)
			}
			if err != nil {
				require.Equal(t, 2, logs.LogRecordCount())
			}
			sink.setDown(nil)
			if name == "full" {
				require.Eventually(t, func() bool { return p.ConsumeLogs(context.Background(), logs) == nil }, time.Minute, time.Millisecond)
				defer func() { require.Equal(t, 1, sink.count("user.login")["id-1"]) }()
			}
			require.NoError(t, p.Shutdown(t.Context()))
		})
	}
}

// sized is an event of about so many bytes.
func sized(id string, bytes int) plog.Logs {
	logs := eventOf(id, "alice")
	onlyRecordOf(logs).Body().SetStr(string(make([]byte, bytes)))
	return logs
}

// A request that the journal still has is not the caller's any more: it gets a
// copy.
func TestGiveBackACopyOfWhatTheJournalHas(t *testing.T) {
	logs := together(eventOf("id-1", "alice"), eventOf("id-2", "alice"))
	s, err := newSealing(logs, make([]verdict, 2))
	require.NoError(t, err)
	require.Zero(t, logs.LogRecordCount())
	s.request, err = s.newRequest()
	require.NoError(t, err)
	require.ErrorIs(t, s.giveBack(logs, journal.ErrUnknown), journal.ErrUnknown)
	require.Equal(t, 2, logs.LogRecordCount())
	require.Equal(t, 2, s.logs.LogRecordCount(), "the journal's")
}

// However many records of a request conflict, the text of the error stays
// short; the results name each.
func TestManyConflictsMakeAShortError(t *testing.T) {
	p := startProcessor(t, testConfig(t, t.TempDir()), newSinkFake())
	const n = 1000
	first, second := plog.NewLogs(), plog.NewLogs()
	for i := range n {
		id := fmt.Sprint("id-", i)
		eventOf(id, "alice").ResourceLogs().MoveAndAppendTo(first.ResourceLogs())
		eventOf(id, "mallory").ResourceLogs().MoveAndAppendTo(second.ResourceLogs())
	}
	taken(t, p, first)
	results, err := consume(t, p, "", second)
	require.True(t, receipt.IsIDTaken(err))
	require.Less(t, len(err.Error()), 1000)
	require.ErrorContains(t, err, "and 999 more records")
	for i := range results {
		require.NotEmpty(t, results[i].Reasons)
	}
	require.NoError(t, p.Shutdown(t.Context()))
}
