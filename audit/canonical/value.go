// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"encoding/base64"
	"math"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// appendValue writes a value that is inside a map or slice of the given depth;
// depth 0 are the attributes and the record.
func (e *Encoder) appendValue(dst []byte, value pcommon.Value, depth int) ([]byte, *PathError) {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		dst = append(dst, `{"stringValue":`...)
		dst, ok := appendText(dst, value.Str())
		if !ok {
			return dst, &PathError{Err: ErrUTF8}
		}
		return append(dst, '}'), nil
	case pcommon.ValueTypeInt:
		dst = append(dst, `{"intValue":"`...)
		dst = strconv.AppendInt(dst, value.Int(), 10)
		return append(dst, `"}`...), nil
	case pcommon.ValueTypeDouble:
		dst = append(dst, `{"doubleValue":`...)
		dst, ok := appendNumber(dst, value.Double())
		if !ok {
			return dst, &PathError{Err: ErrNumber}
		}
		return append(dst, '}'), nil
	case pcommon.ValueTypeBool:
		if value.Bool() {
			return append(dst, `{"boolValue":true}`...), nil
		}
		return append(dst, `{"boolValue":false}`...), nil
	case pcommon.ValueTypeBytes:
		return e.appendBytes(dst, value.Bytes()), nil
	case pcommon.ValueTypeSlice:
		return e.appendSlice(dst, value.Slice(), depth+1)
	case pcommon.ValueTypeMap:
		return e.appendMap(dst, value.Map(), depth+1)
	default:
		return append(dst, `null`...), nil
	}
}

// appendBytes goes through a small buffer, because all that pdata offers of a
// byte slice as a whole is a copy.
func (e *Encoder) appendBytes(dst []byte, value pcommon.ByteSlice) []byte {
	dst = append(dst, `{"bytesValue":"`...)
	for i := 0; i < value.Len(); i += len(e.chunk) {
		n := min(len(e.chunk), value.Len()-i)
		for j := range n {
			e.chunk[j] = value.At(i + j)
		}
		dst = base64.StdEncoding.AppendEncode(dst, e.chunk[:n])
	}
	return append(dst, `"}`...)
}

// appendSlice writes a slice that is itself at the given depth.
func (e *Encoder) appendSlice(dst []byte, slice pcommon.Slice, depth int) ([]byte, *PathError) {
	if depth > MaxDepth {
		return dst, &PathError{Err: ErrDepth}
	}
	dst = append(dst, '[')
	for i := range slice.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var fault *PathError
		if dst, fault = e.appendValue(dst, slice.At(i), depth); fault != nil {
			return dst, fault.at(i)
		}
	}
	return append(dst, ']'), nil
}

// appendMap writes a map that is itself at the given depth.
func (e *Encoder) appendMap(dst []byte, m pcommon.Map, depth int) ([]byte, *PathError) {
	if depth > MaxDepth {
		return dst, &PathError{Err: ErrDepth}
	}
	base := len(e.fields)
	wide := e.push(m)
	sortFields(e.order[base:], e.fields[base:], wide)

	dst = append(dst, '{')
	dst, fault := e.appendMembersAt(dst, base, Span{0, len(e.fields) - base}, depth)
	e.pop(base)
	return append(dst, '}'), fault
}

// appendMembers writes a range of the record's sorted attributes.
func (e *Encoder) appendMembers(dst []byte, members Span) ([]byte, *PathError) {
	return e.appendMembersAt(dst, 0, members, 0)
}

// appendMembersAt writes a range of the sorted map whose fields begin at base,
// behind the map's brace or behind members that are there already. Of equal
// keys the last counts: sortFields keeps them in order.
func (e *Encoder) appendMembersAt(dst []byte, base int, members Span, depth int) ([]byte, *PathError) {
	for i := members.Start; i < members.End; i++ {
		f := e.fields[base+int(e.order[base+i])]
		if i+1 < members.End && f.key == e.fields[base+int(e.order[base+i+1])].key {
			continue
		}
		if dst[len(dst)-1] != '{' { // no value ends in a brace that opens
			dst = append(dst, ',')
		}
		var fault *PathError
		if dst, fault = e.appendMember(dst, &f, depth); fault != nil {
			return dst, fault.within(pathKey(f.key))
		}
	}
	return dst, nil
}

func (e *Encoder) appendMember(dst []byte, f *field, depth int) ([]byte, *PathError) {
	if f.plain {
		dst = append(dst, '"')
		dst = append(dst, f.key...)
		dst = append(dst, `":`...)
	} else {
		var ok bool
		if dst, ok = appendText(dst, f.key); !ok {
			return dst, &PathError{Err: ErrUTF8}
		}
		dst = append(dst, ':')
	}
	return e.appendValue(dst, f.value, depth)
}

// appendNumber writes a double as ECMAScript does (RFC 8785 section 3.2.2.3).
func appendNumber(dst []byte, number float64) ([]byte, bool) {
	if math.IsNaN(number) || math.IsInf(number, 0) {
		return dst, false
	}
	if number == 0 {
		return append(dst, '0'), true
	}
	if magnitude := math.Abs(number); magnitude >= 1e-6 && magnitude < 1e21 {
		return strconv.AppendFloat(dst, number, 'f', -1, 64), true
	}
	dst = strconv.AppendFloat(dst, number, 'e', -1, 64)
	if n := len(dst); dst[n-2] == '0' && dst[n-3] == '-' { // e-07 is e-7
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst, true
}
