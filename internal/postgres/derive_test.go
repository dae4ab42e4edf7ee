// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const testOrigin = "host-1/00112233445566ff/20261123T090700Z-0a0b0c0d"

// sealed is a record as a sink gets it.
type sealed struct {
	resource  pcommon.Resource
	record    plog.LogRecord
	link      chain.Link
	hash      chain.Hash
	canonical []byte
}

func seal(t testing.TB, index uint64, logs plog.Logs) *sealed {
	t.Helper()
	group := logs.ResourceLogs().At(0)
	scope := group.ScopeLogs().At(0)
	s := &sealed{resource: group.Resource(), record: scope.LogRecords().At(0)}
	var encoder canonical.Encoder
	require.NoError(t, encoder.SetGroup(s.resource, group.SchemaUrl(), scope.Scope(), scope.SchemaUrl()))
	var err error
	s.canonical, _, err = encoder.Append(nil, s.record)
	require.NoError(t, err)
	s.link = chain.Link{Origin: testOrigin, Index: index, Stream: "tenant:a", Seq: index + 1, SealedAt: 1_790_000_000_000_000_000, Digest: sha256.Sum256(s.canonical)}
	s.hash = s.link.Hash()
	return s
}

func (s *sealed) derive(d *Deriver) *Row {
	return d.Derive(s.resource, s.record, &s.link, s.hash, s.canonical)
}

// record seals one record that fill makes.
func record(t testing.TB, fill func(resource pcommon.Map, record plog.LogRecord)) *sealed {
	t.Helper()
	logs := plog.NewLogs()
	group := logs.ResourceLogs().AppendEmpty()
	fill(group.Resource().Attributes(), group.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty())
	return seal(t, 0, logs)
}

// decoded seals an event in JSON.
func decoded(t testing.TB, event string) *sealed {
	t.Helper()
	logs := plog.NewLogs()
	group := logs.ResourceLogs().AppendEmpty()
	r := group.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	require.NoError(t, audit.DecodeEvent([]byte(event), group.Resource(), r))
	return seal(t, 0, logs)
}

func TestColumns(t *testing.T) {
	s := decoded(t, `{"schemaVersion":1,"eventId":"e-1","action":"invoice.paid","outcome":"DENIED",
		"actor":{"type":"admin","id":"u-1","displayName":"Ada","roles":["a","b\"c"],"ip":"203.0.113.7","userAgent":"curl"},
		"target":{"type":"invoice","id":"7","displayName":"Seven"},
		"context":{"occurredAt":"2026-11-23T09:07:00.123456789Z","tenantId":"acme","orgId":"o","requestId":"r","sourceService":"shop"},
		"metadata":{"n":1.5},"diff":{"after":null},"integrity":{"hash":"x"},"retentionTag":"7y","metadataTruncated":false,
		"message":"hello","attributes":{"x":[1]},"resource":{"y":true}}`)
	var d Deriver
	row := s.derive(&d)
	for name, want := range map[string]string{
		"event_id": "e-1", "schema_version": "1", "occurred_at": "2026-11-23T09:07:00.123456Z", "action": "invoice.paid",
		"outcome": "DENIED", "actor_id": "u-1", "actor_type": "admin", "actor_display_name": "Ada", "actor_roles": `["a","b\"c"]`,
		"actor_ip": "203.0.113.7", "actor_user_agent": "curl", "target_id": "7", "target_type": "invoice",
		"target_display_name": "Seven", "tenant_id": "acme", "org_id": "o", "retention_tag": "7y", "metadata_truncated": "false",
		"target": `{"type":"invoice","id":"7","displayName":"Seven"}`, "metadata": `{"n":1.5}`, "diff": `{"after":null}`,
		"integrity": `{"hash":"x"}`, "message": `"hello"`, "attributes": `{"x":[1]}`, "resource": `{"y":true}`,
		"context":                 `{"occurredAt":"2026-11-23T09:07:00.123456789Z","requestId":"r","tenantId":"acme","orgId":"o","sourceService":"shop"}`,
		"occurred_at_nanoseconds": "1795424820123456789",
	} {
		got, ok := row.Column(name)
		assert.True(t, ok, name)
		assert.Equal(t, want, got, name)
	}
	_, ok := row.Column("diff_truncated")
	assert.False(t, ok, "what an event does not say is NULL")
	_, ok = row.Column("hash")
	assert.False(t, ok, "not derived")
}

// TestW10MissingFlagsStayNull: the original logger stored a missing flag as
// false, which changed what it verified.
func TestW10MissingFlagsStayNull(t *testing.T) {
	var d Deriver
	row := record(t, func(_ pcommon.Map, r plog.LogRecord) { r.SetEventName("a") }).derive(&d)
	for i, column := range columns {
		switch i {
		case columnAction, columnOccurredAt, columnNanoseconds:
			assert.True(t, row.values[i].valid, column.name)
		default:
			assert.False(t, row.values[i].valid, column.name)
		}
	}
}

func TestTenantIsTheAuthenticatedOne(t *testing.T) {
	var d Deriver
	row := record(t, func(_ pcommon.Map, r plog.LogRecord) {
		r.Attributes().PutStr(audit.AttributeCollectorTenant, "real")
		r.Attributes().PutStr(audit.AttributeTenantID, "said")
	}).derive(&d)
	tenant, _ := row.Column("tenant_id")
	assert.Equal(t, "real", tenant)
}

func TestTimeFallsBack(t *testing.T) {
	var d Deriver
	assert.Equal(t, int64(5), record(t, func(_ pcommon.Map, r plog.LogRecord) {
		r.SetTimestamp(5)
		r.SetObservedTimestamp(6)
	}).derive(&d).OccurredAt().UnixNano())
	assert.Equal(t, int64(6), record(t, func(_ pcommon.Map, r plog.LogRecord) { r.SetObservedTimestamp(6) }).derive(&d).OccurredAt().UnixNano())
	s := record(t, func(pcommon.Map, plog.LogRecord) {})
	assert.Equal(t, s.link.SealedAt, s.derive(&d).OccurredAt().UnixNano())
	s.link.SealedAt = -1
	row := s.derive(&d)
	assert.Equal(t, int64(-1), row.values[columnOccurredAt].number, "rounded down")
}

func TestShown(t *testing.T) {
	assert.Equal(t, "short", Shown("short"))
	assert.Equal(t, `a\u0000b`, Shown("a\x00b"))
	long := strings.Repeat("é", 5000)
	shown := Shown(long)
	assert.LessOrEqual(t, len(shown), maxIndexed)
	assert.True(t, utf8.ValidString(shown))
	assert.NotEqual(t, shown, Shown(long+"x"), "different ids stay different")
	assert.Equal(t, strings.Repeat("x", maxIndexed), Shown(strings.Repeat("x", maxIndexed)))
}

func TestStreamsComeBack(t *testing.T) {
	for _, stream := range []string{"", "tenant:a", `tenant:CORP\bob`, "tenant:a\x00b", `tenant:\u0000`, "\\\x00\\\\"} {
		text := EscapeStream(stream)
		assert.NotContains(t, text, "\x00")
		assert.Equal(t, stream, unescapeStream(text))
	}
}

func TestNumbersAreComparedByValue(t *testing.T) {
	for _, same := range [][2]string{{"1e+2", "100"}, {"1.50", "1.5"}, {"-0", "0"}, {"0.0001", "1e-4"}, {"1e308", "1" + strings.Repeat("0", 308)}} {
		assert.True(t, equalJSON([]byte(same[0]), []byte(same[1])), same)
	}
	for _, differ := range [][2]string{{"1", "10"}, {"1", "-1"}, {"0.1", "0.01"}, {"1", `"1"`}, {"null", "0"}, {"[1]", "[1,1]"}, {`{"a":1}`, `{"b":1}`}, {"{", "{"}} {
		assert.False(t, equalJSON([]byte(differ[0]), []byte(differ[1])), differ)
	}
}

// generator makes records of bytes, as OTLP/JSON: unlike pdata's setters that
// can repeat keys.
type generator struct{ rest []byte }

func (g *generator) pick(n int) int {
	if len(g.rest) == 0 {
		return 0
	}
	b := int(g.rest[0])
	g.rest = g.rest[1:]
	return b % n
}

func (g *generator) uint64() uint64 {
	var b [8]byte
	g.rest = g.rest[copy(b[:], g.rest):]
	return binary.BigEndian.Uint64(b[:])
}

var awkwardTexts = []string{
	"", "a", "a\x00b", `a\u0000b`, `\`, `"`, "\x00", "\\\x00", "é", "\u2028", "😀", "\U0010ffff", "\x1f\x7f", "DENIED", "denied",
	"success", "failure", "user", "admin", "1.0.0", "1.2", "-1.0.0", "2147483648.0.0", "00112233445566778899aabbccddeeff",
	"203.0.113.7", "ipv4", strings.Repeat("long", 700), strings.Repeat("é", 2000), "VIEWED", "invoice.viewed",
}

var awkwardKeys = append([]string{
	audit.AttributeRecordID, audit.AttributeAction, audit.AttributeOutcome, audit.AttributeOutcomeReason, audit.AttributeActorType,
	audit.AttributeActorSubtype, audit.AttributeActorID, audit.AttributeActorRoles, audit.AttributeTargetID, audit.AttributeTenantID,
	audit.AttributeMetadata, audit.AttributeDiff, audit.AttributeMetadataTruncated, audit.AttributeSchemaVersion, audit.AttributeTraceID,
	audit.AttributeClientAddress, audit.AttributeSourceID, audit.AttributeSourceType, audit.AttributeCollectorTenant,
	audit.AttributeSenderIntegrity, audit.AttributeChainIndex, audit.ResourceServiceName, audit.ResourceHostName,
}, awkwardTexts...)

func quoted(text string) string { return string(canonical.AppendString(nil, text)) }

func (g *generator) text() string { return awkwardTexts[g.pick(len(awkwardTexts))] }

func (g *generator) value(depth int) string {
	switch g.pick(9) {
	case 0:
		return `{}`
	case 1:
		return fmt.Sprintf(`{"boolValue":%v}`, g.pick(2) == 0)
	case 2:
		return fmt.Sprintf(`{"intValue":"%d"}`, int64(g.uint64()))
	case 3:
		f := math.Float64frombits(g.uint64())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			f = math.Copysign(0, -1)
		}
		return fmt.Sprintf(`{"doubleValue":%q}`, strconv.FormatFloat(f, 'g', -1, 64))
	case 4:
		return `{"bytesValue":"AAEC"}`
	case 5:
		if depth == 0 {
			return `{}`
		}
		var values []string
		for range g.pick(4) {
			values = append(values, g.value(depth-1))
		}
		return `{"arrayValue":{"values":[` + strings.Join(values, ",") + `]}}`
	case 6:
		if depth == 0 {
			return `{}`
		}
		return `{"kvlistValue":{"values":` + g.pairs(depth-1) + `}}`
	}
	return `{"stringValue":` + quoted(g.text()) + `}`
}

func (g *generator) pairs(depth int) string {
	var pairs []string
	for range g.pick(12) {
		key := awkwardKeys[g.pick(len(awkwardKeys))]
		pairs = append(pairs, `{"key":`+quoted(key)+`,"value":`+g.value(depth)+`}`)
	}
	return "[" + strings.Join(pairs, ",") + "]"
}

func (g *generator) logs(t testing.TB) plog.Logs {
	t.Helper()
	text := `{"resourceLogs":[{"resource":{"attributes":` + g.pairs(3) + `},"scopeLogs":[{"logRecords":[{"attributes":` + g.pairs(3) +
		`,"body":` + g.value(3) + `,"eventName":` + quoted(g.text()) +
		fmt.Sprintf(`,"timeUnixNano":"%d","observedTimeUnixNano":"%d"}]}]}]}`, g.uint64()>>(1+g.pick(63)), g.uint64()>>1)
	logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs([]byte(text))
	require.NoError(t, err)
	return logs
}

// checkDerive is the property: the row of a record is that of its canonical
// form, and it shows what the event form says.
func checkDerive(t testing.TB, data []byte) {
	t.Helper()
	s := seal(t, 0, (&generator{data}).logs(t))
	var d, again Deriver
	row := s.derive(&d)
	other := again.DeriveCanonical(&s.link, s.hash, s.canonical)
	require.Empty(t, row.Difference(other), "%s", s.canonical)
	require.Equal(t, row.OccurredAt(), other.OccurredAt())
	checkShows(t, row, s.canonical)
	checkText(t, row)
}

// checkShows compares a row with the event form of its canonical bytes, read by
// another parser.
func checkShows(t testing.TB, row *Row, event []byte) {
	t.Helper()
	text, err := row.AppendEvent(nil)
	require.NoError(t, err)
	var said map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &said))
	for member, column := range map[string]string{
		"target": "target", "context": "context", "metadata": "metadata", "diff": "diff", "integrity": "integrity",
		"message": "message", "attributes": "attributes", "resource": "resource", "eventId": "event_id", "action": "action", "outcome": "outcome",
	} {
		shown, ok := row.Column(column)
		_, want := said[member]
		require.Equal(t, want, ok, "%s: %s", column, event)
		if ok && !strings.Contains(string(text), shownNUL) && member != "eventId" && member != "action" && member != "outcome" {
			require.True(t, equalJSON(said[member], []byte(shown)), "%s: %s", column, event)
		}
	}
}

// checkText makes sure that PostgreSQL takes all of it.
func checkText(t testing.TB, row *Row) {
	t.Helper()
	for i := range columns {
		text := row.values[i].String(columns[i].kind)
		require.True(t, utf8.ValidString(text), columns[i].name)
		require.NotContains(t, text, "\x00", columns[i].name)
		if columns[i].kind == kindJSON && row.values[i].valid {
			require.True(t, json.Valid(row.values[i].text), columns[i].name)
			require.NotContains(t, strings.ReplaceAll(text, `\\`, ""), shownNUL, columns[i].name)
		}
	}
}

func TestDeriveIsAFunctionOfCanonicalBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		checkDerive(t, randomBytes(random))
	}
}

func randomBytes(random *rand.Rand) []byte {
	data := make([]byte, random.IntN(600))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

func FuzzDerive(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("some bytes that make some attributes of some record"))
	f.Fuzz(func(t *testing.T, data []byte) { checkDerive(t, data) })
}

// Of keys that occur twice the last counts, wherever they are.
func TestRepeatedKeys(t *testing.T) {
	twice := func(key string) string {
		return `{"key":"` + key + `","value":{"stringValue":"first"}},{"key":"` + key + `","value":{"stringValue":"last"}}`
	}
	logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs([]byte(`{"resourceLogs":[{"resource":{"attributes":[` + twice(audit.ResourceHostName) +
		`]},"scopeLogs":[{"logRecords":[{"attributes":[` + twice(audit.AttributeActorID) + `,` + twice(audit.AttributeCollectorTenant) +
		`,{"key":"` + audit.AttributeMetadata + `","value":{"kvlistValue":{"values":[` + twice("k") + `]}}}]}]}]}]}`))
	require.NoError(t, err)
	s := seal(t, 0, logs)
	var d, again Deriver
	row := s.derive(&d)
	assert.Empty(t, row.Difference(again.DeriveCanonical(&s.link, s.hash, s.canonical)))
	for column, want := range map[string]string{
		"actor_id": "last", "tenant_id": "last", "context": `{"sourceHost":"last"}`, "metadata": `{"k":"last"}`,
	} {
		got, _ := row.Column(column)
		assert.Equal(t, want, got, column)
	}
}
