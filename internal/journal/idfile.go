// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"slices"
	"sort"
	"unique"

	"github.com/otelaudit/otelaudit/audit/chain"
)

const (
	idSuffix = ".ids"
	idMagic  = "oai2"

	// entrySize is the length of one entry in a file.
	entrySize = 16 + 16 + 4*8 + 2*chain.HashSize + 1 + 2*4 + 4

	maxIDHead = 1 << 28 // bounds what a damaged length makes us read
)

// errIDFile says that an id file is not what was written.
var errIDFile = errors.New("id file is damaged")

// idFile is the ids of a run of frames, sorted, on disk. Of it only the names
// are in memory, and a column of the matrix that tells most ids that are not
// there.
type idFile struct {
	file           source
	path           string
	first, through uint64 // frames
	newest         int64  // when its newest record was sealed
	count          int
	names          []unique.Handle[string] // files share most of them
	filter         idFilter                // until it is in the matrix
	entries        int64                   // where they begin
	size           int64
}

// source is an open file for reading.
type source interface {
	io.ReaderAt
	io.Closer
}

// encode writes the file of t, ordering its entries:
//
//	magic "oai2" | head length u32 | first u64 | through u64 | newest i64 | count u32 |
//	names u32: u16 length, bytes | filter u32 length, bytes | CRC-32C u32 of all before
//	entries, in the order of their ids:
//	id [16] | fingerprint [16] | frame u64 | index u64 | seq u64 | sealed_at i64 | hash [32] |
//	integrity hash [32] | verdict u8 | origin u32 | stream u32 | CRC-32C u32 of the entry
func (t *idTable) encode(filterBlocks int) []byte {
	slices.SortFunc(t.entries, func(a, b idEntry) int { return bytes.Compare(a.identity.ID[:], b.identity.ID[:]) })
	newest := int64(math.MinInt64)
	filter := make(idFilter, filterBlocks*filterBlock)
	for i := range t.entries {
		newest = max(newest, t.entries[i].sealedAt)
		filter.add(t.entries[i].identity.ID)
	}
	dst := make([]byte, 0, len(t.entries)*(entrySize+3)+1<<16)
	dst = append(dst, idMagic...)
	dst = append(dst, 0, 0, 0, 0) // length of the head, see below
	dst = binary.BigEndian.AppendUint64(dst, t.first)
	dst = binary.BigEndian.AppendUint64(dst, t.through)
	dst = binary.BigEndian.AppendUint64(dst, uint64(newest))
	dst = appendCount(dst, len(t.entries))
	dst = appendCount(dst, len(t.names.list))
	for _, name := range t.names.list {
		dst = appendName(dst, name)
	}
	dst = append(appendCount(dst, len(filter)), filter...)
	binary.BigEndian.PutUint32(dst[len(idMagic):], uint32(len(dst)+4))
	dst = appendChecksum(dst, 0)
	for i := range t.entries {
		dst = t.entries[i].append(dst)
	}
	return dst
}

func (e *idEntry) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, e.identity.ID[:]...)
	dst = append(dst, e.identity.Fingerprint[:]...)
	dst = binary.BigEndian.AppendUint64(dst, e.frame)
	dst = binary.BigEndian.AppendUint64(dst, e.index)
	dst = binary.BigEndian.AppendUint64(dst, e.seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.sealedAt))
	dst = append(dst, e.hash[:]...)
	dst = append(dst, e.identity.Integrity[:]...)
	dst = append(dst, e.identity.Verdict)
	dst = binary.BigEndian.AppendUint32(dst, e.origin)
	dst = binary.BigEndian.AppendUint32(dst, e.stream)
	return appendChecksum(dst, start)
}

// appendChecksum appends the checksum of dst from start on.
func appendChecksum(dst []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// cutChecksum takes the checksum off the end of b; it is false if that is not
// b's.
func cutChecksum(b []byte) ([]byte, bool) {
	if len(b) < 4 {
		return nil, false
	}
	body := b[:len(b)-4]
	return body, crc32.Checksum(body, castagnoli) == binary.BigEndian.Uint32(b[len(body):])
}

// parseEntry reads one entry of a file with the given number of names.
func parseEntry(b []byte, names int) (idEntry, bool) {
	body, sound := cutChecksum(b)
	if !sound || len(b) != entrySize {
		return idEntry{}, false
	}
	c := cutter{rest: body}
	var e idEntry
	copy(e.identity.ID[:], c.take(16))
	copy(e.identity.Fingerprint[:], c.take(16))
	e.frame, e.index, e.seq, e.sealedAt = c.uint64(), c.uint64(), c.uint64(), int64(c.uint64())
	c.hash(&e.hash)
	c.hash(&e.identity.Integrity)
	e.identity.Verdict = c.uint8()
	e.origin, e.stream = c.uint32(), c.uint32()
	return e, uint64(max(e.origin, e.stream)) < uint64(names)
}

// openIDFile opens the file that begins with the given frame.
func openIDFile(path string, first uint64) (*idFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open ids: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ids: %w", err), file.Close())
	}
	f := &idFile{file: file, path: path, size: info.Size()}
	if err := f.readHead(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if f.first != first {
		return nil, errors.Join(f.damaged(fmt.Errorf("it begins with frame %d", f.first)), file.Close())
	}
	return f, nil
}

func (f *idFile) damaged(err error) error { return fmt.Errorf("%w: %s: %w", errIDFile, f.path, err) }

func (f *idFile) readHead() error {
	start := make([]byte, len(idMagic)+4)
	if _, err := f.file.ReadAt(start, 0); err != nil {
		return f.damaged(err)
	}
	length := int64(binary.BigEndian.Uint32(start[len(idMagic):]))
	if string(start[:len(idMagic)]) != idMagic || length > min(f.size, maxIDHead) {
		return f.damaged(errors.New("no head"))
	}
	head := make([]byte, length)
	if _, err := f.file.ReadAt(head, 0); err != nil {
		return f.damaged(err)
	}
	if err := f.parseHead(head); err != nil {
		return f.damaged(err)
	}
	if f.entries+int64(f.count)*entrySize != f.size {
		return f.damaged(fmt.Errorf("%d bytes are too few or too many for %d ids", f.size, f.count))
	}
	return nil
}

func (f *idFile) parseHead(head []byte) error {
	body, sound := cutChecksum(head)
	if !sound || len(body) < len(idMagic)+4 {
		return errors.New("checksum of the head differs")
	}
	c := cutter{rest: body[len(idMagic)+4:]}
	f.first, f.through, f.newest = c.uint64(), c.uint64(), int64(c.uint64())
	f.count = int(c.uint32())
	names := c.count(2)
	f.names = make([]unique.Handle[string], names)
	for i := range names {
		f.names[i] = unique.Make(c.name())
	}
	f.filter = c.bytes()
	filtered := len(f.filter) > 0 && len(f.filter)%filterBlock == 0 && len(f.filter) <= filterBlock*filterBlocks(fullTable)
	if c.failed || len(c.rest) > 0 || !filtered || f.first == 0 || f.through < f.first-1 {
		return errors.New("the head does not parse")
	}
	f.entries = int64(len(head))
	return nil
}

// find searches the file, which takes some twenty small reads.
func (f *idFile) find(id ID) (Known, Fingerprint, bool, error) {
	var failed error
	at := sort.Search(f.count, func(i int) bool {
		var other ID
		if _, err := f.file.ReadAt(other[:], f.entries+int64(i)*entrySize); err != nil {
			failed = err
		}
		return bytes.Compare(other[:], id[:]) >= 0
	})
	if failed != nil || at == f.count {
		return Known{}, Fingerprint{}, false, f.unread(failed)
	}
	var b [entrySize]byte
	if _, err := f.file.ReadAt(b[:], f.entries+int64(at)*entrySize); err != nil {
		return Known{}, Fingerprint{}, false, f.unread(err)
	}
	if ID(b[:16]) != id {
		return Known{}, Fingerprint{}, false, nil
	}
	e, sound := parseEntry(b[:], len(f.names))
	if !sound {
		return Known{}, Fingerprint{}, false, f.damaged(fmt.Errorf("entry %d", at))
	}
	return e.known(f.names[e.origin].Value(), f.names[e.stream].Value()), e.identity.Fingerprint, true, nil
}

func (f *idFile) unread(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read ids: %w", err)
}

// load reads the whole file into a table.
func (f *idFile) load() (*idTable, error) {
	b := make([]byte, f.size-f.entries)
	if _, err := f.file.ReadAt(b, f.entries); err != nil && !errors.Is(err, io.EOF) {
		return nil, f.unread(err)
	}
	t := newIDTable(f.first)
	t.through = f.through
	for _, name := range f.names {
		t.names.of(name.Value())
	}
	for i := range f.count {
		e, sound := parseEntry(b[i*entrySize:(i+1)*entrySize], len(f.names))
		if !sound {
			return nil, f.damaged(fmt.Errorf("entry %d", i))
		}
		t.byID[e.identity.ID] = int32(len(t.entries))
		t.entries = append(t.entries, e)
	}
	return t, nil
}

func (f *idFile) close() error {
	if err := f.file.Close(); err != nil {
		return fmt.Errorf("close ids: %w", err)
	}
	return nil
}
