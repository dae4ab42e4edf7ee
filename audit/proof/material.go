// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"slices"
	"strings"
)

// Bounds of keys. MaxKeyText is the longest text that a key is read from.
const (
	MaxKeyText = 64 << 10

	minRSABits, maxRSABits = 2048, 8192
	minSecret, maxSecret   = 32, 4096
)

// Material is what a key checks proofs with: a public key, perhaps in a
// certificate, or a secret. Each kind knows its own algorithms alone. Immutable.
type Material struct {
	checker     checker
	certificate *x509.Certificate // nil: none
	spki        []byte            // DER of a public key, nil of a secret
	print       string            // stands for the key: hash of spki or of the secret
}

// checker is one kind of key. A public key is never taken for a secret: they
// have no form in common.
type checker interface {
	can(a Algorithm) bool
	check(a Algorithm, message, signature []byte) bool
}

// ParsePublic reads a public key: one PEM block, CERTIFICATE or PUBLIC KEY, or
// the base64 of such a text.
func ParsePublic(text []byte) (Material, error) {
	block, err := onlyBlock(text)
	if err != nil {
		return Material{}, err
	}
	switch block.Type {
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Material{}, fmt.Errorf("certificate: %w", err)
		}
		checker, err := checkerOf(certificate.PublicKey)
		return Material{checker: checker, certificate: certificate, spki: certificate.RawSubjectPublicKeyInfo, print: printOf(certificate.RawSubjectPublicKeyInfo)}, err
	case "PUBLIC KEY":
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return Material{}, fmt.Errorf("public key: %w", err)
		}
		checker, err := checkerOf(key)
		return Material{checker: checker, spki: block.Bytes, print: printOf(block.Bytes)}, err
	default:
		if strings.Contains(block.Type, "PRIVATE") {
			return Material{}, errors.New("holds a private key: whoever verifies needs the public part alone, and must not have the other")
		}
		return Material{}, fmt.Errorf("PEM block must be CERTIFICATE or PUBLIC KEY, found %.40q", block.Type)
	}
}

// ParseSecret reads the secret of a MAC: at least 32 bytes, as standard base64.
func ParseSecret(text []byte) (Material, error) {
	if len(text) > MaxKeyText {
		return Material{}, fmt.Errorf("longer than %d bytes", MaxKeyText)
	}
	if bytes.Contains(text, []byte("-----BEGIN")) {
		return Material{}, errors.New("is a PEM text, and no secret: what is public authenticates nobody; a MAC needs base64 of random bytes")
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return Material{}, errors.New("is not padded standard base64")
	}
	if bytes.Contains(secret, []byte("-----BEGIN")) {
		return Material{}, errors.New("is the base64 of a PEM text, and no secret: what is public authenticates nobody")
	}
	if len(secret) < minSecret || len(secret) > maxSecret {
		return Material{}, fmt.Errorf("secret must be %d to %d bytes, found %d", minSecret, maxSecret, len(secret))
	}
	if _, err := x509.ParsePKIXPublicKey(secret); err == nil {
		return Material{}, errors.New("is a public key, and no secret: what is public authenticates nobody")
	}
	if _, err := x509.ParseCertificate(secret); err == nil {
		return Material{}, errors.New("is a certificate, and no secret: what is public authenticates nobody")
	}
	return Material{checker: secretKey(secret), print: printOf(secret)}, nil
}

func printOf(key []byte) string {
	sum := sha256.Sum256(key)
	return string(sum[:])
}

// onlyBlock reads one PEM block and nothing else, also from the base64 of it.
func onlyBlock(text []byte) (*pem.Block, error) {
	if len(text) > MaxKeyText {
		return nil, fmt.Errorf("longer than %d bytes", MaxKeyText)
	}
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("-----BEGIN")) {
		decoded, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			return nil, errors.New("is neither PEM nor the base64 of PEM")
		}
		text = bytes.TrimSpace(decoded)
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("is neither PEM nor the base64 of PEM")
	}
	if len(bytes.TrimSpace(rest)) > 0 || !bytes.HasPrefix(text, []byte("-----BEGIN "+block.Type)) {
		return nil, errors.New("holds more than one PEM block: give each key a text of its own")
	}
	return block, nil
}

func checkerOf(key crypto.PublicKey) (checker, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("RSA key must have %d to %d bits, found %d", minRSABits, maxRSABits, bits)
		}
		return rsaKey{key}, nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return nil, fmt.Errorf("ECDSA key must be on P-256, found %s", key.Curve.Params().Name)
		}
		return ecdsaKey{key}, nil
	case ed25519.PublicKey:
		return edKey(key), nil
	default:
		return nil, fmt.Errorf("public key must be RSA, ECDSA on P-256 or Ed25519, found %T", key)
	}
}

type rsaKey struct{ key *rsa.PublicKey }

func (rsaKey) can(a Algorithm) bool { return a == RS256 || a == RS512 }

func (k rsaKey) check(a Algorithm, message, signature []byte) bool {
	switch a {
	case RS256:
		sum := sha256.Sum256(message)
		return rsa.VerifyPKCS1v15(k.key, crypto.SHA256, sum[:], signature) == nil
	case RS512:
		sum := sha512.Sum512(message)
		return rsa.VerifyPKCS1v15(k.key, crypto.SHA512, sum[:], signature) == nil
	default:
		return false
	}
}

type ecdsaKey struct{ key *ecdsa.PublicKey }

func (ecdsaKey) can(a Algorithm) bool { return a == ES256 }

// rawES256 is the length of r‖s, the form of JSON Web Signature.
const rawES256 = 64

func (k ecdsaKey) check(a Algorithm, message, signature []byte) bool {
	if a != ES256 {
		return false
	}
	sum := sha256.Sum256(message)
	if len(signature) == rawES256 {
		r, s := new(big.Int).SetBytes(signature[:rawES256/2]), new(big.Int).SetBytes(signature[rawES256/2:])
		if ecdsa.Verify(k.key, sum[:], r, s) {
			return true
		}
	}
	return ecdsa.VerifyASN1(k.key, sum[:], signature)
}

type edKey ed25519.PublicKey

func (edKey) can(a Algorithm) bool { return a == EdDSA }

func (k edKey) check(a Algorithm, message, signature []byte) bool {
	return a == EdDSA && len(signature) == ed25519.SignatureSize && ed25519.Verify(ed25519.PublicKey(k), message, signature)
}

type secretKey []byte

func (secretKey) can(a Algorithm) bool { return a.MAC() }

func (k secretKey) check(a Algorithm, message, signature []byte) bool {
	mac := k.mac(a, message)
	return mac != nil && hmac.Equal(mac, signature) // in constant time
}

func (k secretKey) mac(a Algorithm, message []byte) []byte {
	var h func() hash.Hash
	switch a {
	case HMACSHA256:
		h = sha256.New
	case HMACSHA512:
		h = sha512.New
	default:
		return nil
	}
	mac := hmac.New(h, k)
	mac.Write(message)
	return mac.Sum(nil)
}

// Can returns which of the algorithms the material has.
func (m Material) Can() []Algorithm {
	var can []Algorithm
	for a := RS256; a <= HMACSHA512; a++ {
		if m.checker != nil && m.checker.can(a) {
			can = append(can, a)
		}
	}
	return slices.Clip(can)
}
