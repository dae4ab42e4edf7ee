// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	sdk "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.yaml.in/yaml/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/sequence"
	"github.com/otelaudit/otelaudit/testbed"
)

// What docs/otep-0267.md calls the acceptance checks, on the built binaries, as
// far as audit_test.go and proof_test.go do not have them.

// One bad record of 2048, the queue of an SDK, in protobuf, compressed, as a stock
// client sends it: the answer is one that such a client reads as a failure, it has
// no partial success, and no sink sees any of the records. Mended, all are taken.
func TestOTEPBadRecordInProtobuf(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	var ids []string
	for i := range 2048 {
		ids = append(ids, fmt.Sprintf("r-%d", i))
	}
	logs := testbed.OTLPRecords("bad", ids...)
	bad := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(2047).Attributes()
	bad.Remove(audit.AttributeActorID)
	code, body := postProtobuf(t, c, logs)
	assert.Equal(t, http.StatusBadRequest, code)
	var failure status.Status
	require.NoError(t, proto.Unmarshal(body, &failure))
	assert.EqualValues(t, codes.InvalidArgument, failure.GetCode())
	assert.Contains(t, failure.GetMessage(), audit.AttributeActorID)
	assert.Empty(t, readStore(t, settings.Store()).Records)

	bad.PutStr(audit.AttributeActorID, "user_1")
	code, body = postProtobuf(t, c, logs)
	assert.Equal(t, http.StatusOK, code)
	response := plogotlp.NewExportResponse()
	require.NoError(t, response.UnmarshalProto(body))
	assert.Zero(t, response.PartialSuccess().RejectedLogRecords())
	assert.Empty(t, response.PartialSuccess().ErrorMessage())
	stop(t, c)
	requireSound(t, settings)
	assert.Len(t, readStore(t, settings.Store()).Records, len(ids))
}

func postProtobuf(t *testing.T, c *testbed.Collector, logs plog.Logs) (code int, body []byte) {
	t.Helper()
	text, err := plogotlp.NewExportRequestFromLogs(logs).MarshalProto()
	require.NoError(t, err)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err = w.Write(text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.HTTP+"/v1/audit", &packed)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-protobuf")
	request.Header.Set("Content-Encoding", "gzip")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	body, err = io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, "application/x-protobuf", response.Header.Get("Content-Type"))
	return response.StatusCode, body
}

// Killed while records are in the journal and in no sink, and once more just
// after the sink has come back: nothing is missing, every receipt is the first
// one, and what the sink is sent again is the same record.
func TestOTEPKilledBetweenJournalAndSink(t *testing.T) {
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: append(toSink(sink), "processors::audit::ack_timeout: 1ms")}
	receipts, want := map[string]map[string]any{}, map[string]int{}
	ask := func(c *testbed.Collector, n int) auditAnswer {
		ids := []string{fmt.Sprintf("%d-a", n), fmt.Sprintf("%d-b", n)}
		answer := postAudit(t, c, testbed.OTLPRecords("x", ids...))
		require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, answer.Code, answer.Body)
		for _, id := range ids {
			receipt := receiptOf(t, answer.Records[id])
			if receipts[id] == nil {
				receipts[id], want[id] = receipt, 1
			}
			assert.Equal(t, receipts[id], receipt, "the receipt of before the kill")
		}
		return answer
	}
	const kills = 3
	for n := range kills {
		c := start(t, settings)
		for earlier := range n + 1 {
			require.Equal(t, http.StatusAccepted, ask(c, earlier).Code, "no sink has it")
		}
		require.NoError(t, c.Kill())
	}
	assert.Empty(t, readStore(t, sink.Store()).Records)
	c := start(t, settings)
	require.NoError(t, sink.Up())
	eventually(t, 30*time.Second, func() bool { return len(readStore(t, sink.Store()).Records) > 0 }, "delivery has begun")
	require.NoError(t, c.Kill())
	c = start(t, settings)
	for n := range kills {
		eventually(t, 30*time.Second, func() bool { return ask(c, n).Code == http.StatusOK }, "the sink is back")
	}
	stop(t, c)
	requireSoundStore(t, settings, sink.Store())
	assert.Equal(t, want, readStore(t, sink.Store()).Records)
	_, _, faults := sink.Seen()
	assert.Empty(t, faults, "a repeated record is the same record")
}

// Of two required sinks one is down: the answer says which one is tried again, of
// the other it claims nothing, and it is not 200 before both have the records.
func TestOTEPOneOfTwoRequiredSinksDown(t *testing.T) {
	sink := newHTTPSink(t)
	settings := testbed.Settings{Directory: t.TempDir()}
	settings.Extra = append(toHTTP(settings.Directory, sink, "ndjson"),
		"exporters::audit/http::retry_on_failure::enabled: false", // the collector asks one after the other, in any order
		"service::pipelines::logs/audit::exporters: [audit, audit/http]", "processors::audit::ack_timeout: 300ms")
	c := start(t, settings)
	ask := func() auditAnswer { return postAudit(t, c, testbed.OTLPRecords("x", "one", "two")) }
	eventually(t, 20*time.Second, func() bool {
		answer := ask()
		require.Equal(t, http.StatusAccepted, answer.Code, answer.Body)
		require.Equal(t, "verified_queued", answer.Status)
		require.NotEqual(t, "success", answer.Sinks["audit/http"].Delivery)
		return answer.Sinks["audit"].Delivery == "unknown" && answer.Sinks["audit/http"].Delivery == "retrying" && answer.Sinks["audit/http"].Attempts > 0
	}, "it is tried")
	tried := ask().Sinks["audit/http"]
	assert.Equal(t, "http", tried.Type)
	assert.NotEmpty(t, tried.Code)
	last, err := strconv.ParseInt(tried.Last, 10, 64)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), time.Unix(0, last), time.Minute)
	require.NoError(t, sink.Up())
	eventually(t, 30*time.Second, func() bool {
		answer := ask()
		return answer.Code == http.StatusOK && answer.Sinks["audit"].Delivery == "success" && answer.Sinks["audit/http"].Delivery == "success"
	}, "both have it")
	stop(t, c)
	requireSound(t, settings)
	requireSoundStore(t, settings, sink.Store())
	for _, store := range []string{settings.Store(), sink.Store()} {
		assert.Equal(t, map[string]int{"one": 1, "two": 1}, readStore(t, store).Records)
	}
}

// The stock otlphttp exporter, in both of its encodings, and the Go SDK read our
// 200 as success, the 202 of a sink that is down as well, and a refusal as one.
func TestOTEPStockClientsReadAuditAnswers(t *testing.T) {
	sink := newSink(t)
	require.NoError(t, sink.Up())
	settings := testbed.Settings{Directory: t.TempDir(), Extra: append(toSink(sink), "processors::audit::ack_timeout: 500ms")}
	c := start(t, settings)
	url := "http://" + c.HTTP + "/v1/audit"
	want := map[string]int{}
	send := map[string]func(ids ...string) error{"go": func(ids ...string) error { return exportBySDK(t, url, ids...) }}
	for _, encoding := range []string{"proto", "json"} {
		stock := start(t, testbed.Settings{Directory: t.TempDir(), Extra: []string{fmt.Sprintf(`
exporters: {otlphttp: {logs_endpoint: %q, encoding: %s, compression: zstd, sending_queue: {enabled: false}, retry_on_failure: {enabled: false}}}
service: {pipelines: {logs/audit: {receivers: [audit]}, logs/stock: {receivers: [otlp], exporters: [otlphttp]}}}
`, url, encoding)}})
		client, err := testbed.NewOTLPClient(stock)
		require.NoError(t, err)
		defer func() {
			require.NoError(t, client.Close())
			assert.NotContains(t, string(readFile(t, stock.LogFile())), "artial success")
		}()
		send[encoding] = func(ids ...string) error { return client.SendGRPC(t.Context(), testbed.OTLPRecords("x", ids...)) }
	}
	for name, send := range send {
		require.NoError(t, send(name+"-1", name+"-2"), name)
		require.NoError(t, send(name+"-1", name+"-2"), "%s: the same again is the same success", name)
		require.Error(t, send(name+"-3", ""), "%s: a record without an id", name)
		want[name+"-1"], want[name+"-2"] = 1, 1
	}
	assert.Equal(t, want, readStore(t, sink.Store()).Records, "200: the sink has them")
	sink.Down()
	for name, send := range send {
		require.NoError(t, send(name+"-4"), "%s: 202", name)
		want[name+"-4"] = 1
	}
	require.NoError(t, sink.Up())
	stop(t, c)
	requireSoundStore(t, settings, sink.Store())
	assert.Equal(t, want, readStore(t, sink.Store()).Records)
}

// exportBySDK sends records with these ids as the Go SDK does, and returns what
// its exporter says.
func exportBySDK(t *testing.T, url string, ids ...string) error {
	t.Helper()
	exporter, err := otlploghttp.New(t.Context(), otlploghttp.WithEndpointURL(url), otlploghttp.WithCompression(otlploghttp.GzipCompression),
		otlploghttp.WithRetry(otlploghttp.RetryConfig{}))
	require.NoError(t, err)
	provider := sdk.NewLoggerProvider(sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "otlp-client"))),
		sdk.WithProcessor(sdk.NewBatchProcessor(exporter, sdk.WithExportInterval(time.Hour))))
	for _, id := range ids {
		record := sdkRecord(id)
		record.SetTimestamp(time.Unix(1_700_000_000, 0))
		provider.Logger("shop").Emit(t.Context(), record)
	}
	return provider.Shutdown(t.Context())
}

// chainStep is one record of a producer's chain: its number, whose hash it
// names, and what the collector finds.
type chainStep struct {
	name     string
	number   int64
	previous string // name of the record whose hash it names, "" for none, or a hash
	end      bool
	key      string // file of the key that signs it, "" for none
	next     string // file of the key that takes over
	finding  sequence.Finding
}

var chainStories = map[string][]chainStep{
	"gap":              {{name: "a", number: 1}, {name: "c", number: 3, previous: "a", finding: sequence.Gap}},
	"swap":             {{name: "a", number: 1}, {name: "c", number: 3, previous: "a", finding: sequence.Gap}, {name: "b", number: 2, previous: "a", finding: sequence.OutOfOrder}},
	"fork":             {{name: "a", number: 1}, {name: "b", number: 2, previous: "a"}, {name: "x", number: 2, previous: "a", finding: sequence.Fork}},
	"broken":           {{name: "a", number: 1}, {name: "b", number: 2, previous: strings.Repeat("0a", sha256.Size), finding: sequence.Broken}},
	"after the end":    {{name: "a", number: 1}, {name: "b", number: 2, previous: "a", end: true}, {name: "c", number: 3, previous: "b", finding: sequence.AfterEnd}},
	"genesis constant": {{name: "a", number: 1, previous: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}, {name: "b", number: 2, previous: "a"}},
	"key change": {
		{name: "a", number: 1, key: "ed25519"},
		{name: "b", number: 2, previous: "a", key: "next", finding: sequence.KeyChange},
		{name: "c", number: 2, previous: "a", key: "ed25519", next: "next"},
		{name: "d", number: 3, previous: "c", key: "ed25519", finding: sequence.KeyChange},
		{name: "e", number: 3, previous: "c", key: "next"},
	},
}

// What is wrong with a producer's chain is marked and stored, or refused and not
// stored: a gap, a swap, a fork, another predecessor, a record after the end and
// a key that nobody introduced. The constant of an earlier draft, and a key that
// both keys introduce, are not.
func TestOTEPProducerChains(t *testing.T) {
	keys, err := filepath.Abs(filepath.Join(proofVectors, "keys"))
	require.NoError(t, err)
	trust := fmt.Sprintf("processors::audit::proof::keys: [{id: ed25519, file: %q, algorithms: [EdDSA]}, {id: next, file: %q, algorithms: [EdDSA]}]",
		filepath.Join(keys, "ed25519.pem"), filepath.Join(keys, "next.pem"))
	for mode, refused := range map[string]bool{"mark": false, "reject": true} {
		t.Run(mode, func(t *testing.T) {
			settings := testbed.Settings{Directory: t.TempDir(), Extra: []string{trust, "processors::audit::sequence::on_violation: " + mode}}
			c := start(t, settings)
			want, flagged, broken := map[string]int{}, 0, int64(0)
			for story, steps := range chainStories {
				hashes := map[string]string{}
				for _, step := range steps {
					if refused && story == "swap" && step.name == "b" {
						step.finding = "" // the gap was refused, so this is the next one
					}
					logs := step.logs(t, story, hashes)
					answer, s := postSingle(t, c, logs)
					place := story + ": " + step.name
					if step.finding != "" {
						broken++
					}
					switch {
					case step.finding == "":
						assert.Equal(t, http.StatusOK, answer.Code, "%s: %s", place, answer.Body)
						assert.Empty(t, s.Reason, place)
					case refused:
						assert.Equal(t, http.StatusBadRequest, answer.Code, "%s: %s", place, answer.Body)
						assert.Contains(t, s.Reason, "audit.sequence: "+string(step.finding), place)
						continue
					default:
						assert.Equal(t, http.StatusOK, answer.Code, "%s: %s", place, answer.Body)
						assert.Contains(t, s.Reason, "audit.sequence: "+string(step.finding), place)
						flagged++
					}
					want[story+step.name] = 1
					if step.key != "" {
						assert.Equal(t, "passed", s.VerifyStatus, place)
					}
				}
			}
			for _, step := range []chainStep{{name: "a", number: 1}, {name: "b", number: 1}} {
				logs := step.logs(t, "no stream", map[string]string{})
				logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().Remove(audit.AttributeSequenceStreamID)
				answer, s := postSingle(t, c, logs)
				assert.Equal(t, http.StatusOK, answer.Code, answer.Body)
				assert.Empty(t, s.Reason, "nothing is said about a place in no stream")
				want["no stream"+step.name] = 1
			}
			ambiguous := metric(t, c, "otelcol_processor_audit_sequence_findings", `finding="ambiguous"`)
			assert.EqualValues(t, 2, ambiguous)
			assert.Equal(t, broken, metric(t, c, "otelcol_processor_audit_sequence_findings")-ambiguous)
			stop(t, c)
			requireSound(t, settings)
			stored := readStore(t, settings.Store())
			assert.Equal(t, want, stored.Records)
			assert.Equal(t, flagged, stored.Flagged)
			marks := testbed.Needle{Name: "mark", Text: `"audit.integrity.collector.sequence":{"stringValue":"ambiguous"}`}
			assert.NotEmpty(t, find(t, settings.Store(), marks))
			assert.Contains(t, string(readFile(t, settings.LogFile())), "the chain of a producer is broken")
		})
	}
}

// logs is the record of a step, which names the hash that its producer has
// computed of the one before, not that of a receipt.
func (s chainStep) logs(t *testing.T, story string, hashes map[string]string) plog.Logs {
	t.Helper()
	logs := testbed.OTLPRecords("x", story+s.name)
	record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	record.SetObservedTimestamp(record.Timestamp())
	record.Attributes().PutStr(audit.AttributeSequenceStreamID, story)
	record.Attributes().PutInt(audit.AttributeSequenceNumber, s.number)
	if s.end {
		record.Attributes().PutBool(audit.AttributeSequenceEnd, true)
	}
	previous := s.previous
	if hash := hashes[previous]; hash != "" {
		previous = hash
	}
	if previous != "" {
		record.Attributes().PutStr(audit.AttributeSequencePreviousHash, previous)
	}
	if s.next != "" {
		record.SetEventName(audit.EventKeyTransition)
		record.Body().SetEmptyMap().PutEmptyMap("incoming_key").PutStr("key_id", s.next)
	}
	form, err := new(canonical.Encoder).AppendRecord(nil, record)
	require.NoError(t, err)
	sum := sha256.Sum256(form)
	hashes[s.name] = hex.EncodeToString(sum[:])
	if s.key != "" {
		of := logs.ResourceLogs().At(0).Resource().Attributes()
		of.PutStr(audit.ResourceIntegrityAlgorithm, "EdDSA")
		of.PutStr(audit.ResourceIntegrityCertificate, s.key)
		record.Attributes().PutStr(audit.AttributeIntegrityValue, signEdDSA(t, s.key, form))
	}
	if s.next != "" {
		record.Attributes().PutStr(audit.AttributeIntegrityNewValue, signEdDSA(t, s.next, form))
	}
	return logs
}

func signEdDSA(t *testing.T, key string, form []byte) string {
	t.Helper()
	block, _ := pem.Decode(readFile(t, filepath.Join(proofVectors, "keys", key+".key")))
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	require.IsType(t, ed25519.PrivateKey{}, private)
	return base64.StdEncoding.EncodeToString(ed25519.Sign(private.(ed25519.PrivateKey), form))
}

// storedRecord is what an auditor without our code reads of a stored line.
type storedRecord struct {
	Chain struct {
		SealedAt string `json:"sealed_at"`
	}
	Event struct {
		Proof  map[string]struct{ StringValue string }
		Record json.RawMessage // the signed form, byte for byte
	}
}

// storedRecords reads the lines of records with these ids.
func storedRecords(t *testing.T, settings testbed.Settings, ids ...string) map[string]storedRecord {
	t.Helper()
	files, err := testbed.StoredFiles(settings.Store())
	require.NoError(t, err)
	found := map[string]storedRecord{}
	for _, file := range files {
		for line := range bytes.Lines(readFile(t, file)) {
			for _, id := range ids {
				if bytes.Contains(line, []byte(`"audit.record.id":{"stringValue":"`+id+`"}`)) {
					var record storedRecord
					require.NoError(t, json.Unmarshal(line, &record))
					found[id] = record
				}
			}
		}
	}
	require.Len(t, found, len(ids))
	return found
}

// A receipt is of the record as it is stored: its hash is that of the stored
// bytes, its time that of the seal. A record that nothing had to be changed in
// has the hash that its producer computes; one that was redacted has another.
func TestOTEPReceiptIsOfWhatIsStored(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	logs := testbed.OTLPRecords("x", "clean", "redacted")
	records := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords()
	records.At(1).Attributes().PutStr("password", "Tr0ub4dor")
	sent := map[string]string{}
	for i, id := range []string{"clean", "redacted"} {
		records.At(i).SetObservedTimestamp(records.At(i).Timestamp())
		form, err := new(canonical.Encoder).AppendRecord(nil, records.At(i))
		require.NoError(t, err)
		sum := sha256.Sum256(form)
		sent[id] = hex.EncodeToString(sum[:])
	}
	answer := postAudit(t, c, logs)
	require.Equal(t, http.StatusOK, answer.Code, answer.Body)
	stop(t, c)
	requireSound(t, settings)
	for id, stored := range storedRecords(t, settings, "clean", "redacted") {
		receipt := receiptOf(t, answer.Records[id])
		sum := sha256.Sum256(stored.Event.Record)
		assert.Equal(t, hex.EncodeToString(sum[:]), receipt["integrity_hash"], id)
		assert.Equal(t, stored.Chain.SealedAt, receipt["sink_timestamp"], id)
		assert.Equal(t, id == "clean", receipt["integrity_hash"] == sent[id], id)
	}
}

// A record that first came by the stock receiver, which asks for no receipt, has
// its first one at /v1/audit, after a restart as well. The hash is not in it: it is
// made for who asks.
func TestOTEPReceiptOfWhatCameByAnotherDoor(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	client, err := testbed.NewOTLPClient(c)
	require.NoError(t, err)
	require.NoError(t, client.SendGRPC(t.Context(), testbed.OTLPRecords("x", "one", "two")))
	require.NoError(t, client.Close())
	first := postAudit(t, c, testbed.OTLPRecords("x", "one", "two"))
	require.Equal(t, http.StatusOK, first.Code, first.Body)
	require.NoError(t, c.Kill())
	c = start(t, settings)
	again := postAudit(t, c, testbed.OTLPRecords("x", "one", "two"))
	require.Equal(t, http.StatusOK, again.Code, again.Body)
	stop(t, c)
	requireSound(t, settings)
	for id, stored := range storedRecords(t, settings, "one", "two") {
		var receipts [2]struct {
			Index         string
			Hash          string
			SinkTimestamp string `json:"sink_timestamp"`
			IntegrityHash string `json:"integrity_hash"`
		}
		require.NoError(t, json.Unmarshal(first.Records[id], &receipts[0]))
		require.NoError(t, json.Unmarshal(again.Records[id], &receipts[1]))
		assert.Equal(t, receipts[0], receipts[1], id)
		assert.Equal(t, stored.Chain.SealedAt, receipts[0].SinkTimestamp, id)
		assert.Empty(t, receipts[0].IntegrityHash, id)
	}
}

// verifyWithNode checks signatures with Node.js alone: a list of algorithm,
// certificate, signed bytes and signature.
const verifyWithNode = `
const { verify, X509Certificate } = require("node:crypto");
const cases = JSON.parse(require("node:fs").readFileSync(0));
console.log(JSON.stringify(cases.map(c => verify(c.hash || null, Buffer.from(c.form), new X509Certificate(c.certificate).publicKey, Buffer.from(c.value, "base64")))));`

type signedForm struct {
	Hash        string `json:"hash"`
	Certificate string `json:"certificate"`
	Form        string `json:"form"`
	Value       string `json:"value"`
}

// What the collector signs, another language's library verifies, over the bytes
// that are stored; and nothing else.
func TestOTEPCollectorSignsForOthers(t *testing.T) {
	example{language: "node", needs: [][]string{{"node", "--version"}}, cure: "nodejs"}.needRuntime(t)
	keys, err := filepath.Abs(filepath.Join(proofVectors, "keys"))
	require.NoError(t, err)
	var cases []signedForm
	for _, with := range []struct{ algorithm, key, hash string }{{"EdDSA", "ed25519", ""}, {"ES256", "p256", "sha256"}, {"RS256", "rsa", "sha256"}, {"RS512", "rsa", "sha512"}} {
		settings := testbed.Settings{Directory: t.TempDir()}
		settings.Extra = []string{fmt.Sprintf("processors: {audit: {sign: {key_file: %q, certificate_file: %q, algorithm: %s}}}",
			filepath.Join(keys, with.key+".key"), filepath.Join(keys, with.key+".pem"), with.algorithm)}
		c := start(t, settings)
		logs := testbed.OTLPRecords("x", "signed")
		logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutStr("password", "Tr0ub4dor")
		answer := postAudit(t, c, logs)
		require.Equal(t, http.StatusOK, answer.Code, answer.Body)
		stop(t, c)
		requireSound(t, settings)
		stored := storedRecords(t, settings, "signed")["signed"]
		one := signedForm{with.hash, string(readFile(t, filepath.Join(keys, with.key+".pem"))), string(stored.Event.Record), stored.Event.Proof[audit.AttributeIntegrityValue].StringValue}
		cases = append(cases, one)
		one.Form = strings.Replace(one.Form, "user_1", "user_2", 1)
		cases = append(cases, one)
	}
	input, err := json.Marshal(cases)
	require.NoError(t, err)
	node := exec.CommandContext(t.Context(), "node", "-e", verifyWithNode)
	node.Stdin = bytes.NewReader(input)
	output, err := node.CombinedOutput()
	require.NoError(t, err, "%s", output)
	assert.JSONEq(t, "[true,false,true,false,true,false,true,false]", string(output))
}

// A pipeline that samples, filters or batches events does not start with this
// distribution, and the doctor names it in a configuration of any other.
func TestOTEPLossyPipelines(t *testing.T) {
	binary, err := testbed.Binary("otelcol-audit")
	require.NoError(t, err)
	const base = `
receivers: {audit: {http: {endpoint: 127.0.0.1:4319}}}
exporters: {audit: {file: {directory: /var/lib/audit/store}}}
processors: {audit: {journal: {directory: /var/lib/audit/journal}}, %s: {}}
service: {pipelines: {logs/audit: {receivers: [audit], processors: [%s], exporters: [audit]}}}
`
	for _, c := range []struct {
		processor, order, finding string
		exit                      int
	}{
		{"batch", "batch, audit", "error answers-before-seal", 1},
		{"batch", "audit, batch", "error processor-after-seal", 1},
		{"probabilistic_sampler", "probabilistic_sampler, audit", "error sampled-before-seal", 1},
		{"filter", "audit, filter", "error processor-after-seal", 1},
		{"filter", "filter, audit", "warning filtered-before-seal", 0}, // what is no audit event may go
	} {
		t.Run(c.order, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.yaml")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, base, c.processor, c.order), 0o600))
			output, err := validate(t, binary, "--config", file)
			require.Error(t, err)
			assert.Contains(t, output, fmt.Sprintf("unknown type: %q", c.processor))
			stdout, stderr, exit, err := testbed.Tool(t.TempDir(), "doctor", file)
			require.NoError(t, err)
			assert.Equal(t, c.exit, exit, "%s%s", stdout, stderr)
			assert.Contains(t, string(stdout), c.finding+" at processors::"+c.processor+"\n")
			assert.Contains(t, string(stdout), "  cure: ")
		})
	}
	// What else the distribution has drops nothing either: the memory limiter refuses.
	output, err := exec.Command(binary, "components").Output()
	require.NoError(t, err)
	var has struct {
		Processors, Connectors []struct{ Name string }
	}
	require.NoError(t, yaml.Unmarshal(output, &has))
	assert.Equal(t, []struct{ Name string }{{"audit"}, {"memory_limiter"}}, has.Processors)
	assert.Empty(t, has.Connectors)

	sound := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(sound, []byte(strings.ReplaceAll(fmt.Sprintf(base, "x", "audit"), ", x: {}", "")), 0o600))
	text, err := validate(t, binary, "--config", sound)
	require.NoError(t, err, text)
}
