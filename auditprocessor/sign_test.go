// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/proof"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
)

func signConfig(algorithm, key, reference string) SignConfig {
	return SignConfig{
		KeyFile: proofVectors + "/keys/" + key + ".key", CertificateFile: proofVectors + "/keys/" + key + ".pem",
		Algorithm: algorithm, CertificateRef: reference,
	}
}

func withSigning(t testing.TB, s *stages, config SignConfig) *stages {
	t.Helper()
	require.NoError(t, config.Validate())
	var err error
	s.signing, err = newSigning(&config)
	require.NoError(t, err)
	return s
}

func certificateOf(t testing.TB, key string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(proofVectors + "/keys/" + key + ".pem")
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return certificate
}

// TestSignsLikeSigning verifies what the collector signs with nothing but the
// standard library: value, names and certificate as contrib's processor has them.
func TestSignsLikeSigning(t *testing.T) {
	for _, test := range []struct{ algorithm, key, reference string }{
		{"RS256", "rsa", referFingerprint},
		{"RS512", "rsa", referFull},
		{"ES256", "p256", referFingerprint},
		{"EdDSA", "ed25519", referFull},
	} {
		t.Run(test.algorithm, func(t *testing.T) {
			s := withSigning(t, testStages(t), signConfig(test.algorithm, test.key, test.reference))
			logs, record := validLogs()
			record.SetObservedTimestamp(0) // what is filled in is signed
			record.Attributes().PutStr("password", "Tr0ub4dor")
			verdicts, _ := s.apply(logs, "", false)
			require.Empty(t, verdicts[0].reasons)

			form, err := new(canonical.Encoder).AppendRecord(nil, record)
			require.NoError(t, err)
			assert.Contains(t, string(form), "observed_timestamp")
			value, err := base64.StdEncoding.DecodeString(rawAttribute(record, audit.AttributeIntegrityValue).(string))
			require.NoError(t, err)
			certificate := certificateOf(t, test.key)
			checkWithStandardLibrary(t, test.algorithm, certificate.PublicKey, form, value)
			assert.Equal(t, "collector", rawAttribute(record, audit.AttributeIntegritySigner))
			assert.Equal(t, "jcs", rawAttribute(record, audit.AttributeIntegrityCanonicalization))

			sum := sha256.Sum256(certificate.Raw)
			reference := "sha256:" + hex.EncodeToString(sum[:])
			if test.reference == referFull {
				reference = base64.StdEncoding.EncodeToString(certificate.Raw)
			}
			resource := logs.ResourceLogs().At(0).Resource().Attributes().AsRaw()
			assert.Equal(t, map[string]any{
				attributeServiceName: "shop", audit.ResourceIntegrityAlgorithm: test.algorithm, audit.ResourceIntegrityCertificate: reference,
			}, resource)
			digest := sha256.Sum256([]byte(canonicalOf(t, logs)))
			assert.Equal(t, digest[:], verdicts[0].digest[:], "the signature is inside the digest")
		})
	}
}

func checkWithStandardLibrary(t *testing.T, algorithm string, key any, form, value []byte) {
	t.Helper()
	short, long := sha256.Sum256(form), sha512.Sum512(form)
	switch algorithm {
	case "RS256":
		assert.NoError(t, rsa.VerifyPKCS1v15(key.(*rsa.PublicKey), crypto.SHA256, short[:], value))
	case "RS512":
		assert.NoError(t, rsa.VerifyPKCS1v15(key.(*rsa.PublicKey), crypto.SHA512, long[:], value))
	case "ES256":
		assert.True(t, ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), short[:], value))
	case "EdDSA":
		assert.True(t, ed25519.Verify(key.(ed25519.PublicKey), form, value))
	default:
		t.Fatal(algorithm)
	}
}

// TestSignKeepsTheProducersProof: it stands beside, under numbers, and still
// verifies; that of a second collector as well.
func TestSignKeepsTheProducersProof(t *testing.T) {
	shop := newTestProducer(t, 'a')
	logs, record := validLogs()
	shop.sign(logs)
	value := rawAttribute(record, audit.AttributeIntegrityValue)
	withProofs(t, withSigning(t, testStages(t), signConfig("ES256", "p256", referFingerprint)), shop.config()).apply(logs, "", false)
	first := rawAttribute(record, audit.AttributeIntegrityValue)
	assert.Equal(t, "passed", rawAttribute(record, audit.AttributeCollectorVerifyStatus), "the producer's, before it was moved")
	withSigning(t, testStages(t), signConfig("RS256", "rsa", referFingerprint)).apply(logs, "", false)

	found := integrityOf(record)
	for key := range found {
		if strings.HasPrefix(key, audit.PrefixHop) {
			delete(found, key)
		}
	}
	second := rawAttribute(record, audit.AttributeIntegrityValue)
	assert.Equal(t, map[string]any{
		"audit.integrity.value": second, "audit.integrity.signer": "collector", "audit.integrity.canonicalization": "jcs",
		"audit.integrity.value.0": value, "audit.integrity.signer.0": "producer",
		"audit.integrity.value.1": first, "audit.integrity.signer.1": "collector", "audit.integrity.canonicalization.1": "jcs",
	}, found)
	resource := logs.ResourceLogs().At(0).Resource().Attributes()
	form, err := new(canonical.Encoder).AppendRecord(nil, record)
	require.NoError(t, err)
	for suffix, by := range map[string]struct{ algorithm, key string }{"": {"RS256", "rsa"}, ".1": {"ES256", "p256"}} {
		algorithm, _ := resource.Get(audit.ResourceIntegrityAlgorithm + suffix)
		assert.Equal(t, by.algorithm, algorithm.Str())
		signature, err := base64.StdEncoding.DecodeString(rawAttribute(record, audit.AttributeIntegrityValue+suffix).(string))
		require.NoError(t, err)
		checkWithStandardLibrary(t, by.algorithm, certificateOf(t, by.key).PublicKey, form, signature)
	}
	algorithm, _ := resource.Get(audit.ResourceIntegrityAlgorithm + ".0")
	assert.Equal(t, "EdDSA", algorithm.Str())
	certificate, _ := resource.Get(audit.ResourceIntegrityCertificate + ".0")
	assert.Equal(t, shop.signer.Fingerprint(), certificate.Str())
}

// TestNoSignatureOverAFailedProof: the verdict is not in what a collector signs,
// so its signature would make the record sound for whoever comes next.
func TestNoSignatureOverAFailedProof(t *testing.T) {
	shop, stranger := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	for name, test := range map[string]struct {
		send   func(plog.Logs)
		signed bool
	}{
		"passed":      {send: shop.sign, signed: true},
		"unknown key": {send: stranger.sign},
		"missing":     {send: func(plog.Logs) {}},
	} {
		t.Run(name, func(t *testing.T) {
			logs, record := validLogs()
			test.send(logs)
			value := rawAttribute(record, audit.AttributeIntegrityValue)
			config := shop.config()
			config.RequireSignature = []ProofOwnerConfig{{Service: "shop"}}
			withProofs(t, withSigning(t, testStages(t), signConfig("ES256", "p256", referFingerprint)), config).apply(logs, "", false)
			assert.Equal(t, value, rawAttribute(record, audit.AttributeIntegrityValue+".0"), "what was sent stays")
			if !test.signed {
				assert.Nil(t, rawAttribute(record, audit.AttributeIntegrityValue))
				assert.Nil(t, rawAttribute(record, audit.AttributeIntegritySigner))
			}

			// Who trusts that collector, and asks for its signature, gets the same verdict.
			behind := newProofConfig()
			behind.Keys = []ProofKeyConfig{{ID: "collector", File: proofVectors + "/keys/p256.pem", Algorithms: []string{"ES256"}}}
			behind.RequireSignature = []ProofOwnerConfig{{Service: "*"}}
			next := testStages(t)
			next.now = func() time.Time { return time.Date(2029, 6, 1, 0, 0, 0, 0, time.UTC) }
			verdicts, _ := withProofs(t, next, behind).apply(logs, "", false)
			if test.signed {
				assert.Equal(t, proof.Passed, verdicts[0].verified)
				return
			}
			assert.Equal(t, proof.Failed, verdicts[0].verified)
			assert.Equal(t, string(proof.Missing), rawAttribute(record, audit.AttributeCollectorVerifyReason))
		})
	}
}

// TestSignedTransitionHandsNothingOver: a producer's key transition that a
// collector has signed on its way is no transition of the collector's key, and
// no failure either. A new key's signature never stands beside the collector's.
func TestSignedTransitionHandsNothingOver(t *testing.T) {
	old, next := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	for name, sign := range map[string]func(plog.Logs){"signed": old.sign, "unsigned": func(plog.Logs) {}} {
		logs, record := validLogs()
		record.SetEventName(audit.EventKeyTransition)
		record.Body().SetEmptyMap().PutEmptyMap("incoming_key").PutStr("fingerprint", next.signer.Fingerprint())
		form, err := new(canonical.Encoder).AppendRecord(nil, record)
		require.NoError(t, err)
		value, err := next.signer.Sign(form)
		require.NoError(t, err)
		sign(logs)
		record.Attributes().PutStr(audit.AttributeIntegrityNewValue, value)
		withSigning(t, testStages(t), signConfig("EdDSA", "next", referFingerprint)).apply(logs, "", false)
		assert.Nil(t, rawAttribute(record, audit.AttributeIntegrityNewValue), name)
		assert.Equal(t, value, rawAttribute(record, audit.AttributeIntegrityNewValue+".0"), name)

		config := next.config()
		config.Keys = append(config.Keys, ProofKeyConfig{ID: "collector", File: proofVectors + "/keys/next.pem", Algorithms: []string{"EdDSA"}})
		s := withProofs(t, testStages(t), config)
		worker := &worker{stages: s, now: s.now()}
		worker.takeClaim(logs.ResourceLogs().At(0).Resource().Attributes())
		worker.fields.scan(record.Attributes())
		worker.prove(record)
		assert.Equal(t, "collector", worker.own.proof.KeyID, name)
		assert.Empty(t, worker.own.proof.NextMaterial, name)
	}
}

// TestManyEarlierProofs: whatever numbers a client has taken, each attribute is
// looked at once to find one that is free.
func TestManyEarlierProofs(t *testing.T) {
	const earlier = 5000
	logs, record := validLogs()
	attributes := record.Attributes()
	attributes.EnsureCapacity(earlier + 20)
	for n := range earlier {
		attributes.PutStr(numbered(audit.AttributeIntegrityValue, n), "x")
	}
	for _, other := range []string{".05000", ".+5000", ".", ".5000x", "5000", ".-1"} {
		attributes.PutStr(audit.AttributeIntegrityValue+other, "x")
	}
	attributes.PutStr(audit.AttributeIntegrityValue, "newest")
	looks := 0
	free := firstFree(func(yield func(string, pcommon.Value) bool) {
		for key, value := range attributes.All() {
			if looks++; !yield(key, value) {
				return
			}
		}
	}, ofRecord[:], 0)
	assert.Equal(t, earlier, free)
	assert.Equal(t, attributes.Len(), looks)

	worker := &worker{stages: withSigning(t, testStages(t), signConfig("EdDSA", "ed25519", referFingerprint))}
	worker.takeOver(logs.ResourceLogs().At(0).Resource().Attributes())
	worker.keepEarlier(record)
	assert.Equal(t, "newest", rawAttribute(record, numbered(audit.AttributeIntegrityValue, earlier)))
	assert.Nil(t, rawAttribute(record, audit.AttributeIntegrityValue))
}

// TestSignAfterRedaction: the producer's signature goes, the collector's is over
// what is stored.
func TestSignAfterRedaction(t *testing.T) {
	shop := newTestProducer(t, 'a')
	logs, record := validLogs()
	record.Attributes().PutStr("pin", "1234")
	shop.sign(logs)
	value := rawAttribute(record, audit.AttributeIntegrityValue).(string)
	config := shop.config()
	config.Keys = append(config.Keys, ProofKeyConfig{ID: "collector", File: proofVectors + "/keys/next.pem", Algorithms: []string{"EdDSA"}})
	s := withProofs(t, withSigning(t, testStages(t), signConfig("EdDSA", "next", referFingerprint)), config)
	s.apply(logs, "", false)
	assert.NotContains(t, everything(t, logs), value)
	assert.Equal(t, "***", rawAttribute(record, audit.AttributeIntegrityValue+".0"))

	// A collector behind it verifies that.
	behind := withProofs(t, testStages(t), config)
	verdicts, _ := behind.apply(logs, "", false)
	assert.Equal(t, proof.Passed, verdicts[0].verified)
	assert.Equal(t, "collector", rawAttribute(record, audit.AttributeCollectorVerifyKey))
}

// TestSignedRecordsKeepTheLimit cuts a record so that the signature fits.
func TestSignedRecordsKeepTheLimit(t *testing.T) {
	for _, size := range []int{6000, 7000, 7800, 8000, 8192, 100_000} {
		logs, record := validLogs()
		record.Attributes().PutStr("a", strings.Repeat("x", size))
		s := withSigning(t, testStages(t, withLimits(func(l *LimitsConfig) { l.MaxRecordBytes = minSignedBytes })), signConfig("RS256", "rsa", referFull))
		verdicts, _ := s.apply(logs, "", false)
		require.False(t, verdicts[0].refused)
		assert.LessOrEqual(t, len(canonicalOf(t, logs)), minSignedBytes)
	}
}

// TestSignsRepairedGroups: a resource that has to be repaired names the key as
// any other.
func TestSignsRepairedGroups(t *testing.T) {
	logs, record := validLogs()
	resource := logs.ResourceLogs().At(0).Resource().Attributes()
	resource.PutStr("bad", "\xff")
	resource.PutStr(audit.ResourceIntegrityAlgorithm, "EdDSA")
	withSigning(t, testStages(t), signConfig("ES256", "p256", referFingerprint)).apply(logs, "", false)
	algorithm, _ := resource.Get(audit.ResourceIntegrityAlgorithm)
	assert.Equal(t, "ES256", algorithm.Str())
	algorithm, _ = resource.Get(audit.ResourceIntegrityAlgorithm + ".0")
	assert.Equal(t, "EdDSA", algorithm.Str())
	assert.NotNil(t, rawAttribute(record, audit.AttributeIntegrityValue))
}

// TestSignedLogIsSound takes signed records through the whole processor.
func TestSignedLogIsSound(t *testing.T) {
	directory := t.TempDir()
	sink := newSinkFake()
	config := testConfig(t, directory)
	config.Sign = signConfig("EdDSA", "ed25519", referFingerprint)
	require.NoError(t, confmap.Validate(config))
	p := startProcessor(t, config, sink)
	for _, id := range []string{"a", "b", "a"} {
		logs := event(id)
		logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).SetTimestamp(1)
		require.NoError(t, p.ConsumeLogs(t.Context(), logs))
	}
	require.NoError(t, p.Shutdown(t.Context()))
	sink.check(t, publicKey(t, directory))
	require.Len(t, sink.records, 4, "start, a, b, stop")
}

func TestSignConfig(t *testing.T) {
	for want, edit := range map[string]func(*Config){
		"`sign::key_file` is required":              func(c *Config) { c.Sign.KeyFile = "" },
		"`sign::certificate_file` is required":      func(c *Config) { c.Sign.CertificateFile = "" },
		"`sign::algorithm`: algorithm must be one":  func(c *Config) { c.Sign.Algorithm = "" },
		"`sign::algorithm` is HMAC-SHA256":          func(c *Config) { c.Sign.Algorithm = "HMAC-SHA256" },
		"`sign::certificate_ref` must be":           func(c *Config) { c.Sign.CertificateRef = "x" },
		"`limits::max_record_bytes` must be at lea": func(c *Config) { c.Limits.MaxRecordBytes = minRecordBytes },
	} {
		config := testConfig(t, t.TempDir())
		config.Sign = signConfig("EdDSA", "ed25519", referFingerprint)
		require.NoError(t, confmap.Validate(config))
		edit(config)
		require.ErrorContains(t, confmap.Validate(config), want)
	}
	for want, edit := range map[string]func(*SignConfig){
		"`sign::key_file`":         func(c *SignConfig) { c.KeyFile += "x" },
		"`sign::certificate_file`": func(c *SignConfig) { c.CertificateFile += "x" },
		"not the certificate's":    func(c *SignConfig) { c.CertificateFile = filepath.Join(proofVectors, "keys", "next.pem") },
		"holds no certificate":     func(c *SignConfig) { *c = signConfig("EdDSA", "next", referFull) },
	} {
		config := testConfig(t, t.TempDir())
		config.Sign = signConfig("EdDSA", "ed25519", referFingerprint)
		edit(&config.Sign)
		p, err := newProcessor(processor.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: componenttest.NewNopTelemetrySettings()}, config, newSinkFake())
		require.NoError(t, err)
		require.ErrorContains(t, p.Start(context.Background(), componenttest.NewNopHost()), want)
		require.NoError(t, p.Shutdown(t.Context()))
	}
}
