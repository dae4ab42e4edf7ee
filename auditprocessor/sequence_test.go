// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
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
	"github.com/otelaudit/otelaudit/audit/sequence"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadatatest"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// chained is a request with the records of one stream that have these numbers.
// Each names the hash of the one with the number before.
func chained(t testing.TB, stream string, numbers ...int64) plog.Logs {
	t.Helper()
	logs := plog.NewLogs()
	for _, number := range numbers {
		one := chainedRecord(t, stream, number)
		one.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	}
	return logs
}

func chainedRecord(t testing.TB, stream string, number int64) plog.Logs {
	t.Helper()
	logs := event(fmt.Sprintf("%s-%d", stream, number))
	record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	record.SetTimestamp(1) // so that it is the same each time
	record.SetObservedTimestamp(1)
	record.Attributes().PutStr(audit.AttributeSequenceStreamID, stream)
	record.Attributes().PutInt(audit.AttributeSequenceNumber, number)
	if number > 1 {
		record.Attributes().PutStr(audit.AttributeSequencePreviousHash, hashOf(t, chainedRecord(t, stream, number-1)))
	}
	return logs
}

func hashOf(t testing.TB, logs plog.Logs) string {
	t.Helper()
	record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	form, err := new(canonical.Encoder).AppendRecord(nil, record)
	require.NoError(t, err)
	sum := sha256.Sum256(form)
	return hex.EncodeToString(sum[:])
}

// send seals a request and returns the results and the findings among them.
func sendChained(t testing.TB, p *auditProcessor, logs plog.Logs) (findings []string, err error) {
	t.Helper()
	filled := &receipt.Receipt{}
	err = p.ConsumeLogs(receipt.NewContext(context.Background(), filled), logs)
	for i := range filled.Results {
		findings = append(findings, findingOf(&filled.Results[i]))
	}
	return findings, err
}

func findingOf(result *receipt.Result) (finding string) {
	for _, reason := range result.Reasons {
		if rest, found := strings.CutPrefix(reason, "audit.sequence: "); found {
			finding, _, _ = strings.Cut(rest, ":")
		}
	}
	return finding
}

// TestProducerChain follows a stream over restarts: what is missing, swapped,
// forked or behind the end is found once, and a retry is none of it.
func TestProducerChain(t *testing.T) {
	directory := t.TempDir()
	sink := newSinkFake()
	telemetry := componenttest.NewTelemetry()
	start := func() *auditProcessor {
		p, err := newProcessor(processor.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: telemetry.NewTelemetrySettings()}, testConfig(t, directory), sink)
		require.NoError(t, err)
		require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
		return p
	}
	p := start()
	restart := func() { require.NoError(t, p.Shutdown(t.Context())); p = start() }
	expect := func(logs plog.Logs, want ...string) {
		t.Helper()
		findings, err := sendChained(t, p, logs)
		require.NoError(t, err)
		assert.Equal(t, want, findings)
	}
	expect(chained(t, "a", 1, 2), "", "")
	restart()
	expect(chained(t, "a", 3), "")
	expect(chained(t, "a", 1, 2, 3), "", "", "") // again, and known
	expect(chained(t, "a", 3, 4), "", "")
	restart()
	expect(chained(t, "a", 6), "gap")
	expect(chained(t, "a", 5), "out_of_order")
	expect(chained(t, "a", 7), "")

	fork := chained(t, "a", 7)
	fork.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutStr(audit.AttributeRecordID, "other")
	expect(fork, "fork")
	broken := chained(t, "a", 8)
	broken.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutStr(audit.AttributeSequencePreviousHash, strings.Repeat("0", 64))
	expect(broken, "broken")
	end := chained(t, "b", 1)
	end.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutBool(audit.AttributeSequenceEnd, true)
	expect(end, "")
	restart()
	expect(chained(t, "b", 2), "after_end")
	expect(chained(t, "c", 4), "") // joined: marked, and no fault
	require.NoError(t, p.Shutdown(t.Context()))
	sink.check(t, publicKey(t, directory))

	point := func(finding string) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Value: 1, Attributes: attribute.NewSet(attribute.String("finding", finding))}
	}
	metadatatest.AssertEqualProcessorAuditSequenceFindings(t, telemetry, []metricdata.DataPoint[int64]{
		point("gap"), point("out_of_order"), point("fork"), point("broken"), point("after_end"), point("joined"),
	}, metricdatatest.IgnoreTimestamp())
	require.NoError(t, telemetry.Shutdown(context.Background()))
}

// TestProducerChainRejects: a request with a record out of its place is refused,
// whole, and moves nothing; one that came before is answered as it was.
func TestProducerChainRejects(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Sequence.OnViolation = onViolationReject
	p := startProcessor(t, config, newSinkFake())
	expect := func(logs plog.Logs, code codes.Code, want ...string) {
		t.Helper()
		findings, err := sendChained(t, p, logs)
		assert.Equal(t, code, status.Code(err), err)
		assert.Equal(t, want, findings)
	}
	expect(chained(t, "a", 1, 2), codes.OK, "", "")
	expect(chained(t, "a", 3, 5), codes.InvalidArgument, "", "gap")
	expect(chained(t, "a", 5), codes.InvalidArgument, "gap")
	expect(chained(t, "a", 3, 4, 5), codes.OK, "", "", "")
	expect(chained(t, "a", 3, 4, 5), codes.OK, "", "", "")
	expect(chained(t, "a", 1), codes.OK, "")
	expect(chained(t, "a", 1, 2, 6), codes.OK, "", "", "")
	expect(chained(t, "a", 4, 7, 9), codes.InvalidArgument, "", "", "gap")
	expect(chained(t, "a", 7), codes.OK, "")
	require.NoError(t, p.Shutdown(t.Context()))
}

// TestRefusedMovesNothing: what was never sealed is no record of a stream.
func TestRefusedMovesNothing(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Validation.OnInvalid = onInvalidReject
	p := startProcessor(t, config, newSinkFake())
	invalid := chained(t, "a", 1, 2)
	invalid.ResourceLogs().At(1).ScopeLogs().At(0).LogRecords().At(0).Attributes().Remove(audit.AttributeActorID)
	_, err := sendChained(t, p, invalid)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	findings, err := sendChained(t, p, chained(t, "a", 1, 2))
	require.NoError(t, err)
	assert.Equal(t, []string{"", ""}, findings)
	require.NoError(t, p.Shutdown(t.Context()))
}

// TestChainByReceipts: a producer that takes the hash from its receipt is in
// order although the record was redacted, and so is one that has computed it
// over what it sent; over a restart as well. Any other hash is none of the two.
func TestChainByReceipts(t *testing.T) {
	config := testConfig(t, t.TempDir())
	p := startProcessor(t, config, newSinkFake())
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		hashes := map[string]string{}
		for _, stream := range []string{"receipt", "sent", "neither"} {
			first := chained(t, name+stream, 1)
			onlyRecordOf(first).Attributes().PutStr("password", "Tr0ub4dor")
			sent := hashOf(t, first)
			filled := &receipt.Receipt{IntegrityHash: true}
			require.NoError(t, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), first))
			stored := filled.Results[0].IntegrityHash.String()
			require.NotEqual(t, sent, stored)
			hashes[stream] = map[string]string{"receipt": stored, "sent": sent, "neither": strings.Repeat("0a", 32)}[stream]
		}
		if restart {
			require.NoError(t, p.Shutdown(t.Context()))
			p = startProcessor(t, config, newSinkFake())
		}
		for stream, finding := range map[string]string{"receipt": "", "sent": "", "neither": "broken"} {
			second := chained(t, name+stream, 2)
			onlyRecordOf(second).Attributes().PutStr(audit.AttributeSequencePreviousHash, hashes[stream])
			findings, err := sendChained(t, p, second)
			require.NoError(t, err)
			assert.Equal(t, []string{finding}, findings, "%s, %s", stream, name)
		}
	}
	require.NoError(t, p.Shutdown(t.Context()))
}

// TestChainByRecordIDs: a producer may name its predecessor by id; another id than
// that of the newest record is a broken chain, over a restart as well.
func TestChainByRecordIDs(t *testing.T) {
	config := testConfig(t, t.TempDir())
	p := startProcessor(t, config, newSinkFake())
	naming := func(stream string, number int64, previous string) plog.Logs {
		logs := chained(t, stream, number)
		attributes := onlyRecordOf(logs).Attributes()
		attributes.Remove(audit.AttributeSequencePreviousHash)
		attributes.PutStr(audit.AttributeSequencePreviousRecordID, previous)
		return logs
	}
	expect := func(logs plog.Logs, want string) {
		t.Helper()
		findings, err := sendChained(t, p, logs)
		require.NoError(t, err)
		assert.Equal(t, []string{want}, findings)
	}
	for _, stream := range []string{"a", "b"} {
		expect(chained(t, stream, 1), "")
		expect(naming(stream, 2, stream+"-1"), "")
	}
	require.NoError(t, p.Shutdown(t.Context()))
	p = startProcessor(t, config, newSinkFake())
	expect(naming("a", 3, "a-2"), "")
	expect(naming("b", 3, "b-1"), "broken")
	require.NoError(t, p.Shutdown(t.Context()))
}

// TestBrokenChainsAreLoggedNowAndThen: each counts, and one line is written for
// many of them.
func TestBrokenChainsAreLoggedNowAndThen(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	settings := telemetry.NewTelemetrySettings()
	core, lines := observer.New(zap.WarnLevel)
	settings.Logger = zap.New(core)
	p, err := newProcessor(processor.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: settings}, testConfig(t, t.TempDir()), newSinkFake())
	require.NoError(t, err)
	require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
	findings, err := sendChained(t, p, chained(t, "a", 1, 3, 5, 7))
	require.NoError(t, err)
	require.Equal(t, []string{"", "gap", "gap", "gap"}, findings)
	require.NoError(t, p.Shutdown(t.Context()))
	metadatatest.AssertEqualProcessorAuditSequenceFindings(t, telemetry, []metricdata.DataPoint[int64]{
		{Value: 3, Attributes: attribute.NewSet(attribute.String("finding", "gap"))},
	}, metricdatatest.IgnoreTimestamp())
	assert.Equal(t, 1, lines.FilterMessageSnippet("the chain of a producer is broken").Len())
	require.NoError(t, telemetry.Shutdown(context.Background()))
}

// TestKeyTransition hands a stream over from one key to another; before that,
// no other key may speak in it.
func TestKeyTransition(t *testing.T) {
	old, next := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	config := testConfig(t, t.TempDir())
	config.Proof = old.config()
	config.Proof.Keys = append(config.Proof.Keys, ProofKeyConfig{ID: "shop-2", File: next.write(filepath.Join(t.TempDir(), "next.pub")), Algorithms: []string{"EdDSA"}})
	p := startProcessor(t, config, newSinkFake())
	send := func(number int64, by *testProducer, edit func(plog.LogRecord), want string) {
		t.Helper()
		logs := chained(t, "a", number)
		record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
		record.Attributes().Remove(audit.AttributeSequencePreviousHash)
		if edit != nil {
			edit(record)
		}
		by.sign(logs)
		findings, err := sendChained(t, p, logs)
		require.NoError(t, err)
		assert.Equal(t, []string{want}, findings, number)
	}
	send(1, old, nil, "")
	send(2, next, func(r plog.LogRecord) { r.Attributes().PutStr(audit.AttributeRecordID, "x") }, "key_change")
	send(2, old, func(r plog.LogRecord) {
		r.SetEventName(audit.EventKeyTransition)
		r.Body().SetEmptyMap().PutEmptyMap("incoming_key").PutStr("fingerprint", next.signer.Fingerprint())
		form, err := new(canonical.Encoder).AppendRecord(nil, r)
		require.NoError(t, err)
		value, err := next.signer.Sign(form)
		require.NoError(t, err)
		r.Attributes().PutStr(audit.AttributeIntegrityNewValue, value)
	}, "")
	send(3, old, func(r plog.LogRecord) { r.Attributes().PutStr(audit.AttributeRecordID, "y") }, "key_change")
	send(3, next, nil, "")
	require.NoError(t, p.Shutdown(t.Context()))
}

// linked is a request with records of one stream that have no numbers: each
// names the hash of the one before.
func linked(t testing.TB, stream string, places ...int64) plog.Logs {
	t.Helper()
	logs := plog.NewLogs()
	for _, place := range places {
		linkedRecord(t, stream, place).ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	}
	return logs
}

func linkedRecord(t testing.TB, stream string, place int64) plog.Logs {
	t.Helper()
	logs := chainedRecord(t, stream, place)
	attributes := onlyRecordOf(logs).Attributes()
	attributes.Remove(audit.AttributeSequenceNumber)
	if place > 1 {
		attributes.PutStr(audit.AttributeSequencePreviousHash, hashOf(t, linkedRecord(t, stream, place-1)))
	}
	return logs
}

// TestLateRetrySetsNothingBack repeats earlier records of a stream without
// numbers, alone and beside new ones, also over a restart: a record that is known
// is no news, so the next one is in order.
func TestLateRetrySetsNothingBack(t *testing.T) {
	for _, violation := range []string{onViolationMark, onViolationReject} {
		t.Run(violation, func(t *testing.T) {
			config := testConfig(t, t.TempDir())
			config.Sequence.OnViolation = violation
			p := startProcessor(t, config, newSinkFake())
			expect := func(logs plog.Logs) {
				t.Helper()
				findings, err := sendChained(t, p, logs)
				require.NoError(t, err)
				for _, finding := range findings {
					assert.Empty(t, finding)
				}
			}
			expect(linked(t, "a", 1, 2, 3))
			expect(linked(t, "a", 1))
			expect(linked(t, "a", 4))
			expect(linked(t, "a", 2))
			expect(linked(t, "a", 1, 2, 5))
			expect(linked(t, "b", 1, 2, 3, 2, 1, 4))
			require.NoError(t, p.Shutdown(t.Context()))
			p = startProcessor(t, config, newSinkFake())
			expect(linked(t, "a", 3))
			expect(linked(t, "a", 2, 6))
			require.NoError(t, p.Shutdown(t.Context()))
		})
	}
}

// keyed sends records of one stream that a producer signed, each with a number
// and the hash of the one before.
func keyed(t testing.TB, p *auditProcessor, by *testProducer, numbers ...int64) (findings, verified []string) {
	t.Helper()
	for _, number := range numbers {
		logs := chained(t, "a", number)
		if by != nil {
			by.sign(logs)
		}
		filled := &receipt.Receipt{}
		require.NoError(t, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), logs))
		findings = append(findings, findingOf(&filled.Results[0]))
		verified = append(verified, filled.Results[0].VerifyStatus)
	}
	return findings, verified
}

// TestKeysUnderOtherNames: a key that gets another id, or a certificate instead
// of its bare form, is the same key.
func TestKeysUnderOtherNames(t *testing.T) {
	shop := newTestProducer(t, 'a')
	config := testConfig(t, t.TempDir())
	config.Proof = shop.config()
	for i, id := range []string{"shop-1", "shop-2026", "shop"} {
		config.Proof.Keys[0].ID = id
		p := startProcessor(t, config, newSinkFake())
		findings, verified := keyed(t, p, shop, int64(2*i+1), int64(2*i+2))
		assert.Equal(t, []string{"", ""}, findings, id)
		assert.Equal(t, []string{"passed", "passed"}, verified, id)
		require.NoError(t, p.Shutdown(t.Context()))
	}

	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{'a'}, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config.Proof.Keys[0].File, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	config.Proof.Keys[0].ID = "certified"
	p := startProcessor(t, config, newSinkFake())
	certified := chained(t, "a", 7)
	shop.sign(certified)
	certified.ResourceLogs().At(0).Resource().Attributes().PutStr(audit.ResourceIntegrityCertificate, base64.StdEncoding.EncodeToString(der))
	filled := &receipt.Receipt{}
	require.NoError(t, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), certified))
	assert.Equal(t, "passed", filled.Results[0].VerifyStatus)
	assert.Empty(t, findingOf(&filled.Results[0]), "its certificate has another hash, and is of the same key")
	require.NoError(t, p.Shutdown(t.Context()))
}

// TestFailedProofsAreNoGap takes the key away for some records, as when a
// collector learns of a new certificate late: they are stored, so nothing is
// missing, also after a restart. What is really missing still shows.
func TestFailedProofsAreNoGap(t *testing.T) {
	shop, other := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	config := testConfig(t, t.TempDir())
	config.Proof = shop.config()
	config.Sequence.OnViolation = onViolationReject // which must not hold the stream up either
	config.Proof.ReloadInterval = time.Hour
	telemetry := componenttest.NewTelemetry()
	start := func() *auditProcessor {
		p, err := newProcessor(processor.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: telemetry.NewTelemetrySettings()}, config, newSinkFake())
		require.NoError(t, err)
		require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
		return p
	}
	p := start()
	swap := func(key *testProducer) {
		key.write(config.Proof.Keys[0].File)
		p.producers.reload()
	}
	expect := func(verified string, numbers ...int64) {
		t.Helper()
		findings, got := keyed(t, p, shop, numbers...)
		for i := range numbers {
			assert.Empty(t, findings[i])
			assert.Equal(t, verified, got[i])
		}
	}
	expect("passed", 1, 2)
	swap(other)
	expect("failed", 3, 4)
	require.NoError(t, p.Shutdown(t.Context()))
	p = start()
	expect("failed", 5)
	swap(shop)
	expect("passed", 6, 7)

	missing := chained(t, "a", 9)
	shop.sign(missing)
	_, err := sendChained(t, p, missing)
	require.ErrorContains(t, err, "audit.sequence: gap")
	require.NoError(t, p.Shutdown(t.Context()))
	point := func(finding string) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Value: 1, Attributes: attribute.NewSet(attribute.String("finding", finding))}
	}
	metadatatest.AssertEqualProcessorAuditSequenceFindings(t, telemetry, []metricdata.DataPoint[int64]{point("unproven"), point("gap")}, metricdatatest.IgnoreTimestamp())
	require.NoError(t, telemetry.Shutdown(context.Background()))
}

// TestStrangersInAStream: without a key a stream is anybody's in its tenant, and
// what a stranger does shows as faults, of his records or the producer's. Where a
// key has proved it, a stranger's records are faults and move nothing.
func TestStrangersInAStream(t *testing.T) {
	shop, other := newTestProducer(t, 'a'), newTestProducer(t, 'b')
	foreign := func(number int64, by *testProducer) plog.Logs {
		logs := chained(t, "a", number)
		onlyRecordOf(logs).Attributes().PutStr(audit.AttributeRecordID, fmt.Sprint("foreign-", number))
		if by != nil {
			by.sign(logs)
		}
		return logs
	}
	run := func(t *testing.T, producer *testProducer, strangers []plog.Logs, want, then []string) {
		config := testConfig(t, t.TempDir())
		config.Proof = shop.config()
		config.Proof.Keys = append(config.Proof.Keys, ProofKeyConfig{ID: "other", File: other.write(filepath.Join(t.TempDir(), "other.pub")), Algorithms: []string{"EdDSA"}})
		p := startProcessor(t, config, newSinkFake())
		findings, _ := keyed(t, p, producer, 1, 2)
		require.Equal(t, []string{"", ""}, findings)
		var got []string
		for _, logs := range strangers {
			findings, err := sendChained(t, p, logs)
			require.NoError(t, err)
			got = append(got, findings...)
		}
		assert.Equal(t, want, got)
		findings, _ = keyed(t, p, producer, 3, 4)
		assert.Equal(t, then, findings)
		require.NoError(t, p.Shutdown(t.Context()))
	}
	end := func(by *testProducer) plog.Logs {
		logs := chained(t, "a", 3)
		record := onlyRecordOf(logs)
		record.Attributes().PutStr(audit.AttributeRecordID, "end")
		record.Attributes().PutBool(audit.AttributeSequenceEnd, true)
		if by != nil {
			by.sign(logs)
		}
		return logs
	}
	bare := event("bare")
	onlyRecordOf(bare).Attributes().PutStr(audit.AttributeSequenceStreamID, "a")
	t.Run("proved", func(t *testing.T) {
		bare := event("bare")
		onlyRecordOf(bare).Attributes().PutStr(audit.AttributeSequenceStreamID, "a")
		run(t, shop, []plog.Logs{foreign(9, nil), foreign(3, other), end(nil), end(other), bare},
			[]string{"key_change", "key_change", "key_change", "", "key_change"}, []string{"", ""})
	})
	t.Run("not proved", func(t *testing.T) {
		run(t, nil, []plog.Logs{foreign(9, nil)}, []string{"gap"}, []string{"out_of_order", "out_of_order"})
		run(t, nil, []plog.Logs{end(nil)}, []string{""}, []string{"after_end", "after_end"})
		run(t, nil, []plog.Logs{foreign(3, other)}, []string{""}, []string{"key_change", "key_change"})
		run(t, nil, []plog.Logs{bare}, []string{"fork"}, []string{"", ""})
	})
}

// TestTenantsShareNoStream: nobody disturbs another tenant's chain, nor one stream
// another of the same tenant.
func TestTenantsShareNoStream(t *testing.T) {
	s := testSequences(t, 10)
	first, err := s.begin(t.Context(), chained(t, "a", 1), "acme")
	require.NoError(t, err)
	second, err := s.begin(t.Context(), chained(t, "a", 1), "other")
	require.NoError(t, err, "is not held")
	first.end(false)
	second.end(false)
	none, err := s.begin(t.Context(), event("x"), "acme")
	require.NoError(t, err)
	assert.Nil(t, none, "no record claims a place")

	p := startProcessor(t, testConfig(t, t.TempDir()), newSinkFake())
	for _, sent := range []struct{ tenant, service, actor, want string }{
		{"acme", "shop", "alice", ""},
		{"other", "shop", "mallory", ""},
		{"", "shop", "mallory", ""},
		{"acme", "billing", "mallory", "fork"}, // a service has no stream of its own
	} {
		logs := chained(t, "a", 1)
		logs.ResourceLogs().At(0).Resource().Attributes().PutStr("service.name", sent.service)
		logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutStr(audit.AttributeActorID, sent.actor)
		logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutStr(audit.AttributeRecordID, sent.service)
		filled := &receipt.Receipt{Tenant: sent.tenant}
		require.NoError(t, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), logs))
		assert.Equal(t, sent.want, findingOf(&filled.Results[0]), sent)
	}
	for _, stream := range []string{"b", "c", "b", "c"} {
		filled := &receipt.Receipt{Tenant: "acme"}
		require.NoError(t, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), chained(t, stream, 1, 2)))
		for i := range filled.Results {
			assert.Empty(t, findingOf(&filled.Results[i]), "stream %s", stream)
		}
	}
	require.NoError(t, p.Shutdown(t.Context()))
}

func testSequences(t testing.TB, limit int) *sequences {
	t.Helper()
	directory := t.TempDir()
	j, err := journal.Open(journal.Options{Directory: filepath.Join(directory, "j"), Instance: "test", Key: ed25519.NewKeyFromSeed(make([]byte, 32))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	s, err := openSequences(&SequenceConfig{OnViolation: onViolationMark, MaxStreams: limit}, directory, j)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	return s
}

// TestStreamsAreHeld: requests of one stream wait for each other, and crossed
// ones do not for ever.
func TestStreamsAreHeld(t *testing.T) {
	s := testSequences(t, 10)
	crossed := [2]plog.Logs{chained(t, "a", 1), chained(t, "b", 1)}
	chained(t, "b", 1).ResourceLogs().MoveAndAppendTo(crossed[0].ResourceLogs())
	chained(t, "a", 1).ResourceLogs().MoveAndAppendTo(crossed[1].ResourceLogs())
	holders := 0
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 100 {
				session, err := s.begin(context.Background(), crossed[i%2], "")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				holders++
				if holders != 1 {
					t.Error("two requests hold one stream")
				}
				holders--
				mu.Unlock()
				session.end(i%3 == 0)
			}
		})
	}
	all.Wait()

	session, err := s.begin(t.Context(), crossed[0], "")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = s.begin(ctx, crossed[1], "")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	session.end(false)
}

func TestStreamsAreBounded(t *testing.T) {
	s := testSequences(t, 3)
	for i := range byte(5) {
		s.enter(streamHead{stream: sequence.Digest{i}})
		s.enter(streamHead{stream: sequence.Digest{0}, head: sequence.Head{Point: sequence.Point{Number: int64(i)}}})
	}
	require.Len(t, s.heads, 3)
	var kept []byte
	for _, h := range s.all() {
		kept = append(kept, h.stream[0])
	}
	assert.Equal(t, []byte{3, 4, 0}, kept, "those used last")
}

// TestHeadFile writes, appends, loses the end, and is damaged.
func TestHeadFile(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, producersFile)
	heads := []streamHead{
		{sequence.Digest{1}, sequence.Head{
			Point: sequence.Point{Number: 1, Sent: sequence.Digest{2}, Stored: sequence.Digest{3}, ID: sequence.Digest{4}}, Key: sequence.Digest{5}, Ended: true,
			Unproven: sequence.Point{Number: 2, Sent: sequence.Digest{7}, Stored: sequence.Digest{8}, ID: sequence.Digest{9}},
		}},
		{sequence.Digest{6}, sequence.Head{Point: sequence.Point{Number: 1 << 62}, Linked: true}},
		{sequence.Digest{1}, sequence.Head{Point: sequence.Point{Number: 2}}},
	}
	f, known, err := openHeads(directory)
	require.NoError(t, err)
	require.Empty(t, known)
	next := heads[:1]
	take := func() []streamHead { taken := next; next = nil; return taken }
	require.NoError(t, f.save(take, func() []streamHead { return heads[:1] }))
	next = heads[1:]
	require.NoError(t, f.save(take, nil))
	require.NoError(t, f.save(take, nil), "nothing to do")
	read := func() []streamHead {
		f, known, err := openHeads(directory)
		require.NoError(t, err)
		require.NoError(t, f.letGo())
		return known
	}
	require.Equal(t, heads, read())

	require.NoError(t, f.file.Close()) // the next write fails, and the one after writes all
	next = heads[:1]
	require.ErrorIs(t, f.save(take, nil), os.ErrClosed)
	require.NoError(t, f.save(take, func() []streamHead { return heads }))
	require.Equal(t, heads, read())
	require.NoError(t, f.close(func() error { return f.save(take, nil) }))
	next = heads
	require.ErrorIs(t, f.save(take, nil), os.ErrClosed)

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for cut := 1; cut <= entrySize; cut++ {
		require.NoError(t, os.WriteFile(path, data[:len(data)-cut], 0o600))
		f, known, err := openHeads(directory)
		require.NoError(t, err)
		require.Equal(t, heads[:2], known)
		require.NoError(t, f.save(take, func() []streamHead { return heads[:2] }))
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, data[:len(producersMagic)+2*entrySize], whole, "what it goes by is durable, and nothing follows what was cut off")
		require.NoError(t, f.letGo())
	}
	data[len(producersMagic)+entrySize+3] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o600))
	_, _, err = openHeads(directory)
	require.ErrorContains(t, err, "entry 1 is damaged: remove it")
	require.NoError(t, os.WriteFile(path, append([]byte(producersBefore), data...), 0o600))
	require.Empty(t, read())
	require.NoError(t, os.WriteFile(path, []byte("else"), 0o600))
	_, _, err = openHeads(directory)
	require.ErrorContains(t, err, "is not a file of producers' streams")
}

// TestOneEntryForARequest: a request with many records of a stream writes where
// the stream stands after the last.
func TestOneEntryForARequest(t *testing.T) {
	p := startProcessor(t, testConfig(t, t.TempDir()), newSinkFake())
	_, err := sendChained(t, p, chained(t, "a", 1, 2, 3, 4, 5))
	require.NoError(t, err)
	require.Equal(t, 1, p.sequences.file.entries)
	findings, err := sendChained(t, p, chained(t, "a", 6))
	require.NoError(t, err)
	require.Equal(t, []string{""}, findings)
	require.NoError(t, p.Shutdown(t.Context()))
}

// TestHeadFileIsCompacted: it does not grow with the records.
func TestHeadFileIsCompacted(t *testing.T) {
	s := testSequences(t, 10)
	for i := range int64(compactAt + 1000) {
		h := streamHead{stream: sequence.Digest{byte(i % 3)}, head: sequence.Head{Point: sequence.Point{Number: i}}}
		s.mu.Lock()
		s.enter(h)
		s.unsaved = append(s.unsaved, h)
		s.mu.Unlock()
		if i%500 == 0 {
			require.NoError(t, s.save())
		}
	}
	require.NoError(t, s.save())
	assert.LessOrEqual(t, s.file.entries, compactAt)
	f, known, err := openHeads(filepath.Dir(s.file.path))
	require.NoError(t, err)
	require.NoError(t, f.letGo())
	assert.Equal(t, int64(compactAt+999), known[len(known)-1].head.Number)
}

func FuzzHeads(f *testing.F) {
	entry := appendEntry([]byte(producersMagic), &streamHead{stream: sequence.Digest{1}, head: sequence.Head{Point: sequence.Point{Number: 3}, Ended: true}})
	f.Add(entry)
	f.Add(entry[:40])
	f.Add(append(append([]byte{}, entry...), entry[len(producersMagic):]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		heads, err := parseHeads(data)
		if err != nil {
			return
		}
		again := []byte(producersMagic)
		for i := range heads {
			again = appendEntry(again, &heads[i])
		}
		assert.True(t, strings.HasPrefix(string(data), string(again)), "what is read is what was written")
	})
}

// TestStrictCallersAndPlaces: who asks for records without a fault asks again
// about chained ones, and gets the first answer; a proof that fails is refused.
func TestStrictCallersAndPlaces(t *testing.T) {
	shop := newTestProducer(t, 'a')
	config := testConfig(t, t.TempDir())
	config.Proof = shop.config()
	config.Proof.ReloadInterval = time.Hour
	p := startProcessor(t, config, newSinkFake())
	send := func(logs plog.Logs) (*receipt.Receipt, error) {
		filled := &receipt.Receipt{RejectInvalid: true}
		return filled, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), logs)
	}
	_, err := send(chained(t, "a", 1, 2, 3))
	require.NoError(t, err)
	again, err := send(chained(t, "a", 1, 2))
	require.NoError(t, err)
	for i, result := range again.Results {
		assert.Equal(t, uint64(i+1), result.Link.Index)
		assert.Empty(t, result.Reasons)
	}
	gap, err := send(chained(t, "a", 5))
	require.NoError(t, err, "is for `sequence::on_violation`")
	assert.Equal(t, []string{"audit.sequence: gap: records are missing before this one"}, gap.Results[0].Reasons)

	unproven := event("x")
	shop.sign(unproven)
	unproven.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutStr("x", "y")
	refused, err := send(unproven)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	assert.Equal(t, receipt.VerifyFailed, refused.Results[0].VerifyStatus)

	// Its key has ended since: what is known stays so, what is new is refused.
	proved := func(id string) plog.Logs {
		logs := event(id)
		logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).SetTimestamp(1)
		shop.sign(logs)
		return logs
	}
	first, err := send(proved("y"))
	require.NoError(t, err)
	newTestProducer(t, 'b').write(config.Proof.Keys[0].File)
	p.producers.reload()
	same, err := send(proved("y"))
	require.NoError(t, err)
	assert.Equal(t, first.Results[0].Hash, same.Results[0].Hash)
	_, err = send(proved("z"))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.NoError(t, p.Shutdown(t.Context()))
}

// TestProducersFileLagsBehind: a crash between the seal and the file leaves the
// file behind by what was never answered. The producer sends it again.
func TestProducersFileLagsBehind(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, producersFile)
	p := startProcessor(t, testConfig(t, directory), newSinkFake())
	expect := func(numbers ...int64) {
		t.Helper()
		findings, err := sendChained(t, p, chained(t, "a", numbers...))
		require.NoError(t, err)
		assert.Equal(t, make([]string, len(numbers)), findings)
	}
	expect(1, 2)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	expect(3, 4)
	require.NoError(t, p.Shutdown(t.Context()))
	require.NoError(t, os.WriteFile(path, before, 0o600))
	p = startProcessor(t, testConfig(t, directory), newSinkFake())
	expect(3, 4)
	expect(5)
	require.NoError(t, p.Shutdown(t.Context()))

	require.NoError(t, os.Remove(path))
	p = startProcessor(t, testConfig(t, directory), newSinkFake())
	expect(6) // joined: marked, and no fault
	require.NoError(t, p.Shutdown(t.Context()))
}

// TestProducersFileFails: the records are sealed all the same, the failure is
// counted, and the next request writes what is missing.
func TestProducersFileFails(t *testing.T) {
	directory := t.TempDir()
	telemetry := componenttest.NewTelemetry()
	p, err := newProcessor(processor.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: telemetry.NewTelemetrySettings()}, testConfig(t, directory), newSinkFake())
	require.NoError(t, err)
	require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
	expect := func(numbers ...int64) {
		t.Helper()
		findings, err := sendChained(t, p, chained(t, "a", numbers...))
		require.NoError(t, err)
		assert.Equal(t, make([]string, len(numbers)), findings)
	}
	expect(1)
	require.NoError(t, p.sequences.file.file.Close())
	expect(2)
	metadatatest.AssertEqualProcessorAuditSequenceFailures(t, telemetry, []metricdata.DataPoint[int64]{{Value: 1}}, metricdatatest.IgnoreTimestamp())
	expect(3)
	require.NoError(t, p.Shutdown(t.Context()))
	p = startProcessor(t, testConfig(t, directory), newSinkFake())
	expect(4)
	require.NoError(t, p.Shutdown(t.Context()))
	require.NoError(t, telemetry.Shutdown(context.Background()))
}

// TestStartWithoutRoomForProducersFile: a start writes nothing into it, so that
// one on a full disk succeeds. What was taken for it meanwhile is written when
// there is room.
func TestStartWithoutRoomForProducersFile(t *testing.T) {
	directory := t.TempDir()
	noRoom := filepath.Join(directory, producersFile+".tmp")
	require.NoError(t, os.Mkdir(noRoom, 0o700))
	expect := func(p *auditProcessor, numbers ...int64) {
		t.Helper()
		findings, err := sendChained(t, p, chained(t, "a", numbers...))
		require.NoError(t, err)
		assert.Equal(t, make([]string, len(numbers)), findings)
	}
	p := startProcessor(t, testConfig(t, directory), newSinkFake())
	require.NoError(t, p.Shutdown(t.Context()), "there is nothing to write")
	p = startProcessor(t, testConfig(t, directory), newSinkFake())
	expect(p, 1)
	require.Error(t, p.Shutdown(t.Context()), "the stream is not in the file")

	p = startProcessor(t, testConfig(t, directory), newSinkFake())
	require.Empty(t, p.sequences.heads)
	expect(p, 2)
	require.NoError(t, os.Remove(noRoom))
	expect(p, 3)
	require.NoError(t, p.Shutdown(t.Context()))
	require.NoError(t, os.Mkdir(noRoom, 0o700))
	for number := range int64(3) {
		p = startProcessor(t, testConfig(t, directory), newSinkFake())
		require.Len(t, p.sequences.heads, 1, "it is appended to")
		expect(p, 4+number)
		require.NoError(t, p.Shutdown(t.Context()))
	}
}

// TestDamagedProducersFile: the start says what to do, and leaves nothing held.
func TestDamagedProducersFile(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, producersFile)
	require.NoError(t, os.WriteFile(path, []byte("damage"), 0o600))
	p, err := newProcessor(processor.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: componenttest.NewNopTelemetrySettings()}, testConfig(t, directory), newSinkFake())
	require.NoError(t, err)
	require.ErrorContains(t, p.Start(context.Background(), componenttest.NewNopHost()), path+": is not a file of producers' streams: remove it")
	require.NoError(t, p.Shutdown(t.Context()))
	require.NoError(t, os.Remove(path))
	p = startProcessor(t, testConfig(t, directory), newSinkFake())
	require.NoError(t, p.Shutdown(t.Context()))
}
