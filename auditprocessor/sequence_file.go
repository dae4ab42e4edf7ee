// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"

	"github.com/otelaudit/otelaudit/audit/sequence"
)

// producersFile holds, in the journal's directory, the newest record of each
// producer's stream. After its magic it is a sequence of entries, numbers in
// big endian; of several for one stream the last counts:
//
//	stream [16] | point | key [16] | unproven point | marks u8 | CRC-32C u32
//	point: number i64 | sent [16] | stored [16] | record id [16]
//
// A mark is 1 for a stream that has ended, 2 for one whose records name each
// other. All but them and the numbers are blinded under the journal's secret. An entry is synced
// before the request that it is of is answered. What a crash cut off at the end
// was never answered: the producer sends it again.
const (
	producersFile  = "producers"
	producersMagic = "oap2"
	// producersBefore began the file while it knew keys by their ids. What it
	// says cannot be compared with: each stream is `joined` again.
	producersBefore = "oap1"
	pointSize       = 8 + 3*16
	entrySize       = 16 + pointSize + 16 + pointSize + 1 + 4
	// compactAt is how many entries the file may have beside two for each of its
	// streams.
	compactAt = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Marks of a stream.
const (
	markEnded  = 1
	markLinked = 2
)

func appendEntry(dst []byte, h *streamHead) []byte {
	start := len(dst)
	dst = append(dst, h.stream[:]...)
	dst = appendPoint(dst, &h.head.Point)
	dst = append(dst, h.head.Key[:]...)
	dst = appendPoint(dst, &h.head.Unproven)
	marks := byte(0)
	if h.head.Ended {
		marks |= markEnded
	}
	if h.head.Linked {
		marks |= markLinked
	}
	dst = append(dst, marks)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func appendPoint(dst []byte, p *sequence.Point) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Number))
	for _, digest := range [...]*sequence.Digest{&p.Sent, &p.Stored, &p.ID} {
		dst = append(dst, digest[:]...)
	}
	return dst
}

// parseEntry reads one entry; ok is false where it does not hold.
func parseEntry(b []byte) (h streamHead, ok bool) {
	sum := binary.BigEndian.Uint32(b[entrySize-4:])
	if crc32.Checksum(b[:entrySize-4], castagnoli) != sum {
		return streamHead{}, false
	}
	b = b[copy(h.stream[:], b):]
	b = parsePoint(b, &h.head.Point)
	b = b[copy(h.head.Key[:], b):]
	b = parsePoint(b, &h.head.Unproven)
	h.head.Ended, h.head.Linked = b[0]&markEnded != 0, b[0]&markLinked != 0
	return h, b[0] <= markEnded|markLinked && h.head.Number >= 0 && h.head.Unproven.Number >= 0
}

func parsePoint(b []byte, p *sequence.Point) (rest []byte) {
	p.Number = int64(binary.BigEndian.Uint64(b))
	b = b[8:]
	for _, digest := range [...]*sequence.Digest{&p.Sent, &p.Stored, &p.ID} {
		b = b[copy(digest[:], b):]
	}
	return b
}

// parseHeads reads the file. An entry at its end that is cut or does not hold
// was being written; one before others is damage.
func parseHeads(data []byte) ([]streamHead, error) {
	rest, found := bytes.CutPrefix(data, []byte(producersMagic))
	if !found {
		return nil, errors.New("is not a file of producers' streams")
	}
	var heads []streamHead
	for len(rest) >= entrySize {
		h, ok := parseEntry(rest[:entrySize])
		rest = rest[entrySize:]
		switch {
		case ok:
			heads = append(heads, h)
		case len(rest) >= entrySize && hasEntry(rest):
			return nil, fmt.Errorf("entry %d is damaged", len(heads))
		default:
			return heads, nil
		}
	}
	return heads, nil
}

func hasEntry(rest []byte) bool {
	for ; len(rest) >= entrySize; rest = rest[entrySize:] {
		if _, ok := parseEntry(rest[:entrySize]); ok {
			return true
		}
	}
	return false
}

// headFile appends to the file of producers' streams. Safe for concurrent use.
type headFile struct {
	mu       sync.Mutex
	keptFile      // guarded by mu
	entries  int  // guarded by mu; in the file
	streams  int  // guarded by mu; of which so many are of different streams, or fewer: more since are not counted
	closed   bool // guarded by mu
}

// openHeads reads the file in directory, if there is one. It writes nothing: the
// disk may be full, and what is in the file can be delivered all the same.
func openHeads(directory string) (*headFile, []streamHead, error) {
	f := &headFile{keptFile: keptFile{path: filepath.Join(directory, producersFile)}}
	data, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return f, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read producers' streams: %w", err)
	}
	if bytes.HasPrefix(data, []byte(producersBefore)) {
		return f, nil, nil
	}
	heads, err := parseHeads(data)
	if err != nil {
		return nil, nil, fmt.Errorf("producers' streams %s: %w: remove it, and each stream begins anew, marked `joined`", f.path, err)
	}
	if len(data) > len(producersMagic)+entrySize*len(heads) {
		f.unsaved = true // nothing may follow what was cut off
		return f, heads, nil
	}
	if err := f.open(); err != nil {
		return nil, nil, fmt.Errorf("open producers' streams: %w", err)
	}
	f.entries = len(heads)
	return f, heads, nil
}

// rewrite writes the file anew. The caller holds mu.
func (f *headFile) rewrite(all []streamHead) error {
	data := make([]byte, 0, len(producersMagic)+entrySize*len(all))
	data = append(data, producersMagic...)
	for i := range all {
		data = appendEntry(data, &all[i])
	}
	if err := f.replace(data); err != nil {
		return fmt.Errorf("write producers' streams: %w", err)
	}
	f.entries, f.streams = len(all), len(all)
	return nil
}

// save appends what take hands out and syncs it; who waited meanwhile finds it
// done. Where that is not possible, or the file has grown too long, it is
// written anew from all.
func (f *headFile) save(take, all func() []streamHead) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	heads := take()
	if f.closed {
		if len(heads) == 0 {
			return nil
		}
		return fmt.Errorf("write producers' streams: %w", os.ErrClosed)
	}
	if len(heads) == 0 && !f.unsaved {
		return nil
	}
	if f.file != nil && f.entries+len(heads) <= 2*f.streams+compactAt {
		return f.add(heads)
	}
	return f.rewrite(all())
}

// add appends heads. The caller holds mu.
func (f *headFile) add(heads []streamHead) error {
	var data []byte
	for i := range heads {
		data = appendEntry(data, &heads[i])
	}
	if err := f.append(data); err != nil {
		return fmt.Errorf("write producers' streams: %w", err)
	}
	f.entries += len(heads)
	return nil
}

// close saves what is left.
func (f *headFile) close(save func() error) error {
	err := save()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return errors.Join(err, f.letGo())
}
