// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
)

// Members of the map that stands for what was cut, as in the original logger.
const (
	markerTruncated = "_truncated"
	markerName      = "_marker"
	markerBytes     = "_originalBytes"
	markerSize      = 130 // canonical bytes of a marker, at most
)

// putMarker puts a truncation marker in place of a value.
func putMarker(value pcommon.Value, bytes int) {
	m := value.SetEmptyMap()
	m.EnsureCapacity(3)
	m.PutBool(markerTruncated, true)
	m.PutStr(markerName, markerText)
	m.PutInt(markerBytes, int64(bytes))
}

// limiter cuts what is too large and marks it. It works in place, on redacted
// records: what it cuts can expose nothing.
type limiter struct {
	limits *LimitsConfig
	marks  *marks
	tally  *tally
	at     location
	part   truncation
}

// exceeds says whether a walk found something that the limits on structure
// forbid.
func (c *LimitsConfig) exceeds(e *extent) bool {
	return e.deepest > c.MaxDepth || e.longest > c.MaxStringBytes || e.attributes > c.MaxAttributes
}

// structureFaults names the limits on structure that were exceeded.
func (c *LimitsConfig) structureFaults(of string, e *extent) (faults []string) {
	if e.deepest > c.MaxDepth {
		faults = append(faults, fmt.Sprintf("%s: nested deeper than `limits::max_depth` %d", of, c.MaxDepth))
	}
	if e.longest > c.MaxStringBytes {
		faults = append(faults, fmt.Sprintf("%s: holds a string longer than `limits::max_string_bytes` %d", of, c.MaxStringBytes))
	}
	if e.attributes > c.MaxAttributes {
		faults = append(faults, fmt.Sprintf("%s: has more attributes than `limits::max_attributes` %d", of, c.MaxAttributes))
	}
	return faults
}

func (l *limiter) cut(path string, bytes int, part truncation) {
	l.marks.truncate(path, bytes)
	l.tally.truncated[part]++
}

// record brings the structure of a record within the limits.
func (l *limiter) record(record plog.LogRecord) {
	if name := record.EventName(); len(name) > l.limits.MaxStringBytes {
		record.SetEventName(cutText(name, l.limits.MaxStringBytes))
		l.cut(nameEventName, len(name), cutAttribute)
	}
	if text := record.SeverityText(); len(text) > l.limits.MaxStringBytes {
		record.SetSeverityText(cutText(text, l.limits.MaxStringBytes))
		l.cut("severity.text", len(text), cutAttribute)
	}
	l.at.start("")
	l.attributes(record.Attributes(), cutAttribute)
	l.at.start("body")
	l.part = cutBody
	l.value(record.Body(), 0)
}

// attributes bounds the attributes of a record, resource or scope.
func (l *limiter) attributes(attributes pcommon.Map, part truncation) {
	if attributes.Len() > l.limits.MaxAttributes {
		l.dropAttributes(attributes, part)
	}
	l.part = part
	l.members(attributes, 0)
}

// dropAttributes removes the last of too many attributes.
func (l *limiter) dropAttributes(attributes pcommon.Map, part truncation) {
	kept, bytes := 0, 0
	for key, value := range attributes.All() {
		if isLeftAlone(key, value) {
			kept++
		}
	}
	attributes.RemoveIf(func(key string, value pcommon.Value) bool {
		if isLeftAlone(key, value) {
			return false
		}
		if kept < l.limits.MaxAttributes {
			kept++
			return false
		}
		bytes += len(key) + sizeOf(value)
		return true
	})
	l.cut(strings.TrimPrefix(l.at.root+".attributes", "."), bytes, part)
}

// isLeftAlone says whether an attribute is cut only where nothing else helps.
func isLeftAlone(key string, value pcommon.Value) bool {
	return isShielded(key, value) || strings.HasPrefix(key, audit.PrefixCollector)
}

func (l *limiter) members(m pcommon.Map, depth int) {
	m.RemoveIf(func(key string, value pcommon.Value) bool {
		l.at.push(key)
		defer l.at.pop()
		if len(key) > l.limits.MaxStringBytes {
			l.cut(l.at.String(), len(key)+sizeOf(value), l.partOf(key, depth))
			return true
		}
		outer := l.part
		l.part = l.partOf(key, depth)
		l.value(value, depth)
		l.part = outer
		return false
	})
}

func (l *limiter) partOf(key string, depth int) truncation {
	if depth == 0 && l.part == cutAttribute {
		switch key {
		case audit.AttributeMetadata:
			return cutMetadata
		case audit.AttributeDiff:
			return cutDiff
		}
	}
	return l.part
}

// value bounds a value inside a map or slice of the given depth.
func (l *limiter) value(value pcommon.Value, depth int) {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		if text := value.Str(); len(text) > l.limits.MaxStringBytes {
			value.SetStr(cutText(text, l.limits.MaxStringBytes))
			l.cut(l.at.String(), len(text), l.part)
		}
	case pcommon.ValueTypeBytes:
		if n := value.Bytes().Len(); n > l.limits.MaxStringBytes {
			putMarker(value, n)
			l.cut(l.at.String(), n, l.part)
		}
	case pcommon.ValueTypeMap:
		if l.isDeep(value, depth+1, value.Map().Len()) {
			return
		}
		l.members(value.Map(), depth+1)
	case pcommon.ValueTypeSlice:
		if l.isDeep(value, depth+1, value.Slice().Len()) {
			return
		}
		for i := range value.Slice().Len() {
			l.at.pushIndex(i)
			l.value(value.Slice().At(i), depth+1)
			l.at.pop()
		}
	}
}

func (l *limiter) isDeep(value pcommon.Value, depth, length int) bool {
	if depth <= l.limits.MaxDepth || length == 0 {
		return false
	}
	bytes := sizeOf(value)
	putMarker(value, bytes)
	l.cut(l.at.String(), bytes, l.part)
	return true
}

// cutText cuts a text to at most limit bytes of UTF-8, at the boundary of a
// character, and says so in it.
func cutText(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	if limit <= len(markerText) {
		return text[:boundary(text, limit)]
	}
	return text[:boundary(text, limit-len(markerText))] + markerText
}

// cutCanonical cuts a text so that it takes at most limit bytes as a canonical
// JSON string.
func cutCanonical(text string, limit int) string {
	if sizeOfText(text) <= limit {
		return text
	}
	limit -= 2 // quotes
	size, end := 0, 0
	for end < len(text) && size+sizeOfByte(text[end]) <= limit {
		size += sizeOfByte(text[end])
		end++
	}
	for room := len(markerText); room > 0 && end > 0 && limit > 4*len(markerText); {
		end--
		room -= sizeOfByte(text[end])
		if room <= 0 {
			return text[:boundary(text, end)] + markerText
		}
	}
	return text[:boundary(text, end)]
}

// part is one candidate for a cut.
type part struct {
	key  string // of an attribute; empty: the body
	size int
}

// parts returns what of a record can be cut, the largest first.
func parts(record plog.LogRecord) []part {
	var all []part
	for key, value := range record.Attributes().All() {
		if !isLeftAlone(key, value) {
			all = append(all, part{key, sizeOf(value)})
		}
	}
	if record.Body().Type() != pcommon.ValueTypeEmpty {
		all = append(all, part{"", sizeOf(record.Body())})
	}
	slices.SortFunc(all, func(a, b part) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.key, b.key))
	})
	return all
}

// markCost is what the mark of a cut takes, without the path.
const markCost = 40

// shrink cuts the largest parts of a record until about excess canonical bytes
// are gone.
func (l *limiter) shrink(record plog.LogRecord, excess int) {
	for _, p := range parts(record) {
		if excess <= 0 || p.size <= markerSize+markCost {
			return
		}
		value, path, what := record.Body(), "body", cutBody
		if p.key != "" {
			value, _ = record.Attributes().Get(p.key)
			path, what = shorten(p.key, maxKeyInPath), partOfKey(p.key)
		}
		excess += markCost + len(path)
		keep := p.size - excess
		if value.Type() == pcommon.ValueTypeStr && what != cutMetadata && what != cutDiff && keep > markerSize {
			l.cut(path, len(value.Str()), what)
			value.SetStr(cutCanonical(value.Str(), keep-len(`{"stringValue":}`)))
			return
		}
		putMarker(value, p.size)
		l.cut(path, p.size, what)
		excess -= p.size - markerSize
	}
}

func partOfKey(key string) truncation {
	switch key {
	case audit.AttributeMetadata:
		return cutMetadata
	case audit.AttributeDiff:
		return cutDiff
	}
	return cutAttribute
}

// replacePart puts the marker in place of an attribute that exceeds a limit of
// its own, and says whether it did.
func (l *limiter) replacePart(attributes pcommon.Map, key string, limit int) bool {
	value, ok := attributes.Get(key)
	if !ok {
		return false
	}
	size := sizeOf(value)
	if size <= limit {
		return false
	}
	putMarker(value, size)
	l.cut(key, size, partOfKey(key))
	return true
}

// dropUnprotected removes the body and every attribute without which a record
// can still be found.
func (l *limiter) dropUnprotected(record plog.LogRecord) {
	bytes := 0
	record.Attributes().RemoveIf(func(key string, value pcommon.Value) bool {
		if isLeftAlone(key, value) {
			return false
		}
		bytes += len(key) + sizeOf(value)
		return true
	})
	if bytes > 0 {
		l.cut("attributes", bytes, cutAttribute)
	}
	if record.Body().Type() != pcommon.ValueTypeEmpty {
		l.cut("body", sizeOf(record.Body()), cutBody)
		pcommon.NewValueEmpty().CopyTo(record.Body())
	}
}

// cutProtected bounds what else is left: the texts that are never masked.
func (l *limiter) cutProtected(record plog.LogRecord, limit int) {
	if name := record.EventName(); sizeOfText(name) > limit {
		record.SetEventName(cutCanonical(name, limit))
		l.cut(nameEventName, len(name), cutAttribute)
	}
	if text := record.SeverityText(); sizeOfText(text) > limit {
		record.SetSeverityText(cutCanonical(text, limit))
		l.cut("severity.text", len(text), cutAttribute)
	}
	for key, value := range record.Attributes().All() {
		if text := value.Str(); fieldOf(key).protected() && sizeOfText(text) > limit {
			value.SetStr(cutCanonical(text, limit))
			l.cut(key, len(text), cutAttribute)
		}
	}
}

// shrinkGroup cuts the attributes of a resource or scope until they take at
// most limit canonical bytes.
func (l *limiter) shrinkGroup(attributes pcommon.Map, limit int) {
	size := sizeOfMembers(attributes)
	if size <= limit {
		return
	}
	l.shrinkLargest(attributes, size-limit)
	if sizeOfMembers(attributes) <= limit {
		return
	}
	total, dropped := 0, 0
	attributes.RemoveIf(func(key string, value pcommon.Value) bool {
		bytes := sizeOfText(key) + sizeOf(value) + 2
		if total+bytes <= limit {
			total += bytes
			return false
		}
		dropped += bytes
		return true
	})
	l.cut(l.at.root+".attributes", dropped, cutGroup)
}

func (l *limiter) shrinkLargest(attributes pcommon.Map, excess int) {
	var all []part
	for key, value := range attributes.All() {
		all = append(all, part{key, sizeOf(value)})
	}
	slices.SortFunc(all, func(a, b part) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.key, b.key)) })
	for _, p := range all {
		if excess <= 0 || p.size <= 2*markerSize {
			return
		}
		value, _ := attributes.Get(p.key)
		putMarker(value, p.size)
		l.cut(l.at.root+"."+shorten(p.key, maxKeyInPath), p.size, cutGroup)
		excess -= p.size - markerSize
	}
}

// sizeOf returns how many canonical bytes a value takes. Doubles are counted
// as 24 digits.
func sizeOf(value pcommon.Value) int {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		return len(`{"stringValue":}`) + sizeOfText(value.Str())
	case pcommon.ValueTypeInt:
		var digits [20]byte
		return len(`{"intValue":""}`) + len(strconv.AppendInt(digits[:0], value.Int(), 10))
	case pcommon.ValueTypeDouble:
		return len(`{"doubleValue":}`) + 24
	case pcommon.ValueTypeBool:
		return len(`{"boolValue":false}`)
	case pcommon.ValueTypeBytes:
		return len(`{"bytesValue":""}`) + base64.StdEncoding.EncodedLen(value.Bytes().Len())
	case pcommon.ValueTypeMap:
		return sizeOfMembers(value.Map())
	case pcommon.ValueTypeSlice:
		size := 2
		for i := range value.Slice().Len() {
			size += sizeOf(value.Slice().At(i)) + 1
		}
		return max(2, size-1)
	default:
		return len(`null`)
	}
}

func sizeOfMembers(m pcommon.Map) int {
	size := 2
	for key, value := range m.All() {
		size += sizeOfText(key) + sizeOf(value) + 2
		if size > math.MaxInt32 {
			break
		}
	}
	return max(2, size-1)
}

func sizeOfText(text string) int {
	size := 2 + len(text)
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c == '"' || c == '\\' {
			size += sizeOfByte(c) - 1
		}
	}
	return size
}

func sizeOfByte(c byte) int {
	switch {
	case c == '"', c == '\\', c == '\b', c == '\t', c == '\n', c == '\f', c == '\r':
		return 2
	case c < 0x20:
		return 6
	}
	return 1
}
