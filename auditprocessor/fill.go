// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
)

// Names of what fill sets, as they stand in the mark.
const (
	nameEventName = "event_name"
	nameTimestamp = "timestamp"
	nameObserved  = "observed_timestamp"
)

// fill sets what a record needs and does not have: record id, observed time
// and event name. Nothing else in `record` is ever added to.
func fill(record plog.LogRecord, f *fields, now time.Time, maxID int, m *marks) {
	if f.known[fieldRecordID].missing() {
		fillRecordID(record, f, maxID, m)
	}
	if record.ObservedTimestamp() == 0 {
		record.SetObservedTimestamp(pcommon.NewTimestampFromTime(now))
		m.fill(nameObserved)
	}
	if action := f.known[fieldAction].text; record.EventName() == "" && action != "" {
		record.SetEventName(action)
		m.fill(nameEventName)
	}
}

// fillRecordID takes the id that the sender put under the semantic
// convention's name, and makes one if there is none. A record that cannot get
// an id stays without, which validation finds.
func fillRecordID(record plog.LogRecord, f *fields, maxID int, m *marks) {
	id, usable := usableUID(f, maxID)
	if !usable {
		made, err := uuid.NewV7()
		if err != nil {
			return
		}
		id = made.String()
	}
	record.Attributes().PutStr(audit.AttributeRecordID, id)
	f.known[fieldRecordID] = field{text: id, kind: pcommon.ValueTypeStr, set: true}
	m.fill(audit.AttributeRecordID)
}

// usableUID returns the id under the semantic convention's name, and whether it
// can be a record's.
func usableUID(f *fields, maxID int) (string, bool) {
	id := f.known[fieldRecordUID].text
	return id, strings.TrimSpace(id) != "" && len(id) <= maxID
}
