// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package proof checks what a producer signed against a trust policy: a [Ring]
// of keys, each with the algorithms, services, tenants and times it may be used
// for. It makes such signatures as well.
//
// A proof is the attribute audit.integrity.value of a record: a signature or
// MAC, in padded standard base64, over the record's canonical form, which is
// the value of the member `record` of its canonical bytes (package canonical).
// The resource says in audit.integrity.algorithm how it was made, and in
// audit.integrity.certificate by whom:
//
//	RS256, RS512              RSA PKCS #1 v1.5 with SHA-256, SHA-512
//	ES256                     ECDSA on P-256 with SHA-256: ASN.1 DER, or 64 bytes r‖s
//	EdDSA                     Ed25519 over the form itself
//	HMAC-SHA256, HMAC-SHA512  HMAC
//
// What a record says is a claim. It chooses among the keys of the ring and
// never adds one: a certificate in it is only looked up, in whatever form it is
// named. It names an algorithm, and a key is used with the algorithms that the
// ring has for it: public keys and secrets are different types, and none of
// them can be used as the other.
//
// The package knows no file, no network and no clock: whoever verifies says
// what time it is. That is the verifier's time, never the record's: who has
// stolen a key that has ended writes any time on a record.
//
// Vectors for other implementations are in audit/testdata/vectors/proof.
package proof
