// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// MaxSize is how many canonical bytes Parse takes.
const MaxSize = 16 << 20

// ErrNotCanonical says that bytes are not what an Encoder writes for any
// record.
var ErrNotCanonical = errors.New("not canonical")

// Parse returns the record that canonical bytes stand for, in its resource and
// scope: one resource, one scope, one record. It accepts exactly what
// [Encoder.Append] writes, up to [MaxSize]; everything else is
// [ErrNotCanonical]. The result shares no memory with b.
func Parse(b []byte) (plog.Logs, error) {
	if len(b) > MaxSize {
		return plog.Logs{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrNotCanonical, len(b), MaxSize)
	}
	p := parser{rest: b, size: len(b)}
	parts := p.canonical()
	if p.err != nil {
		return plog.Logs{}, p.err
	}
	logs, err := parts.logs()
	if err != nil {
		return plog.Logs{}, err
	}
	if err := checkSame(logs, b); err != nil {
		return plog.Logs{}, err
	}
	return logs, nil
}

// checkSame is what makes Parse strict: the parser knows the form's grammar,
// but leaves the order of keys, the spelling of numbers and all that should be
// absent to the one place that knows them, the Encoder.
func checkSame(logs plog.Logs, b []byte) error {
	var e Encoder
	resource := logs.ResourceLogs().At(0)
	scope := resource.ScopeLogs().At(0)
	if err := e.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()); err != nil {
		return fmt.Errorf("%w: %w", ErrNotCanonical, err)
	}
	again, _, err := e.Append(make([]byte, 0, len(b)), scope.LogRecords().At(0))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotCanonical, err)
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("%w: another spelling of the same record", ErrNotCanonical)
	}
	return nil
}

// parts is what canonical bytes say. Lists and values are OTLP/JSON, which
// package plog reads in one pass and in order; building pdata maps key by key
// looks for each key among all others.
type parts struct {
	integrity, attributes, body []byte

	eventName       string
	observed, time  uint64
	spanID          pcommon.SpanID
	traceID         pcommon.TraceID
	flags           uint64
	number          int64
	text            string
	resource, scope []byte
	resourceURL     string
	scopeURL        string
	scopeName       string
	scopeVersion    string
}

func (s *parts) logs() (plog.Logs, error) {
	text := bytes.Join([][]byte{
		[]byte(`{"resourceLogs":[{"resource":{"attributes":[`), s.resource,
		[]byte(`]},"scopeLogs":[{"scope":{"attributes":[`), s.scope,
		[]byte(`]},"logRecords":[{"attributes":[`), s.attributes, s.integrity,
		[]byte(`],"body":`), s.body,
		[]byte(`}]}]}]}`),
	}, nil)
	logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(text)
	if err != nil { // its text quotes what it read
		return plog.Logs{}, fmt.Errorf("%w: a number or bytes that no value has", ErrNotCanonical)
	}
	resource := logs.ResourceLogs().At(0)
	resource.SetSchemaUrl(s.resourceURL)
	scope := resource.ScopeLogs().At(0)
	scope.SetSchemaUrl(s.scopeURL)
	scope.Scope().SetName(s.scopeName)
	scope.Scope().SetVersion(s.scopeVersion)
	s.set(scope.LogRecords().At(0))
	return logs, nil
}

func (s *parts) set(record plog.LogRecord) {
	record.SetEventName(s.eventName)
	record.SetObservedTimestamp(pcommon.Timestamp(s.observed))
	record.SetTimestamp(pcommon.Timestamp(s.time))
	record.SetSpanID(s.spanID)
	record.SetTraceID(s.traceID)
	record.SetFlags(plog.LogRecordFlags(s.flags))
	record.SetSeverityNumber(plog.SeverityNumber(s.number))
	record.SetSeverityText(s.text)
}

// parser cuts known pieces off canonical bytes. The first failure sticks.
type parser struct {
	rest []byte
	size int
	err  error
}

// member is a member that an object may have, and how to read its value.
type member struct {
	name string
	read func()
}

func (p *parser) canonical() *parts {
	s := &parts{body: []byte(`{}`)}
	p.object(
		member{"collector", func() { p.attributes(&s.integrity) }},
		member{"proof", func() { p.attributes(&s.integrity) }},
		member{"record", func() { p.record(s) }},
		member{"resource", func() {
			p.object(
				member{"attributes", func() { p.attributes(&s.resource) }},
				member{"schema_url", p.string(&s.resourceURL)},
			)
		}},
		member{"scope", func() {
			p.object(
				member{"attributes", func() { p.attributes(&s.scope) }},
				member{"name", p.string(&s.scopeName)},
				member{"schema_url", p.string(&s.scopeURL)},
				member{"version", p.string(&s.scopeVersion)},
			)
		}},
		member{"severity", func() {
			p.object(
				member{"flags", func() { s.flags = p.uint(32) }},
				member{"number", func() { s.number = p.int32() }},
				member{"text", p.string(&s.text)},
			)
		}},
	)
	if p.err == nil && len(p.rest) > 0 {
		p.fail("more follows")
	}
	return s
}

func (p *parser) record(s *parts) {
	p.object(
		member{"attributes", func() { p.attributes(&s.attributes) }},
		member{"body", func() { s.body = p.value(nil, 0) }},
		member{"event_name", p.string(&s.eventName)},
		member{"observed_timestamp", func() { s.observed = p.uint(64) }},
		member{"span_id", func() { p.id(s.spanID[:]) }},
		member{"timestamp", func() { s.time = p.uint(64) }},
		member{"trace_id", func() { p.id(s.traceID[:]) }},
	)
	if len(s.attributes) > 0 && len(s.integrity) > 0 {
		s.attributes = append(s.attributes, ',')
	}
}

// object reads an object with some of the members, in their order.
func (p *parser) object(members ...member) {
	p.want(`{`)
	separator := ""
	for _, m := range members {
		if p.try(separator + `"` + m.name + `":`) {
			m.read()
			separator = ","
		}
	}
	p.want(`}`)
}

// attributes reads an object of values and adds it to a list of OTLP key-value
// pairs.
func (p *parser) attributes(list *[]byte) {
	if p.want(`{`); p.err != nil {
		return
	}
	if len(*list) > 0 {
		*list = append(*list, ',')
	}
	*list = p.pairs(*list, 0)
}

// pairs reads the rest of an object whose brace is read.
func (p *parser) pairs(dst []byte, depth int) []byte {
	for first := true; p.err == nil && !p.try(`}`); first = false {
		if !first {
			p.want(`,`)
			dst = append(dst, ',')
		}
		dst = append(dst, `{"key":`...)
		dst = p.text(dst)
		p.want(`:`)
		dst = append(dst, `,"value":`...)
		dst = p.value(dst, depth)
		dst = append(dst, '}')
	}
	return dst
}

// value reads a value that is inside a map or slice of the given depth and
// appends its OTLP/JSON.
func (p *parser) value(dst []byte, depth int) []byte {
	switch {
	case p.try(`null`):
		return append(dst, `{}`...)
	case p.next(`{"stringValue":"`):
		p.want(`{"stringValue":`)
		dst = append(dst, `{"stringValue":`...)
		dst = p.text(dst)
		p.want(`}`)
		return append(dst, '}')
	case p.try(`{"boolValue":true}`):
		return append(dst, `{"boolValue":true}`...)
	case p.try(`{"boolValue":false}`):
		return append(dst, `{"boolValue":false}`...)
	case p.try(`{"intValue":"`):
		return p.scalar(dst, `{"intValue":"`, `"}`, isIntByte)
	case p.try(`{"bytesValue":"`):
		return p.scalar(dst, `{"bytesValue":"`, `"}`, isBase64Byte)
	case p.atDouble():
		return p.double(dst)
	}
	return p.container(dst, depth+1)
}

// container reads a map or slice that is itself at the given depth.
func (p *parser) container(dst []byte, depth int) []byte {
	if depth > MaxDepth {
		p.fail(ErrDepth.Error())
		return dst
	}
	if p.try(`[`) {
		dst = append(dst, `{"arrayValue":{"values":[`...)
		dst = p.elements(dst, depth)
		return append(dst, `]}}`...)
	}
	if p.want(`{`); p.err != nil {
		return dst
	}
	dst = append(dst, `{"kvlistValue":{"values":[`...)
	dst = p.pairs(dst, depth)
	return append(dst, `]}}`...)
}

func (p *parser) elements(dst []byte, depth int) []byte {
	for first := true; p.err == nil && !p.try(`]`); first = false {
		if !first {
			p.want(`,`)
			dst = append(dst, ',')
		}
		dst = p.value(dst, depth)
	}
	return dst
}

// scalar copies bytes of one kind between a prefix, which is read, and a suffix.
func (p *parser) scalar(dst []byte, prefix, suffix string, allowed func(byte) bool) []byte {
	dst = append(dst, prefix...)
	dst = append(dst, p.run(allowed)...)
	p.want(suffix)
	return append(dst, suffix...)
}

const doubleMember = `{"doubleValue":`

// atDouble tells a double from a map that has a key of that name, whose value
// begins with no digit.
func (p *parser) atDouble() bool {
	return p.next(doubleMember) && len(p.rest) > len(doubleMember) && isIntByte(p.rest[len(doubleMember)])
}

// double copies a number as a string, which plog gives to strconv; a bare
// number it reads by a faster way that need not hit the nearest double.
func (p *parser) double(dst []byte) []byte {
	p.want(doubleMember)
	dst = append(dst, doubleMember+`"`...)
	dst = append(dst, p.run(isDoubleByte)...)
	p.want(`}`)
	return append(dst, `"}`...)
}

// run cuts off the longest run of allowed bytes.
func (p *parser) run(allowed func(byte) bool) []byte {
	n := 0
	for n < len(p.rest) && allowed(p.rest[n]) {
		n++
	}
	run := p.rest[:n]
	p.rest = p.rest[n:]
	return run
}

func isIntByte(b byte) bool { return b == '-' || isDigit(b) }

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isDoubleByte(b byte) bool { return isDigit(b) || b == '-' || b == '+' || b == '.' || b == 'e' }

func isBase64Byte(b byte) bool {
	return isDigit(b) || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || b == '+' || b == '/' || b == '='
}

// text copies a JSON string that CutString accepts.
func (p *parser) text(dst []byte) []byte {
	if p.err != nil {
		return dst
	}
	_, rest, err := CutString(p.rest)
	if err != nil {
		p.fail("want a string")
		return dst
	}
	dst = append(dst, p.rest[:len(p.rest)-len(rest)]...)
	p.rest = rest
	return dst
}

// string returns what reads a string into s.
func (p *parser) string(s *string) func() {
	return func() {
		value, rest, err := CutString(p.rest)
		if err != nil {
			p.fail("want a string")
			return
		}
		*s, p.rest = value, rest
	}
}

// uint reads a quoted number of at most the given bits.
func (p *parser) uint(bits int) uint64 {
	p.want(`"`)
	value, err := strconv.ParseUint(string(p.run(isDigit)), 10, bits)
	if err != nil {
		p.fail("want a decimal number")
	}
	p.want(`"`)
	return value
}

func (p *parser) int32() int64 {
	p.want(`"`)
	value, err := strconv.ParseInt(string(p.run(isIntByte)), 10, 32)
	if err != nil {
		p.fail("want a decimal number")
	}
	p.want(`"`)
	return value
}

// id reads quoted hex into all of dst.
func (p *parser) id(dst []byte) {
	p.want(`"`)
	if n := hex.EncodedLen(len(dst)); len(p.rest) >= n {
		if _, err := hex.Decode(dst, p.rest[:n]); err != nil {
			p.fail("want hex digits")
		}
		p.rest = p.rest[n:]
	}
	p.want(`"`)
}

func (p *parser) fail(what string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %s at byte %d", ErrNotCanonical, what, p.size-len(p.rest))
	}
}

// next says whether literal comes next; try also cuts it off.
func (p *parser) next(literal string) bool {
	return p.err == nil && len(p.rest) >= len(literal) && string(p.rest[:len(literal)]) == literal
}

func (p *parser) try(literal string) bool {
	if !p.next(literal) {
		return false
	}
	p.rest = p.rest[len(literal):]
	return true
}

func (p *parser) want(literal string) {
	if p.err == nil && !p.try(literal) {
		p.fail("want " + literal)
	}
}
