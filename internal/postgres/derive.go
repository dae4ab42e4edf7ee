// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// Deriver makes rows of records. It keeps its memory; the zero Deriver is ready.
// Not for concurrent use.
type Deriver struct {
	row   Row
	event []byte // the event form that the row's values point into
	texts [][]byte
}

// Derive returns the row of a sealed record, valid until the next call. event
// is the record's canonical form: whichever record with that form it is called
// with, the row is the same.
func (d *Deriver) Derive(resource pcommon.Resource, record plog.LogRecord, link *chain.Link, hash chain.Hash, event []byte) *Row {
	d.event = audit.EncodeEvent(d.event[:0], resource, record)
	// Where a key occurs twice the canonical form has the last, the event form
	// the first. And keys that differ in U+0000 alone may be shown alike: then
	// their order counts.
	if repeats(record.Attributes()) || repeats(resource.Attributes()) || hasNUL(d.event) {
		if logs, err := canonical.Parse(event); err == nil {
			group := logs.ResourceLogs().At(0)
			resource, record = group.Resource(), group.ScopeLogs().At(0).LogRecords().At(0)
			d.event = audit.EncodeEvent(d.event[:0], resource, record)
		}
	}
	d.begin(link, hash, event)
	d.fill(d.event)
	d.setTenant(record)
	d.setTime(record)
	return &d.row
}

// DeriveCanonical is Derive of the record that canonical bytes stand for. Bytes
// that stand for none have no derived values but the time.
func (d *Deriver) DeriveCanonical(link *chain.Link, hash chain.Hash, event []byte) *Row {
	logs, err := canonical.Parse(event)
	if err != nil {
		d.begin(link, hash, event)
		d.setTime(plog.NewLogRecord())
		return &d.row
	}
	group := logs.ResourceLogs().At(0)
	return d.Derive(group.Resource(), group.ScopeLogs().At(0).LogRecords().At(0), link, hash, event)
}

func (d *Deriver) begin(link *chain.Link, hash chain.Hash, event []byte) {
	d.row = Row{Link: *link, Hash: hash, Canonical: event}
	d.texts = d.texts[:0]
}

// repeats says whether a key occurs twice.
func repeats(m pcommon.Map) bool {
	const few = 32
	if m.Len() > few {
		seen := make(map[string]struct{}, m.Len())
		for key := range m.All() {
			seen[key] = struct{}{}
		}
		return len(seen) < m.Len()
	}
	var keys [few]string
	n := 0
	for key := range m.All() {
		if slices.Contains(keys[:n], key) {
			return true
		}
		keys[n] = key
		n++
	}
	return false
}

// fill sets what the event form says.
func (d *Deriver) fill(event []byte) {
	eachMember(event, func(name, raw []byte) {
		switch string(name) {
		case "schemaVersion":
			d.setVersion(raw)
		case "eventId":
			d.setText(columnEventID, raw)
		case "action":
			d.setText(columnAction, raw)
		case "outcome":
			d.setText(columnOutcome, raw)
		case "actor":
			eachMember(raw, d.setActor)
		case "target":
			d.setJSON(columnTarget, raw)
			eachMember(raw, d.setTarget)
		case "context":
			d.setJSON(columnContext, raw)
			eachMember(raw, d.setContext)
		case "metadata":
			d.setJSON(columnMetadata, raw)
		case "diff":
			d.setJSON(columnDiff, raw)
		case "integrity":
			d.setJSON(columnIntegrity, raw)
		case "retentionTag":
			d.setText(columnRetentionTag, raw)
		case "metadataTruncated":
			d.setBoolean(columnMetadataTruncated, raw)
		case "diffTruncated":
			d.setBoolean(columnDiffTruncated, raw)
		case "message":
			d.setJSON(columnMessage, raw)
		case "attributes":
			d.setJSON(columnAttributes, raw)
		case "resource":
			d.setJSON(columnResource, raw)
		}
	})
}

func (d *Deriver) setActor(name, raw []byte) {
	switch string(name) {
	case "type":
		d.setText(columnActorType, raw)
	case "id":
		d.setText(columnActorID, raw)
	case "displayName":
		d.setText(columnActorName, raw)
	case "roles":
		start := len(d.texts)
		eachElement(raw, func(raw []byte) { d.texts = append(d.texts, escapeNUL(unquote(raw))) })
		d.row.values[columnActorRoles] = value{valid: true, texts: d.texts[start:]}
	case "ip":
		d.setText(columnActorIP, raw)
	case "userAgent":
		d.setText(columnActorUserAgent, raw)
	}
}

func (d *Deriver) setTarget(name, raw []byte) {
	switch string(name) {
	case "type":
		d.setText(columnTargetType, raw)
	case "id":
		d.setText(columnTargetID, raw)
	case "displayName":
		d.setText(columnTargetName, raw)
	}
}

func (d *Deriver) setContext(name, raw []byte) {
	switch string(name) {
	case "tenantId":
		d.setText(columnTenantID, raw)
	case "orgId":
		d.setText(columnOrgID, raw)
	}
}

func (d *Deriver) setText(column int, raw []byte) {
	d.row.values[column] = value{valid: true, text: show(column, unquote(raw))}
}

func (d *Deriver) setJSON(column int, raw []byte) {
	d.row.values[column] = value{valid: true, text: escapeJSON(raw)}
}

func (d *Deriver) setBoolean(column int, raw []byte) {
	v := value{valid: true}
	if string(raw) == "true" {
		v.number = 1
	}
	d.row.values[column] = v
}

// setVersion sets a version that is a whole number; the column has no room for
// others.
func (d *Deriver) setVersion(raw []byte) {
	if n, err := strconv.ParseInt(string(raw), 10, 32); err == nil {
		d.row.values[columnSchemaVersion] = value{valid: true, number: n}
	}
}

// setTenant prefers the tenant that was authenticated: the one that the record
// names may be absent.
func (d *Deriver) setTenant(record plog.LogRecord) {
	tenant, ok := record.Attributes().Get(audit.AttributeCollectorTenant)
	if ok && tenant.Type() == pcommon.ValueTypeStr {
		d.row.values[columnTenantID] = value{valid: true, text: show(columnTenantID, []byte(tenant.Str()))}
	}
}

func (d *Deriver) setTime(record plog.LogRecord) {
	at := OccurredAt(record, &d.row.Link)
	micro := at / 1000
	if at%1000 < 0 {
		micro--
	}
	d.row.values[columnOccurredAt] = value{valid: true, number: micro}
	d.row.values[columnNanoseconds] = value{valid: true, number: at}
}

// OccurredAt returns when an event happened, else when it was observed, else
// when it was sealed, in nanoseconds since 1970.
func OccurredAt(record plog.LogRecord, link *chain.Link) int64 {
	for _, said := range []pcommon.Timestamp{record.Timestamp(), record.ObservedTimestamp()} {
		if said != 0 && said <= math.MaxInt64 {
			return int64(said)
		}
	}
	return link.SealedAt
}

// Bounds of text that an index holds: an index takes 2,704 bytes for all its
// columns.
const (
	maxIndexed  = 1024
	keepIndexed = maxIndexed - len("…") - sha256.Size
)

// Shown returns text as the columns tenant_id, actor_id and action show it: so
// it has to be looked for.
func Shown(text string) string { return string(show(columnActorID, []byte(text))) }

// show returns text as a column can hold it. Different texts stay different,
// but for U+0000 and the six characters that stand for it, and for what is made
// to look like a text that was cut.
func show(column int, text []byte) []byte {
	text = escapeNUL(text)
	switch column {
	case columnTenantID, columnActorID, columnAction:
	default:
		return text
	}
	if len(text) <= maxIndexed {
		return text
	}
	cut := keepIndexed
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	hash := sha256.Sum256(text)
	short := append(make([]byte, 0, maxIndexed), text[:cut]...)
	short = append(short, "…"...)
	return hex.AppendEncode(short, hash[:sha256.Size/2])
}

const shownNUL = `\u0000`

func escapeNUL(text []byte) []byte {
	if bytes.IndexByte(text, 0) < 0 {
		return text
	}
	return bytes.ReplaceAll(text, []byte{0}, []byte(shownNUL))
}

// hasNUL says whether JSON may hold U+0000; it has no other spelling than this.
func hasNUL(text []byte) bool { return bytes.Contains(text, []byte(shownNUL)) }

// escapeJSON returns JSON in which U+0000 is spelt as the six characters.
func escapeJSON(text []byte) []byte {
	if !hasNUL(text) {
		return text
	}
	out := make([]byte, 0, len(text)+16)
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			out = append(out, text[i])
			continue
		}
		if bytes.HasPrefix(text[i:], []byte(shownNUL)) {
			out = append(out, '\\')
			out = append(out, shownNUL...)
			i += len(shownNUL) - 1
			continue
		}
		out = append(out, text[i], text[i+1]) // an escape has two bytes at least
		i++
	}
	return out
}

// EscapeStream and unescapeStream keep a stream as text such that it comes back.
func EscapeStream(stream string) string {
	if !strings.ContainsAny(stream, "\\\x00") {
		return stream
	}
	return strings.NewReplacer(`\`, `\\`, "\x00", shownNUL).Replace(stream)
}

func unescapeStream(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	return strings.NewReplacer(`\\`, `\`, shownNUL, "\x00").Replace(text)
}
