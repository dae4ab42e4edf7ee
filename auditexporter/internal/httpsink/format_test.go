// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/auditexporter/internal/httpsink/receivertest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
)

// everything fills a record with a value of each kind.
func everything(resource plog.ResourceLogs, record plog.LogRecord) {
	resource.SetSchemaUrl("https://example.com/resource")
	resource.Resource().Attributes().PutStr("service.name", "shop \u2028 \U0001F600")
	record.SetEventName("order.cancelled")
	record.SetTimestamp(1_790_000_000_123_456_789)
	record.SetObservedTimestamp(math.MaxInt64)
	record.SetSeverityNumber(plog.SeverityNumberFatal4)
	record.SetSeverityText("FATAL")
	record.SetFlags(plog.DefaultLogRecordFlags.WithIsSampled(true))
	record.SetTraceID(pcommon.TraceID{1, 15: 2})
	record.SetSpanID(pcommon.SpanID{3, 7: 4})
	a := record.Attributes()
	a.PutStr("", "empty key")
	a.PutStr("empty", "")
	a.PutStr("quoted", "\"\\/\b\f\n\r\t\x00\x7f</script>")
	a.PutEmpty("null")
	a.PutBool("no", false)
	for name, n := range map[string]int64{"zero": 0, "least": math.MinInt64, "most": math.MaxInt64} {
		a.PutInt(name, n)
	}
	for name, x := range map[string]float64{
		"double zero": 0, "minus zero": math.Copysign(0, -1), "whole": 3, "tiny": math.SmallestNonzeroFloat64,
		"huge": math.MaxFloat64, "third": 1.0 / 3, "big": 1e21, "small": 1e-7,
	} {
		a.PutDouble(name, x)
	}
	a.PutEmptyBytes("bytes").FromRaw([]byte{0, 255, 254})
	a.PutEmptyBytes("no bytes")
	a.PutEmptyMap("empty map")
	a.PutEmptySlice("empty list")
	list := a.PutEmptySlice("list")
	list.AppendEmpty()
	list.AppendEmpty().SetInt(1)
	list.AppendEmpty().SetEmptyMap().PutEmptySlice("deep").AppendEmpty().SetDouble(-2.5)
	record.Body().SetEmptyMap().PutStr("k", "v")
	a.PutStr(audit.AttributeCollectorTenant, "acme")
}

// OTLP JSON holds all that was sealed: an endpoint that makes the canonical
// bytes again gets the same digest. A replay, which comes from those bytes,
// sends the same.
func TestOTLPKeepsEverything(t *testing.T) {
	m := sinktest.NewMaker(sinktest.Origin)
	e := m.Seal(t, "tenant:acme", everything)
	s, r := start(t, FormatOTLPJSON, receivertest.Config{})
	write(t, s, e)
	assert.Equal(t, lines(e), r.Lines())

	replayed := e
	logs, err := canonical.Parse(e.Event)
	require.NoError(t, err)
	replayed.Resource = logs.ResourceLogs().At(0)
	replayed.Scope = replayed.Resource.ScopeLogs().At(0)
	replayed.Record = replayed.Scope.LogRecords().At(0)
	s, r = start(t, FormatOTLPJSON, receivertest.Config{})
	result, err := s.Replay(t.Context(), &replayed)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 1}, counts(result))
	assert.Equal(t, lines(e), r.Lines())
}
