// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/collector/pdata/plog"
)

// shape is what a member of OTLP/JSON must look like.
type shape uint8

const (
	shapeText shape = iota
	shapeTexts
	shapeBool
	shapeUint64
	shapeUint32
	shapeInt64
	shapeDouble
	shapeSeverity
	shapeBase64
	shapeTraceID
	shapeSpanID
	shapeObject // of member.message
	shapeList   // of such objects
)

// member is one member of an object of OTLP/JSON.
type member struct {
	shape   shape
	message message
}

// jsonMembers says for each message which members it has, by the names that
// OTLP/JSON gives them.
var jsonMembers = [...]map[string]member{
	messageRequest: {"resourceLogs": {shapeList, messageResourceLogs}},
	messageResourceLogs: {
		"resource": {shapeObject, messageResource}, "scopeLogs": {shapeList, messageScopeLogs}, "schemaUrl": {shape: shapeText},
	},
	messageResource: {
		"attributes": {shapeList, messageKeyValue}, "droppedAttributesCount": {shape: shapeUint32}, "entityRefs": {shapeList, messageEntityRef},
	},
	messageEntityRef: {
		"schemaUrl": {shape: shapeText}, "type": {shape: shapeText}, "idKeys": {shape: shapeTexts}, "descriptionKeys": {shape: shapeTexts},
	},
	messageScopeLogs: {
		"scope": {shapeObject, messageScope}, "logRecords": {shapeList, messageLogRecord}, "schemaUrl": {shape: shapeText},
	},
	messageScope: {
		"name": {shape: shapeText}, "version": {shape: shapeText}, "attributes": {shapeList, messageKeyValue}, "droppedAttributesCount": {shape: shapeUint32},
	},
	messageLogRecord: {
		"timeUnixNano": {shape: shapeUint64}, "observedTimeUnixNano": {shape: shapeUint64}, "severityNumber": {shape: shapeSeverity},
		"severityText": {shape: shapeText}, "body": {shapeObject, messageAnyValue}, "attributes": {shapeList, messageKeyValue},
		"droppedAttributesCount": {shape: shapeUint32}, "flags": {shape: shapeUint32}, "traceId": {shape: shapeTraceID},
		"spanId": {shape: shapeSpanID}, "eventName": {shape: shapeText},
	},
	messageKeyValue: {"key": {shape: shapeText}, "value": {shapeObject, messageAnyValue}},
	messageAnyValue: {
		"stringValue": {shape: shapeText}, "boolValue": {shape: shapeBool}, "intValue": {shape: shapeInt64}, "doubleValue": {shape: shapeDouble},
		"bytesValue": {shape: shapeBase64}, "arrayValue": {shapeObject, messageArray}, "kvlistValue": {shapeObject, messageKeyValueList},
	},
	messageArray:        {"values": {shapeList, messageAnyValue}},
	messageKeyValueList: {"values": {shapeList, messageKeyValue}},
}

// scanJSON measures an OTLP logs request in JSON, and finds what its decoder
// would pass over in silence: members that OTLP does not have, names and values
// that are there twice. An error names the place.
func scanJSON(body []byte) (extent, error) {
	s := jsonScanner{decoder: jsontext.NewDecoder(bytes.NewBuffer(body))}
	if err := s.object(messageRequest, 0); err != nil {
		return s.extent, s.placed(err)
	}
	switch _, err := s.decoder.ReadToken(); {
	case errors.Is(err, io.EOF):
		return s.extent, nil
	case err != nil:
		return s.extent, s.placed(err)
	}
	return s.extent, errors.New("something follows the JSON object: send one request at a time")
}

// jsonScanner walks over one request.
type jsonScanner struct {
	decoder *jsontext.Decoder
	extent  extent
}

// faultyMember is what is wrong with the member that the decoder read last.
type faultyMember string

func (f faultyMember) Error() string { return string(f) }

// placed says where an error was found.
func (s *jsonScanner) placed(err error) error {
	var fault faultyMember
	var syntax *jsontext.SyntacticError
	switch {
	case errors.As(err, &fault):
		return fmt.Errorf("%s: %w", readable(s.decoder.StackPointer()), err)
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		return fmt.Errorf("%s: is there twice", readable(syntax.JSONPointer))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON ends too early")
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d: %w", syntax.ByteOffset, syntax.Err)
	}
	return err
}

// readable writes a pointer as people write it: a.b[0].c.
func readable(pointer jsontext.Pointer) string {
	var b strings.Builder
	for token := range pointer.Tokens() {
		if _, err := strconv.Atoi(token); err == nil && b.Len() > 0 {
			b.WriteString("[" + token + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(token)
	}
	if b.Len() == 0 {
		return "the request"
	}
	return cut(b.String())
}

// cut bounds what an answer repeats of a request.
func cut(text string) string {
	const most = 256
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// object reads one message, or null, which is none.
func (s *jsonScanner) object(kind message, depth int) error {
	depth, err := s.count(kind, depth)
	if err != nil {
		return err
	}
	open, err := s.decoder.ReadToken()
	if err != nil {
		return err
	}
	switch open.Kind() {
	case '{':
	case 'n':
		return want(s.decoder.StackDepth() > 0, "an object", open.Kind())
	default:
		return want(false, "an object", open.Kind())
	}
	members := 0
	for s.decoder.PeekKind() != '}' {
		name, err := s.decoder.ReadToken()
		if err != nil {
			return err
		}
		if members++; kind == messageAnyValue && members > 1 {
			return faultyMember("a value has one member, here is another")
		}
		if err := s.member(kind, name.String(), depth); err != nil {
			return err
		}
	}
	_, err = s.decoder.ReadToken()
	return err
}

func (s *jsonScanner) count(kind message, depth int) (int, error) {
	switch kind {
	case messageResourceLogs, messageScopeLogs, messageLogRecord:
		s.extent.records++
	case messageAnyValue, messageKeyValue, messageEntityRef:
		s.extent.values++
	case messageArray, messageKeyValueList:
		if depth++; depth > maxValueDepth {
			return depth, errTooDeep
		}
	}
	return depth, nil
}

func (s *jsonScanner) member(of message, name string, depth int) error {
	m, known := jsonMembers[of][name]
	if !known {
		return faultyMember("is not known to OTLP: correct the name, or leave it out")
	}
	switch m.shape {
	case shapeObject:
		return s.object(m.message, depth)
	case shapeList:
		return s.list(func() error { return s.object(m.message, depth) })
	case shapeTexts:
		return s.list(func() error {
			s.extent.values++
			return s.scalar(shapeText)
		})
	}
	return s.scalar(m.shape)
}

// list reads an array, or null, which is an empty one.
func (s *jsonScanner) list(element func() error) error {
	open, err := s.decoder.ReadToken()
	if err != nil {
		return err
	}
	if open.Kind() == 'n' {
		return nil
	}
	if open.Kind() != '[' {
		return faultyMember("want an array, found " + named(open.Kind()))
	}
	for s.decoder.PeekKind() != ']' {
		if err := element(); err != nil {
			return err
		}
	}
	_, err = s.decoder.ReadToken()
	return err
}

// scalar reads one value that is no message, or null, which is the default.
func (s *jsonScanner) scalar(of shape) error {
	token, err := s.decoder.ReadToken()
	if err != nil {
		return err
	}
	kind := token.Kind()
	switch {
	case kind == 'n':
		return nil
	case of == shapeBool:
		return want(kind == 't' || kind == 'f', "true or false", kind)
	case kind == '"' && (of == shapeText || of == shapeBase64): // whose digits the decoder reads
		return nil
	case kind == '"' || kind == '0' && of.isNumber():
		if !of.holds(token.String()) {
			return faultyMember("want " + of.String())
		}
		return nil
	}
	return want(false, of.String(), kind)
}

func want(ok bool, what string, kind jsontext.Kind) error {
	if ok {
		return nil
	}
	return faultyMember("want " + what + ", found " + named(kind))
}

func (s shape) isNumber() bool {
	switch s {
	case shapeUint64, shapeUint32, shapeInt64, shapeDouble, shapeSeverity:
		return true
	}
	return false
}

// holds says that text is what the decoder reads as a value of this shape.
func (s shape) holds(text string) (ok bool) {
	var err error
	switch s {
	case shapeUint64:
		_, err = strconv.ParseUint(text, 10, 64)
	case shapeUint32:
		_, err = strconv.ParseUint(text, 10, 32)
	case shapeInt64:
		_, err = strconv.ParseInt(text, 10, 64)
	case shapeDouble:
		_, err = strconv.ParseFloat(text, 64)
	case shapeSeverity:
		_, err = strconv.ParseInt(text, 10, 32)
		return err == nil || isSeverityName(text)
	case shapeTraceID:
		return isHex(text, 16)
	case shapeSpanID:
		return isHex(text, 8)
	}
	return err == nil
}

func isHex(text string, size int) bool {
	_, err := hex.DecodeString(text)
	return err == nil && (len(text) == 0 || len(text) == hex.EncodedLen(size))
}

// isSeverityName says that text is one of protobuf's names of severities.
func isSeverityName(text string) bool {
	name, found := strings.CutPrefix(text, "SEVERITY_NUMBER_")
	if !found {
		return false
	}
	if name == "UNSPECIFIED" {
		return true
	}
	for n := plog.SeverityNumberTrace; n <= plog.SeverityNumberFatal4; n++ {
		if strings.EqualFold(name, n.String()) && name == strings.ToUpper(name) {
			return true
		}
	}
	return false
}

func (s shape) String() string {
	switch s {
	case shapeText:
		return "a string"
	case shapeBool:
		return "true or false"
	case shapeUint64:
		return "an integer from 0 to " + strconv.FormatUint(math.MaxUint64, 10)
	case shapeUint32:
		return "an integer from 0 to " + strconv.FormatUint(math.MaxUint32, 10)
	case shapeInt64:
		return "an integer of 64 bits"
	case shapeDouble:
		return "a number"
	case shapeSeverity:
		return "the number or the name of a severity"
	case shapeBase64:
		return "base64"
	case shapeTraceID:
		return "32 hexadecimal digits"
	case shapeSpanID:
		return "16 hexadecimal digits"
	}
	return "something else"
}

func named(kind jsontext.Kind) string {
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
	return "something else"
}
