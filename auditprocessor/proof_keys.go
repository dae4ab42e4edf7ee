// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit/proof"
)

// readKeys reads the texts of the configured keys, in their order.
func (c *ProofConfig) readKeys() ([][]byte, error) {
	texts := make([][]byte, len(c.Keys))
	var errs []error
	for i := range c.Keys {
		var err error
		if texts[i], err = c.Keys[i].read(); err != nil {
			errs = append(errs, fmt.Errorf("`proof::keys[%d]` (%s): %w", i, c.Keys[i].ID, err))
		}
	}
	return texts, errors.Join(errs...)
}

func (c *ProofKeyConfig) read() ([]byte, error) {
	if c.Env != "" {
		text, found := os.LookupEnv(c.Env)
		if !found {
			return nil, fmt.Errorf("environment variable %s is not set", c.Env)
		}
		return []byte(text), nil
	}
	return readBounded(c.File)
}

// readBounded reads a file that holds a key.
func readBounded(path string) (text []byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return io.ReadAll(io.LimitReader(file, proof.MaxKeyText+1)) // one more than is taken for a key
}

// ring makes the trust policy of what readKeys read.
func (c *ProofConfig) ring(texts [][]byte) (*proof.Ring, error) {
	keys := make([]proof.Key, len(c.Keys))
	var errs []error
	for i := range c.Keys {
		var err error
		if keys[i], err = c.Keys[i].key(texts[i]); err != nil {
			errs = append(errs, fmt.Errorf("`proof::keys[%d]` (%s): %w", i, c.Keys[i].ID, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	ring, err := proof.NewRing(keys)
	if err != nil {
		return nil, fmt.Errorf("`proof::keys`: %w", err)
	}
	return ring, nil
}

func (c *ProofKeyConfig) key(text []byte) (proof.Key, error) {
	algorithms, err := c.algorithms()
	if err != nil {
		return proof.Key{}, err
	}
	parse := proof.ParsePublic
	if algorithms[0].MAC() {
		parse = proof.ParseSecret
	}
	material, err := parse(text)
	return proof.Key{
		ID: c.ID, Material: material, Algorithms: algorithms,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Services: c.Services, Tenants: c.Tenants,
	}, err
}

// keyring keeps the trust policy of a processor up to date with its files.
type keyring struct {
	config *ProofConfig
	use    func(*proof.Ring)
	logger *zap.Logger
	failed func() // counts a failure

	known  [sha256.Size]byte // of the texts in use
	faulty string            // what was wrong last time
}

// load reads the keys for the first time.
func (k *keyring) load() error {
	texts, err := k.config.readKeys()
	if err != nil {
		return err
	}
	ring, err := k.config.ring(texts)
	if err != nil {
		return err
	}
	k.known = digestOf(texts)
	k.use(ring)
	return nil
}

// keep reads the keys again and again until ctx ends.
func (k *keyring) keep(ctx context.Context) {
	ticker := time.NewTicker(k.config.ReloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.reload()
		}
	}
}

// reload takes new keys over, all of them or none: half a policy is none.
func (k *keyring) reload() {
	texts, err := k.config.readKeys()
	if err == nil && digestOf(texts) == k.known {
		k.recovered()
		return
	}
	var ring *proof.Ring
	if err == nil {
		ring, err = k.config.ring(texts)
	}
	if err != nil {
		k.failed()
		if k.faulty != err.Error() {
			k.logger.Error("the keys of producers could not be read again; those from before stay in use", zap.Error(err))
		}
		k.faulty = err.Error()
		return
	}
	k.known = digestOf(texts)
	k.use(ring)
	k.faulty = ""
	k.logger.Info("the keys of producers have changed; the new ones are in use", zap.Int("keys", len(texts)))
}

func (k *keyring) recovered() {
	if k.faulty != "" {
		k.faulty = ""
		k.logger.Info("the keys of producers can be read again, and are those in use")
	}
}

// digestOf identifies texts without keeping them.
func digestOf(texts [][]byte) [sha256.Size]byte {
	var sums []byte
	for _, text := range texts {
		sum := sha256.Sum256(text)
		sums = append(sums, sum[:]...)
	}
	return sha256.Sum256(sums)
}
