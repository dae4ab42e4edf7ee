// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor/processortest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// eventOf is an event whose content depends on its arguments alone.
func eventOf(id, actor string) plog.Logs {
	logs := event(id)
	record := onlyRecordOf(logs)
	record.SetTimestamp(1_700_000_000_000_000_000)
	record.Attributes().PutStr(audit.AttributeActorID, actor)
	return logs
}

func onlyRecordOf(logs plog.Logs) plog.LogRecord {
	return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
}

// together makes one request of several.
func together(requests ...plog.Logs) plog.Logs {
	logs := plog.NewLogs()
	for _, request := range requests {
		request.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	}
	return logs
}

func consume(t *testing.T, p *auditProcessor, tenant string, logs plog.Logs) ([]receipt.Result, error) {
	t.Helper()
	filled := &receipt.Receipt{Tenant: tenant, IntegrityHash: true}
	err := p.ConsumeLogs(receipt.NewContext(t.Context(), filled), logs)
	return filled.Results, err
}

func taken(t *testing.T, p *auditProcessor, logs plog.Logs) []receipt.Result {
	t.Helper()
	results, err := consume(t, p, "", logs)
	require.NoError(t, err)
	return results
}

// The same id and content again gets the first result: at once, after a
// restart, and after the rules of redaction changed, which change what would
// be stored.
func TestRepeatIsAnsweredAsTheFirst(t *testing.T) {
	directory := t.TempDir()
	sink := newSinkFake()
	p := startProcessor(t, testConfig(t, directory), sink)
	sent := func() plog.Logs {
		logs := eventOf("id-1", "alice")
		onlyRecordOf(logs).Attributes().PutStr("colour", "green")
		return logs
	}
	first := taken(t, p, sent())
	again := sent()
	onlyRecordOf(again).SetObservedTimestamp(pcommon.NewTimestampFromTime(time.Now()))
	require.Equal(t, seen(first), seen(taken(t, p, again)), "who observes it again says so later")
	require.NoError(t, p.Shutdown(t.Context()))

	config := testConfig(t, directory)
	config.Redaction.Keys = []string{"colour"}
	config.Redaction.Paths = []string{"resource.service.name"}
	p = startProcessor(t, config, sink)
	require.Equal(t, seen(first), seen(taken(t, p, sent())))
	mixed := taken(t, p, together(eventOf("id-2", "bob"), sent(), eventOf("id-3", "bob")))
	require.Equal(t, seen(first)[0], seen(mixed)[1])
	require.NotEqual(t, mixed[0].Link.Index, mixed[2].Link.Index)
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, map[string]int{"id-1": 1, "id-2": 1, "id-3": 1}, sink.count("user.login"))
}

// seen is what an answer shows of results.
func seen(results []receipt.Result) []receipt.Result {
	shown := make([]receipt.Result, len(results))
	for i, r := range results {
		r.Link.Prev, r.Link.Digest = [32]byte{}, [32]byte{}
		shown[i] = r
	}
	return shown
}

// count returns how often the sink holds each id.
func (s *sinkFake) count(event string) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := map[string]int{}
	for _, record := range s.records {
		if record.event == event {
			ids[record.id]++
		}
	}
	return ids
}

func TestOtherContentIsAConflict(t *testing.T) {
	sink := newSinkFake()
	p := startProcessor(t, testConfig(t, t.TempDir()), sink)
	first := taken(t, p, eventOf("id-1", "alice"))
	results, err := consume(t, p, "", together(eventOf("id-2", "alice"), eventOf("id-1", "mallory")))
	require.True(t, receipt.IsIDTaken(err), "%v", err)
	require.Equal(t, codes.InvalidArgument, status.Code(err), "a stock receiver must not have it sent again")
	require.Empty(t, results[0].Reasons, "the other record is only withheld")
	require.Contains(t, results[1].Reasons[0], first[0].Link.Origin)
	require.False(t, results[0].Sealed)

	results, err = consume(t, p, "", together(eventOf("id-3", "alice"), eventOf("id-3", "mallory")))
	require.True(t, receipt.IsIDTaken(err), "%v", err)
	require.Empty(t, results[0].Reasons)
	require.NotEmpty(t, results[1].Reasons)

	taken(t, p, eventOf("id-2", "anybody")) // nothing of a refused request is known
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, map[string]int{"id-1": 1, "id-2": 1}, sink.count("user.login"))
}

// One id twice in a request is one record, and ids belong to a tenant, else to
// a service.
func TestScopeOfIDs(t *testing.T) {
	sink := newSinkFake()
	p := startProcessor(t, testConfig(t, t.TempDir()), sink)
	twins := taken(t, p, together(eventOf("id-1", "alice"), eventOf("id-2", "alice"), eventOf("id-1", "alice")))
	require.Equal(t, twins[0], twins[2])
	require.NotEqual(t, twins[0].Link, twins[1].Link)
	for _, tenant := range []string{"acme", "other"} {
		results, err := consume(t, p, tenant, eventOf("id-1", "mallory"))
		require.NoError(t, err, "another tenant's id")
		require.NotEqual(t, twins[0].Link, results[0].Link)
	}
	other := eventOf("id-1", "mallory")
	other.ResourceLogs().At(0).Resource().Attributes().PutStr("service.name", "another")
	taken(t, p, other)
	without := eventOf("", "alice")
	a, b := eventOf("", "alice"), eventOf("", "alice")
	require.NotEqual(t, taken(t, p, a)[0].RecordID, taken(t, p, b)[0].RecordID, "without an id each attempt is an event")
	uid := func() plog.Logs {
		logs := eventOf("", "alice")
		onlyRecordOf(logs).Attributes().PutStr("log.record.uid", "u-1")
		return logs
	}
	named := seen(taken(t, p, uid()))
	require.Equal(t, named, seen(taken(t, p, uid())))
	taken(t, p, without)
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, 4, sink.count("user.login")["id-1"])
}

// A record that has no canonical form has an identity all the same.
func TestRepairedRecordsAreKnown(t *testing.T) {
	sink := newSinkFake()
	p := startProcessor(t, testConfig(t, t.TempDir()), sink)
	broken := func(value float64) plog.Logs {
		logs := eventOf("id-1", "alice\xff")
		onlyRecordOf(logs).Attributes().PutDouble("ratio", value)
		return logs
	}
	first := taken(t, p, broken(math.NaN()))
	require.NotEmpty(t, first[0].Reasons)
	require.Equal(t, seen(first), seen(taken(t, p, broken(math.NaN()))))
	_, err := consume(t, p, "", broken(math.Inf(1)))
	require.True(t, receipt.IsIDTaken(err))
	require.NoError(t, p.Shutdown(t.Context()))
}

func TestSameIDFromManyClients(t *testing.T) {
	sink := newSinkFake()
	p := startProcessor(t, testConfig(t, t.TempDir()), sink)
	var clients sync.WaitGroup
	answers := make([][]receipt.Result, 16)
	for i := range answers {
		clients.Go(func() {
			results, err := consume(t, p, "", together(eventOf("id-1", "alice"), eventOf("id-2", "alice")))
			assert.NoError(t, err)
			answers[i] = seen(results)
		})
	}
	clients.Wait()
	for _, answer := range answers {
		require.Equal(t, answers[0], answer)
	}
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, map[string]int{"id-1": 1, "id-2": 1}, sink.count("user.login"))
}

// TestIDsAreKnownForTheWindow: within `idempotency::window` an id with other content
// is a conflict, behind it a new record.
func TestIDsAreKnownForTheWindow(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Idempotency.Window = time.Minute
	p, err := newProcessor(processortest.NewNopSettings(metadata.Type), config, newSinkFake())
	require.NoError(t, err)
	var passed atomic.Int64
	began := time.Now()
	p.now = func() time.Time { return began.Add(time.Duration(passed.Load())) }
	require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
	taken(t, p, eventOf("id-1", "alice"))
	passed.Store(int64(time.Minute))
	_, err = consume(t, p, "", eventOf("id-1", "mallory"))
	require.True(t, receipt.IsIDTaken(err), "%v", err)
	passed.Store(int64(time.Minute + time.Second))
	taken(t, p, eventOf("id-1", "mallory"))
	require.NoError(t, p.Shutdown(t.Context()))
}

// What OTEP 0267 has SDKs do by default fits what is the default here: an export
// waits for 30 s, and what a restarted client sends again is known for a day.
func TestDefaultsForClients(t *testing.T) {
	config := createDefaultConfig().(*Config)
	require.Equal(t, 10*time.Second, config.AckTimeout)
	require.Equal(t, 24*time.Hour, config.Idempotency.Window)
}

func TestAckDelivered(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Ack, config.AckTimeout = ackDelivered, time.Second
	sink := newSinkFake()
	p := startProcessor(t, config, sink)
	ask := func(id string) *receipt.Receipt {
		filled := &receipt.Receipt{}
		require.NoError(t, p.ConsumeLogs(receipt.NewContext(context.Background(), filled), eventOf(id, "alice")))
		require.True(t, filled.Results[0].Sealed)
		return filled
	}
	require.False(t, ask("id-1").Pending)
	require.Equal(t, 1, sink.count("user.login")["id-1"], "delivered before it is answered")
	sink.setDown(errors.New("down"))
	require.True(t, ask("id-2").Pending)
	require.True(t, ask("id-2").Pending, "a repeat waits for the first one's delivery")
	sink.setDown(nil)
	sink.waitFor(t, func() bool { return len(sink.records) >= 3 })
	require.Eventually(t, func() bool { return !ask("id-2").Pending }, time.Minute, time.Millisecond)
	require.False(t, ask("id-1").Pending)
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, map[string]int{"id-1": 1, "id-2": 1}, sink.count("user.login"))
}
