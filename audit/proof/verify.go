// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
)

// MaxValue is the longest proof in base64: more than the largest key makes.
const MaxValue = 2048

// maxTries bounds the keys that one proof is checked with.
const maxTries = 8

// Status is the outcome of a verification, in the words of OTEP 0267. Empty:
// there was nothing to verify, and nobody asked for a proof.
type Status string

// The outcomes.
const (
	Passed Status = "passed"
	Failed Status = "failed"
)

// Reason says why a proof failed: one word of a fixed list.
type Reason string

// The reasons. Where several keys could have been meant, the reason is that of
// the key that came closest.
const (
	Missing          Reason = "missing"           // the policy wants a proof, and there is none
	Malformed        Reason = "malformed"         // the value is no padded standard base64, or an attribute no string
	BadAlgorithm     Reason = "algorithm"         // none is named, or one that does not exist
	BadCanonical     Reason = "canonicalization"  // another form than jcs was signed
	BadReference     Reason = "certificate"       // a MAC names a key, or the name is too long
	NoCanonicalForm  Reason = "no_canonical_form" // the record has none that could be signed
	UnknownKey       Reason = "unknown_key"       // the ring does not have the key
	AlgorithmRefused Reason = "algorithm_refused" // the key is not used with this algorithm
	NotAllowed       Reason = "key_not_allowed"   // the key does not speak for this service or tenant
	NotValid         Reason = "key_not_valid"     // before the key's time, or after it
	Ambiguous        Reason = "ambiguous_key"     // no key is named, and too many would be possible
	BadSignature     Reason = "signature"         // the record is not what was signed, or not by this key
	BadTransition    Reason = "transition"        // a key transition whose new key is not named, or did not sign
)

// Explain says what a reason is about, and who can do what, in words that give
// away nothing of the ring but what its owner tells producers anyway.
func (r Reason) Explain() string { return explanations[r] }

var explanations = map[Reason]string{
	Missing:          "records of this service or tenant must be signed",
	Malformed:        "it must be a string of padded standard base64, and what stands beside it a string as well",
	BadAlgorithm:     "audit.integrity.algorithm of the resource must name an algorithm that is known here, such as EdDSA",
	BadCanonical:     "audit.integrity.canonicalization must be " + Canonicalization + ", or absent",
	BadReference:     "audit.integrity.certificate of the resource must be absent beside a MAC, and is else too long",
	NoCanonicalForm:  "the record has no canonical form: it holds NaN, invalid UTF-8, too many levels or a time out of range",
	UnknownKey:       "none of the configured keys is the one of audit.integrity.certificate, or of this algorithm",
	AlgorithmRefused: "the key is not configured for this algorithm",
	NotAllowed:       "the key is not configured for this service or tenant",
	NotValid:         "the key's time has not begun or is over, by the collector's clock",
	Ambiguous:        "too many keys are possible: name one in audit.integrity.certificate of the resource",
	BadSignature:     "the record is not what was signed, or another key signed it",
	BadTransition:    "the new key of the transition is not configured, or did not sign",
}

// closeness orders the reasons for which a key of the ring was not the one.
var closeness = []Reason{UnknownKey, AlgorithmRefused, NotAllowed, NotValid, BadSignature}

// Verdict is the outcome of one verification.
type Verdict struct {
	Status Status
	Reason Reason // empty but of a failure
	KeyID  string // which key proved it; empty but of a success
	// Material stands for the key itself, whatever it is called and however it
	// is certified; NextMaterial for the one that takes over. Empty but of a
	// success, and of a key transition.
	Material, NextMaterial string
}

func failed(reason Reason) Verdict { return Verdict{Status: Failed, Reason: reason} }

// Fail is the verdict for what the caller found itself: Missing or
// NoCanonicalForm.
func Fail(reason Reason) Verdict { return failed(reason) }

// Subject is whose record it is, and when: the verifier's time.
type Subject struct {
	Service, Tenant string
	Now             time.Time
}

// Verify checks a claim's value over message, the canonical form of the record.
// It passes only if a key of the ring made it that may, for this subject, with
// the algorithm that is claimed.
func (r *Ring) Verify(message []byte, c *Claim, s *Subject) Verdict {
	algorithm, signature, reason := c.parse()
	if reason != "" {
		return failed(reason)
	}
	keys := r.named(c, algorithm)
	found, tries := UnknownKey, 0
	for _, key := range keys {
		switch {
		case !slices.Contains(key.Algorithms, algorithm):
			found = closest(found, AlgorithmRefused)
		case !key.speaksFor(s):
			found = closest(found, NotAllowed)
		case !key.holdsAt(s.Now):
			found = closest(found, NotValid)
		case tries == maxTries:
			return failed(Ambiguous)
		case key.checker.check(algorithm, message, signature):
			return Verdict{Status: Passed, KeyID: key.ID, Material: key.print}
		default:
			tries++
			found = BadSignature
		}
	}
	return failed(found)
}

func closest(a, b Reason) Reason {
	if slices.Index(closeness, a) > slices.Index(closeness, b) {
		return a
	}
	return b
}

// parse reads what does not depend on a key.
func (c *Claim) parse() (Algorithm, []byte, Reason) {
	if c.malformed || len(c.Value) > MaxValue || c.Value == "" || strings.ContainsAny(c.Value, "\r\n") {
		return 0, nil, Malformed
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(c.Value)
	if err != nil {
		return 0, nil, Malformed
	}
	if c.Canonicalization != "" && c.Canonicalization != Canonicalization {
		return 0, nil, BadCanonical
	}
	algorithm, err := ParseAlgorithm(c.Algorithm)
	if err != nil {
		return 0, nil, BadAlgorithm
	}
	if len(c.Certificate) > MaxReference || algorithm.MAC() && c.Certificate != "" {
		return 0, nil, BadReference
	}
	return algorithm, signature, ""
}

// Canonicalization is the only canonical form that is signed: RFC 8785.
const Canonicalization = "jcs"

// VerifyIncoming checks that the key which a key transition names signed it as
// well, after the outgoing key did: outgoing is that one's claim and verdict its
// outcome, which is returned if the new key signed too.
func (r *Ring) VerifyIncoming(message []byte, outgoing *Claim, record plog.LogRecord, s *Subject, verdict Verdict) Verdict {
	incoming, named := Incoming(*outgoing, record)
	if !named {
		return failed(BadTransition)
	}
	second := r.Verify(message, &incoming, s)
	if second.Status != Passed {
		return failed(BadTransition)
	}
	verdict.NextMaterial = second.Material
	return verdict
}
