// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

const vectorDir = "../testdata/vectors/canonical"

var update = flag.Bool("update", false, "write the vector files anew")

// The vector that OTEP 0267's implementations share. It is not taken from a
// file: no update of the vectors can change it.
const (
	goldenRecord = `{"attributes":{"audit.action":{"stringValue":"login"},"audit.actor.id":{"stringValue":"alice@example.com"},` +
		`"audit.actor.type":{"stringValue":"user"},"audit.outcome":{"stringValue":"success"},` +
		`"audit.record.id":{"stringValue":"rec-docker-pass"},"audit.source.id":{"stringValue":"testapp"}},` +
		`"body":{"stringValue":"{\"event\":\"user.login\"}"},"event_name":"user.login",` +
		`"observed_timestamp":"1779096939611093600","timestamp":"1779096939611093600"}`
	goldenHash = "f5343848183f3cfaf6fa8275bf28e35ea3ed319e60224d87f75c7aca38ae508d"
)

func TestGoldenVector(t *testing.T) {
	golden := recordVectors()[0]
	text, span, err := encode(golden.logs(t))
	require.NoError(t, err)
	assert.Equal(t, `{"record":`+goldenRecord+`}`, string(text))
	assert.Equal(t, goldenRecord, string(text[span.Start:span.End]))
	assert.Equal(t, goldenHash, hexSum(text[span.Start:span.End]))
}

func TestVectors(t *testing.T) {
	all := vectors()
	names := map[string]bool{}
	for _, v := range all {
		require.False(t, names[v.name], "two vectors are named %s", v.name)
		names[v.name] = true
		t.Run(v.name, func(t *testing.T) { checkVector(t, &v) })
	}

	files, err := filepath.Glob(filepath.Join(vectorDir, "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "no vectors in %s", vectorDir)
	for _, file := range files {
		assert.True(t, names[strings.TrimSuffix(filepath.Base(file), ".txt")], "%s is no vector", file)
	}
}

// checkVector works from the file alone, as another implementation would, once
// the file is known to be what the table says.
func checkVector(t *testing.T, v *vector) {
	path := filepath.Join(vectorDir, v.name+".txt")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(render(t, v)), 0o600))
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update")
	file := readVector(t, string(text))
	require.Equal(t, render(t, v), string(text), "run the test with -update, and look at what changed")

	switch file["expect"] {
	case "ok":
		checkAccepted(t, file)
		require.True(t, checkAgainstReference(t, v.logs(t)))
	case ErrNotCanonical.Error():
		_, err := Parse([]byte(file["canonical"]))
		require.ErrorIs(t, err, ErrNotCanonical)
	default:
		_, _, err := encode(v.logs(t))
		var path *PathError
		require.ErrorAs(t, err, &path)
		assert.Equal(t, file["expect"], path.Err.Error())
		require.False(t, checkAgainstReference(t, v.logs(t)))
	}
}

func checkAccepted(t *testing.T, file map[string]string) {
	v := vector{otlp: file["otlp"]}
	text, span, err := encode(v.logs(t))
	require.NoError(t, err)
	assert.Equal(t, file["canonical"], string(text))
	assert.Equal(t, file["digest"], hexSum(text))
	assert.Equal(t, file["integrity-hash"], hexSum(text[span.Start:span.End]))
}

func render(t *testing.T, v *vector) string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%s: %s\n", name, value) }
	line("expect", v.expect)
	line("about", v.about)
	switch {
	case v.canonical != "":
		line("canonical", v.canonical)
		return b.String()
	case v.protobuf != nil:
		line("otlp-protobuf", hex.EncodeToString(v.protobuf))
	default:
		line("otlp", v.otlp)
	}
	if v.expect == "ok" {
		text, span, err := encode(v.logs(t))
		require.NoError(t, err)
		line("canonical", string(text))
		line("digest", hexSum(text))
		line("integrity-hash", hexSum(text[span.Start:span.End]))
	}
	return b.String()
}

func readVector(t *testing.T, text string) map[string]string {
	require.True(t, strings.HasPrefix(text, "expect: "), "the expected class comes first")
	file := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		name, value, ok := strings.Cut(line, ": ")
		require.True(t, ok, "line without a name")
		require.NotContains(t, file, name)
		file[name] = value
	}
	return file
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestNumbers(t *testing.T) {
	for _, number := range appendixB {
		text, ok := appendNumber(nil, math.Float64frombits(number.bits))
		assert.True(t, ok)
		assert.Equal(t, number.text, string(text), "%x", number.bits)
	}
	for _, bits := range []uint64{0x7fffffffffffffff, 0x7ff0000000000000, 0xfff0000000000000} {
		_, ok := appendNumber(nil, math.Float64frombits(bits))
		assert.False(t, ok, "%x", bits)
	}
}

// TestFaultPath: an error names the place, never the value, and is bounded.
func TestFaultPath(t *testing.T) {
	const secret = "hunter2\xff"
	record := func(change func(plog.LogRecord)) plog.Logs {
		logs := plog.NewLogs()
		change(logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty())
		return logs
	}
	long := strings.Repeat("k", 1000)
	for want, logs := range map[string]plog.Logs{
		"attributes.audit.metadata.items[1].price: number is not finite": record(func(r plog.LogRecord) {
			items := r.Attributes().PutEmptyMap("audit.metadata").PutEmptySlice("items")
			items.AppendEmpty()
			items.AppendEmpty().SetEmptyMap().PutDouble("price", math.NaN())
		}),
		"attributes.password: invalid utf-8":                    record(func(r plog.LogRecord) { r.Attributes().PutStr("password", secret) }),
		"attributes.audit.integrity.value: invalid utf-8":       record(func(r plog.LogRecord) { r.Attributes().PutStr("audit.integrity.value", secret) }),
		"attributes.audit.integrity.collector.x: invalid utf-8": record(func(r plog.LogRecord) { r.Attributes().PutStr("audit.integrity.collector.x", secret) }),
		`attributes."a\"\xff": invalid utf-8`:                   record(func(r plog.LogRecord) { r.Attributes().PutInt("a\"\xff", 1) }),
		"attributes." + long[:64] + "...: invalid utf-8":        record(func(r plog.LogRecord) { r.Attributes().PutStr(long, secret) }),
		"body[0][0]: invalid utf-8": record(func(r plog.LogRecord) {
			r.Body().SetEmptySlice().AppendEmpty().SetEmptySlice().AppendEmpty().SetStr(secret)
		}),
		"event_name: invalid utf-8":                   record(func(r plog.LogRecord) { r.SetEventName(secret) }),
		"severity.text: invalid utf-8":                record(func(r plog.LogRecord) { r.SetSeverityText(secret) }),
		"timestamp: time is 2^63 ns or more":          record(func(r plog.LogRecord) { r.SetTimestamp(1 << 63) }),
		"observed_timestamp: time is 2^63 ns or more": record(func(r plog.LogRecord) { r.SetObservedTimestamp(1 << 63) }),
	} {
		_, _, err := encode(logs)
		require.EqualError(t, err, want)
	}
	deep := vector{otlp: attributes(`"a"`, nested(65, func(value ...string) string {
		if len(value) == 0 {
			return kvlist()
		}
		return kvlist(`"`+long+`"`, value[0])
	}))}
	_, _, err := encode(deep.logs(t))
	require.ErrorIs(t, err, ErrDepth)
	assert.Less(t, len(err.Error()), maxPath+64)
}

// TestAppendExtends: dst is kept, and an error takes nothing away from it.
func TestAppendExtends(t *testing.T) {
	logs := auditLogs(nil)
	var e Encoder
	require.NoError(t, setGroup(&e, logs))
	alone, aloneSpan, err := e.Append(nil, firstRecord(logs))
	require.NoError(t, err)
	text, span, err := e.Append([]byte("before"), firstRecord(logs))
	require.NoError(t, err)
	assert.Equal(t, "before"+string(alone), string(text))
	assert.Equal(t, string(alone[aloneSpan.Start:aloneSpan.End]), string(text[span.Start:span.End]))

	firstRecord(logs).SetTimestamp(math.MaxUint64)
	text, span, err = e.Append([]byte("before"), firstRecord(logs))
	require.ErrorIs(t, err, ErrTime)
	assert.Equal(t, "before", string(text))
	assert.Zero(t, span)
}

// TestSetGroupFault: a group without a canonical form is never taken for
// another one.
func TestSetGroupFault(t *testing.T) {
	logs := auditLogs(nil)
	var e Encoder
	require.NoError(t, setGroup(&e, logs))
	before, _, err := e.Append(nil, firstRecord(logs))
	require.NoError(t, err)

	logs.ResourceLogs().At(0).SetSchemaUrl("\xff")
	require.EqualError(t, setGroup(&e, logs), "resource.schema_url: invalid utf-8")
	_, _, err = e.Append(nil, firstRecord(logs))
	require.EqualError(t, err, "resource.schema_url: invalid utf-8")

	logs.ResourceLogs().At(0).SetSchemaUrl("")
	require.NoError(t, setGroup(&e, logs))
	after, _, err := e.Append(nil, firstRecord(logs))
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
}

// TestEncoderRemembersNothing: one Encoder writes any record as a fresh one
// does, whatever it wrote before.
func TestEncoderRemembersNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	var e Encoder
	for range 1000 {
		logs := generate(t, randomBytes(random, random.IntN(300)))
		want, _, wantErr := encode(logs)
		err := setGroup(&e, logs)
		var got []byte
		if err == nil {
			got, _, err = e.Append(nil, firstRecord(logs))
		}
		if wantErr != nil {
			require.EqualError(t, err, wantErr.Error())
			continue
		}
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
		require.Empty(t, e.fields)
		for _, f := range e.fields[:cap(e.fields)] {
			require.Equal(t, field{}, f, "a record is still referred to")
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	logs := auditLogs(nil)
	shuffled := auditLogs(rand.New(rand.NewPCG(1, 2)))
	firstRecord(logs).Body().SetEmptyBytes().FromRaw(bytes.Repeat([]byte{7}, 100))
	many := firstRecord(shuffled).Attributes().PutEmptyMap("many")
	for i := range 2 * maxInsertion {
		many.PutDouble(fmt.Sprintf("é%d", i*37%64), float64(i)/3)
	}
	var e Encoder
	var dst []byte
	allocations := testing.AllocsPerRun(100, func() {
		for _, logs := range []plog.Logs{logs, shuffled} {
			if err := setGroup(&e, logs); err != nil {
				t.Fatal(err)
			}
			var err error
			if dst, _, err = e.Append(dst[:0], firstRecord(logs)); err != nil {
				t.Fatal(err)
			}
		}
	})
	assert.Zero(t, allocations)
}

func TestCompareKeys(t *testing.T) {
	keys := append([]string{"\ud7ff", "a😀", "a\uffff", "😀a", "\ue000a", "\U00010000", "é\ufffe"}, awkward...)
	for _, a := range keys {
		for _, b := range keys {
			want := slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
			assert.Equal(t, want, sign(compareKeys(a, b)), "%q %q", a, b)
		}
	}
}

func sign(n int) int { return min(1, max(-1, n)) }

// TestIsPlain tries every byte at every place of strings around the word size.
func TestIsPlain(t *testing.T) {
	for size := range 20 {
		for at := range size {
			for c := range 256 {
				b := bytes.Repeat([]byte{'x'}, size)
				b[at] = byte(c)
				want := c >= 0x20 && c < 0x80 && c != '"' && c != '\\'
				require.Equal(t, want, isPlain(string(b)), "%q", b)
			}
		}
	}
	require.True(t, isPlain(""))
}

func TestParse(t *testing.T) {
	all := vectors()
	index := slices.IndexFunc(all, func(v vector) bool { return v.name == "members-all" })
	logs := all[index].logs(t)
	text, _, err := encode(logs)
	require.NoError(t, err)
	parsed, err := Parse(text)
	require.NoError(t, err)
	assert.Equal(t, asMap(t, logs), asMap(t, parsed))

	_, err = Parse(nil)
	require.ErrorIs(t, err, ErrNotCanonical)
	_, err = Parse(make([]byte, MaxSize+1))
	require.ErrorIs(t, err, ErrNotCanonical)
	assert.ErrorContains(t, err, "at most 16777216")
	_, err = Parse([]byte(`{"record":{}}` + "\n"))
	require.ErrorIs(t, err, ErrNotCanonical)
	for _, bad := range []string{"\xff", "\xed\xa0\x80", "\x00", "\x1f"} {
		_, err = Parse([]byte(`{"record":{"event_name":"` + bad + `"}}`))
		require.ErrorIs(t, err, ErrNotCanonical)
	}
}

// asMap is a record field by field, the attributes in any order.
func asMap(t *testing.T, logs plog.Logs) map[string]any {
	resource := logs.ResourceLogs().At(0)
	scope := resource.ScopeLogs().At(0)
	r := scope.LogRecords().At(0)
	require.Equal(t, 1, logs.LogRecordCount())
	return map[string]any{
		"resource": resource.Resource().Attributes().AsRaw(), "resource url": resource.SchemaUrl(),
		"scope": scope.Scope().Attributes().AsRaw(), "scope url": scope.SchemaUrl(),
		"name": scope.Scope().Name(), "version": scope.Scope().Version(),
		"attributes": r.Attributes().AsRaw(), "body": r.Body().AsRaw(), "event": r.EventName(),
		"times": []pcommon.Timestamp{r.Timestamp(), r.ObservedTimestamp()}, "trace": r.TraceID(), "span": r.SpanID(),
		"severity": r.SeverityNumber(), "text": r.SeverityText(), "flags": r.Flags(),
	}
}

// TestParseEveryFlip: no change of a single byte is taken for the same record.
func TestParseEveryFlip(t *testing.T) {
	text, _, err := encode(auditLogs(nil))
	require.NoError(t, err)
	for i := range text {
		changed := bytes.Clone(text)
		changed[i] ^= 1
		logs, err := Parse(changed)
		if err != nil {
			require.ErrorIs(t, err, ErrNotCanonical)
			continue
		}
		again, _, err := encode(logs)
		require.NoError(t, err)
		require.Equal(t, string(changed), string(again))
	}
}

// TestParseManyKeys reads a map for which looking up each key among all others
// would take longer than all other tests together.
func TestParseManyKeys(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"record":{"attributes":{`)
	for i := range 100_000 {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `"%07d":null`, i)
	}
	text.WriteString(`}}}`)
	logs, err := Parse([]byte(text.String()))
	require.NoError(t, err)
	assert.Equal(t, 100_000, firstRecord(logs).Attributes().Len())
}
