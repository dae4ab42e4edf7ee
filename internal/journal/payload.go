// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/otelaudit/otelaudit/audit/chain"
)

var errPayload = errors.New("frame payload does not parse")

// RecordKind says who wrote the records of a group.
type RecordKind uint8

// A group holds either client records or one control record.
const (
	Client RecordKind = iota
	Start
	Heartbeat
	Stop
	Quarantine    // what became of a record that a sink refused for good
	maxRecordKind = Quarantine
)

// Sealed is one request as it stands in the journal.
type Sealed struct {
	Payload []byte // as given to Seal; aliases the frame that was read
	Links   []chain.Link
	Hashes  []chain.Hash

	// Live is what Request.Live was, nil where that is gone.
	Live any

	Identities []Identity // for recovery alone, see parseGroup
}

// Group is what one fsync made durable.
type Group struct {
	Kind     RecordKind
	Records  int
	SealedAt int64 // nanoseconds since 1970
	Requests []Sealed

	header groupHeader
}

// Checkpoint is a signed tree head in its place between leaves Size-1 and Size.
type Checkpoint struct {
	chain.Checkpoint
	Note  []byte
	Range []chain.Hash
}

// groupHeader is what stands in front of a group's requests.
type groupHeader struct {
	kind     RecordKind
	records  int
	bytes    int64 // of the requests' payloads
	origin   string
	first    uint64
	sealedAt int64
	requests int
}

func appendGroupHeader(dst []byte, h *groupHeader) []byte {
	dst = append(dst, byte(h.kind))
	dst = appendCount(dst, h.records)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.bytes))
	dst = appendName(dst, h.origin)
	dst = binary.BigEndian.AppendUint64(dst, h.first)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.sealedAt))
	return appendCount(dst, h.requests)
}

func appendSealedRecord(dst []byte, link *chain.Link, hash *chain.Hash, identity *Identity) []byte {
	dst = appendName(dst, link.Stream)
	dst = binary.BigEndian.AppendUint64(dst, link.Seq)
	dst = append(dst, link.Prev[:]...)
	dst = append(dst, link.Digest[:]...)
	dst = append(dst, hash[:]...)
	if identity == nil || identity.ID == (ID{}) {
		return append(dst, 0)
	}
	dst = append(dst, 1+identity.Verdict) // 0 says that there is none
	dst = append(dst, identity.ID[:]...)
	dst = append(dst, identity.Fingerprint[:]...)
	return append(dst, identity.Integrity[:]...)
}

// parseGroup reads the payload of a group frame; the identities of its records
// only where they are asked for.
func parseGroup(payload []byte, identities bool) (Group, error) {
	c := cutter{rest: payload, identities: identities}
	h := c.groupHeader()
	g := Group{Kind: h.kind, Records: h.records, SealedAt: h.sealedAt, header: h}
	index := h.first
	total, bytes := 0, int64(0)
	for range h.requests {
		if c.failed {
			break
		}
		sealed := c.sealed(&h, index)
		index += uint64(len(sealed.Links))
		total += len(sealed.Links)
		bytes += int64(len(sealed.Payload))
		g.Requests = append(g.Requests, sealed)
	}
	if c.failed || len(c.rest) > 0 || total != h.records || bytes != h.bytes {
		return Group{}, fmt.Errorf("group: %w", errPayload)
	}
	return g, nil
}

func (c *cutter) groupHeader() groupHeader {
	var h groupHeader
	h.kind = RecordKind(c.uint8())
	h.records = int(c.uint32())
	h.bytes = int64(c.uint64())
	h.origin = c.name()
	h.first = c.uint64()
	h.sealedAt = int64(c.uint64())
	h.requests = int(c.uint32())
	if h.kind > maxRecordKind {
		c.failed = true
	}
	return h
}

// smallestRecord is the least a record takes in a group: it bounds what a
// count makes us allocate.
const smallestRecord = 2 + 8 + 3*chain.HashSize + 1

// identitySize is what the identity of a record takes beside that.
const identitySize = 16 + 16 + chain.HashSize

func (c *cutter) sealed(h *groupHeader, index uint64) Sealed {
	n := c.count(smallestRecord)
	s := Sealed{Links: make([]chain.Link, n), Hashes: make([]chain.Hash, n)}
	if c.identities {
		s.Identities = make([]Identity, n)
	}
	for i := range n {
		link := &s.Links[i]
		link.Origin, link.Index, link.SealedAt = h.origin, index+uint64(i), h.sealedAt
		link.Stream = c.name()
		link.Seq = c.uint64()
		c.hash(&link.Prev)
		c.hash(&link.Digest)
		c.hash(&s.Hashes[i])
		identity := c.identity()
		if c.identities {
			s.Identities[i] = identity
		}
	}
	s.Payload = c.bytes()
	return s
}

func (c *cutter) identity() (identity Identity) {
	mark := c.uint8()
	if mark == 0 {
		return Identity{}
	}
	identity.Verdict = mark - 1
	copy(identity.ID[:], c.take(len(identity.ID)))
	copy(identity.Fingerprint[:], c.take(len(identity.Fingerprint)))
	c.hash(&identity.Integrity)
	c.failed = c.failed || identity.ID == (ID{})
	return identity
}

func appendCheckpoint(dst []byte, c *Checkpoint) []byte {
	dst = appendName(dst, c.Origin)
	dst = binary.BigEndian.AppendUint64(dst, c.Size)
	dst = appendHashes(dst, c.Range)
	dst = appendCount(dst, len(c.Note))
	return append(dst, c.Note...)
}

func parseCheckpoint(payload []byte) (Checkpoint, error) {
	c := cutter{rest: payload}
	var checkpoint Checkpoint
	checkpoint.Origin = c.name()
	checkpoint.Size = c.uint64()
	checkpoint.Range = c.hashes()
	checkpoint.Note = c.bytes()
	if c.failed || len(c.rest) > 0 {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", errPayload)
	}
	tree, err := chain.ResumeTree(checkpoint.Size, checkpoint.Range)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	checkpoint.Root = tree.Root()
	return checkpoint, nil
}

// acceptedEnd names a segment and how much of it counts.
type acceptedEnd struct {
	segment uint64 // number of its first frame, 0 for no segment
	length  uint64
}

func appendState(dst []byte, before acceptedEnd, s *state) []byte {
	dst = binary.BigEndian.AppendUint64(dst, before.segment)
	dst = binary.BigEndian.AppendUint64(dst, before.length)
	dst = appendName(dst, s.origin)
	dst = append(dst, 0)
	if s.ended {
		dst[len(dst)-1] = 1
	}
	dst = binary.BigEndian.AppendUint64(dst, s.tree.Size())
	dst = appendHashes(dst, s.tree.Range())
	dst = appendCount(dst, len(s.heads))
	for _, stream := range slices.Sorted(maps.Keys(s.heads)) { // one state has one spelling
		head := s.heads[stream]
		dst = appendName(dst, stream)
		dst = binary.BigEndian.AppendUint64(dst, head.Seq)
		dst = append(dst, head.Hash[:]...)
	}
	return dst
}

func parseState(payload []byte) (acceptedEnd, *state, error) {
	c := cutter{rest: payload}
	var before acceptedEnd
	before.segment = c.uint64()
	before.length = c.uint64()
	s := newState()
	s.origin = c.name()
	ended := c.uint8()
	s.ended = ended == 1
	size := c.uint64()
	hashes := c.hashes()
	previous := ""
	for i := range c.count(2 + 8 + chain.HashSize) {
		stream := c.name()
		if i > 0 && stream <= previous {
			c.failed = true
		}
		previous = stream
		head := &chain.Head{Seq: c.uint64()}
		c.hash(&head.Hash)
		s.heads[stream] = head
	}
	if c.failed || len(c.rest) > 0 || ended > 1 {
		return acceptedEnd{}, nil, fmt.Errorf("state: %w", errPayload)
	}
	tree, err := chain.ResumeTree(size, hashes)
	if err != nil {
		return acceptedEnd{}, nil, fmt.Errorf("state: %w", err)
	}
	s.tree = tree
	return before, s, nil
}

func appendName(dst []byte, name string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(name)))
	return append(dst, name...)
}

func appendCount(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

func appendHashes(dst []byte, hashes []chain.Hash) []byte {
	dst = append(dst, byte(len(hashes)))
	for i := range hashes {
		dst = append(dst, hashes[i][:]...)
	}
	return dst
}

// cutter cuts values off a payload. Once it failed, it yields zero values.
type cutter struct {
	rest   []byte
	failed bool
	last   string // the newest name: neighbours often share it

	identities bool // wanted
}

func (c *cutter) take(n int) []byte {
	if c.failed || n > len(c.rest) {
		c.failed = true
		return nil
	}
	taken := c.rest[:n:n]
	c.rest = c.rest[n:]
	return taken
}

func (c *cutter) uint8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cutter) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cutter) uint64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// count reads how many values of at least the given size follow.
func (c *cutter) count(smallest int) int {
	n := int(c.uint32())
	if n > len(c.rest)/smallest {
		c.failed = true
		return 0
	}
	return n
}

func (c *cutter) name() string {
	var length uint16
	if b := c.take(2); b != nil {
		length = binary.BigEndian.Uint16(b)
	}
	if length > chain.MaxName {
		c.failed = true
		return ""
	}
	if b := c.take(int(length)); string(b) != c.last {
		c.last = string(b)
	}
	return c.last
}

func (c *cutter) bytes() []byte {
	n := int(c.uint32())
	if c.failed {
		return nil
	}
	return c.take(n)
}

func (c *cutter) hash(h *chain.Hash) { copy(h[:], c.take(chain.HashSize)) }

func (c *cutter) hashes() []chain.Hash {
	hashes := make([]chain.Hash, c.uint8())
	for i := range hashes {
		c.hash(&hashes[i])
	}
	return slices.Clip(hashes)
}
