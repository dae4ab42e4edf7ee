// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// Entity references stand outside the canonical bytes: nothing of them may go
// on.
func TestEntityReferencesAreDropped(t *testing.T) {
	plain, err := marshaler.MarshalLogs(event("x"))
	require.NoError(t, err)
	logs, err := unmarshaler.UnmarshalLogs(withEntity(t, plain, "s3cr3t"))
	require.NoError(t, err)
	again, err := marshaler.MarshalLogs(logs)
	require.NoError(t, err)
	require.True(t, bytes.Contains(again, []byte("s3cr3t")), "pdata keeps what the test puts in")

	s, err := newStages(newValidationConfig(), newRedactionConfig(), newLimitsConfig(), time.Now)
	require.NoError(t, err)
	s.apply(logs, "", false)
	out, err := marshaler.MarshalLogs(logs)
	require.NoError(t, err)
	require.False(t, bytes.Contains(out, []byte("s3cr3t")))
	value, found := logs.ResourceLogs().At(0).Resource().Attributes().Get("service.name")
	require.True(t, found)
	require.Equal(t, "billing", value.Str())
}

// withEntity adds an entity reference of the given type to the only resource.
// Protobuf merges a message field that occurs twice.
func withEntity(t *testing.T, logs []byte, kind string) []byte {
	t.Helper()
	field, wire, n := protowire.ConsumeTag(logs)
	require.Positive(t, n)
	require.Equal(t, protowire.BytesType, wire)
	resourceLogs, rest := protowire.ConsumeBytes(logs[n:])
	require.Equal(t, len(logs)-n, rest, "one resource")
	entity := protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), kind)
	resource := protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), entity)
	resourceLogs = protowire.AppendBytes(protowire.AppendTag(bytes.Clone(resourceLogs), 1, protowire.BytesType), resource)
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), resourceLogs)
}

// A small resource must not become large on thousands of records.
func TestMarksOfAGroupAreShared(t *testing.T) {
	const records = 20_000
	logs := event("0")
	resource := logs.ResourceLogs().At(0)
	for i := range 100 {
		resource.Resource().Attributes().PutStr(fmt.Sprintf("%d-%0140d-password", i, 0), "x")
	}
	list := resource.ScopeLogs().At(0).LogRecords()
	for range records - 1 {
		list.At(0).CopyTo(list.AppendEmpty())
	}
	before, err := marshaler.MarshalLogs(logs)
	require.NoError(t, err)
	s, err := newStages(newValidationConfig(), newRedactionConfig(), newLimitsConfig(), time.Now)
	require.NoError(t, err)
	s.apply(logs, "", false)
	after, err := marshaler.MarshalLogs(logs)
	require.NoError(t, err)
	require.Less(t, len(after), 3*len(before))
	masked, found := list.At(records - 1).Attributes().Get(audit.AttributeCollectorMasked)
	require.True(t, found, "each record says that there were some")
	require.Equal(t, []any{"… and 100 more"}, masked.Slice().AsRaw())
}

func TestTooManyRecords(t *testing.T) {
	p := startProcessor(t, testConfig(t, t.TempDir()), newSinkFake())
	defer func() { require.NoError(t, p.Shutdown(t.Context())) }()
	logs := plog.NewLogs()
	list := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	for range maxRequestRecords + 1 {
		list.AppendEmpty()
	}
	err := p.ConsumeLogs(t.Context(), logs)
	require.True(t, receipt.IsTooLarge(err))
	require.ErrorContains(t, err, "smaller batches")
}
