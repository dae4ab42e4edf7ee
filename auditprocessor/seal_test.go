// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
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
