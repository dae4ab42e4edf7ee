// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/internal/quarantine"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// ask sends a copy of a request whose caller waits for the delivery.
func ask(t *testing.T, p *auditProcessor, logs plog.Logs, stopping <-chan struct{}) *receipt.Receipt {
	t.Helper()
	filled := &receipt.Receipt{AwaitDelivery: stopping}
	sent := plog.NewLogs()
	logs.CopyTo(sent)
	require.NoError(t, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), sent))
	require.True(t, filled.Filled())
	return filled
}

func TestDeliveryIsAwaitedForWhoAsks(t *testing.T) {
	sink := newSinkFake()
	sink.setDown(errors.New("no room"))
	config := testConfig(t, t.TempDir())
	config.AckTimeout = 20 * time.Millisecond
	p := startProcessor(t, config, sink)
	never, one := make(chan struct{}), event("one")
	require.True(t, ask(t, p, one, never).Pending)

	config.AckTimeout = time.Minute
	stopping := make(chan struct{})
	close(stopping)
	require.True(t, ask(t, p, one, stopping).Pending, "who stops waits no more")

	sink.setDown(nil)
	filled := ask(t, p, one, never)
	require.False(t, filled.Pending)
	sink.waitFor(t, func() bool { return len(sink.checkpoints) > 0 })
	soon(t, func() bool {
		filled = ask(t, p, one, never)
		return filled.Checkpoint.Covers(&filled.Results[0].Link)
	})
	require.Contains(t, sink.checkpoints, string(filled.Checkpoint.Note))
	require.Empty(t, filled.Results[0].QuarantinedBy)
	require.NoError(t, p.Shutdown(t.Context()))
}

func TestQuarantinedIsToldToWhoAsks(t *testing.T) {
	config := testConfig(t, t.TempDir())
	p, _ := startOn(t, config, newStockFake(refusing("a-1")), componenttest.NewNopHost())
	sent := events(ids("a", 3)...)
	filled := ask(t, p, sent, make(chan struct{}))
	require.False(t, filled.Pending)
	for i, want := range []bool{false, true, false} {
		require.Equal(t, want, filled.Results[i].QuarantinedBy != nil, i)
	}
	again := ask(t, p, sent, make(chan struct{}))
	require.NotEmpty(t, again.Results[1].QuarantinedBy)
	require.Equal(t, filled.Results[1].Hash, again.Results[1].Hash)
	require.NoError(t, p.Shutdown(t.Context()))
}

// What was refused for good is not delivered because the collector was started
// again; what was taken after all is.
func TestQuarantinedIsToldAfterARestart(t *testing.T) {
	config := testConfig(t, t.TempDir())
	sent := events(ids("a", 3)...)
	life := func(next consumer.Logs, then func(p *auditProcessor)) []receipt.Result {
		p, _ := startOn(t, config, next, componenttest.NewNopHost())
		filled := ask(t, p, sent, make(chan struct{}))
		require.False(t, filled.Pending)
		if then != nil {
			then(p)
		}
		require.NoError(t, p.Shutdown(t.Context()))
		return filled.Results
	}
	first := life(newStockFake(refusing("a-1")), nil)
	for range 2 {
		again := life(newStockFake(take), nil)
		for i := range first {
			require.Equal(t, first[i].QuarantinedBy, again[i].QuarantinedBy, i)
			require.Equal(t, first[i].Hash, again[i].Hash)
		}
		require.NotEmpty(t, again[1].QuarantinedBy)
	}
	at := coordinateOf(&first[1].Link)
	directory := filepath.Join(config.Journal.Directory, quarantineDirectory)
	require.NoError(t, quarantine.Ask(directory, quarantine.Coordinate{Origin: at.origin, Index: at.index}, quarantine.Request{Action: quarantine.Replay, At: time.Now(), Reason: "mended"}))
	life(newStockFake(take), func(p *auditProcessor) {
		soon(t, func() bool { return p.quarantined.by(at) == nil })
	})
	require.Empty(t, life(newStockFake(take), nil)[1].QuarantinedBy)
}

// The file survives what a crash leaves of its end, and failed writes.
func TestRefusedFile(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, refusedFile)
	note := func(q *quarantineMemory, action receipt.Action, index uint64) error {
		r := &receipt.Report{Action: action, Origin: "o", Index: index, Sink: "audit/<s>"}
		q.note(r)
		return q.save(r)
	}
	open := func(damaged int) *quarantineMemory {
		q := &quarantineMemory{}
		found, err := q.open(directory)
		require.NoError(t, err)
		require.Equal(t, damaged, found)
		return q
	}
	q := open(0)
	for i := range uint64(4) {
		require.NoError(t, note(q, receipt.Quarantined, i))
	}
	require.NoError(t, note(q, receipt.Replayed, 1))
	require.NoError(t, note(q, receipt.Dropped, 2))
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	known := func(q *quarantineMemory) (indexes []uint64) {
		for i := range uint64(10) {
			if slices.Equal(q.by(coordinate{"o", i}), []string{"audit/<s>"}) {
				indexes = append(indexes, i)
			}
		}
		return indexes
	}
	require.Equal(t, []uint64{0, 2, 3}, known(open(0)), "each line is on the disk once it is saved")

	require.NoError(t, os.WriteFile(path, written[:len(written)-1], 0o600))
	require.Equal(t, []uint64{0, 1, 2, 3}, known(open(0)), "a line that was being written does not count")
	require.NoError(t, os.WriteFile(path, append([]byte("{}\nnonsense\n"), written...), 0o600))
	damaged := open(2)
	require.Equal(t, []uint64{0, 2, 3}, known(damaged))

	require.NoError(t, os.Mkdir(path+".tmp", 0o700))
	require.Error(t, note(damaged, receipt.Quarantined, 5), "it cannot be written anew")
	require.NoError(t, os.Remove(path+".tmp"))
	require.NoError(t, damaged.close())
	require.Equal(t, []uint64{0, 2, 3, 5}, known(open(0)), "what could not be saved is at the end")
	require.NoError(t, q.close())
}

func TestInvalidIsRefusedForWhoAsks(t *testing.T) {
	p := startProcessor(t, testConfig(t, t.TempDir()), newSinkFake())
	bad := func() plog.Logs {
		logs := events("a", "b")
		logs.ResourceLogs().At(0).ScopeLogs().At(1).LogRecords().At(0).Attributes().Remove(audit.AttributeActorID)
		return logs
	}
	filled := &receipt.Receipt{RejectInvalid: true}
	err := p.ConsumeLogs(receipt.NewContext(t.Context(), filled), bad())
	require.True(t, receipt.IsRefused(err), "%v", err)
	require.Empty(t, filled.Results[0].Reasons)
	require.Contains(t, filled.Results[1].Reasons[0], audit.AttributeActorID)
	require.False(t, filled.Results[0].Sealed)
	require.NoError(t, p.ConsumeLogs(t.Context(), bad()), "flagged for everybody else")
	require.NoError(t, p.Shutdown(t.Context()))
}

func TestQuarantineMemory(t *testing.T) {
	var q quarantineMemory
	note := func(action receipt.Action, index int) {
		q.note(&receipt.Report{Action: action, Origin: "o", Index: uint64(index), Sink: "s"})
	}
	for i := range maxRemembered + 1 {
		note(receipt.Quarantined, i)
		note(receipt.Quarantined, i)
	}
	require.Empty(t, q.by(coordinate{"o", 0}), "the oldest is forgotten")
	require.Equal(t, []string{"s"}, q.by(coordinate{"o", 1}))
	require.Len(t, q.known, maxRemembered)
	note(receipt.Dropped, 1)
	require.NotEmpty(t, q.by(coordinate{"o", 1}), "given up is not delivered")
	note(receipt.Replayed, 1)
	note(receipt.Replayed, 3)
	require.Empty(t, q.by(coordinate{"o", 1}))

	note(receipt.Quarantined, 3) // the newest now
	for i := range 4 {
		note(receipt.Quarantined, maxRemembered+1+i)
	}
	require.Len(t, q.known, maxRemembered)
	require.NotEmpty(t, q.by(coordinate{"o", 3}), "it goes when it is the oldest")
	require.Empty(t, q.by(coordinate{"o", 5}))
	require.NotEmpty(t, q.by(coordinate{"o", 6}))
}

// What one sink has taken after all, another may still not have.
func TestEachSinkThatRefusedIsRemembered(t *testing.T) {
	var q quarantineMemory
	directory, at := t.TempDir(), coordinate{"o", 1}
	_, err := q.open(directory)
	require.NoError(t, err)
	for _, step := range []struct {
		action receipt.Action
		sink   string
		by     []string
	}{
		{receipt.Quarantined, "audit/a", []string{"audit/a"}},
		{receipt.Quarantined, "audit/b", []string{"audit/a", "audit/b"}},
		{receipt.Quarantined, "audit/a", []string{"audit/a", "audit/b"}},
		{receipt.Replayed, "audit/a", []string{"audit/b"}},
		{receipt.Quarantined, "audit/a", []string{"audit/b", "audit/a"}},
		{receipt.Replayed, "audit/b", []string{"audit/a"}},
		{receipt.Replayed, "audit/a", nil},
	} {
		r := &receipt.Report{Action: step.action, Origin: at.origin, Index: at.index, Sink: step.sink}
		q.note(r)
		require.NoError(t, q.save(r))
		require.Equal(t, step.by, q.by(at))
		var next quarantineMemory
		_, err := next.open(directory)
		require.NoError(t, err)
		require.Equal(t, step.by, next.by(at), "over a restart")
	}
	require.NoError(t, q.close())
}

func TestSinkBoard(t *testing.T) {
	var b sinkBoard
	require.Empty(t, b.statuses(true))
	for _, a := range []receipt.Attempt{
		{Sink: "audit/b", Type: "http", Code: receipt.CodeTimeout},
		{Sink: "audit/a", Type: "file"},
		{Sink: "audit/b", Type: "http", Code: receipt.CodeFailed},
		{Sink: "audit/c", Type: "postgres", Code: receipt.CodeTimeout},
	} {
		b.note(a)
	}
	pending := b.statuses(true)
	require.Len(t, pending, 3)
	for i, want := range []receipt.SinkStatus{
		{Sink: "audit/a", Type: "file", Delivery: receipt.DeliveryUnknown},
		{Sink: "audit/b", Type: "http", Delivery: receipt.DeliveryRetrying, Attempts: 2, Code: receipt.CodeFailed},
		{Sink: "audit/c", Type: "postgres", Delivery: receipt.DeliveryTimeout, Attempts: 1, Code: receipt.CodeTimeout},
	} {
		require.WithinDuration(t, time.Now(), pending[i].LastAttempt, time.Minute)
		pending[i].LastAttempt = time.Time{}
		require.Equal(t, want, pending[i])
	}
	require.Equal(t, receipt.SinkStatus{Sink: "audit/b", Type: "http", Delivery: receipt.DeliverySuccess}, b.statuses(false)[1])
	b.note(receipt.Attempt{Sink: "audit/d", Type: "file", Code: receipt.CodeFailed, Optional: true})
	require.Equal(t, receipt.SinkStatus{Sink: "audit/d", Type: "file", Optional: true, Delivery: receipt.DeliveryRetrying, Code: receipt.CodeFailed},
		b.statuses(false)[3], "no delivery waits for it: delivered says nothing of it")
	b.note(receipt.Attempt{Sink: "audit/b", Type: "http"})
	require.Zero(t, b.statuses(true)[1].Attempts)
}
