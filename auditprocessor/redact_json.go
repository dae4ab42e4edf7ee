// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/otelaudit/otelaudit/audit/canonical"
)

// JSON inside strings is scanned, not decoded: what need not be masked stays
// byte for byte what the sender wrote, numbers and white space included.

const (
	maxNestedJSON = 4  // JSON inside a string of JSON; deeper it is searched as text
	maxJSONDepth  = 64 // deeper it is searched as text
)

func looksLikeJSON(text string) bool {
	i := skipSpace(text, 0)
	return i < len(text) && (text[i] == '{' || text[i] == '[' || text[i] == '"')
}

func skipSpace(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	return i
}

// json collects the hits in a text of one or more JSON values. It returns
// false where the text is no JSON from some point on; what it found before
// that stays.
func (s *search) json(text string) bool {
	for i := skipSpace(text, 0); i < len(text); i = skipSpace(text, i) {
		end, ok := s.jsonAt(text, i)
		if !ok {
			return false
		}
		i = end
	}
	return true
}

// maxEmbedded bounds how often a text is tried as JSON in vain.
const maxEmbedded = 8

// embeddedJSON collects the hits in objects and arrays inside a text.
func (s *search) embeddedJSON(text string) {
	vain := 0
	for i := 0; i < len(text) && vain < maxEmbedded; i++ {
		if text[i] != '{' && text[i] != '[' {
			continue
		}
		if next := skipSpace(text, i+1); next == len(text) || strings.IndexByte(`"{[`, text[next]) < 0 {
			continue
		}
		if end, ok := s.jsonAt(text, i); ok {
			i = end - 1
		} else {
			vain++
		}
	}
}

// jsonAt is jsonValue that leaves the walk where it was.
func (s *search) jsonAt(text string, i int) (int, bool) {
	depth, paths := len(s.walker.at.steps), s.walker.paths
	end, ok := s.jsonValue(text, i, 0, false)
	s.walker.at.steps, s.walker.paths = s.walker.at.steps[:depth], paths
	return end, ok
}

// jsonValue scans the value at i and returns where it ends. inList is true for
// an element of an array.
func (s *search) jsonValue(text string, i, depth int, inList bool) (int, bool) {
	if i >= len(text) || depth > maxJSONDepth {
		return i, false
	}
	switch text[i] {
	case '{':
		return s.jsonObject(text, i, depth)
	case '[':
		return s.jsonArray(text, i, depth, inList)
	case '"':
		return s.jsonString(text, i)
	}
	return s.jsonScalar(text, i)
}

// jsonScalar scans a number or a literal.
func (s *search) jsonScalar(text string, i int) (int, bool) {
	end := runEnd(text, i, func(c byte) bool { return isAlphanumeric(c) || c == '+' || c == '-' || c == '.' })
	literal := text[i:end]
	switch literal {
	case "true", "false", "null":
		return end, true
	case "":
		return i, false
	}
	if !isDigit(literal[0]) && literal[0] != '-' {
		return i, false
	}
	if n := len(literal); n > minCard && n <= maxCard && s.r.detectors.Card && runEnd(literal, 0, isDigit) == n &&
		isCard([]byte(literal)) {
		s.maskJSON(i, end, ruleCard)
	}
	return end, true
}

// jsonString scans a string and redacts inside it.
func (s *search) jsonString(text string, i int) (int, bool) {
	value, end, ok := jsonText(text, i)
	if !ok {
		return i, false
	}
	if out, changed := s.redact(value); changed {
		s.hits = append(s.hits, hit{i, end, string(canonical.AppendString(nil, strings.ToValidUTF8(out, "\uFFFD"))), ruleNone})
	}
	return end, true
}

// jsonText decodes the string at i. A string without escapes costs nothing.
func jsonText(text string, i int) (value string, end int, ok bool) {
	if i >= len(text) || text[i] != '"' {
		return "", i, false
	}
	escaped := false
	for end = i + 1; end < len(text) && text[end] != '"'; end++ {
		if text[end] == '\\' {
			escaped = true
			end++
		}
	}
	if end >= len(text) {
		return "", i, false
	}
	end++
	if !escaped {
		return text[i+1 : end-1], end, true
	}
	decoded, err := jsontext.AppendUnquote(nil, text[i:end])
	return string(decoded), end, err == nil
}

// jsonPair is a value whose name stands in the member beside it.
type jsonPair struct {
	key        string
	start, end int
}

func (s *search) jsonObject(text string, i, depth int) (int, bool) {
	paths := s.walker.paths
	defer func() { s.walker.paths = paths }()
	var pairs []jsonPair
	secretPair := false
	for first := true; ; first = false {
		i = skipSpace(text, i+1)
		if first && i < len(text) && text[i] == '}' {
			return i + 1, true
		}
		key, keyEnd, ok := jsonText(text, i)
		colon := skipSpace(text, keyEnd)
		if !ok || colon >= len(text) || text[colon] != ':' {
			return i, false
		}
		start := skipSpace(text, colon+1)
		info, _ := s.walker.cache.lookup(key)
		end, ok := s.jsonMember(text, i, keyEnd, start, depth, key, info, paths)
		if !ok {
			return i, false
		}
		if info.flags&keyValuesPair != 0 {
			pairs = append(pairs, jsonPair{key, start, end})
		}
		secretPair = secretPair || info.flags&keyNamesPair != 0 && s.namesSecret(text, start)
		if i = skipSpace(text, end); i >= len(text) {
			return i, false
		}
		if text[i] == '}' {
			break
		}
		if text[i] != ',' {
			return i, false
		}
	}
	if secretPair {
		s.maskJSONPairs(text, pairs)
	}
	return i + 1, true
}

// namesSecret says whether the value at i is a string that is a sensitive
// name.
func (s *search) namesSecret(text string, i int) bool {
	name, _, ok := jsonText(text, i)
	return ok && s.walker.isSecretName(name)
}

func (s *search) maskJSONPairs(text string, pairs []jsonPair) {
	for _, pair := range pairs {
		s.walker.at.push(pair.key)
		if s.isMaskable(text[pair.start:pair.end]) {
			s.maskJSON(pair.start, pair.end, rulePair)
		}
		s.walker.at.pop()
	}
}

// jsonMember scans one member: its name is text[keyStart:keyEnd], its value
// begins at start.
func (s *search) jsonMember(
	text string, keyStart, keyEnd, start, depth int, key string, info keyInfo, paths []string,
) (int, bool) {
	w := s.walker
	w.at.push(key)
	defer w.at.pop()
	if info.flags&keyIsSecret != 0 {
		masked := w.maskedKey(key)
		w.at.rename(masked)
		w.marks.redact(w.at.String(), ruleKey)
		s.hits = append(s.hits, hit{keyStart, keyEnd, string(canonical.AppendString(nil, strings.ToValidUTF8(masked, "\uFFFD"))), ruleNone})
	}
	by := info.rule
	if len(paths) > 0 {
		if w.matches(paths, key) {
			by = rulePath
		}
		w.paths = w.under(paths, key)
	}
	isContainer := start < len(text) && (text[start] == '{' || text[start] == '[')
	if by == ruleNone && (isContainer || info.flags&keyIgnored == 0) {
		return s.jsonValue(text, start, depth+1, false)
	}
	end, ok := skipJSON(text, start)
	if ok && by != ruleNone && s.isMaskable(text[start:end]) {
		s.maskJSON(start, end, by)
	}
	return end, ok
}

// isMaskable says whether a value holds anything.
func (s *search) isMaskable(value string) bool {
	return value != "null" && value != `""` && value != s.r.quoted
}

func (s *search) maskJSON(start, end int, by rule) {
	s.walker.marks.redact(s.walker.at.String(), by)
	s.hits = append(s.hits, hit{start, end, s.r.quoted, ruleNone})
}

func (s *search) jsonArray(text string, i, depth int, inList bool) (int, bool) {
	paths := s.walker.paths
	defer func() { s.walker.paths = paths }()
	var second jsonPair // of ["Authorization", "…"] in a list
	firstSecret, flagBefore := false, false
	count := 0
	for ; ; count++ {
		i = skipSpace(text, i+1)
		if count == 0 && i < len(text) && text[i] == ']' {
			return i + 1, true
		}
		end, ok := s.jsonElement(text, i, count, depth, paths, flagBefore)
		if !ok {
			return i, false
		}
		flagBefore = s.isSecretFlag(text, i)
		switch count {
		case 0:
			firstSecret = inList && s.namesSecret(text, i)
		case 1:
			second = jsonPair{"[1]", i, end}
		}
		if i = skipSpace(text, end); i >= len(text) {
			return i, false
		}
		if text[i] == ']' {
			break
		}
		if text[i] != ',' {
			return i, false
		}
	}
	if firstSecret && count == 1 {
		s.maskJSONPairs(text, []jsonPair{second})
	}
	return i + 1, true
}

func (s *search) jsonElement(text string, i, index, depth int, paths []string, secret bool) (int, bool) {
	w := s.walker
	w.at.pushIndex(index)
	defer w.at.pop()
	by := ruleNone
	if secret {
		by = rulePair
	}
	if len(paths) > 0 {
		name := strconv.Itoa(index)
		if w.matches(paths, name) {
			by = rulePath
		}
		w.paths = w.under(paths, name)
	}
	if by == ruleNone {
		return s.jsonValue(text, i, depth+1, true)
	}
	end, ok := skipJSON(text, i)
	if ok && s.isMaskable(text[i:end]) {
		s.maskJSON(i, end, by)
	}
	return end, ok
}

// isSecretFlag says whether the element at i is a sensitive flag of a command
// line, whose value is the next element.
func (s *search) isSecretFlag(text string, i int) bool {
	flag, _, ok := jsonText(text, i)
	return ok && len(flag) > 2 && flag[0] == '-' && !strings.ContainsAny(flag, "= ") && s.walker.isSecretName(flag)
}

// skipJSON returns where the value at i ends without looking inside. It finds
// the end of every sound value; of an unsound one it may find another end, and
// masks more or less of what is masked anyway.
func skipJSON(text string, i int) (int, bool) {
	depth := 0
	for i < len(text) {
		switch text[i] {
		case '"':
			_, end, ok := jsonText(text, i)
			if !ok {
				return i, false
			}
			i = end
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			i++
			continue
		default:
			end := runEnd(text, i, func(c byte) bool { return strings.IndexByte("{}[],:\" \t\r\n", c) < 0 })
			i = end
		}
		if depth <= 0 {
			return i, depth == 0
		}
	}
	return i, false
}
