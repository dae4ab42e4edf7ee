// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
)

// replacement stands for what is not UTF-8.
const replacement = "\uFFFD"

// markerText stands for what was cut.
const markerText = "[TRUNCATED]"

// Original times that have no canonical form, as decimal strings.
const (
	attributeOriginalTimestamp = audit.PrefixCollector + "original_timestamp"
	attributeOriginalObserved  = audit.PrefixCollector + "original_observed_timestamp"
)

// repairFields repairs what costs nothing to look at: times, and the count of
// attributes that the sender dropped, which no digest would cover.
func repairFields(record plog.LogRecord, m *marks) {
	if record.Timestamp() > math.MaxInt64 {
		m.timeText[0] = strconv.FormatUint(uint64(record.Timestamp()), 10)
		m.repair(nameTimestamp, "2^63 ns or more")
		record.SetTimestamp(0)
	}
	if record.ObservedTimestamp() > math.MaxInt64 {
		m.timeText[1] = strconv.FormatUint(uint64(record.ObservedTimestamp()), 10)
		m.repair(nameObserved, "2^63 ns or more")
		record.SetObservedTimestamp(0)
	}
	if n := record.DroppedAttributesCount(); n > 0 {
		repairDropped("attributes", n, m)
		record.SetDroppedAttributesCount(0)
	}
}

func repairDropped(path string, n uint32, m *marks) {
	m.repair(path, "the sender had dropped "+strconv.FormatUint(uint64(n), 10)+" attributes")
}

// repairer gives a canonical form to what has none: invalid UTF-8, NaN and
// infinities, nesting beyond canonical.MaxDepth, repeated names. It runs only
// on records in which something of the kind was found.
type repairer struct {
	at    location
	marks *marks
}

func repairRecord(record plog.LogRecord, m *marks) {
	r := repairer{marks: m}
	if name, bad := r.text(nameEventName, record.EventName()); bad {
		record.SetEventName(name)
	}
	if text, bad := r.text("severity.text", record.SeverityText()); bad {
		record.SetSeverityText(text)
	}
	r.members(record.Attributes(), 0)
	r.at.start("body")
	r.value(record.Body(), 0)
}

func repairResource(resource pcommon.Resource, schemaURL string, m *marks) string {
	r := repairer{marks: m}
	r.at.start("resource")
	r.members(resource.Attributes(), 0)
	schemaURL, _ = r.text("resource.schema_url", schemaURL)
	return schemaURL
}

func repairScope(scope pcommon.InstrumentationScope, schemaURL string, m *marks) string {
	r := repairer{marks: m}
	if name, bad := r.text("scope.name", scope.Name()); bad {
		scope.SetName(name)
	}
	if version, bad := r.text("scope.version", scope.Version()); bad {
		scope.SetVersion(version)
	}
	r.at.start("scope")
	r.members(scope.Attributes(), 0)
	schemaURL, _ = r.text("scope.schema_url", schemaURL)
	return schemaURL
}

func (r *repairer) text(path, text string) (string, bool) {
	if utf8.ValidString(text) {
		return text, false
	}
	r.marks.repair(path, canonical.ErrUTF8.Error())
	return strings.ToValidUTF8(text, replacement), true
}

// members repairs a map that is itself at the given depth: the attributes are
// at 0.
func (r *repairer) members(m pcommon.Map, depth int) {
	r.removeRepeated(m)
	r.renameKeys(m)
	for key, value := range m.All() {
		r.at.push(key)
		r.value(value, depth)
		r.at.pop()
	}
}

// removeRepeated removes all but the last of the members of one name.
func (r *repairer) removeRepeated(m pcommon.Map) {
	last := make(map[string]int, m.Len())
	i := 0
	for key := range m.All() {
		last[key] = i
		i++
	}
	if len(last) == m.Len() {
		return
	}
	i = -1
	m.RemoveIf(func(key string, _ pcommon.Value) bool {
		i++
		if last[key] == i {
			return false
		}
		r.at.push(key)
		r.marks.repair(r.at.String(), "repeated name, the last was kept")
		r.at.pop()
		return true
	})
}

// renameKeys makes names valid UTF-8.
func (r *repairer) renameKeys(m pcommon.Map) {
	renameMembers(m, &r.at, r.marks, renaming{
		bad:  func(key string) bool { return !utf8.ValidString(key) },
		name: func(key string) string { return strings.ToValidUTF8(key, replacement) },
		mark: func(path string) { r.marks.repair(path, canonical.ErrUTF8.Error()+" in the name") },
	})
}

// value repairs a value inside a map or slice of the given depth.
func (r *repairer) value(value pcommon.Value, depth int) {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		if text, bad := r.text(r.pathOf(value), value.Str()); bad {
			value.SetStr(text)
		}
	case pcommon.ValueTypeDouble:
		r.number(value)
	case pcommon.ValueTypeMap:
		if r.fits(value, depth+1) {
			r.members(value.Map(), depth+1)
		}
	case pcommon.ValueTypeSlice:
		if !r.fits(value, depth+1) {
			return
		}
		for i := range value.Slice().Len() {
			r.at.pushIndex(i)
			r.value(value.Slice().At(i), depth+1)
			r.at.pop()
		}
	}
}

// pathOf writes the path only where it is needed.
func (r *repairer) pathOf(value pcommon.Value) string {
	if utf8.ValidString(value.Str()) {
		return ""
	}
	return r.at.String()
}

func (r *repairer) number(value pcommon.Value) {
	switch d := value.Double(); {
	case math.IsNaN(d):
		value.SetStr("NaN")
	case math.IsInf(d, 1):
		value.SetStr("+Inf")
	case math.IsInf(d, -1):
		value.SetStr("-Inf")
	default:
		return
	}
	r.marks.repair(r.at.String(), canonical.ErrNumber.Error())
}

func (r *repairer) fits(value pcommon.Value, depth int) bool {
	if depth <= canonical.MaxDepth {
		return true
	}
	value.SetStr(markerText)
	r.marks.repair(r.at.String(), canonical.ErrDepth.Error())
	return false
}
