// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/proof"
	"github.com/otelaudit/otelaudit/audit/sequence"
	"github.com/otelaudit/otelaudit/internal/journal"
)

// sequences follows the chains of producers: the newest record of each stream,
// by a blinded name of the stream. A request holds its streams from before it
// is judged until its records are durable or given back, so that nobody is
// judged by a record that was never sealed. Safe for concurrent use.
type sequences struct {
	reject     bool
	limit      int // streams
	journal    *journal.Journal
	identifier *journal.Identifier // of the journal
	file       *headFile

	mu      sync.Mutex
	heads   map[sequence.Digest]*list.Element // guarded by mu; of streamHead
	order   list.List                         // guarded by mu; the stream that was used last is in front
	held    map[sequence.Digest]chan struct{} // guarded by mu; streams of requests under way; closed when free
	unsaved []streamHead                      // guarded by mu; what the file does not have yet
}

type streamHead struct {
	stream sequence.Digest
	head   sequence.Head
}

// openSequences reads what the last process knew, in the journal's directory.
func openSequences(config *SequenceConfig, directory string, j *journal.Journal) (*sequences, error) {
	s := &sequences{
		reject: config.OnViolation == onViolationReject, limit: config.MaxStreams, journal: j, identifier: j.Identifier(),
		heads: map[sequence.Digest]*list.Element{}, held: map[sequence.Digest]chan struct{}{},
	}
	file, known, err := openHeads(directory)
	if err != nil {
		return nil, err
	}
	s.file = file
	for _, h := range known {
		s.enter(h)
	}
	file.streams = len(s.heads)
	return s, nil
}

// enter takes a head over. The caller holds mu, or is alone.
func (s *sequences) enter(h streamHead) {
	if element, known := s.heads[h.stream]; known {
		element.Value = h
		s.order.MoveToFront(element)
		return
	}
	s.heads[h.stream] = s.order.PushFront(h)
	if len(s.heads) > s.limit {
		oldest := s.order.Back()
		delete(s.heads, s.order.Remove(oldest).(streamHead).stream)
	}
}

// all returns the heads, the one that was used last at the end.
func (s *sequences) all() []streamHead {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]streamHead, 0, len(s.heads))
	for element := s.order.Back(); element != nil; element = element.Prev() {
		all = append(all, element.Value.(streamHead))
	}
	return all
}

// sequenceSession is one request's hold on its streams. For one goroutine, but
// for end.
type sequenceSession struct {
	of      *sequences
	tenant  string
	streams []sequence.Digest
	heads   map[sequence.Digest]*sequence.Head // as the request leaves them; nil: not known
	moved   []streamHead                       // in order
	seen    map[journal.ID]struct{}            // records of the request that claim a place
}

// begin takes hold of the streams that the records of a request name, and waits
// while others have one of them. It returns nil where they name none.
func (s *sequences) begin(ctx context.Context, logs plog.Logs, tenant string) (*sequenceSession, error) {
	streams := s.streamsOf(logs, tenant)
	if streams == nil {
		return nil, nil
	}
	session := &sequenceSession{
		of: s, tenant: tenant,
		heads: make(map[sequence.Digest]*sequence.Head, len(streams)), seen: map[journal.ID]struct{}{},
	}
	for stream := range streams {
		session.streams = append(session.streams, stream)
	}
	for {
		busy := s.hold(session)
		if busy == nil {
			return session, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// streamsOf returns the streams that records name, nil if no record claims a
// place.
func (s *sequences) streamsOf(logs plog.Logs, tenant string) map[sequence.Digest]struct{} {
	var streams map[sequence.Digest]struct{}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				id, claims := streamIDOf(record.Attributes())
				if !claims {
					continue
				}
				if streams == nil {
					streams = map[sequence.Digest]struct{}{}
				}
				if id != "" {
					streams[s.stream(tenant, id)] = struct{}{}
				}
			}
		}
	}
	return streams
}

func streamIDOf(attributes pcommon.Map) (id string, claims bool) {
	for key, value := range attributes.All() {
		if len(key) < len(audit.AttributePrevHash) || !sequence.Names(key) {
			continue
		}
		claims = true
		if key == audit.AttributeSequenceStreamID {
			id = value.Str()
		}
	}
	return id, claims
}

// stream is the blinded name of a stream: tenants share none.
func (s *sequences) stream(tenant, id string) sequence.Digest {
	return sequence.Digest(s.identifier.Stream(tenant, id))
}

// hold takes all streams of a session or none: then busy is closed when one of
// them is free.
func (s *sequences) hold(session *sequenceSession) (busy chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stream := range session.streams {
		if busy = s.held[stream]; busy != nil {
			return busy
		}
	}
	free := make(chan struct{})
	for _, stream := range session.streams {
		s.held[stream] = free
		if element := s.heads[stream]; element != nil {
			head := element.Value.(streamHead).head
			session.heads[stream] = &head
		}
	}
	return nil
}

// end lets the streams go: sealed says that what the request moved counts. It
// does not block; the file learns of it with the next save.
func (session *sequenceSession) end(sealed bool) {
	s := session.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if sealed {
		for _, h := range session.moved {
			s.enter(h)
		}
		s.unsaved = append(s.unsaved, session.moved...)
	}
	var free chan struct{}
	for _, stream := range session.streams {
		free = s.held[stream]
		delete(s.held, stream)
	}
	if free != nil {
		close(free)
	}
}

// save makes durable what has moved, where the disk is full on the journal's
// reserve: the records that moved it are durable. After an error nothing is lost
// but the file's knowledge of it: the next save writes all.
func (s *sequences) save() error {
	return s.journal.UseReserve(func() error { return s.file.save(s.takeUnsaved, s.all) })
}

func (s *sequences) takeUnsaved() []streamHead {
	s.mu.Lock()
	defer s.mu.Unlock()
	unsaved := s.unsaved
	s.unsaved = nil
	return unsaved
}

func (s *sequences) close() error { return s.file.close(s.save) }

// placed is a record on its way through the stages that claims a place.
type placed struct {
	record  sequence.Record
	finding sequence.Finding
	head    sequence.Head   // after it
	point   *sequence.Point // what of the head is the record itself; nil: it moved nothing
}

// follow judges the place that a record claims, as it was received: after its
// proof, before any stage has touched it. One whose proof failed proves nothing
// about the stream, and has its verdict already: it is noted as being there.
func (w *worker) follow(record plog.LogRecord, identity *journal.Identity) {
	w.place = nil
	session := w.session
	place, claims := sequence.Read(record.Attributes())
	if !claims {
		return
	}
	var err error
	if w.buffer, err = w.encoder.AppendRecord(w.buffer[:0], record); err != nil {
		place.Malformed = true
	}
	s := session.of
	p := &placed{record: sequence.Record{
		Place: place, Sent: s.blindHash(sha256.Sum256(w.buffer)),
		Previous: s.blind(place.PreviousHash), PreviousID: s.blind(place.PreviousID),
		ID:  s.blind(sentID(&w.fields, w.stages.validator.maxID)),
		Key: s.blind(w.own.proof.Material), NextKey: s.blind(w.own.proof.NextMaterial),
	}}
	stream := s.stream(session.tenant, place.StreamID)
	p.judge(session.heads[stream], w.own.proof.Status != proof.Failed, func() bool { return session.cameBefore(identity) })
	session.seen[identity.ID] = struct{}{}
	w.own.place, w.place = p.finding, p
	if p.point != nil {
		session.heads[stream] = &p.head
	}
}

func (p *placed) judge(head *sequence.Head, proven bool, cameBefore func() bool) {
	moved := false
	if !proven {
		if p.head, moved = sequence.Pass(head, &p.record); moved {
			p.point = &p.head.Unproven
		}
		return
	}
	p.finding = sequence.Judge(head, &p.record)
	if p.head, moved = sequence.Next(head, &p.record, p.finding, cameBefore); moved {
		p.point = &p.head.Point
	}
}

// cameBefore says whether a record is known, or is a second time in its request.
// Where the journal cannot say, it does not seal the record either.
func (session *sequenceSession) cameBefore(identity *journal.Identity) bool {
	if identity.ID == (journal.ID{}) {
		return false
	}
	_, again := session.seen[identity.ID]
	known, err := session.of.journal.Knows(identity)
	return again || known && err == nil
}

// settle ends what follow began, once the record is as it will be stored.
func (w *worker) settle(v *verdict) {
	p := w.place
	w.place = nil
	v.place = p.finding
	v.onlyKnown = v.onlyKnown || w.session.of.reject && p.finding.Violates()
	if p.point == nil || v.refused {
		return
	}
	if stored := w.session.of.blindHash(sha256.Sum256(w.buffer[w.span.Start:w.span.End])); stored != p.point.Sent {
		p.point.Stored = stored
	}
	w.session.move(streamHead{w.session.of.stream(w.session.tenant, p.record.StreamID), p.head})
}

// move notes where a stream stands. Of many records of one stream in a row the
// last is enough.
func (session *sequenceSession) move(h streamHead) {
	if n := len(session.moved); n > 0 && session.moved[n-1].stream == h.stream {
		session.moved[n-1] = h
		return
	}
	session.moved = append(session.moved, h)
}

// placeReason names a finding among the reasons of a record.
func placeReason(f sequence.Finding) string {
	return "audit.sequence: " + string(f) + ": " + f.Explain()
}

// flagPlace finds fault with a record that breaks its producer's chain.
func (w *worker) flagPlace() {
	if w.own.place.Violates() {
		w.own.flag(codeSequence, placeReason(w.own.place))
	}
}

func (s *sequences) blind(text string) sequence.Digest {
	if text == "" {
		return sequence.Digest{}
	}
	return sequence.Digest(s.identifier.Blind(text))
}

func (s *sequences) blindHash(hash [sha256.Size]byte) sequence.Digest {
	return s.blind(hex.EncodeToString(hash[:]))
}
