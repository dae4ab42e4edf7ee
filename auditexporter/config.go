// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/otelaudit/otelaudit/audit"
)

// Bounds of FileConfig.
const (
	minFileBytes     = 4 << 10
	defaultFileBytes = 128 << 20
	maxFileBytes     = 1 << 40

	minFileAge          = time.Minute
	defaultFileAge      = 24 * time.Hour
	defaultMinFreeBytes = 64 << 20
	minRetentionAge     = time.Hour

	minLineBytes     = 4 << 10
	defaultLineBytes = 16 << 20
	maxLineBytes     = audit.MaxLine
)

// Bounds of CircuitBreakerConfig.
const (
	maxFailureThreshold = 1000
	maxCooldown         = time.Hour
	maxInFlight         = 100
)

// Memory of the queue that keeps what an optional sink has not yet, in bytes.
const optionalQueueBytes = 64 << 20

// Config of the audit exporter. Exactly one sink is set.
type Config struct {
	// File stores lines in files below a directory.
	File configoptional.Optional[FileConfig] `mapstructure:"file"`
	// HTTP posts to an endpoint.
	HTTP configoptional.Optional[HTTPConfig] `mapstructure:"http"`
	// Postgres stores rows in a PostgreSQL database.
	Postgres configoptional.Optional[PostgresConfig] `mapstructure:"postgres"`

	// Quarantine keeps the records that the sink refuses for good.
	Quarantine QuarantineConfig `mapstructure:"quarantine"`

	// Required says that a record counts as delivered only once this sink has
	// it. It forbids a queue that would answer before that. Default true.
	//
	// A sink that is not required never delays the others: a bounded queue of
	// its own takes what it has not yet, and what that cannot take is missed
	// and counted.
	Required bool `mapstructure:"required"`

	// CircuitBreaker keeps writes away from a sink that fails.
	CircuitBreaker CircuitBreakerConfig `mapstructure:"circuit_breaker"`

	// Timeout bounds one attempt, the wait for an open circuit breaker not
	// counted. A write to a file that has begun is ended all the same: what is
	// cut is the reading of a large store before the first.
	Timeout exporterhelper.TimeoutConfig `mapstructure:",squash"`
	// Retry is off by default: the audit processor's forwarder repeats without
	// end and in order. A sink that is not required always retries; then it
	// says how.
	Retry configretry.BackOffConfig `mapstructure:"retry_on_failure"`
	// Queue is off by default for a required sink: the processor's journal is
	// the queue, and unlike one in memory it survives. One that is not
	// required always has one, by default of 64 MiB.
	Queue configoptional.Optional[exporterhelper.QueueBatchConfig] `mapstructure:"sending_queue"`
}

// CircuitBreakerConfig says when a sink that fails is left in peace, and for how
// long. Meanwhile batches wait: none is lost and no attempt is spent.
type CircuitBreakerConfig struct {
	// FailureThreshold is how many attempts in a row fail before it opens. 1
	// to 1000, default 5.
	FailureThreshold int `mapstructure:"failure_threshold"`
	// Cooldown is how long it stays open before the next trial. Up to 1 h,
	// default 10 s.
	Cooldown time.Duration `mapstructure:"cooldown"`
	// HalfOpenMaxInFlight is how many trials run at once. 1 to 100, default 1.
	HalfOpenMaxInFlight int `mapstructure:"half_open_max_in_flight"`
}

// FileConfig says where and how the file sink stores.
type FileConfig struct {
	// Directory holds the store. It is made if it is missing, with mode 0700,
	// and locked: one exporter at a time. Required.
	Directory string `mapstructure:"directory"`
	// MaxFileBytes is the size in bytes from which on a file is followed by a
	// new one, at the next checkpoint. 4 KiB to 1 TiB, default 128 MiB.
	MaxFileBytes int64 `mapstructure:"max_file_bytes"`
	// MaxFileAge is the time over which the records of one file may have been
	// sealed; a new one follows at the next checkpoint. From 1 min, 0 is off,
	// default 24 h.
	MaxFileAge time.Duration `mapstructure:"max_file_age"`
	// MaxLineBytes is the longest line in bytes: many readers of JSON lines cut
	// or refuse longer ones. A record whose line would be longer goes to
	// quarantine. 4 KiB to 32 MiB, default 16 MiB.
	MaxLineBytes int `mapstructure:"max_line_bytes"`
	// MinFreeBytes is how much room there should be on the disk. With less, the
	// component's status says so, and writes go on. Default 64 MiB, 0 is off.
	MinFreeBytes int64 `mapstructure:"min_free_bytes"`
	// Retention removes old files. Default is to keep all.
	Retention RetentionConfig `mapstructure:"retention"`
}

// RetentionConfig says how much of each log is kept. What a required sink of the
// pipeline does not have yet is never removed.
type RetentionConfig struct {
	// MaxAge is how much older all records of a file must be than the newest
	// one for it to go. 0 keeps all, else from 1 h.
	MaxAge time.Duration `mapstructure:"max_age"`
	// MaxBytes is how much a log's files may hold before the oldest go. 0
	// keeps all, else at least twice max_file_bytes.
	MaxBytes int64 `mapstructure:"max_bytes"`
}

// QuarantineConfig says where refused records are kept.
type QuarantineConfig struct {
	// Directory is made if it is missing, with mode 0700, and locked: one
	// exporter at a time. It must not be below the file sink's. Default is the
	// file sink's directory with `.quarantine` behind its name; required with
	// any other sink.
	Directory string `mapstructure:"directory"`
}

func createDefaultConfig() component.Config {
	retry := configretry.NewDefaultBackOffConfig()
	retry.Enabled = false
	retry.MaxElapsedTime = 0 // whoever retries does not give up
	return &Config{
		File:           configoptional.Default(defaultFile()),
		HTTP:           configoptional.Default(defaultHTTPConfig()),
		Postgres:       configoptional.Default(defaultPostgres()),
		Required:       true,
		CircuitBreaker: CircuitBreakerConfig{FailureThreshold: 5, Cooldown: 10 * time.Second, HalfOpenMaxInFlight: 1},
		Timeout:        exporterhelper.NewDefaultTimeoutConfig(),
		Retry:          retry,
		Queue:          configoptional.Default(requiredQueue()),
	}
}

func defaultFile() FileConfig {
	return FileConfig{
		MaxFileBytes: defaultFileBytes, MaxFileAge: defaultFileAge,
		MaxLineBytes: defaultLineBytes, MinFreeBytes: defaultMinFreeBytes,
	}
}

// requiredQueue answers only when a batch was stored.
func requiredQueue() exporterhelper.QueueBatchConfig {
	queue := exporterhelper.NewDefaultQueueConfig()
	queue.WaitForResult = true
	queue.NumConsumers = 1 // keeps the order
	return queue
}

// optionalQueue answers at once, and never waits.
func optionalQueue() exporterhelper.QueueBatchConfig {
	queue := exporterhelper.NewDefaultQueueConfig()
	queue.NumConsumers = 1
	queue.Sizer = exporterhelper.RequestSizerTypeBytes
	queue.QueueSize = optionalQueueBytes
	return queue
}

// Unmarshal gives a sink that is not required its queue before it reads what is
// configured for it.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	role := struct {
		Required bool `mapstructure:"required"`
	}{c.Required}
	if err := conf.Unmarshal(&role, confmap.WithIgnoreUnused()); err != nil {
		return err
	}
	if !role.Required {
		c.Queue = configoptional.Some(optionalQueue())
		// The circuit breaker spares the sink; what is longer only keeps the copy behind.
		c.Retry.InitialInterval, c.Retry.MaxInterval = time.Second, 5*time.Second
	}
	return conf.Unmarshal(c)
}

// Validate says what is wrong with the configuration, all at once.
func (c *Config) Validate() error {
	return errors.Join(c.validateSink(), c.validateRetention(), c.validateQuarantine(), c.validateQueue())
}

// sinks names the blocks of the sinks that are configured.
func (c *Config) sinks() []string {
	var names []string
	if c.File.HasValue() {
		names = append(names, "file")
	}
	if c.HTTP.HasValue() {
		names = append(names, "http")
	}
	if c.Postgres.HasValue() {
		names = append(names, "postgres")
	}
	return names
}

func (c *Config) validateSink() error {
	switch names := c.sinks(); len(names) {
	case 0:
		return errors.New("no sink is configured: set `file::directory` to where the audit files go," +
			" `http::endpoint` to where they are posted, or `postgres::dsn` to the database with their table")
	case 1:
		return nil
	default:
		return fmt.Errorf("one exporter has one sink, found `%s`: use one exporter each, such as `audit/%s`,"+
			" and list them all in the pipeline", strings.Join(names, "` and `"), names[1])
	}
}

// validateRetention refuses what would never remove anything.
func (c *Config) validateRetention() error {
	if c.Required || !c.File.HasValue() || c.File.Get().Retention == (RetentionConfig{}) {
		return nil
	}
	return errors.New("`file::retention` needs `required: true`: behind the queue of an optional sink nobody knows" +
		" what the other sinks have, so nothing could be removed; remove `retention`, or set `required: true`")
}

// quarantineDirectory is where refused records are kept, "" if that has to be
// configured.
func (c *Config) quarantineDirectory() string {
	if c.Quarantine.Directory != "" || !c.File.HasValue() {
		return c.Quarantine.Directory
	}
	return filepath.Clean(c.File.Get().Directory) + ".quarantine"
}

// validateQuarantine keeps files that are not the sink's out of its store.
func (c *Config) validateQuarantine() error {
	switch {
	case !c.File.HasValue() && len(c.sinks()) > 0 && c.Quarantine.Directory == "":
		return errors.New("`quarantine::directory` must be set: it is where records go that the sink refuses for good")
	case !c.File.HasValue(), c.File.Get().Directory == "":
		return nil // nothing to keep out of, or named already
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

// validateQueue refuses queues that would lose what was acknowledged, or delay
// other sinks.
func (c *Config) validateQueue() error {
	if !c.Required {
		return c.validateOptionalQueue()
	}
	if !c.Queue.HasValue() {
		return nil
	}
	queue := c.Queue.Get()
	var errs []error
	if !queue.WaitForResult {
		errs = append(errs, errors.New("`sending_queue::wait_for_result` must be true with `required: true`:"+
			" a queue that answers at once reports records as delivered that no sink has yet;"+
			" remove `sending_queue`, set `wait_for_result: true`, or set `required: false`"))
	}
	if queue.Batch.HasValue() {
		errs = append(errs, errors.New("`sending_queue::batch` must be absent with `required: true`:"+
			" a merged batch loses the context in which the audit processor learns what became of its records;"+
			" remove `batch` (the processor sends large batches already), or set `required: false`"))
	}
	return errors.Join(errs...)
}

func (c *Config) validateOptionalQueue() error {
	if !c.Queue.HasValue() {
		return errors.New("`sending_queue` must not be off with `required: false`:" +
			" without a queue of its own this sink would delay the others; remove `sending_queue` for the default one")
	}
	queue := c.Queue.Get()
	if least := leastQueue(queue.Sizer); queue.QueueSize < least {
		return fmt.Errorf("`sending_queue::queue_size` must be at least %d (%s), found %d:"+
			" the audit processor sends up to that much at once, and a batch that never fits is missed",
			least, queue.Sizer.String(), queue.QueueSize)
	}
	if queue.WaitForResult || queue.BlockOnOverflow {
		return errors.New("`sending_queue::wait_for_result` and `::block_on_overflow` must be false with `required: false`:" +
			" they would make the other sinks wait for this one; remove them, or set `required: true`")
	}
	return nil
}

// leastQueue is what a few of the audit processor's sends need: each has up to
// 8,192 records or 3 MiB.
func leastQueue(sizer exporterhelper.RequestSizerType) int64 {
	switch sizer {
	case exporterhelper.RequestSizerTypeBytes:
		return 8 << 20
	case exporterhelper.RequestSizerTypeItems:
		return 16384
	}
	return 1
}

// Validate says what is wrong with the circuit breaker's configuration.
func (c *CircuitBreakerConfig) Validate() error {
	var errs []error
	if c.FailureThreshold < 1 || c.FailureThreshold > maxFailureThreshold {
		errs = append(errs, fmt.Errorf("`failure_threshold` must be from 1 to %d, found %d", maxFailureThreshold, c.FailureThreshold))
	}
	if c.Cooldown <= 0 || c.Cooldown > maxCooldown {
		errs = append(errs, fmt.Errorf("`cooldown` must be over 0 and up to %v, found %v", maxCooldown, c.Cooldown))
	}
	if c.HalfOpenMaxInFlight < 1 || c.HalfOpenMaxInFlight > maxInFlight {
		errs = append(errs, fmt.Errorf("`half_open_max_in_flight` must be from 1 to %d, found %d", maxInFlight, c.HalfOpenMaxInFlight))
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
	if c.MaxFileAge != 0 && c.MaxFileAge < minFileAge {
		errs = append(errs, fmt.Errorf("`max_file_age` must be 0 for off or at least %v, found %v", minFileAge, c.MaxFileAge))
	}
	if c.MinFreeBytes < 0 {
		errs = append(errs, fmt.Errorf("`min_free_bytes` must be 0 for off or more, found %d", c.MinFreeBytes))
	}
	if most := c.Retention.MaxBytes; most != 0 && most < 2*c.MaxFileBytes {
		errs = append(errs, fmt.Errorf("`retention::max_bytes` must be 0 to keep all or at least twice `max_file_bytes`, %d, found %d:"+
			" only files that are full or old are removed; raise it, or lower `max_file_bytes`", 2*c.MaxFileBytes, most))
	}
	return errors.Join(errs...)
}

// Validate says what is wrong with the retention.
func (c *RetentionConfig) Validate() error {
	if c.MaxAge != 0 && c.MaxAge < minRetentionAge {
		return fmt.Errorf("`max_age` must be 0 to keep all or at least %v, found %v", minRetentionAge, c.MaxAge)
	}
	return nil
}
