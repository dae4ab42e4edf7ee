// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
)

var update = flag.Bool("update", false, "write the vectors")

const (
	vectorFolder = "../testdata/vectors/proof"
	vectorNow    = "2029-06-01T00:00:00Z"
)

// vector is one file: a request with one record, and what its proof is worth.
type vector struct {
	name, about, expect  string
	service, tenant, now string
	otlp                 string
	record               string // canonical form; empty where the expected failure is that there is none
}

func (v *vector) text() string {
	var b strings.Builder
	for _, line := range [][2]string{
		{"expect", v.expect},
		{"about", v.about},
		{"service", v.service},
		{"tenant", v.tenant},
		{"now", v.now},
		{"otlp", v.otlp},
		{"record", v.record},
	} {
		b.WriteString(line[0] + ": " + line[1] + "\n")
	}
	return b.String()
}

func readVector(t testing.TB, path string) vector {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	v := vector{name: strings.TrimSuffix(filepath.Base(path), ".txt")}
	into := map[string]*string{
		"expect": &v.expect, "about": &v.about, "service": &v.service, "tenant": &v.tenant, "now": &v.now,
		"otlp": &v.otlp, "record": &v.record,
	}
	for line := range strings.Lines(string(text)) {
		name, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		require.True(t, found && into[name] != nil, "%s: %q", path, name)
		*into[name] = value
	}
	return v
}

// ringKey is an entry of keys/ring.json.
type ringKey struct {
	ID, File          string
	Algorithms        []string
	NotBefore         time.Time `json:"not_before"`
	NotAfter          time.Time `json:"not_after"`
	Services, Tenants []string
}

func vectorRing(t testing.TB) *Ring {
	t.Helper()
	var entries []ringKey
	require.NoError(t, json.Unmarshal(vectorFile(t, "keys/ring.json"), &entries))
	var keys []Key
	for _, entry := range entries {
		parse := ParsePublic
		if strings.HasSuffix(entry.File, ".secret") {
			parse = ParseSecret
		}
		material, err := parse(vectorFile(t, "keys/"+entry.File))
		require.NoError(t, err, entry.ID)
		key := Key{
			ID: entry.ID, Material: material, NotBefore: entry.NotBefore, NotAfter: entry.NotAfter,
			Services: entry.Services, Tenants: entry.Tenants,
		}
		for _, name := range entry.Algorithms {
			a, err := ParseAlgorithm(name)
			require.NoError(t, err)
			key.Algorithms = append(key.Algorithms, a)
		}
		keys = append(keys, key)
	}
	ring, err := NewRing(keys)
	require.NoError(t, err)
	return ring
}

func vectorFile(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(vectorFolder, filepath.FromSlash(name)))
	require.NoError(t, err)
	return text
}

func vectorSigner(t testing.TB, name string, a Algorithm) *Signer {
	t.Helper()
	s, err := NewSigner(a, vectorFile(t, "keys/"+name+".key"), vectorFile(t, "keys/"+name+".pem"))
	require.NoError(t, err)
	return s
}

func decodeRequest(t testing.TB, text string) plog.Logs {
	t.Helper()
	logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs([]byte(text))
	require.NoError(t, err)
	require.Equal(t, 1, logs.LogRecordCount())
	return logs
}

func recordOf(logs plog.Logs) (pcommon.Map, plog.LogRecord) {
	resource := logs.ResourceLogs().At(0)
	return resource.Resource().Attributes(), resource.ScopeLogs().At(0).LogRecords().At(0)
}

func formOf(record plog.LogRecord) (string, error) {
	form, err := new(canonical.Encoder).AppendRecord(nil, record)
	return string(form), err
}

// TestVectors verifies what the files hold; with -update they are written from
// the table first. A file too many fails.
func TestVectors(t *testing.T) {
	table := vectorTable(t)
	if *update {
		for _, v := range table {
			require.NoError(t, os.WriteFile(filepath.Join(vectorFolder, v.name+".txt"), []byte(v.text()), 0o644))
		}
	}
	files, err := filepath.Glob(filepath.Join(vectorFolder, "*.txt"))
	require.NoError(t, err)
	wanted := map[string]vector{}
	for _, v := range table {
		require.NotContains(t, wanted, v.name)
		wanted[v.name] = v
	}
	assert.Len(t, files, len(wanted), "a file for each entry of the table")
	ring := vectorRing(t)
	for _, path := range files {
		v := readVector(t, path)
		t.Run(v.name, func(t *testing.T) {
			if want := wanted[v.name]; !strings.Contains(want.otlp, `"ES256"`) { // which signs with chance
				assert.Equal(t, want.text(), v.text(), "write it with -update")
			}
			checkVector(t, ring, &v)
		})
	}
}

func checkVector(t *testing.T, ring *Ring, v *vector) {
	resource, record := recordOf(decodeRequest(t, v.otlp))
	now, err := time.Parse(time.RFC3339, v.now)
	require.NoError(t, err)
	subject := Subject{Service: v.service, Tenant: v.tenant, Now: now}
	claim := ClaimOfResource(resource)
	require.True(t, claim.Read(record.Attributes()))
	form, err := formOf(record)
	require.NoError(t, err)
	assert.Equal(t, v.record, form)
	verdict := ring.Verify([]byte(form), &claim, &subject)
	if verdict.Status == Passed && claim.HandsOver(record) {
		verdict = ring.VerifyIncoming([]byte(form), &claim, record, &subject, verdict)
	}
	if verdict.Status == Passed {
		assert.Equal(t, v.expect, "passed "+verdict.KeyID)
		return
	}
	assert.Equal(t, v.expect, "failed "+string(verdict.Reason))
}

func vectorTable(t *testing.T) []vector {
	var all []vector
	for _, group := range [][]vector{madeElsewhere(t), coveredForms(t), flips(t), referenceForms(t), refusals(t), transitions(t)} {
		all = append(all, group...)
	}
	return all
}

// signed returns a vector of a request whose record is signed as it is, and
// changed afterwards.
func signed(t testing.TB, name, about, expect, otlp string, s *Signer, change func(resource pcommon.Map, record plog.LogRecord)) vector {
	t.Helper()
	logs := decodeRequest(t, otlp)
	resource, record := recordOf(logs)
	form, err := formOf(record)
	require.NoError(t, err)
	value, err := s.Sign([]byte(form))
	require.NoError(t, err)
	record.Attributes().RemoveIf(func(key string, _ pcommon.Value) bool { return key == audit.AttributeIntegrityValue })
	record.Attributes().PutStr(audit.AttributeIntegrityValue, value)
	resource.PutStr(audit.ResourceIntegrityAlgorithm, s.Algorithm().String())
	resource.PutStr(audit.ResourceIntegrityCertificate, s.Fingerprint())
	if change != nil {
		change(resource, record)
	}
	return finished(t, name, about, expect, logs)
}

func finished(t testing.TB, name, about, expect string, logs plog.Logs) vector {
	t.Helper()
	_, record := recordOf(logs)
	form, err := formOf(record)
	require.NoError(t, err)
	text, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	require.NoError(t, err)
	return vector{
		name: name, about: about, expect: expect, service: "shop", tenant: "", now: vectorNow,
		otlp: string(text), record: form,
	}
}

func typesRequest(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(string(vectorFile(t, "make/types.json")))
}

// makers are the tools that make/ signs with, and what their keys are here.
var (
	makers  = []string{"openssl", "cryptography", "webcrypto"}
	signers = []struct {
		a    Algorithm
		key  string // file of the certificate; empty: a secret
		name string // in the ring
	}{
		{RS256, "rsa", "orders-rsa"},
		{RS512, "rsa", "orders-rsa"},
		{ES256, "p256", "orders-p256"},
		{EdDSA, "ed25519", "orders-ed25519"},
		{HMACSHA256, "", "orders-secret"},
		{HMACSHA512, "", "orders-secret"},
	}
)

// madeElsewhere are proofs that other tools made, two of them over a canonical
// form of their own.
func madeElsewhere(t testing.TB) (all []vector) {
	for _, maker := range makers {
		for _, by := range signers {
			logs := decodeRequest(t, typesRequest(t))
			resource, record := recordOf(logs)
			record.Attributes().PutStr(audit.AttributeIntegrityValue, string(vectorFile(t, "made/"+maker+"-"+by.a.String()+".value")))
			resource.PutStr(audit.ResourceIntegrityAlgorithm, by.a.String())
			if by.key != "" {
				resource.PutStr(audit.ResourceIntegrityCertificate, vectorSigner(t, by.key, by.a).Fingerprint())
			}
			all = append(all, finished(t, "made-"+maker+"-"+strings.ToLower(by.a.String()), by.a.String()+" made with "+maker, "passed "+by.name, logs))
		}
	}
	return all
}

// TestFormsOfOthers compares the canonical form that Node.js wrote with ours.
func TestFormsOfOthers(t *testing.T) {
	_, record := recordOf(decodeRequest(t, typesRequest(t)))
	form, err := formOf(record)
	require.NoError(t, err)
	assert.Equal(t, string(vectorFile(t, "made/types.record")), form)
}

// coveredForms are the records of the canonical vectors, each signed.
func coveredForms(t testing.TB) (all []vector) {
	files, err := filepath.Glob("../testdata/vectors/canonical/*.txt")
	require.NoError(t, err)
	signer := vectorSigner(t, "ed25519", EdDSA)
	for _, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		otlp, about := "", ""
		for line := range strings.Lines(string(text)) {
			if rest, found := strings.CutPrefix(line, "otlp: "); found {
				otlp = strings.TrimSpace(rest)
			}
			if rest, found := strings.CutPrefix(line, "about: "); found {
				about = strings.TrimSpace(rest)
			}
		}
		if strings.HasPrefix(string(text), "expect: ok\n") && otlp != "" && !strings.Contains(string(text), "otlp-protobuf") {
			name := strings.TrimSuffix(filepath.Base(path), ".txt")
			all = append(all, signed(t, "form-"+name, "the canonical vector "+name+": "+about, "passed orders-ed25519", otlp, signer, nil))
		}
	}
	require.Greater(t, len(all), 30)
	return all
}

// flips change one thing of a signed record: what is covered, and what is not.
func flips(t testing.TB) (all []vector) {
	signer := vectorSigner(t, "ed25519", EdDSA)
	put := func(key, value string) func(pcommon.Map, plog.LogRecord) {
		return func(_ pcommon.Map, r plog.LogRecord) { r.Attributes().PutStr(key, value) }
	}
	covered := map[string]func(pcommon.Map, plog.LogRecord){
		"attribute":          put("audit.actor.id", "alicf"),
		"attribute-added":    put("x", ""),
		"attribute-removed":  func(_ pcommon.Map, r plog.LogRecord) { r.Attributes().Remove("t.bool") },
		"attribute-type":     put("t.int.max", "9223372036854775807"),
		"body":               func(_ pcommon.Map, r plog.LogRecord) { r.Body().Map().PutBool("a", false) },
		"body-removed":       func(_ pcommon.Map, r plog.LogRecord) { pcommon.NewValueEmpty().CopyTo(r.Body()) },
		"event-name":         func(_ pcommon.Map, r plog.LogRecord) { r.SetEventName("order.refund.delete") },
		"timestamp":          func(_ pcommon.Map, r plog.LogRecord) { r.SetTimestamp(r.Timestamp() - 1) },
		"observed-timestamp": func(_ pcommon.Map, r plog.LogRecord) { r.SetObservedTimestamp(2) },
		"observed-unset":     func(_ pcommon.Map, r plog.LogRecord) { r.SetObservedTimestamp(0) },
		"trace-id":           func(_ pcommon.Map, r plog.LogRecord) { r.SetTraceID(pcommon.TraceID{1}) },
		"span-id":            func(_ pcommon.Map, r plog.LogRecord) { r.SetSpanID(pcommon.SpanID{1}) },
		"sequence-number":    func(_ pcommon.Map, r plog.LogRecord) { r.Attributes().PutInt("audit.sequence.number", 2) },
		"sequence-stream":    put("audit.sequence.stream_id", "8d7d8c38-3d5e-4c2e-8f0e-0c3a5a0f4d12"),
		"empty-to-text":      put("t.empty", ""),
		"slice-element":      func(_ pcommon.Map, r plog.LogRecord) { v, _ := r.Body().Map().Get("z"); v.Slice().At(0).SetInt(2) },
	}
	excluded := map[string]func(pcommon.Map, plog.LogRecord){
		"severity-number":  func(_ pcommon.Map, r plog.LogRecord) { r.SetSeverityNumber(17) },
		"severity-text":    func(_ pcommon.Map, r plog.LogRecord) { r.SetSeverityText("ERROR") },
		"flags":            func(_ pcommon.Map, r plog.LogRecord) { r.SetFlags(0) },
		"dropped":          func(_ pcommon.Map, r plog.LogRecord) { r.SetDroppedAttributesCount(1) },
		"integrity":        put("audit.integrity.note", "changed"),
		"integrity-hop":    put("audit.integrity.hop.0.chain.hash", "00"),
		"canonicalization": put(audit.AttributeIntegrityCanonicalization, "jcs"),
		"signer":           put(audit.AttributeIntegritySigner, "producer"),
		"resource":         func(r pcommon.Map, _ plog.LogRecord) { r.PutStr("host.name", "elsewhere") },
	}
	for name, change := range covered {
		all = append(all, signed(t, "flip-"+name, "covered, and changed after it was signed", "failed signature", typesRequest(t), signer, change))
	}
	for name, change := range excluded {
		all = append(all, signed(t, "free-"+name, "not covered, and changed after it was signed", "passed orders-ed25519", typesRequest(t), signer, change))
	}
	return all
}

// referenceForms name one key in every form there is.
func referenceForms(t testing.TB) (all []vector) {
	signer := vectorSigner(t, "rsa", RS256)
	full := signer.Certificate()
	pem := strings.TrimSpace(string(vectorFile(t, "keys/rsa.pem")))
	for name, reference := range map[string]string{
		"sha256":              signer.Fingerprint(),
		"sha1":                "sha1:" + rsaSHA1,
		"certificate":         full,
		"certificate-pem":     pem,
		"certificate-pem-b64": base64.StdEncoding.EncodeToString([]byte(pem)),
		"key-id":              "orders-rsa",
		"ski":                 rsaSKI,
		"issuer-serial":       "CN=orders rsa,O=Example Shop,C=DE/523124044",
		"issuer-serial-hex":   "CN=orders rsa,O=Example Shop,C=DE/1f2e3d4c",
		"issuer-serial-tool":  "C = DE, O = Example Shop, CN = orders rsa/1F2E3D4C",
		"none":                "",
	} {
		all = append(all, signed(t, "key-"+name, "the key is named as "+name, "passed orders-rsa", typesRequest(t), signer,
			func(resource pcommon.Map, _ plog.LogRecord) {
				if resource.PutStr(audit.ResourceIntegrityCertificate, reference); reference == "" {
					resource.Remove(audit.ResourceIntegrityCertificate)
				}
			}))
	}
	return all
}

// What openssl says of keys/rsa.pem.
const (
	rsaSHA1 = "cf247a8a4329ca8d6b47d5ef5c569eeda104c3cf"
	rsaSKI  = "1626b836a759ffee3abaf42c178ec51f4ae08ef0"
)

// refusals are proofs that must not pass.
func refusals(t testing.TB) (all []vector) {
	ed, rsa := vectorSigner(t, "ed25519", EdDSA), vectorSigner(t, "rsa", RS256)
	resource := func(key, value string) func(pcommon.Map, plog.LogRecord) {
		return func(r pcommon.Map, _ plog.LogRecord) { r.PutStr(key, value) }
	}
	value := func(edit func(string) string) func(pcommon.Map, plog.LogRecord) {
		return func(_ pcommon.Map, r plog.LogRecord) {
			v, _ := r.Attributes().Get(audit.AttributeIntegrityValue)
			v.SetStr(edit(v.Str()))
		}
	}
	const certificate, algorithm = audit.ResourceIntegrityCertificate, audit.ResourceIntegrityAlgorithm
	add := func(name, about, expect string, s *Signer, change func(pcommon.Map, plog.LogRecord)) {
		all = append(all, signed(t, "refused-"+name, about, expect, typesRequest(t), s, change))
	}
	add("unknown-key", "a key that the ring does not have", "failed unknown_key", ed, resource(certificate, "sha256:"+strings.Repeat("0", 64)))
	add("certificate-of-attacker", "a certificate that only the record names", "failed unknown_key", ed, resource(certificate, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x30", 700)))))
	add("other-key", "the fingerprint of another key", "failed algorithm_refused", ed, resource(certificate, rsa.Fingerprint()))
	add("upper-case-fingerprint", "hex digits have one spelling", "failed unknown_key", ed, func(r pcommon.Map, _ plog.LogRecord) {
		r.PutStr(certificate, "sha256:"+strings.ToUpper(strings.TrimPrefix(ed.Fingerprint(), "sha256:")))
	})
	add("algorithm-missing", "no algorithm", "failed algorithm", ed, func(r pcommon.Map, _ plog.LogRecord) { r.Remove(algorithm) })
	add("algorithm-none", "the algorithm that signs nothing", "failed algorithm", ed, resource(algorithm, "none"))
	add("algorithm-case", "names have one spelling", "failed algorithm", ed, resource(algorithm, "EDDSA"))
	add("algorithm-legacy", "a name of an earlier implementation", "failed algorithm", ed, resource(algorithm, "ECDSA-P256-SHA256"))
	add("algorithm-of-key", "an algorithm that the key has and the ring does not let it use", "failed algorithm_refused", rsa, resource(certificate, "only-rs512"))
	add("algorithm-changed", "RS256 made, RS512 claimed", "failed signature", rsa, resource(algorithm, "RS512"))
	add("service", "the key of another service", "failed key_not_allowed", ed, resource(certificate, "only-billing"))
	add("tenant", "the key of another tenant", "failed key_not_allowed", ed, resource(certificate, "only-acme"))
	add("canonicalization", "another canonical form", "failed canonicalization", ed, func(_ pcommon.Map, r plog.LogRecord) {
		r.Attributes().PutStr(audit.AttributeIntegrityCanonicalization, "xml-c14n")
	})
	add("value-empty", "an empty value", "failed malformed", ed, value(func(string) string { return "" }))
	add("value-unpadded", "base64 without padding", "failed malformed", ed, value(func(v string) string { return strings.TrimRight(v, "=") }))
	add("value-hex", "hex digits", "failed signature", ed, value(func(string) string { return strings.Repeat("00", 64) }))
	add("value-line", "a line feed inside", "failed malformed", ed, value(func(v string) string { return v[:4] + "\n" + v[4:] }))
	add("value-url", "the alphabet of URLs", "failed malformed", ed, value(func(v string) string { return "-_" + v[2:] }))
	add("value-trailing-bits", "bits that are in no byte", "failed malformed", ed, value(func(v string) string { return v[:85] + "B==" }))
	add("value-long", "longer than any key makes", "failed malformed", ed, value(func(string) string { return strings.Repeat("A", MaxValue+4) }))
	add("value-cut", "a signature cut short", "failed signature", ed, value(func(v string) string { return v[:80] }))
	add("value-number", "a value that is no string", "failed malformed", ed, func(_ pcommon.Map, r plog.LogRecord) {
		r.Attributes().PutInt(audit.AttributeIntegrityValue, 1)
	})
	for name, a := range map[string]Algorithm{"hmac-with-certificate": HMACSHA256, "hmac-with-public-key": HMACSHA512} {
		secret := secretKey(vectorFile(t, "keys/rsa.pem"))
		expect, reference := "failed certificate", "orders-rsa"
		if a == HMACSHA512 {
			expect, reference = "failed signature", ""
		}
		add(name, "a MAC under the public key", expect, rsa, func(r pcommon.Map, record plog.LogRecord) {
			form, err := formOf(record)
			require.NoError(t, err)
			record.Attributes().PutStr(audit.AttributeIntegrityValue, base64.StdEncoding.EncodeToString(secret.mac(a, []byte(form))))
			r.PutStr(algorithm, a.String())
			if r.PutStr(certificate, reference); reference == "" {
				r.Remove(certificate)
			}
		})
	}
	for name, now := range map[string]string{"early": "2027-12-31T23:59:59Z", "late": "2032-01-01T00:00:01Z"} {
		v := signed(t, "refused-key-"+name, "outside the time of the key", "failed key_not_valid", typesRequest(t), vectorSigner(t, "next", EdDSA), nil)
		v.now = now
		all = append(all, v)
	}
	v := signed(t, "refused-certificate-ended", "the certificate has ended", "failed key_not_valid", typesRequest(t), ed, resource(certificate, "orders-ed25519"))
	v.now = "2050-01-01T00:00:00Z"
	return append(all, v)
}

const transitionBody = `"eventName":"audit.integrity.key-transition","body":{"kvlistValue":{"values":[{"key":"incoming_key","value":{"kvlistValue":{"values":[{"key":"fingerprint","value":{"stringValue":"`

// transitions hand a stream over to another key.
func transitions(t testing.TB) (all []vector) {
	outgoing, incoming := vectorSigner(t, "ed25519", EdDSA), vectorSigner(t, "p256", ES256)
	otlp := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","observedTimeUnixNano":"1",` + transitionBody +
		incoming.Fingerprint() + `"}},{"key":"algorithm","value":{"stringValue":"ES256"}}]}}}]}},` +
		`"attributes":[{"key":"audit.record.id","value":{"stringValue":"t"}}]}]}]}]}`
	newValue := func(s *Signer) func(pcommon.Map, plog.LogRecord) {
		return func(_ pcommon.Map, record plog.LogRecord) {
			form, err := formOf(record)
			require.NoError(t, err)
			value, err := s.Sign([]byte(form))
			require.NoError(t, err)
			record.Attributes().PutStr(audit.AttributeIntegrityNewValue, value)
		}
	}
	return []vector{
		signed(t, "transition", "both keys signed the record; ES256 takes over", "passed orders-ed25519", otlp, outgoing, newValue(incoming)),
		signed(t, "transition-unsigned", "the new key did not sign (ES256)", "failed transition", otlp, outgoing, nil),
		signed(t, "transition-other", "another key signed than the one that is named (ES256)", "failed transition", otlp, outgoing, newValue(outgoing)),
		signed(t, "transition-unnamed", "the body names no key", "failed transition",
			strings.Replace(otlp, "incoming_key", "incoming", 1), outgoing, newValue(incoming)),
	}
}
