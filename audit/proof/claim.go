// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
)

// Who signed, as a claim says it.
const (
	SignerProducer  = "producer"
	SignerCollector = "collector"
)

// Claim is what a record and its resource say about a proof. Nothing of it is
// believed.
type Claim struct {
	Algorithm        string
	Certificate      string // one of the forms that name a key; empty: none is named
	Value            string
	Canonicalization string // empty: jcs
	Signer           string // empty: producer

	reference string // Certificate in the form in which a ring has it; empty: not read yet
	malformed bool   // an attribute is no string
}

// ClaimOfResource reads what a resource says about the proofs of its records:
// once for all of them, because the name of a key can be long. Its texts are
// the map's own.
func ClaimOfResource(resource pcommon.Map) Claim {
	var c Claim
	c.Algorithm, _ = c.text(resource, audit.ResourceIntegrityAlgorithm)
	c.Certificate, _ = c.text(resource, audit.ResourceIntegrityCertificate)
	if c.Certificate != "" && len(c.Certificate) <= MaxReference {
		c.reference = strings.Clone(normal(c.Certificate))
	}
	return c
}

// Read adds what the attributes of a record say, and returns whether there is a
// proof at all. Its texts are the map's own.
func (c *Claim) Read(record pcommon.Map) (signed bool) {
	c.Value, signed = c.text(record, audit.AttributeIntegrityValue)
	c.Canonicalization, _ = c.text(record, audit.AttributeIntegrityCanonicalization)
	if c.Signer, _ = c.text(record, audit.AttributeIntegritySigner); c.Signer == "" {
		c.Signer = SignerProducer
	}
	return signed
}

// text returns the last value of a name, as canonical bytes have it.
func (c *Claim) text(attributes pcommon.Map, name string) (text string, found bool) {
	value := last(attributes, name)
	if value == (pcommon.Value{}) {
		return "", false
	}
	c.malformed = c.malformed || value.Type() != pcommon.ValueTypeStr
	return value.Str(), true
}

// last returns the last value of a name, which is the one that was signed; the
// zero Value if there is none.
func last(m pcommon.Map, name string) (found pcommon.Value) {
	for key, value := range m.All() {
		if key == name {
			found = value
		}
	}
	return found
}

// Members of a key transition's `incoming_key`.
const (
	bodyIncomingKey = "incoming_key"
	memberAlgorithm = "algorithm"
)

// incomingForms are the ways in which a key transition names the new key.
var incomingForms = [...]string{"certificate", "fingerprint", "key_id", "ski", "issuer_serial"}

// HandsOver says whether a record, as it is claimed to be signed, hands its
// stream over to another key: a key transition by its producer. A collector
// that signs the record on its way hands nothing over. A record without an event
// name is named by its action, as it will be stored.
func (c *Claim) HandsOver(record plog.LogRecord) bool {
	name := record.EventName()
	if action := last(record.Attributes(), audit.AttributeAction); name == "" && action != (pcommon.Value{}) {
		name = action.Str()
	}
	return name == audit.EventKeyTransition && c.Signer != SignerCollector
}

// Incoming returns the claim of the key that takes over, from the body of a key
// transition: its value is the record's `audit.integrity.new_value`, over the
// same canonical form as the outgoing key's. ok is false where the body names no
// key.
func Incoming(outgoing Claim, record plog.LogRecord) (incoming Claim, ok bool) {
	incoming = Claim{Algorithm: outgoing.Algorithm, Canonicalization: outgoing.Canonicalization, Signer: outgoing.Signer}
	incoming.Value, _ = incoming.text(record.Attributes(), audit.AttributeIntegrityNewValue)
	if record.Body().Type() != pcommon.ValueTypeMap {
		return incoming, false
	}
	key := last(record.Body().Map(), bodyIncomingKey)
	if key == (pcommon.Value{}) || key.Type() != pcommon.ValueTypeMap {
		return incoming, false
	}
	if algorithm, _ := incoming.text(key.Map(), memberAlgorithm); algorithm != "" {
		incoming.Algorithm = algorithm
	}
	for _, form := range incomingForms {
		if incoming.Certificate, _ = incoming.text(key.Map(), form); incoming.Certificate != "" {
			return incoming, true
		}
	}
	return incoming, false
}
