// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/otelaudit/otelaudit/audit/chain"
)

// Config is the configuration of the audit processor. Only
// `journal::directory` is required.
type Config struct {
	// Validation says what makes a record valid and what happens to one that
	// is not.
	Validation ValidationConfig `mapstructure:"validation"`
	// Redaction says which values are masked before anything is hashed or
	// reaches a disk.
	Redaction RedactionConfig `mapstructure:"redaction"`
	// Limits says how large a record and its parts may be.
	Limits LimitsConfig `mapstructure:"limits"`
	// Chain says how records are linked and signed.
	Chain ChainConfig `mapstructure:"chain"`
	// Journal says where sealed records wait for their delivery.
	Journal JournalConfig `mapstructure:"journal"`
	// Ack says when a request is answered: `durable`, once its records are
	// synced to the journal.
	Ack string `mapstructure:"ack"`
	// DrainTimeout is how long a shutdown goes on delivering. What is left
	// then stays in the journal. It must leave room for the collector's own
	// end within 30 s.
	DrainTimeout time.Duration `mapstructure:"drain_timeout"`
}

// ChainConfig says how records are linked and signed.
type ChainConfig struct {
	// Instance names the log, [A-Za-z0-9._-]{1,128}; empty takes the host name.
	// It is fixed once the journal directory exists.
	Instance string `mapstructure:"instance"`
	// MaxStreams is the number of streams above which records share the stream
	// `overflow:`. It bounds memory: about 200 bytes a stream.
	MaxStreams int `mapstructure:"max_streams"`
	// Heartbeat is how long the log may be silent before a heartbeat record is
	// sealed: silence is then provable.
	Heartbeat time.Duration `mapstructure:"heartbeat"`
	// Signing says which key signs checkpoints.
	Signing SigningConfig `mapstructure:"signing"`
}

// SigningConfig says which key signs checkpoints.
type SigningConfig struct {
	// KeyFile is an Ed25519 private key, PKCS#8 in PEM. Empty: a key is made
	// on the first start, in the journal directory.
	KeyFile string `mapstructure:"key_file"`
}

// JournalConfig says where sealed records wait for their delivery.
type JournalConfig struct {
	// Directory belongs to this processor alone, in one pipeline. Required.
	Directory string `mapstructure:"directory"`
	// MaxBytes is the backlog of undelivered bytes above which requests are
	// refused with a retryable error.
	MaxBytes int64 `mapstructure:"max_bytes"`
}

const (
	ackDurable      = "durable"
	maxDrainTimeout = 25 * time.Second
)

func createDefaultConfig() component.Config {
	return &Config{
		Validation:   newValidationConfig(),
		Redaction:    newRedactionConfig(),
		Limits:       newLimitsConfig(),
		Chain:        ChainConfig{MaxStreams: 100_000, Heartbeat: time.Minute},
		Journal:      JournalConfig{MaxBytes: 1 << 30},
		Ack:          ackDurable,
		DrainTimeout: 10 * time.Second,
	}
}

// Validate names every key that cannot work.
func (c *Config) Validate() error {
	var errs []error
	if c.Ack != ackDurable {
		errs = append(errs, fmt.Errorf("`ack` must be `%s`, found %q", ackDurable, c.Ack))
	}
	if c.DrainTimeout <= 0 || c.DrainTimeout > maxDrainTimeout {
		errs = append(errs, fmt.Errorf("`drain_timeout` must be above 0 and at most %v, found %v", maxDrainTimeout, c.DrainTimeout))
	}
	return errors.Join(errs...)
}

// Validate names every key that cannot work.
func (c *ChainConfig) Validate() error {
	var errs []error
	if c.Instance != "" {
		if err := chain.CheckInstance(c.Instance); err != nil {
			errs = append(errs, fmt.Errorf("`chain::instance`: %w", err))
		}
	}
	if c.MaxStreams < 1 || c.MaxStreams > 1_000_000 {
		errs = append(errs, fmt.Errorf("`chain::max_streams` must be between 1 and 1000000, found %d", c.MaxStreams))
	}
	if c.Heartbeat < time.Second {
		errs = append(errs, fmt.Errorf("`chain::heartbeat` must be at least 1s, found %v", c.Heartbeat))
	}
	return errors.Join(errs...)
}

// Validate names every key that cannot work.
func (c *JournalConfig) Validate() error {
	var errs []error
	if c.Directory == "" {
		errs = append(errs, errors.New("`journal::directory` is required: a directory that this processor alone uses"))
	}
	if c.MaxBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("`journal::max_bytes` must be at least 1048576, found %d", c.MaxBytes))
	}
	return errors.Join(errs...)
}

// digest identifies the effective configuration in the start record.
func (c *Config) digest() (chain.Hash, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return chain.Hash{}, fmt.Errorf("digest of the configuration: %w", err)
	}
	return sha256.Sum256(text), nil
}
