// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/proof"
)

// SignConfig has each record signed as contrib's `signing` processor does it: for
// those who know that form and not the chain. Off without a key file.
type SignConfig struct {
	// KeyFile is the private key, PKCS#8 in PEM. It is read at the start.
	KeyFile string `mapstructure:"key_file"`
	// CertificateFile is the key's certificate, or its bare public key, in PEM.
	CertificateFile string `mapstructure:"certificate_file"`
	// Algorithm is RS256, RS512, ES256 or EdDSA.
	Algorithm string `mapstructure:"algorithm"`
	// CertificateRef is how the resource names the certificate: `fingerprint`
	// (default) or `full`.
	CertificateRef string `mapstructure:"certificate_ref"`

	_ struct{}
}

const (
	referFingerprint = "fingerprint"
	referFull        = "full"
)

// minSignedBytes is the least that `limits::max_record_bytes` must be where
// records are signed: the largest signature takes a quarter of it.
const minSignedBytes = 8192

func newSignConfig() SignConfig { return SignConfig{CertificateRef: referFingerprint} }

// Validate names each key that holds what cannot be.
func (c *SignConfig) Validate() error {
	if c.KeyFile == "" {
		if c.CertificateFile != "" || c.Algorithm != "" {
			return errors.New("`sign::key_file` is required where records are to be signed")
		}
		return nil
	}
	var errs []error
	if c.CertificateFile == "" {
		errs = append(errs, errors.New("`sign::certificate_file` is required beside `sign::key_file`: the certificate, or the public key"))
	}
	if a, err := proof.ParseAlgorithm(c.Algorithm); err != nil {
		errs = append(errs, fmt.Errorf("`sign::algorithm`: %w", err))
	} else if a.MAC() {
		errs = append(errs, fmt.Errorf("`sign::algorithm` is %s, but what a collector signs must be checked by those who cannot forge it", a))
	}
	if c.CertificateRef != referFingerprint && c.CertificateRef != referFull {
		errs = append(errs, fmt.Errorf("`sign::certificate_ref` must be %s or %s, found %q", referFingerprint, referFull, c.CertificateRef))
	}
	return errors.Join(errs...)
}

// signing is the stage that signs records as they are stored. Immutable.
type signing struct {
	signer    *proof.Signer
	reference string
	room      int // canonical bytes that it adds to a record
}

// newSigning returns nil where records are not signed.
func newSigning(config *SignConfig) (*signing, error) {
	if config.KeyFile == "" {
		return nil, nil
	}
	private, err := readBounded(config.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("`sign::key_file`: %w", err)
	}
	public, err := readBounded(config.CertificateFile)
	if err != nil {
		return nil, fmt.Errorf("`sign::certificate_file`: %w", err)
	}
	algorithm, err := proof.ParseAlgorithm(config.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("`sign::algorithm`: %w", err)
	}
	signer, err := proof.NewSigner(algorithm, private, public)
	if err != nil {
		return nil, fmt.Errorf("`sign`: %w", err)
	}
	s := &signing{signer: signer, reference: signer.Fingerprint()}
	if config.CertificateRef == referFull {
		if s.reference = signer.Certificate(); s.reference == "" {
			return nil, errors.New("`sign::certificate_ref` is full, but `sign::certificate_file` holds no certificate")
		}
	}
	sample, err := signer.Sign(nil)
	if err != nil {
		return nil, fmt.Errorf("`sign`: %w", err)
	}
	s.room = len(sample) + signedNames
	return s, nil
}

// signedNames is what names and marks around a signature take, at most.
const signedNames = 256

// ofRecord and ofResource are what belongs to one proof.
var (
	ofRecord = [...]string{
		audit.AttributeIntegrityValue, audit.AttributeIntegrityNewValue,
		audit.AttributeIntegritySigner, audit.AttributeIntegrityCanonicalization,
	}
	ofResource = [...]string{audit.ResourceIntegrityAlgorithm, audit.ResourceIntegrityCertificate}
)

// takeOver moves what a resource says about its records' proofs to names with a
// number behind, the first that is free, and says what the collector signs with.
func (w *worker) takeOver(resource pcommon.Map) {
	w.earlier = renameNumbered(resource, ofResource[:], 0)
	w.stages.signing.name(resource)
}

// name says what the collector signs with.
func (s *signing) name(resource pcommon.Map) {
	resource.PutStr(audit.ResourceIntegrityAlgorithm, s.signer.Algorithm().String())
	resource.PutStr(audit.ResourceIntegrityCertificate, s.reference)
}

// keepEarlier does the same with the proof of a record. A missing signer is said
// to be the producer, which it was. What stands there without a signature goes
// with it: beside the collector's it would look as if it belonged to that.
func (w *worker) keepEarlier(record plog.LogRecord) {
	attributes := record.Attributes()
	signed := false
	for key := range attributes.All() {
		signed = signed || key == audit.AttributeIntegrityValue || key == audit.AttributeIntegrityNewValue
	}
	if !signed {
		return
	}
	if _, named := attributes.Get(audit.AttributeIntegritySigner); !named {
		attributes.PutStr(audit.AttributeIntegritySigner, proof.SignerProducer)
	}
	renameNumbered(attributes, ofRecord[:], w.earlier)
}

// renameNumbered adds the first number from least on that none of the names has
// yet, and returns it. Of a repeated name the last is kept.
func renameNumbered(attributes pcommon.Map, names []string, least int) int {
	n := firstFree(attributes.All(), names, least)
	for _, name := range names {
		kept := pcommon.NewValueEmpty()
		found := false
		attributes.RemoveIf(func(key string, value pcommon.Value) bool {
			if key != name {
				return false
			}
			value.MoveTo(kept)
			found = true
			return true
		})
		if found {
			kept.MoveTo(attributes.PutEmpty(numbered(name, n)))
		}
	}
	return n
}

// firstFree returns the first number from least on that none of the names has
// behind it. It looks at each key once, however many numbers are taken.
func firstFree(keys iter.Seq2[string, pcommon.Value], names []string, least int) int {
	taken := map[int]bool{}
	for key := range keys {
		for _, name := range names {
			rest, ours := strings.CutPrefix(key, name)
			digits, dotted := strings.CutPrefix(rest, ".")
			if n, err := strconv.Atoi(digits); ours && dotted && err == nil && strconv.Itoa(n) == digits {
				taken[n] = true
			}
		}
	}
	for taken[least] {
		least++
	}
	return least
}

func numbered(name string, n int) string { return name + "." + strconv.Itoa(n) }

// signs says whether a record gets the collector's signature. One whose proof
// failed does not: the verdict is outside what is signed, so whoever checks
// the signature alone, a next collector for example, would find it sound.
func (w *worker) signs() bool {
	return w.stages.signing != nil && w.own.proof.Status != proof.Failed
}

// sign signs a record as it will be stored: the member `record` of the canonical
// bytes in w.buffer, which what it adds is not part of.
func (w *worker) sign(record plog.LogRecord) error {
	value, err := w.stages.signing.signer.Sign(w.buffer[w.span.Start:w.span.End])
	if err != nil {
		return err
	}
	attributes := record.Attributes()
	attributes.PutStr(audit.AttributeIntegrityValue, value)
	attributes.PutStr(audit.AttributeIntegritySigner, proof.SignerCollector)
	attributes.PutStr(audit.AttributeIntegrityCanonicalization, proof.Canonicalization)
	w.buffer, w.span, err = w.encoder.Append(w.buffer[:0], record)
	return err
}
