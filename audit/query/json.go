// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/otelaudit/otelaudit/audit/canonical"
)

// appendJSON writes
//
//	{"event":{…},"flagged":["…"],"hash":"…","index":"…","origin":"…","sealed_at":"…","seq":"…","stream":"…","tenant":"…"}
//
// with integers as strings and sealed_at in RFC 3339; flagged and tenant are
// absent where there is none.
func (e *Event) appendJSON(dst []byte) []byte {
	text := append([]byte(`{"event":`), e.JSON...)
	if len(e.Flagged) > 0 {
		text = append(text, `,"flagged":[`...)
		for i, reason := range e.Flagged {
			if i > 0 {
				text = append(text, ',')
			}
			text = canonical.AppendString(text, reason)
		}
		text = append(text, ']')
	}
	text = append(text, `,"hash":"`...)
	text = e.Hash.AppendHex(text)
	text = append(text, `","index":"`...)
	text = strconv.AppendUint(text, e.Link.Index, 10)
	text = append(text, `","origin":`...)
	text = canonical.AppendString(text, e.Link.Origin)
	text = append(text, `,"sealed_at":"`...)
	text = time.Unix(0, e.Link.SealedAt).UTC().AppendFormat(text, time.RFC3339Nano)
	text = append(text, `","seq":"`...)
	text = strconv.AppendUint(text, e.Link.Seq, 10)
	text = append(text, `","stream":`...)
	text = canonical.AppendString(text, e.Link.Stream)
	if e.Tenant != "" {
		text = append(text, `,"tenant":`...)
		text = canonical.AppendString(text, e.Tenant)
	}
	return appendPrintable(dst, append(text, '}'))
}

// appendPrintable writes JSON such that a terminal shows all of it and obeys
// none of it. It stays the same JSON value: what is not printable stands in
// strings alone.
func appendPrintable(dst, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case unicode.IsPrint(r):
			dst = append(dst, text[:size]...)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		text = text[size:]
	}
	return dst
}
