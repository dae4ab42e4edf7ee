// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"bytes"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
)

// pathAudit is the endpoint of OTEP 0267. It takes what /v1/logs takes and
// refuses what breaks the schema; it answers 200 only once every required sink
// has the records, else 202, and the same request again asks how it stands.
const pathAudit = "/v1/audit"

// ask sets the wishes of /v1/audit. The wait for the delivery ends when the
// receiver stops.
func (in *inbound) ask(stopping <-chan struct{}) {
	in.audit = true
	in.filled.RejectInvalid = true
	in.filled.AwaitDelivery = stopping
}

// complete adds to an answer what /v1/audit says beside others.
func (in *inbound) complete(a *answer) {
	a.ids, a.checkpoint, a.sinks = in.ids, in.filled.Checkpoint, in.filled.Sinks
	if a.status == http.StatusOK && anyQuarantined(in.filled.Results) {
		a.status = http.StatusAccepted
	}
	if a.status == http.StatusAccepted {
		a.retryAfter = retryFailed
		if !in.filled.Pending {
			a.retryAfter = retryOperator
		}
	}
}

// A single record may come bare in JSON: told from a request by its first
// member, and wrapped into one.
const (
	wrapBefore = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[`
	wrapAfter  = `]}]}]}`
)

// unwrap makes a request of a bare record. That is what the OTEP leaves open.
func (in *inbound) unwrap() error {
	if !in.audit || in.form != encodingJSON || !isBareRecord(in.body) {
		return nil
	}
	if err := in.taken.admit(int64(len(in.body))); err != nil {
		return err
	}
	in.body = bytes.Join([][]byte{[]byte(wrapBefore), in.body, []byte(wrapAfter)}, nil)
	return nil
}

// isBareRecord looks at the name of the first member.
func isBareRecord(body []byte) bool {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(body))
	if open, err := decoder.ReadToken(); err != nil || open.Kind() != '{' {
		return false
	}
	name, err := decoder.ReadToken()
	if err != nil || name.Kind() != '"' {
		return false
	}
	_, ofRecord := jsonMembers[messageLogRecord][name.String()]
	return ofRecord
}

// judgeMandatory makes faults of the records that lack what a collector
// otherwise adds: the producer's id, by which a repeated request is known, and
// its event name. The rest of the schema is the processor's.
func (b *batch) judgeMandatory() {
	b.each(func(_ pcommon.Resource, record plog.LogRecord) (foreign bool, problem string) {
		switch {
		case recordID(record) == "":
			return false, audit.AttributeRecordID + ": is missing: without it a repeated request is another record"
		case record.EventName() == "":
			return false, "event_name: is missing"
		}
		return false, ""
	})
}

// recordID returns the last id of a record, as canonical bytes have it.
func recordID(record plog.LogRecord) (id string) {
	for key, value := range record.Attributes().All() {
		if key == audit.AttributeRecordID {
			id = value.Str() // empty if it is no string
		}
	}
	return id
}

// ids returns the ids of the records, in order.
func (b *batch) ids() []string {
	ids := make([]string, 0, b.events)
	for _, ofResource := range b.logs.ResourceLogs().All() {
		for _, ofScope := range ofResource.ScopeLogs().All() {
			for _, record := range ofScope.LogRecords().All() {
				ids = append(ids, recordID(record))
			}
		}
	}
	return ids
}
