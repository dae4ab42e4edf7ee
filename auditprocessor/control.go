// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/journal"
)

// controlRecord is a record that the collector itself seals: a valid audit
// event whose actor is the log.
type controlRecord struct {
	kind  journal.RecordKind
	event string
	verb  string
	set   func(pcommon.Map) // further attributes, may be nil
}

// startRecord is the first record of a life. It binds the life before it: what
// is cut off a dead life's tail shows in the next.
func startRecord(previous journal.Previous, version string, config chain.Hash, key ed25519.PublicKey) controlRecord {
	return controlRecord{
		kind: journal.Start, event: audit.EventOriginStart, verb: "START",
		set: func(attributes pcommon.Map) {
			attributes.PutStr(audit.AttributeOriginVersion, version)
			attributes.PutStr(audit.AttributeOriginConfig, config.String())
			attributes.PutStr(audit.AttributeOriginCause, string(previous.Cause))
			attributes.PutStr(audit.AttributeOriginKey, base64.StdEncoding.EncodeToString(key))
			if previous.Origin != "" {
				attributes.PutStr(audit.AttributeOriginPrevious, previous.Origin)
				attributes.PutInt(audit.AttributeOriginPreviousSize, clampInt(previous.Size))
				attributes.PutStr(audit.AttributeOriginPreviousRoot, previous.Root.String())
			}
		},
	}
}

func heartbeatRecord() controlRecord {
	return controlRecord{kind: journal.Heartbeat, event: audit.EventOriginHeartbeat, verb: "HEARTBEAT"}
}

func stopRecord() controlRecord {
	return controlRecord{kind: journal.Stop, event: audit.EventOriginStop, verb: "STOP"}
}

// seal makes the record durable.
func (c controlRecord) seal(ctx context.Context, j *journal.Journal, instance string, now time.Time) (*journal.Request, error) {
	request, err := c.request(instance, now)
	if err != nil {
		return nil, err
	}
	if err := j.Seal(ctx, request); err != nil {
		return nil, fmt.Errorf("seal %s: %w", c.event, err)
	}
	return request, nil
}

// request turns the record into what the journal seals.
func (c controlRecord) request(instance string, now time.Time) (*journal.Request, error) {
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	scope := resource.ScopeLogs().AppendEmpty()
	record := scope.LogRecords().AppendEmpty()
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("%s: record id: %w", c.event, err)
	}
	record.SetTimestamp(pcommon.NewTimestampFromTime(now))
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(now))
	record.SetEventName(c.event)
	attributes := record.Attributes()
	attributes.PutStr(audit.AttributeRecordID, id.String())
	attributes.PutStr(audit.AttributeActorID, instance)
	attributes.PutStr(audit.AttributeActorType, "system")
	attributes.PutStr(audit.AttributeAction, c.verb)
	attributes.PutStr(audit.AttributeOutcome, "success")
	if c.set != nil {
		c.set(attributes)
	}
	var encoder canonical.Encoder
	if err := encoder.SetGroup(resource.Resource(), "", scope.Scope(), ""); err != nil {
		return nil, fmt.Errorf("%s: %w", c.event, err)
	}
	bytes, _, err := encoder.Append(nil, record)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.event, err)
	}
	payload, err := marshaler.MarshalLogs(logs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.event, err)
	}
	link := chain.Link{Stream: audit.StreamOrigin, Digest: sha256.Sum256(bytes)}
	return &journal.Request{Kind: c.kind, Payload: payload, Links: []chain.Link{link}}, nil
}

// clampInt is n as an attribute's integer. No tree grows past it.
func clampInt(n uint64) int64 {
	return int64(min(n, math.MaxInt64))
}
