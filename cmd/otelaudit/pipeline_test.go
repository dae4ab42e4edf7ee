// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelaudit/otelaudit/auditexporter"
	"github.com/otelaudit/otelaudit/auditprocessor"
	"github.com/otelaudit/otelaudit/auditreceiver"
)

// pipeline is a whole pipeline of our three parts, as a collector runs it.
type pipeline struct {
	endpoint string // of /v1/events
	journal  string
	stop     func() // ends it in order, once
}

func (p *pipeline) key() string        { return filepath.Join(p.journal, "verifier.pub") }
func (p *pipeline) checkpoint() string { return filepath.Join(p.journal, "checkpoint") }

// startPipeline runs a pipeline whose journal is below directory and whose
// exporter has the given configuration. It stops with the test at the latest.
func startPipeline(t *testing.T, directory string, exporterConfig map[string]any) *pipeline {
	t.Helper()
	p := &pipeline{journal: filepath.Join(directory, "journal")}
	host := componenttest.NewNopHost()

	ef := auditexporter.NewFactory()
	exporter, err := ef.CreateLogs(t.Context(), exportertest.NewNopSettings(ef.Type()), configured(t, ef.CreateDefaultConfig(), exporterConfig))
	require.NoError(t, err)
	pf := auditprocessor.NewFactory()
	processor, err := pf.CreateLogs(t.Context(), processortest.NewNopSettings(pf.Type()), configured(t, pf.CreateDefaultConfig(),
		map[string]any{"journal": map[string]any{"directory": p.journal}, "chain": map[string]any{"instance": "host-1"}}), exporter)
	require.NoError(t, err)
	address := freeAddress(t)
	rf := auditreceiver.NewFactory()
	receiver, err := rf.CreateLogs(t.Context(), receivertest.NewNopSettings(rf.Type()), configured(t, rf.CreateDefaultConfig(),
		map[string]any{"http": map[string]any{"endpoint": address}}), processor)
	require.NoError(t, err)

	parts := []component.Component{exporter, processor, receiver}
	for _, part := range parts {
		require.NoError(t, part.Start(t.Context(), host))
	}
	var once sync.Once
	p.stop = func() {
		once.Do(func() {
			for _, part := range []component.Component{receiver, processor, exporter} {
				assert.NoError(t, part.Shutdown(context.Background()))
			}
			http.DefaultClient.CloseIdleConnections()
		})
	}
	t.Cleanup(p.stop)
	p.endpoint = "http://" + address + "/v1/events"
	return p
}

// filePipeline runs a pipeline into files, and returns their directory.
func filePipeline(t *testing.T) (p *pipeline, store string) {
	t.Helper()
	directory := t.TempDir()
	store = filepath.Join(directory, "audit")
	return startPipeline(t, directory, map[string]any{"file": map[string]any{"directory": store, "max_file_bytes": 4 << 10}}), store
}

func configured(t *testing.T, config component.Config, values map[string]any) component.Config {
	t.Helper()
	require.NoError(t, confmap.NewFromStringMap(values).Unmarshal(config))
	return config
}

// freeAddress is free at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// eventOptions change one event of a test.
type eventOptions map[string]string

// event is an event that occurred at the nth second of a day.
func event(id string, n int, more eventOptions) string {
	get := func(name, otherwise string) string {
		if value, ok := more[name]; ok {
			return value
		}
		return otherwise
	}
	at := time.Date(2026, 11, 1, 0, 0, n, 0, time.UTC).Format(time.RFC3339)
	return fmt.Sprintf(`{"eventId":%q,"action":%q,"outcome":%q,"actor":{"type":"user","id":%q},"target":{"type":"file","id":%q},`+
		`"context":{"occurredAt":%q,"tenantId":%q},"metadata":{"n":%d}}`,
		id, get("action", "file.read"), get("outcome", "SUCCESS"), get("actor", "u-1"), get("target", "f-1"), at, get("tenant", "acme"), n)
}

// sendAll sends events to a pipeline and waits until all are durable.
func sendAll(t *testing.T, p *pipeline, events ...string) {
	t.Helper()
	out := input(strings.Join(events, "\n"), "send", "--endpoint", p.endpoint)
	require.Equal(t, exitSound, out.code, "%s%s", out.stdout, out.stderr)
}

// input is otelaudit with something on its standard input.
func input(text string, args ...string) output {
	var stdout, stderr strings.Builder
	code := run(context.Background(), args, console{strings.NewReader(text), &stdout, &stderr})
	return output{code, stdout.String(), stderr.String()}
}
