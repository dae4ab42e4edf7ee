// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/testbed"
)

const proofVectors = "../audit/testdata/vectors/proof"

// vectorRequest is the request of a vector of audit/proof.
func vectorRequest(t *testing.T, name string) plog.Logs {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(proofVectors, name+".txt"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\notlp: ")
	require.True(t, found)
	otlp, _, _ := strings.Cut(rest, "\n")
	logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs([]byte(otlp))
	require.NoError(t, err)
	return logs
}

// single is what /v1/audit says of a single record.
type single struct {
	VerifyStatus  string `json:"verify_status"`
	IntegrityHash string `json:"integrity_hash"`
	Reason        string `json:"reason"`
}

func postSingle(t *testing.T, c *testbed.Collector, logs plog.Logs) (auditAnswer, single) {
	t.Helper()
	answer := postAudit(t, c, logs)
	var s single
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &s))
	return answer, s
}

// trusting is a policy of the keys that the vectors are made with.
func trusting(t *testing.T) []string {
	t.Helper()
	keys, err := filepath.Abs(filepath.Join(proofVectors, "keys"))
	require.NoError(t, err)
	key := func(id, file, algorithms string) string {
		return fmt.Sprintf(`{id: %s, file: %q, algorithms: [%s]}`, id, filepath.Join(keys, file), algorithms)
	}
	return []string{
		"processors::audit::validation::clock_skew: 0s", // the record's time is the last there is
		"processors::audit::proof::keys: [" + strings.Join([]string{
			key("orders-rsa", "rsa.pem", "RS256, RS512"), key("orders-p256", "p256.pem", "ES256"),
			key("orders-ed25519", "ed25519.pem", "EdDSA"), key("orders-secret", "hmac.secret", "HMAC-SHA256, HMAC-SHA512"),
		}, ", ") + "]",
		"processors::audit::proof::require_signature: [{service: shop}]",
	}
}

// What openssl, Node.js and Python signed passes at the built binary; what was
// changed afterwards, or is not signed, is refused and in no sink.
func TestProofsOfOthers(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir(), Extra: trusting(t)}
	c := start(t, settings)
	for _, name := range []string{"flip-body", "flip-attribute", "flip-timestamp", "refused-unknown-key", "refused-value-unpadded"} {
		answer, s := postSingle(t, c, vectorRequest(t, name))
		assert.Equal(t, http.StatusBadRequest, answer.Code, name)
		assert.Equal(t, "rejected_verify_failed", answer.Status, name)
		assert.Equal(t, "failed", s.VerifyStatus, name)
		assert.Contains(t, s.Reason, "proof failed: ", name)
	}
	unsigned := vectorRequest(t, "form-golden")
	unsigned.ResourceLogs().At(0).Resource().Attributes().PutStr("service.name", "shop")
	unsigned.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().Remove(audit.AttributeIntegrityValue)
	answer, s := postSingle(t, c, unsigned)
	assert.Equal(t, http.StatusBadRequest, answer.Code)
	assert.Contains(t, s.Reason, "proof failed: missing")

	files, err := filepath.Glob(filepath.Join(proofVectors, "made-*.txt"))
	require.NoError(t, err)
	require.Len(t, files, 18)
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		answer, s := postSingle(t, c, vectorRequest(t, name))
		assert.Equal(t, http.StatusOK, answer.Code, "%s: %s", name, answer.Body)
		assert.Equal(t, "passed", s.VerifyStatus, name)
	}
	stop(t, c)
	requireSound(t, settings)
	assert.Equal(t, map[string]int{"4f6b9b4e-5ac1-4a3f-9b43-7b1a3b1b6a10": 1}, readStore(t, settings.Store()).Records,
		"one record, whoever signed it; nothing of what was refused")
}

// A producer's chain is followed over a kill: what is in order stays without a
// finding, a gap has one, and a retry is none.
func TestProducerChainOverKills(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	previous := ""
	record := func(number int64) plog.Logs {
		logs := testbed.OTLPRecords("x", fmt.Sprintf("chained-%d", number))
		attributes := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes()
		attributes.PutStr(audit.AttributeSequenceStreamID, "8d7d8c38-3d5e-4c2e-8f0e-0c3a5a0f4d11")
		attributes.PutInt(audit.AttributeSequenceNumber, number)
		if previous != "" {
			attributes.PutStr(audit.AttributeSequencePreviousHash, previous)
		}
		return logs
	}
	for number := int64(1); number <= 6; number++ {
		sent := record(number)
		for range 2 { // and again, as after an answer that was lost
			answer, s := postSingle(t, c, sent)
			require.Equal(t, http.StatusOK, answer.Code, answer.Body)
			require.Empty(t, s.Reason)
			previous = s.IntegrityHash
		}
		if number%2 == 0 {
			require.NoError(t, c.Kill())
			c = start(t, settings)
		}
	}
	answer, s := postSingle(t, c, record(8))
	assert.Equal(t, http.StatusOK, answer.Code, answer.Body)
	assert.Contains(t, s.Reason, "audit.sequence: gap")
	stop(t, c)
	requireSound(t, settings)
}
