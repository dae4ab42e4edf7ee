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
	// Proof says whose signatures are believed, and who must sign.
	Proof ProofConfig `mapstructure:"proof"`
	// Sequence says what happens to records that break their producer's chain.
	Sequence SequenceConfig `mapstructure:"sequence"`
	// Sign has the collector sign each record, beside the chain.
	Sign SignConfig `mapstructure:"sign"`
	// Limits says how large a record and its parts may be.
	Limits LimitsConfig `mapstructure:"limits"`
	// Chain says how records are linked and signed.
	Chain ChainConfig `mapstructure:"chain"`
	// Journal says where sealed records wait for their delivery.
	Journal JournalConfig `mapstructure:"journal"`
	// Idempotency says how long and how many record ids are remembered.
	Idempotency IdempotencyConfig `mapstructure:"idempotency"`
	// Ack says when a request is answered: `durable` (default), once its
	// records are synced to the journal; or `delivered`, once the next consumer
	// has taken them as well.
	Ack string `mapstructure:"ack"`
	// AckTimeout is how long `ack: delivered` waits for that. Then the request
	// is answered as durable, its delivery pending (202 at the audit
	// receiver). Keep it below the receiver's `request_timeout` and what your
	// clients wait; with `drain_timeout` it must leave room for the collector's
	// own end within 30 s. Default 10s.
	AckTimeout time.Duration `mapstructure:"ack_timeout"`
	// DrainTimeout is how long a shutdown goes on delivering. What is left
	// then stays in the journal. It must leave room for the collector's own
	// end within 30 s.
	DrainTimeout time.Duration `mapstructure:"drain_timeout"`
	// StuckAfter is how long one send may take, repetitions and all, before the
	// status and the log name its first record, and again each time it has
	// passed.
	StuckAfter time.Duration `mapstructure:"stuck_after"`
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

// IdempotencyConfig says how long and how many record ids are remembered. A
// record that comes again with the same id and content gets the first one's
// answer and is stored once.
type IdempotencyConfig struct {
	// Window is how long an id is remembered. Default 24h, 1m to 720h.
	Window time.Duration `mapstructure:"window"`
	// MaxBytes bounds the files that ids are kept in, in the journal directory;
	// the oldest go first, whatever their age. An id takes about 150 bytes, and 2
	// bytes of memory. Default 1 GiB, at least 64 MiB.
	MaxBytes int64 `mapstructure:"max_bytes"`
}

const (
	ackDurable      = "durable"
	ackDelivered    = "delivered"
	maxDrainTimeout = 25 * time.Second
)

func createDefaultConfig() component.Config {
	return &Config{
		Validation:   newValidationConfig(),
		Redaction:    newRedactionConfig(),
		Proof:        newProofConfig(),
		Sequence:     newSequenceConfig(),
		Sign:         newSignConfig(),
		Limits:       newLimitsConfig(),
		Chain:        ChainConfig{MaxStreams: 100_000, Heartbeat: time.Minute},
		Journal:      JournalConfig{MaxBytes: 1 << 30},
		Idempotency:  IdempotencyConfig{Window: 24 * time.Hour, MaxBytes: 1 << 30},
		Ack:          ackDurable,
		AckTimeout:   10 * time.Second,
		DrainTimeout: 10 * time.Second,
		StuckAfter:   time.Minute,
	}
}

// Validate names every key that cannot work.
func (c *Config) Validate() error {
	var errs []error
	if c.Ack != ackDurable && c.Ack != ackDelivered {
		errs = append(errs, fmt.Errorf("`ack` must be `%s` or `%s`, found %q", ackDurable, ackDelivered, c.Ack))
	}
	if c.AckTimeout <= 0 {
		errs = append(errs, fmt.Errorf("`ack_timeout` must be positive, found %v", c.AckTimeout))
	}
	if c.DrainTimeout <= 0 || c.DrainTimeout > maxDrainTimeout {
		errs = append(errs, fmt.Errorf("`drain_timeout` must be above 0 and at most %v, found %v", maxDrainTimeout, c.DrainTimeout))
	}
	if sum := c.AckTimeout + c.DrainTimeout; c.Ack == ackDelivered && sum > maxDrainTimeout {
		// The receivers end first, and with them the requests that wait for a
		// delivery; only then is there a drain.
		errs = append(errs, fmt.Errorf("`ack_timeout` and `drain_timeout` must be at most %v together with `ack: %s`, found %v: a shutdown waits for both", maxDrainTimeout, ackDelivered, sum))
	}
	if c.StuckAfter <= 0 {
		errs = append(errs, fmt.Errorf("`stuck_after` must be above 0, found %v", c.StuckAfter))
	}
	if c.Sign.KeyFile != "" && c.Limits.MaxRecordBytes < minSignedBytes {
		errs = append(errs, fmt.Errorf("`limits::max_record_bytes` must be at least %d where records are signed (`sign`), found %d", minSignedBytes, c.Limits.MaxRecordBytes))
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

// Validate names every key that cannot work.
func (c *IdempotencyConfig) Validate() error {
	var errs []error
	if c.Window < time.Minute || c.Window > 720*time.Hour {
		errs = append(errs, fmt.Errorf("`idempotency::window` must be from 1m to 720h, found %v", c.Window))
	}
	if c.MaxBytes < 64<<20 {
		errs = append(errs, fmt.Errorf("`idempotency::max_bytes` must be at least 67108864, found %d", c.MaxBytes))
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
