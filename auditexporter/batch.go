// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// errMismatch says that a record is not what was sealed.
var errMismatch = errors.New("record is not what the audit processor sealed:" +
	" something between the `audit` processor and this exporter changed it; put nothing between them")

// keepMemory is the size in bytes up to which a batch's memory is kept.
const keepMemory = 16 << 20

// batch turns records into entries of a sink. It keeps its memory, not for
// concurrent use.
type batch struct {
	encoder canonical.Encoder
	bytes   []byte // canonical bytes of all records, end to end
	ends    []int  // by entry: where its canonical bytes end
	entries []sink.Entry
	seal    seal
	origin  string // the last one that was found to be sound
}

// decode sets entries to what is to be stored of logs, in order. An error is
// errUnsealed or errMismatch; it names a coordinate, never content.
func (b *batch) decode(logs plog.Logs) error {
	b.reserve(logs.LogRecordCount())
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			// A group that cannot be encoded fails with its first record.
			groupErr := b.encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl())
			for _, record := range scope.LogRecords().All() {
				if err := b.add(resource, scope, record, groupErr); err != nil {
					return err
				}
			}
		}
	}
	start := 0
	for i, end := range b.ends { // only now: bytes may have moved while it grew
		if b.entries[i].Kind == audit.LineEvent {
			b.entries[i].Event = b.bytes[start:end]
		}
		start = end
	}
	return nil
}

// usualBytes is what the canonical bytes of a usual record need.
const usualBytes = 2048

// reserve makes room for a usual batch at once: growing would copy it as often
// as it doubles.
func (b *batch) reserve(records int) {
	b.bytes = slices.Grow(b.bytes, min(records*usualBytes, keepMemory))
	b.ends = slices.Grow(b.ends, records)
	b.entries = slices.Grow(b.entries, records)
}

func (b *batch) add(resource plog.ResourceLogs, scope plog.ScopeLogs, record plog.LogRecord, groupErr error) error {
	err := b.seal.read(record.Attributes())
	if errors.Is(err, errUnsealed) {
		return err
	}
	if err == nil {
		err = b.checkOrigin()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errMismatch, err)
	}
	if b.seal.found&fieldCheckpoint != 0 {
		err = b.addCheckpoint()
	} else {
		err = b.addEvent(resource, scope, record, groupErr)
	}
	if err != nil {
		return fmt.Errorf("origin %s, index %d: %w: %w", b.seal.link.Origin, b.seal.link.Index, errMismatch, err)
	}
	b.ends = append(b.ends, len(b.bytes))
	return nil
}

func (b *batch) checkOrigin() error {
	if b.seal.link.Origin == b.origin {
		return nil
	}
	parsed, err := chain.ParseOrigin(b.seal.link.Origin)
	if err == nil {
		err = chain.CheckInstance(parsed.Instance)
	}
	if err != nil {
		return fmt.Errorf("attribute %s: %w", audit.AttributeChainOrigin, err)
	}
	b.origin = b.seal.link.Origin
	return nil
}

func (b *batch) addCheckpoint() error {
	if err := b.seal.checkCheckpoint(); err != nil {
		return err
	}
	b.entries = append(b.entries, sink.Entry{
		Kind: audit.LineCheckpoint, Link: b.seal.link, Note: b.seal.note, Range: b.seal.compact,
	})
	return nil
}

func (b *batch) addEvent(resource plog.ResourceLogs, scope plog.ScopeLogs, record plog.LogRecord, groupErr error) error {
	if groupErr != nil {
		return withoutPath(groupErr)
	}
	start := len(b.bytes)
	var err error
	if b.bytes, _, err = b.encoder.Append(b.bytes, record); err != nil {
		return withoutPath(err)
	}
	link := b.seal.link
	link.Digest = sha256.Sum256(b.bytes[start:])
	if link.Hash() != b.seal.hash {
		return errors.New("its link has another hash than " + audit.AttributeChainHash)
	}
	b.entries = append(b.entries, sink.Entry{
		Kind: audit.LineEvent, Link: link, Hash: b.seal.hash, Resource: resource, Scope: scope, Record: record,
	})
	return nil
}

// withoutPath drops the path from an encoder's error: its keys are content.
func withoutPath(err error) error {
	var path *canonical.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// release forgets the entries, and memory that only an unusual batch needed.
func (b *batch) release() {
	clear(b.entries) // they hold strings of the records
	b.bytes, b.ends, b.entries, b.seal, b.origin = b.bytes[:0], b.ends[:0], b.entries[:0], seal{}, ""
	if cap(b.bytes) > keepMemory {
		b.bytes = nil
	}
}
