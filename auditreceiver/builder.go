// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// builder gathers records in the order in which they come. Neighbours with
// equal resources share one.
type builder struct {
	logs plog.Logs
	// resource is of the event that is being read; its home is known at end.
	resource pcommon.Resource

	group   plog.ResourceLogs
	records plog.LogRecordSlice // of group
	started bool                // there is a group
}

func newBuilder() *builder {
	return &builder{logs: plog.NewLogs(), resource: pcommon.NewResource()}
}

// begin returns an empty record at the end of the current group.
func (b *builder) begin() plog.LogRecord {
	if !b.started {
		b.newGroup()
		b.started = true
	}
	return b.records.AppendEmpty()
}

func (b *builder) newGroup() {
	b.group = b.logs.ResourceLogs().AppendEmpty()
	b.records = b.group.ScopeLogs().AppendEmpty().LogRecords()
}

// end settles the record of the last begin. What could not be read is only
// pushed aside: its request is refused.
func (b *builder) end(good bool) {
	switch {
	case !good:
		b.resource = pcommon.NewResource()
	case b.records.Len() == 1:
		b.resource.MoveTo(b.group.Resource())
	case b.resource.Attributes().Equal(b.group.Resource().Attributes()):
		b.resource.Attributes().Clear()
	default:
		b.split()
	}
}

// split moves the last record to a group of its own.
func (b *builder) split() {
	old := b.records
	b.newGroup()
	old.At(old.Len() - 1).MoveTo(b.records.AppendEmpty())
	dropLast(old)
	b.resource.MoveTo(b.group.Resource())
}

// drop takes the record of the last begin away.
func (b *builder) drop() {
	dropLast(b.records)
	if b.records.Len() == 0 {
		b.logs.ResourceLogs().RemoveIf(func(plog.ResourceLogs) bool { return true })
	}
}

func dropLast(records plog.LogRecordSlice) {
	position, last := -1, records.Len()-1
	records.RemoveIf(func(plog.LogRecord) bool {
		position++
		return position == last
	})
}
