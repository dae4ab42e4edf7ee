// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"errors"
	"fmt"
	"time"

	"github.com/otelaudit/otelaudit/audit/proof"
)

// What is done with a record whose proof does not hold.
const (
	onViolationMark   = "mark"
	onViolationReject = "reject"
)

// ProofConfig says whose signatures are believed. Without keys and without
// requirements no proof is looked at.
type ProofConfig struct {
	// Keys is the trust policy: no key that is not in it proves anything.
	Keys []ProofKeyConfig `mapstructure:"keys"`
	// RequireSignature names those whose records must carry a proof.
	RequireSignature []ProofOwnerConfig `mapstructure:"require_signature"`
	// OnViolation is `mark` (default): a record whose proof fails, or is missing
	// where one is required, is sealed with the verdict, in the stream
	// `flagged:…`; or `reject`: it is refused, and with it its request.
	OnViolation string `mapstructure:"on_violation"`
	// ReloadInterval is how often the files of the keys are read again. Default
	// 10s, at least 1s. A file that is gone twice takes its key away; one that
	// cannot be used leaves it as it was. Both are said.
	ReloadInterval time.Duration `mapstructure:"reload_interval"`

	_ struct{}
}

// ProofKeyConfig is one key of the trust policy. Exactly one of File and Env is
// set: to a certificate or public key in PEM, or the base64 of it; for HMAC to
// the base64 of at least 32 random bytes. The configuration itself never holds
// a secret.
type ProofKeyConfig struct {
	// ID names the key in verdicts, and where a record refers to it so.
	ID string `mapstructure:"id"`
	// File holds the key. It is read again while the collector runs.
	File string `mapstructure:"file"`
	// Env is the name of an environment variable that holds the key.
	Env string `mapstructure:"env"`
	// Algorithms are the only ones that the key is used with: RS256, RS512,
	// ES256, EdDSA, HMAC-SHA256, HMAC-SHA512. At least one.
	Algorithms []string `mapstructure:"algorithms"`
	// NotBefore and NotAfter, RFC 3339, bound the time in which what the key
	// proves counts, by the collector's clock when the record arrives. A
	// certificate's own times hold as well.
	NotBefore time.Time `mapstructure:"not_before"`
	NotAfter  time.Time `mapstructure:"not_after"`
	// Services and Tenants are the only ones whose records the key may prove.
	// None: any.
	Services []string `mapstructure:"services"`
	Tenants  []string `mapstructure:"tenants"`

	_ struct{}
}

// ProofOwnerConfig names whose records it is about: one service (`service.name`)
// or one tenant; `*` is any.
type ProofOwnerConfig struct {
	Service string `mapstructure:"service"`
	Tenant  string `mapstructure:"tenant"`

	_ struct{}
}

// SequenceConfig says how the chains of producers are followed: the attributes
// audit.sequence.*.
type SequenceConfig struct {
	// Enabled is true by default: records without these attributes cost nothing.
	Enabled bool `mapstructure:"enabled"`
	// OnViolation is `mark` (default): a record that breaks its producer's chain
	// is sealed with the finding, in the stream `flagged:…`; or `reject`: it is
	// refused, and with it its request. A gap then holds its stream up until the
	// missing records come.
	OnViolation string `mapstructure:"on_violation"`
	// MaxStreams is the number of streams that are followed, about 400 bytes of
	// memory each; those that were not used for the longest are forgotten, and
	// are `joined` again. Default 100000.
	MaxStreams int `mapstructure:"max_streams"`

	_ struct{}
}

func newSequenceConfig() SequenceConfig {
	return SequenceConfig{Enabled: true, OnViolation: onViolationMark, MaxStreams: 100_000}
}

// Validate names each key that holds what cannot be.
func (c *SequenceConfig) Validate() error {
	return errors.Join(
		checkOnViolation("sequence::on_violation", c.OnViolation),
		checkRange("sequence::max_streams", c.MaxStreams, 1, 1_000_000))
}

func newProofConfig() ProofConfig {
	return ProofConfig{OnViolation: onViolationMark, ReloadInterval: 10 * time.Second}
}

// isSet says whether proofs are looked at.
func (c *ProofConfig) isSet() bool { return len(c.Keys) > 0 || len(c.RequireSignature) > 0 }

// Validate names each key that holds what cannot be.
func (c *ProofConfig) Validate() error {
	errs := []error{checkOnViolation("proof::on_violation", c.OnViolation)}
	if c.ReloadInterval < time.Second {
		errs = append(errs, fmt.Errorf("`proof::reload_interval` must be at least 1s, found %v", c.ReloadInterval))
	}
	if len(c.Keys) > proof.MaxKeys {
		errs = append(errs, fmt.Errorf("`proof::keys` has %d entries, more than %d", len(c.Keys), proof.MaxKeys))
	}
	ids := map[string]bool{}
	for i := range c.Keys {
		if err := c.Keys[i].check(); err != nil {
			errs = append(errs, fmt.Errorf("`proof::keys[%d]%w", i, err))
		}
		if ids[c.Keys[i].ID] {
			errs = append(errs, fmt.Errorf("`proof::keys[%d]::id` %q is that of an earlier key", i, c.Keys[i].ID))
		}
		ids[c.Keys[i].ID] = true
	}
	for i, owner := range c.RequireSignature {
		if (owner.Service == "") == (owner.Tenant == "") {
			errs = append(errs, fmt.Errorf("`proof::require_signature[%d]` must name either a service or a tenant", i))
		}
	}
	return errors.Join(errs...)
}

func checkOnViolation(key, value string) error {
	if value != onViolationMark && value != onViolationReject {
		return fmt.Errorf("`%s` must be %s or %s, found %q", key, onViolationMark, onViolationReject, value)
	}
	return nil
}

// check returns an error that continues the name of the entry.
func (c *ProofKeyConfig) check() error {
	switch {
	case c.ID == "":
		return errors.New("::id` is required")
	case (c.File == "") == (c.Env == ""):
		return errors.New("` must have either `file` or `env`")
	}
	algorithms, err := c.algorithms()
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		if a.MAC() != algorithms[0].MAC() {
			return fmt.Errorf("::algorithms` has %s beside %s: a key is a secret or a public key, never both", a, algorithms[0])
		}
	}
	if !c.NotAfter.IsZero() && c.NotAfter.Before(c.NotBefore) {
		return errors.New("::not_after` is before `not_before`")
	}
	return nil
}

func (c *ProofKeyConfig) algorithms() ([]proof.Algorithm, error) {
	if len(c.Algorithms) == 0 {
		return nil, errors.New("::algorithms` is required: without it a record could choose how its proof is checked")
	}
	algorithms := make([]proof.Algorithm, len(c.Algorithms))
	for i, name := range c.Algorithms {
		var err error
		if algorithms[i], err = proof.ParseAlgorithm(name); err != nil {
			return nil, fmt.Errorf("::algorithms[%d]`: %w", i, err)
		}
	}
	return algorithms, nil
}
