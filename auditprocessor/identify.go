// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/internal/journal"
)

// identify makes the identity of a record as it was received: its id within
// its owner's, and its content without the time at which somebody observed it,
// which differs from one attempt to the next. w.fields has been read, and no
// stage has touched the record.
func (w *worker) identify(record plog.LogRecord) journal.Identity {
	identifier := w.stages.identifier
	id := sentID(&w.fields, w.stages.validator.maxID)
	if identifier == nil || id == "" {
		return journal.Identity{}
	}
	kind, name := w.ownerOf(w.fields.known[fieldTenantID].text, w.sentService)
	identity := journal.Identity{ID: identifier.ID(kind+name, id)}

	observed := record.ObservedTimestamp()
	record.SetObservedTimestamp(0)
	defer record.SetObservedTimestamp(observed)
	var err error
	if w.buffer, err = w.encoder.AppendRecord(w.buffer[:0], record); err == nil {
		identity.Fingerprint = identifier.Fingerprint(w.buffer)
		return identity
	}
	content, err := encoded(record)
	if err != nil {
		return journal.Identity{} // what cannot even be marshalled is not stored either
	}
	identity.Fingerprint = identifier.Fingerprint(content)
	return identity
}

// sentID is the id that a record came with. As fill has it: the semantic
// convention's name serves where ours is missing.
func sentID(f *fields, maxID int) string {
	if id := &f.known[fieldRecordID]; !id.missing() {
		return id.text
	}
	if id, usable := usableUID(f, maxID); usable {
		return id
	}
	return ""
}

// encoded is the OTLP form of a record that has no canonical one. Its first
// byte tells it from that.
func encoded(record plog.LogRecord) ([]byte, error) {
	alone := plog.NewLogs()
	record.CopyTo(alone.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty())
	return marshaler.MarshalLogs(alone)
}
