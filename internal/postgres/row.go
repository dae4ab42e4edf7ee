// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"strconv"
	"strings"
	"time"

	"github.com/otelaudit/otelaudit/audit/chain"
)

// kind is the type of a derived column.
type kind uint8

const (
	kindText kind = iota
	kindTexts
	kindInteger
	kindBoolean
	kindTime // whole microseconds since 1970
	kindBigint
	kindJSON
)

// Derived columns, in the order of the table.
const (
	columnEventID = iota
	columnSchemaVersion
	columnOccurredAt
	columnAction
	columnOutcome
	columnActorID
	columnActorType
	columnActorName
	columnActorRoles
	columnActorIP
	columnActorUserAgent
	columnTargetID
	columnTargetType
	columnTargetName
	columnTenantID
	columnOrgID
	columnTarget
	columnContext
	columnMetadata
	columnDiff
	columnIntegrity
	columnRetentionTag
	columnMetadataTruncated
	columnDiffTruncated
	columnAttributes
	columnResource
	columnMessage
	columnNanoseconds

	derivedColumns
)

// columns are the derived columns of the table of events.
var columns = [derivedColumns]struct {
	name string
	kind kind
}{
	columnEventID:           {"event_id", kindText},
	columnSchemaVersion:     {"schema_version", kindInteger},
	columnOccurredAt:        {"occurred_at", kindTime},
	columnAction:            {"action", kindText},
	columnOutcome:           {"outcome", kindText},
	columnActorID:           {"actor_id", kindText},
	columnActorType:         {"actor_type", kindText},
	columnActorName:         {"actor_display_name", kindText},
	columnActorRoles:        {"actor_roles", kindTexts},
	columnActorIP:           {"actor_ip", kindText},
	columnActorUserAgent:    {"actor_user_agent", kindText},
	columnTargetID:          {"target_id", kindText},
	columnTargetType:        {"target_type", kindText},
	columnTargetName:        {"target_display_name", kindText},
	columnTenantID:          {"tenant_id", kindText},
	columnOrgID:             {"org_id", kindText},
	columnTarget:            {"target", kindJSON},
	columnContext:           {"context", kindJSON},
	columnMetadata:          {"metadata", kindJSON},
	columnDiff:              {"diff", kindJSON},
	columnIntegrity:         {"integrity", kindJSON},
	columnRetentionTag:      {"retention_tag", kindText},
	columnMetadataTruncated: {"metadata_truncated", kindBoolean},
	columnDiffTruncated:     {"diff_truncated", kindBoolean},
	columnAttributes:        {"attributes", kindJSON},
	columnResource:          {"resource", kindJSON},
	columnMessage:           {"message", kindJSON},
	columnNanoseconds:       {"occurred_at_nanoseconds", kindBigint},
}

// sealColumns hold the link, its hash and what was hashed: nothing of them is
// derived.
var sealColumns = []string{"origin", "index", "stream", "seq", "sealed_at", "prev", "hash", "canonical"}

// Columns returns the names of all columns of the table of events, in the order
// in which AppendCopy writes them.
func Columns() []string {
	names := make([]string, 0, len(columns)+len(sealColumns))
	for i := range columns {
		names = append(names, columns[i].name)
	}
	return append(names, sealColumns...)
}

// columnList is Columns for a statement.
var columnList = strings.Join(Columns(), ", ")

// value is the value of one derived column.
type value struct {
	valid  bool     // false is NULL
	text   []byte   // of a text or of JSON
	texts  [][]byte // of an array of texts
	number int64    // of a number or a time; of a boolean 0 or 1
}

// Row is one row of the table of events. It may alias memory of what made it.
type Row struct {
	values [derivedColumns]value

	Link      chain.Link // Digest only where Derive made the row
	Hash      chain.Hash
	Canonical []byte
}

// OccurredAt returns when the event happened, else when it was observed, else
// when it was sealed. It is what column occurred_at shows.
func (r *Row) OccurredAt() time.Time {
	return time.Unix(0, r.values[columnNanoseconds].number).UTC()
}

// Column returns the value of a derived column as text: arrays as JSON, times
// as RFC 3339. ok is false for NULL and for names that Columns has not, or that
// are not derived.
func (r *Row) Column(name string) (text string, ok bool) {
	for i := range columns {
		if columns[i].name == name {
			return r.values[i].String(columns[i].kind), r.values[i].valid
		}
	}
	return "", false
}

// String is the value as Column returns it.
func (v *value) String(k kind) string {
	switch {
	case !v.valid:
		return ""
	case k == kindTexts:
		return string(appendTexts(nil, v.texts))
	case k == kindBoolean:
		return strconv.FormatBool(v.number != 0)
	case k == kindTime:
		return time.UnixMicro(v.number).UTC().Format(time.RFC3339Nano)
	case k == kindInteger, k == kindBigint:
		return strconv.FormatInt(v.number, 10)
	}
	return string(v.text)
}
