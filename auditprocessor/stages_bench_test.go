// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/proof"
)

const (
	benchRecords = 512
	// One event in secretEvery carries secrets, in names and in texts.
	secretEvery = 10
)

// benchLogs returns a request of realistic events of about one KiB.
func benchLogs(secrets bool) plog.Logs {
	logs := plog.NewLogs()
	ofResource := logs.ResourceLogs().AppendEmpty()
	resource := ofResource.Resource().Attributes()
	resource.PutStr(attributeServiceName, "orders")
	resource.PutStr("service.version", "4.11.2")
	resource.PutStr("service.instance.id", "orders-7c9d8b6f5-x2x7k")
	resource.PutStr("deployment.environment.name", "production")
	resource.PutStr("cloud.region", "eu-central-1")
	records := ofResource.ScopeLogs().AppendEmpty().LogRecords()
	records.EnsureCapacity(benchRecords)
	for i := range benchRecords {
		benchRecord(records.AppendEmpty(), i, secrets && i%secretEvery == 0)
	}
	return logs
}

func benchRecord(record plog.LogRecord, i int, secrets bool) {
	record.SetEventName("order.refund.create")
	record.SetTimestamp(pcommon.NewTimestampFromTime(testNow))
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(testNow))
	record.SetTraceID([16]byte{1, byte(i), byte(i >> 8), 15: 9})
	a := record.Attributes()
	a.EnsureCapacity(24)
	a.PutStr(audit.AttributeRecordID, fmt.Sprintf("01935a3c-7c5b-7aaa-8bbb-%012x", i))
	a.PutStr(audit.AttributeActorID, fmt.Sprintf("user-%06d", i))
	a.PutStr(audit.AttributeActorType, "user")
	a.PutStr(audit.AttributeActorName, "Alice Example")
	roles := a.PutEmptySlice(audit.AttributeActorRoles)
	roles.AppendEmpty().SetStr("support")
	roles.AppendEmpty().SetStr("refunds")
	a.PutStr(audit.AttributeAction, "CREATE")
	a.PutStr(audit.AttributeOutcome, "success")
	a.PutStr(audit.AttributeTargetID, fmt.Sprintf("order-%08d", i))
	a.PutStr(audit.AttributeTargetType, "order")
	a.PutStr(audit.AttributeTenantID, "acme")
	a.PutStr(audit.AttributeRequestID, fmt.Sprintf("5f1f2f8e-1b1c-4d1e-9f2a-%012x", i))
	a.PutStr(audit.AttributeSchemaVersion, "1.0.0")
	a.PutStr("client.address", "203.0.113.42")
	a.PutStr("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	a.PutStr("http.request.method", "POST")
	a.PutStr("http.route", "/api/v1/orders/{id}/refunds")
	metadata := a.PutEmptyMap(audit.AttributeMetadata)
	metadata.PutInt("amount", 4999)
	metadata.PutStr("currency", "EUR")
	metadata.PutStr("reason", "Damaged on arrival, customer sent a photo")
	metadata.PutBool("partial", false)
	diff := a.PutEmptyMap(audit.AttributeDiff)
	diff.PutEmptyMap("before").PutStr("status", "paid")
	diff.PutEmptyMap("after").PutStr("status", "refunded")
	if secrets {
		metadata.PutStr("api_key", "k-0123456789")
		metadata.PutStr("callback", "https://hooks.example/cb?token=0123456789abcdef&x=1")
		metadata.PutStr("payload", `{"card":"4111 1111 1111 1111","note":"ok"}`)
	}
}

// runStage measures f over fresh copies of the corpus, per event.
func runStage(b *testing.B, secrets bool, f func(plog.Logs)) {
	original := benchLogs(secrets)
	copies := make([]plog.Logs, 8)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		b.StopTimer()
		for i := range copies {
			copies[i] = plog.NewLogs()
			original.CopyTo(copies[i])
		}
		b.StartTimer()
		for i := 0; i < len(copies) && done < b.N; i++ {
			f(copies[i])
			done += benchRecords
		}
	}
}

// BenchmarkStages is everything between arrival and seal; ns/op, B/op and
// allocs/op are those of one event.
func BenchmarkStages(b *testing.B) {
	for name, secrets := range map[string]bool{"clean": false, "secrets=10%": true} {
		b.Run(name, func(b *testing.B) {
			s := testStages(b)
			size := meanSize(b, s, secrets)
			runStage(b, secrets, func(logs plog.Logs) { s.apply(logs, "acme", false) })
			b.ReportMetric(size, "canonical-B")
		})
	}
}

func meanSize(b *testing.B, s *stages, secrets bool) float64 {
	b.Helper()
	logs := benchLogs(secrets)
	verdicts, _ := s.apply(logs, "acme", false)
	for i := range verdicts {
		require.Empty(b, verdicts[i].reasons)
	}
	return float64(len(canonicalOf(b, logs))) / float64(len(verdicts))
}

func BenchmarkRedact(b *testing.B) {
	for name, secrets := range map[string]bool{"clean": false, "secrets=10%": true} {
		b.Run(name, func(b *testing.B) {
			w := newWalker(testStages(b).redactor)
			var m marks
			runStage(b, secrets, func(logs plog.Logs) {
				for _, record := range logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
					m.reset()
					w.record(record, &m)
				}
			})
		})
	}
}

func BenchmarkValidate(b *testing.B) {
	s := testStages(b)
	var f fields
	var m marks
	runStage(b, false, func(logs plog.Logs) {
		for _, record := range logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
			m.reset()
			f.scan(record.Attributes())
			s.validator.check(record, &f, "acme", testNow, &m)
		}
	})
}

// BenchmarkLongText is a text in which every detector starts and none hits.
func BenchmarkLongText(b *testing.B) {
	text := strings.Repeat(`level=info msg="a: b" url=https://x.example/y?z=1 A1-b2 <c> `, 64)
	w := newWalker(testStages(b).redactor)
	w.begin(&marks{}, "", nil)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		w.text(text)
	}
}

// BenchmarkProofs is what the verification of proofs costs a record: where none
// is configured, where none is there to be verified, and where each record is
// signed. Compare the first two within one run.
func BenchmarkProofs(b *testing.B) {
	shop := newTestProducer(b, 'a')
	run := func(name string, s *stages, sign bool) {
		b.Run(name, func(b *testing.B) {
			original := benchLogs(false)
			if sign {
				signEach(b, shop, original)
			}
			b.ReportAllocs()
			b.StopTimer()
			for done := 0; done < b.N; done += benchRecords {
				logs := plog.NewLogs()
				original.CopyTo(logs)
				b.StartTimer()
				verdicts, _ := s.apply(logs, "acme", false)
				b.StopTimer()
				require.Equal(b, sign && s.proofs != nil, verdicts[0].verified == proof.Passed)
			}
		})
	}
	config := shop.config()
	config.RequireSignature = []ProofOwnerConfig{{Service: "billing"}}
	run("off", testStages(b), false)
	run("unsigned", withProofs(b, testStages(b), config), false)
	run("signed, off", testStages(b), true)
	run("signed", withProofs(b, testStages(b), config), true)
}

func signEach(b *testing.B, by *testProducer, logs plog.Logs) {
	b.Helper()
	resource := logs.ResourceLogs().At(0)
	resource.Resource().Attributes().PutStr(audit.ResourceIntegrityAlgorithm, "EdDSA")
	resource.Resource().Attributes().PutStr(audit.ResourceIntegrityCertificate, by.signer.Fingerprint())
	var encoder canonical.Encoder
	for _, record := range resource.ScopeLogs().At(0).LogRecords().All() {
		form, err := encoder.AppendRecord(nil, record)
		require.NoError(b, err)
		value, err := by.signer.Sign(form)
		require.NoError(b, err)
		record.Attributes().PutStr(audit.AttributeIntegrityValue, value)
	}
}

// TestUnsignedAllocates compares what a record without a proof allocates where
// proofs are verified with where they are not.
func TestUnsignedAllocates(t *testing.T) {
	shop := newTestProducer(t, 'a')
	original := benchLogs(false)
	// What fills an emptied pool counts too, and the race detector empties pools at
	// random: the least of many single runs is what the stages themselves allocate.
	least := func(s *stages) float64 {
		fewest := math.Inf(1)
		for range 12 {
			fewest = min(fewest, testing.AllocsPerRun(1, func() {
				logs := plog.NewLogs()
				original.CopyTo(logs)
				s.apply(logs, "acme", false)
			}))
		}
		return fewest
	}
	without := least(testStages(t))
	with := least(withProofs(t, testStages(t), shop.config()))
	require.LessOrEqual(t, with, without+benchRecords/100.0)
}

// BenchmarkPlaces is what it costs a record to claim no place in a producer's
// chain; ns/op are those of one record.
func BenchmarkPlaces(b *testing.B) {
	logs := benchLogs(false)
	s := &sequences{}
	b.ReportAllocs()
	for done := 0; done < b.N; done += benchRecords {
		require.Nil(b, s.streamsOf(logs, "acme"))
	}
}

// BenchmarkSign is what the collector's own signature adds to a record.
func BenchmarkSign(b *testing.B) {
	for _, by := range []struct{ algorithm, key string }{{"EdDSA", "ed25519"}, {"ES256", "p256"}, {"RS256", "rsa"}} {
		b.Run(by.algorithm, func(b *testing.B) {
			s := withSigning(b, testStages(b), signConfig(by.algorithm, by.key, referFingerprint))
			runStage(b, false, func(logs plog.Logs) { s.apply(logs, "acme", false) })
		})
	}
}
