// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
)

func loadConfig(t *testing.T, name string) (*Config, error) {
	t.Helper()
	all, err := confmaptest.LoadConf("testdata/config.yaml")
	require.NoError(t, err)
	require.True(t, all.IsSet(name), name)
	sub, err := all.Sub(name)
	require.NoError(t, err)
	config := createDefaultConfig().(*Config)
	if err := sub.Unmarshal(config); err != nil {
		return nil, err
	}
	return config, confmap.Validate(config)
}

func TestDefaults(t *testing.T) {
	config, err := loadConfig(t, "audit")
	require.NoError(t, err)
	assert.Equal(t, FileConfig{Directory: "./data/audit", MaxFileBytes: 128 << 20, MaxFileAge: 24 * time.Hour, MaxLineBytes: 16 << 20, MinFreeBytes: 64 << 20}, *config.File.Get())
	assert.Equal(t, "data/audit.quarantine", config.quarantineDirectory())
	assert.True(t, config.Required)
	assert.False(t, config.Retry.Enabled)
	assert.False(t, config.Queue.HasValue())
	assert.Equal(t, 5*time.Second, config.Timeout.Timeout)
}

func TestAllKeys(t *testing.T) {
	config, err := loadConfig(t, "audit/all")
	require.NoError(t, err)
	assert.Equal(t, FileConfig{
		Directory: "./data/audit", MaxFileBytes: 1 << 20, MaxFileAge: time.Hour, MaxLineBytes: 1 << 19, MinFreeBytes: 1 << 30,
	}, *config.File.Get())
	assert.Equal(t, "./data/quarantine", config.quarantineDirectory())
	assert.False(t, config.Required)
	assert.Equal(t, 20*time.Second, config.Timeout.Timeout)
	assert.True(t, config.Retry.Enabled)
	assert.Equal(t, 100*time.Millisecond, config.Retry.InitialInterval)
	require.True(t, config.Queue.HasValue())
	assert.False(t, config.Queue.Get().WaitForResult)
	assert.True(t, config.Queue.Get().Batch.HasValue())
}

func TestRetention(t *testing.T) {
	config, err := loadConfig(t, "audit/retention")
	require.NoError(t, err)
	assert.Equal(t, RetentionConfig{MaxAge: 720 * time.Hour, MaxBytes: 1 << 30}, config.File.Get().Retention)
}

func TestQueueThatWaits(t *testing.T) {
	config, err := loadConfig(t, "audit/waiting_queue")
	require.NoError(t, err)
	require.True(t, config.Queue.HasValue())
	assert.True(t, config.Queue.Get().WaitForResult)
	assert.Equal(t, 1, config.Queue.Get().NumConsumers)
	assert.False(t, config.Queue.Get().Batch.HasValue())
}

// A sink that is not required has a queue of its own without a word of it.
func TestOptionalQueue(t *testing.T) {
	for _, name := range []string{"audit/optional", "audit/optional_small"} {
		config, err := loadConfig(t, name)
		require.NoError(t, err)
		require.True(t, config.Queue.HasValue())
		queue := config.Queue.Get()
		assert.False(t, queue.WaitForResult)
		assert.False(t, queue.BlockOnOverflow)
		assert.Equal(t, exporterhelper.RequestSizerTypeBytes, queue.Sizer)
		assert.Equal(t, map[string]int64{"audit/optional": 64 << 20, "audit/optional_small": 8 << 20}[name], queue.QueueSize)
	}
}

func TestBreakerDefaults(t *testing.T) {
	config, err := loadConfig(t, "audit")
	require.NoError(t, err)
	assert.Equal(t, CircuitBreakerConfig{FailureThreshold: 5, Cooldown: 10 * time.Second, HalfOpenMaxInFlight: 1}, config.CircuitBreaker,
		"those of the original logger")
}

func TestInvalid(t *testing.T) {
	for name, want := range map[string]string{
		"audit/empty":               "no sink is configured: set `file::directory`",
		"audit/empty_file":          "file: `directory` must not be empty",
		"audit/small_files":         "file: `max_file_bytes` must be from 4096 to 1099511627776, found 100",
		"audit/small_lines":         "file: `max_line_bytes` must be from 4096 to 33554432, found 4095",
		"audit/large_lines":         "file: `max_line_bytes` must be from 4096 to 33554432, found 33554433",
		"audit/short_age":           "file: `max_file_age` must be 0 for off or at least 1m0s, found 1s",
		"audit/negative_free":       "file: `min_free_bytes` must be 0 for off or more, found -1",
		"audit/short_retention":     "file: retention: `max_age` must be 0 to keep all or at least 1h0m0s, found 1m0s",
		"audit/small_retention":     "file: `retention::max_bytes` must be 0 to keep all or at least twice `max_file_bytes`, 268435456, found 1000000",
		"audit/optional_retention":  "`file::retention` needs `required: true`",
		"audit/quarantine_in_store": "`quarantine::directory` must not be in `file::directory`",
		"audit/quarantine_is_store": "`quarantine::directory` must not be in `file::directory`",
		"audit/store_is_here":       "`quarantine::directory` must not be in `file::directory`",
		"audit/eager_queue":         "`sending_queue::wait_for_result` must be true with `required: true`",
		"audit/batch":               "`sending_queue::batch` must be absent with `required: true`",
		"audit/optional_tiny":       "`sending_queue::queue_size` must be at least 8388608 (bytes), found 100000",
		"audit/optional_tiny_items": "`sending_queue::queue_size` must be at least 16384 (items), found 8192",
		"audit/optional_waits":      "`sending_queue::wait_for_result` and `::block_on_overflow` must be false with `required: false`",
		"audit/optional_blocks":     "`sending_queue::wait_for_result` and `::block_on_overflow` must be false with `required: false`",
		"audit/optional_no_queue":   "`sending_queue` must not be off with `required: false`",
		"audit/breaker":             "`failure_threshold` must be from 1 to 1000, found 0",
		"audit/breaker_cooldown":    "`cooldown` must be over 0 and up to 1h0m0s, found 2h0m0s",
		"audit/breaker_trials":      "`half_open_max_in_flight` must be from 1 to 100, found 0",
		"audit/unknown":             "compress",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(t, name)
			assert.ErrorContains(t, err, want)
		})
	}
}
