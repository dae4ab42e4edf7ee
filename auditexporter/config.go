// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
)

// Bounds of FileConfig.MaxFileBytes.
const (
	minFileBytes     = 4 << 10
	defaultFileBytes = 128 << 20
	maxFileBytes     = 1 << 40
)

// Config of the audit exporter. Exactly one sink is set; `file` is the only one
// so far.
type Config struct {
	// File stores lines in files below a directory.
	File configoptional.Optional[FileConfig] `mapstructure:"file"`

	// Required says that a record counts as delivered only once this sink has
	// it. It forbids a queue that would answer before that. Default true.
	Required bool `mapstructure:"required"`

	// Timeout bounds one attempt. A write that has begun is ended all the
	// same: what is cut is the reading of a large store before the first.
	Timeout exporterhelper.TimeoutConfig `mapstructure:",squash"`
	// Retry is off by default: the audit processor's forwarder repeats without
	// end and in order.
	Retry configretry.BackOffConfig `mapstructure:"retry_on_failure"`
	// Queue is off by default: the processor's journal is the queue, and
	// unlike one in memory it survives.
	Queue configoptional.Optional[exporterhelper.QueueBatchConfig] `mapstructure:"sending_queue"`
}

// FileConfig says where and how the file sink stores.
type FileConfig struct {
	// Directory holds the store. It is made if it is missing, with mode 0700,
	// and locked: one exporter at a time. Required.
	Directory string `mapstructure:"directory"`
	// MaxFileBytes is the size in bytes from which on a file is followed by a
	// new one, at the next checkpoint. 4 KiB to 1 TiB, default 128 MiB.
	MaxFileBytes int64 `mapstructure:"max_file_bytes"`
}

func createDefaultConfig() component.Config {
	retry := configretry.NewDefaultBackOffConfig()
	retry.Enabled = false
	queue := exporterhelper.NewDefaultQueueConfig()
	queue.WaitForResult = true
	queue.NumConsumers = 1 // keeps the order
	return &Config{
		File:     configoptional.Default(FileConfig{MaxFileBytes: defaultFileBytes}),
		Required: true,
		Timeout:  exporterhelper.NewDefaultTimeoutConfig(),
		Retry:    retry,
		Queue:    configoptional.Default(queue),
	}
}

// Validate says what is wrong with the configuration, all at once.
func (c *Config) Validate() error {
	if !c.File.HasValue() {
		return errors.Join(
			errors.New("no sink is configured: set `file::directory` to where the audit files go"), c.validateQueue())
	}
	return c.validateQueue()
}

// validateQueue refuses queues that would lose what was acknowledged.
func (c *Config) validateQueue() error {
	if !c.Queue.HasValue() {
		return nil
	}
	queue := c.Queue.Get()
	var errs []error
	if c.Required && !queue.WaitForResult {
		errs = append(errs, errors.New("`sending_queue::wait_for_result` must be true with `required: true`:"+
			" a queue that answers at once reports records as delivered that no sink has yet;"+
			" remove `sending_queue`, set `wait_for_result: true`, or set `required: false`"))
	}
	if c.Required && queue.Batch.HasValue() {
		errs = append(errs, errors.New("`sending_queue::batch` must be absent with `required: true`:"+
			" a merged batch loses the context in which the audit processor learns what became of its records;"+
			" remove `batch` (the processor sends large batches already), or set `required: false`"))
	}
	if !queue.WaitForResult && !c.Retry.Enabled {
		errs = append(errs, errors.New("`retry_on_failure::enabled` must be true with a `sending_queue` that does not wait:"+
			" without it the queue drops a batch at its first failure; set it, with `max_elapsed_time: 0` to repeat without end"))
	}
	return errors.Join(errs...)
}

// Validate says what is wrong with the file sink's configuration.
func (c *FileConfig) Validate() error {
	var errs []error
	if c.Directory == "" {
		errs = append(errs, errors.New("`directory` must not be empty: it is where the audit files go"))
	}
	if c.MaxFileBytes < minFileBytes || c.MaxFileBytes > maxFileBytes {
		errs = append(errs, fmt.Errorf("`max_file_bytes` must be from %d to %d, found %d", minFileBytes, int64(maxFileBytes), c.MaxFileBytes))
	}
	return errors.Join(errs...)
}
