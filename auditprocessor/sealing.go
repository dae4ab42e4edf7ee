// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/proof"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// sealing is a request on its way into the journal. Records that came before,
// in an earlier request or in this one, are taken out of it and answered with
// what the first one got. For the goroutine of one ConsumeLogs.
type sealing struct {
	verdicts []verdict
	logs     plog.Logs // the records that are still to be sealed
	places   []int     // their positions in verdicts; nil: all of them

	twins   map[int]int           // records that repeat one of this request: which
	known   map[int]journal.Known // records that came before
	request *journal.Request      // what was sealed; nil if nothing had to be
}

// newSealing is an error if one id comes twice with different content.
func newSealing(logs plog.Logs, verdicts []verdict) (*sealing, error) {
	// Moved: the caller's logs end with its call, these may go to the forwarder.
	s := &sealing{logs: plog.NewLogs(), verdicts: verdicts}
	logs.ResourceLogs().MoveAndAppendTo(s.logs.ResourceLogs())
	if len(verdicts) == 1 {
		return s, nil
	}
	first := make(map[journal.ID]int, len(verdicts))
	for i := range verdicts {
		identity := &verdicts[i].identity
		if identity.ID == (journal.ID{}) {
			continue
		}
		other, again := first[identity.ID]
		if !again {
			first[identity.ID] = i
			continue
		}
		if identity.Fingerprint != verdicts[other].identity.Fingerprint {
			return s, s.taken(i, fmt.Sprintf("record %d of this request has the same id and other content", other))
		}
		if s.twins == nil {
			s.twins = map[int]int{}
		}
		s.twins[i] = other
	}
	if len(s.twins) > 0 {
		s.keep(func(i int) bool { _, twin := s.twins[i]; return !twin })
	}
	return s, nil
}

// giveBack returns the records of a request that is answered with err to its
// caller: who may come again within this process, as receivers with a retry of
// their own and connectors that fail over do, comes with the same logs, and
// nothing in them would be taken for success.
func (s *sealing) giveBack(logs plog.Logs, err error) error {
	records := s.logs
	if errors.Is(err, journal.ErrUnknown) { // then those are the journal's
		var damaged error
		if records, damaged = unmarshaler.UnmarshalLogs(s.request.Payload); damaged != nil {
			return errors.Join(err, fmt.Errorf("give the records back: %w", damaged))
		}
	}
	records.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	return err
}

// taken refuses the request because of record i.
func (s *sealing) taken(i int, why string) error {
	s.verdicts[i].reasons = []string{"audit.record.id: " + why}
	s.verdicts[i].refused = true
	return receipt.IDTaken(fmt.Sprintf("record %d: audit.record.id: %s: what is stored is never changed, send the other event under an id of its own", i, why))
}

// at is the position of record k of logs in verdicts.
func (s *sealing) at(k int) int {
	if s.places == nil {
		return k
	}
	return s.places[k]
}

// keep takes out of logs all records but those for whose position wanted is
// true.
func (s *sealing) keep(wanted func(i int) bool) {
	var places []int
	for k, n := 0, s.logs.LogRecordCount(); k < n; k++ {
		if i := s.at(k); wanted(i) {
			places = append(places, i)
		}
	}
	if len(places) == s.logs.LogRecordCount() {
		return
	}
	keepRecords(s.logs, func(k int) bool { return wanted(s.at(k)) })
	s.places = append([]int{}, places...) // not nil, even if empty
}

// seal makes durable what did not come before. On a nil error every record has
// its result.
func (s *sealing) seal(ctx context.Context, j *journal.Journal) error {
	for s.logs.LogRecordCount() > 0 {
		request, err := s.newRequest()
		if err != nil {
			return receipt.Refused(err.Error())
		}
		request.Probe = s.onlyKnown()
		err = j.Seal(ctx, request)
		if errors.Is(err, journal.ErrNew) {
			return s.refuseNew()
		}
		var known *journal.KnownError
		if !errors.As(err, &known) {
			s.request = request
			return err
		}
		if err := s.learn(known); err != nil {
			return err
		}
	}
	return nil
}

// onlyKnown says whether a record that is still to be sealed is refused unless it
// came before.
func (s *sealing) onlyKnown() bool {
	for k := range s.logs.LogRecordCount() {
		if s.verdicts[s.at(k)].onlyKnown {
			return true
		}
	}
	return false
}

// refuseNew refuses the request because of such records.
func (s *sealing) refuseNew() error {
	for k := range s.logs.LogRecordCount() {
		v := &s.verdicts[s.at(k)]
		v.refused = v.onlyKnown
	}
	return receipt.Refused(strings.Join(refusals(s.verdicts), "; "))
}

// newRequest keeps the records as OTLP bytes, in the order of the verdicts.
func (s *sealing) newRequest() (*journal.Request, error) {
	payload, err := marshaler.MarshalLogs(s.logs)
	if err != nil {
		return nil, fmt.Errorf("marshal records: %w", err)
	}
	n := s.logs.LogRecordCount()
	r := &journal.Request{Kind: journal.Client, Payload: payload, Links: make([]chain.Link, n), Live: s.logs}
	for k := range r.Links {
		v := &s.verdicts[s.at(k)]
		r.Links[k].Stream, r.Links[k].Digest = v.stream, v.digest
		if v.identity.ID == (journal.ID{}) {
			continue
		}
		if r.Identities == nil {
			r.Identities = make([]journal.Identity, n)
		}
		r.Identities[k] = v.identity
	}
	return r, nil
}

// learn takes out the records that came before. An error says that one of them
// had other content then.
func (s *sealing) learn(known *journal.KnownError) error {
	if s.known == nil {
		s.known = map[int]journal.Known{}
	}
	var conflict error
	more := 0
	for k := range known.Records {
		before := &known.Records[k]
		switch i := s.at(k); {
		case before.Link.Origin == "":
		case before.Conflict:
			why := fmt.Sprintf("it is stored with other content, as record %d of %s", before.Link.Index, before.Link.Origin)
			if refusal := s.taken(i, why); conflict == nil {
				conflict = refusal
			} else {
				more++
			}
		default:
			s.known[i] = *before
		}
	}
	if more > 0 { // the receipt has them all
		return receipt.IDTaken(fmt.Sprintf("%s; and %d more records", conflict, more))
	}
	if conflict != nil {
		return conflict
	}
	s.keep(func(i int) bool { _, known := s.known[i]; return !known })
	return nil
}

// sealed is how many records were sealed, and are in the journal anew.
func (s *sealing) sealed() int {
	if s.request == nil {
		return 0
	}
	return len(s.request.Links)
}

// frame is the newest one that holds a record of the request.
func (s *sealing) frame() uint64 {
	var newest uint64
	if s.request != nil {
		newest = s.request.Frame
	}
	for _, known := range s.known {
		newest = max(newest, known.Frame)
	}
	return newest
}

// results tells the receiver what became of each record of a request whose seal
// succeeded.
func (s *sealing) results() []receipt.Result {
	results := make([]receipt.Result, len(s.verdicts))
	for k := range s.sealed() {
		i := s.at(k)
		results[i] = receipt.Result{
			Sealed: true, Link: s.request.Links[k], Hash: s.request.Hashes[k], IntegrityHash: s.verdicts[i].integrity,
		}
	}
	for i, known := range s.known {
		s.verdicts[i].answerAgain(&known)
		results[i] = receipt.Result{Sealed: true, Link: known.Link, Hash: known.Hash, IntegrityHash: known.Integrity}
	}
	for i := range results {
		results[i].RecordID, results[i].Reasons = s.verdicts[i].recordID, s.verdicts[i].reasons
		results[i].VerifyStatus = string(s.verdicts[i].verified)
	}
	for i, other := range s.twins {
		results[i] = results[other]
	}
	return results
}

// answerAgain makes the verdict that of a record which came before: of its proof
// and its place what was found then is stored, whatever this attempt is like.
func (v *verdict) answerAgain(known *journal.Known) {
	v.forgetPlace()
	v.reasons = slices.DeleteFunc(v.reasons, func(reason string) bool { return strings.HasPrefix(reason, proofFailed) })
	before := verdictOf(known.Verdict)
	if v.verified = before.Status; v.verified == proof.Failed {
		v.reasons = append(v.reasons, proofReason(before.Reason))
	}
}

// forgetPlace takes out what was found about a place of the record that it has
// had for long.
func (v *verdict) forgetPlace() {
	if v.place == "" {
		return
	}
	v.reasons = slices.DeleteFunc(v.reasons, func(reason string) bool { return reason == placeReason(v.place) })
	v.place = ""
}

// refusedResults tells the receiver which records refuse the request.
func refusedResults(verdicts []verdict) []receipt.Result {
	results := make([]receipt.Result, len(verdicts))
	for i := range verdicts {
		results[i].RecordID, results[i].IntegrityHash = verdicts[i].recordID, verdicts[i].integrity
		results[i].VerifyStatus = string(verdicts[i].verified)
		if verdicts[i].refused {
			results[i].Reasons = verdicts[i].reasons
		}
	}
	return results
}
