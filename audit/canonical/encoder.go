// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"encoding/hex"
	"math"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// MaxDepth is how deep maps and slices may nest inside an attribute or a body.
const MaxDepth = 64

// The attributes of a record that are not part of `record`. They repeat what
// package audit exports, which imports this package.
const (
	prefixIntegrity = "audit.integrity."
	prefixCollector = prefixIntegrity + "collector."
	prefixChain     = prefixIntegrity + "chain."
)

// Span is a half-open range of bytes: b[Start:End].
type Span struct{ Start, End int }

// Encoder writes canonical bytes straight from records. It reuses its memory:
// after the first few records it allocates nothing but what dst needs. The zero
// Encoder is ready and stands for an empty resource and scope. It keeps no
// reference to a record. Not for concurrent use.
type Encoder struct {
	group    []byte   // `,"resource":{…},"scope":{…}` of the records that follow
	groupErr error    // why there is no group
	fields   []field  // stack: the members of the maps being written
	order    []int32  // stack parallel to fields: positions in sorted order
	lastTop  []int32  // order of the last record's attributes: likely the next one's
	chunk    [48]byte // bytes on their way to base64
}

// maxGroup and maxScratch are how many bytes and how many fields an Encoder
// keeps memory for.
const (
	maxGroup   = 1 << 20
	maxScratch = 4096
)

// field is one member of a map that is being written.
type field struct {
	key   string
	value pcommon.Value
	plain bool // the key needs neither escapes nor a look at its UTF-8
}

// SetGroup sets what the records that follow have in common. On an error, which
// is a [PathError], Append fails with the same until a SetGroup succeeds.
func (e *Encoder) SetGroup(
	resource pcommon.Resource, resourceSchemaURL string,
	scope pcommon.InstrumentationScope, scopeSchemaURL string,
) error {
	defer e.release()
	if cap(e.group) > maxGroup {
		e.group = nil
	}
	e.group, e.groupErr = e.group[:0], nil
	dst, fault := e.appendResource(e.group, resource, resourceSchemaURL)
	if fault == nil {
		dst, fault = e.appendScope(dst, scope, scopeSchemaURL)
	}
	if fault != nil {
		e.groupErr = fault
		return fault
	}
	e.group = dst
	return nil
}

// Append appends the canonical bytes of record, in the group of the last
// SetGroup. recordSpan is where in out the value of the member `record` is. An
// error is a [PathError]; out is then dst as it was.
func (e *Encoder) Append(dst []byte, record plog.LogRecord) (out []byte, recordSpan Span, err error) {
	if e.groupErr != nil {
		return dst, Span{}, e.groupErr
	}
	defer e.release()
	e.pushAttributes(record.Attributes())

	out, span, fault := e.appendCanonical(dst, record)
	if fault != nil {
		return out[:len(dst)], Span{}, fault
	}
	return out, span, nil
}

// AppendRecord appends the value of the member `record` alone, whatever the
// group. An error is a [PathError]; the result is then dst as it was.
func (e *Encoder) AppendRecord(dst []byte, record plog.LogRecord) ([]byte, error) {
	defer e.release()
	e.pushAttributes(record.Attributes())
	first, last := e.integrityRange()
	out, fault := e.appendRecord(dst, record, Span{0, first}, Span{last, len(e.fields)})
	if fault != nil {
		return out[:len(dst)], fault
	}
	return out, nil
}

func (e *Encoder) appendCanonical(dst []byte, record plog.LogRecord) ([]byte, Span, *PathError) {
	first, last := e.integrityRange()
	collector, chain := e.prefixRange(first, last, prefixCollector), e.prefixRange(first, last, prefixChain)

	dst = append(dst, '{')
	dst, fault := e.appendCollector(dst, collector)
	if fault != nil {
		return dst, Span{}, fault
	}
	dst, fault = e.appendProof(dst, Span{first, chain.Start}, Span{chain.End, collector.Start}, Span{collector.End, last})
	if fault != nil {
		return dst, Span{}, fault
	}
	dst = append(dst, `"record":`...)
	start := len(dst)
	dst, fault = e.appendRecord(dst, record, Span{0, first}, Span{last, len(e.fields)})
	if fault != nil {
		return dst, Span{}, fault
	}
	span := Span{start, len(dst)}
	dst = append(dst, e.group...)
	dst, fault = appendSeverity(dst, record)
	if fault != nil {
		return dst, Span{}, fault
	}
	return append(dst, '}'), span, nil
}

func (e *Encoder) appendCollector(dst []byte, members Span) ([]byte, *PathError) {
	if members.Start == members.End {
		return dst, nil
	}
	dst = append(dst, `"collector":{`...)
	dst, fault := e.appendMembers(dst, members)
	return append(dst, `},`...), fault.within("attributes")
}

func (e *Encoder) appendProof(dst []byte, members ...Span) ([]byte, *PathError) {
	mark := len(dst)
	dst = append(dst, `"proof":{`...)
	open := len(dst)
	for _, span := range members {
		var fault *PathError
		if dst, fault = e.appendMembers(dst, span); fault != nil {
			return dst, fault.within("attributes")
		}
	}
	if len(dst) == open {
		return dst[:mark], nil
	}
	return append(dst, `},`...), nil
}

// appendRecord writes the value of `record`: its members in the order of their
// names.
func (e *Encoder) appendRecord(dst []byte, record plog.LogRecord, before, after Span) ([]byte, *PathError) {
	start := len(dst)
	dst = append(dst, '{')
	if before.Start < before.End || after.Start < after.End {
		dst = append(dst, `"attributes":{`...)
		dst, fault := e.appendMembers(dst, before)
		if fault == nil {
			dst, fault = e.appendMembers(dst, after)
		}
		if fault != nil {
			return dst, fault.within("attributes")
		}
		return e.appendRecordRest(append(dst, `},`...), record, start)
	}
	return e.appendRecordRest(dst, record, start)
}

func (e *Encoder) appendRecordRest(dst []byte, record plog.LogRecord, start int) ([]byte, *PathError) {
	var fault *PathError
	if body := record.Body(); body.Type() != pcommon.ValueTypeEmpty {
		dst = append(dst, `"body":`...)
		if dst, fault = e.appendValue(dst, body, 0); fault != nil {
			return dst, fault.within("body")
		}
		dst = append(dst, ',')
	}
	if dst, fault = appendName(dst, `"event_name":`, record.EventName()); fault != nil {
		return dst, fault.within("event_name")
	}
	if dst, fault = appendTime(dst, `"observed_timestamp":"`, record.ObservedTimestamp()); fault != nil {
		return dst, fault.within("observed_timestamp")
	}
	if id := record.SpanID(); !id.IsEmpty() {
		dst = append(dst, `"span_id":"`...)
		dst = append(hex.AppendEncode(dst, id[:]), `",`...)
	}
	if dst, fault = appendTime(dst, `"timestamp":"`, record.Timestamp()); fault != nil {
		return dst, fault.within("timestamp")
	}
	if id := record.TraceID(); !id.IsEmpty() {
		dst = append(dst, `"trace_id":"`...)
		dst = append(hex.AppendEncode(dst, id[:]), `",`...)
	}
	return closeObject(dst, start), nil
}

// appendResource writes `,"resource":{…}`, or nothing.
func (e *Encoder) appendResource(dst []byte, resource pcommon.Resource, schemaURL string) ([]byte, *PathError) {
	mark := len(dst)
	dst = append(dst, `,"resource":{`...)
	dst, fault := e.appendAttributes(dst, resource.Attributes())
	if fault != nil {
		return dst, fault.within("resource")
	}
	if dst, fault = appendName(dst, `"schema_url":`, schemaURL); fault != nil {
		return dst, fault.within("resource.schema_url")
	}
	return closeMember(dst, mark), nil
}

// appendScope writes `,"scope":{…}`, or nothing.
func (e *Encoder) appendScope(dst []byte, scope pcommon.InstrumentationScope, schemaURL string) ([]byte, *PathError) {
	mark := len(dst)
	dst = append(dst, `,"scope":{`...)
	dst, fault := e.appendAttributes(dst, scope.Attributes())
	if fault != nil {
		return dst, fault.within("scope")
	}
	if dst, fault = appendName(dst, `"name":`, scope.Name()); fault != nil {
		return dst, fault.within("scope.name")
	}
	if dst, fault = appendName(dst, `"schema_url":`, schemaURL); fault != nil {
		return dst, fault.within("scope.schema_url")
	}
	if dst, fault = appendName(dst, `"version":`, scope.Version()); fault != nil {
		return dst, fault.within("scope.version")
	}
	return closeMember(dst, mark), nil
}

// appendSeverity writes `,"severity":{…}`, or nothing.
func appendSeverity(dst []byte, record plog.LogRecord) ([]byte, *PathError) {
	flags, number, text := record.Flags(), record.SeverityNumber(), record.SeverityText()
	if flags == 0 && number == 0 && text == "" {
		return dst, nil
	}
	mark := len(dst)
	dst = append(dst, `,"severity":{`...)
	if flags != 0 {
		dst = append(dst, `"flags":"`...)
		dst = append(strconv.AppendUint(dst, uint64(flags), 10), `",`...)
	}
	if number != 0 {
		dst = append(dst, `"number":"`...)
		dst = append(strconv.AppendInt(dst, int64(number), 10), `",`...)
	}
	dst, fault := appendName(dst, `"text":`, text)
	if fault != nil {
		return dst, fault.within("severity.text")
	}
	return closeMember(dst, mark), nil
}

// appendAttributes writes `"attributes":{…},`, or nothing.
func (e *Encoder) appendAttributes(dst []byte, attributes pcommon.Map) ([]byte, *PathError) {
	if attributes.Len() == 0 {
		return dst, nil
	}
	dst = append(dst, `"attributes":`...)
	dst, fault := e.appendMap(dst, attributes, 0)
	return append(dst, ','), fault.within("attributes")
}

// appendName writes a member whose value is a plain string and a comma, or
// nothing for the empty string. member is the quoted name with its colon.
func appendName(dst []byte, member, value string) ([]byte, *PathError) {
	if value == "" {
		return dst, nil
	}
	dst = append(dst, member...)
	dst, ok := appendText(dst, value)
	if !ok {
		return dst, &PathError{Err: ErrUTF8}
	}
	return append(dst, ','), nil
}

func appendTime(dst []byte, member string, ns pcommon.Timestamp) ([]byte, *PathError) {
	if ns == 0 {
		return dst, nil
	}
	if ns > math.MaxInt64 {
		return dst, &PathError{Err: ErrTime}
	}
	dst = append(dst, member...)
	dst = strconv.AppendUint(dst, uint64(ns), 10)
	return append(dst, `",`...), nil
}

// closeObject ends the object that began at start: the last member's comma, if
// there is one, becomes the brace.
func closeObject(dst []byte, start int) []byte {
	if last := len(dst) - 1; last > start {
		dst[last] = '}'
		return dst
	}
	return append(dst, '}')
}

// closeMember ends the member that began at mark, or takes it back if its
// object stayed empty.
func closeMember(dst []byte, mark int) []byte {
	last := len(dst) - 1
	if dst[last] == '{' {
		return dst[:mark]
	}
	dst[last] = '}'
	return dst
}
