// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

type frameKind uint8

const (
	frameState      frameKind = 1
	frameGroup      frameKind = 2
	frameCheckpoint frameKind = 3
)

const (
	frameMagic   = "oaf2"
	kindOffset   = len(frameMagic)
	numberOffset = kindOffset + 1
	saltOffset   = numberOffset + 8
	lengthOffset = saltOffset + 8
	crcOffset    = lengthOffset + 4
	headerSize   = crcOffset + 4

	maxPayload = 1 << 28 // bounds what a damaged length makes us read
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFrame says that no valid frame stands at a place.
var errFrame = errors.New("no valid frame")

// frame is one entry of a segment.
type frame struct {
	kind   frameKind
	number uint64
	// salt is what its segment drew at its creation. No client can write a
	// frame into a payload that recovery would take for one of ours.
	salt    uint64
	payload []byte
}

// size is the length of the frame in its segment.
func (f *frame) size() int { return headerSize + len(f.payload) }

// beginFrame appends room for a header; the payload follows it.
func beginFrame(dst []byte) []byte { return append(dst, make([]byte, headerSize)...) }

// finishFrame fills the header of the only frame in b. Numbers are written
// here, and nowhere else.
func finishFrame(b []byte, kind frameKind, number, salt uint64) error {
	length := len(b) - headerSize
	if length > maxPayload {
		return fmt.Errorf("frame of %d bytes is larger than %d", length, maxPayload)
	}
	copy(b, frameMagic)
	b[kindOffset] = byte(kind)
	binary.BigEndian.PutUint64(b[numberOffset:], number)
	binary.BigEndian.PutUint64(b[saltOffset:], salt)
	binary.BigEndian.PutUint32(b[lengthOffset:], uint32(length))
	binary.BigEndian.PutUint32(b[crcOffset:], checksum(b))
	return nil
}

// checksum covers all of the frame but the magic and the checksum itself.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[kindOffset:crcOffset], castagnoli), castagnoli, b[headerSize:])
}

// parseFrame reads the frame at the start of b. Its payload aliases b.
func parseFrame(b []byte) (frame, error) {
	f, length, err := parseHeader(b)
	if err != nil {
		return frame{}, err
	}
	if len(b) < headerSize+length {
		return frame{}, fmt.Errorf("%w: payload is cut", errFrame)
	}
	b = b[: headerSize+length : headerSize+length]
	if checksum(b) != binary.BigEndian.Uint32(b[crcOffset:]) {
		return frame{}, fmt.Errorf("%w: checksum differs", errFrame)
	}
	f.payload = b[headerSize:]
	return f, nil
}

// parseHeader reads the header at the start of b without judging its checksum.
// length is that of the payload, at most maxPayload.
func parseHeader(b []byte) (f frame, length int, err error) {
	if len(b) < headerSize || string(b[:len(frameMagic)]) != frameMagic {
		return frame{}, 0, fmt.Errorf("%w: no header", errFrame)
	}
	claimed := binary.BigEndian.Uint32(b[lengthOffset:])
	if claimed > maxPayload {
		return frame{}, 0, fmt.Errorf("%w: length %d", errFrame, claimed)
	}
	return frame{
		kind:   frameKind(b[kindOffset]),
		number: binary.BigEndian.Uint64(b[numberOffset:]),
		salt:   binary.BigEndian.Uint64(b[saltOffset:]),
	}, int(claimed), nil
}

// laterFrame says whether a valid frame, for which the header passes, stands
// anywhere in b: then what is before it is damage, not a torn tail.
func laterFrame(b []byte, passes func(header frame) bool) bool {
	for {
		i := bytes.Index(b, []byte(frameMagic))
		if i < 0 {
			return false
		}
		b = b[i:]
		if header, _, err := parseHeader(b); err == nil && passes(header) {
			if _, err := parseFrame(b); err == nil {
				return true
			}
		}
		b = b[1:]
	}
}
