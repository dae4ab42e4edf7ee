// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// decoded is an event as a log record, with the resource that it came with.
type decoded struct {
	resource pcommon.Resource
	record   plog.LogRecord
}

func decode(text string) (decoded, error) {
	d := decoded{pcommon.NewResource(), plog.NewLogRecord()}
	return d, DecodeEvent([]byte(text), d.resource, d.record)
}

func (d decoded) encode() string { return string(EncodeEvent(nil, d.resource, d.record)) }

func (d decoded) equal(other decoded) bool {
	a, b := d.record, other.record
	return d.resource.Attributes().Equal(other.resource.Attributes()) &&
		a.Attributes().Equal(b.Attributes()) && a.Body().Equal(b.Body()) &&
		a.EventName() == b.EventName() && a.Timestamp() == b.Timestamp() &&
		a.TraceID() == b.TraceID() && a.SpanID() == b.SpanID()
}

// eventCase is a file of testdata/events: an event, the record that it must
// become and, where it is not the event itself, what comes back.
type eventCase struct {
	Event  json.RawMessage `json:"event"`
	Again  json.RawMessage `json:"again"`
	Record struct {
		EventName  string          `json:"event_name"`
		Timestamp  uint64          `json:"timestamp,string"`
		TraceID    string          `json:"trace_id"`
		SpanID     string          `json:"span_id"`
		Body       string          `json:"body"`
		Attributes json.RawMessage `json:"attributes"`
	} `json:"record"`
	Resource json.RawMessage `json:"resource"`
}

func TestEventCases(t *testing.T) {
	files, err := filepath.Glob("testdata/events/*.json")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 5, "the cases are missing")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var c eventCase
			require.NoError(t, json.Unmarshal(text, &c))

			got, err := decode(string(c.Event))
			require.NoError(t, err)
			assert.Equal(t, c.Record.EventName, got.record.EventName())
			assert.Equal(t, c.Record.Timestamp, uint64(got.record.Timestamp()))
			assert.Equal(t, c.Record.TraceID, got.record.TraceID().String())
			assert.Equal(t, c.Record.SpanID, got.record.SpanID().String())
			assert.Equal(t, c.Record.Body, got.record.Body().Str())
			assert.Zero(t, got.record.ObservedTimestamp())
			assert.JSONEq(t, string(c.Record.Attributes), mapJSON(got.record.Attributes()))
			assert.JSONEq(t, string(c.Resource), mapJSON(got.resource.Attributes()))

			want := string(c.Event)
			if c.Again != nil {
				want = string(c.Again)
			}
			again := got.encode()
			assert.JSONEq(t, want, again)
			second, err := decode(again)
			require.NoError(t, err, again)
			assert.True(t, got.equal(second), again)
		})
	}
}

func mapJSON(m pcommon.Map) string {
	e := eventEncoder{}
	e.mapValue(m)
	return string(e.out)
}

// The original logger's event has these members and no others. A member that
// the table forgets is refused here.
func TestEveryFieldOfTheOriginalEventIsKnown(t *testing.T) {
	members := map[string]string{
		"schemaVersion": "1", "eventId": `"e"`, "action": `"a"`, "outcome": `"ERROR"`,
		"actor.type": `"user"`, "actor.id": `"i"`, "actor.displayName": `"d"`, "actor.roles": `["r"]`, "actor.ip": `"::1"`, "actor.userAgent": `"u"`,
		"target.type": `"t"`, "target.id": `"i"`, "target.displayName": `"d"`,
		"context.occurredAt": `"2026-01-02T03:04:05Z"`, "context.requestId": `"r"`, "context.traceId": `"t"`, "context.sessionId": `"s"`,
		"context.tenantId": `"t"`, "context.orgId": `"o"`, "context.environment": `"e"`, "context.sourceService": `"s"`, "context.sourceVersion": `"v"`,
		"context.sourceHost": `"h"`, "context.sourceRegion": `"r"`, "context.sourceInstance": `"i"`,
		"metadata": `{"a":1}`, "diff": `{"a":1}`, "integrity": `{"hash":"x"}`, "retentionTag": `"r"`, "metadataTruncated": "true", "diffTruncated": "false",
	}
	for path, value := range members {
		event := `{"` + path + `":` + value + `}`
		if outer, inner, nested := strings.Cut(path, "."); nested {
			event = `{"` + outer + `":{"` + inner + `":` + value + `}}`
		}
		got, err := decode(event)
		if assert.NoError(t, err, path) {
			assert.JSONEq(t, event, got.encode(), path)
		}
	}
}

func TestEventRefusals(t *testing.T) {
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	members := make([]string, MaxEventMembers+2)
	for i := range members {
		members[i] = fmt.Sprintf(`"k%d":1`, i)
	}
	for _, c := range []struct{ event, path, problem string }{
		{`{"actr":{}}`, "actr", "is not known"},
		{`{"actor":{"name":"x"}}`, "actor.name", "is not known"},
		{`{"context":{"a.b":1}}`, "context.a.b", "is not known"},
		{`{"action":7}`, "action", "want a string, found a number"},
		{`{"actor":"bob"}`, "actor", "want an object, found a string"},
		{`{"actor":{"roles":"x"}}`, "actor.roles", "want an array of strings, found a string"},
		{`{"actor":{"roles":["a",null]}}`, "actor.roles.1", "want a string, found null"},
		{`{"metadata":[]}`, "metadata", "want an object, found an array"},
		{`{"integrity":"x"}`, "integrity", "want an object"},
		{`{"metadataTruncated":"true"}`, "metadataTruncated", "want a boolean"},
		{`{"schemaVersion":true}`, "schemaVersion", "want a string or a number"},
		{`{"context":{"occurredAt":"yesterday"}}`, "context.occurredAt", "RFC 3339"},
		{`{"context":{"occurredAt":"2026-01-02"}}`, "context.occurredAt", "RFC 3339"},
		{`{"context":{"occurredAt":"1"}}`, "context.occurredAt", "RFC 3339"},
		{`{"context":{"occurredAt":"2026-01-02T03:04:05.1234567890Z"}}`, "context.occurredAt", "RFC 3339"},
		{`{"context":{"occurredAt":"1970-01-01T00:00:00Z"}}`, "context.occurredAt", "after 1970"},
		{`{"context":{"occurredAt":"1969-12-31T23:59:59.5Z"}}`, "context.occurredAt", "after 1970"},
		{`{"context":{"occurredAt":"2300-01-01T00:00:00Z"}}`, "context.occurredAt", "before 2262"},
		{`{"context":{"occurredAt":0}}`, "context.occurredAt", "milliseconds"},
		{`{"context":{"occurredAt":1.5}}`, "context.occurredAt", "milliseconds"},
		{`{"context":{"occurredAt":9223372036855}}`, "context.occurredAt", "milliseconds"},
		{`{"metadata":{"a":[0,{"b":9223372036854775808}]}}`, "metadata.a.1.b", "send a string"},
		{`{"metadata":{"n":0.1000000000000000055511151231257827}}`, "metadata.n", "send a string"},
		{`{"metadata":{"n":1e400}}`, "metadata.n", "send a string"},
		{`{"metadata":{"n":1e-400}}`, "metadata.n", "send a string"},
		{`{"metadata":{"n":1e99999999999999999999}}`, "metadata.n", "send a string"},
		{`{"attributes":{"audit.integrity.value":"x"}}`, "attributes.audit.integrity.value", "reserved"},
		{`{"resource":{"audit.integrity.algorithm":"x"}}`, "resource.audit.integrity.algorithm", "reserved"},
		{`{"attributes":{"audit.actor.id":"x"},"actor":{"id":"y"}}`, "attributes.audit.actor.id", "say it once"},
		{`{"metadata":` + `{"d":` + deep + `}}`, "metadata.d" + strings.Repeat(".0", 62), "nested deeper than 64"},
		{`{"metadata":{` + strings.Join(members, ",") + `}}`, "metadata.k1024", "at most 1024"},
		{`{"metadata":{"a":[` + strings.Repeat("0,", MaxEventValues) + `0]}}`, "", "more than 16384 values"},
		{`[]`, "", "want an object, found an array"},
		{`{} {}`, "", "more follows"},
	} {
		_, err := decode(c.event)
		var fields FieldErrors
		if assert.ErrorAs(t, err, &fields, "%.80s", c.event) {
			assert.Equal(t, c.path, fields[0].Path, "%.80s", c.event)
			assert.Contains(t, fields[0].Problem, c.problem)
			assert.Contains(t, err.Error(), c.path)
		}
	}
}

func TestEventThatIsNotJSON(t *testing.T) {
	for _, text := range []string{
		``, `{`, `{"a"`, `{"action":"x"`, `{"action":"x",}`, `{'action':1}`, `nul`, `{"metadata":{"a":01}}`,
		`{"action":"a","action":"b"}`, `{"metadata":{"k":1,"k":1}}`, `{"metadata":{"k":1,"\u006b":1}}`,
		`{"action":"` + "\xff" + `"}`, `{"action":"\ud800"}`, `{"metadata":{"` + "\xc3" + `":1}}`,
	} {
		_, err := decode(text)
		require.Error(t, err, text)
		var fields FieldErrors
		assert.NotErrorAs(t, err, &fields, text)
	}
}

func TestEveryProblemOfAnEventIsTold(t *testing.T) {
	_, err := decode(`{"a":1,"action":2,"actor":{"id":3},"context":{"occurredAt":"x"},"target":4}`)
	var fields FieldErrors
	require.ErrorAs(t, err, &fields)
	paths := make([]string, len(fields))
	for i, f := range fields {
		paths[i] = f.Path
	}
	assert.Equal(t, []string{"a", "action", "actor.id", "context.occurredAt", "target"}, paths)

	_, err = decode(`{"metadata":{"a":[` + strings.Repeat("1e999,", 100) + `1]}}`)
	require.ErrorAs(t, err, &fields)
	assert.Len(t, fields, MaxFieldErrors)
	var one *FieldError
	assert.ErrorAs(t, err, &one)
}

func TestErrorRepeatsNoValueAndBoundsThePath(t *testing.T) {
	_, err := decode(`{"metadata":{"` + strings.Repeat("é", 5000) + `":12345678901234567890}}`)
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 400)
	assert.NotContains(t, err.Error(), "12345678901234567890")
}

func TestParseNumberKeepsTheValue(t *testing.T) {
	for text, want := range map[string]number{
		"0": {isInt: true}, "-0": {isInt: true}, "0e999999999999999999999": {isInt: true},
		"-9223372036854775808": {isInt: true, int: -1 << 63}, "9223372036854775807": {isInt: true, int: 1<<63 - 1},
		"1e18": {isInt: true, int: 1e18}, "1.0": {isInt: true, int: 1}, "120e-1": {isInt: true, int: 12},
		"0.1": {float: 0.1}, "0.10": {float: 0.1}, "1e-7": {float: 1e-7}, "5e-324": {float: 5e-324},
		"1.7976931348623157e308": {float: 1.7976931348623157e308}, "18446744073709552000": {float: 18446744073709552000},
	} {
		got, ok := parseNumber([]byte(text))
		assert.True(t, ok, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"9223372036854775808", "-9223372036854775809", "18446744073709551615", "0.30000000000000004441", "2e-324", "1e309", "1e4294967297"} {
		_, ok := parseNumber([]byte(text))
		assert.False(t, ok, text)
	}
}

func TestEventOfForeignRecord(t *testing.T) {
	d := decoded{pcommon.NewResource(), plog.NewLogRecord()}
	attrs := d.record.Attributes()
	attrs.PutInt(AttributeActorID, 5)
	attrs.PutStr(AttributeActorType, "user")
	attrs.PutEmptyBytes("raw").FromRaw([]byte{1, 2, 255})
	attrs.PutStr("bad", "a\xffb")
	attrs.PutDouble("nan", math.NaN())
	attrs.PutDouble("up", math.Inf(1))
	attrs.PutDouble("down", math.Inf(-1))
	attrs.PutStr(AttributeChainHash, "00")
	attrs.PutStr(AttributeOutcome, "failure")
	attrs.PutStr(AttributeOutcomeReason, "quota")
	d.resource.Attributes().PutInt(ResourceServiceName, 1)
	d.record.Body().SetEmptyMap().PutInt("n", 1)
	assert.JSONEq(t, `{"outcome":"FAILURE","actor":{"type":"user"},"message":{"n":1},
		"attributes":{"audit.actor.id":5,"raw":"AQL/","bad":"a\ufffdb","nan":"NaN","up":"Infinity","down":"-Infinity","audit.outcome.reason":"quota"},
		"resource":{"service.name":1}}`, d.encode())
}

func TestEventReaderShapes(t *testing.T) {
	for text, want := range map[string][]string{
		`{"action":"a"}`:                                 {"a"},
		`[{"action":"a"},{"action":"b"}]`:                {"a", "b"},
		`{"events":[{"action":"a"}]}`:                    {"a"},
		"{\"action\":\"a\"}\n{\"action\":\"b\"}\n":       {"a", "b"},
		"{\"action\":\"a\"} \r\n\n\t {\"action\":\"b\"}": {"a", "b"},
		`[]`: nil, ` {"events":[]} `: nil, ``: nil, "\n": nil,
		`{}`: {""},
	} {
		names, err := readAll(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, names, text)
	}
	for _, text := range []string{
		`{}{}`, `{} {}`, `[{}] []`, `[{}`, `[{},]`, `{"events":[{}]`, `{"events":[{}],"x":1}`, `{"events":[]} {}`, `1`, `"x"`, `null`, "{}\nx", `[{}]]`,
	} {
		_, err := readAll(text)
		require.Error(t, err, text)
		assert.NotErrorIs(t, err, io.EOF, text)
	}
}

// readAll returns the names of all events in text, or the first error.
func readAll(text string) (names []string, err error) {
	r := NewEventReader(text)
	for {
		record := plog.NewLogRecord()
		err := r.Next(pcommon.NewResource(), record)
		if err == io.EOF { //nolint:errorlint // Next documents io.EOF itself
			return names, nil
		}
		if err != nil {
			return names, err
		}
		names = append(names, record.EventName())
	}
}

func TestEventReaderGoesOnBehindAFaultyEvent(t *testing.T) {
	for _, text := range []string{
		`[{"action":"a"},{"acton":1,"metadata":{"x":[1,{}]}},7,{"action":"b"}]`,
		"{\"action\":\"a\"}\n{\"acton\":1}\n7\n{\"action\":\"b\"}",
		`{"events":[{"action":"a"},{"actor":{"x":[]}},"7",{"action":"b"}]}`,
	} {
		r := NewEventReader(text)
		var got []string
		for {
			record := plog.NewLogRecord()
			err := r.Next(pcommon.NewResource(), record)
			if err == io.EOF { //nolint:errorlint // Next documents io.EOF itself
				break
			}
			var fields FieldErrors
			if err != nil {
				require.ErrorAs(t, err, &fields, text)
				got = append(got, "refused "+fields[0].Path)
				continue
			}
			got = append(got, record.EventName())
		}
		require.Len(t, got, 4, text)
		assert.Equal(t, []string{"a", "b"}, []string{got[0], got[3]}, text)
		assert.Equal(t, "refused ", got[2], text)
		assert.NotEqual(t, "refused ", got[1], text)
	}
}

func TestCutTextIsNeverTheEnd(t *testing.T) {
	for _, whole := range []string{`[{"actor":{"roles":["a","b"]},"metadata":{"a":[1,null]}}]`, `{"events":[{"diff":{"x":{"y":"\n"}}}]}`} {
		for cut := 1; cut < len(whole); cut++ {
			_, err := readAll(whole[:cut])
			require.Error(t, err, whole[:cut])
			assert.NotErrorIs(t, err, io.EOF, whole[:cut])
		}
	}
}

func TestErrorsStick(t *testing.T) {
	r := NewEventReader(`[{"action":`)
	first := r.Next(pcommon.NewResource(), plog.NewLogRecord())
	var syntax *jsontext.SyntacticError
	require.ErrorAs(t, first, &syntax)
	assert.Equal(t, first, r.Next(pcommon.NewResource(), plog.NewLogRecord()))
}

// generator makes random events from the table of fields, so that a field that
// the decoder or the encoder forgets fails.
type generator struct {
	*rand.Rand
	full bool // every member is there
}

func (g *generator) object(fields []field) string {
	var members []string
	for _, i := range g.Perm(len(fields)) {
		if g.full || g.IntN(3) > 0 {
			members = append(members, quote(fields[i].name)+":"+g.field(&fields[i]))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (g *generator) field(f *field) string {
	if !g.full && g.IntN(20) == 0 {
		return "null"
	}
	switch f.kind {
	case kindObject:
		return g.object(f.fields)
	case kindString, kindResource, kindAction:
		return g.text()
	case kindBool:
		return fmt.Sprint(g.IntN(2) == 0)
	case kindStrings:
		return g.pick(`[]`, `["a"]`, `["",`+g.text()+`]`)
	case kindMap:
		return g.free(0)
	case kindVersion:
		return g.pick(`1`, `2`, `-3`, `1.5`, `"1.0.0"`, `"v7"`, `0`, `"01.0.0"`, `"-1.0.0"`)
	case kindOutcome:
		return g.pick(`"SUCCESS"`, `"failure"`, `"Denied"`, `"ERROR"`, `"unknown"`, `"MAYBE"`, `""`)
	case kindActorType:
		return g.pick(`"user"`, `"admin"`, `"api-key"`, `"System"`, `"alien"`, `""`)
	case kindTime:
		return g.pick(`1700000000123`, `"2026-11-23T10:00:00+02:00"`, `"1970-01-01T00:00:00.000000001Z"`, `"2262-01-01T00:00:00.5Z"`)
	case kindTraceID:
		return g.pick(`"4bf92f3577b34da6a3ce929d0e0e4736"`, `"4BF92F3577B34DA6A3CE929D0E0E4736"`, `"x"`, `""`, `"00000000000000000000000000000000"`)
	case kindSpanID:
		return g.pick(`"00f067aa0ba902b7"`, `"y"`, `"0000000000000000"`)
	case kindMessage:
		return g.value(0)
	case kindAttributes:
		return g.pick(`{}`, `{"http.route":"/x"}`, `{"n":`+g.value(0)+`}`, `{"audit.action":"DO"}`, `{"audit.outcome.reason":"error"}`,
			`{"audit.actor.subtype":"admin"}`, `{"audit.source.type":"ipv4"}`, `{"audit.outcome.reason":null}`, `{"audit.source.id":[1]}`)
	case kindOther:
		return g.pick(`{}`, `{"k8s.pod.name":"p"}`, `{"n":`+g.value(0)+`}`)
	}
	panic(fmt.Sprintf("no generator for member %s", f.name))
}

func (g *generator) pick(of ...string) string { return of[g.IntN(len(of))] }

func (g *generator) text() string {
	return g.pick(`""`, `"x"`, `"a.b"`, `"zażółć"`, `"tab\tquote\"back\\"`, `"\u0000"`, `"\ud83d\ude00"`, `"`+strings.Repeat("long ", 50)+`"`, `"a/b:c"`)
}

func (g *generator) free(depth int) string {
	var members []string
	for i := range g.IntN(4) {
		members = append(members, quote(fmt.Sprintf("k%d", i))+":"+g.value(depth+1))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (g *generator) value(depth int) string {
	if depth < 4 {
		switch g.IntN(6) {
		case 0:
			return g.free(depth)
		case 1:
			return "[" + g.value(depth+1) + "," + g.value(depth+1) + "]"
		}
	}
	return g.pick("null", "true", "false", "0", "-1", "9223372036854775807", "1.5", "1e-9", "1e300", "2.0", g.text())
}

func quote(s string) string { return `"` + s + `"` }

func TestRandomEventsComeBack(t *testing.T) {
	for seed := range uint64(3000) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 7)), full: seed%2 == 0}
		text := g.object(eventFields)
		first, err := decode(text)
		require.NoError(t, err, "seed %d: %s", seed, text)
		requireComesBack(t, first)
		if g.full {
			requireEveryMember(t, eventFields, first.encode())
		}
	}
}

// requireComesBack encodes, decodes and encodes again: nothing may change.
func requireComesBack(t *testing.T, first decoded) {
	t.Helper()
	text := first.encode()
	second, err := decode(text)
	require.NoError(t, err, text)
	require.True(t, first.equal(second), "%s\n%s", text, second.encode())
}

// requireEveryMember fails on an event that lacks a member which stands for a
// value, other than those that may be empty.
func requireEveryMember(t *testing.T, fields []field, text string) {
	t.Helper()
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(text), &members))
	for i := range fields {
		f := &fields[i]
		switch f.kind {
		case kindAction, kindMessage, kindAttributes, kindOther: // "", null and {} are absent
		case kindObject:
			requireEveryMember(t, f.fields, string(members[f.name]))
		default:
			require.Contains(t, members, f.name, text)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	files, err := filepath.Glob("testdata/events/*.json")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		var c eventCase
		require.NoError(f, json.Unmarshal(text, &c))
		f.Add([]byte(c.Event))
	}
	for seed := range uint64(20) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 9))}
		f.Add([]byte(g.object(eventFields)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := decode(string(text))
		if err != nil {
			return
		}
		requireComesBack(t, first)
	})
}

func BenchmarkDecodeEvent(b *testing.B) {
	text := benchmarkEvent(b)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := DecodeEvent(text, pcommon.NewResource(), plog.NewLogRecord()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeEvent(b *testing.B) {
	d, err := decode(string(benchmarkEvent(b)))
	require.NoError(b, err)
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = EncodeEvent(out[:0], d.resource, d.record)
	}
}

// benchmarkEvent is the fullest case without white space: about 1 KiB.
func benchmarkEvent(tb testing.TB) []byte {
	text, err := os.ReadFile("testdata/events/full.json")
	require.NoError(tb, err)
	var c eventCase
	require.NoError(tb, json.Unmarshal(text, &c))
	value := jsontext.Value(c.Event)
	require.NoError(tb, value.Compact())
	return value
}
