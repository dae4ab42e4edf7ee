// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import "strings"

// findAssignments finds what a text itself says is sensitive: name=value and
// name: value in queries, forms, connection strings, headers, logs and
// fragments of JSON, --name value of command lines, and <name>value</name>.
func (s *search) findAssignments(text string, classes byteClass) {
	if classes&(classEqual|classColon|classGreater) != 0 {
		for i := 1; i < len(text); i++ {
			switch byteClasses[text[i]] {
			case classEqual, classColon:
				i = max(i, s.assignment(text, i))
			case classGreater:
				i = max(i, s.element(text, i))
			}
		}
	}
	if classes&classDash != 0 && classes&classSpace != 0 {
		s.findFlags(text)
	}
}

// assignment masks the value behind the sign at i if the name in front of it
// is sensitive. It returns where to go on.
func (s *search) assignment(text string, i int) int {
	if i+1 == len(text) || strings.HasPrefix(text[i:], "://") || strings.HasPrefix(text[i:], "::") {
		return i
	}
	name, start := nameBefore(text, i)
	if name == "" {
		return i
	}
	info, secret := s.isSecretName(name)
	if !secret {
		if name = withWordBefore(text, name, start); name == "" {
			return i
		}
		if info, secret = s.isSecretName(name); !secret {
			return i
		}
	}
	valueStart := skipSign(text, i)
	if valueStart == i+1 && text[i] == ':' && isPartOfName(text, start, valueStart) {
		return i
	}
	end := assignedEnd(text, valueStart, info.flags&keyLine != 0)
	valueStart, end = insideQuotes(text, valueStart, end)
	if end > valueStart && text[valueStart:end] != s.r.mask {
		s.add(valueStart, end, ruleAssignment)
	}
	return end - 1
}

const maxNameBefore = 64

// nameBefore returns the name that ends before the sign at i, without the
// quotes, brackets and spaces between.
func nameBefore(text string, i int) (string, int) {
	end := i
	for limit := max(0, i-maxNested); end > limit && strings.IndexByte(" \t\"'`\\]", text[end-1]) >= 0; {
		end--
	}
	start := end
	for limit := max(0, end-maxNameBefore); start > limit && isNameByte(text[start-1]); {
		start--
	}
	for start < end && charClass(text[start]) != charLower && charClass(text[start]) != charUpper {
		start++
	}
	if start == end {
		return "", start
	}
	return text[start:end], start
}

// maxNested bounds the quotes, brackets and backslashes around a name: JSON
// inside JSON inside a log line.
const maxNested = 16

func isNameByte(c byte) bool {
	return isAlphanumeric(c) || c == '_' || c == '-' || c == '.'
}

// withWordBefore joins `key` or `code` with the word in front: "api key: …".
func withWordBefore(text, name string, start int) string {
	switch strings.ToLower(name) {
	case "key", "keys", "code", "codes", "number", "string", "phrase":
	default:
		return ""
	}
	if start < 2 || text[start-1] != ' ' {
		return ""
	}
	first := start - 1
	for limit := max(0, first-maxNameBefore); first > limit && isNameByte(text[first-1]); {
		first--
	}
	return text[first:start] + name
}

// skipSign returns where the value begins behind `=`, `:`, `:=` or `=>`.
func skipSign(text string, i int) int {
	i++
	if i < len(text) && (text[i] == '=' || text[i] == '>') {
		i++
	}
	for limit := i + maxNested; i < len(text) && i < limit && (text[i] == ' ' || text[i] == '\t'); {
		i++
	}
	return i
}

// permissions are what stands behind the colon of "secrets:read".
var permissions = setOf(`read write list get create delete update admin manage view use rotate revoke watch patch * any`)

// isPartOfName says whether a colon without a space behind it is part of a
// name (arn:…:secret:name) or a permission (secrets:read).
func isPartOfName(text string, start, valueStart int) bool {
	if start > 0 && text[start-1] == ':' {
		return true
	}
	end := runEnd(text, valueStart, func(c byte) bool { return isNameByte(c) || c == '*' })
	return permissions[text[valueStart:end]]
}

// assignedEnd returns where the value that begins at i ends.
func assignedEnd(text string, i int, line bool) int {
	if quote := quoteAt(text, i); quote != "" {
		return quotedEnd(text, i+len(quote), quote)
	}
	if line {
		if end := strings.IndexAny(text[i:], "\r\n\"'<"); end >= 0 {
			return i + end
		}
		return len(text)
	}
	if i < len(text) && (text[i] == '[' || text[i] == '{') {
		return bracketEnd(text, i)
	}
	end := wordEnd(text, i)
	for _, scheme := range schemes { // Bearer <token>: two words
		if strings.EqualFold(text[i:end], scheme) && end < len(text) && text[end] == ' ' {
			return wordEnd(text, end+1)
		}
	}
	return end
}

// quoteAt returns the quote at i with the backslashes in front of it, which
// its partner has as well.
func quoteAt(text string, i int) string {
	end := i
	for end < len(text) && end-i < maxNested && text[end] == '\\' {
		end++
	}
	if end < len(text) && strings.IndexByte("\"'`", text[end]) >= 0 {
		return text[i : end+1]
	}
	return ""
}

// quotedEnd returns where the quoted value that begins at i ends, its quote
// included. A quote with more backslashes than the first one had is part of
// the value: \" behind ", and \\\" behind \".
func quotedEnd(text string, i int, quote string) int {
	start, escapes := i, len(quote)-1
	for ; i < len(text); i++ {
		if text[i] != quote[escapes] {
			continue
		}
		first := i
		for first > start && text[first-1] == '\\' {
			first--
		}
		if (i-first)%(2*len(quote)) == escapes {
			return i + 1
		}
	}
	return len(text)
}

// insideQuotes leaves the quotes around a value where they are.
func insideQuotes(text string, start, end int) (int, int) {
	quote := quoteAt(text, start)
	if quote == "" {
		return start, end
	}
	start += len(quote)
	if end-len(quote) >= start && strings.HasSuffix(text[:end], quote) {
		end -= len(quote)
	}
	return start, end
}

func bracketEnd(text string, i int) int {
	depth := 0
	for ; i < len(text); i++ {
		switch text[i] {
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return i
}

// wordEnd returns where an unquoted value ends.
func wordEnd(text string, i int) int {
	for ; i < len(text); i++ {
		switch text[i] {
		case ' ', '\t', '\r', '\n', '&', ';', '"', '\'', '<', '>', '}', ']', ')', '|':
			return i
		case '\\':
			if i+1 < len(text) && strings.IndexByte("\"'nrt", text[i+1]) >= 0 {
				return i
			}
		case ',':
			if endsItem(text, i+1) {
				return i
			}
		}
	}
	return i
}

// endsItem says whether a comma in front of i separates items: what follows is
// the end, a space, a quote, or another name with its sign.
func endsItem(text string, i int) bool {
	if i == len(text) || strings.IndexByte(" \t\r\n\"'{[", text[i]) >= 0 {
		return true
	}
	end := runEnd(text, i, isNameByte)
	return end > i && end < len(text) && (text[end] == '=' || text[end] == ':')
}

const maxTag = 128

// element masks the text of an XML element: the tag ends at i.
func (s *search) element(text string, i int) int {
	open := strings.LastIndexByte(text[max(0, i-maxTag):i], '<')
	if open < 0 {
		return i
	}
	start := max(0, i-maxTag) + open + 1
	end := runEnd(text, start, func(c byte) bool { return isNameByte(c) || c == ':' })
	name := text[start:end]
	if local := strings.LastIndexByte(name, ':'); local >= 0 {
		name = name[local+1:]
	}
	if name == "" || text[i-1] == '/' {
		return i
	}
	if _, secret := s.isSecretName(name); !secret {
		return i
	}
	stop := len(text)
	if next := strings.Index(text[i+1:], "</"); next >= 0 {
		stop = i + 1 + next
	}
	if strings.TrimSpace(text[i+1:stop]) != "" && text[i+1:stop] != s.r.mask {
		s.add(i+1, stop, ruleAssignment)
	}
	return stop - 1
}

// findFlags masks the word behind a sensitive --name.
func (s *search) findFlags(text string) {
	for from := 0; ; {
		i := strings.Index(text[from:], "--")
		if i < 0 {
			return
		}
		start := from + i + 2
		end := runEnd(text, start, isNameByte)
		from = max(end, start)
		if end == start || end-start > maxNameBefore || end+1 >= len(text) || text[end] != ' ' || text[end+1] == '-' {
			continue
		}
		if _, secret := s.isSecretName(text[start:end]); !secret {
			continue
		}
		stop := assignedEnd(text, end+1, false)
		valueStart, valueEnd := insideQuotes(text, end+1, stop)
		if valueEnd > valueStart && text[valueStart:valueEnd] != s.r.mask {
			s.add(valueStart, valueEnd, ruleAssignment)
		}
		from = stop
	}
}
