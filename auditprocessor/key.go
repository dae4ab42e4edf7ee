// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/otelaudit/otelaudit/internal/durable"
)

const (
	keyFile        = "signing.key"
	verifierFile   = "verifier.pub"
	checkpointFile = "checkpoint"
	privateBlock   = "PRIVATE KEY"
	publicBlock    = "PUBLIC KEY"
)

// loadKey returns the key that signs checkpoints. Without a configured file it
// uses the directory's own key, made with the directory: a lost one is not
// replaced in silence, because every verifier would then see a stranger's
// signatures.
func loadKey(config *Config) (ed25519.PrivateKey, error) {
	directory := config.Journal.Directory
	if err := durable.MkdirAll(directory); err != nil {
		return nil, err
	}
	path := config.Chain.Signing.KeyFile
	if path == "" {
		path = filepath.Join(directory, keyFile)
		if err := ensureKey(directory, path); err != nil {
			return nil, err
		}
	}
	return readKey(path)
}

// ensureKey makes the key of a new journal directory.
func ensureKey(directory, path string) error {
	_, err := os.Stat(path)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(filepath.Join(directory, "id")); err == nil {
		return fmt.Errorf("signing key %s is missing, but the journal is not new: restore the key, set `chain::signing::key_file`, or begin a new journal directory with a new key", path)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("make signing key: %w", err)
	}
	fresh := path + "." + strings.ToLower(rand.Text())
	if err := durable.WriteFile(fresh, pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der})); err != nil {
		return err
	}
	// Nobody holds the journal's lock yet. Unlike a rename, a link never takes
	// the place of a key that somebody else has begun to sign with.
	err = os.Link(fresh, path)
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(fresh), durable.SyncDir(directory))
}

func readKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("`chain::signing::key_file`: %w", err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != privateBlock || len(rest) > 0 {
		return nil, fmt.Errorf("`chain::signing::key_file`: %s is not one bare PEM block %q (PKCS#8)", path, privateBlock)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("`chain::signing::key_file`: %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("`chain::signing::key_file`: %s is not an Ed25519 key", path)
	}
	return key, nil
}

// writeVerifier leaves the public key beside the journal. Only who holds the
// journal's lock may. Another key than before is refused: verifiers would take
// what it signs for a forgery, and nobody would have told them.
func writeVerifier(path string, key ed25519.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return fmt.Errorf("write verifier key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: der})
	switch old, err := os.ReadFile(path); {
	case errors.Is(err, os.ErrNotExist):
		return durable.WriteFile(path, text)
	case err != nil:
		return fmt.Errorf("read verifier key: %w", err)
	case string(old) != string(text):
		return fmt.Errorf("`chain::signing::key_file`: the key is not the one that this journal's log is signed with, whose public part is %s: use that key, or begin a new journal directory and give its verifier.pub to whoever verifies", path)
	}
	return nil
}
