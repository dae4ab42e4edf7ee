// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"crypto/sha256"
	"math"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// completeCheckpoint makes an audit event of a checkpoint of another log, which
// comes where a collector forwards to this one: it is evidence, and no fault of
// anybody, so it is neither flagged nor refused. An earlier collector would wait
// for ever with what is behind it. The id follows from the note, so that one
// that is delivered again is stored once. The time is set by timeCheckpoint.
//
// Nothing of it is believed: whether the note is sound, who has the other log's
// key can tell.
func completeCheckpoint(record plog.LogRecord, m *marks) bool {
	note, origin, found := incomingCheckpoint(record)
	if !found {
		return false
	}
	record.SetEventName(audit.EventHopCheckpoint)
	m.fill(nameEventName)
	attributes := record.Attributes()
	for _, member := range [...]struct{ name, value string }{
		{audit.AttributeRecordID, uuid.NewHash(sha256.New(), uuid.Nil, []byte(note), uuidOfHash).String()},
		{audit.AttributeActorID, origin.Instance},
		{audit.AttributeActorType, "system"},
		{audit.AttributeAction, "CHECKPOINT"},
		{audit.AttributeOutcome, "success"},
	} {
		attributes.PutStr(member.name, member.value)
		m.fill(member.name)
	}
	return true
}

// uuidOfHash is the version of UUIDs that are made as their maker likes.
const uuidOfHash = 8

// timeCheckpoint gives it the time at which it came, once its content has been
// compared with what came before.
func (w *worker) timeCheckpoint(record plog.LogRecord) {
	record.SetTimestamp(pcommon.NewTimestampFromTime(w.now))
	w.own.fill(nameTimestamp)
}

// incomingCheckpoint reads a record that has the form in which a collector sends
// a checkpoint, and nothing beside it.
func incomingCheckpoint(record plog.LogRecord) (note string, origin chain.Origin, found bool) {
	attributes := record.Attributes()
	const members = 4
	if attributes.Len() != members || record.EventName() != "" || record.Timestamp() != 0 || record.Body().Type() != pcommon.ValueTypeEmpty {
		return "", chain.Origin{}, false
	}
	named, hasOrigin := attributes.Get(audit.AttributeChainOrigin)
	size, hasSize := attributes.Get(audit.AttributeChainIndex)
	text, hasNote := attributes.Get(audit.AttributeChainCheckpoint)
	hashes, hasRange := attributes.Get(audit.AttributeChainRange)
	if !hasOrigin || !hasSize || !hasNote || !hasRange || size.Type() != pcommon.ValueTypeInt || !isRange(hashes) {
		return "", chain.Origin{}, false
	}
	checkpoint, err := chain.ParseCheckpoint([]byte(text.Str()))
	if err != nil || checkpoint.Origin != named.Str() || checkpoint.Size > math.MaxInt64 || int64(checkpoint.Size) != size.Int() {
		return "", chain.Origin{}, false
	}
	origin, err = chain.ParseOrigin(checkpoint.Origin)
	return text.Str(), origin, err == nil
}

// isRange says whether a value is the compact range of a checkpoint.
func isRange(value pcommon.Value) bool {
	const most = 64
	if value.Type() != pcommon.ValueTypeSlice || value.Slice().Len() > most {
		return false
	}
	for _, hash := range value.Slice().All() {
		if _, err := chain.ParseHash(hash.Str()); err != nil {
			return false
		}
	}
	return true
}
