// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// vector is one file of audit/testdata/vectors/canonical: a record as OTLP/JSON
// or, where JSON cannot say it, as OTLP protobuf; or bytes that are to be
// refused.
type vector struct {
	name      string
	about     string
	expect    string // ok, or the text of the error
	otlp      string
	protobuf  []byte
	canonical string // of a vector that expects ErrNotCanonical
}

func (v *vector) logs(tb testing.TB) plog.Logs {
	tb.Helper()
	if v.protobuf != nil {
		logs, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(v.protobuf)
		require.NoError(tb, err)
		return logs
	}
	logs, err := (&plog.JSONUnmarshaler{DisallowUnknownFields: true}).UnmarshalLogs([]byte(v.otlp))
	require.NoError(tb, err, v.name)
	return logs
}

func vectors() []vector {
	var all []vector
	for _, group := range [][]vector{
		recordVectors(), valueVectors(), keyVectors(), stringVectors(), faultVectors(), utf8Vectors(), refusedVectors(),
	} {
		all = append(all, group...)
	}
	return all
}

// request is a request with one record, given as the members of its JSON object.
func request(record string) string {
	return `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{` + record + `}]}]}]}`
}

// attributes is a request whose record has the given attributes alone: key,
// value, key, value …, all in JSON.
func attributes(pairs ...string) string { return request(`"attributes":[` + keyValues(pairs...) + `]`) }

func keyValues(pairs ...string) string {
	var list []string
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, `{"key":`+pairs[i]+`,"value":`+pairs[i+1]+`}`)
	}
	return strings.Join(list, ",")
}

func kvlist(pairs ...string) string {
	return `{"kvlistValue":{"values":[` + keyValues(pairs...) + `]}}`
}

func array(values ...string) string {
	return `{"arrayValue":{"values":[` + strings.Join(values, ",") + `]}}`
}

func double(number string) string { return `{"doubleValue":` + number + `}` }

const one = `{"intValue":"1"}`

func recordVectors() []vector {
	return []vector{
		{
			name: "golden", about: "the vector of contrib's signing processor", expect: "ok",
			otlp: request(`"timeUnixNano":"1779096939611093600","observedTimeUnixNano":"1779096939611093600",` +
				`"eventName":"user.login","body":{"stringValue":"{\"event\":\"user.login\"}"},"attributes":[` + keyValues(
				`"audit.record.id"`, `{"stringValue":"rec-docker-pass"}`, `"audit.actor.id"`, `{"stringValue":"alice@example.com"}`,
				`"audit.actor.type"`, `{"stringValue":"user"}`, `"audit.action"`, `{"stringValue":"login"}`,
				`"audit.outcome"`, `{"stringValue":"success"}`, `"audit.source.id"`, `{"stringValue":"testapp"}`) + `]`),
		},
		{name: "record-empty", about: "record is always present", expect: "ok", otlp: request(``)},
		{
			name: "members-all", about: "every member of every object", expect: "ok",
			otlp: `{"resourceLogs":[{"resource":{"attributes":[` + keyValues(`"service.name"`, `{"stringValue":"shop"}`) +
				`]},"schemaUrl":"https://example.com/resource","scopeLogs":[{"scope":{"name":"lib","version":"1.2","attributes":[` +
				keyValues(`"s"`, one) + `]},"schemaUrl":"https://example.com/scope","logRecords":[{` +
				`"timeUnixNano":"1","observedTimeUnixNano":"2","severityNumber":9,"severityText":"INFO","flags":1,` +
				`"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","eventName":"e","body":` + one +
				`,"attributes":[` + keyValues(`"z"`, one, `"audit.integrity.value"`, `{"stringValue":"c2ln"}`,
				`"audit.integrity.collector.tenant"`, `{"stringValue":"acme"}`) + `]}]}]}]}`,
		},
		{
			name: "resource-schema-url", about: "a resource of a schema URL alone, no scope", expect: "ok",
			otlp: `{"resourceLogs":[{"schemaUrl":"u","scopeLogs":[{"logRecords":[{"eventName":"e"}]}]}]}`,
		},
		{
			name: "scope-version", about: "a scope of a version alone, no resource", expect: "ok",
			otlp: `{"resourceLogs":[{"scopeLogs":[{"scope":{"version":"1"},"logRecords":[{"eventName":"e"}]}]}]}`,
		},
		{name: "severity-flags", about: "the largest flags, nothing else of severity", expect: "ok", otlp: request(`"flags":4294967295`)},
		{name: "severity-number", about: "a number that OTLP has no name for", expect: "ok", otlp: request(`"severityNumber":-7`)},
		{
			name: "integrity-namespaces", about: "collector, proof, chain and what only looks like them; on a resource they are ordinary",
			expect: "ok",
			otlp: `{"resourceLogs":[{"resource":{"attributes":[` + keyValues(`"audit.integrity.algorithm"`, `{"stringValue":"EdDSA"}`,
				`"audit.integrity.chain.seq"`, one) + `]},"scopeLogs":[{"logRecords":[{"attributes":[` + keyValues(
				`"audit.integrity"`, one, `"audit.integrity."`, one, `"audit.integrity.chain"`, one, `"audit.integrity.chain."`, one,
				`"audit.integrity.chain.seq"`, one, `"audit.integrity.chained"`, one, `"audit.integrity.collector"`, one,
				`"audit.integrity.collector."`, one, `"audit.integrity.collector.tenant"`, one, `"audit.integrity.collectors"`, one,
				`"audit.integrity.hop.0.chain.seq"`, one, `"audit.integrity.value"`, one, `"audit.integrity/x"`, one,
				`"audit.sequence.number"`, one, `"m"`, kvlist(`"audit.integrity.chain.seq"`, one)) + `]}]}]}]}`,
		},
		{
			name: "integrity-chain-only", about: "a record of chain attributes alone; they are not looked at", expect: "ok",
			otlp: attributes(`"audit.integrity.chain.seq"`, one, `"audit.integrity.chain.x"`, double(`"NaN"`)),
		},
		{name: "integrity-proof-only", about: "a proof, and no other attribute", expect: "ok", otlp: attributes(`"audit.integrity.value"`, one)},
		{name: "ids-zero", about: "ids of zeros are absent", expect: "ok", otlp: request(`"traceId":"00000000000000000000000000000000","spanId":"0000000000000000"`)},
		{name: "ids-trace", about: "a trace without a span", expect: "ok", otlp: request(`"traceId":"00000000000000000000000000000001"`)},
		{name: "time-largest", about: "2^63 - 1", expect: "ok", otlp: request(`"timeUnixNano":"9223372036854775807","observedTimeUnixNano":"9223372036854775807"`)},
		{
			name: "dropped-counts", about: "dropped counts are not part of the form", expect: "ok",
			otlp: `{"resourceLogs":[{"resource":{"droppedAttributesCount":1},"scopeLogs":[{"scope":{"droppedAttributesCount":2},` +
				`"logRecords":[{"droppedAttributesCount":3}]}]}]}`,
		},
		{name: "body-unset", about: "no body", expect: "ok", otlp: request(`"eventName":"e"`)},
		{name: "body-empty-string", about: "a body that is an empty string", expect: "ok", otlp: request(`"body":{"stringValue":""}`)},
		{name: "body-empty-map", about: "a body that is an empty map", expect: "ok", otlp: request(`"body":` + kvlist())},
		{name: "body-slice", about: "a body that is a slice", expect: "ok", otlp: request(`"body":` + array(one, `{}`, `{"stringValue":"x"}`))},
		{name: "body-bytes", about: "a body of bytes", expect: "ok", otlp: request(`"body":{"bytesValue":"AP8="}`)},
		{name: "body-map", about: "a body that is a map", expect: "ok", otlp: request(`"body":` + kvlist(`"b"`, one, `"a"`, one))},
	}
}

// appendixB are the numbers of RFC 8785 appendix B that have a JSON form.
var appendixB = []struct {
	bits uint64
	text string
}{
	{0x0000000000000000, "0"},
	{0x8000000000000000, "0"},
	{0x0000000000000001, "5e-324"},
	{0x8000000000000001, "-5e-324"},
	{0x7fefffffffffffff, "1.7976931348623157e+308"},
	{0xffefffffffffffff, "-1.7976931348623157e+308"},
	{0x4340000000000000, "9007199254740992"},
	{0xc340000000000000, "-9007199254740992"},
	{0x4430000000000000, "295147905179352830000"},
	{0x44b52d02c7e14af5, "9.999999999999997e+22"},
	{0x44b52d02c7e14af6, "1e+23"},
	{0x44b52d02c7e14af7, "1.0000000000000001e+23"},
	{0x444b1ae4d6e2ef4e, "999999999999999700000"},
	{0x444b1ae4d6e2ef4f, "999999999999999900000"},
	{0x444b1ae4d6e2ef50, "1e+21"},
	{0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
	{0x3eb0c6f7a0b5ed8d, "0.000001"},
	{0x41b3de4355555553, "333333333.3333332"},
	{0x41b3de4355555554, "333333333.33333325"},
	{0x41b3de4355555555, "333333333.3333333"},
	{0x41b3de4355555556, "333333333.3333334"},
	{0x41b3de4355555557, "333333333.33333343"},
	{0xbecbf647612f3696, "-0.0000033333333333333333"},
	{0x43143ff3c1cb0959, "1424953923781206.2"},
}

func valueVectors() []vector {
	var numbers []string
	for _, number := range appendixB {
		numbers = append(numbers, double(number.text))
	}
	return []vector{
		{name: "value-string", about: "strings", expect: "ok", otlp: attributes(`"a"`, `{"stringValue":"x"}`, `"b"`, `{"stringValue":""}`)},
		{
			name: "value-int", about: "the smallest and largest int64 and others, always quoted", expect: "ok",
			otlp: attributes(`"a"`, array(`{"intValue":"-9223372036854775808"}`, `{"intValue":"9223372036854775807"}`,
				`{"intValue":"0"}`, `{"intValue":"-1"}`, `{"intValue":"9007199254740993"}`)),
		},
		{name: "value-double", about: "RFC 8785 appendix B", expect: "ok", otlp: attributes(`"a"`, array(numbers...))},
		{name: "value-double-negative-zero", about: "-0 is 0", expect: "ok", otlp: attributes(`"a"`, double(`-0.0`))},
		{name: "value-double-whole", about: "a whole double stays a double", expect: "ok", otlp: attributes(`"a"`, double(`3`), `"b"`, `{"intValue":"3"}`)},
		{name: "value-bool", about: "both", expect: "ok", otlp: attributes(`"a"`, `{"boolValue":true}`, `"b"`, `{"boolValue":false}`)},
		{
			name: "value-bytes", about: "0, 1, 2, 3 and 50 bytes; + and / of the standard alphabet", expect: "ok",
			otlp: attributes(`"a"`, array(`{"bytesValue":""}`, `{"bytesValue":"/w=="}`, `{"bytesValue":"+/8="}`, `{"bytesValue":"AAEC"}`,
				`{"bytesValue":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDE="}`)),
		},
		{name: "value-empty", about: "an empty value is null, also inside a slice and a map", expect: "ok", otlp: attributes(`"a"`, `{}`, `"b"`, array(`{}`), `"c"`, kvlist(`"d"`, `{}`))},
		{name: "value-slice", about: "slices in slices", expect: "ok", otlp: attributes(`"a"`, array(), `"b"`, array(array(), array(one, kvlist(`"k"`, array(one)))))},
		{name: "value-map", about: "maps in maps", expect: "ok", otlp: attributes(`"a"`, kvlist(), `"b"`, kvlist(`"z"`, kvlist(`"y"`, kvlist()), `"c"`, one))},
		{
			name: "value-map-like-scalar", about: "maps whose keys are those of typed scalars", expect: "ok",
			otlp: attributes(`"a"`, kvlist(`"stringValue"`, `{"stringValue":"x"}`), `"b"`, kvlist(`"intValue"`, `{"stringValue":"1"}`),
				`"c"`, kvlist(`"boolValue"`, `{"boolValue":true}`), `"d"`, kvlist(`"doubleValue"`, double(`1`)),
				`"e"`, kvlist(`"bytesValue"`, array()), `"f"`, kvlist(`"arrayValue"`, kvlist(`"values"`, array(one)))),
		},
		{name: "depth-64", about: "64 slices in one another", expect: "ok", otlp: attributes(`"a"`, nested(64, array))},
		{name: "depth-64-body", about: "64 maps in one another, in the body", expect: "ok", otlp: request(`"body":` + nested(64, inMap))},
	}
}

func inMap(value ...string) string {
	if len(value) == 0 {
		return kvlist()
	}
	return kvlist(`"k"`, value[0])
}

func nested(levels int, wrap func(...string) string) string {
	value := wrap()
	for range levels - 1 {
		value = wrap(value)
	}
	return value
}

func keyVectors() []vector {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf(`"key-%d"`, i*37%100), one)
	}
	return []vector{
		{
			name: "keys-utf16-order", about: "surrogate pairs come before U+E000 to U+FFFF, though their UTF-8 comes after", expect: "ok",
			otlp: attributes(`"\uffff"`, one, `"\ue000"`, one, `"\ud800\udc00"`, one, `"\udbff\udfff"`, one, `"\ud7ff"`, one, `"é"`, one,
				`"z"`, one, `"a\uffff"`, one, `"a😀"`, one, `"a"`, one, `""`, one),
		},
		{name: "keys-rfc8785", about: "the keys of RFC 8785 section 3.2.3", expect: "ok", otlp: attributes(`"€"`, one, `"\r"`, one, `"דּ"`, one, `"1"`, one, `"😀"`, one, `"\u0080"`, one, `"ö"`, one)},
		{name: "keys-prefix", about: "a key before the keys that it begins", expect: "ok", otlp: attributes(`"ab"`, one, `"a.b"`, one, `"a"`, one, `"aa"`, one, `"a-"`, one)},
		{name: "keys-many", about: "100 keys out of order", expect: "ok", otlp: attributes(many...)},
		{name: "keys-duplicate", about: "the last value of a key counts", expect: "ok", otlp: attributes(`"a"`, `{"intValue":"1"}`, `"b"`, one, `"a"`, `{"stringValue":"2"}`, `"a"`, `{"intValue":"3"}`)},
		{
			name: "keys-duplicate-nested", about: "also in a map, and first or last in its object", expect: "ok",
			otlp: attributes(`"m"`, kvlist(`"z"`, one, `"a"`, one, `"z"`, `{"intValue":"2"}`, `"a"`, `{"intValue":"2"}`)),
		},
		{
			name: "keys-duplicate-integrity", about: "also in proof and collector", expect: "ok",
			otlp: attributes(`"audit.integrity.value"`, one, `"audit.integrity.algorithm"`, one, `"audit.integrity.value"`, `{"intValue":"2"}`,
				`"audit.integrity.collector.x"`, one, `"audit.integrity.collector.x"`, `{"intValue":"2"}`, `"audit.integrity.algorithm"`, `{"intValue":"2"}`),
		},
		{name: "keys-duplicate-replaced-fault", about: "a value that is replaced is not looked at", expect: "ok", otlp: attributes(`"a"`, double(`"NaN"`), `"a"`, one)},
	}
}

func stringVectors() []vector {
	var controls strings.Builder
	for c := range 0x20 {
		fmt.Fprintf(&controls, `\u%04x`, c)
	}
	return []vector{
		{name: "string-controls", about: "every control character, DEL is none", expect: "ok", otlp: attributes(`"`+controls.String()+`\u007f"`, `{"stringValue":"`+controls.String()+`\u007f"}`)},
		{name: "string-quote-backslash", about: "quote and backslash; the slash stands for itself", expect: "ok", otlp: request(`"eventName":"a\"b\\c\/d"`)},
		{name: "string-verbatim", about: "what other encoders escape stands for itself", expect: "ok", otlp: request(`"eventName":"<&>\u2028\u2029\u0085é😀\ufeff\ufffd\uffff"`)},
		{name: "string-not-normalised", about: "composed and decomposed stay different", expect: "ok", otlp: attributes(`"\u00e9"`, one, `"e\u0301"`, one)},
	}
}

func faultVectors() []vector {
	return []vector{
		{name: "number-nan", about: "NaN", expect: ErrNumber.Error(), otlp: attributes(`"a"`, double(`"NaN"`))},
		{name: "number-infinity", about: "infinity in a map in a slice", expect: ErrNumber.Error(), otlp: attributes(`"a"`, array(one, kvlist(`"k"`, double(`"Infinity"`))))},
		{name: "number-negative-infinity", about: "negative infinity in a resource", expect: ErrNumber.Error(), otlp: `{"resourceLogs":[{"resource":{"attributes":[` + keyValues(`"a"`, double(`"-Infinity"`)) + `]},"scopeLogs":[{"logRecords":[{}]}]}]}`},
		{name: "depth-65", about: "65 slices in one another", expect: ErrDepth.Error(), otlp: attributes(`"a"`, nested(65, array))},
		{name: "depth-65-body", about: "65 maps in one another, in the body", expect: ErrDepth.Error(), otlp: request(`"body":` + nested(65, inMap))},
		{name: "time-too-large", about: "2^63", expect: ErrTime.Error(), otlp: request(`"timeUnixNano":"9223372036854775808"`)},
		{name: "time-observed-too-large", about: "2^64 - 1", expect: ErrTime.Error(), otlp: request(`"observedTimeUnixNano":"18446744073709551615"`)},
	}
}

// utf8Vectors put one byte that is not UTF-8 into each place that has a string.
func utf8Vectors() []vector {
	const bad = "a\xffb"
	pair := func(key string, value []byte) []byte { return bytesField(stringField(nil, 1, key), 2, value) }
	text := stringField(nil, 1, bad)
	inRecord := func(record []byte) []byte { return bytesField(nil, 1, bytesField(nil, 2, bytesField(nil, 2, record))) }
	record := bytesField(nil, 2, nil)
	places := []struct {
		name     string
		protobuf []byte
	}{
		{"value", inRecord(bytesField(nil, 6, pair("k", text)))},
		{"key", inRecord(bytesField(nil, 6, pair(bad, nil)))},
		{"nested-key", inRecord(bytesField(nil, 6, pair("k", bytesField(nil, 6, bytesField(nil, 1, pair(bad, nil))))))},
		{"surrogate", inRecord(bytesField(nil, 6, pair("k", stringField(nil, 1, "\xed\xa0\x80"))))},
		{"overlong", inRecord(bytesField(nil, 6, pair("k", stringField(nil, 1, "\xc0\x80"))))},
		{"body", inRecord(bytesField(nil, 5, text))},
		{"event-name", inRecord(stringField(nil, 12, bad))},
		{"severity-text", inRecord(stringField(nil, 3, bad))},
		{"resource", bytesField(nil, 1, bytesField(bytesField(nil, 1, bytesField(nil, 1, pair("k", text))), 2, record))},
		{"resource-schema-url", bytesField(nil, 1, stringField(bytesField(nil, 2, record), 3, bad))},
		{"scope", bytesField(nil, 1, bytesField(nil, 2, append(bytesField(nil, 1, bytesField(nil, 3, pair("k", text))), record...)))},
		{"scope-name", bytesField(nil, 1, bytesField(nil, 2, append(bytesField(nil, 1, stringField(nil, 1, bad)), record...)))},
		{"scope-version", bytesField(nil, 1, bytesField(nil, 2, append(bytesField(nil, 1, stringField(nil, 2, bad)), record...)))},
		{"scope-schema-url", bytesField(nil, 1, bytesField(nil, 2, stringField(record, 3, bad)))},
	}
	var list []vector
	for _, place := range places {
		list = append(list, vector{
			name: "utf8-" + place.name, about: "not UTF-8: " + place.name, expect: ErrUTF8.Error(), protobuf: place.protobuf,
		})
	}
	return list
}

// refusedVectors are bytes that a reader must refuse, because no record has
// them: most are another spelling of a record that has a canonical form.
func refusedVectors() []vector {
	value := func(value string) string { return `{"record":{"attributes":{"a":` + value + `}}}` }
	var list []vector
	for _, v := range [][3]string{
		{"not-object", "an array", `[]`},
		{"no-record", "record is always present", `{}`},
		{"record-null", "record is an object", `{"record":null}`},
		{"space", "white space", `{"record": {}}`},
		{"more", "more bytes behind the end", `{"record":{}}{}`},
		{"cut", "the last brace is missing", `{"record":{}`},
		{"comma-end", "a comma without a member", `{"record":{},}`},
		{"member-unknown", "a member that the form does not have", `{"record":{},"x":{}}`},
		{"member-twice", "a member twice", `{"record":{},"record":{}}`},
		{"member-order", "members out of order", `{"record":{"event_name":"e","body":null}}`},
		{"member-order-top", "members out of order", `{"severity":{"text":"x"},"record":{}}`},
		{"attributes-empty", "attributes without members", `{"record":{"attributes":{}}}`},
		{"collector-empty", "a collector without members", `{"collector":{},"record":{}}`},
		{"proof-empty", "a proof without members", `{"proof":{},"record":{}}`},
		{"resource-empty", "a resource without members", `{"record":{},"resource":{}}`},
		{"scope-empty", "a scope without members", `{"record":{},"scope":{}}`},
		{"severity-empty", "a severity without members", `{"record":{},"severity":{}}`},
		{"body-null", "an empty body is absent", `{"record":{"body":null}}`},
		{"event-name-empty", "an empty name is absent", `{"record":{"event_name":""}}`},
		{"time-zero", "a time of zero is absent", `{"record":{"timestamp":"0"}}`},
		{"time-leading-zero", "a leading zero", `{"record":{"timestamp":"01"}}`},
		{"time-too-large", "2^63", `{"record":{"timestamp":"9223372036854775808"}}`},
		{"time-negative", "a negative time", `{"record":{"timestamp":"-1"}}`},
		{"time-number", "a time that is a number", `{"record":{"timestamp":1}}`},
		{"trace-upper-case", "hex in upper case", `{"record":{"trace_id":"4BF92F3577B34DA6A3CE929D0E0E4736"}}`},
		{"trace-zero", "an id of zeros is absent", `{"record":{"trace_id":"00000000000000000000000000000000"}}`},
		{"trace-short", "too short an id", `{"record":{"trace_id":"4bf92f35"}}`},
		{"severity-number-zero", "a severity of zero is absent", `{"record":{},"severity":{"number":"0"}}`},
		{"severity-number-large", "beyond 32 bits", `{"record":{},"severity":{"number":"2147483648"}}`},
		{"severity-flags-large", "beyond 32 bits", `{"record":{},"severity":{"flags":"4294967296"}}`},
		{"keys-unsorted", "keys out of order", `{"record":{"attributes":{"b":null,"a":null}}}`},
		{"keys-duplicate", "a key twice", `{"record":{"attributes":{"a":null,"a":null}}}`},
		{"keys-code-point-order", "keys in the order of code points", `{"record":{"attributes":{"` + "\ue000" + `":null,"😀":null}}}`},
		{"key-escaped", "a key in another spelling", `{"record":{"attributes":{"\u0061":null}}}`},
		{"collector-key", "a key in collector that does not belong there", `{"collector":{"a":null},"record":{}}`},
		{"proof-key", "a key in proof that belongs into collector", `{"proof":{"audit.integrity.collector.x":null},"record":{}}`},
		{"proof-chain", "a chain attribute", `{"proof":{"audit.integrity.chain.seq":null},"record":{}}`},
		{"record-proof", "a key in record that belongs into proof", `{"record":{"attributes":{"audit.integrity.value":null}}}`},
		{"string-bare", "a value without its type", value(`"x"`)},
		{"string-escaped", "a letter that is escaped", value(`{"stringValue":"\u0078"}`)},
		{"string-slash", "an escaped slash", value(`{"stringValue":"\/"}`)},
		{"string-upper-case", "an escape in upper case", value(`{"stringValue":"\u001F"}`)},
		{"string-long-escape", "a long escape where there is a short one", value(`{"stringValue":"\u000a"}`)},
		{"string-surrogates", "escaped surrogates", value(`{"stringValue":"\ud83d\ude00"}`)},
		{"string-extra-member", "a second member beside the value", value(`{"stringValue":"x","y":null}`)},
		{"int-number", "an int that is a number", value(`{"intValue":1}`)},
		{"int-leading-zero", "a leading zero", value(`{"intValue":"01"}`)},
		{"int-negative-zero", "a negative zero", value(`{"intValue":"-0"}`)},
		{"int-plus", "a plus sign", value(`{"intValue":"+1"}`)},
		{"int-empty", "no digits", value(`{"intValue":""}`)},
		{"int-too-large", "2^63", value(`{"intValue":"9223372036854775808"}`)},
		{"double-fraction", "a fraction of zero", value(`{"doubleValue":1.0}`)},
		{"double-exponent", "an exponent where there is none", value(`{"doubleValue":1e3}`)},
		{"double-exponent-zero", "an exponent with a leading zero", value(`{"doubleValue":1e-07}`)},
		{"double-negative-zero", "a negative zero", value(`{"doubleValue":-0}`)},
		{"double-digits", "more digits than the shortest spelling", value(`{"doubleValue":0.10000000000000001}`)},
		{"double-too-large", "beyond the largest double", value(`{"doubleValue":1e+400}`)},
		{"double-string", "a double that is a string", value(`{"doubleValue":"1"}`)},
		{"double-empty", "no number", value(`{"doubleValue":}`)},
		{"bytes-unpadded", "base64 without padding", value(`{"bytesValue":"/w"}`)},
		{"bytes-trailing-bits", "base64 with bits that mean nothing", value(`{"bytesValue":"/x=="}`)},
		{"bytes-url-alphabet", "base64 of the URL alphabet", value(`{"bytesValue":"_w=="}`)},
		{"map-tagged", "a map as OTLP/JSON has it", value(kvlist(`"k"`, one))},
		{"depth-65", "65 slices in one another", value(strings.Repeat(`[`, 65) + strings.Repeat(`]`, 65))},
	} {
		list = append(list, vector{name: "refused-" + v[0], about: v[1], expect: ErrNotCanonical.Error(), canonical: v[2]})
	}
	return list
}
