// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// ErrNotEvent says of a line that it holds no event: it is a checkpoint or a
// stub.
var ErrNotEvent = errors.New("line holds no event")

// Event is one stored event.
type Event struct {
	Link chain.Link // with the digest of Canonical
	Hash chain.Hash // as stored

	// Canonical is what was hashed; it aliases the line that the event was
	// read from.
	Canonical []byte
	// JSON is the event as POST /v1/events takes it, see audit.EncodeEvent.
	JSON []byte

	// OccurredAt is when the event happened, else when it was observed, else
	// when it was sealed.
	OccurredAt time.Time
	// Tenant is the authenticated one, else the one that the event names.
	Tenant string
	// Flagged says why the event breaks the schema, nothing if it does not.
	Flagged []string

	said members
}

// members is what JSON says, as far as there is a column for it.
type members struct {
	SchemaVersion     jsontext.Value `json:"schemaVersion"`
	EventID           string         `json:"eventId"`
	Action            string         `json:"action"`
	Outcome           string         `json:"outcome"`
	Actor             actor          `json:"actor"`
	Target            jsontext.Value `json:"target"`
	Context           jsontext.Value `json:"context"`
	Metadata          jsontext.Value `json:"metadata"`
	Diff              jsontext.Value `json:"diff"`
	Integrity         jsontext.Value `json:"integrity"`
	RetentionTag      string         `json:"retentionTag"`
	MetadataTruncated *bool          `json:"metadataTruncated"`
	DiffTruncated     *bool          `json:"diffTruncated"`

	target  target
	context eventContext
}

type actor struct {
	Type        string         `json:"type"`
	ID          string         `json:"id"`
	DisplayName string         `json:"displayName"`
	Roles       jsontext.Value `json:"roles"`
	IP          string         `json:"ip"`
	UserAgent   string         `json:"userAgent"`
}

type target struct {
	Type        string `json:"type"`
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
}

type eventContext struct {
	OccurredAt string `json:"occurredAt"`
	TenantID   string `json:"tenantId"`
	OrgID      string `json:"orgId"`
}

// Read reads the event of a stored line. It is ErrNotEvent for the lines that
// hold none; every other error says that the event is not in canonical form.
func Read(line *audit.Line) (*Event, error) {
	if line.Kind != audit.LineEvent {
		return nil, ErrNotEvent
	}
	logs, err := canonical.Parse(line.Event)
	if err != nil {
		return nil, err
	}
	resource := logs.ResourceLogs().At(0)
	record := resource.ScopeLogs().At(0).LogRecords().At(0)
	e := &Event{Link: line.Link, Hash: line.Hash, Canonical: line.Event}
	e.Link.Digest = sha256.Sum256(line.Event)
	e.JSON = audit.EncodeEvent(nil, resource.Resource(), record)
	if err := e.said.read(e.JSON); err != nil {
		return nil, fmt.Errorf("read the event's own JSON: %w", err)
	}
	e.OccurredAt = occurredAt(record, e.Link.SealedAt)
	e.Tenant = e.said.context.TenantID
	if said, ok := record.Attributes().Get(audit.AttributeCollectorTenant); ok && said.Type() == pcommon.ValueTypeStr {
		e.Tenant = said.Str()
	}
	e.Flagged = texts(record.Attributes(), audit.AttributeCollectorFlagged)
	return e, nil
}

func occurredAt(record plog.LogRecord, sealedAt int64) time.Time {
	for _, said := range []pcommon.Timestamp{record.Timestamp(), record.ObservedTimestamp()} {
		if said != 0 && said <= math.MaxInt64 {
			return said.AsTime()
		}
	}
	return time.Unix(0, sealedAt).UTC()
}

func (m *members) read(event []byte) error {
	if err := json.Unmarshal(event, m); err != nil {
		return err
	}
	if len(m.Target) > 0 {
		if err := json.Unmarshal(m.Target, &m.target); err != nil {
			return err
		}
	}
	if len(m.Context) > 0 {
		return json.Unmarshal(m.Context, &m.context)
	}
	return nil
}

// texts returns the strings in an attribute that is a list.
func texts(attributes pcommon.Map, key string) []string {
	value, ok := attributes.Get(key)
	if !ok || value.Type() != pcommon.ValueTypeSlice {
		return nil
	}
	var list []string
	for _, each := range value.Slice().All() {
		list = append(list, each.AsString())
	}
	return list
}

// Sound says whether the stored hash is that of what is shown. It says nothing
// of what is not there: that is for package verify.
func (e *Event) Sound() bool { return e.Link.Hash() == e.Hash }

// IsControl says whether the collector itself sealed the event.
func (e *Event) IsControl() bool { return e.Link.Stream == audit.StreamOrigin }
