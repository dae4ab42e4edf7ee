// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"encoding/binary"
)

// CopySignature and CopyEnd are before and behind the rows of AppendCopy.
const (
	CopySignature = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	CopyEnd       = "\xff\xff"
)

// CopyStatement takes rows that AppendCopy wrote.
func (t Table) CopyStatement() string {
	return "COPY " + t.Events() + " (" + columnList + ") FROM STDIN (FORMAT binary)"
}

const (
	// epochMicroseconds is 2000-01-01, from which PostgreSQL counts.
	epochMicroseconds = 946_684_800_000_000
	textType          = 25
	jsonbVersion      = 1
)

// AppendCopy appends the row in COPY's binary form.
func (r *Row) AppendCopy(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(columns)+len(sealColumns)))
	for i := range r.values {
		dst = r.values[i].appendCopy(dst, columns[i].kind)
	}
	dst = appendField(dst, r.Link.Origin)
	dst = appendInt64(dst, int64(r.Link.Index))
	dst = appendField(dst, EscapeStream(r.Link.Stream))
	dst = appendInt64(dst, int64(r.Link.Seq))
	dst = appendInt64(dst, r.Link.SealedAt)
	dst = appendField(dst, r.Link.Prev[:])
	dst = appendField(dst, r.Hash[:])
	return appendField(dst, r.Canonical)
}

func (v *value) appendCopy(dst []byte, k kind) []byte {
	if !v.valid {
		return append(dst, 0xff, 0xff, 0xff, 0xff)
	}
	switch k {
	case kindInteger:
		return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 4), uint32(v.number))
	case kindBoolean:
		return append(dst, 0, 0, 0, 1, byte(v.number))
	case kindTime:
		return appendInt64(dst, v.number-epochMicroseconds)
	case kindBigint:
		return appendInt64(dst, v.number)
	case kindTexts:
		return appendArray(dst, v.texts)
	case kindJSON:
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.text)+1))
		return append(append(dst, jsonbVersion), v.text...)
	}
	return appendField(dst, v.text)
}

func appendField[Bytes string | []byte](dst []byte, field Bytes) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(field)))
	return append(dst, field...)
}

func appendInt64(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), uint64(n))
}

// appendArray writes an array of one dimension, of none if it is empty.
func appendArray(dst []byte, texts [][]byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dimensions := uint32(min(len(texts), 1))
	dst = binary.BigEndian.AppendUint32(dst, dimensions)
	dst = binary.BigEndian.AppendUint32(dst, 0) // no NULL is in it
	dst = binary.BigEndian.AppendUint32(dst, textType)
	if dimensions > 0 {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(texts)))
		dst = binary.BigEndian.AppendUint32(dst, 1) // the first index
	}
	for _, text := range texts {
		dst = appendField(dst, text)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}
