// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"errors"
	"unicode/utf8"
)

var errString = errors.New("not a canonical JSON string")

const hexDigits = "0123456789abcdef"

// plain says which bytes stand for themselves inside a JSON string.
var plain = func() (table [256]bool) {
	for b := range table {
		table[b] = b >= 0x20 && b != '"' && b != '\\'
	}
	return table
}()

// isPlain says that s is ASCII that stands for itself inside a JSON string. It
// looks at eight bytes at a time.
func isPlain(s string) bool {
	var bad uint64
	i := 0
	for ; i+8 <= len(s); i += 8 {
		bad |= notPlain(word(s, i))
	}
	switch {
	case i == len(s):
	case len(s) >= 8:
		bad |= notPlain(word(s, len(s)-8))
	default:
		for ; i < len(s); i++ {
			if !plain[s[i]] || s[i] >= 0x80 {
				return false
			}
		}
	}
	return bad == 0
}

// word loads s[i:i+8]; the compiler makes one load of it.
func word(s string, i int) uint64 {
	b := s[i : i+8]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// notPlain is not zero if one of the eight bytes is above 0x7f, below 0x20, a
// quote or a backslash. In bytes of seven bits a subtraction sets the top bit
// only where it borrows.
func notPlain(word uint64) uint64 {
	const (
		ones = 0x0101010101010101
		tops = 0x80 * ones
	)
	quote, backslash := word^'"'*ones, word^'\\'*ones
	return (word | (word - 0x20*ones) | (quote - ones) | (backslash - ones)) & tops
}

// appendText is AppendString of a string that may be invalid.
func appendText(dst []byte, s string) ([]byte, bool) {
	if isPlain(s) {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"'), true
	}
	if !utf8.ValidString(s) {
		return dst, false
	}
	return AppendString(dst, s), true
}

// AppendString appends s as a JSON string in the one spelling of RFC 8785
// section 3.2.2.2: the short escapes where JSON has them, \u00xx in lowercase
// for the other control characters, everything else verbatim. s must be valid
// UTF-8.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		if plain[s[i]] {
			continue
		}
		dst = append(dst, s[start:i]...)
		dst = appendEscape(dst, s[i])
		start = i + 1
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, b byte) []byte {
	switch b {
	case '"', '\\':
		return append(dst, '\\', b)
	case '\b':
		return append(dst, '\\', 'b')
	case '\t':
		return append(dst, '\\', 't')
	case '\n':
		return append(dst, '\\', 'n')
	case '\f':
		return append(dst, '\\', 'f')
	case '\r':
		return append(dst, '\\', 'r')
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&0xf])
	}
}

// CutString reads the canonical JSON string at the start of b and returns its
// value and what follows. It accepts exactly what AppendString writes: any
// other spelling of the same value is an error.
func CutString(b []byte) (s string, rest []byte, err error) {
	if len(b) == 0 || b[0] != '"' {
		return "", nil, errString
	}
	b = b[1:]
	i := 0
	for i < len(b) && plain[b[i]] {
		i++
	}
	if i < len(b) && b[i] == '"' {
		if !utf8.Valid(b[:i]) {
			return "", nil, errString
		}
		return string(b[:i]), b[i+1:], nil
	}
	return cutEscaped(b, i)
}

// cutEscaped goes on after the first i plain bytes of a string that holds
// escapes.
func cutEscaped(b []byte, i int) (string, []byte, error) {
	value := append(make([]byte, 0, i+16), b[:i]...)
	for i < len(b) {
		switch c := b[i]; {
		case c == '"':
			if !utf8.Valid(value) {
				return "", nil, errString
			}
			return string(value), b[i+1:], nil
		case c == '\\':
			decoded, size := unescape(b[i:])
			if size == 0 {
				return "", nil, errString
			}
			value = append(value, decoded)
			i += size
		case plain[c]:
			value = append(value, c)
			i++
		default:
			return "", nil, errString
		}
	}
	return "", nil, errString
}

// unescape decodes the escape at the start of b; size 0 means that
// AppendString would not have written it.
func unescape(b []byte) (decoded byte, size int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch b[1] {
	case '"', '\\':
		return b[1], 2
	case 'b':
		return '\b', 2
	case 't':
		return '\t', 2
	case 'n':
		return '\n', 2
	case 'f':
		return '\f', 2
	case 'r':
		return '\r', 2
	case 'u':
		if len(b) < 6 || b[2] != '0' || b[3] != '0' {
			return 0, 0
		}
		high, low := hexValue(b[4]), hexValue(b[5])
		if high > 1 || low > 15 {
			return 0, 0
		}
		decoded = high<<4 | low
		if got := appendEscape(nil, decoded); len(got) != 6 {
			return 0, 0
		}
		return decoded, 6
	}
	return 0, 0
}

// hexValue is the value of a lowercase hex digit, 255 for any other byte.
func hexValue(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return b - '0'
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10
	}
	return 255
}
