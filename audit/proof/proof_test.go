// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
)

func publicPEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestParsePublicRefuses(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	curve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	cert := vectorFile(t, "keys/ed25519.pem")
	for name, test := range map[string]struct {
		text []byte
		want string
	}{
		"nothing":        {nil, "neither PEM"},
		"text":           {[]byte("key"), "neither PEM"},
		"private key":    {vectorFile(t, "keys/rsa.key"), "private key"},
		"a secret":       {vectorFile(t, "keys/hmac.secret"), "neither PEM"},
		"two blocks":     {append(append([]byte{}, cert...), cert...), "more than one"},
		"text in front":  {append([]byte("x\n"), cert...), "neither PEM"},
		"small RSA":      {publicPEM(t, &small.PublicKey), "1024"},
		"another curve":  {publicPEM(t, &curve.PublicKey), "P-384"},
		"too long":       {make([]byte, MaxKeyText+1), "longer"},
		"no certificate": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}), "certificate"},
		"other block":    {pem.EncodeToMemory(&pem.Block{Type: "X509 CRL"}), "X509 CRL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParsePublic(test.text)
			require.ErrorContains(t, err, test.want)
		})
	}
	_, err = ParsePublic([]byte(base64.StdEncoding.EncodeToString(cert)))
	require.NoError(t, err, "the base64 of PEM")
}

// TestParseSecretRefuses is where public keys would become secrets.
func TestParseSecretRefuses(t *testing.T) {
	cert := vectorFile(t, "keys/rsa.pem")
	block, _ := pem.Decode(cert)
	spki, _ := pem.Decode(vectorFile(t, "keys/next.pem"))
	encode := base64.StdEncoding.EncodeToString
	for name, test := range map[string]struct{ text, want string }{
		"PEM":           {string(cert), "no secret"},
		"base64 of PEM": {encode(cert), "no secret"},
		"certificate":   {encode(block.Bytes), "is a certificate"},
		"public key":    {encode(spki.Bytes), "is a public key"},
		"short":         {encode(make([]byte, 31)), "found 31"},
		"long":          {encode(make([]byte, 4097)), "found 4097"},
		"raw":           {"not base64!", "base64"},
		"too long":      {strings.Repeat("A", MaxKeyText+4), "longer"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSecret([]byte(test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestKindsOfKeysAreApart asks every kind of key for every algorithm.
func TestKindsOfKeysAreApart(t *testing.T) {
	secret, err := ParseSecret(vectorFile(t, "keys/hmac.secret"))
	require.NoError(t, err)
	kinds := map[string]Material{"secret": secret}
	for _, name := range []string{"rsa", "p256", "ed25519"} {
		kinds[name], err = ParsePublic(vectorFile(t, "keys/"+name+".pem"))
		require.NoError(t, err)
	}
	want := map[string][]Algorithm{"secret": {HMACSHA256, HMACSHA512}, "rsa": {RS256, RS512}, "p256": {ES256}, "ed25519": {EdDSA}}
	for name, material := range kinds {
		assert.Equal(t, want[name], material.Can())
		for a := RS256; a <= HMACSHA512; a++ {
			_, err := NewRing([]Key{{ID: "k", Material: material, Algorithms: []Algorithm{a}}})
			if material.checker.can(a) {
				require.NoError(t, err)
				continue
			}
			require.ErrorContains(t, err, "cannot be used with "+a.String())
			for _, mac := range [][]byte{secretKey(material.spki).mac(HMACSHA256, nil), secretKey(material.spki).mac(HMACSHA512, nil), make([]byte, 64)} {
				assert.False(t, material.checker.check(a, nil, mac))
			}
		}
	}
}

func TestRingRefuses(t *testing.T) {
	material, err := ParsePublic(vectorFile(t, "keys/ed25519.pem"))
	require.NoError(t, err)
	good := Key{ID: "k", Material: material, Algorithms: []Algorithm{EdDSA}}
	for want, edit := range map[string]func(*Key){
		"id must be":         func(k *Key) { k.ID = "a b" },
		"no material":        func(k *Key) { k.Material = Material{} },
		"no algorithms":      func(k *Key) { k.Algorithms = nil },
		"ends before":        func(k *Key) { k.NotBefore, k.NotAfter = time.Unix(2, 0), time.Unix(1, 0) },
		"cannot be used":     func(k *Key) { k.Algorithms = []Algorithm{RS256} },
		"cannot be used wit": func(k *Key) { k.Algorithms = []Algorithm{0} },
	} {
		key := good
		edit(&key)
		_, err := NewRing([]Key{key})
		require.ErrorContains(t, err, want)
	}
	_, err = NewRing([]Key{good, good})
	require.ErrorContains(t, err, "two keys")
	_, err = NewRing(make([]Key, MaxKeys+1))
	require.ErrorContains(t, err, "more than")
}

func TestRingOfNobody(t *testing.T) {
	var none *Ring
	c := Claim{Algorithm: "EdDSA", Value: "AAAA"}
	assert.Equal(t, Fail(UnknownKey), none.Verify(nil, &c, &Subject{}))
	c.Certificate = "k"
	assert.Equal(t, Fail(UnknownKey), none.Verify(nil, &c, &Subject{}))
}

// TestTriesAreBounded has more keys than one proof may cost.
func TestTriesAreBounded(t *testing.T) {
	var keys []Key
	for i := range maxTries + 1 {
		public, _, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		material, err := ParsePublic(publicPEM(t, public))
		require.NoError(t, err)
		keys = append(keys, Key{ID: fmt.Sprint(i), Material: material, Algorithms: []Algorithm{EdDSA}})
	}
	ring, err := NewRing(keys)
	require.NoError(t, err)
	c := Claim{Algorithm: "EdDSA", Value: base64.StdEncoding.EncodeToString(make([]byte, 64))}
	assert.Equal(t, Fail(Ambiguous), ring.Verify(nil, &c, &Subject{}))
	c.Certificate = "3"
	assert.Equal(t, Fail(BadSignature), ring.Verify(nil, &c, &Subject{}), "one is named")
}

// TestUnnamedKeysMayOnlySpeakForTheirOwn: a record that names no key gets no key
// that it would not get by name, and such keys do not count among those tried.
func TestUnnamedKeysMayOnlySpeakForTheirOwn(t *testing.T) {
	signer := vectorSigner(t, "ed25519", EdDSA)
	own, err := ParsePublic(vectorFile(t, "keys/ed25519.pem"))
	require.NoError(t, err)
	now, err := time.Parse(time.RFC3339, vectorNow)
	require.NoError(t, err)
	value, err := signer.Sign([]byte("m"))
	require.NoError(t, err)
	for name, test := range map[string]struct {
		limit func(*Key)
		want  Verdict
	}{
		"its own":         {func(k *Key) { k.Services, k.Tenants = []string{"shop"}, []string{"acme"} }, Verdict{Status: Passed, KeyID: "own", Material: own.print}},
		"another service": {func(k *Key) { k.Services = []string{"billing"} }, Fail(NotAllowed)},
		"another tenant":  {func(k *Key) { k.Tenants = []string{"globex"} }, Fail(NotAllowed)},
		"not begun":       {func(k *Key) { k.NotBefore = now.Add(time.Second) }, Fail(NotValid)},
		"ended":           {func(k *Key) { k.NotAfter = now.Add(-time.Second) }, Fail(NotValid)},
	} {
		t.Run(name, func(t *testing.T) {
			var keys []Key
			for i := range 2 * maxTries {
				public, _, err := ed25519.GenerateKey(rand.Reader)
				require.NoError(t, err)
				material, err := ParsePublic(publicPEM(t, public))
				require.NoError(t, err)
				keys = append(keys, Key{ID: fmt.Sprint(i), Material: material, Algorithms: []Algorithm{EdDSA}, Services: []string{"billing"}})
			}
			key := Key{ID: "own", Material: own, Algorithms: []Algorithm{EdDSA}}
			test.limit(&key)
			ring, err := NewRing(append(keys, key))
			require.NoError(t, err)
			c := Claim{Algorithm: "EdDSA", Value: value}
			assert.Equal(t, test.want, ring.Verify([]byte("m"), &c, &Subject{Service: "shop", Tenant: "acme", Now: now}))
		})
	}
}

func TestSignerRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		a               Algorithm
		private, public string
		want            string
	}{
		"a stranger's certificate": {EdDSA, "ed25519.key", "next.pem", "not the certificate's"},
		"another kind":             {ES256, "ed25519.key", "p256.pem", "not the certificate's"},
		"another algorithm":        {RS256, "p256.key", "p256.pem", "cannot be used with RS256"},
		"public as private":        {EdDSA, "ed25519.pem", "ed25519.pem", "PRIVATE KEY"},
		"private as public":        {EdDSA, "ed25519.key", "ed25519.key", "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewSigner(test.a, vectorFile(t, "keys/"+test.private), vectorFile(t, "keys/"+test.public))
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestSignerOfAClaim: no signer is the producer; who signed makes no difference
// to the verdict.
func TestSignerOfAClaim(t *testing.T) {
	ring, signer := vectorRing(t), vectorSigner(t, "ed25519", EdDSA)
	now, err := time.Parse(time.RFC3339, vectorNow)
	require.NoError(t, err)
	for set, want := range map[string]string{"": SignerProducer, SignerProducer: SignerProducer, SignerCollector: SignerCollector} {
		v := signed(t, "", "", "", typesRequest(t), signer, func(_ pcommon.Map, record plog.LogRecord) {
			if set != "" {
				record.Attributes().PutStr(audit.AttributeIntegritySigner, set)
			}
		})
		resource, record := recordOf(decodeRequest(t, v.otlp))
		claim := ClaimOfResource(resource)
		require.True(t, claim.Read(record.Attributes()))
		assert.Equal(t, want, claim.Signer)
		assert.Equal(t, Passed, ring.Verify([]byte(v.record), &claim, &Subject{Service: "shop", Now: now}).Status)
	}
}

// FuzzVerify gives everything that a record may claim to a ring that never
// signed: nothing may pass, and nothing may panic.
func FuzzVerify(f *testing.F) {
	ring := vectorRing(f)
	for _, by := range signers {
		f.Add("message", by.a.String(), "", "AAAA", "", false)
		f.Add("", by.a.String(), by.name, base64.StdEncoding.EncodeToString(make([]byte, 64)), "jcs", true)
	}
	f.Add("m", "ES256", "orders-p256", "MAYCAQECAQE=", "", false)
	f.Add("m", "EdDSA", "CN=a,O=b/12", "AAAA", "", false)
	f.Add("m", "EdDSA", string(vectorFile(f, "keys/ed25519.pem")), "AAAA", "", false)
	now, err := time.Parse(time.RFC3339, vectorNow)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, message, algorithm, certificate, value, canonicalization string, billing bool) {
		c := Claim{Algorithm: algorithm, Certificate: certificate, Value: value, Canonicalization: canonicalization}
		s := Subject{Service: "shop", Now: now}
		if billing {
			s.Service = "billing"
		}
		verdict := ring.Verify([]byte(message), &c, &s)
		assert.Equal(t, Failed, verdict.Status)
		assert.NotEmpty(t, verdict.Reason)
	})
}

// FuzzParseKey reads anything as a key: what is one as a public key is none as
// a secret.
func FuzzParseKey(f *testing.F) {
	for _, name := range []string{"rsa.pem", "p256.pem", "ed25519.pem", "next.pem", "rsa.key", "hmac.secret"} {
		text := vectorFile(f, "keys/"+name)
		f.Add(text)
		f.Add([]byte(base64.StdEncoding.EncodeToString(text)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		public, err := ParsePublic(text)
		if err == nil {
			assert.NotEmpty(t, public.Can())
			assert.NotEmpty(t, references(&Key{ID: "k", Material: public}))
		}
		if _, err := ParseSecret(text); err == nil {
			assert.Nil(t, public.checker)
		}
	})
}

// TestIncomingIsWhatWasSigned: a key transition that names two keys names the
// last, because that is the one in the form that both keys signed.
func TestIncomingIsWhatWasSigned(t *testing.T) {
	named := func(keys ...string) string {
		var members []string
		for _, key := range keys {
			members = append(members, `{"key":"incoming_key","value":{"kvlistValue":{"values":[{"key":"key_id","value":{"stringValue":"`+key+`"}}]}}}`)
		}
		return `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"kvlistValue":{"values":[` + strings.Join(members, ",") + `]}}}]}]}]}`
	}
	for _, keys := range [][]string{{"a", "b"}, {"b", "a"}, {"a"}} {
		_, record := recordOf(decodeRequest(t, named(keys...)))
		incoming, ok := Incoming(Claim{}, record)
		require.True(t, ok)
		last := keys[len(keys)-1]
		assert.Equal(t, last, incoming.Certificate)
		form, err := formOf(record)
		require.NoError(t, err)
		_, alone := recordOf(decodeRequest(t, named(last)))
		want, err := formOf(alone)
		require.NoError(t, err)
		assert.Equal(t, want, form, "what is signed")
	}
}

// TestReferenceIsReadOnce: what a resource says of its key is read once, not for
// each of the records that share it. Counted by its allocations.
func TestReferenceIsReadOnce(t *testing.T) {
	ring := vectorRing(t)
	for _, reference := range []string{
		strings.Repeat("cn=a,", MaxReference/5-1) + "/1",
		"-----BEGIN X-----\n" + strings.Repeat("a: b\n", 1000) + "\nAAAA\n-----END X-----\nand more",
	} {
		resource := pcommon.NewMap()
		resource.PutStr(audit.ResourceIntegrityAlgorithm, "EdDSA")
		resource.PutStr(audit.ResourceIntegrityCertificate, reference)
		claim := ClaimOfResource(resource)
		claim.Value = "AAAA"
		allocations := testing.AllocsPerRun(10, func() {
			verdict := ring.Verify(nil, &claim, &Subject{})
			assert.Equal(t, UnknownKey, verdict.Reason)
		})
		assert.Less(t, allocations, 5.0)
	}
}

// TestHandsOver: what makes a record a key transition is the name that it will
// be stored under, and that it is the producer who speaks.
func TestHandsOver(t *testing.T) {
	for _, test := range []struct {
		name, action, signer string
		want                 bool
	}{
		{audit.EventKeyTransition, "", "", true},
		{audit.EventKeyTransition, "LOGIN", "producer", true},
		{"", audit.EventKeyTransition, "", true},
		{"user.login", audit.EventKeyTransition, "", false},
		{"", "LOGIN", "", false},
		{"", "", "", false},
		{audit.EventKeyTransition, "", SignerCollector, false},
	} {
		record := plog.NewLogRecord()
		record.SetEventName(test.name)
		if test.action != "" {
			record.Attributes().PutStr(audit.AttributeAction, test.action)
		}
		claim := Claim{Signer: test.signer}
		assert.Equal(t, test.want, claim.HandsOver(record), test)
	}
}

// FuzzIncoming reads the body of a key transition.
func FuzzIncoming(f *testing.F) {
	for _, v := range transitions(f) {
		logs := decodeRequest(f, v.otlp)
		text, err := (&plog.ProtoMarshaler{}).MarshalLogs(logs)
		require.NoError(f, err)
		f.Add(text)
	}
	ring := vectorRing(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		logs, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(text)
		if err != nil {
			return
		}
		for _, resource := range logs.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					claim := ClaimOfResource(resource.Resource().Attributes())
					claim.Read(record.Attributes())
					incoming, named := Incoming(claim, record)
					assert.True(t, !named || incoming.Certificate != "")
					ring.VerifyIncoming(nil, &claim, record, &Subject{}, Verdict{})
				}
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	ring := vectorRing(b)
	now, err := time.Parse(time.RFC3339, vectorNow)
	require.NoError(b, err)
	message := make([]byte, 1024)
	for _, by := range signers {
		c := Claim{Algorithm: by.a.String(), Certificate: by.name}
		if by.key == "" {
			secret, err := ParseSecret(vectorFile(b, "keys/hmac.secret"))
			require.NoError(b, err)
			c.Certificate = ""
			c.Value = base64.StdEncoding.EncodeToString(secret.checker.(secretKey).mac(by.a, message))
		} else if c.Value, err = vectorSigner(b, by.key, by.a).Sign(message); err != nil {
			b.Fatal(err)
		}
		b.Run(by.a.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v := ring.Verify(message, &c, &Subject{Now: now}); v.Status != Passed {
					b.Fatal(v)
				}
			}
		})
	}
	b.Run("sha256 of the message", func(b *testing.B) {
		for b.Loop() {
			sha256.Sum256(message)
		}
	})
}
