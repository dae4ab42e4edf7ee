// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/journal"
)

const (
	sendRecords = 8192    // most records in one send
	sendBytes   = 3 << 20 // most encoded bytes in one send, unless a single record has more

	// linkBytes is what a record's coordinates take, encoded, at most: names,
	// framing, two hashes, three integers; origin and stream come on top.
	linkBytes = 420
	// lengthBytes is what tag and length of a member take, encoded, at most.
	lengthBytes = 6
)

// piece is what a send is made of: consecutive records of one request, or a
// checkpoint.
type piece struct {
	frame      uint64 // its number, where the piece is the last of its frame, else 0
	kind       journal.RecordKind
	sealedAt   int64 // of a checkpoint, which does not say: when it was read
	bytes      int   // what it takes, encoded, at most
	checkpoint *journal.Checkpoint

	request  *journal.Sealed // nil for a checkpoint
	from, to int             // its records
}

func (p *piece) records() int {
	if p.checkpoint != nil {
		return 1
	}
	return p.to - p.from
}

// coordinate names a sealed record.
type coordinate struct {
	origin string
	index  uint64
}

func coordinateOf(link *chain.Link) coordinate { return coordinate{link.Origin, link.Index} }

// String names what the piece begins with.
func (p *piece) String() string {
	if p.checkpoint != nil {
		return fmt.Sprintf("the checkpoint of %s at size %d", p.checkpoint.Origin, p.checkpoint.Size)
	}
	first := &p.request.Links[p.from]
	return fmt.Sprintf("record %s/%d", first.Origin, first.Index)
}

func appendPieces(pieces []piece, frame *journal.Frame) []piece {
	if c := frame.Checkpoint; c != nil {
		return append(pieces, piece{
			frame: frame.Number, sealedAt: time.Now().UnixNano(), bytes: linkBytes + len(c.Origin) + len(c.Note) + 2*chain.HashSize*len(c.Range), checkpoint: c,
		})
	}
	group := frame.Group
	for i := range group.Requests {
		request := &group.Requests[i]
		pieces = append(pieces, piece{
			kind: group.Kind, sealedAt: group.SealedAt, request: request, to: len(request.Links),
			bytes: len(request.Payload) + encodedLinks(request.Links),
		})
	}
	pieces[len(pieces)-1].frame = frame.Number
	return pieces
}

func encodedLinks(links []chain.Link) int {
	bytes := 0
	for i := range links {
		bytes += linkBytes + len(links[i].Origin) + len(links[i].Stream)
	}
	return bytes
}

// oversize says whether p must be cut to fit into a send.
func (p *piece) oversize() bool {
	return p.records() > 1 && (p.records() > sendRecords || p.bytes > sendBytes)
}

// cutSend returns how many pieces one send takes, at least one.
func cutSend(pieces []piece) int {
	n, records, bytes := 0, 0, 0
	for n < len(pieces) {
		records, bytes = records+pieces[n].records(), bytes+pieces[n].bytes
		if n > 0 && (records > sendRecords || bytes > sendBytes) {
			break
		}
		n++
	}
	return n
}

// fit cuts p into pieces that each fit into a send; a single record that does
// not is a piece of its own. Each has a payload of its own, so that it costs no
// more to decode than it holds.
func (p *piece) fit() ([]piece, error) {
	logs, err := p.decode()
	if err != nil {
		return nil, err
	}
	s := splitter{whole: p, at: p.from, part: plog.NewLogs()}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			if err := s.add(resource, scope); err != nil {
				return nil, err
			}
		}
	}
	if err := s.flush(); err != nil {
		return nil, err
	}
	s.pieces[len(s.pieces)-1].frame = p.frame
	return s.pieces, nil
}

// splitter moves the records of a request into pieces.
type splitter struct {
	whole  *piece
	pieces []piece

	part           plog.Logs // of the next piece
	at             int       // position of its first record
	records, bytes int
}

// add moves the records of a scope. The scope and its resource are repeated in
// each piece that has records of them.
func (s *splitter) add(resource plog.ResourceLogs, scope plog.ScopeLogs) error {
	head := plog.NewResourceLogs()
	resource.Resource().CopyTo(head.Resource())
	head.SetSchemaUrl(resource.SchemaUrl())
	scope.Scope().CopyTo(head.ScopeLogs().AppendEmpty().Scope())
	head.ScopeLogs().At(0).SetSchemaUrl(scope.SchemaUrl())
	shared := marshaler.ResourceLogsSize(head) + 2*lengthBytes

	var records plog.LogRecordSlice
	for i, record := range scope.LogRecords().All() {
		link := s.whole.request.Links[s.at+s.records:][:1]
		size := marshaler.LogRecordSize(record) + lengthBytes + encodedLinks(link)
		more := size
		if i == 0 {
			more += shared
		}
		full := s.records > 0 && (s.records == sendRecords || s.bytes+more > sendBytes)
		if full {
			if err := s.flush(); err != nil {
				return err
			}
			more = size + shared
		}
		if full || i == 0 {
			opened := s.part.ResourceLogs().AppendEmpty()
			head.CopyTo(opened)
			records = opened.ScopeLogs().At(0).LogRecords()
		}
		record.MoveTo(records.AppendEmpty())
		s.records++
		s.bytes += more
	}
	return nil
}

// flush makes a piece of what was moved.
func (s *splitter) flush() error {
	payload, err := marshaler.MarshalLogs(s.part)
	if err != nil {
		return fmt.Errorf("marshal a part of a journal request: %w", err)
	}
	end := s.at + s.records
	s.pieces = append(s.pieces, piece{
		kind: s.whole.kind, sealedAt: s.whole.sealedAt, bytes: s.bytes, to: s.records,
		request: &journal.Sealed{Payload: payload, Links: s.whole.request.Links[s.at:end], Hashes: s.whole.request.Hashes[s.at:end]},
	})
	s.at, s.records, s.bytes, s.part = end, 0, 0, plog.NewLogs()
	return nil
}

// cut returns the first n records of p and the rest.
func (p *piece) cut(n int) (first, rest piece) {
	first, rest = *p, *p
	first.to, rest.from = p.from+n, p.from+n
	first.frame = 0
	return first, rest
}

func countRecords(pieces []piece) (n int) {
	for i := range pieces {
		n += pieces[i].records()
	}
	return n
}

// halve splits pieces with more than one record in two of about as many
// records each, also inside a request: to a consumer of records a request is
// no unit.
func halve(pieces []piece) (first, second []piece) {
	left := countRecords(pieces) / 2
	for i := range pieces {
		n := pieces[i].records()
		if n <= left {
			left -= n
			first = append(first, pieces[i])
			continue
		}
		rest := pieces[i]
		if left > 0 {
			var head piece
			head, rest = pieces[i].cut(left)
			first = append(first, head)
		}
		return first, append([]piece{rest}, pieces[i+1:]...)
	}
	return first, nil
}

// build makes log records of the pieces, each with its coordinates.
func build(pieces []piece) (plog.Logs, error) {
	logs := plog.NewLogs()
	for i := range pieces {
		if pieces[i].checkpoint != nil {
			appendCheckpointRecord(logs, pieces[i].checkpoint)
			continue
		}
		decoded, err := pieces[i].decode()
		if err != nil {
			return plog.Logs{}, err
		}
		pieces[i].putLinks(decoded)
		decoded.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	}
	return logs, nil
}

var errLinks = errors.New("a journal request has another number of links than of records")

// decode returns the records of p as the journal holds them, in order.
func (p *piece) decode() (plog.Logs, error) {
	logs, live := p.request.Live.(plog.Logs)
	if p.request.Live = nil; !live { // a consumer may change what it is given: a live form serves once
		var err error
		if logs, err = unmarshaler.UnmarshalLogs(p.request.Payload); err != nil {
			return plog.Logs{}, fmt.Errorf("decode journal request: %w", err)
		}
	}
	if logs.LogRecordCount() != len(p.request.Links) {
		return plog.Logs{}, errLinks
	}
	if p.records() < len(p.request.Links) {
		keepRecords(logs, func(n int) bool { return n >= p.from && n < p.to })
	}
	return logs, nil
}

// keepRecords takes out all records but those whose position is wanted, and what
// is empty then.
func keepRecords(logs plog.Logs, wanted func(position int) bool) {
	position := -1
	logs.ResourceLogs().RemoveIf(func(resource plog.ResourceLogs) bool {
		resource.ScopeLogs().RemoveIf(func(scope plog.ScopeLogs) bool {
			scope.LogRecords().RemoveIf(func(plog.LogRecord) bool {
				position++
				return !wanted(position)
			})
			return scope.LogRecords().Len() == 0
		})
		return resource.ScopeLogs().Len() == 0
	})
}

func (p *piece) putLinks(logs plog.Logs) {
	n := p.from
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				putLink(record.Attributes(), &p.request.Links[n], p.request.Hashes[n])
				n++
			}
		}
	}
}

func putLink(attributes pcommon.Map, link *chain.Link, hash chain.Hash) {
	attributes.EnsureCapacity(attributes.Len() + 7)
	attributes.PutStr(audit.AttributeChainOrigin, link.Origin)
	attributes.PutInt(audit.AttributeChainIndex, clampInt(link.Index))
	attributes.PutStr(audit.AttributeChainStream, link.Stream)
	attributes.PutInt(audit.AttributeChainSeq, clampInt(link.Seq))
	attributes.PutInt(audit.AttributeChainSealedAt, link.SealedAt)
	attributes.PutStr(audit.AttributeChainPrev, link.Prev.String())
	attributes.PutStr(audit.AttributeChainHash, hash.String())
}

func appendCheckpointRecord(logs plog.Logs, checkpoint *journal.Checkpoint) {
	record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	attributes := record.Attributes()
	attributes.PutStr(audit.AttributeChainOrigin, checkpoint.Origin)
	attributes.PutInt(audit.AttributeChainIndex, clampInt(checkpoint.Size))
	attributes.PutStr(audit.AttributeChainCheckpoint, string(checkpoint.Note))
	hashes := attributes.PutEmptySlice(audit.AttributeChainRange)
	hashes.EnsureCapacity(len(checkpoint.Range))
	for _, hash := range checkpoint.Range {
		hashes.AppendEmpty().SetStr(hash.String())
	}
}
