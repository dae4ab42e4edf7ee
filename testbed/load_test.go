// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// A hundred thousand mixed events from 16 clients: everything that was
// acknowledged is stored once, the counts reconcile, the store verifies, and
// no secret of the corpus is in any byte on disk.
func TestMixedLoad(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	outcome := testbed.Load{Clients: 16, Events: *events, MaxBatch: 60, Seed: 1, Name: "mixed"}.Run(t.Context(), c.HTTP)
	require.Empty(t, outcome.Surprises)
	require.Empty(t, outcome.Unknown)
	require.Equal(t, *events, outcome.Sent)
	require.Equal(t, *events, len(outcome.Acknowledged)+outcome.Refused)
	require.NotZero(t, outcome.Refused, "the corpus has malformed events")
	requireCounts(t, c, outcome)
	stop(t, c)

	report := requireSound(t, settings)
	stored := readStore(t, settings.Store())
	requireStoredOnce(t, outcome, stored)
	assert.Len(t, stored.Records, len(outcome.Acknowledged), "nothing else is stored")
	assert.NotZero(t, stored.Flagged, "the corpus has events that break the schema")
	records, err := report.Records.Int64()
	require.NoError(t, err)
	assert.Equal(t, int64(len(stored.Records)+stored.Controls), records)

	leaks, err := testbed.FindLeaks(settings.Directory, testbed.Needles())
	require.NoError(t, err)
	assert.Empty(t, leaks)

	cpu, memory := c.Usage()
	measured(t, "events", outcome.Sent, "a second", int(float64(outcome.Sent)/outcome.Elapsed.Seconds()),
		"processor seconds per 100,000", fmt.Sprintf("%.2f", cpu.Seconds()*1e5/float64(outcome.Sent)),
		"p50", outcome.Quantile(.5), "p99", outcome.Quantile(.99), "most memory MiB", memory>>20, "bytes stored", stored.Bytes)
}

// requireCounts demands that the collector has counted what its clients saw:
// received = stored + refused, nothing pending.
func requireCounts(t *testing.T, c *testbed.Collector, outcome *testbed.Outcome) {
	t.Helper()
	metric := func(name string) int {
		value, found, err := c.Metric(t.Context(), name)
		require.NoError(t, err)
		require.True(t, found, name)
		return int(value)
	}
	require.Eventually(t, func() bool { return metric("otelcol_processor_audit_pending_records") == 0 }, time.Minute, 50*time.Millisecond)
	assert.Equal(t, outcome.Sent, metric("otelcol_receiver_audit_received_records"))
	assert.Equal(t, outcome.Refused, metric("otelcol_receiver_audit_refused_records"))
	for _, name := range []string{
		"otelcol_receiver_accepted_log_records", "otelcol_processor_audit_received_records",
		"otelcol_processor_audit_sealed_records", "otelcol_processor_audit_delivered_records",
	} {
		assert.Equal(t, len(outcome.Acknowledged), metric(name), name)
	}
}

// The scan for secrets must be able to find one.
func TestFindLeaksFinds(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir(), Extra: []string{"processors::audit::redaction::enabled: false"}}
	c := start(t, settings)
	outcome := testbed.Load{Clients: 1, Events: 400, MaxBatch: 20, Seed: 1, Name: "leaky"}.Run(t.Context(), c.HTTP)
	require.Empty(t, outcome.Surprises)
	stop(t, c)
	leaks, err := testbed.FindLeaks(settings.Directory, testbed.Needles())
	require.NoError(t, err)
	inStore, inJournal := map[string]bool{}, map[string]bool{}
	for _, leak := range leaks {
		inStore[leak.Needle] = inStore[leak.Needle] || strings.HasPrefix(leak.File, settings.Store())
		inJournal[leak.Needle] = inJournal[leak.Needle] || strings.HasPrefix(leak.File, settings.Journal())
	}
	for _, needle := range testbed.Needles() {
		assert.True(t, inStore[needle.Name], "%s is not found in a store that was not redacted", needle.Name)
	}
}

// A copied journal directory that is started beside the original makes two
// successors of one life: no coordinate is used twice, and the fork shows.
func TestForkOfCopiedJournal(t *testing.T) {
	original := testbed.Settings{Directory: t.TempDir()}
	c := start(t, original)
	send(t, c, "before", 20)
	stop(t, c)
	clone := testbed.Settings{Directory: copyTree(t, original.Directory)}

	origins := map[string]bool{}
	for i, settings := range []testbed.Settings{original, clone} {
		c := start(t, settings)
		for _, result := range send(t, c, roundName(i), 20) {
			origins[result.Origin] = true
		}
		stop(t, c)
		requireSound(t, settings)
	}
	require.Len(t, origins, 2, "the copy must not go on under the original's name")

	both := copyTree(t, original.Store())
	require.NoError(t, overlay(both, clone.Store()))
	report := verify(t, "--key", original.Key(), both)
	assert.Equal(t, 1, report.Exit)
	assert.Equal(t, []string{"forked"}, report.Kinds(), "%+v", report.Findings)
}
