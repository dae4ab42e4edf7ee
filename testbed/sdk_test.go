// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdk "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/otelaudit/otelaudit/testbed"
)

// The Go SDK as it is, with both of its exporters, against the stock otlp
// receiver: a change of endpoint is all that an application needs.
func TestGoSDK(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)

	overGRPC, err := otlploggrpc.New(t.Context(), otlploggrpc.WithEndpoint(c.OTLPGRPC), otlploggrpc.WithInsecure())
	require.NoError(t, err)
	overHTTP, err := otlploghttp.New(t.Context(), otlploghttp.WithEndpoint(c.OTLPHTTP), otlploghttp.WithInsecure())
	require.NoError(t, err)
	const each = 50
	for name, exporter := range map[string]sdk.Exporter{"grpc": overGRPC, "http": overHTTP} {
		provider := sdk.NewLoggerProvider(
			sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "shop-"+name))),
			sdk.WithProcessor(sdk.NewBatchProcessor(exporter)),
		)
		for i := range each {
			provider.Logger("shop").Emit(t.Context(), sdkRecord(fmt.Sprintf("sdk-%s-%d", name, i)))
		}
		require.NoError(t, provider.Shutdown(t.Context()), "shutdown sends what is left and reports a refusal")
	}
	stop(t, c)

	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	assert.Zero(t, stored.Flagged)
	assert.Len(t, stored.Records, 2*each)
	for _, name := range []string{"grpc", "http"} {
		for i := range each {
			assert.Equal(t, 1, stored.Records[fmt.Sprintf("sdk-%s-%d", name, i)])
		}
	}
	leaks, err := testbed.FindLeaks(settings.Directory, []testbed.Needle{{Name: "session token", Text: "not for the disk"}})
	require.NoError(t, err)
	assert.Empty(t, leaks)
}

// sdkRecord is the event of README.md's section on SDKs.
func sdkRecord(id string) log.Record {
	var record log.Record
	record.SetTimestamp(time.Now())
	record.SetEventName("invoice.update")
	record.AddAttributes(
		log.String("audit.record.id", id),
		log.String("audit.actor.id", "user_123"),
		log.String("audit.actor.type", "user"),
		log.String("audit.action", "UPDATE"),
		log.String("audit.outcome", "success"),
		log.String("audit.target.type", "invoice"),
		log.String("audit.target.id", "inv_456"),
		log.String("audit.tenant.id", "acme"),
		log.Map("audit.metadata", log.Int("attempt", 1), log.String("session_token", "not for the disk")),
	)
	return record
}
