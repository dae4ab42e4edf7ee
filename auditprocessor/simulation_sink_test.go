// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// mood is how a model sink behaves until it is given another one.
type mood string

const (
	moodGood    mood = "sink takes all"
	moodNothing mood = "sink fails, nothing is stored"
	moodAll     mood = "sink fails, all is stored"
	moodPart    mood = "sink fails, a part is stored"
	moodBad     mood = "sink refuses everything for good"
	moodClients mood = "sink fails where there are events of clients"
	moodHang    mood = "sink hangs until its context ends"
	moodMixed   mood = "sink does what it likes"
)

var moods = []mood{moodGood, moodNothing, moodAll, moodPart, moodBad, moodClients, moodHang, moodMixed}

var (
	errSimulated   = errors.New("simulated failure of a sink")
	errSimulatedNo = consumererror.NewPermanent(errors.New("simulated refusal of a sink"))
)

// given is one record as the processor gave it to its next consumer.
type given struct {
	at         coordinate
	link       chain.Link
	hash       chain.Hash
	event      string
	token      string // names the content, see simRecord
	checkpoint *chain.Checkpoint
	hashes     []chain.Hash // range of the checkpoint
	note       []byte
	gone       *coordinate // what a quarantine record is about
	sink       string      // and which sink refused it
	canonical  []byte      // kept where the verifier will be asked
}

// parse reads what an exporter reads, and checks that the digest is that of the
// record.
func parseGiven(logs plog.Logs, keepBytes bool) (all []given, err error) {
	var encoder canonical.Encoder
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			if err := encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()); err != nil {
				return nil, err
			}
			for _, record := range scope.LogRecords().All() {
				g, err := parseGivenRecord(&encoder, record, keepBytes)
				if err != nil {
					return nil, err
				}
				all = append(all, g)
			}
		}
	}
	return all, nil
}

func parseGivenRecord(encoder *canonical.Encoder, record plog.LogRecord, keepBytes bool) (given, error) {
	attributes := record.Attributes()
	get := func(name string) pcommon.Value {
		value, found := attributes.Get(name)
		if !found {
			return pcommon.NewValueEmpty()
		}
		return value
	}
	g := given{at: coordinate{get(audit.AttributeChainOrigin).Str(), uint64(get(audit.AttributeChainIndex).Int())}}
	if note := get(audit.AttributeChainCheckpoint); note.Type() == pcommon.ValueTypeStr {
		c, err := chain.ParseCheckpoint([]byte(note.Str()))
		g.checkpoint, g.note = &c, []byte(note.Str())
		for _, text := range get(audit.AttributeChainRange).Slice().All() {
			hash, hashErr := chain.ParseHash(text.Str())
			err = errors.Join(err, hashErr)
			g.hashes = append(g.hashes, hash)
		}
		return g, err
	}
	prev, prevErr := chain.ParseHash(get(audit.AttributeChainPrev).Str())
	hash, hashErr := chain.ParseHash(get(audit.AttributeChainHash).Str())
	bytes, _, err := encoder.Append(nil, record)
	if err := errors.Join(prevErr, hashErr, err); err != nil {
		return g, err
	}
	g.link = chain.Link{
		Origin: g.at.origin, Index: g.at.index, Prev: prev, Digest: sha256.Sum256(bytes),
		Stream:   get(audit.AttributeChainStream).Str(),
		Seq:      uint64(get(audit.AttributeChainSeq).Int()),
		SealedAt: get(audit.AttributeChainSealedAt).Int(),
	}
	g.hash, g.event = hash, record.EventName()
	if keepBytes {
		g.canonical = bytes
	}
	if g.event == simEvent {
		g.token = get(audit.AttributeTargetID).Str()
	}
	if g.event == audit.EventQuarantine && get(audit.AttributeQuarantineAction).Str() == string(receipt.Quarantined) {
		g.gone = &coordinate{get(audit.AttributeQuarantineOrigin).Str(), uint64(get(audit.AttributeQuarantineIndex).Int())}
		g.sink = get(audit.AttributeQuarantineSink).Str()
	}
	if link := g.link; link.Hash() != hash {
		return g, fmt.Errorf("%v: digest, link and hash do not fit", g.at)
	}
	return g, nil
}

// modelSink stores by coordinate, once.
type modelSink struct {
	name   string
	poison string // how the tokens begin that it refuses
	stock  bool   // refuses a call with a poison record for good; else it puts the record away and reports that
	mood   mood
	random *rand.Rand
	stored map[coordinate]*given
	points map[coordinate]*given
	stubs  map[coordinate]*given
}

func newModelSink(number int, random *rand.Rand) *modelSink {
	return &modelSink{
		name: fmt.Sprint("sink-", number), poison: poisonFor(number), stock: random.IntN(2) == 0, mood: []mood{moodGood, moodMixed}[random.IntN(2)], random: random,
		stored: map[coordinate]*given{}, points: map[coordinate]*given{}, stubs: map[coordinate]*given{},
	}
}

// poisonFor begins the token of what the sink of that number refuses for good.
func poisonFor(sink int) string { return fmt.Sprintf("poison-%d-", sink) }

// isPoison says whether some sink refuses a record for good.
func isPoison(token string) bool { return strings.HasPrefix(token, "poison") }

func (k *modelSink) refuses(token string) bool { return strings.HasPrefix(token, k.poison) }

// take is one call. It returns what became of it, in words, for the trace.
func (k *modelSink) take(ctx context.Context, all []given, ended bool) (words string, err error) {
	how := k.mood
	if how == moodMixed {
		how = []mood{moodGood, moodGood, moodNothing, moodAll, moodPart}[k.random.IntN(5)]
	}
	if ended { // hung until now: whatever reached the sink, nobody knows
		how = []mood{moodNothing, moodAll, moodPart}[k.random.IntN(3)]
	}
	switch how {
	case moodBad:
		return string(how), errSimulatedNo
	case moodNothing:
		return string(how), errSimulated
	}
	if how == moodClients && hasClients(all) {
		return string(how), errSimulated
	}
	if k.stock && k.refusesOne(all) {
		return "refused", errSimulatedNo
	}
	refuse := how == moodPart
	for i := range all {
		if refuse && k.random.IntN(2) == 0 {
			continue
		}
		if err := k.store(ctx, &all[i]); err != nil {
			return "conflict", err
		}
	}
	if how == moodAll || how == moodPart {
		return string(how), errSimulated
	}
	return string(how), nil
}

func hasClients(all []given) bool {
	return slices.ContainsFunc(all, func(g given) bool { return g.token != "" })
}

func (k *modelSink) refusesOne(all []given) bool {
	for i := range all {
		if k.refuses(all[i].token) {
			return true
		}
	}
	return false
}

func (k *modelSink) store(ctx context.Context, g *given) error {
	if g.checkpoint != nil {
		k.points[g.at] = g
		return nil
	}
	place := k.stored
	if k.refuses(g.token) {
		place = k.stubs
		receipt.DeliveryFrom(ctx).Report(receipt.Report{
			Action: receipt.Quarantined, Origin: g.at.origin, Index: g.at.index, Digest: g.link.Digest,
			Sink: k.name, Reason: "poison",
		})
	}
	if before, again := place[g.at]; again && before.hash != g.hash {
		return fmt.Errorf("%w: %v", receipt.ErrConflict, g.at)
	}
	place[g.at] = g
	return nil
}

// ConsumeLogs is the next consumer of the processor: it hands on to one sink,
// or fans out to two, and joins their errors.
func (s *simulation) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	if s.isDying() { // what runs on is nobody's process
		return errSimulated
	}
	all, err := parseGiven(logs, s.verified)
	if err != nil {
		s.complain("what is given out: %v", err)
	}
	s.offered(all)
	ended := s.passSink(ctx)
	if s.isDying() { // its process is gone: a request that is under way may still arrive
		ended = true
	}
	var errs []error
	var line strings.Builder
	for _, sink := range s.sinks {
		words, err := sink.take(ctx, all, ended)
		errs = append(errs, err)
		line.WriteString("; " + words)
		s.happen(words)
	}
	err = errors.Join(errs...)
	if errors.Is(err, receipt.ErrConflict) {
		s.complain("a coordinate has two contents: %v", err)
	}
	s.note("send %s%s", s.list(all), line.String())
	if err == nil {
		s.settled(all)
	}
	return err
}

// Capabilities says that the sinks only read.
func (*simulation) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }
