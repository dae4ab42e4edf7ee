// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/testbed"
)

// Clients that lose patience in the middle of a request, over HTTP, OTLP/HTTP
// and OTLP/gRPC, and send it again with the same ids, while the sink goes down
// until the journal is full and comes back: each event is stored once and
// counted once, nobody waits for ever, and the receiver holds nothing back for
// those who went away.
func TestScenarioClientCancel(t *testing.T) {
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: append(toSink(sink), "processors::audit::journal::max_bytes: 1048576")}
	c := start(t, settings)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()

	var wait sync.WaitGroup
	var events *testbed.Outcome
	wait.Go(func() {
		events = testbed.Load{Clients: 8, Events: 4000, MaxBatch: 10, Seed: 1, Name: "cut", Patient: true, Cut: 4 * time.Millisecond}.Run(ctx, c.HTTP)
	})
	overOTLP := make([]*otlpOutcome, 6)
	for i := range overOTLP {
		overOTLP[i] = &otlpOutcome{}
		wait.Go(func() { overOTLP[i].send(ctx, t, c, i) })
	}
	wait.Go(func() { hangUp(ctx, t, c, 100) })
	eventually(t, time.Minute, func() bool { return metric(t, c, "otelcol_processor_audit_refused_records") > 0 }, "the journal is full")
	require.NoError(t, sink.Up())
	wait.Wait()
	require.NoError(t, ctx.Err())
	requireReconciled(t, c)
	assert.Zero(t, metric(t, c, "otelcol_receiver_audit_in_flight_bytes"))
	stop(t, c)

	require.Empty(t, events.Surprises)
	require.Empty(t, events.Unknown)
	require.Positive(t, events.Cut)
	total := events
	cut := events.Cut
	for _, o := range overOTLP {
		cut += o.cut
		for _, id := range o.acknowledged {
			total.Acknowledged[id] = testbed.Result{RecordID: id}
		}
	}
	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	requireStoredOnce(t, total, stored)
	measured(t, "events", len(stored.Records), "requests broken off and sent again", cut)
}

// otlpOutcome is what one OTLP client saw.
type otlpOutcome struct {
	acknowledged []string
	cut          int
}

// send sends requests, breaks off attempts, and sends each again until it is
// answered.
func (o *otlpOutcome) send(ctx context.Context, t *testing.T, c *testbed.Collector, number int) {
	client, err := testbed.NewOTLPClient(c)
	if !assert.NoError(t, err) {
		return
	}
	defer func() { assert.NoError(t, client.Close()) }()
	random := rand.New(rand.NewPCG(uint64(number), 0))
	for request := range 60 {
		var ids []string
		for i := range 5 {
			ids = append(ids, fmt.Sprintf("otlp-%d-%d-%d", number, request, i))
		}
		for attempt := 0; ctx.Err() == nil; attempt++ {
			patience := 10 * time.Second
			if attempt < 3 {
				patience = time.Duration(random.Int64N(int64(4 * time.Millisecond)))
			}
			attemptCtx, cancel := context.WithTimeout(ctx, patience)
			code, err := 0, error(nil)
			if number%2 == 0 {
				err = client.SendGRPC(attemptCtx, testbed.OTLPRecords("same", ids...))
			} else if code, err = client.SendHTTP(attemptCtx, testbed.OTLPRecords("same", ids...)); err == nil && code != http.StatusOK {
				err = status.Errorf(codes.Unavailable, "status %d", code)
			}
			// The server knows the deadline of a call, and may be the first to end it.
			broken := attemptCtx.Err() != nil || status.Code(err) == codes.DeadlineExceeded
			cancel()
			if err == nil {
				o.acknowledged = append(o.acknowledged, ids...)
				break
			}
			if broken {
				o.cut++
				continue
			}
			if !assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err) {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}
}

// hangUp opens connections and leaves in the middle of a request, or after a
// whole one without reading the answer. The same event each time.
func hangUp(ctx context.Context, t *testing.T, c *testbed.Collector, times int) {
	body := fmt.Sprintf(eventForm, "hung-up", "acme", "2026-01-01T00:00:00Z")
	whole := fmt.Sprintf("POST /v1/events HTTP/1.1\r\nHost: audit\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for i := range times {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.HTTP)
		if !assert.NoError(t, err) {
			return
		}
		_, err = io.WriteString(connection, whole[:len(whole)*(i%4+1)/4])
		assert.NoError(t, err)
		assert.NoError(t, connection.Close())
	}
}

// The same events from several clients at the same moment, after SIGKILL and
// restart, and after a redaction rule was changed: each sender is told the
// first result, the event is stored once, and the counters reconcile.
func TestScenarioDuplicate(t *testing.T) {
	const bodies, clients = 60, 4
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	var requests []testbed.Request
	corpus := testbed.NewCorpus(1, "twice")
	for range bodies {
		var events []testbed.Event
		for range 5 {
			events = append(events, corpus.Make(testbed.KindSecret))
		}
		requests = append(requests, testbed.NewRequest(events))
	}
	total := testbed.NewOutcome()
	together := func() {
		outcomes := make([]*testbed.Outcome, clients)
		var wait sync.WaitGroup
		for i := range clients {
			wait.Go(func() {
				outcomes[i] = testbed.Load{Clients: 1, Requests: requests, Patient: true}.Run(t.Context(), c.HTTP)
			})
		}
		wait.Wait()
		for _, o := range outcomes {
			total.Add(o) // a result that differs from the first is a surprise
		}
		require.Empty(t, total.Surprises)
		require.Empty(t, total.Unknown)
		requireReconciled(t, c)
	}
	together()
	assert.EqualValues(t, bodies*5*(clients-1), metric(t, c, "otelcol_processor_audit_duplicate_records"))
	require.NoError(t, c.Kill())

	c = start(t, settings)
	together()
	stop(t, c)
	settings.Extra = []string{"processors::audit::redaction::keys: [note, attempt]"}
	c = start(t, settings)
	together()
	assert.EqualValues(t, bodies*5*clients, metric(t, c, "otelcol_processor_audit_duplicate_records"))
	stop(t, c)

	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	requireKept(t, total, stored)
	assert.Len(t, stored.Records, bodies*5)
	measured(t, "events", len(stored.Records), "each sent", 3*clients, "stored", len(stored.Records))
}

// requireReconciled demands that every record that came in is accounted for.
func requireReconciled(t *testing.T, c *testbed.Collector) {
	t.Helper()
	drained(t, c, time.Minute)
	count := func(name string) int64 { return metric(t, c, "otelcol_processor_audit_"+name+"_records") }
	in := count("received") + count("recovered")
	out := count("delivered") + count("duplicate") + count("refused") + count("quarantined") + count("pending")
	assert.Equal(t, in, out, "received %d, recovered %d; delivered %d, duplicate %d, refused %d, quarantined %d",
		count("received"), count("recovered"), count("delivered"), count("duplicate"), count("refused"), count("quarantined"))
}

// The same id with other content is refused with 409, in a race, in one
// request, after SIGKILL and over OTLP; it takes its whole request with it, and
// what is stored stays.
func TestScenarioConflict(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	c := start(t, settings)
	event := func(id, when string) string { return fmt.Sprintf(eventForm, id, "acme", when) }
	const one, other = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
	post := func(body string) testbed.Answer {
		client := testbed.NewClient(c.HTTP)
		defer client.Close()
		answer, err := client.Send(t.Context(), "application/json", []byte(body))
		require.NoError(t, err)
		return answer
	}
	total := testbed.NewOutcome()
	const races = 50
	for race := range races {
		id := fmt.Sprintf("race-%d", race)
		answers := make([]testbed.Answer, 2)
		var wait sync.WaitGroup
		for i, when := range []string{one, other} {
			wait.Go(func() { answers[i] = post(event(id, when)) })
		}
		wait.Wait()
		assert.ElementsMatch(t, []int{http.StatusOK, http.StatusConflict}, []int{answers[0].Code, answers[1].Code}, "%s %s", answers[0].Body, answers[1].Body)
		for _, answer := range answers {
			if answer.Code == http.StatusOK {
				total.Acknowledged[id] = answer.Results[0]
			}
		}
	}
	first := post(event("kept", one))
	require.Equal(t, http.StatusOK, first.Code)
	total.Acknowledged["kept"] = first.Results[0]
	refused := []string{
		event("kept", other),
		"[" + event("fresh", one) + "," + event("kept", other) + "]",
		"[" + event("self", one) + "," + event("self", other) + "]",
	}
	check := func() {
		for _, body := range refused {
			answer := post(body)
			assert.Equal(t, http.StatusConflict, answer.Code, "%s", answer.Body)
			require.NotEmpty(t, answer.Results)
			assert.Contains(t, answer.Results[len(answer.Results)-1].Reason, "audit.record.id")
		}
		again := post(event("kept", one))
		assert.Equal(t, http.StatusOK, again.Code)
		assert.Equal(t, first.Results, again.Results)
		requireReconciled(t, c)
	}
	check()
	client, err := testbed.NewOTLPClient(c)
	require.NoError(t, err)
	require.NoError(t, client.SendGRPC(t.Context(), testbed.OTLPRecords("first", "over-otlp")))
	require.NoError(t, client.SendGRPC(t.Context(), testbed.OTLPRecords("first", "over-otlp")))
	assert.Equal(t, codes.InvalidArgument, status.Code(client.SendGRPC(t.Context(), testbed.OTLPRecords("second", "over-otlp"))))
	code, err := client.SendHTTP(t.Context(), testbed.OTLPRecords("second", "over-otlp"))
	require.NoError(t, err)
	assert.Equal(t, http.StatusBadRequest, code)
	require.NoError(t, client.Close())
	total.Acknowledged["over-otlp"] = testbed.Result{RecordID: "over-otlp"}
	require.NoError(t, c.Kill())
	c = start(t, settings)
	check()
	stop(t, c)

	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	requireKept(t, total, stored)
	measured(t, "races for one id", races, "refused with 409", races+2*len(refused), "stored", len(stored.Records), "changed", 0)
}
