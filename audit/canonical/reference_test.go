// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// reference is the canonical form written as plainly as can be: a tree for
// encoding/json, put in order by a JCS library. It knows nothing of Encoder.
type reference struct{ faults []error }

// object is a JSON object whose empty members are left out by put.
type object map[string]any

func (o object) put(name string, value any) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return
		}
	case object:
		if len(v) == 0 {
			return
		}
	}
	o[name] = value
}

// canonical returns the canonical bytes of the only record of logs, or every
// reason why there are none.
func (r *reference) canonical(t *testing.T, logs plog.Logs) []byte {
	resource := logs.ResourceLogs().At(0)
	scope := resource.ScopeLogs().At(0)
	record := scope.LogRecords().At(0)

	collector, proof, rest := object{}, object{}, object{}
	for key, value := range distinct(record.Attributes()) {
		switch {
		case strings.HasPrefix(key, "audit.integrity.chain."):
		case strings.HasPrefix(key, "audit.integrity.collector."):
			collector[r.text(key)] = r.value(value, 0)
		case strings.HasPrefix(key, "audit.integrity."):
			proof[r.text(key)] = r.value(value, 0)
		default:
			rest[r.text(key)] = r.value(value, 0)
		}
	}
	root := object{"record": r.record(record, rest)}
	root.put("collector", collector)
	root.put("proof", proof)
	root.put("resource", r.resource(resource))
	root.put("scope", r.scope(scope))
	root.put("severity", r.severity(record))
	if len(r.faults) > 0 {
		return nil
	}
	text, err := json.Marshal(root)
	require.NoError(t, err)
	text, err = jcs.Transform(text)
	require.NoError(t, err)
	return text
}

func (r *reference) record(record plog.LogRecord, attributes object) object {
	o := object{}
	o.put("attributes", attributes)
	if record.Body().Type() != pcommon.ValueTypeEmpty {
		o["body"] = r.value(record.Body(), 0)
	}
	o.put("event_name", r.text(record.EventName()))
	o.put("timestamp", r.time(record.Timestamp()))
	o.put("observed_timestamp", r.time(record.ObservedTimestamp()))
	o.put("trace_id", record.TraceID().String())
	o.put("span_id", record.SpanID().String())
	return o
}

func (r *reference) resource(logs plog.ResourceLogs) object {
	o := object{}
	o.put("attributes", r.members(logs.Resource().Attributes(), 0))
	o.put("schema_url", r.text(logs.SchemaUrl()))
	return o
}

func (r *reference) scope(logs plog.ScopeLogs) object {
	o := object{}
	o.put("attributes", r.members(logs.Scope().Attributes(), 0))
	o.put("name", r.text(logs.Scope().Name()))
	o.put("schema_url", r.text(logs.SchemaUrl()))
	o.put("version", r.text(logs.Scope().Version()))
	return o
}

func (r *reference) severity(record plog.LogRecord) object {
	o := object{}
	if record.Flags() != 0 {
		o["flags"] = strconv.FormatUint(uint64(record.Flags()), 10)
	}
	if record.SeverityNumber() != 0 {
		o["number"] = strconv.FormatInt(int64(record.SeverityNumber()), 10)
	}
	o.put("text", r.text(record.SeverityText()))
	return o
}

func distinct(m pcommon.Map) map[string]pcommon.Value {
	members := maps.Collect(m.All())
	return members
}

func (r *reference) members(m pcommon.Map, depth int) object {
	o := object{}
	for key, value := range distinct(m) {
		o[r.text(key)] = r.value(value, depth)
	}
	return o
}

func (r *reference) value(v pcommon.Value, depth int) any {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return object{"stringValue": r.text(v.Str())}
	case pcommon.ValueTypeInt:
		return object{"intValue": strconv.FormatInt(v.Int(), 10)}
	case pcommon.ValueTypeDouble:
		if f := v.Double(); math.IsNaN(f) || math.IsInf(f, 0) {
			r.fault(ErrNumber)
			return nil
		}
		return object{"doubleValue": v.Double()}
	case pcommon.ValueTypeBool:
		return object{"boolValue": v.Bool()}
	case pcommon.ValueTypeBytes:
		return object{"bytesValue": base64.StdEncoding.EncodeToString(v.Bytes().AsRaw())}
	case pcommon.ValueTypeMap, pcommon.ValueTypeSlice:
		return r.container(v, depth+1)
	default:
		return nil
	}
}

func (r *reference) container(v pcommon.Value, depth int) any {
	if depth > 64 {
		r.fault(ErrDepth)
		return nil
	}
	if v.Type() == pcommon.ValueTypeMap {
		return r.members(v.Map(), depth)
	}
	elements := []any{}
	for _, element := range v.Slice().All() {
		elements = append(elements, r.value(element, depth))
	}
	return elements
}

func (r *reference) text(s string) string {
	if !utf8.ValidString(s) {
		r.fault(ErrUTF8)
	}
	return s
}

func (r *reference) time(t pcommon.Timestamp) string {
	if t == 0 {
		return ""
	}
	if t >= 1<<63 {
		r.fault(ErrTime)
	}
	return strconv.FormatUint(uint64(t), 10)
}

func (r *reference) fault(err error) { r.faults = append(r.faults, err) }
