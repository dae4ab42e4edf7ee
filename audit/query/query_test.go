// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/query"
)

// sealed returns the line of a record.
func sealed(t testing.TB, resource pcommon.Resource, record plog.LogRecord) *audit.Line {
	t.Helper()
	var e canonical.Encoder
	require.NoError(t, e.SetGroup(resource, "", pcommon.NewInstrumentationScope(), ""))
	event, _, err := e.Append(nil, record)
	require.NoError(t, err)
	return lineOf(event)
}

func lineOf(event []byte) *audit.Line {
	link := chain.Link{Origin: "host-1/00112233445566aa/20261123T090700Z-0123abcd", Index: 7, Stream: "tenant:acme", Seq: 3, SealedAt: 1_800_000_000_000_000_000}
	link.Digest = chain.Hash{}
	line := &audit.Line{Kind: audit.LineEvent, Link: link, Event: event}
	if e, err := query.Read(line); err == nil {
		line.Hash = e.Link.Hash()
	}
	return line
}

// decoded returns the line of an event as it is sent.
func decoded(t testing.TB, text string, more map[string]any) *audit.Line {
	t.Helper()
	resource, record := pcommon.NewResource(), plog.NewLogRecord()
	require.NoError(t, audit.DecodeEvent([]byte(text), resource, record))
	for key, value := range more {
		require.NoError(t, record.Attributes().PutEmpty(key).FromRaw(value))
	}
	return sealed(t, resource, record)
}

func printed(t testing.TB, line *audit.Line) map[string]string {
	t.Helper()
	e, err := query.Read(line)
	require.NoError(t, err)
	forms := map[string]string{}
	var out bytes.Buffer
	for name, p := range map[string]query.Printer{
		"table": query.NewTable(&out), "json": query.NewJSON(&out), "raw": query.NewRaw(&out), "csv": query.NewCSV(&out, false),
	} {
		require.NoError(t, p.Print(e))
		require.NoError(t, p.Flush())
		forms[name] = out.String()
		out.Reset()
	}
	return forms
}

const full = `{"schemaVersion":1,"eventId":"e-1","action":"user.login","outcome":"DENIED","actor":{"type":"user","id":"u-1","displayName":"Ada",
	"roles":["a","b"],"ip":"192.0.2.7","userAgent":"curl"},"target":{"type":"session","id":"s 1","displayName":"S"},
	"context":{"occurredAt":"2026-11-23T09:07:00.123456789Z","tenantId":"acme","orgId":"o","sourceService":"web"},"metadata":{"n":1.5},"diff":{"a":[null]},
	"integrity":{"hash":"x"},"retentionTag":"short","metadataTruncated":false,"diffTruncated":true}`

func TestForms(t *testing.T) {
	line := decoded(t, full, map[string]any{audit.AttributeCollectorTenant: "real", audit.AttributeCollectorFlagged: []any{"a reason"}})
	forms := printed(t, line)
	hash := line.Hash.String()
	assert.Equal(t, `{"event":{"schemaVersion":1,"eventId":"e-1","action":"user.login","outcome":"DENIED","actor":{"type":"user","id":"u-1","displayName":"Ada",`+
		`"roles":["a","b"],"ip":"192.0.2.7","userAgent":"curl"},"target":{"type":"session","id":"s 1","displayName":"S"},`+
		`"context":{"occurredAt":"2026-11-23T09:07:00.123456789Z","tenantId":"acme","orgId":"o","sourceService":"web"},"metadata":{"n":1.5},"diff":{"a":[null]},`+
		`"integrity":{"hash":"x"},"retentionTag":"short","metadataTruncated":false,"diffTruncated":true},"flagged":["a reason"],"hash":"`+hash+`","index":"7",`+
		`"origin":"host-1/00112233445566aa/20261123T090700Z-0123abcd","sealed_at":"2027-01-15T08:00:00Z","seq":"3","stream":"tenant:acme","tenant":"real"}`+"\n", forms["json"])

	raw, err := audit.ParseLine([]byte(strings.TrimSuffix(forms["raw"], "\n")))
	require.NoError(t, err)
	assert.Equal(t, line.Event, raw.Event)

	rows, err := csv.NewReader(strings.NewReader(forms["csv"])).ReadAll()
	require.NoError(t, err)
	assert.Equal(t, []string{
		"e-1", "1", "2026-11-23T09:07:00.123456789Z", "user.login", "DENIED", "u-1", "user", "Ada", `["a","b"]`, "192.0.2.7", "curl", "s 1", "session", "S",
		"real", "o", `{"type":"session","id":"s 1","displayName":"S"}`,
		`{"occurredAt":"2026-11-23T09:07:00.123456789Z","tenantId":"acme","orgId":"o","sourceService":"web"}`, `{"n":1.5}`, `{"a":[null]}`, `{"hash":"x"}`,
		"short", "false", "true", "host-1/00112233445566aa/20261123T090700Z-0123abcd", "7", hash,
	}, rows[1])

	shown := strings.Split(forms["table"], "\n")[1]
	assert.Equal(t, `2026-11-23T09:07:00.123Z  real          DENIED    user.login                    u-1                   session:"s 1"                 `+
		`host-1/00112233445566aa/20261123T090700Z-0123abcd/7  flagged`, shown)
}

func TestTimes(t *testing.T) {
	at := func(change func(plog.LogRecord)) time.Time {
		record := plog.NewLogRecord()
		change(record)
		e, err := query.Read(sealed(t, pcommon.NewResource(), record))
		require.NoError(t, err)
		return e.OccurredAt
	}
	said, observed := time.Unix(5, 6), time.Unix(7, 8)
	assert.True(t, said.Equal(at(func(r plog.LogRecord) {
		r.SetTimestamp(pcommon.NewTimestampFromTime(said))
		r.SetObservedTimestamp(pcommon.NewTimestampFromTime(observed))
	})))
	assert.True(t, observed.Equal(at(func(r plog.LogRecord) { r.SetObservedTimestamp(pcommon.NewTimestampFromTime(observed)) })))
	assert.True(t, time.Unix(1_800_000_000, 0).Equal(at(func(plog.LogRecord) {})), "when it was sealed")
}

// The sieve must not pass over what the filter wants, however it is spelt.
func TestSieveTakesWhatMatches(t *testing.T) {
	for _, id := range []string{"u-1", `"`, `\`, "a\nb", "\x00", "\u007f", "é", "\u2028", "</script>", "𝄞"} {
		text, err := json.Marshal(id)
		require.NoError(t, err)
		line := decoded(t, strings.Replace(full, `"u-1"`, string(text), 1), nil)
		for _, f := range []query.Filter{{}, {Actor: id}, {Actor: id, Action: "user.login", Target: "s 1", Tenant: "acme", Outcome: "denied"}} {
			e, err := query.NewSieve(f).Take(line)
			require.NoError(t, err)
			assert.NotNil(t, e, "%q %+v", id, f)
		}
		e, err := query.NewSieve(query.Filter{Actor: id + "x"}).Take(line)
		require.NoError(t, err)
		assert.Nil(t, e)
		e, err = query.NewSieve(query.Filter{Target: id}).Take(line)
		require.NoError(t, err)
		assert.Nil(t, e, "it is there, but in another place")
	}
	_, err := query.Read(&audit.Line{Kind: audit.LineStub})
	require.ErrorIs(t, err, query.ErrNotEvent)
	_, err = query.NewSieve(query.Filter{}).Take(&audit.Line{Event: []byte("{}")})
	require.ErrorIs(t, err, canonical.ErrNotCanonical)
}

// Whatever can be stored can be shown in every form, and steers nothing.
func TestEverythingCanBeShown(t *testing.T) {
	paths, err := filepath.Glob("../testdata/vectors/canonical/*.txt")
	require.NoError(t, err)
	shown := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for line := range bytes.Lines(text) {
			line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("canonical: ")))
			if _, err := canonical.Parse(line); err == nil {
				shown++
				checkForms(t, line)
			}
		}
	}
	assert.Greater(t, shown, 40)
}

func FuzzShow(f *testing.F) {
	for _, seed := range []string{"u-1", "\x1b[2J", "\u009b", "=1", "a,b\"c\r\n", "-", "\u202e", "\U000e0041", strings.Repeat("x", 100)} {
		f.Add(seed, seed, seed)
	}
	f.Fuzz(func(t *testing.T, actor, action, key string) {
		record := plog.NewLogRecord()
		record.SetEventName(strings.ToValidUTF8(action, "?"))
		record.Attributes().PutStr(audit.AttributeActorID, strings.ToValidUTF8(actor, "?"))
		record.Attributes().PutStr("x"+strings.ToValidUTF8(key, "?"), strings.ToValidUTF8(actor, "?"))
		checkForms(t, sealed(t, pcommon.NewResource(), record).Event)
	})
}

func checkForms(t *testing.T, event []byte) {
	t.Helper()
	line := lineOf(event)
	e, err := query.Read(line)
	require.NoError(t, err, "%s", event)
	assert.True(t, e.Sound())
	for name, text := range printed(t, line) {
		if name == "table" || name == "json" {
			lines := map[string]int{"table": 2, "json": 1}[name]
			require.Equal(t, lines, strings.Count(text, "\n"), name)
			for _, r := range text {
				require.True(t, r == '\n' || unicode.IsPrint(r), "%s: %q", name, r)
			}
		}
		require.True(t, utf8.ValidString(text))
	}
	forms := printed(t, line)
	var back struct{ Event json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(forms["json"]), &back))
	assert.JSONEq(t, string(e.JSON), string(back.Event))
	rows, err := csv.NewReader(strings.NewReader(forms["csv"])).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 2)
	for _, cell := range rows[1] {
		assert.False(t, strings.ContainsAny(cell[:min(1, len(cell))], "=+-@\t\r\n"), "%q", cell)
	}
}
