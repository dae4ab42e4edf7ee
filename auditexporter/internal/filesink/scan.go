// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// maxLine is the longest stored line that is read back, in bytes, its newline
// included. What is written is shorter.
const maxLine = 64 << 20

const readSize = 1 << 20

// coordinate names one line of an origin: a record's index, or a checkpoint's
// size.
type coordinate struct {
	checkpoint bool
	number     uint64
}

// locator reads the coordinate of a stored line without parsing all of it.
type locator struct {
	record     []byte // what follows the index of a line of this origin
	checkpoint []byte // what precedes the size of a checkpoint of this origin
}

func newLocator(origin string) locator {
	record := canonical.AppendString([]byte(`","origin":`), origin)
	checkpoint := canonical.AppendString([]byte(`{"checkpoint":`), origin+"\n")
	return locator{record: record, checkpoint: checkpoint[:len(checkpoint)-1]}
}

// locate returns the coordinate of line. It is false for a line that is not of
// this origin or is damaged at its start.
func (l *locator) locate(line []byte) (coordinate, bool) {
	if rest, ok := bytes.CutPrefix(line, l.checkpoint); ok {
		number, rest, ok := cutUint(rest)
		return coordinate{true, number}, ok && bytes.HasPrefix(rest, []byte(`\n`))
	}
	const before, after = `{"chain":{"hash":"`, `","index":"`
	const indexAt = len(before) + 2*chain.HashSize + len(after)
	if len(line) < indexAt || string(line[:len(before)]) != before ||
		string(line[indexAt-len(after):indexAt]) != after {
		return coordinate{}, false
	}
	number, rest, ok := cutUint(line[indexAt:])
	return coordinate{false, number}, ok && bytes.HasPrefix(rest, l.record)
}

// sealedAt returns when the record of line was sealed, 0 if it does not tell.
func (l *locator) sealedAt(line []byte) int64 {
	at := bytes.Index(line, l.record)
	if at < 0 {
		return 0
	}
	const before, after = `,"prev":"`, `","sealed_at":"`
	rest := line[at+len(l.record):]
	if len(rest) < len(before)+2*chain.HashSize+len(after) {
		return 0
	}
	rest, ok := bytes.CutPrefix(rest[len(before)+2*chain.HashSize:], []byte(after))
	rest, negative := bytes.CutPrefix(rest, []byte("-"))
	value, _, digits := cutUint(rest)
	switch {
	case !ok, !digits, value > math.MaxInt64:
		return 0
	case negative:
		return -int64(value)
	}
	return int64(value)
}

// cutUint reads the decimal number at the start of b.
func cutUint(b []byte) (value uint64, rest []byte, ok bool) {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		digit := uint64(b[n] - '0')
		if value > (math.MaxUint64-digit)/10 {
			return 0, b, false
		}
		value = value*10 + digit
		n++
	}
	return value, b[n:], n > 0
}

// lineReader yields the lines of a part of a file.
type lineReader struct {
	source *bufio.Reader
	offset int64 // of the next line in the file
	long   []byte
}

func newLineReader(f io.ReaderAt, from, to int64) *lineReader {
	section := io.NewSectionReader(f, from, to-from)
	return &lineReader{source: bufio.NewReaderSize(section, readSize), offset: from}
}

// next returns the next line with its newline and where it starts. A last line
// without newline is returned as it is. Of a line longer than maxLine only the
// start is returned, without newline. The line is valid until the next call.
// The end is io.EOF.
func (r *lineReader) next() (line []byte, start int64, err error) {
	start = r.offset
	line, err = r.source.ReadSlice('\n')
	r.offset += int64(len(line))
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.nextLong(line)
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil
	}
	return line, start, err
}

// nextLong goes on with a line that is longer than the reader's buffer.
func (r *lineReader) nextLong(piece []byte) ([]byte, error) {
	r.long = append(r.long[:0], piece...)
	for {
		piece, err := r.source.ReadSlice('\n')
		r.offset += int64(len(piece))
		if len(r.long)+len(piece) <= maxLine {
			r.long = append(r.long, piece...)
		} else if len(r.long) < maxLine {
			r.long = append(r.long, make([]byte, maxLine-len(r.long))...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return r.long, err
		}
	}
}

// tail is what the end of the newest file of an origin looks like.
type tail struct {
	end        int64  // where the file's sound part ends
	cut        int64  // bytes behind end, to be cut off
	whole      bool   // the cut part holds whole lines
	damaged    int    // unreadable lines before end: not ours to remove
	checkpoint []byte // the last line if it is a checkpoint, with its newline
}

// readTail judges the file's lines. What a crash leaves at the end of a file is
// a line without newline or, where the file system made a file longer before it
// wrote all of its blocks, zero bytes. A damaged line with sound lines behind
// it is no such thing: it stays, for the verifier to name.
func readTail(f io.ReaderAt, size int64) (tail, error) {
	var found tail
	unreadable := 0 // lines since end
	lines := newLineReader(f, 0, size)
	for {
		line, start, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return tail{}, err
		}
		if holed(line, start, size) {
			break // nothing behind a hole was ever acknowledged
		}
		kind, sound := soundLine(line)
		if !sound {
			unreadable++
			continue
		}
		found.damaged += unreadable
		unreadable = 0
		found.end = start + int64(len(line))
		found.checkpoint = found.checkpoint[:0]
		if kind == audit.LineCheckpoint {
			found.checkpoint = append(found.checkpoint, line...)
		}
	}
	found.cut = size - found.end
	var err error
	found.whole, err = hasNewline(f, found.end, size)
	return found, err
}

// sector is the least that a disk writes whole.
const sector = 512

// holed says whether the line at start holds blocks that were never written: a
// run of zero bytes from the line's start or a sector's to a sector's end or
// the file's. Any other zero byte is damage, and no reason to doubt what stands
// behind it.
func holed(line []byte, start, size int64) bool {
	for i := 0; i < len(line); {
		next := bytes.IndexByte(line[i:], 0)
		if next < 0 {
			return false
		}
		from := i + next
		to := from + 1
		for to < len(line) && line[to] == 0 {
			to++
		}
		first, end := start+int64(from), start+int64(to)
		if (from == 0 || first%sector == 0) && (end%sector == 0 || end == size) {
			return true
		}
		i = to
	}
	return false
}

// soundLine says whether line, with its newline, can be a stored line, and
// which. The event inside is not looked into.
func soundLine(line []byte) (audit.LineKind, bool) {
	text, complete := bytes.CutSuffix(line, []byte("\n"))
	if !complete {
		return 0, false
	}
	parsed, err := audit.ParseLine(text)
	return parsed.Kind, err == nil
}

func hasNewline(f io.ReaderAt, from, to int64) (bool, error) {
	if from >= to {
		return false, nil
	}
	line, _, err := newLineReader(f, from, to).next()
	return bytes.HasSuffix(line, []byte("\n")), err
}

// fileName is the name of the file that starts at a checkpoint of size first.
func fileName(first uint64) string { return stem(first) + ".jsonl" }

// stem pads first to 20 digits, so that names sort as numbers do.
func stem(first uint64) string {
	digits := strconv.FormatUint(first, 10)
	return "00000000000000000000"[len(digits):] + digits
}

// parseName reads the name of a file of the given extension.
func parseName(name, extension string) (first uint64, ok bool) {
	first, err := strconv.ParseUint(name[:min(20, len(name))], 10, 64)
	return first, err == nil && name == stem(first)+extension
}
