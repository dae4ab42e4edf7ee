// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// DecodeEvent reads one event in JSON into an empty record and its resource.
// It checks shape and types only; what an event must have is the processor's
// to check. What is wrong with the event is told as FieldErrors; JSON that
// cannot be read on is a *jsontext.SyntacticError. After an error record and
// resource hold anything.
func DecodeEvent(text []byte, resource pcommon.Resource, record plog.LogRecord) error {
	d := newEventDecoder(string(text))
	if kind := d.json.PeekKind(); kind != '{' {
		if _, err := d.json.ReadValue(); err != nil {
			return err
		}
		return FieldErrors{{Problem: "want an object, found " + kindName(kind)}}
	}
	if err := d.event(resource, record); err != nil {
		return err
	}
	if d.json.PeekKind() != 0 {
		return FieldErrors{{Problem: "more follows after the event"}}
	}
	return d.end()
}

// eventDecoder reads events in one pass. It copies no string that holds no
// escape: such values share the memory of the input.
type eventDecoder struct {
	text    string // the whole input
	json    *jsontext.Decoder
	scratch []byte // an unescaped string

	// Of the event that is being read.
	base     int // depth of the event inside the input
	values   int
	errs     FieldErrors
	resource pcommon.Map
	record   plog.LogRecord
	attrs    pcommon.Map // of record
	// What members `attributes` and `resource` say, merged at the end so
	// that the order of members means nothing.
	otherAttrs, otherResource pcommon.Map
}

func newEventDecoder(text string) *eventDecoder {
	return &eventDecoder{
		text:          text,
		json:          jsontext.NewDecoder(strings.NewReader(text)),
		otherAttrs:    pcommon.NewMap(),
		otherResource: pcommon.NewMap(),
	}
}

// event reads the object that comes next.
func (d *eventDecoder) event(resource pcommon.Resource, record plog.LogRecord) error {
	d.begin(resource, record)
	if err := d.object(eventFields); err != nil {
		return err
	}
	return d.finish()
}

func (d *eventDecoder) begin(resource pcommon.Resource, record plog.LogRecord) {
	d.base = d.json.StackDepth()
	d.values = 0
	d.errs = nil
	d.resource, d.record, d.attrs = resource.Attributes(), record, record.Attributes()
	d.attrs.EnsureCapacity(24)
	d.clearOther()
}

func (d *eventDecoder) clearOther() {
	if d.otherAttrs.Len()+d.otherResource.Len() > 0 {
		d.otherAttrs, d.otherResource = pcommon.NewMap(), pcommon.NewMap()
	}
}

// finish merges what was kept back, adds what follows from the rest and
// returns what is wrong with the event.
func (d *eventDecoder) finish() error {
	d.merge("attributes", d.otherAttrs, d.attrs)
	d.merge("resource", d.otherResource, d.resource)
	if address, ok := d.attrs.Get(AttributeClientAddress); ok && address.Type() == pcommon.ValueTypeStr {
		putIfAbsent(d.attrs, AttributeSourceID, address.Str())
		putIfAbsent(d.attrs, AttributeSourceType, sourceType(address.Str()))
	}
	if len(d.errs) > 0 {
		return d.errs
	}
	return nil
}

// end checks that nothing follows in the input.
func (d *eventDecoder) end() error {
	_, err := d.json.ReadToken()
	if err == nil || isEOF(err) {
		return nil
	}
	return err
}

func (d *eventDecoder) merge(member string, from, to pcommon.Map) {
	for key, value := range from.All() {
		switch _, known := to.Get(key); {
		case strings.HasPrefix(key, PrefixIntegrity):
			d.addError(joinPath(member, key), "is reserved for collectors: put a claim about integrity into the member integrity")
		case known && !derived(key):
			d.addError(joinPath(member, key), "is also said by the event's own member: say it once")
		default:
			value.MoveTo(to.PutEmpty(key))
		}
	}
}

// object reads an object of known members; the next token begins it.
func (d *eventDecoder) object(fields []field) error {
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	return d.members(fields)
}

// members reads what is left of an object of known members, its end included.
func (d *eventDecoder) members(fields []field) error {
	for d.json.PeekKind() != '}' {
		name, err := d.json.ReadValue()
		if err != nil {
			return err
		}
		if err := d.member(fields, d.unquote(name)); err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken()
	return err
}

// member reads the value of the member called name.
func (d *eventDecoder) member(fields []field, name []byte) error {
	for i := range fields {
		if fields[i].name == string(name) {
			return d.field(&fields[i])
		}
	}
	d.fail("is not known: correct the name, or put it into metadata")
	return d.json.SkipValue()
}

func (d *eventDecoder) field(f *field) error {
	d.values++
	switch f.kind {
	case kindObject:
		return d.nested(func() error { return d.object(f.fields) })
	case kindMap:
		return d.nested(func() error { return d.free(d.attrs.PutEmptyMap(f.attribute)) })
	case kindAttributes:
		return d.nested(func() error { return d.free(d.otherAttrs) })
	case kindOther:
		return d.nested(func() error { return d.free(d.otherResource) })
	case kindStrings:
		return d.texts(f)
	case kindMessage:
		return d.value(d.record.Body())
	default:
		return d.scalar(f)
	}
}

// nested reads a member that must be an object with read. null is absent.
func (d *eventDecoder) nested(read func() error) error {
	switch d.json.PeekKind() {
	case '{':
		return read()
	case 'n':
		return d.json.SkipValue()
	}
	return d.wrong("an object")
}

// wrong passes over a value of another type than wanted.
func (d *eventDecoder) wrong(want string) error {
	kind := d.json.PeekKind()
	if err := d.json.SkipValue(); err != nil {
		return err
	}
	d.fail("want " + want + ", found " + kindName(kind))
	return nil
}

// scalar reads a member whose value is a string, a number or a boolean. null
// is absent.
func (d *eventDecoder) scalar(f *field) error {
	switch kind := d.json.PeekKind(); {
	case kind == 'n':
		return d.json.SkipValue()
	case kind == '"' && f.kind != kindBool:
		text, err := d.string()
		if err != nil {
			return err
		}
		d.putString(f, text)
		return nil
	case kind == '0' && (f.kind == kindVersion || f.kind == kindTime):
		n, ok, err := d.number()
		if err != nil || !ok {
			return err
		}
		d.putNumber(f, n)
		return nil
	case (kind == 't' || kind == 'f') && f.kind == kindBool:
		token, err := d.json.ReadToken()
		if err != nil {
			return err
		}
		d.attrs.PutBool(f.attribute, token.Bool())
		return nil
	}
	return d.wrong(scalarWanted(f.kind))
}

func scalarWanted(kind fieldKind) string {
	switch kind {
	case kindBool:
		return "a boolean"
	case kindVersion, kindTime:
		return "a string or a number"
	default:
		return "a string"
	}
}

// putString stores a member that is spelt as a string.
func (d *eventDecoder) putString(f *field, text string) {
	switch f.kind {
	case kindResource:
		d.resource.PutStr(f.attribute, text)
	case kindAction:
		d.record.SetEventName(text)
		if v := verb(text); v != "" {
			d.attrs.PutStr(AttributeAction, v)
		}
	case kindOutcome:
		outcome, reason := splitOutcome(text)
		d.attrs.PutStr(AttributeOutcome, outcome)
		if reason != "" {
			d.attrs.PutStr(AttributeOutcomeReason, reason)
		}
	case kindActorType:
		kind, subtype := splitActorType(text)
		d.attrs.PutStr(AttributeActorType, kind)
		if subtype != "" {
			d.attrs.PutStr(AttributeActorSubtype, subtype)
		}
	case kindTime:
		d.putTime(text)
	case kindTraceID:
		if id, ok := parseTraceID(text); ok {
			d.record.SetTraceID(id)
			return
		}
		d.attrs.PutStr(f.attribute, text)
	case kindSpanID:
		if id, ok := parseSpanID(text); ok {
			d.record.SetSpanID(id)
			return
		}
		d.attrs.PutStr(f.attribute, text)
	default:
		d.attrs.PutStr(f.attribute, text)
	}
}

// putNumber stores a member that is spelt as a number.
func (d *eventDecoder) putNumber(f *field, n number) {
	switch {
	case f.kind == kindTime:
		d.putMillis(n)
	case !n.isInt:
		d.attrs.PutDouble(f.attribute, n.float)
	case n.int < 0:
		d.attrs.PutInt(f.attribute, n.int)
	default:
		d.attrs.PutStr(f.attribute, majorVersion(n.int))
	}
}

// majorVersion is how the schema version n of an event is spelt in a record.
func majorVersion(n int64) string { return strconv.FormatInt(n, 10) + ".0.0" }

const wantTime = "want a time after 1970 and before 2262, as RFC 3339 with at most nanoseconds or as a whole number of milliseconds since 1970"

func (d *eventDecoder) putTime(text string) {
	at, ok := parseTime(text)
	if !ok {
		d.fail(wantTime)
		return
	}
	d.record.SetTimestamp(at)
}

func (d *eventDecoder) putMillis(n number) {
	const most = (1<<63 - 1) / int64(time.Millisecond)
	if !n.isInt || n.int <= 0 || n.int > most {
		d.fail(wantTime)
		return
	}
	d.record.SetTimestamp(pcommon.Timestamp(n.int * int64(time.Millisecond)))
}

// parseTime reads RFC 3339 without losing digits.
func parseTime(text string) (pcommon.Timestamp, bool) {
	const longest = len("2006-01-02T15:04:05.123456789+00:00")
	if len(text) > longest {
		return 0, false
	}
	var at time.Time
	if err := at.UnmarshalText([]byte(text)); err != nil {
		return 0, false
	}
	seconds := at.Unix()
	const most = (1<<63 - 1) / int64(time.Second)
	if seconds < 0 || seconds >= most || (seconds == 0 && at.Nanosecond() == 0) || fractionDigits(text) > 9 {
		return 0, false
	}
	return pcommon.NewTimestampFromTime(at), true
}

// fractionDigits counts the digits of the second's fraction in an RFC 3339
// time.
func fractionDigits(text string) int {
	_, fraction, _ := strings.Cut(text, ".")
	if zone := strings.IndexAny(fraction, "Z+-"); zone >= 0 {
		fraction = fraction[:zone]
	}
	return len(fraction)
}

func parseTraceID(text string) (id pcommon.TraceID, ok bool) {
	ok = parseHex(id[:], text)
	return id, ok && !id.IsEmpty()
}

func parseSpanID(text string) (id pcommon.SpanID, ok bool) {
	ok = parseHex(id[:], text)
	return id, ok && !id.IsEmpty()
}

func parseHex(dst []byte, text string) bool {
	if len(text) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst, []byte(text))
	return err == nil
}

// texts reads an array of strings. null is absent.
func (d *eventDecoder) texts(f *field) error {
	switch d.json.PeekKind() {
	case 'n':
		return d.json.SkipValue()
	case '[':
	default:
		return d.wrong("an array of strings")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	list := d.attrs.PutEmptySlice(f.attribute)
	for d.json.PeekKind() != ']' {
		if ok, err := d.admit(d.json.PeekKind()); err != nil {
			return err
		} else if !ok {
			continue
		}
		if d.json.PeekKind() != '"' {
			if err := d.wrong("a string"); err != nil {
				return err
			}
			continue
		}
		text, err := d.string()
		if err != nil {
			return err
		}
		list.AppendEmpty().SetStr(text)
	}
	_, err := d.json.ReadToken()
	return err
}

// admit counts a value of free content. One too many or too deep is passed
// over, and ok is false.
func (d *eventDecoder) admit(kind jsontext.Kind) (ok bool, err error) {
	d.values++
	deep := (kind == '{' || kind == '[') && d.json.StackDepth()-d.base >= MaxEventDepth
	if d.values <= MaxEventValues && !deep {
		return true, nil
	}
	if err := d.json.SkipValue(); err != nil {
		return false, err
	}
	switch {
	case deep:
		d.fail(fmt.Sprintf("is nested deeper than %d levels: send a string", MaxEventDepth))
	case d.values == MaxEventValues+1:
		d.addError("", fmt.Sprintf("the event holds more than %d values: send less", MaxEventValues))
	}
	return false, nil
}

// value reads any value. A null leaves dst empty.
func (d *eventDecoder) value(dst pcommon.Value) error {
	kind := d.json.PeekKind()
	if ok, err := d.admit(kind); err != nil || !ok {
		return err
	}
	switch kind {
	case 'n':
		return d.json.SkipValue()
	case '"':
		text, err := d.string()
		if err != nil {
			return err
		}
		dst.SetStr(text)
		return nil
	case '0':
		n, ok, err := d.number()
		switch {
		case err != nil || !ok:
			return err
		case n.isInt:
			dst.SetInt(n.int)
		default:
			dst.SetDouble(n.float)
		}
		return nil
	case '{':
		return d.free(dst.SetEmptyMap())
	case '[':
		return d.list(dst.SetEmptySlice())
	}
	token, err := d.json.ReadToken()
	if err != nil {
		return err
	}
	dst.SetBool(token.Bool())
	return nil
}

// free reads an object of any members.
func (d *eventDecoder) free(dst pcommon.Map) error {
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	for members := 0; d.json.PeekKind() != '}'; members++ {
		name, err := d.string()
		if err != nil {
			return err
		}
		if members >= MaxEventMembers {
			if members == MaxEventMembers {
				d.fail(fmt.Sprintf("is one member too many: an object has at most %d", MaxEventMembers))
			}
			err = d.json.SkipValue()
		} else {
			err = d.value(dst.PutEmpty(name))
		}
		if err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken()
	return err
}

func (d *eventDecoder) list(dst pcommon.Slice) error {
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	for d.json.PeekKind() != ']' {
		if err := d.value(dst.AppendEmpty()); err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken()
	return err
}

// string reads the string that comes next.
func (d *eventDecoder) string() (string, error) {
	raw, err := d.json.ReadValue()
	if err != nil {
		return "", err
	}
	text := d.unquote(raw)
	if len(text) == len(raw)-2 {
		end := int(d.json.InputOffset()) - 1
		return d.text[end-len(text) : end], nil
	}
	return string(text), nil
}

// unquote returns the value of a JSON string that the decoder has accepted. It
// is good until the next read.
func (d *eventDecoder) unquote(raw jsontext.Value) []byte {
	for i := 1; i < len(raw)-1; i++ {
		if raw[i] == '\\' {
			// The decoder has checked the string: unquoting cannot fail.
			d.scratch, _ = jsontext.AppendUnquote(d.scratch[:0], raw)
			return d.scratch
		}
	}
	return raw[1 : len(raw)-1]
}

// number reads the number that comes next; ok is false if it has been refused.
func (d *eventDecoder) number() (n number, ok bool, err error) {
	raw, err := d.json.ReadValue()
	if err != nil {
		return number{}, false, err
	}
	if n, ok = parseNumber(raw); !ok {
		d.fail("is a number that would be changed by storing it: send a string")
	}
	return n, ok, nil
}

// fail notes a problem of the value, or the member name, read last.
func (d *eventDecoder) fail(problem string) {
	if len(d.errs) < MaxFieldErrors {
		d.addError(d.path(), problem)
	}
}

func (d *eventDecoder) addError(path, problem string) {
	if len(d.errs) < MaxFieldErrors {
		d.errs = append(d.errs, &FieldError{Path: path, Problem: problem})
	}
}

// path leads from the event to what was read last.
func (d *eventDecoder) path() string {
	var path string
	level := 0
	for token := range d.json.StackPointer().Tokens() {
		if level++; level > d.base {
			path = joinPath(path, token)
		}
		if len(path) > maxPath {
			break
		}
	}
	return path
}

func joinPath(path, name string) string {
	if path != "" {
		name = path + "." + name
	}
	if len(name) <= maxPath {
		return name
	}
	cut := maxPath
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut] + "…"
}

func putIfAbsent(m pcommon.Map, key, value string) {
	if _, ok := m.Get(key); !ok {
		m.PutStr(key, value)
	}
}

// kindName says in words what a JSON value is.
func kindName(kind jsontext.Kind) string {
	switch kind {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "no JSON value"
}
