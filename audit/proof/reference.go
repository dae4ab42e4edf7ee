// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // names keys that the ring holds, and proves nothing
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strings"
)

// MaxReference is the longest text that names a key: a certificate in full.
const MaxReference = 32 << 10

// Prefixes of the forms in which a key is looked up. Other than the
// fingerprints they never come from a record.
const (
	formID     = "id:"
	formSHA256 = "sha256:"
	formSHA1   = "sha1:"
	formSerial = "serial:"
	formNone   = "none:" // of no key
)

// references returns all forms in which a record may name a key. A bare public
// key has fingerprints of its SubjectPublicKeyInfo.
func references(k *Key) []string {
	forms := []string{formID + k.ID}
	der := k.spki
	if k.certificate != nil {
		der = k.certificate.Raw
		forms = append(forms, serials(k.certificate)...)
		if ski := k.certificate.SubjectKeyId; len(ski) > 0 {
			forms = append(forms, formID+hex.EncodeToString(ski))
		}
	}
	if der == nil {
		return forms
	}
	sum, short := sha256.Sum256(der), sha1.Sum(der) //nolint:gosec // see above
	forms = append(forms, formSHA256+hex.EncodeToString(sum[:]), formSHA1+hex.EncodeToString(short[:]))
	if ski := keyIdentifier(k.spki); ski != nil {
		forms = append(forms, formID+hex.EncodeToString(ski))
	}
	return forms
}

// keyIdentifier is the SHA-1 of the public key's bits: RFC 5280, 4.2.1.2.
func keyIdentifier(spki []byte) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return nil
	}
	sum := sha1.Sum(info.Key.Bytes) //nolint:gosec // see above
	return sum[:]
}

// serials are the forms issuer/serial of a certificate: the issuer in the order
// of RFC 2253 or in that of the certificate, the number in decimal or hex.
func serials(c *x509.Certificate) []string {
	forward := c.Issuer.ToRDNSequence()
	backward := slices.Clone(forward)
	slices.Reverse(backward)
	var forms []string
	for _, name := range []string{forward.String(), backward.String()} {
		for _, base := range []int{10, 16} {
			forms = append(forms, formSerial+plainName(name)+"/"+c.SerialNumber.Text(base))
		}
	}
	return forms
}

// plainName takes the blanks that tools put around the separators out of a
// distinguished name.
func plainName(name string) string {
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == ',' || r == '+' })
	for i, part := range parts {
		key, value, _ := strings.Cut(part, "=")
		parts[i] = strings.ToUpper(strings.TrimSpace(key)) + "=" + strings.TrimSpace(value)
	}
	return strings.Join(parts, ",")
}

// normal is the form in which the ring has what a record calls its key. A
// certificate in full becomes its fingerprint: what else it says is not read.
func normal(reference string) string {
	switch {
	case strings.HasPrefix(reference, formSHA256), strings.HasPrefix(reference, formSHA1):
		return reference
	case strings.HasPrefix(reference, "-----BEGIN"):
		return fingerprintOfPEM([]byte(reference))
	case keyID.MatchString(reference): // the id, or the subject key identifier in hex
		return formID + reference
	}
	if der, err := base64.StdEncoding.DecodeString(reference); err == nil {
		if bytes.HasPrefix(der, []byte("-----BEGIN")) {
			return fingerprintOfPEM(der)
		}
		return fingerprint(der)
	}
	if slash := strings.LastIndexByte(reference, '/'); slash > 0 {
		return formSerial + plainName(reference[:slash]) + "/" + strings.ToLower(reference[slash+1:])
	}
	return reference
}

func fingerprintOfPEM(text []byte) string {
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return formNone
	}
	return fingerprint(block.Bytes)
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return formSHA256 + hex.EncodeToString(sum[:])
}
