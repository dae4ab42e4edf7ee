// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"errors"
	"fmt"
	"path/filepath"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/otelaudit/otelaudit/audit"
)

// Bounds of FileConfig.
const (
	minFileBytes     = 4 << 10
	defaultFileBytes = 128 << 20
	maxFileBytes     = 1 << 40

	minLineBytes     = 4 << 10
	defaultLineBytes = 16 << 20
	maxLineBytes     = audit.MaxLine
)

// Config of the audit exporter. Exactly one sink is set; `file` is the only one
// so far.
type Config struct {
	// File stores lines in files below a directory.
	File configoptional.Optional[FileConfig] `mapstructure:"file"`

	// Quarantine keeps the records that the sink refuses for good.
	Quarantine QuarantineConfig `mapstructure:"quarantine"`

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
	// MaxLineBytes is the longest line in bytes: many readers of JSON lines cut
	// or refuse longer ones. A record whose line would be longer goes to
	// quarantine. 4 KiB to 32 MiB, default 16 MiB.
	MaxLineBytes int `mapstructure:"max_line_bytes"`
}

// QuarantineConfig says where refused records are kept.
type QuarantineConfig struct {
	// Directory is made if it is missing, with mode 0700, and locked: one
	// exporter at a time. It must not be below the file sink's. Default is the
	// file sink's directory with `.quarantine` behind its name.
	Directory string `mapstructure:"directory"`
}

func createDefaultConfig() component.Config {
	retry := configretry.NewDefaultBackOffConfig()
	retry.Enabled = false
	queue := exporterhelper.NewDefaultQueueConfig()
	queue.WaitForResult = true
	queue.NumConsumers = 1 // keeps the order
	return &Config{
		File:     configoptional.Default(FileConfig{MaxFileBytes: defaultFileBytes, MaxLineBytes: defaultLineBytes}),
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
	return errors.Join(c.validateQuarantine(), c.validateQueue())
}

// quarantineDirectory is where refused records are kept.
func (c *Config) quarantineDirectory() string {
	if c.Quarantine.Directory != "" {
		return c.Quarantine.Directory
	}
	return filepath.Clean(c.File.Get().Directory) + ".quarantine"
}

// validateQuarantine keeps files that are not the sink's out of its store.
func (c *Config) validateQuarantine() error {
	if c.File.Get().Directory == "" {
		return nil // named already
	}
	store, err := filepath.Abs(c.File.Get().Directory)
	if err != nil {
		return fmt.Errorf("`file::directory`: %w", err)
	}
	kept, err := filepath.Abs(c.quarantineDirectory())
	if err != nil {
		return fmt.Errorf("`quarantine::directory`: %w", err)
	}
	if relative, err := filepath.Rel(store, kept); err == nil && filepath.IsLocal(relative) {
		return fmt.Errorf("`quarantine::directory` must not be in `file::directory`, found %s:"+
			" what is in quarantine is not in the store; set it to another directory", c.quarantineDirectory())
	}
	return nil
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
	if c.MaxLineBytes < minLineBytes || c.MaxLineBytes > maxLineBytes {
		errs = append(errs, fmt.Errorf("`max_line_bytes` must be from %d to %d, found %d", minLineBytes, maxLineBytes, c.MaxLineBytes))
	}
	return errors.Join(errs...)
}
