// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"

	"github.com/otelaudit/otelaudit/auditexporter"
	"github.com/otelaudit/otelaudit/auditprocessor"
	"github.com/otelaudit/otelaudit/auditreceiver"
)

// keysOf lists the paths of all that is not a map, and of empty maps.
func keysOf(n *node) []string {
	if n.kind != mapping || len(n.fields) == 0 {
		return []string{""}
	}
	var keys []string
	for key, field := range n.fields {
		for _, below := range keysOf(field) {
			keys = append(keys, strings.TrimSuffix(key+keyDelimiter+below, keyDelimiter))
		}
	}
	slices.Sort(keys)
	return keys
}

// Of every two cases the doctor reads the configuration that the collector
// would read.
func TestMergesAsCollector(t *testing.T) {
	all := cases(t)
	names := slices.Sorted(maps.Keys(all))
	merged := func(t *testing.T, files ...File) (*node, *confmap.Conf) {
		var ours *node
		theirs := confmap.New()
		for _, file := range files {
			parsed, err := parse(file.Name, file.Text)
			require.NoError(t, err)
			ours = merge(ours, parsed)
			retrieved, err := confmap.NewRetrievedFromYAML(file.Text)
			require.NoError(t, err)
			conf, err := retrieved.AsConf()
			require.NoError(t, err)
			require.NoError(t, theirs.Merge(conf))
		}
		return ours, theirs
	}
	for i, name := range names {
		next := names[(i+1)%len(names)]
		ours, theirs := merged(t, all[name], all[next])
		keys := theirs.AllKeys()
		slices.Sort(keys)
		assert.Equal(t, keys, keysOf(ours), "%s, then %s", name, next)
		for _, key := range keys {
			n := ours.at(strings.Split(key, keyDelimiter)...)
			require.NotNil(t, n, key)
			switch value := theirs.Get(key).(type) {
			case string:
				assert.Equal(t, value, n.text, key)
			case nil:
				assert.Equal(t, null, n.kind, key)
			case bool:
				read, ok := n.boolean()
				assert.True(t, ok && read == value, key)
			case []any:
				assert.Len(t, n.items, len(value), key)
			}
		}
	}
}

// What is absent from a configuration is judged by the defaults of the
// components.
func TestDefaultsAreThoseOfComponents(t *testing.T) {
	r := auditreceiver.NewFactory().CreateDefaultConfig().(*auditreceiver.Config)
	assert.Equal(t, defaultRequestTimeout, r.RequestTimeout)
	assert.Equal(t, defaultWriteTimeout, r.HTTP.WriteTimeout)
	assert.Equal(t, defaultAuditEndpoint, r.HTTP.NetAddr.Endpoint)
	assert.False(t, r.HTTP.TLS.HasValue() || r.HTTP.Auth.HasValue())

	q := auditprocessor.NewFactory().CreateDefaultConfig().(*auditprocessor.Config)
	assert.Equal(t, defaultAckTimeout, q.AckTimeout)
	assert.Equal(t, "durable", q.Ack)
	assert.True(t, q.Redaction.Enabled)

	x := auditexporter.NewFactory().CreateDefaultConfig().(*auditexporter.Config)
	assert.Equal(t, defaultExporterTimeout, x.Timeout.Timeout)
	assert.Zero(t, x.Retry.MaxElapsedTime)
	assert.True(t, x.Required)
	assert.False(t, x.Retry.Enabled || x.Queue.HasValue())
}
