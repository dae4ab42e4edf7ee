// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"

	"github.com/otelaudit/otelaudit/audit/canonical"
)

// The functions below walk JSON that audit.EncodeEvent wrote: valid, without
// white space, one spelling for each string. They do not check it.

// eachMember calls visit with each member of an object: its name as it is
// written, without quotes, and its value.
func eachMember(object []byte, visit func(name, raw []byte)) {
	rest := object[1:]
	for rest[0] != '}' {
		n := stringSize(rest)
		name := rest[1 : n-1]
		rest = rest[n+1:]
		n = valueSize(rest)
		visit(name, rest[:n])
		rest = rest[n:]
		if rest[0] == ',' {
			rest = rest[1:]
		}
	}
}

// eachElement calls visit with each element of an array.
func eachElement(array []byte, visit func(raw []byte)) {
	rest := array[1:]
	for rest[0] != ']' {
		n := valueSize(rest)
		visit(rest[:n])
		rest = rest[n:]
		if rest[0] == ',' {
			rest = rest[1:]
		}
	}
}

// valueSize returns how long the value at the start of text is.
func valueSize(text []byte) int {
	switch text[0] {
	case '"':
		return stringSize(text)
	case '{', '[':
		return containerSize(text)
	}
	return bytes.IndexAny(text, ",]}")
}

func containerSize(text []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch text[i] {
		case '"':
			i += stringSize(text[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}

// stringSize returns how long the string at the start of text is, with quotes.
func stringSize(text []byte) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// unquote returns the value of a string. It may alias raw.
func unquote(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	text, _, err := canonical.CutString(raw)
	if err != nil {
		panic(err) // EncodeEvent writes strings in the one canonical spelling
	}
	return []byte(text)
}

// appendTexts appends texts as a JSON array of strings.
func appendTexts(dst []byte, texts [][]byte) []byte {
	dst = append(dst, '[')
	for i, text := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = canonical.AppendString(dst, string(text))
	}
	return append(dst, ']')
}
