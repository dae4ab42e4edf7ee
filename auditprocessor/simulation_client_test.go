// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

const simEvent = "simulated"

// simRecord is an event of a client. Its token names its content and is stored
// with it: an event that comes again with its id has the same one.
type simRecord struct {
	id    string // empty: the event has none, and each attempt is another event
	token string
}

// simRequest is what a client sends, until it is answered or given up.
type simRequest struct {
	number   int
	records  []simRecord
	attempts int
	tenant   string
}

// attempt is one call of ConsumeLogs.
type attempt struct {
	request *simRequest
	tokens  []string
	cancel  context.CancelFunc
	receipt receipt.Receipt

	err      error
	returned bool
	canceled bool
}

// newRequest makes up what a client sends: new events, and now and then one
// that was sent before, with its content or another.
func (s *simulation) newRequest() *simRequest {
	r := &simRequest{number: s.made}
	s.made++
	if s.random.IntN(2) == 0 {
		r.tenant = "acme"
	}
	used := map[string]bool{}
	for range 1 + s.random.IntN(4) {
		record := s.newRecord(r.tenant)
		if record.id == "" || !used[record.id] {
			r.records = append(r.records, record)
		}
		used[record.id] = true
	}
	if twin := r.records[0]; twin.id != "" && s.random.IntN(8) == 0 {
		r.records = append(r.records, twin)
		s.happen("an event twice in a request")
	}
	return r
}

func (s *simulation) newRecord(tenant string) simRecord {
	s.tokens++
	token := fmt.Sprintf("event-%d", s.tokens)
	if s.poisonous && s.random.IntN(8) == 0 {
		token = poisonFor(s.random.IntN(len(s.sinks))) + token
	}
	known := s.sent[tenant]
	switch chance := s.random.IntN(10); {
	case chance < 3:
		return simRecord{token: token}
	case chance < 5 && len(known) > 0:
		record := known[s.random.IntN(len(known))]
		if s.random.IntN(3) == 0 {
			record.token = token
			s.happen("an id with other content")
		}
		return record
	}
	record := simRecord{id: fmt.Sprintf("id-%s-%d", tenant, s.tokens), token: token}
	s.sent[tenant] = append(known, record)
	return record
}

// logs are the records of one attempt.
func (r *simRequest) logs() (logs plog.Logs, tokens []string) {
	logs = plog.NewLogs()
	var scope plog.ScopeLogs
	for i, record := range r.records {
		if i%3 == 0 {
			resource := logs.ResourceLogs().AppendEmpty()
			resource.Resource().Attributes().PutStr("service.name", "billing")
			scope = resource.ScopeLogs().AppendEmpty()
		}
		token := record.token
		if record.id == "" {
			token = fmt.Sprintf("%s/%d", token, r.attempts)
		}
		tokens = append(tokens, token)
		fillRecord(scope.LogRecords().AppendEmpty(), record.id, token)
	}
	return logs, tokens
}

func fillRecord(record plog.LogRecord, id, token string) {
	record.SetEventName(simEvent)
	record.SetTimestamp(pcommon.NewTimestampFromTime(time.Unix(900_000_000, 0)))
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(time.Now())) // differs from attempt to attempt
	attributes := record.Attributes()
	if id != "" {
		attributes.PutStr(audit.AttributeRecordID, id)
	}
	attributes.PutStr(audit.AttributeActorID, "alice")
	attributes.PutStr(audit.AttributeActorType, "user")
	attributes.PutStr(audit.AttributeAction, "PAY")
	attributes.PutStr(audit.AttributeOutcome, "success")
	attributes.PutStr(audit.AttributeTargetID, token)
	attributes.PutStr("favourite.colour", "blue")
}

// send begins an attempt, in a goroutine of its own as a receiver would.
func (s *simulation) send(r *simRequest) {
	r.attempts++
	logs, tokens := r.logs()
	a := &attempt{request: r, tokens: tokens, receipt: receipt.Receipt{Tenant: r.tenant, IntegrityHash: true}}
	ctx, cancel := context.WithCancel(receipt.NewContext(context.Background(), &a.receipt))
	a.cancel = cancel
	s.running = append(s.running, a)
	s.all = append(s.all, a)
	s.note("request %d, attempt %d", r.number, r.attempts)
	p := s.processor
	go func() {
		a.err = p.ConsumeLogs(ctx, logs)
		if a.err == nil && p.config.Ack == ackDelivered && !a.receipt.Pending {
			s.checkDelivered(a)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		a.returned = true
	}()
	s.settle()
}

// collect takes the attempts that have returned.
func (s *simulation) collect() {
	running := s.running[:0]
	for _, a := range s.running {
		s.mu.Lock()
		returned := a.returned
		s.mu.Unlock()
		if !returned {
			running = append(running, a)
			continue
		}
		a.cancel()
		s.answered(a)
	}
	s.running = running
}

// answered is what a client does about an answer, or about none.
func (s *simulation) answered(a *attempt) {
	code := status.Code(a.err)
	s.note("request %d: %v%s", a.request.number, code, s.listResults(a))
	switch {
	case a.err == nil:
		s.happen("acknowledged")
		if a.receipt.Pending {
			s.happen("delivery pending")
		}
		s.acknowledged(a)
	case receipt.IsIDTaken(a.err):
		s.happen("conflict")
		s.conflicts = append(s.conflicts, a)
	case code != codes.Unavailable:
		s.complain("request %d: %v", a.request.number, a.err)
	default:
		s.happen("unavailable")
		s.refused(a)
		if s.random.IntN(8) > 0 {
			s.unanswered = append(s.unanswered, a.request)
		}
	}
}

// refused notes that an attempt failed. What failed in the journal is cut off
// again, and stays away unless the power is cut before a later segment says so.
func (s *simulation) refused(a *attempt) {
	if a.canceled || s.disk.Gone() || s.disk.Failed(faultdisk.StepTruncate) {
		return
	}
	s.cutOff = append(s.cutOff, a)
}

// acknowledged notes what was promised.
func (s *simulation) acknowledged(a *attempt) {
	if len(a.receipt.Results) != len(a.tokens) {
		s.complain("request %d has %d results for %d records", a.request.number, len(a.receipt.Results), len(a.tokens))
		return
	}
	for i := range a.tokens {
		result := &a.receipt.Results[i]
		answer := promise{token: a.tokens[i], at: coordinateOf(&result.Link), hash: result.Hash, integrity: result.IntegrityHash}
		if !result.Sealed {
			s.complain("request %d: record %d is acknowledged and not sealed", a.request.number, i)
		}
		id := a.request.records[i].id
		if before, known := s.promised[id]; id != "" && known {
			s.happen("the first result again")
			if before != answer {
				s.complain("id %s got two answers: %+v and %+v", id, before, answer)
			}
		}
		if id != "" {
			s.promised[id] = answer
		}
		s.promises = append(s.promises, answer)
	}
}

// promise is what a client was told of one record.
type promise struct {
	token     string
	at        coordinate
	hash      [32]byte
	integrity [32]byte
}

// checkDelivered says that what was acknowledged as delivered is.
func (s *simulation) checkDelivered(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range a.receipt.Results {
		at := coordinateOf(&a.receipt.Results[i].Link)
		for _, sink := range s.sinks {
			if sink.stored[at] == nil && !sink.refuses(a.tokens[i]) {
				s.complaints = append(s.complaints, fmt.Sprintf("request %d is acknowledged as delivered, but %s has no record %s", a.request.number, sink.name, s.nameOf(at)))
			}
		}
	}
}
