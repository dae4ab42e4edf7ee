// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Signer makes proofs with one key and one algorithm. Safe for concurrent use.
type Signer struct {
	algorithm Algorithm
	key       crypto.Signer
	public    Material
}

// NewSigner reads a private key, one PEM block of PKCS #8 or the base64 of it,
// and the certificate or public key that belongs to it.
func NewSigner(algorithm Algorithm, private, public []byte) (*Signer, error) {
	material, err := ParsePublic(public)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	block, err := onlyBlock(private)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	if block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("private key: PEM block must be PRIVATE KEY (PKCS #8), found %.40q", block.Type)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key: %T does not sign", parsed)
	}
	if !material.checker.can(algorithm) {
		return nil, fmt.Errorf("the certificate's key cannot be used with %s: it is for %v", algorithm, material.Can())
	}
	s := &Signer{algorithm: algorithm, key: key, public: material}
	value, err := s.sign([]byte("x"))
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	if !material.checker.check(algorithm, []byte("x"), value) {
		return nil, errors.New("the private key is not the certificate's")
	}
	return s, nil
}

// Algorithm is what the signer signs with.
func (s *Signer) Algorithm() Algorithm { return s.algorithm }

// Fingerprint names the signer's certificate, or its bare public key, by its
// SHA-256.
func (s *Signer) Fingerprint() string {
	if s.public.certificate != nil {
		sum := sha256.Sum256(s.public.certificate.Raw)
		return formSHA256 + hex.EncodeToString(sum[:])
	}
	return fingerprint(s.public.spki)
}

// Certificate is the signer's certificate as base64 of its DER; empty if it has
// a bare public key.
func (s *Signer) Certificate() string {
	if s.public.certificate == nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(s.public.certificate.Raw)
}

// Sign returns the proof of message as an attribute has it. ES256 is DER.
func (s *Signer) Sign(message []byte) (string, error) {
	value, err := s.sign(message)
	if err != nil {
		return "", fmt.Errorf("sign with %s: %w", s.algorithm, err)
	}
	return base64.StdEncoding.EncodeToString(value), nil
}

func (s *Signer) sign(message []byte) ([]byte, error) {
	switch key := s.key.(type) {
	case *rsa.PrivateKey:
		if s.algorithm == RS512 {
			sum := sha512.Sum512(message)
			return rsa.SignPKCS1v15(nil, key, crypto.SHA512, sum[:])
		}
		sum := sha256.Sum256(message)
		return rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		sum := sha256.Sum256(message)
		return ecdsa.SignASN1(rand.Reader, key, sum[:])
	case ed25519.PrivateKey:
		return ed25519.Sign(key, message), nil
	default:
		return nil, fmt.Errorf("%s key cannot be used with %s", strings.TrimPrefix(fmt.Sprintf("%T", key), "*"), s.algorithm)
	}
}
