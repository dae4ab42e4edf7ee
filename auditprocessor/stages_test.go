// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// TestCleanRecordStays takes a valid record through the stages: nothing is
// added to it, and the hashes are those of its canonical bytes.
func TestCleanRecordStays(t *testing.T) {
	logs, _ := validLogs()
	before := canonicalOf(t, logs)
	verdicts, counts := testStages(t).apply(logs, "", true)

	require.Len(t, verdicts, 1)
	assert.Equal(t, before, canonicalOf(t, logs))
	assert.Equal(t, tally{}, counts)
	start := strings.Index(before, `"record":`) + len(`"record":`)
	end := strings.Index(before, `,"resource":`)
	assert.Equal(t, verdict{
		recordID:  "01935a3c-7c5b-7aaa-8bbb-0123456789ab",
		stream:    "service:shop",
		digest:    sha256.Sum256([]byte(before)),
		integrity: sha256.Sum256([]byte(before[start:end])),
	}, verdicts[0])

	verdicts, _ = testStages(t).apply(logs, "", false)
	assert.Zero(t, verdicts[0].integrity, "costs a hash, and nobody asked")
}

// TestWhatIsValidStays takes a record with everything that a record may have
// through the stages: nothing of it is changed, flagged or left out.
func TestWhatIsValidStays(t *testing.T) {
	logs, record := validLogs()
	scope := logs.ResourceLogs().At(0).ScopeLogs().At(0).Scope()
	scope.SetName("lib")
	scope.SetVersion("1.2")
	record.SetTraceID(pcommon.TraceID{1})
	record.SetSpanID(pcommon.SpanID{2})
	record.SetSeverityNumber(plog.SeverityNumberWarn)
	record.SetSeverityText("WARN")
	record.SetFlags(1)
	record.Body().SetStr("free text")
	for name, value := range map[string]string{
		audit.AttributeTargetID: "7", audit.AttributeTargetType: "invoice", audit.AttributeSourceID: "203.0.113.42", audit.AttributeSourceType: "ipv4",
		audit.AttributeSchemaVersion: "1.0.0", audit.AttributeIntegrityValue: "c2ln", audit.AttributeIntegritySigner: "producer",
		audit.AttributeIntegrityCanonicalization: "jcs", audit.AttributeSequenceStreamID: "s", audit.AttributeSequencePreviousHash: strings.Repeat("0a", 32),
		audit.AttributeSequencePreviousRecordID: "r",
	} {
		record.Attributes().PutStr(name, value)
	}
	record.Attributes().PutInt(audit.AttributeSequenceNumber, 2)
	record.Attributes().PutBool(audit.AttributeSequenceEnd, true)
	before := canonicalOf(t, logs)
	verdicts, counts := testStages(t).apply(logs, "", false)
	assert.Equal(t, before, canonicalOf(t, logs))
	assert.Equal(t, tally{}, counts)
	assert.Empty(t, verdicts[0].reasons)
	assert.Equal(t, "service:shop", verdicts[0].stream)
}

// TestRunsTwiceTheSame takes a record that every stage touches through the
// stages again: it moves to a hop, and is not redacted a second time.
func TestRunsTwiceTheSame(t *testing.T) {
	logs, record := validLogs()
	record.Attributes().PutStr("password", "Tr0ub4dor")
	record.Attributes().PutStr("note", "token=Tr0ub4dor")
	s := testStages(t)
	_, first := s.apply(logs, "", false)
	_, second := s.apply(logs, "", false)

	assert.Equal(t, int64(1), first.redacted[ruleKey])
	assert.Equal(t, int64(1), first.redacted[ruleAssignment])
	assert.Zero(t, second.redacted)
	assert.NotNil(t, rawAttribute(record, "audit.integrity.hop.0.collector.masked"))
	assert.Nil(t, rawAttribute(record, audit.AttributeCollectorMasked))
}

func TestHop(t *testing.T) {
	logs, record := validLogs()
	a := record.Attributes()
	a.PutStr(audit.AttributeChainHash, "00ff")
	a.PutInt(audit.AttributeChainIndex, 7)
	a.PutStr(audit.AttributeCollectorTenant, "forged")
	a.PutEmptySlice(audit.AttributeCollectorFlagged).AppendEmpty().SetStr("forged")
	a.PutStr(audit.PrefixHop+"0.chain.hash", "earlier")
	a.PutStr(audit.PrefixHop+"2.chain.hash", "odd")
	a.PutStr(audit.PrefixIntegrity+"value", "c2ln")
	verdicts, _ := testStages(t).apply(logs, "acme", false)

	assert.Equal(t, "tenant:acme", verdicts[0].stream)
	assert.Equal(t, map[string]any{
		"audit.integrity.collector.tenant":        "acme",
		"audit.integrity.hop.0.chain.hash":        "earlier",
		"audit.integrity.hop.1.chain.hash":        "00ff",
		"audit.integrity.hop.1.chain.index":       int64(7),
		"audit.integrity.hop.1.collector.tenant":  "forged",
		"audit.integrity.hop.1.collector.flagged": []any{"forged"},
		"audit.integrity.hop.2.chain.hash":        "odd",
		"audit.integrity.value":                   "c2ln",
	}, integrityOf(record))
}

func integrityOf(record plog.LogRecord) map[string]any {
	found := map[string]any{}
	for key, value := range record.Attributes().All() {
		if strings.HasPrefix(key, audit.PrefixIntegrity) {
			found[key] = value.AsRaw()
		}
	}
	return found
}

// TestHopIsBounded sends more forged attributes than a seal has.
func TestHopIsBounded(t *testing.T) {
	logs, record := validLogs()
	for i := range 3 * maxHopAttributes {
		record.Attributes().PutInt(audit.PrefixChain+fmt.Sprint(i), 1)
	}
	testStages(t).apply(logs, "", false)
	assert.Len(t, integrityOf(record), maxHopAttributes+1)
	assert.Contains(t, rawAttribute(record, audit.AttributeCollectorTruncated), "audit.integrity.hop.0")
}

// TestProofsOfChangedRecords: beside a masked field of few possible values, a
// signature over the original is an oracle.
func TestProofsOfChangedRecords(t *testing.T) {
	proofs := []string{
		audit.PrefixIntegrity + "value", audit.PrefixIntegrity + "new_value", audit.PrefixIntegrity + "value.0",
		audit.PrefixIntegrity + "hash", audit.AttributeChainHash,
	}
	for name, change := range map[string]func(plog.LogRecord){
		"redacted":  func(r plog.LogRecord) { r.Attributes().PutStr("pin", "1234") },
		"truncated": func(r plog.LogRecord) { r.Body().SetStr(strings.Repeat("x", 100_000)) },
	} {
		t.Run(name, func(t *testing.T) {
			logs, record := validLogs()
			for _, proof := range proofs {
				record.Attributes().PutStr(proof, "c2lnbmF0dXJl")
			}
			record.Attributes().PutStr(audit.PrefixIntegrity+"algorithm", "EdDSA")
			change(record)
			_, counts := testStages(t).apply(logs, "", false)
			assert.NotContains(t, everything(t, logs), "c2lnbmF0dXJl")
			assert.Equal(t, "EdDSA", rawAttribute(record, audit.PrefixIntegrity+"algorithm"))
			assert.EqualValues(t, len(proofs), counts.redacted[ruleSignature])
		})
	}
}

func TestRepair(t *testing.T) {
	deep := func(r plog.LogRecord) {
		value := r.Body()
		for range 200 {
			value = value.SetEmptySlice().AppendEmpty()
		}
		value.SetStr("password=Tr0ub4dor")
	}
	for name, test := range map[string]struct {
		breakIt func(plog.Logs, plog.LogRecord)
		reason  string
	}{
		"event name":   {func(_ plog.Logs, r plog.LogRecord) { r.SetEventName("a\xff") }, "event_name: invalid utf-8"},
		"severity":     {func(_ plog.Logs, r plog.LogRecord) { r.SetSeverityText("a\xff") }, "severity.text: invalid utf-8"},
		"text":         {func(_ plog.Logs, r plog.LogRecord) { r.Attributes().PutStr("a", "\xff") }, "a: invalid utf-8"},
		"id":           {func(_ plog.Logs, r plog.LogRecord) { r.Attributes().PutStr(audit.AttributeRecordID, "a\xff") }, "audit.record.id: invalid utf-8"},
		"name":         {func(_ plog.Logs, r plog.LogRecord) { r.Attributes().PutStr("a\xff", "") }, "a\uFFFD: invalid utf-8 in the name"},
		"not a number": {func(_ plog.Logs, r plog.LogRecord) { r.Attributes().PutDouble("a", math.NaN()) }, "a: number is not finite"},
		"infinity":     {func(_ plog.Logs, r plog.LogRecord) { r.Body().SetDouble(math.Inf(-1)) }, "body: number is not finite"},
		"timestamp":    {func(_ plog.Logs, r plog.LogRecord) { r.SetTimestamp(1 << 63) }, "timestamp: 2^63 ns or more"},
		"observed":     {func(_ plog.Logs, r plog.LogRecord) { r.SetObservedTimestamp(math.MaxUint64) }, "observed_timestamp: 2^63 ns or more"},
		"repeated":     {func(_ plog.Logs, r plog.LogRecord) { repeat(r.Attributes(), "a", "1", "2") }, "a: repeated name, the last was kept"},
		"depth":        {func(_ plog.Logs, r plog.LogRecord) { deep(r) }, "nested deeper than 64"},
		"dropped":      {func(_ plog.Logs, r plog.LogRecord) { r.SetDroppedAttributesCount(3) }, "attributes: the sender had dropped 3 attributes"},
		"resource": {func(l plog.Logs, _ plog.LogRecord) {
			l.ResourceLogs().At(0).Resource().Attributes().PutStr("a", "\xff")
		}, "resource.a: invalid utf-8"},
		"resource name": {func(l plog.Logs, _ plog.LogRecord) {
			repeat(l.ResourceLogs().At(0).Resource().Attributes(), "a", "1", "2")
		}, "resource.a: repeated name, the last was kept"},
		"scope":          {func(l plog.Logs, _ plog.LogRecord) { l.ResourceLogs().At(0).ScopeLogs().At(0).Scope().SetName("\xff") }, "scope.name: invalid utf-8"},
		"schema":         {func(l plog.Logs, _ plog.LogRecord) { l.ResourceLogs().At(0).SetSchemaUrl("\xff") }, "resource.schema_url: invalid utf-8"},
		"scope's schema": {func(l plog.Logs, _ plog.LogRecord) { l.ResourceLogs().At(0).ScopeLogs().At(0).SetSchemaUrl("\xff") }, "scope.schema_url: invalid utf-8"},
	} {
		t.Run(name, func(t *testing.T) {
			logs, record := validLogs()
			test.breakIt(logs, record)
			verdicts, counts := testStages(t).apply(logs, "", false)
			require.Len(t, verdicts, 1)
			assert.Contains(t, strings.Join(verdicts[0].reasons, "\n"), test.reason)
			assert.Equal(t, "flagged:service:shop", verdicts[0].stream)
			assert.False(t, verdicts[0].refused)
			sum := sha256.Sum256([]byte(canonicalOf(t, logs)))
			assert.Equal(t, chain.Hash(sum), verdicts[0].digest)
			assert.NotEmpty(t, rawAttribute(record, audit.AttributeCollectorRepaired))
			assert.Subset(t, rawAttribute(record, audit.AttributeCollectorFlagged), rawAttribute(record, audit.AttributeCollectorRepaired))
			assert.LessOrEqual(t, counts.repaired, int64(1))

			logs, record = validLogs()
			test.breakIt(logs, record)
			strict := testStages(t, withValidation(func(v *ValidationConfig) { v.OnInvalid = onInvalidReject }))
			verdicts, _ = strict.apply(logs, "", false)
			assert.True(t, verdicts[0].refused)
			assert.Zero(t, verdicts[0].digest)
		})
	}
}

func TestRepairKeepsValues(t *testing.T) {
	logs, record := validLogs()
	record.SetTimestamp(math.MaxUint64)
	repeat(record.Attributes(), "a", "1", "2")
	m := record.Attributes().PutEmptyMap("m")
	m.PutStr("k\xff", "1")
	m.PutStr("k\xfe", "2")
	m.PutStr("k\uFFFD", "3")
	m.PutDouble("n", math.NaN())
	testStages(t).apply(logs, "", false)

	assert.Equal(t, "18446744073709551615", rawAttribute(record, attributeOriginalTimestamp))
	assert.Equal(t, "2", rawAttribute(record, "a"))
	assert.Equal(t, map[string]any{"k\uFFFD": "3", "k\uFFFD#2": "1", "k\uFFFD#3": "2", "n": "NaN"}, rawAttribute(record, "m"))
}

func TestFill(t *testing.T) {
	logs, record := validLogs()
	record.Attributes().Remove(audit.AttributeRecordID)
	record.SetObservedTimestamp(0)
	record.SetEventName("")
	verdicts, _ := testStages(t).apply(logs, "", false)

	assert.Empty(t, verdicts[0].reasons)
	assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, verdicts[0].recordID)
	assert.Equal(t, verdicts[0].recordID, rawAttribute(record, audit.AttributeRecordID))
	assert.Equal(t, testNow, record.ObservedTimestamp().AsTime())
	assert.Equal(t, "LOGIN", record.EventName())
	assert.Equal(t, []any{audit.AttributeRecordID, nameObserved, nameEventName}, rawAttribute(record, audit.AttributeCollectorFilled))
}

func TestFillTakesRecordUID(t *testing.T) {
	for uid, taken := range map[string]bool{"01J9": true, "": false, " ": false, strings.Repeat("x", 257): false} {
		logs, record := validLogs()
		record.Attributes().Remove(audit.AttributeRecordID)
		record.Attributes().PutStr(attributeRecordUID, uid)
		verdicts, _ := testStages(t).apply(logs, "", false)
		assert.Equal(t, taken, verdicts[0].recordID == uid, "%q", uid)
		assert.NotEmpty(t, verdicts[0].recordID)
	}
}

// TestScopeDecidesNothing: whatever the scope says, the record has the same
// stream, verdict and signed form, and the scope is kept.
func TestScopeDecidesNothing(t *testing.T) {
	plain, _ := validLogs()
	want, _ := testStages(t).apply(plain, "", true)
	logs, _ := validLogs()
	scope := logs.ResourceLogs().At(0).ScopeLogs().At(0).Scope()
	scope.SetName("audit.drop")
	scope.SetVersion("7")
	scope.Attributes().PutStr(attributeServiceName, "another")
	scope.Attributes().PutStr(audit.AttributeTenantID, "globex")
	got, counts := testStages(t).apply(logs, "", true)
	assert.Equal(t, tally{}, counts)
	assert.Contains(t, canonicalOf(t, logs), `"scope":{"attributes":{"audit.tenant.id":{"stringValue":"globex"},"service.name":{"stringValue":"another"}},"name":"audit.drop","version":"7"}`)
	assert.NotEqual(t, want[0].digest, got[0].digest, "it is inside the digest")
	got[0].digest = want[0].digest
	assert.Equal(t, want, got)
}

// TestScopeIsLimited: a scope is cut like anything else, and the record says so.
func TestScopeIsLimited(t *testing.T) {
	logs, record := validLogs()
	scope := logs.ResourceLogs().At(0).ScopeLogs().At(0).Scope()
	long := strings.Repeat("x", 30_000)
	scope.SetName(long)
	scope.SetVersion(long)
	scope.Attributes().PutStr("huge", long)
	verdicts, counts := testStages(t).apply(logs, "", false)
	assert.Empty(t, verdicts[0].reasons)
	assert.EqualValues(t, 3, counts.truncated[cutGroup])
	most := newLimitsConfig().MaxRecordBytes
	assert.LessOrEqual(t, len(scope.Name()), most/nameShare)
	assert.LessOrEqual(t, len(scope.Version()), most/nameShare)
	huge, _ := scope.Attributes().Get("huge")
	assert.LessOrEqual(t, len(huge.AsString()), most/scopeShare)
	assert.Equal(t, map[string]any{"scope.name": int64(30_000), "scope.version": int64(30_000), "scope.huge": int64(30_018)},
		rawAttribute(record, audit.AttributeCollectorTruncated))
}

func TestValidate(t *testing.T) {
	set := func(name, value string) func(plog.LogRecord) {
		return func(r plog.LogRecord) { r.Attributes().PutStr(name, value) }
	}
	remove := func(name string) func(plog.LogRecord) {
		return func(r plog.LogRecord) { r.Attributes().Remove(name) }
	}
	long := strings.Repeat("x", 100_000)
	for name, test := range map[string]struct {
		change func(plog.LogRecord)
		want   []string
	}{
		"blank id":       {set(audit.AttributeRecordID, " \t"), []string{"audit.record.id: blank"}},
		"long id":        {set(audit.AttributeRecordID, long), []string{"audit.record.id: longer than 256 bytes"}},
		"any id":         {set(audit.AttributeRecordID, "é 7"), nil},
		"actor id":       {remove(audit.AttributeActorID), []string{"audit.actor.id: required"}},
		"blank actor":    {set(audit.AttributeActorID, " \t"), []string{"audit.actor.id: blank"}},
		"actor type":     {set(audit.AttributeActorType, "robot"), []string{"audit.actor.type: must be user, service or system"}},
		"a service":      {set(audit.AttributeActorType, "service"), nil},
		"a system":       {set(audit.AttributeActorType, "system"), nil},
		"failure":        {set(audit.AttributeOutcome, "failure"), nil},
		"unknown":        {set(audit.AttributeOutcome, "unknown"), nil},
		"lower case":     {set(audit.AttributeAction, "login"), nil},
		"action":         {set(audit.AttributeAction, ""), []string{"audit.action: required"}},
		"long action":    {set(audit.AttributeAction, long), []string{"audit.action: longer than 256 bytes"}}, // W26
		"outcome":        {set(audit.AttributeOutcome, "SUCCESS"), []string{"audit.outcome: must be success, failure or unknown"}},
		"target":         {set(audit.AttributeTargetID, "7"), []string{"audit.target.type: required beside audit.target.id"}},
		"integer id":     {func(r plog.LogRecord) { r.Attributes().PutInt(audit.AttributeActorID, 7) }, []string{"audit.actor.id: must be a string"}},
		"version":        {func(r plog.LogRecord) { r.Attributes().PutInt(audit.AttributeSchemaVersion, 1) }, []string{"audit.schema.version: must be a string"}},
		"metadata":       {set(audit.AttributeMetadata, "x"), []string{"audit.metadata: must be a map"}},
		"diff":           {set(audit.AttributeDiff, "x"), []string{"audit.diff: must be a map or a list"}},
		"roles":          {set(audit.AttributeActorRoles, "x"), []string{"audit.actor.roles: must be a list"}},
		"tenant":         {set(audit.AttributeTenantID, "other"), []string{"audit.tenant.id: is not the authenticated tenant"}},
		"long request":   {set(audit.AttributeRequestID, long), []string{"audit.request.id: longer than 256 bytes"}},
		"no time":        {func(r plog.LogRecord) { r.SetTimestamp(0) }, []string{"timestamp: required"}},
		"long event":     {func(r plog.LogRecord) { r.SetEventName(long) }, []string{"event_name: longer than 256 bytes"}},
		"blank event":    {func(r plog.LogRecord) { r.SetEventName("  ") }, []string{"event_name: required"}},
		"future":         {func(r plog.LogRecord) { r.SetTimestamp(pcommon.NewTimestampFromTime(testNow.Add(5*time.Minute + 1))) }, []string{"timestamp: more than 5m0s in the future"}},
		"edge of future": {func(r plog.LogRecord) { r.SetTimestamp(pcommon.NewTimestampFromTime(testNow.Add(5 * time.Minute))) }, nil},
		"observed first": {func(r plog.LogRecord) { r.SetObservedTimestamp(r.Timestamp() - 1) }, nil},
		"observed late":  {func(r plog.LogRecord) { r.SetObservedTimestamp(pcommon.NewTimestampFromTime(testNow.Add(time.Hour))) }, nil},
		"source type":    {set(audit.AttributeSourceType, "carrier pigeon"), nil},
		"the past":       {func(r plog.LogRecord) { r.SetTimestamp(1) }, nil},
		"all at once": {func(r plog.LogRecord) { r.Attributes().Clear(); r.SetEventName(""); r.SetTimestamp(0) }, []string{
			"event_name: required", "audit.actor.id: required", "audit.actor.type: required",
			"audit.action: required", "audit.outcome: required", "timestamp: required",
		}},
		"valid": {func(plog.LogRecord) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			logs, record := validLogs()
			test.change(record)
			verdicts, _ := testStages(t).apply(logs, "acme", false)
			assert.Equal(t, test.want, verdicts[0].reasons)
			if len(test.want) > 0 {
				assert.Equal(t, "flagged:tenant:acme", verdicts[0].stream)
				assert.Len(t, rawAttribute(record, audit.AttributeCollectorFlagged), len(test.want))
			} else {
				assert.Equal(t, "tenant:acme", verdicts[0].stream)
			}

			logs, record = validLogs()
			test.change(record)
			strict := testStages(t, withValidation(func(v *ValidationConfig) { v.OnInvalid = onInvalidReject }))
			verdicts, _ = strict.apply(logs, "acme", false)
			assert.Equal(t, test.want, verdicts[0].reasons)
			assert.Equal(t, len(test.want) > 0, verdicts[0].refused)
		})
	}
}

func TestActionNaming(t *testing.T) {
	s := testStages(t, withValidation(func(v *ValidationConfig) {
		v.Action = ActionConfig{Pattern: `^[a-z]+\.[a-z]+$`, DenyUUID: true}
	}))
	logs, record := validLogs()
	record.Attributes().PutStr(audit.AttributeAction, "DELETE-01935a3c-7c5b-7aaa-8bbb-0123456789ab")
	verdicts, _ := s.apply(logs, "", false)
	assert.Equal(t, []string{"audit.action: holds a UUID: put it into an attribute"}, verdicts[0].reasons)

	for name, want := range map[string][]string{
		"user.login": nil,
		"UserLogin":  {"event_name: does not match `validation::action::pattern`"},
		"user.01935a3c-7c5b-7aaa-8bbb-0123456789ab.delete": {
			"event_name: does not match `validation::action::pattern`", "event_name: holds a UUID: put it into an attribute",
		},
	} {
		logs, record := validLogs()
		record.SetEventName(name)
		verdicts, counts := s.apply(logs, "", false)
		assert.Equal(t, want, verdicts[0].reasons)
		assert.EqualValues(t, min(len(want), 1), counts.flagged[codeNaming])
	}
}

func TestStream(t *testing.T) {
	for _, test := range []struct{ auth, tenant, service, want string }{
		{"acme", "acme", "shop", "tenant:acme"},
		{"", "globex", "shop", "tenant:globex"},
		{"", "", "shop", "service:shop"},
		{"", "", "", "none:"},
		{"", strings.Repeat("x", 249), "", "tenant:" + strings.Repeat("x", 249)},
		{"", strings.Repeat("x", 250), "", "overflow:"},
		{"acme", "globex", "", "flagged:tenant:acme"},
	} {
		logs, record := validLogs()
		resource := logs.ResourceLogs().At(0).Resource().Attributes()
		resource.PutStr(attributeServiceName, test.service)
		record.Attributes().PutStr(audit.AttributeTenantID, test.tenant)
		verdicts, _ := testStages(t).apply(logs, test.auth, false)
		assert.Equal(t, test.want, verdicts[0].stream)
	}
	logs, _ := validLogs()
	logs.ResourceLogs().At(0).Resource().Attributes().Clear()
	verdicts, _ := testStages(t).apply(logs, "", false)
	assert.Equal(t, "none:", verdicts[0].stream, "no resource at all")
	assert.Empty(t, verdicts[0].reasons)
}

// Names that take more room in JSON than in memory are names all the same.
func TestLongTenantsStayApart(t *testing.T) {
	name := strings.Repeat(`"`, 248)
	streams := map[string]bool{}
	for _, tenant := range []string{name + "a", name + "b"} {
		logs, record := validLogs()
		record.Attributes().PutStr(audit.AttributeTenantID, tenant)
		verdicts, _ := testStages(t).apply(logs, tenant, false)
		assert.Empty(t, verdicts[0].reasons, "the record names the same tenant")
		assert.Equal(t, tenant, rawAttribute(record, audit.AttributeCollectorTenant))
		streams[verdicts[0].stream] = true
	}
	assert.Len(t, streams, 2)
}

// TestProtectedFieldsStay is W9: a pattern must not destroy what a record is
// found, deduplicated and chained by.
func TestProtectedFieldsStay(t *testing.T) {
	protected := map[string]string{
		audit.AttributeRecordID: "rec-4111111111111111", audit.AttributeActorID: "token=4111111111111111",
		audit.AttributeActorType: "user", audit.AttributeAction: "4111 1111 1111 1111", audit.AttributeOutcome: "success",
		audit.AttributeTargetID: "4111111111111111", audit.AttributeTargetType: "password=card",
		audit.AttributeTenantID: "4111111111111111", audit.AttributeRequestID: "4111111111111111", audit.AttributeTraceID: "4111111111111111",
	}
	s := testStages(t, withRedaction(func(r *RedactionConfig) { r.KeyPatterns = []string{"id$", "audit"} }))
	logs, record := validLogs()
	record.SetEventName("password=Tr0ub4dor")
	for name, value := range protected {
		record.Attributes().PutStr(name, value)
	}
	record.Attributes().PutStr("customerId", "7")
	verdicts, _ := s.apply(logs, "", false)
	for name, value := range protected {
		assert.Equal(t, value, rawAttribute(record, name), name)
	}
	assert.Equal(t, "password=Tr0ub4dor", record.EventName())
	assert.Equal(t, "***", rawAttribute(record, "customerId"))
	assert.Equal(t, "rec-4111111111111111", verdicts[0].recordID)
}

// TestInputStaysOfItsCaller is W7: what a caller holds is not masked with it.
func TestInputStaysOfItsCaller(t *testing.T) {
	held := pcommon.NewMap()
	held.PutStr("password", "Tr0ub4dor")
	held.PutEmptyBytes("raw").FromRaw([]byte("token=Tr0ub4dor"))
	logs, record := validLogs()
	held.CopyTo(record.Attributes().PutEmptyMap(audit.AttributeMetadata))
	testStages(t).apply(logs, "", false)
	assert.Equal(t, map[string]any{"password": "Tr0ub4dor", "raw": []byte("token=Tr0ub4dor")}, held.AsRaw())
	assert.Equal(t, map[string]any{"password": "***", "raw": []byte("token=***")}, rawAttribute(record, audit.AttributeMetadata))
}

func TestRedactionSettings(t *testing.T) {
	s := testStages(t, withRedaction(func(r *RedactionConfig) {
		r.Mask = "[gone]"
		r.Keys = []string{"iban", "customer number"}
		r.IgnoreKeys = []string{"token_name", "pwd"}
		r.KeyPatterns = []string{"^x_"}
		r.Paths = []string{"metadata.person.email", "metadata.rows.*.1", "body.note", "resource.host.ip", "scope.name"}
		r.Detectors.Email = true
		r.Detectors.Card = false
	}))
	logs, record := validLogs()
	logs.ResourceLogs().At(0).Resource().Attributes().PutStr("host.ip", "10.0.0.1")
	scope := logs.ResourceLogs().At(0).ScopeLogs().At(0).Scope()
	scope.SetName("private")
	require.NoError(t, record.Body().SetEmptyMap().FromRaw(map[string]any{"note": "n", "x": "bob@example.com wrote"}))
	require.NoError(t, record.Attributes().PutEmptyMap(audit.AttributeMetadata).FromRaw(map[string]any{
		"IBAN": "DE1", "customerNumber": 7, "pwd": "password=x", "X_y": true, "card": "4111111111111111",
		"person": map[string]any{"email": "e", "name": "n"},
		"rows":   []any{[]any{"a", "b"}, []any{"c", "d"}},
		"json":   `{"iban":"DE1"}`,
	}))
	_, counts := s.apply(logs, "", false)
	assert.Equal(t, map[string]any{
		"IBAN": "[gone]", "customerNumber": "[gone]", "pwd": "password=x", "X_y": "[gone]", "card": "4111111111111111",
		"person": map[string]any{"email": "[gone]", "name": "n"},
		"rows":   []any{[]any{"a", "[gone]"}, []any{"c", "[gone]"}},
		"json":   `{"iban":"[gone]"}`,
	}, rawAttribute(record, audit.AttributeMetadata))
	assert.Equal(t, map[string]any{"note": "[gone]", "x": "[gone] wrote"}, record.Body().AsRaw())
	host, _ := logs.ResourceLogs().At(0).Resource().Attributes().Get("host.ip")
	assert.Equal(t, "[gone]", host.Str())
	assert.Equal(t, "[gone]", scope.Name())
	assert.EqualValues(t, 6, counts.redacted[rulePath])
	assert.EqualValues(t, 1, counts.redacted[ruleEmail])
	assert.EqualValues(t, 1, counts.redacted[rulePattern])
}

// TestPathsIntoJSON: a path goes on inside a string of JSON, and may name the
// body itself.
func TestPathsIntoJSON(t *testing.T) {
	s := testStages(t, withRedaction(func(r *RedactionConfig) {
		r.Paths = []string{"metadata.doc.rows.1", "metadata.doc.*.iban", "body"}
		r.IgnoreKeys = []string{"pwd"}
	}))
	logs, record := validLogs()
	record.Body().SetInt(7)
	doc := `{"rows":[1,2,3], "a":{"iban":"DE1"}, "pwd":"/home", "4111111111111111":null}`
	record.Attributes().PutEmptyMap(audit.AttributeMetadata).PutStr("doc", doc)
	s.apply(logs, "", false)
	assert.Equal(t, map[string]any{"doc": `{"rows":[1,"***",3], "a":{"iban":"***"}, "pwd":"/home", "***":null}`},
		rawAttribute(record, audit.AttributeMetadata))
	assert.Equal(t, "***", record.Body().Str())
	assert.ElementsMatch(t, []any{
		"audit.metadata.doc.rows[1]", "audit.metadata.doc.a.iban", "audit.metadata.doc.***", "body",
	}, rawAttribute(record, audit.AttributeCollectorMasked))
}

func TestRemoveMode(t *testing.T) {
	s := testStages(t, withRedaction(func(r *RedactionConfig) { r.Mode = modeRemove }))
	logs, record := validLogs()
	require.NoError(t, record.Attributes().PutEmptyMap("m").FromRaw(map[string]any{
		"password": "x", "card": 4111111111111111, "note": "token=abc def", "name": "API_KEY", "value": "x",
	}))
	s.apply(logs, "", false)
	assert.Equal(t, map[string]any{"note": "token=*** def", "name": "API_KEY"}, rawAttribute(record, "m"))
	assert.ElementsMatch(t, []any{"m.password", "m.card", "m.note", "m.value"}, rawAttribute(record, audit.AttributeCollectorMasked))
}

func TestRedactionOff(t *testing.T) {
	s := testStages(t, withRedaction(func(r *RedactionConfig) { r.Enabled = false; r.Paths = []string{"note", "scope.name"} }))
	logs, record := validLogs()
	logs.ResourceLogs().At(0).ScopeLogs().At(0).Scope().SetName("x")
	record.Attributes().PutStr("password", "Tr0ub4dor")
	record.Attributes().PutStr("note", "4111111111111111")
	record.Attributes().PutEmptyMap("a 4111111111111111").PutStr("token", "x")
	before := canonicalOf(t, logs)
	s.apply(logs, "", false)
	assert.Equal(t, before, canonicalOf(t, logs))
}

func TestLimits(t *testing.T) {
	s := testStages(t, withLimits(func(l *LimitsConfig) {
		l.MaxRecordBytes, l.MaxMetadataBytes, l.MaxDiffBytes = 8192, 1024, 1024
		l.MaxStringBytes, l.MaxDepth, l.MaxAttributes = 4096, 3, 16
	}))
	marker := func(n int64) map[string]any {
		return map[string]any{"_truncated": true, "_marker": "[TRUNCATED]", "_originalBytes": n}
	}
	logs, record := validLogs()
	a := record.Attributes()
	a.PutEmptyMap(audit.AttributeMetadata).PutStr("a", strings.Repeat("x", 1000))
	a.PutEmptyMap(audit.AttributeDiff).PutStr("a", strings.Repeat("x", 1100))
	a.PutStr("long", strings.Repeat("é", 3000))
	require.NoError(t, a.PutEmpty("deep").FromRaw(map[string]any{"a": map[string]any{"b": map[string]any{"c": []any{"d"}}}}))
	verdicts, counts := s.apply(logs, "", false)

	assert.Empty(t, verdicts[0].reasons)
	assert.Equal(t, map[string]any{"a": strings.Repeat("x", 1000)}, mustMap(rawAttribute(record, audit.AttributeMetadata)))
	assert.Equal(t, marker(1124), rawAttribute(record, audit.AttributeDiff))
	assert.Equal(t, strings.Repeat("é", (4096-len(markerText))/2)+markerText, rawAttribute(record, "long"))
	assert.Equal(t, map[string]any{"a": map[string]any{"b": map[string]any{"c": marker(21)}}}, rawAttribute(record, "deep"))
	assert.Equal(t, map[string]any{
		"audit.diff": int64(1124), "long": int64(6000), "deep.a.b.c": int64(21),
	}, rawAttribute(record, audit.AttributeCollectorTruncated))
	assert.Equal(t, [truncationCount]int64{cutDiff: 1, cutAttribute: 2}, counts.truncated)

	logs, record = validLogs()
	for i := range 40 {
		record.Attributes().PutInt(fmt.Sprint(i), 1)
	}
	s.apply(logs, "", false)
	assert.Equal(t, 16+1, record.Attributes().Len(), "and the mark")
	assert.NotNil(t, rawAttribute(record, audit.AttributeRecordID))

	logs, record = validLogs()
	record.Attributes().PutStr(audit.AttributeRecordID, strings.Repeat("x", 5000))
	verdicts, _ = s.apply(logs, "", false)
	assert.Equal(t, []string{"audit.record.id: longer than 256 bytes"}, verdicts[0].reasons)
	assert.Less(t, len(rawAttribute(record, audit.AttributeRecordID).(string)), 5000)
	assert.Contains(t, rawAttribute(record, audit.AttributeCollectorTruncated), audit.AttributeRecordID)
}

func mustMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// TestLargestFirst cuts the large part and leaves the small ones.
func TestLargestFirst(t *testing.T) {
	s := testStages(t, withLimits(func(l *LimitsConfig) { l.MaxRecordBytes = 4096 }))
	logs, record := validLogs()
	record.Body().SetStr(strings.Repeat("b\n", 1500))
	record.Attributes().PutStr("small", strings.Repeat("s", 500))
	s.apply(logs, "", false)
	size := len(canonicalOf(t, logs))
	assert.LessOrEqual(t, size, 4096)
	assert.Greater(t, size, 3900, "no more is cut than has to be")
	assert.Equal(t, strings.Repeat("s", 500), rawAttribute(record, "small"))
	assert.True(t, strings.HasSuffix(record.Body().Str(), markerText))
	assert.Equal(t, map[string]any{"body": int64(3000)}, rawAttribute(record, audit.AttributeCollectorTruncated))
}

func TestOversizeReject(t *testing.T) {
	s := testStages(t, withLimits(func(l *LimitsConfig) {
		l.Oversize, l.MaxRecordBytes, l.MaxMetadataBytes, l.MaxDepth, l.MaxStringBytes = oversizeReject, 4096, 1024, 2, 3000
	}))
	for want, change := range map[string]func(plog.LogRecord){
		"record: 4": func(r plog.LogRecord) {
			r.Attributes().PutStr("a", strings.Repeat("x", 2000))
			r.Attributes().PutStr("b", strings.Repeat("x", 2000))
		},
		"audit.metadata: ": func(r plog.LogRecord) {
			r.Attributes().PutEmptyMap(audit.AttributeMetadata).PutStr("a", strings.Repeat("x", 1100))
		},
		"record: nested deeper than `limits::max_depth` 2": func(r plog.LogRecord) {
			r.Body().SetEmptySlice().AppendEmpty().SetEmptySlice().AppendEmpty().SetEmptySlice().AppendEmpty().SetStr("x")
		},
		"record: holds a string longer": func(r plog.LogRecord) { r.Body().SetStr(strings.Repeat("x", 3001)) },
	} {
		logs, record := validLogs()
		change(record)
		verdicts, counts := s.apply(logs, "", false)
		require.NotEmpty(t, verdicts[0].reasons, want)
		assert.True(t, verdicts[0].refused)
		assert.True(t, strings.HasPrefix(verdicts[0].reasons[0], want), verdicts[0].reasons[0])
		assert.EqualValues(t, 1, counts.flagged[codeOversize])
		assert.Nil(t, rawAttribute(record, audit.AttributeCollectorTruncated))
	}
}

// What is wrong with a resource refuses all its records, what is wrong with a
// scope those of that scope alone.
func TestGroupsOversizeReject(t *testing.T) {
	s := testStages(t, withLimits(func(l *LimitsConfig) { l.Oversize = oversizeReject }))
	huge := strings.Repeat("x", 30_000)
	for want, change := range map[string]func(plog.ResourceLogs){
		"true true true":   func(r plog.ResourceLogs) { r.Resource().Attributes().PutStr("huge", huge) },
		"true false false": func(r plog.ResourceLogs) { r.ScopeLogs().At(0).Scope().Attributes().PutStr("huge", huge) },
		"false true false": func(r plog.ResourceLogs) { r.ScopeLogs().At(1).Scope().Attributes().PutStr("huge", huge) },
	} {
		logs, _ := validLogs()
		r := logs.ResourceLogs().At(0)
		r.ScopeLogs().At(0).CopyTo(r.ScopeLogs().AppendEmpty())
		r.ScopeLogs().At(0).CopyTo(r.ScopeLogs().AppendEmpty())
		change(r)
		v, _ := s.apply(logs, "", false)
		assert.Equal(t, want, fmt.Sprint(v[0].refused, v[1].refused, v[2].refused))
	}
}

// TestGroups: what is redacted in a resource or scope is redacted once and
// marked on each record.
func TestGroups(t *testing.T) {
	logs, _ := validLogs()
	ofResource := logs.ResourceLogs().At(0)
	ofResource.Resource().Attributes().PutStr("db.password", "Tr0ub4dor")
	ofResource.Resource().Attributes().PutStr("huge", strings.Repeat("x", 30_000))
	ofScope := ofResource.ScopeLogs().At(0)
	ofScope.Scope().Attributes().PutStr("url", "redis://:Tr0ub4dor@x")
	ofScope.LogRecords().At(0).CopyTo(ofScope.LogRecords().AppendEmpty())
	other, _ := validLogs()
	other.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	verdicts, counts := testStages(t).apply(logs, "", false)

	require.Len(t, verdicts, 3)
	assert.EqualValues(t, 1, counts.redacted[ruleKey])
	assert.EqualValues(t, 1, counts.redacted[ruleURL])
	assert.EqualValues(t, 1, counts.truncated[cutGroup])
	for i, record := range ofScope.LogRecords().All() {
		assert.Equal(t, []any{"resource.db.password", "scope.url"}, rawAttribute(record, audit.AttributeCollectorMasked), i)
		assert.Contains(t, rawAttribute(record, audit.AttributeCollectorTruncated), "resource.huge")
	}
	last := logs.ResourceLogs().At(1).ScopeLogs().At(0).LogRecords().At(0)
	assert.Empty(t, integrityOf(last), "another group's marks")
}

// A group that is repaired flags all its records, and what the repair let
// redaction find is counted.
func TestRepairedGroupsAreCounted(t *testing.T) {
	logs, _ := validLogs()
	r := logs.ResourceLogs().At(0)
	r.Resource().Attributes().PutDouble("load", math.NaN())
	r.Resource().Attributes().PutStr("url", "redis://:Tr0ub4dor@x/\xff")
	r.ScopeLogs().At(0).Scope().Attributes().PutStr("db.password", "Tr0ub4dor")
	r.ScopeLogs().At(0).LogRecords().At(0).CopyTo(r.ScopeLogs().At(0).LogRecords().AppendEmpty())
	verdicts, counts := testStages(t).apply(logs, "", false)

	for _, v := range verdicts {
		assert.True(t, strings.HasPrefix(v.stream, audit.StreamFlagged))
	}
	assert.EqualValues(t, 2, counts.flagged[codeRepaired])
	assert.EqualValues(t, 1, counts.redacted[ruleURL])
	assert.EqualValues(t, 1, counts.redacted[ruleKey])
}

func TestTally(t *testing.T) {
	a := tally{repaired: 1}
	a.redacted[ruleJWT], a.flagged[codeTenant], a.truncated[cutDiff] = 2, 3, 4
	got := map[string]int64{"repaired": a.repaired}
	collect := func(name string, n int64) { got[name] = n }
	a.eachRedacted(collect)
	a.eachFlagged(collect)
	a.eachTruncated(collect)
	assert.Equal(t, map[string]int64{"repaired": 1, "jwt": 2, "tenant": 3, "diff": 4}, got)
	for _, names := range [][]string{ruleNames[:], reasonNames[:], truncationNames[:]} {
		assert.NotContains(t, names, "", "each has a name")
	}
}

func TestStageConfigs(t *testing.T) {
	require.NoError(t, func() error {
		v, r, l := newValidationConfig(), newRedactionConfig(), newLimitsConfig()
		_, err := newStages(v, r, l, time.Now)
		return err
	}())
	for want, option := range map[string]stagesOption{
		"`validation::on_invalid`":                withValidation(func(v *ValidationConfig) { v.OnInvalid = "drop" }),
		"`validation::clock_skew`":                withValidation(func(v *ValidationConfig) { v.ClockSkew = -1 }),
		"`validation::max_id_bytes`":              withValidation(func(v *ValidationConfig) { v.MaxIDBytes = 1 }),
		"`validation::max_name_bytes`":            withValidation(func(v *ValidationConfig) { v.MaxNameBytes = 0 }),
		"`validation::action::pattern`":           withValidation(func(v *ValidationConfig) { v.Action.Pattern = "(" }),
		"`redaction::mode`":                       withRedaction(func(r *RedactionConfig) { r.Mode = "hide" }),
		"`redaction::mask`":                       withRedaction(func(r *RedactionConfig) { r.Mask = "" }),
		"`redaction::max_json_string_bytes`":      withRedaction(func(r *RedactionConfig) { r.MaxJSONStringBytes = -1 }),
		"`redaction::key_patterns[1]` is no":      withRedaction(func(r *RedactionConfig) { r.KeyPatterns = []string{"a", "(b"} }), // W8
		"`redaction::key_patterns[0]` must":       withRedaction(func(r *RedactionConfig) { r.KeyPatterns = []string{""} }),
		"`redaction::keys[0]`":                    withRedaction(func(r *RedactionConfig) { r.Keys = []string{"--"} }),
		"`redaction::ignore_keys[0]`":             withRedaction(func(r *RedactionConfig) { r.IgnoreKeys = []string{""} }),
		"`redaction::paths[0]` must":              withRedaction(func(r *RedactionConfig) { r.Paths = []string{"a..b"} }),
		"`redaction::paths[1]` names audit.actor": withRedaction(func(r *RedactionConfig) { r.Paths = []string{"a", "audit.actor.id"} }),
		"`limits::max_record_bytes`":              withLimits(func(l *LimitsConfig) { l.MaxRecordBytes = 100 }),
		"`limits::max_metadata_bytes`":            withLimits(func(l *LimitsConfig) { l.MaxMetadataBytes = 0 }),
		"`limits::max_diff_bytes`":                withLimits(func(l *LimitsConfig) { l.MaxDiffBytes = -1 }),
		"`limits::max_string_bytes`":              withLimits(func(l *LimitsConfig) { l.MaxStringBytes = 0 }),
		"`limits::max_depth`":                     withLimits(func(l *LimitsConfig) { l.MaxDepth = 61 }),
		"`limits::max_attributes`":                withLimits(func(l *LimitsConfig) { l.MaxAttributes = 1 }),
		"`limits::oversize`":                      withLimits(func(l *LimitsConfig) { l.Oversize = "drop" }),
	} {
		v, r, l := newValidationConfig(), newRedactionConfig(), newLimitsConfig()
		option(&v, &r, &l)
		_, err := newStages(v, r, l, time.Now)
		assert.ErrorContains(t, err, want)
	}
}

// TestAnythingGoesIn sends random records of all shapes through stages of all
// sizes: each gets a verdict, what is sealed is canonical and within the limit.
func TestAnythingGoesIn(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 11))
	for _, size := range []int{minRecordBytes, 5000, 8192, 65536} {
		s := testStages(t, withLimits(func(l *LimitsConfig) {
			l.MaxRecordBytes, l.MaxStringBytes, l.MaxDepth, l.MaxAttributes = size, size/2, 1+random.IntN(maxMaxDepth), 16+random.IntN(64)
		}))
		for range 150 {
			logs := randomLogs(random, size)
			n := logs.LogRecordCount()
			verdicts, _ := s.apply(logs, randomText(random, 300), true)
			require.Len(t, verdicts, n)
			checkSealed(t, logs, verdicts, size)
		}
	}
}

func checkSealed(t *testing.T, logs plog.Logs, verdicts []verdict, size int) {
	t.Helper()
	i := 0
	for _, r := range logs.ResourceLogs().All() {
		for _, sc := range r.ScopeLogs().All() {
			for _, record := range sc.LogRecords().All() {
				one := plog.NewLogs()
				only := one.ResourceLogs().AppendEmpty()
				r.Resource().CopyTo(only.Resource())
				only.SetSchemaUrl(r.SchemaUrl())
				scope := only.ScopeLogs().AppendEmpty()
				sc.Scope().CopyTo(scope.Scope())
				scope.SetSchemaUrl(sc.SchemaUrl())
				record.CopyTo(scope.LogRecords().AppendEmpty())
				text := canonicalOf(t, one)
				require.LessOrEqual(t, len(text), size)
				require.False(t, verdicts[i].refused, verdicts[i].reasons)
				require.Equal(t, chain.Hash(sha256.Sum256([]byte(text))), verdicts[i].digest)
				require.LessOrEqual(t, len(verdicts[i].stream), audit.MaxStream)
				i++
			}
		}
	}
}

func randomLogs(random *rand.Rand, size int) plog.Logs {
	logs := plog.NewLogs()
	for range random.IntN(3) {
		r := logs.ResourceLogs().AppendEmpty()
		r.SetSchemaUrl(randomText(random, size))
		randomMap(random, r.Resource().Attributes(), 3, size)
		for range random.IntN(3) {
			sc := r.ScopeLogs().AppendEmpty()
			sc.SetSchemaUrl(randomText(random, size))
			sc.Scope().SetName(randomText(random, size))
			sc.Scope().SetVersion(randomText(random, size))
			randomMap(random, sc.Scope().Attributes(), 3, size)
			for range random.IntN(3) {
				randomRecord(random, sc.LogRecords().AppendEmpty(), size)
			}
		}
	}
	return logs
}

func randomRecord(random *rand.Rand, record plog.LogRecord, size int) {
	record.SetEventName(randomText(random, size))
	record.SetSeverityText(randomText(random, size))
	record.SetTimestamp(pcommon.Timestamp(random.Uint64()))
	record.SetObservedTimestamp(pcommon.Timestamp(random.Uint64() >> random.IntN(64)))
	record.SetDroppedAttributesCount(uint32(random.IntN(2)))
	randomMap(random, record.Attributes(), 6, size)
	randomValue(random, record.Body(), 6, size)
}

// names that the stages know, and one that needs escapes and repair.
var randomNames = []string{
	audit.AttributeRecordID, audit.AttributeActorID, audit.AttributeActorType, audit.AttributeAction, audit.AttributeOutcome,
	audit.AttributeTargetID, audit.AttributeTargetType, audit.AttributeTenantID, audit.AttributeRequestID, audit.AttributeTraceID,
	audit.AttributeMetadata, audit.AttributeDiff, audit.AttributeChainHash, audit.AttributeCollectorMasked,
	audit.PrefixIntegrity + "value", audit.PrefixHop + "0.chain.hash", attributeRecordUID, attributeServiceName,
	"password", "name", "value", "\"\\\x00\xff", "4111111111111111", "",
}

func randomMap(random *rand.Rand, m pcommon.Map, depth, size int) {
	n := random.IntN(12)
	if random.IntN(20) == 0 {
		n = random.IntN(200)
	}
	for range n {
		key := randomNames[random.IntN(len(randomNames))]
		if random.IntN(2) == 0 {
			key = randomText(random, size/2)
		}
		randomValue(random, m.PutEmpty(key), depth-1, size)
	}
	if random.IntN(8) == 0 {
		repeat(m, "twin", "1", "2")
	}
}

func randomValue(random *rand.Rand, value pcommon.Value, depth, size int) {
	switch kind := random.IntN(9); {
	case kind < 2:
		value.SetStr(randomText(random, size*2))
	case kind == 2:
		value.SetInt(random.Int64())
	case kind == 3:
		value.SetDouble(math.Float64frombits(random.Uint64()))
	case kind == 4:
		value.SetBool(true)
	case kind == 5:
		value.SetEmptyBytes().FromRaw([]byte(randomText(random, size)))
	case kind == 6 && depth > 0:
		randomMap(random, value.SetEmptyMap(), depth, size)
	case kind == 7 && depth > 0:
		for range random.IntN(6) {
			randomValue(random, value.SetEmptySlice().AppendEmpty(), depth-1, size)
		}
	case kind == 8:
		for range random.IntN(80) {
			value = value.SetEmptySlice().AppendEmpty()
		}
	}
}

func randomText(random *rand.Rand, limit int) string {
	pieces := []string{
		"password=x", "a", "é", "\x00", "\xff", "\"", "{\"token\":\"b\"}", "[", "4111111111111111", "https://u:p@h/", " ", "\U0001F600",
		"Bearer 0123456789", "-----BEGIN PRIVATE KEY-----", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx", "--secret x", "<pin>1</pin>",
	}
	var b strings.Builder
	for range random.IntN(5) {
		b.WriteString(pieces[random.IntN(len(pieces))])
	}
	if random.IntN(25) == 0 {
		b.WriteString(strings.Repeat(pieces[random.IntN(len(pieces))], random.IntN(1+limit/4)))
	}
	return b.String()
}

// TestConcurrentUse lets many goroutines share the stages; the race detector
// watches.
func TestConcurrentUse(t *testing.T) {
	s := testStages(t)
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for i := range 50 {
				logs, record := validLogs()
				record.Attributes().PutStr("password", "Tr0ub4dor")
				record.Attributes().PutStr(fmt.Sprint("k", g, i), "token=x")
				verdicts, _ := s.apply(logs, fmt.Sprint("t", g), false)
				assert.Equal(t, fmt.Sprint("tenant:t", g), verdicts[0].stream)
				assert.Equal(t, "***", rawAttribute(record, "password"))
			}
		})
	}
	wait.Wait()
}

// FuzzRedactText looks for texts that the detectors break on, and for hits
// that a second pass would still find.
func FuzzRedactText(f *testing.F) {
	for _, s := range readSecrets(f) {
		f.Add(s.text)
	}
	s := testStages(f)
	f.Fuzz(func(t *testing.T, text string) {
		logs, record := validLogs()
		record.Attributes().PutStr("note", text)
		verdicts, _ := s.apply(logs, "", false)
		require.Len(t, verdicts, 1)
		require.False(t, verdicts[0].refused)
		sum := sha256.Sum256([]byte(canonicalOf(t, logs)))
		require.Equal(t, chain.Hash(sum), verdicts[0].digest)
	})
}
