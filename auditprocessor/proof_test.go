// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
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
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/proof"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadatatest"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

const proofVectors = "../audit/testdata/vectors/proof"

// testProducer signs records as a producer would.
type testProducer struct {
	t      testing.TB
	signer *proof.Signer
	public []byte
}

// newTestProducer makes a producer whose key follows from a letter.
func newTestProducer(t testing.TB, seed byte) *testProducer {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	p := &testProducer{t: t, public: pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: public})}
	p.signer, err = proof.NewSigner(proof.EdDSA, pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: private}), p.public)
	require.NoError(t, err)
	return p
}

// write leaves the public key in a file.
func (p *testProducer) write(path string) string {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(path, p.public, 0o600))
	return path
}

// sign signs the first record of logs as it is now.
func (p *testProducer) sign(logs plog.Logs) {
	p.t.Helper()
	resource := logs.ResourceLogs().At(0)
	record := resource.ScopeLogs().At(0).LogRecords().At(0)
	form, err := new(canonical.Encoder).AppendRecord(nil, record)
	require.NoError(p.t, err)
	value, err := p.signer.Sign(form)
	require.NoError(p.t, err)
	record.Attributes().PutStr(audit.AttributeIntegrityValue, value)
	resource.Resource().Attributes().PutStr(audit.ResourceIntegrityAlgorithm, p.signer.Algorithm().String())
	resource.Resource().Attributes().PutStr(audit.ResourceIntegrityCertificate, p.signer.Fingerprint())
}

// config is a policy that trusts the producer.
func (p *testProducer) config() ProofConfig {
	p.t.Helper()
	config := newProofConfig()
	config.Keys = []ProofKeyConfig{{
		ID: "shop-1", File: p.write(filepath.Join(p.t.TempDir(), "shop.pub")), Algorithms: []string{"EdDSA"},
	}}
	return config
}

func withProofs(t testing.TB, s *stages, config ProofConfig) *stages {
	t.Helper()
	require.NoError(t, config.Validate())
	s.proofs = newProofs(&config)
	ring := keyring{config: &config, logger: zap.NewNop(), use: s.proofs.ring.Store}
	require.NoError(t, ring.load())
	return s
}

func TestProofVerdicts(t *testing.T) {
	shop, stranger := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	for name, test := range map[string]struct {
		policy func(*ProofConfig)
		send   func(plog.Logs, plog.LogRecord)
		status proof.Status
		reason proof.Reason
		key    string
	}{
		"unsigned": {send: func(plog.Logs, plog.LogRecord) {}},
		"signed":   {send: func(l plog.Logs, _ plog.LogRecord) { shop.sign(l) }, status: proof.Passed, key: "shop-1"},
		"changed": {
			send:   func(l plog.Logs, r plog.LogRecord) { shop.sign(l); r.Attributes().PutStr("x", "y") },
			status: proof.Failed, reason: proof.BadSignature,
		},
		"unknown key": {
			send:   func(l plog.Logs, _ plog.LogRecord) { stranger.sign(l) },
			status: proof.Failed, reason: proof.UnknownKey,
		},
		"another service": {
			policy: func(c *ProofConfig) { c.Keys[0].Services = []string{"billing"} },
			send:   func(l plog.Logs, _ plog.LogRecord) { shop.sign(l) },
			status: proof.Failed, reason: proof.NotAllowed,
		},
		"its service": {
			policy: func(c *ProofConfig) { c.Keys[0].Services = []string{"billing", "shop"} },
			send:   func(l plog.Logs, _ plog.LogRecord) { shop.sign(l) },
			status: proof.Passed, key: "shop-1",
		},
		"ended": {
			policy: func(c *ProofConfig) { c.Keys[0].NotAfter = testNow.Add(-time.Second) },
			send: func(l plog.Logs, r plog.LogRecord) {
				r.SetTimestamp(1) // what a record says of its time does not help it
				shop.sign(l)
			},
			status: proof.Failed, reason: proof.NotValid,
		},
		"required of the service": {
			policy: func(c *ProofConfig) { c.RequireSignature = []ProofOwnerConfig{{Service: "shop"}} },
			send:   func(plog.Logs, plog.LogRecord) {}, status: proof.Failed, reason: proof.Missing,
		},
		"required of the tenant": {
			policy: func(c *ProofConfig) { c.RequireSignature = []ProofOwnerConfig{{Tenant: "acme"}} },
			send:   func(plog.Logs, plog.LogRecord) {}, status: proof.Failed, reason: proof.Missing,
		},
		"required of all": {
			policy: func(c *ProofConfig) { c.RequireSignature = []ProofOwnerConfig{{Service: "*"}} },
			send:   func(plog.Logs, plog.LogRecord) {}, status: proof.Failed, reason: proof.Missing,
		},
		"required of others": {
			policy: func(c *ProofConfig) { c.RequireSignature = []ProofOwnerConfig{{Service: "billing"}, {Tenant: "other"}} },
			send:   func(plog.Logs, plog.LogRecord) {},
		},
		"no canonical form": {
			send:   func(l plog.Logs, r plog.LogRecord) { shop.sign(l); r.Attributes().PutStr("x", "\xff") },
			status: proof.Failed, reason: proof.NoCanonicalForm,
		},
		"without observed time": { // which is filled in, after the proof was verified
			send:   func(l plog.Logs, r plog.LogRecord) { r.SetObservedTimestamp(0); shop.sign(l) },
			status: proof.Passed, key: "shop-1",
		},
		"a verdict of its own": {
			send: func(_ plog.Logs, r plog.LogRecord) {
				r.Attributes().PutStr(audit.AttributeCollectorVerifyStatus, "passed")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			logs, record := validLogs()
			config := shop.config()
			if test.policy != nil {
				test.policy(&config)
			}
			test.send(logs, record)
			s := withProofs(t, testStages(t), config)
			verdicts, counts := s.apply(logs, "acme", false)
			assert.Equal(t, test.status, verdicts[0].verified)
			assert.False(t, verdicts[0].refused)
			want := map[string]any{}
			for name, text := range map[string]string{
				audit.AttributeCollectorVerifyStatus: string(test.status),
				audit.AttributeCollectorVerifyReason: string(test.reason), audit.AttributeCollectorVerifyKey: test.key,
			} {
				if want[name] = any(text); text == "" {
					want[name] = nil
				}
				assert.Equal(t, want[name], rawAttribute(record, name))
			}
			outcome := string(test.reason)
			if test.status == proof.Passed {
				outcome = "passed"
			}
			counted := map[string]int64{}
			counts.eachProof(func(verdict string, n int64) { counted[verdict] = n })
			if test.status == "" {
				assert.Empty(t, counted)
				return
			}
			assert.Equal(t, map[string]int64{outcome: 1}, counted)
			flagged := strings.HasPrefix(verdicts[0].stream, audit.StreamFlagged)
			assert.Equal(t, test.status == proof.Failed, flagged)
		})
	}
}

// TestProofIsForTheServiceThatIsStored sends names twice, of which the last is
// stored: whose key counts, and who must sign, follows from that one, whatever
// redaction and repair make of the record.
func TestProofIsForTheServiceThatIsStored(t *testing.T) {
	shop := newTestProducer(t, 'a')
	const card = "4111 1111 1111 1111"
	tied := func(c *ProofConfig) {
		c.Keys[0].Services = []string{"shop"}
		c.RequireSignature = []ProofOwnerConfig{{Service: "orders"}}
	}
	ofTenant := func(c *ProofConfig) {
		c.Keys[0].Tenants = []string{"acme"}
		c.RequireSignature = []ProofOwnerConfig{{Tenant: "globex"}}
	}
	resource := func(l plog.Logs) pcommon.Map { return l.ResourceLogs().At(0).Resource().Attributes() }
	for name, test := range map[string]struct {
		policy  func(*ProofConfig)
		send    func(plog.Logs, plog.LogRecord)
		service any // as it is stored
		tenant  any
		status  proof.Status
		reason  proof.Reason
	}{
		"key of the first": {
			policy: tied, service: "orders", status: proof.Failed, reason: proof.NotAllowed,
			send: func(l plog.Logs, _ plog.LogRecord) {
				shop.sign(l)
				repeat(resource(l), attributeServiceName, "shop", "orders")
			},
		},
		"key of the last": {
			policy: tied, service: "shop", status: proof.Passed,
			send: func(l plog.Logs, _ plog.LogRecord) {
				shop.sign(l)
				repeat(resource(l), attributeServiceName, "orders", "shop")
			},
		},
		"the last must sign": {
			policy: tied, service: "orders", status: proof.Failed, reason: proof.Missing,
			send: func(l plog.Logs, _ plog.LogRecord) { repeat(resource(l), attributeServiceName, "shop", "orders") },
		},
		"the first need not sign": {
			policy: tied, service: "shop",
			send: func(l plog.Logs, _ plog.LogRecord) { repeat(resource(l), attributeServiceName, "orders", "shop") },
		},
		"the last is redacted": { // and does not give way to the first
			policy: tied, service: nil,
			send: func(l plog.Logs, _ plog.LogRecord) { repeat(resource(l), attributeServiceName, "orders", card) },
		},
		"repaired": {
			policy:  func(c *ProofConfig) { c.RequireSignature = []ProofOwnerConfig{{Service: "o\uFFFDders"}} },
			send:    func(l plog.Logs, _ plog.LogRecord) { resource(l).PutStr(attributeServiceName, "o\xffders") },
			service: "o\uFFFDders", status: proof.Failed, reason: proof.Missing,
		},
		"tenant of the first": {
			policy: ofTenant, service: "shop", tenant: "globex", status: proof.Failed, reason: proof.NotAllowed,
			send: func(l plog.Logs, r plog.LogRecord) {
				r.Attributes().PutStr(audit.AttributeTenantID, "globex")
				shop.sign(l)
				repeat(r.Attributes(), audit.AttributeTenantID, "acme", "globex")
			},
		},
		"the last tenant is redacted": {
			policy: ofTenant, service: "shop", tenant: []byte("***"),
			send: func(_ plog.Logs, r plog.LogRecord) {
				repeat(r.Attributes(), audit.AttributeTenantID, "globex", []byte(card))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			logs, record := validLogs()
			config := shop.config()
			test.policy(&config)
			test.send(logs, record)
			s := withProofs(t, testStages(t, withRedaction(func(r *RedactionConfig) { r.Mode = modeRemove })), config)
			verdicts, _ := s.apply(logs, "", false)
			assert.Equal(t, test.status, verdicts[0].verified)
			if test.reason != "" {
				assert.Equal(t, string(test.reason), rawAttribute(record, audit.AttributeCollectorVerifyReason))
			}
			stored := resource(logs).AsRaw()[attributeServiceName]
			assert.Equal(t, test.service, stored)
			assert.Equal(t, test.tenant, rawAttribute(record, audit.AttributeTenantID))
		})
	}
}

// TestProofOfTheAttributesThatAreStored does the same with the claim itself: of
// a value, algorithm or certificate that is there twice the last counts.
func TestProofOfTheAttributesThatAreStored(t *testing.T) {
	shop := newTestProducer(t, 'a')
	for _, name := range []string{audit.AttributeIntegrityValue, audit.ResourceIntegrityAlgorithm, audit.ResourceIntegrityCertificate} {
		for want, order := range map[proof.Status]func(good any) (first, second any){
			proof.Passed: func(good any) (first, second any) { return "else", good },
			proof.Failed: func(good any) (first, second any) { return good, "else" },
		} {
			logs, record := validLogs()
			shop.sign(logs)
			m := logs.ResourceLogs().At(0).Resource().Attributes()
			if name == audit.AttributeIntegrityValue {
				m = record.Attributes()
			}
			good := m.AsRaw()[name]
			first, second := order(good)
			repeat(m, name, first, second)
			verdicts, _ := withProofs(t, testStages(t), shop.config()).apply(logs, "", false)
			assert.Equal(t, want, verdicts[0].verified, name)
			assert.Equal(t, second, m.AsRaw()[name])
		}
	}
}

// TestProofOnViolation: validation and proofs each have a say of their own.
func TestProofOnViolation(t *testing.T) {
	shop := newTestProducer(t, 'a')
	for _, test := range []struct {
		onInvalid, onViolation   string
		proofFails, breaksSchema bool
		refused                  bool
	}{
		{onInvalidFlag, onViolationMark, true, true, false},
		{onInvalidReject, onViolationMark, true, false, false},
		{onInvalidReject, onViolationMark, false, true, true},
		{onInvalidFlag, onViolationReject, true, false, true},
		{onInvalidFlag, onViolationReject, false, true, false},
		{onInvalidReject, onViolationReject, false, false, false},
	} {
		logs, record := validLogs()
		if test.breaksSchema {
			record.Attributes().Remove(audit.AttributeActorID)
		}
		shop.sign(logs)
		if test.proofFails {
			record.Attributes().PutStr("x", "y")
		}
		config := shop.config()
		config.OnViolation = test.onViolation
		s := withProofs(t, testStages(t, withValidation(func(v *ValidationConfig) { v.OnInvalid = test.onInvalid })), config)
		verdicts, _ := s.apply(logs, "", false)
		assert.Equal(t, test.refused, verdicts[0].refused || verdicts[0].onlyKnown, "%+v", test)
		assert.Equal(t, test.proofFails, strings.Contains(strings.Join(verdicts[0].reasons, "\n"), "audit.integrity.value: proof failed: signature"))
	}
}

// TestRedactedProof takes a signed record whose secret is masked: it was
// verified as it came, and leaves a verdict and a keyed hash, never a signature.
func TestRedactedProof(t *testing.T) {
	shop := newTestProducer(t, 'a')
	j, err := journal.Open(journal.Options{Directory: t.TempDir(), Instance: "test", Key: ed25519.NewKeyFromSeed(make([]byte, 32))})
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	for name, change := range map[string]func(plog.LogRecord){
		"redacted":      func(r plog.LogRecord) { r.Attributes().PutStr("pin", "1234") },
		"truncated":     func(r plog.LogRecord) { r.Body().SetStr(strings.Repeat("x", 100_000)) },
		"cut to fit":    func(r plog.LogRecord) { fillUp(r, 300, 400) },
		"all is cut":    func(r plog.LogRecord) { fillUp(r, 250, 100) },
		"with a doctor": func(r plog.LogRecord) { r.Attributes().PutStr("note", "password=Tr0ub4dor") },
	} {
		t.Run(name, func(t *testing.T) {
			logs, record := validLogs()
			change(record)
			shop.sign(logs)
			value := rawAttribute(record, audit.AttributeIntegrityValue).(string)
			s := withProofs(t, testStages(t, withLimits(func(l *LimitsConfig) { l.MaxRecordBytes = minRecordBytes * 4 })), shop.config())
			s.identifier = j.Identifier()
			verdicts, _ := s.apply(logs, "", false)

			sum := j.Identifier().Blind(value)
			assert.Equal(t, proof.Passed, verdicts[0].verified)
			assert.Equal(t, "passed", rawAttribute(record, audit.AttributeCollectorVerifyStatus))
			assert.NotContains(t, everything(t, logs), value)
			assert.NotContains(t, everything(t, logs), value[:40])
			assert.Equal(t, map[string]any{audit.AttributeIntegrityValue: hex.EncodeToString(sum[:])}, rawAttribute(record, audit.AttributeCollectorProofs))
			assert.LessOrEqual(t, len(canonicalOf(t, logs)), minRecordBytes*4)
		})
	}
}

// fillUp adds attributes of the given size.
func fillUp(record plog.LogRecord, attributes, size int) {
	for i := range attributes {
		record.Attributes().PutStr(strings.Repeat("k", 3)+string(rune('a'+i%26))+string(rune('a'+i/26)), strings.Repeat("v", size))
	}
}

// TestProofsOfOthers takes what openssl, Node.js and Python signed through the
// processor, with the keys as files and as environment variables.
func TestProofsOfOthers(t *testing.T) {
	files, err := filepath.Glob(proofVectors + "/made-*.txt")
	require.NoError(t, err)
	require.Len(t, files, 18)
	for _, byEnv := range []bool{false, true} {
		config := vectorPolicy(t, byEnv)
		s := testStages(t)
		s.now = func() time.Time { return time.Date(2029, 6, 1, 0, 0, 0, 0, time.UTC) }
		withProofs(t, s, config)
		for _, path := range files {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			fields := map[string]string{}
			for line := range strings.Lines(string(text)) {
				name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
				fields[name] = value
			}
			logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs([]byte(fields["otlp"]))
			require.NoError(t, err)
			verdicts, _ := s.apply(logs, "", false)
			record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
			assert.Equal(t, proof.Passed, verdicts[0].verified, path)
			assert.Equal(t, fields["expect"], "passed "+rawAttribute(record, audit.AttributeCollectorVerifyKey).(string))
		}
	}
}

func vectorPolicy(t *testing.T, byEnv bool) ProofConfig {
	var entries []struct {
		ID, File   string
		Algorithms []string
	}
	text, err := os.ReadFile(proofVectors + "/keys/ring.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &entries))
	config := newProofConfig()
	for _, entry := range entries[:5] {
		key := ProofKeyConfig{ID: entry.ID, File: proofVectors + "/keys/" + entry.File, Algorithms: entry.Algorithms}
		if byEnv {
			text, err := os.ReadFile(key.File)
			require.NoError(t, err)
			key.Env, key.File = "OTELAUDIT_TEST_"+strings.ToUpper(strings.ReplaceAll(entry.ID, "-", "_")), ""
			if !strings.HasPrefix(entry.Algorithms[0], "HMAC") {
				text = []byte(base64.StdEncoding.EncodeToString(text))
			}
			t.Setenv(key.Env, string(text))
		}
		config.Keys = append(config.Keys, key)
	}
	return config
}

// TestProofInTheReceipt sends through the whole processor, over a restart.
func TestProofInTheReceipt(t *testing.T) {
	shop := newTestProducer(t, 'a')
	directory := t.TempDir()
	config := testConfig(t, directory)
	config.Proof = shop.config()
	config.Proof.OnViolation = onViolationReject
	config.Proof.RequireSignature = []ProofOwnerConfig{{Service: "billing"}}
	telemetry := componenttest.NewTelemetry()
	sink := newSinkFake()
	send := func(p *auditProcessor, logs plog.Logs) (receipt.Result, error) {
		filled := &receipt.Receipt{}
		err := p.ConsumeLogs(receipt.NewContext(t.Context(), filled), logs)
		require.Len(t, filled.Results, 1)
		return filled.Results[0], err
	}
	signedEvent := func() plog.Logs {
		logs := event("a")
		logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).SetTimestamp(1)
		shop.sign(logs)
		return logs
	}
	p, err := newProcessor(processor.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: telemetry.NewTelemetrySettings()}, config, sink)
	require.NoError(t, err)
	require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
	result, err := send(p, signedEvent())
	require.NoError(t, err)
	assert.Equal(t, "passed", result.VerifyStatus)
	assert.Empty(t, result.Reasons)

	result, err = send(p, event("b"))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	assert.Equal(t, "failed", result.VerifyStatus)
	assert.Equal(t, []string{"audit.integrity.value: proof failed: missing: records of this service or tenant must be signed"}, result.Reasons)
	assert.False(t, result.Sealed)
	metadatatest.AssertEqualProcessorAuditVerifiedRecords(t, telemetry, []metricdata.DataPoint[int64]{
		{Value: 1, Attributes: attribute.NewSet(attribute.String("verdict", "passed"))},
		{Value: 1, Attributes: attribute.NewSet(attribute.String("verdict", "missing"))},
	}, metricdatatest.IgnoreTimestamp())
	require.NoError(t, p.Shutdown(t.Context()))

	p = startProcessor(t, config, sink)
	result, err = send(p, signedEvent())
	require.NoError(t, err)
	assert.Equal(t, "passed", result.VerifyStatus, "of a record that came before")
	require.NoError(t, p.Shutdown(t.Context()))
	require.NoError(t, telemetry.Shutdown(context.Background()))
	sink.check(t, publicKey(t, directory))
}

// TestReceiptSpeaksOfWhatIsStored sends one record several times, with a proof
// that holds, one that does not, or none. Only the first is stored, so each
// receipt has the verdict of the first: of this process, of the one before, of
// an id file, and within one request.
func TestReceiptSpeaksOfWhatIsStored(t *testing.T) {
	shop, stranger := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	directory := t.TempDir()
	config := testConfig(t, directory)
	config.Proof = shop.config()
	sink := newSinkFake()
	proofs := map[string]func(plog.Logs){"passed": shop.sign, "failed": stranger.sign, "": func(plog.Logs) {}}
	reasons := map[string][]string{"failed": {proofReason(proof.UnknownKey)}}
	sent := func(id, status string) plog.Logs {
		logs := eventOf(id, "alice")
		proofs[status](logs)
		return logs
	}
	send := func(p *auditProcessor, strict bool, logs plog.Logs) []receipt.Result {
		t.Helper()
		filled := &receipt.Receipt{RejectInvalid: strict}
		require.NoError(t, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), logs))
		return filled.Results
	}
	again := func(p *auditProcessor) {
		t.Helper()
		for first := range proofs {
			for second := range proofs {
				for _, strict := range []bool{false, true} { // as /v1/audit is
					result := send(p, strict, sent(first+"1", second))[0]
					assert.Equal(t, first, result.VerifyStatus, "then %q", second)
					assert.ElementsMatch(t, reasons[first], result.Reasons)
				}
			}
		}
	}
	p := startProcessor(t, config, sink)
	for first := range proofs {
		result := send(p, false, sent(first+"1", first))[0]
		assert.Equal(t, first, result.VerifyStatus)
		assert.ElementsMatch(t, reasons[first], result.Reasons)
		for second := range proofs {
			for i, result := range send(p, false, together(sent(first+"-"+second, first), sent(first+"-"+second, second))) {
				assert.Equal(t, first, result.VerifyStatus, "record %d", i)
				assert.ElementsMatch(t, reasons[first], result.Reasons)
			}
		}
	}
	again(p)
	require.NoError(t, p.Shutdown(t.Context()))
	for range 2 { // the first start still has the frames
		p = startProcessor(t, config, sink)
		again(p)
		require.NoError(t, p.Shutdown(t.Context()))
	}
	sink.check(t, publicKey(t, directory))
}

// TestVerdictCodes: journals keep them, so they stay what they are.
func TestVerdictCodes(t *testing.T) {
	for code := range uint8(len(proofOutcomes) + 1) {
		verdict := verdictOf(code)
		assert.Equal(t, code, codeOf(&verdict))
	}
	assert.Equal(t, proof.Failed, verdictOf(journal.MaxVerdict).Status)
	assert.Equal(t, [...]string{
		"passed", "missing", "malformed", "algorithm", "canonicalization", "certificate", "no_canonical_form", "unknown_key",
		"algorithm_refused", "key_not_allowed", "key_not_valid", "ambiguous_key", "signature", "transition",
	}, proofOutcomes)
}

// TestKeysAreReadAgain changes a key's file while records come, and breaks it.
func TestKeysAreReadAgain(t *testing.T) {
	first, second := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	config := first.config()
	path := config.Keys[0].File
	s := testStages(t)
	s.proofs = newProofs(&config)
	failures := 0
	ring := keyring{config: &config, logger: zap.NewNop(), use: s.proofs.ring.Store, failed: func() { failures++ }}
	require.NoError(t, ring.load())
	statusOf := func(p *testProducer) proof.Status {
		logs, _ := validLogs()
		p.sign(logs)
		verdicts, _ := s.apply(logs, "", false)
		return verdicts[0].verified
	}
	assert.Equal(t, []proof.Status{proof.Passed, proof.Failed}, []proof.Status{statusOf(first), statusOf(second)})
	ring.reload()
	assert.Equal(t, proof.Passed, statusOf(first), "nothing has changed")

	require.NoError(t, os.WriteFile(path, []byte("half a k"), 0o600))
	ring.reload()
	ring.reload()
	assert.Equal(t, 2, failures)
	assert.NotEmpty(t, ring.fault)
	assert.Equal(t, proof.Passed, statusOf(first), "the key from before stays")

	first.write(path)
	ring.reload()
	assert.Empty(t, ring.fault, "as it was")
	second.write(path)
	ring.reload()
	assert.Equal(t, []proof.Status{proof.Failed, proof.Passed}, []proof.Status{statusOf(first), statusOf(second)})
	assert.Equal(t, 2, failures)
}

// TestDeletedKeyCountsNoMore: a file that was deleted takes its key away, and no
// other, whatever is wrong with those. One that is replaced in two steps, a
// volume that is not there and a file that nobody can read take none away.
func TestDeletedKeyCountsNoMore(t *testing.T) {
	first, second := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	config := first.config()
	path, folder := config.Keys[0].File, filepath.Join(t.TempDir(), "volume")
	require.NoError(t, os.Mkdir(folder, 0o700))
	other := second.write(filepath.Join(folder, "second.pub"))
	config.Keys = append(config.Keys, ProofKeyConfig{ID: "second", File: other, Algorithms: []string{"EdDSA"}})
	core, lines := observer.New(zap.InfoLevel)
	s := testStages(t)
	s.proofs = newProofs(&config)
	failures := 0
	ring := keyring{config: &config, logger: zap.New(core), use: s.proofs.ring.Store, failed: func() { failures++ }}
	require.NoError(t, ring.load())
	expect := func(why string, keys string, faults int) {
		t.Helper()
		before := failures
		ring.reload()
		sign := func(p *testProducer) string {
			logs, _ := validLogs()
			p.sign(logs)
			verdicts, _ := s.apply(logs, "", false)
			return map[proof.Status]string{proof.Passed: "+", proof.Failed: "-"}[verdicts[0].verified]
		}
		assert.Equal(t, keys, sign(first)+sign(second), why)
		assert.Equal(t, faults, failures-before, why)
	}
	expect("as they were", "++", 0)
	require.NoError(t, os.Remove(path))
	expect("gone for a moment", "++", 1)
	first.write(path)
	expect("and back", "++", 0)

	require.NoError(t, os.WriteFile(other, []byte("half a k"), 0o600))
	require.NoError(t, os.Remove(path))
	expect("gone, and the other is broken", "++", 1)
	expect("gone for good", "-+", 1)
	expect("and stays so", "-+", 1)
	removed := lines.FilterMessageSnippet("have changed").TakeAll()
	require.Len(t, removed, 1)
	assert.Equal(t, []any{"second"}, removed[0].ContextMap()["in_use"])
	assert.NotEmpty(t, lines.FilterMessageSnippet("cannot be read").FilterLevelExact(zap.ErrorLevel).All())

	require.NoError(t, os.WriteFile(path, []byte("half a k"), 0o600))
	expect("back, but broken", "-+", 1)
	first.write(path)
	expect("back", "++", 1)
	second.write(other)
	expect("both", "++", 0)

	require.NoError(t, os.Rename(folder, folder+"-away"))
	for range 3 {
		expect("the volume is away", "++", 1)
	}
	require.NoError(t, os.Rename(folder+"-away", folder))
	require.NoError(t, os.Remove(other))
	require.NoError(t, os.Mkdir(other, 0o700))
	for range 3 {
		expect("cannot be read", "++", 1)
	}
	rsa, err := os.ReadFile(proofVectors + "/keys/rsa.pem")
	require.NoError(t, err)
	require.NoError(t, os.Remove(other))
	require.NoError(t, os.WriteFile(other, rsa, 0o600))
	expect("a key for another algorithm", "++", 1)
	require.NoError(t, os.Remove(path))
	expect("gone once more", "++", 1)
	expect("nothing holds that up", "-+", 1)
}

// TestKeysWhileItRuns lets the running processor find the new key by itself.
func TestKeysWhileItRuns(t *testing.T) {
	first, second := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	config := testConfig(t, t.TempDir())
	config.Proof = first.config()
	config.Proof.ReloadInterval = time.Second
	p := startProcessor(t, config, newSinkFake())
	second.write(config.Proof.Keys[0].File)
	require.Eventually(t, func() bool {
		logs := event("")
		second.sign(logs)
		filled := &receipt.Receipt{}
		require.NoError(t, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), logs))
		return filled.Results[0].VerifyStatus == "passed"
	}, time.Minute, 50*time.Millisecond)
	require.NoError(t, p.Shutdown(t.Context()))
}

func TestStartNeedsItsKeys(t *testing.T) {
	for name, edit := range map[string]func(*ProofKeyConfig){
		"no such file":   func(k *ProofKeyConfig) { k.File += "x" },
		"not set":        func(k *ProofKeyConfig) { k.File, k.Env = "", "OTELAUDIT_TEST_UNSET" },
		"cannot be used": func(k *ProofKeyConfig) { k.Algorithms = []string{"RS256"} },
		"no secret":      func(k *ProofKeyConfig) { k.Algorithms = []string{"HMAC-SHA256"} },
		"`proof::keys[0]": func(k *ProofKeyConfig) {
			require.NoError(t, os.WriteFile(k.File, make([]byte, proof.MaxKeyText+1), 0o600))
		},
	} {
		config := testConfig(t, t.TempDir())
		config.Proof = newTestProducer(t, 'a').config()
		edit(&config.Proof.Keys[0])
		if name == "cannot be used" || name == "no such file" {
			config.Proof.Keys[0].ID = "x"
		}
		require.NoError(t, confmap.Validate(config))
		p, err := newProcessor(processor.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: componenttest.NewNopTelemetrySettings()}, config, newSinkFake())
		require.NoError(t, err)
		err = p.Start(context.Background(), componenttest.NewNopHost())
		if name == "no such file" {
			name = "no such file or directory"
		}
		require.ErrorContains(t, err, name)
		require.NoError(t, p.Shutdown(t.Context()))
	}
}

func TestProofConfig(t *testing.T) {
	all, err := confmaptest.LoadConf("testdata/proof.yaml")
	require.NoError(t, err)
	load := func(name string) (*Config, error) {
		sub, err := all.Sub(name)
		require.NoError(t, err)
		config := createDefaultConfig().(*Config)
		if err := sub.Unmarshal(config); err != nil {
			return nil, err
		}
		return config, confmap.Validate(config)
	}
	config, err := load("all")
	require.NoError(t, err)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	assert.Equal(t, ProofConfig{
		Keys: []ProofKeyConfig{
			{ID: "orders-1", File: "/etc/otelaudit/orders.pem", Algorithms: []string{"EdDSA"}, NotBefore: begin, NotAfter: begin.AddDate(1, 0, 0), Services: []string{"orders"}, Tenants: []string{"acme"}},
			{ID: "billing-1", Env: "BILLING_HMAC", Algorithms: []string{"HMAC-SHA256", "HMAC-SHA512"}, NotBefore: begin},
		},
		RequireSignature: []ProofOwnerConfig{{Service: "orders"}, {Tenant: "acme"}},
		OnViolation:      onViolationReject,
		ReloadInterval:   time.Minute,
	}, config.Proof)
	for name, want := range map[string]string{
		"neither":     "`proof::keys[0]` must have either `file` or `env`",
		"both":        "`proof::keys[0]` must have either `file` or `env`",
		"no_id":       "`proof::keys[0]::id` is required",
		"twice":       "`proof::keys[1]::id`",
		"no_alg":      "`proof::keys[0]::algorithms` is required",
		"alg":         "`proof::keys[0]::algorithms[0]`: algorithm must be one of RS256",
		"mixed":       "a key is a secret or a public key",
		"order":       "`proof::keys[0]::not_after` is before",
		"violation":   "`proof::on_violation` must be mark or reject",
		"interval":    "`proof::reload_interval` must be at least 1s",
		"nobody":      "`proof::require_signature[0]` must name either",
		"two_owners":  "`proof::require_signature[0]` must name either",
		"unknown_key": "has invalid keys: secret",
	} {
		_, err := load(name)
		require.ErrorContains(t, err, want, name)
	}
}
