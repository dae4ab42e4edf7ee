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
	// recordFraming is what the length of a record in its list takes, at most.
	recordFraming = 6
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
// not is a piece of its own.
func (p *piece) fit() ([]piece, error) {
	sizes, err := p.sizes()
	if err != nil {
		return nil, err
	}
	var fitting []piece
	rest := *p
	for bytes, i := 0, 0; i < len(sizes); i++ {
		more := sizes[i].own
		if bytes == 0 || sizes[i].resource != sizes[i-1].resource {
			more += sizes[i].shared
		}
		if n := p.from + i - rest.from; bytes > 0 && (n == sendRecords || bytes+more > sendBytes) {
			var first piece
			first, rest = rest.cut(n)
			fitting = append(fitting, first)
			bytes, more = 0, sizes[i].own+sizes[i].shared
		}
		bytes += more
	}
	fitting = append(fitting, rest)
	for i := range fitting {
		fitting[i].bytes = sumSizes(sizes[fitting[i].from-p.from : fitting[i].to-p.from])
	}
	return fitting, nil
}

// recordSize is what a record takes, encoded, at most.
type recordSize struct {
	own      int
	shared   int // what its resource takes without records: once in a send
	resource int // position of the resource
}

func sumSizes(sizes []recordSize) (bytes int) {
	for i := range sizes {
		bytes += sizes[i].own
		if i == 0 || sizes[i].resource != sizes[i-1].resource {
			bytes += sizes[i].shared
		}
	}
	return bytes
}

func (p *piece) sizes() ([]recordSize, error) {
	logs, err := p.decode()
	if err != nil {
		return nil, err
	}
	sizes := make([]recordSize, 0, p.records())
	for r, resource := range logs.ResourceLogs().All() {
		shared := marshaler.ResourceLogsSize(resource) + recordFraming
		first := len(sizes)
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				size := marshaler.LogRecordSize(record)
				shared -= size
				links := p.request.Links[p.from+len(sizes):]
				sizes = append(sizes, recordSize{own: size + recordFraming + encodedLinks(links[:1]), resource: r})
			}
		}
		for i := first; i < len(sizes); i++ {
			sizes[i].shared = shared
		}
	}
	return sizes, nil
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
	logs, err := unmarshaler.UnmarshalLogs(p.request.Payload)
	if err != nil {
		return plog.Logs{}, fmt.Errorf("decode journal request: %w", err)
	}
	if logs.LogRecordCount() != len(p.request.Links) {
		return plog.Logs{}, errLinks
	}
	if p.records() < len(p.request.Links) {
		keep(logs, p.from, p.to)
	}
	return logs, nil
}

// keep removes all but the records from the one position up to before the
// other, and what is empty then.
func keep(logs plog.Logs, from, to int) {
	n := -1
	logs.ResourceLogs().RemoveIf(func(resource plog.ResourceLogs) bool {
		resource.ScopeLogs().RemoveIf(func(scope plog.ScopeLogs) bool {
			scope.LogRecords().RemoveIf(func(plog.LogRecord) bool {
				n++
				return n < from || n >= to
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
