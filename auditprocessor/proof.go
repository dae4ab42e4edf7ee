// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"encoding/hex"
	"slices"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/proof"
)

// proofs is the stage that verifies what producers signed. Safe for concurrent
// use.
type proofs struct {
	ring     atomic.Pointer[proof.Ring]
	services map[string]struct{} // that must sign
	tenants  map[string]struct{} // the same
	reject   bool
}

// anyOwner stands for every service, or every tenant.
const anyOwner = "*"

// newProofs returns nil where the configuration wants no proof looked at.
func newProofs(config *ProofConfig) *proofs {
	if !config.isSet() {
		return nil
	}
	p := &proofs{services: map[string]struct{}{}, tenants: map[string]struct{}{}, reject: config.OnViolation == onViolationReject}
	for _, owner := range config.RequireSignature {
		if owner.Service != "" {
			p.services[owner.Service] = struct{}{}
		} else {
			p.tenants[owner.Tenant] = struct{}{}
		}
	}
	return p
}

// requires says whether a record of this subject must carry a proof.
func (p *proofs) requires(s *proof.Subject) bool {
	return holds(p.services, s.Service) || holds(p.tenants, s.Tenant)
}

func holds(owners map[string]struct{}, name string) bool {
	if len(owners) == 0 {
		return false
	}
	if _, all := owners[anyOwner]; all {
		return true
	}
	_, found := owners[name]
	return found
}

// takeClaim keeps what a resource says about its records' proofs, before any
// stage touches it. Cloned: a worker outlives the request.
func (w *worker) takeClaim(resource pcommon.Map) {
	w.claim = proof.ClaimOfResource(resource)
	w.claim.Algorithm = strings.Clone(w.claim.Algorithm)
	w.claim.Certificate = strings.Clone(w.claim.Certificate[:min(len(w.claim.Certificate), proof.MaxReference+1)])
}

// prove verifies the proof of a record as it was received: w.fields has been
// read, and no stage has touched the record.
func (w *worker) prove(record plog.LogRecord) {
	stage := w.stages.proofs
	subject := proof.Subject{Service: w.sentService, Tenant: w.tenant, Now: w.now}
	if subject.Tenant == "" { // as it will be stored
		subject.Tenant = strings.ToValidUTF8(w.fields.known[fieldTenantID].text, replacement)
	}
	claim := w.claim
	signed := w.fields.proof && claim.Read(record.Attributes())
	switch {
	case signed:
		w.own.proof = w.verify(record, &claim, &subject)
	case stage.requires(&subject):
		w.own.proof = proof.Fail(proof.Missing)
	default:
		return
	}
	w.tally.addProof(&w.own.proof)
}

func (w *worker) verify(record plog.LogRecord, claim *proof.Claim, subject *proof.Subject) proof.Verdict {
	var err error
	if w.buffer, err = w.encoder.AppendRecord(w.buffer[:0], record); err != nil {
		return proof.Fail(proof.NoCanonicalForm)
	}
	ring := w.stages.proofs.ring.Load()
	verdict := ring.Verify(w.buffer, claim, subject)
	if verdict.Status == proof.Passed && claim.HandsOver(record) {
		verdict = ring.VerifyIncoming(w.buffer, claim, record, subject, verdict)
	}
	return verdict
}

// flagProof finds fault with a record whose proof failed.
func (w *worker) flagProof() {
	if w.own.proof.Status == proof.Failed {
		w.own.flag(codeProof, proofReason(w.own.proof.Reason))
	}
}

// proofFailed begins what names a failed proof among the reasons of a record.
const proofFailed = audit.AttributeIntegrityValue + ": proof failed: "

func proofReason(r proof.Reason) string { return proofFailed + string(r) + ": " + r.Explain() }

// putVerdict writes the verdict on a record's proof, and what became of the
// signatures that redaction or a limit made worthless.
func (w *worker) putVerdict(attributes pcommon.Map, entries int) {
	if verdict := &w.own.proof; verdict.Status != "" {
		attributes.PutStr(audit.AttributeCollectorVerifyStatus, string(verdict.Status))
		if verdict.Reason != "" {
			attributes.PutStr(audit.AttributeCollectorVerifyReason, string(verdict.Reason))
		}
		if verdict.KeyID != "" {
			attributes.PutStr(audit.AttributeCollectorVerifyKey, verdict.KeyID)
		}
	}
	if n := min(len(w.own.proofs), entries); n > 0 {
		digests := attributes.PutEmptyMap(audit.AttributeCollectorProofs)
		for _, masked := range w.own.proofs[:n] {
			digests.PutStr(masked.name, masked.digest)
		}
	}
}

// maskedProof is a signature that is not on its record any more.
type maskedProof struct {
	name   string
	digest string // keyed hash of the value, in hex
}

// keepProof keeps a keyed hash of a signature that is about to be masked: whoever
// has the original and the journal's secret can show that it was this one, and
// nobody can try out what a masked field was.
func (w *worker) keepProof(key string, value pcommon.Value) {
	if w.stages.identifier != nil && len(w.own.proofs) < maxMarkEntries {
		sum := w.stages.identifier.Blind(value.AsString())
		w.own.proofs = append(w.own.proofs, maskedProof{shorten(key, maxKeyInPath), hex.EncodeToString(sum[:])})
	}
}

// proofOutcomes are the verdicts that are counted: passed, and each way to fail.
// Journals keep their positions: new ones come at the end.
var proofOutcomes = [...]string{
	string(proof.Passed), string(proof.Missing), string(proof.Malformed), string(proof.BadAlgorithm), string(proof.BadCanonical),
	string(proof.BadReference), string(proof.NoCanonicalForm), string(proof.UnknownKey), string(proof.AlgorithmRefused),
	string(proof.NotAllowed), string(proof.NotValid), string(proof.Ambiguous), string(proof.BadSignature), string(proof.BadTransition),
}

// codeOf is a verdict as the journal keeps it: 0 for none, else 1 and its
// position.
func codeOf(v *proof.Verdict) uint8 {
	outcome := string(v.Reason)
	if v.Status == proof.Passed {
		outcome = string(proof.Passed)
	}
	return uint8(slices.Index(proofOutcomes[:], outcome) + 1)
}

// verdictOf is the other way. What a later version has written failed for a
// reason that this one does not know.
func verdictOf(code uint8) proof.Verdict {
	switch {
	case code == 0:
		return proof.Verdict{}
	case code == 1:
		return proof.Verdict{Status: proof.Passed}
	case int(code) <= len(proofOutcomes):
		return proof.Fail(proof.Reason(proofOutcomes[code-1]))
	}
	return proof.Fail("unknown")
}

func (t *tally) addProof(v *proof.Verdict) {
	if code := codeOf(v); code > 0 {
		t.proofs[code-1]++
	}
}

// eachProof calls f for each verdict that records got.
func (t *tally) eachProof(f func(verdict string, records int64)) {
	each(t.proofs[:], proofOutcomes[:], f)
}

// failedProofs is how many records had a proof that failed.
func (t *tally) failedProofs() (n int64) {
	for _, records := range t.proofs[1:] {
		n += records
	}
	return n
}
