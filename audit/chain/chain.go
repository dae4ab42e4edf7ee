// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package chain binds audit records to their place in a log. It works on
// opaque digests only: what a record means is not its business.
//
// Every sealed record has a [Link]: where it stands (origin and index, stream
// and sequence number), when it was sealed, the hash of its stream's previous
// link, and the digest of its canonical bytes. The link's binary form is, big
// endian, strings with a uint16 length in front:
//
//	version=1 u8 | origin | index u64 | stream | seq u64 | sealed_at i64 | prev [32] | digest [32]
//
// Its [Link.Hash] is SHA-256(0x00 ‖ link): at once the chain link that the
// stream's next record names as prev, and the RFC 6962 leaf of the origin's
// Merkle tree, leaf number = index. A [Checkpoint] signs the tree's size and
// root. The tree is authoritative; prev is checked as well.
package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf8"
)

// HashSize is the length of a Hash in bytes.
const HashSize = sha256.Size

// MaxName is the longest origin or stream, in bytes, that a link holds.
const MaxName = 512

const linkVersion = 1

// ErrLink says that bytes are not the binary form of a link.
var ErrLink = errors.New("not a link")

// Hash is a SHA-256 hash: a digest, a leaf, a tree node or a root.
type Hash [HashSize]byte

// String returns h in lowercase hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// AppendHex appends h in lowercase hex.
func (h Hash) AppendHex(dst []byte) []byte { return hex.AppendEncode(dst, h[:]) }

// ParseHash reads 64 lowercase hex digits, the only spelling of a hash.
func ParseHash[Text string | []byte](text Text) (Hash, error) {
	if len(text) != 2*HashSize {
		return Hash{}, fmt.Errorf("hash has %d characters, want %d", len(text), 2*HashSize)
	}
	var h Hash
	var bad byte
	for i := range h {
		high, low := nibbles[text[2*i]], nibbles[text[2*i+1]]
		bad |= high | low
		h[i] = high<<4 | low
	}
	if bad > 15 {
		return Hash{}, errors.New("hash is not lowercase hex")
	}
	return h, nil
}

// nibbles gives the value of a lowercase hex digit, 255 for any other byte.
var nibbles = func() (table [256]byte) {
	for c := range table {
		table[c] = 255
	}
	for value, digit := range []byte("0123456789abcdef") {
		table[digit] = byte(value)
	}
	return table
}()

// Head is where a stream stands: the sequence number and hash of its newest
// link. The zero Head is a stream that has none.
type Head struct {
	Seq  uint64
	Hash Hash
}

// Link is one sealed record's place in the log.
type Link struct {
	Origin   string // one life of one log, at most MaxName bytes
	Index    uint64 // dense over an origin, from 0
	Stream   string // at most MaxName bytes
	Seq      uint64 // dense per log and stream, from 1
	SealedAt int64  // nanoseconds since 1970; informative, never an order
	Prev     Hash   // hash of the stream's previous link, zero for Seq 1
	Digest   Hash   // SHA-256 of the record's canonical bytes
}

// AppendBinary appends the binary form of l.
func (l *Link) AppendBinary(dst []byte) ([]byte, error) {
	if len(l.Origin) > MaxName || len(l.Stream) > MaxName {
		return dst, fmt.Errorf("link: origin or stream is longer than %d bytes", MaxName)
	}
	dst = append(dst, linkVersion)
	dst = appendName(dst, l.Origin)
	dst = binary.BigEndian.AppendUint64(dst, l.Index)
	dst = appendName(dst, l.Stream)
	dst = binary.BigEndian.AppendUint64(dst, l.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(l.SealedAt))
	dst = append(dst, l.Prev[:]...)
	return append(dst, l.Digest[:]...), nil
}

func appendName(dst []byte, name string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(name)))
	return append(dst, name...)
}

// ParseLink reads the binary form of a link. It accepts exactly what
// AppendBinary writes.
func ParseLink(b []byte) (Link, error) {
	var l Link
	if len(b) == 0 || b[0] != linkVersion {
		return Link{}, fmt.Errorf("%w: unknown version", ErrLink)
	}
	b = b[1:]
	ok := cutName(&b, &l.Origin) && cutUint64(&b, &l.Index) &&
		cutName(&b, &l.Stream) && cutUint64(&b, &l.Seq)
	var sealedAt uint64
	if !ok || !cutUint64(&b, &sealedAt) || len(b) != 2*HashSize {
		return Link{}, fmt.Errorf("%w: wrong length", ErrLink)
	}
	l.SealedAt = int64(sealedAt)
	copy(l.Prev[:], b)
	copy(l.Digest[:], b[HashSize:])
	return l, nil
}

func cutName(b *[]byte, name *string) bool {
	if len(*b) < 2 {
		return false
	}
	n := int(binary.BigEndian.Uint16(*b))
	if n > MaxName || len(*b) < 2+n || !utf8.Valid((*b)[2:2+n]) {
		return false
	}
	*name = string((*b)[2 : 2+n])
	*b = (*b)[2+n:]
	return true
}

func cutUint64(b *[]byte, v *uint64) bool {
	if len(*b) < 8 {
		return false
	}
	*v = binary.BigEndian.Uint64(*b)
	*b = (*b)[8:]
	return true
}

// Hash returns the hash of l: SHA-256(0x00 ‖ link), the RFC 6962 leaf hash of
// its binary form. It panics if origin or stream is longer than MaxName, which
// the constructors of links refuse.
func (l *Link) Hash() Hash {
	var buffer [1 + 256 + 4*HashSize]byte
	b, err := l.AppendBinary(buffer[:1])
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(b)
}
