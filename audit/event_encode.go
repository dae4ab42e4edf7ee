// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit/canonical"
)

// EncodeEvent appends a record as one event in JSON, without newline. A record
// that DecodeEvent has made comes back equal when it is decoded again; what
// other records lose is listed in docs/events.md. Attributes of the integrity
// namespace are left out: they are the seal's, not the event's.
func EncodeEvent(dst []byte, resource pcommon.Resource, record plog.LogRecord) []byte {
	e := eventEncoder{out: dst, resource: resource.Attributes(), attrs: record.Attributes(), record: record}
	e.object(eventFields)
	return e.out
}

// eventEncoder writes one event. A member is written only if decoding it gives
// back the attributes that it stands for; every other attribute goes to the
// members `attributes` and `resource`.
type eventEncoder struct {
	out      []byte
	first    bool // the next member is the first of its object
	resource pcommon.Map
	attrs    pcommon.Map
	record   plog.LogRecord
}

func (e *eventEncoder) object(fields []field) {
	e.out = append(e.out, '{')
	e.first = true
	for i := range fields {
		e.field(&fields[i])
	}
	e.out = append(e.out, '}')
	e.first = false
}

func (e *eventEncoder) name(name string) {
	if !e.first {
		e.out = append(e.out, ',')
	}
	e.first = false
	e.string(name)
	e.out = append(e.out, ':')
}

func (e *eventEncoder) member(name, value string) {
	e.name(name)
	e.string(value)
}

func (e *eventEncoder) string(s string) {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	e.out = canonical.AppendString(e.out, s)
}

func (e *eventEncoder) field(f *field) {
	switch f.kind {
	case kindObject:
		e.nested(f)
	case kindAction:
		if name := e.record.EventName(); name != "" {
			e.member(f.name, name)
		}
	case kindTime:
		if at := e.record.Timestamp(); at != 0 {
			e.member(f.name, at.AsTime().Format(time.RFC3339Nano))
		}
	case kindTraceID:
		if id := e.record.TraceID(); !id.IsEmpty() {
			e.member(f.name, id.String())
			return
		}
		e.attribute(f)
	case kindSpanID:
		if id := e.record.SpanID(); !id.IsEmpty() {
			e.member(f.name, id.String())
			return
		}
		e.attribute(f)
	case kindMessage:
		if body := e.record.Body(); body.Type() != pcommon.ValueTypeEmpty {
			e.name(f.name)
			e.value(body)
		}
	case kindAttributes:
		e.rest(f.name, e.attrs, e.attributeSaid)
	case kindOther:
		e.rest(f.name, e.resource, e.resourceSaid)
	default:
		e.attribute(f)
	}
}

// nested writes an object, or nothing if it would be empty.
func (e *eventEncoder) nested(f *field) {
	start, first := len(e.out), e.first
	e.name(f.name)
	empty := len(e.out) + len("{}")
	e.object(f.fields)
	if len(e.out) == empty {
		e.out, e.first = e.out[:start], first
	}
}

// attribute writes a member that stands for one attribute.
func (e *eventEncoder) attribute(f *field) {
	from := e.attrs
	if f.kind == kindResource {
		from = e.resource
	}
	value, ok := from.Get(f.attribute)
	if !ok || !e.expresses(f, value) {
		return
	}
	switch f.kind {
	case kindOutcome:
		e.member(f.name, joinOutcome(value.Str(), e.text(AttributeOutcomeReason)))
	case kindActorType:
		e.member(f.name, e.actorType(value.Str()))
	case kindVersion:
		e.name(f.name)
		e.version(value)
	default:
		e.name(f.name)
		e.value(value)
	}
}

// text is the value of an attribute that is a string, else "".
func (e *eventEncoder) text(attribute string) string {
	if value, ok := e.attrs.Get(attribute); ok && value.Type() == pcommon.ValueTypeStr {
		return value.Str()
	}
	return ""
}

// expresses says whether the member f can say value: whether decoding the
// member gives the attribute back.
func (e *eventEncoder) expresses(f *field, value pcommon.Value) bool {
	kind := value.Type()
	switch f.kind {
	case kindBool:
		return kind == pcommon.ValueTypeBool
	case kindMap:
		return kind == pcommon.ValueTypeMap
	case kindStrings:
		return isStrings(value)
	case kindVersion:
		return isVersion(value)
	}
	if kind != pcommon.ValueTypeStr {
		return false
	}
	switch f.kind {
	case kindOutcome:
		outcome, _ := splitOutcome(joinOutcome(value.Str(), ""))
		return outcome == value.Str()
	case kindActorType:
		actorType, _ := splitActorType(e.actorType(value.Str()))
		return actorType == value.Str()
	case kindTraceID:
		_, isID := parseTraceID(value.Str())
		return e.record.TraceID().IsEmpty() && !isID
	case kindSpanID:
		_, isID := parseSpanID(value.Str())
		return e.record.SpanID().IsEmpty() && !isID
	}
	return true
}

func isStrings(value pcommon.Value) bool {
	if value.Type() != pcommon.ValueTypeSlice {
		return false
	}
	for _, element := range value.Slice().All() {
		if element.Type() != pcommon.ValueTypeStr {
			return false
		}
	}
	return true
}

// isVersion says whether a number or a string in the member schemaVersion
// gives value.
func isVersion(value pcommon.Value) bool {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		return true
	case pcommon.ValueTypeInt:
		return value.Int() < 0
	case pcommon.ValueTypeDouble:
		n, ok := parseNumber(appendDouble(nil, value.Double()))
		return ok && !n.isInt
	}
	return false
}

// version writes 1 for "1.0.0", as the original logger does.
func (e *eventEncoder) version(value pcommon.Value) {
	if value.Type() == pcommon.ValueTypeStr {
		major, found := strings.CutSuffix(value.Str(), ".0.0")
		if n, err := strconv.ParseInt(major, 10, 64); found && err == nil && n >= 0 && majorVersion(n) == value.Str() {
			e.out = strconv.AppendInt(e.out, n, 10)
			return
		}
	}
	e.value(value)
}

// actorType is the word for a type: the subtype if it says both.
func (e *eventEncoder) actorType(kind string) string {
	subtype := e.text(AttributeActorSubtype)
	if subtype == "" {
		return kind
	}
	if gotKind, gotSubtype := splitActorType(subtype); gotKind == kind && gotSubtype == subtype {
		return subtype
	}
	return kind
}

// rest writes what no other member says.
func (e *eventEncoder) rest(name string, from pcommon.Map, said func(string, pcommon.Value) bool) {
	open := false
	for key, value := range from.All() {
		if strings.HasPrefix(key, PrefixIntegrity) || said(key, value) {
			continue
		}
		if !open {
			e.name(name)
			e.out = append(e.out, '{')
			e.first, open = true, true
		}
		e.name(key)
		e.value(value)
	}
	if open {
		e.out = append(e.out, '}')
		e.first = false
	}
}

// attributeSaid says whether another member than `attributes` says this
// attribute of the record.
func (e *eventEncoder) attributeSaid(key string, value pcommon.Value) bool {
	if f := attributeFields[key]; f != nil {
		return e.expresses(f, value)
	}
	if value.Type() != pcommon.ValueTypeStr {
		return false
	}
	text := value.Str()
	switch key {
	case AttributeAction:
		return e.record.EventName() != "" && text != "" && text == verb(e.record.EventName())
	case AttributeOutcomeReason:
		_, reason := splitOutcome(joinOutcome(e.text(AttributeOutcome), text))
		return reason != "" && reason == text
	case AttributeActorSubtype:
		return text != "" && e.actorType(e.text(AttributeActorType)) == text
	case AttributeSourceID:
		address, ok := e.attrs.Get(AttributeClientAddress)
		return ok && address.Type() == pcommon.ValueTypeStr && text == address.Str()
	case AttributeSourceType:
		address, ok := e.attrs.Get(AttributeClientAddress)
		return ok && address.Type() == pcommon.ValueTypeStr && text == sourceType(address.Str())
	}
	return false
}

func (e *eventEncoder) resourceSaid(key string, value pcommon.Value) bool {
	f := resourceFields[key]
	return f != nil && e.expresses(f, value)
}

// attributeFields and resourceFields find the member that stands for an
// attribute.
var attributeFields, resourceFields = func() (attributes, resource map[string]*field) {
	attributes, resource = map[string]*field{}, map[string]*field{}
	var add func(fields []field)
	add = func(fields []field) {
		for i := range fields {
			switch f := &fields[i]; {
			case f.kind == kindResource:
				resource[f.attribute] = f
			case f.attribute != "":
				attributes[f.attribute] = f
			}
			add(fields[i].fields)
		}
	}
	add(eventFields)
	return attributes, resource
}()

// value writes any value. What JSON has no value for becomes a string: bytes
// as base64, and NaN and the infinities by name.
func (e *eventEncoder) value(value pcommon.Value) {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		e.string(value.Str())
	case pcommon.ValueTypeInt:
		e.out = strconv.AppendInt(e.out, value.Int(), 10)
	case pcommon.ValueTypeDouble:
		e.out = appendDouble(e.out, value.Double())
	case pcommon.ValueTypeBool:
		e.out = strconv.AppendBool(e.out, value.Bool())
	case pcommon.ValueTypeBytes:
		e.out = append(e.out, '"')
		e.out = base64.StdEncoding.AppendEncode(e.out, value.Bytes().AsRaw())
		e.out = append(e.out, '"')
	case pcommon.ValueTypeMap:
		e.mapValue(value.Map())
	case pcommon.ValueTypeSlice:
		e.out = append(e.out, '[')
		for i, element := range value.Slice().All() {
			if i > 0 {
				e.out = append(e.out, ',')
			}
			e.value(element)
		}
		e.out = append(e.out, ']')
	default:
		e.out = append(e.out, "null"...)
	}
}

func (e *eventEncoder) mapValue(m pcommon.Map) {
	e.out = append(e.out, '{')
	e.first = true
	for key, value := range m.All() {
		e.name(key)
		e.value(value)
	}
	e.out = append(e.out, '}')
	e.first = false
}

// appendDouble writes the shortest decimal that reads back as f.
func appendDouble(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		dst = append(dst, '"')
		dst = append(dst, doubleName(f)...)
		return append(dst, '"')
	}
	format := byte('f')
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}

func doubleName(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case f > 0:
		return "Infinity"
	default:
		return "-Infinity"
	}
}
