// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit/proof"
)

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
	if err != nil {
		return proof.Key{}, err
	}
	key := proof.Key{
		ID: c.ID, Material: material, Algorithms: algorithms,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Services: c.Services, Tenants: c.Tenants,
	}
	return key, key.Check()
}

// keyring keeps the trust policy of a processor up to date with its files. For
// one goroutine: that of Start, then that of keep.
type keyring struct {
	config *ProofConfig
	use    func(*proof.Ring)
	logger *zap.Logger
	failed func() // counts a look at the files that found a fault

	keys  []heldKey // one for each that is configured
	fault string    // what was wrong at the last look
}

// heldKey is a configured key as it was when it could be read.
type heldKey struct {
	key    proof.Key
	text   [sha256.Size]byte // of what it was read from
	missed int               // looks since at which its file was gone
}

// maxMissed is at how many looks the file of a key may be gone: who replaces a
// file in two steps does not take its key away for a moment, who deletes it does.
const maxMissed = 1

func (h *heldKey) counts() bool { return h.missed <= maxMissed }

// load reads the keys for the first time: all can be used, or it is an error.
func (k *keyring) load() error {
	k.keys = make([]heldKey, len(k.config.Keys))
	if _, err := k.look(); err != nil {
		return err
	}
	return k.take()
}

// look reads all keys and says whether something has changed. An error names
// those that are now other than they should be.
func (k *keyring) look() (changed bool, err error) {
	var errs []error
	for i := range k.keys {
		changedToo, err := k.keys[i].look(&k.config.Keys[i])
		changed = changed || changedToo
		if err != nil {
			errs = append(errs, fmt.Errorf("`proof::keys[%d]` (%s): %w", i, k.config.Keys[i].ID, err))
		}
	}
	return changed, errors.Join(errs...)
}

// look reads one key. What cannot be read or used leaves it as it was; a file
// that is gone takes it away, if it is still gone at the next look.
func (h *heldKey) look(config *ProofKeyConfig) (changed bool, err error) {
	text, err := config.read()
	if errors.Is(err, fs.ErrNotExist) && isDirectory(filepath.Dir(config.File)) {
		counted := h.counts()
		h.missed = min(h.missed+1, maxMissed+1)
		return counted != h.counts(), err
	}
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(text)
	if sum == h.text && h.missed == 0 {
		return false, nil
	}
	key, err := config.key(text)
	if err != nil {
		return false, err
	}
	changed = sum != h.text || !h.counts()
	*h = heldKey{key: key, text: sum}
	return changed, nil
}

// isDirectory tells a file that was deleted from a volume that is not there.
func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// take puts the keys that count to use.
func (k *keyring) take() error {
	var keys []proof.Key
	for i := range k.keys {
		if k.keys[i].counts() {
			keys = append(keys, k.keys[i].key)
		}
	}
	ring, err := proof.NewRing(keys)
	if err != nil {
		return fmt.Errorf("`proof::keys`: %w", err)
	}
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

// reload looks at the files again. Each key stands for itself: one that cannot
// be read keeps no other from coming, and above all from going.
func (k *keyring) reload() {
	changed, err := k.look()
	if changed {
		err = errors.Join(err, k.take())
	}
	fault := ""
	if err != nil {
		k.failed()
		fault = err.Error()
	}
	switch {
	case changed:
		k.logger.Info("the keys of producers have changed", zap.Strings("in_use", k.inUse()))
	case fault == "" && k.fault != "":
		k.logger.Info("the keys of producers can be read again, and are those in use", zap.Strings("in_use", k.inUse()))
	}
	if fault != "" && (changed || fault != k.fault) {
		k.logger.Error("keys of producers cannot be read: one whose file is gone for good counts no more, others stay as they were", zap.Strings("in_use", k.inUse()), zap.Error(err))
	}
	k.fault = fault
}

// inUse are the ids of the keys that count.
func (k *keyring) inUse() []string {
	ids := []string{}
	for i := range k.keys {
		if k.keys[i].counts() {
			ids = append(ids, k.config.Keys[i].ID)
		}
	}
	return ids
}
