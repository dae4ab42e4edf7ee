// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// MaxNote is the largest signed note, in bytes, that is parsed. It leaves room
// for cosignatures.
const MaxNote = 1 << 16

var (
	// ErrCheckpoint says that text is not a checkpoint.
	ErrCheckpoint = errors.New("not a checkpoint")
	// ErrSignature says that no given key signed a checkpoint.
	ErrSignature = errors.New("no given key signed the checkpoint")
)

// Checkpoint commits to all leaves of one origin's tree below Size: the body
// of a C2SP tlog-checkpoint.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   Hash
}

// Text returns the body of the signed note: origin, size and root in base64,
// a line each.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" +
		base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// ParseCheckpoint reads the body of signed without judging who signed it. It
// accepts one spelling only and no extension lines.
func ParseCheckpoint(signed []byte) (Checkpoint, error) {
	if len(signed) > MaxNote {
		return Checkpoint{}, fmt.Errorf("%w: longer than %d bytes", ErrCheckpoint, MaxNote)
	}
	body, _, found := strings.Cut(string(signed), "\n\n")
	if !found {
		return Checkpoint{}, fmt.Errorf("%w: no signature block", ErrCheckpoint)
	}
	lines := strings.Split(body, "\n")
	if len(lines) != 3 {
		return Checkpoint{}, fmt.Errorf("%w: %d lines, want 3", ErrCheckpoint, len(lines))
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: size: %w", ErrCheckpoint, err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != HashSize {
		return Checkpoint{}, fmt.Errorf("%w: root is not %d bytes of base64", ErrCheckpoint, HashSize)
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: Hash(root)}
	if c.Origin == "" || c.Text() != body+"\n" {
		return Checkpoint{}, fmt.Errorf("%w: not in its one spelling", ErrCheckpoint)
	}
	return c, nil
}

// SignCheckpoint returns c as a signed note (C2SP signed-note, Ed25519) whose
// key name is the origin.
func SignCheckpoint(c Checkpoint, key ed25519.PrivateKey) ([]byte, error) {
	signer, err := newSigner(c.Origin, key)
	if err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint of %s: %w", c.Origin, err)
	}
	return signed, nil
}

// OpenCheckpoint returns the checkpoint in signed and the first of keys that
// signed it. The key's name is the origin in the text. It returns ErrSignature
// where none of keys did.
func OpenCheckpoint(signed []byte, keys []ed25519.PublicKey) (Checkpoint, ed25519.PublicKey, error) {
	c, err := ParseCheckpoint(signed)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	for _, key := range keys {
		verifier, err := newVerifier(c.Origin, key)
		if err != nil {
			return Checkpoint{}, nil, err
		}
		if _, err := note.Open(signed, note.VerifierList(verifier)); err == nil {
			return c, key, nil
		}
	}
	return c, nil, ErrSignature
}

func newSigner(name string, key ed25519.PrivateKey) (note.Signer, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("signing key is not Ed25519")
	}
	verifier, err := newVerifier(name, public)
	if err != nil {
		return nil, err
	}
	return &signer{name: name, hash: verifier.KeyHash(), key: key}, nil
}

func newVerifier(name string, key ed25519.PublicKey) (note.Verifier, error) {
	text, err := note.NewEd25519VerifierKey(name, key)
	if err != nil {
		return nil, fmt.Errorf("verifier for %s: %w", name, err)
	}
	return note.NewVerifier(text)
}

// signer signs notes with an Ed25519 key whose name is given by the caller:
// one key serves every origin of a log.
type signer struct {
	name string
	hash uint32
	key  ed25519.PrivateKey
}

func (s *signer) Name() string    { return s.name }
func (s *signer) KeyHash() uint32 { return s.hash }
func (s *signer) Sign(message []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, message, &ed25519.Options{})
}
