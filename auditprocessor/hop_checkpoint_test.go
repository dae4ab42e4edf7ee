// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
)

// A collector that forwards to another one is not held up by what it says about
// itself, however strict the other is, and what it delivers twice is stored once.
func TestCollectorBehindCollector(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Validation.OnInvalid = onInvalidReject
	sink := newSinkFake()
	second := startProcessor(t, config, sink)
	wire, err := consumer.NewLogs(func(_ context.Context, logs plog.Logs) error {
		for range 2 {
			sent := plog.NewLogs()
			logs.CopyTo(sent)
			if err := second.ConsumeLogs(context.Background(), sent); err != nil {
				return consumererror.NewPermanent(err)
			}
		}
		return nil
	})
	require.NoError(t, err)
	first := startProcessor(t, testConfig(t, t.TempDir()), wire)
	require.NoError(t, first.ConsumeLogs(t.Context(), events("a", "b")))
	require.NoError(t, first.Shutdown(t.Context()))
	_, left := first.journal.Backlog()
	require.Zero(t, left)
	require.NoError(t, second.Shutdown(t.Context()))
	require.Len(t, sink.count("user.login"), 2)
	for _, event := range []string{"user.login", audit.EventHopCheckpoint} {
		ids := sink.count(event)
		require.NotEmpty(t, ids)
		for id, times := range ids {
			require.Equal(t, 1, times, "%s %s", event, id)
		}
	}
	for _, record := range sink.records {
		require.NotContains(t, record.link.Stream, audit.StreamFlagged)
	}
}

// Only what a collector sends is taken for a checkpoint, and nothing beside it.
func TestIncomingCheckpoint(t *testing.T) {
	note := func(origin string) string {
		return origin + "\n3\nAc2P98QXIkZMibBz9bLnukls9mRDoaliImZ5P72ecwg=\n\n— x\n"
	}
	const origin = "host-1/00112233445566ff/20261123T090700Z-0a0b0c0d"
	for name, test := range map[string]struct {
		change func(plog.LogRecord)
		want   bool
	}{
		"as it is sent": {func(plog.LogRecord) {}, true},
		"observed":      {func(r plog.LogRecord) { r.SetObservedTimestamp(1) }, true},
		"with an event": {func(r plog.LogRecord) { r.SetEventName("x") }, false},
		"with a time":   {func(r plog.LogRecord) { r.SetTimestamp(1) }, false},
		"with a body":   {func(r plog.LogRecord) { r.Body().SetStr("x") }, false},
		"with more":     {func(r plog.LogRecord) { r.Attributes().PutStr("x", "y") }, false},
		"no member": {func(r plog.LogRecord) {
			r.Attributes().Remove(audit.AttributeChainIndex)
			r.Attributes().PutStr("x", "y")
		}, false},
		"other types":  {func(r plog.LogRecord) { r.Attributes().PutInt(audit.AttributeChainCheckpoint, 1) }, false},
		"no note":      {func(r plog.LogRecord) { r.Attributes().PutStr(audit.AttributeChainCheckpoint, "x") }, false},
		"other size":   {func(r plog.LogRecord) { r.Attributes().PutInt(audit.AttributeChainIndex, 4) }, false},
		"other origin": {func(r plog.LogRecord) { r.Attributes().PutStr(audit.AttributeChainOrigin, "x") }, false},
		"no origin": {func(r plog.LogRecord) {
			r.Attributes().PutStr(audit.AttributeChainOrigin, "x")
			r.Attributes().PutStr(audit.AttributeChainCheckpoint, note("x"))
		}, false},
		"no range": {func(r plog.LogRecord) { r.Attributes().PutStr(audit.AttributeChainRange, "x") }, false},
		"text ranges": {func(r plog.LogRecord) {
			r.Attributes().PutEmptySlice(audit.AttributeChainRange).AppendEmpty().SetStr("x")
		}, false},
		"long range": {func(r plog.LogRecord) {
			hashes := r.Attributes().PutEmptySlice(audit.AttributeChainRange)
			for range 65 {
				hashes.AppendEmpty()
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			record := plog.NewLogRecord()
			record.Attributes().PutStr(audit.AttributeChainOrigin, origin)
			record.Attributes().PutInt(audit.AttributeChainIndex, 3)
			record.Attributes().PutStr(audit.AttributeChainCheckpoint, note(origin))
			record.Attributes().PutEmptySlice(audit.AttributeChainRange)
			test.change(record)
			_, _, found := incomingCheckpoint(record)
			require.Equal(t, test.want, found)
		})
	}
}
