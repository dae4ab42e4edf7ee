// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Difference returns the name of the first derived column in which two rows
// differ, "" if there is none. JSON is compared by what it says.
func (r *Row) Difference(other *Row) string {
	for i := range columns {
		if !r.values[i].equal(&other.values[i], columns[i].kind) {
			return columns[i].name
		}
	}
	return ""
}

func (v *value) equal(other *value, k kind) bool {
	if v.valid != other.valid || !v.valid {
		return v.valid == other.valid
	}
	switch k {
	case kindText:
		return bytes.Equal(v.text, other.text)
	case kindTexts:
		return slices.EqualFunc(v.texts, other.texts, bytes.Equal)
	case kindJSON:
		return equalJSON(v.text, other.text)
	}
	return v.number == other.number
}

func equalJSON(a, b []byte) bool {
	valueA, okA := parseJSON(a)
	valueB, okB := parseJSON(b)
	return okA && okB && sameJSON(valueA, valueB)
}

func parseJSON(text []byte) (parsed any, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return parsed, decoder.Decode(&parsed) == nil
}

func sameJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, sameJSON)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, sameJSON)
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || newDecimal(string(a)) == newDecimal(string(b)))
	}
	return a == b
}

// decimal is the value of a JSON number: digits, without zeros at either end,
// times 10 to the exponent. The database spells numbers without exponents.
type decimal struct {
	negative bool
	digits   string
	exponent int
}

func newDecimal(text string) decimal {
	var d decimal
	text, d.negative = strings.CutPrefix(text, "-")
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		exponent, err := strconv.Atoi(text[at+1:])
		if err != nil { // out of any reach: equal to its own spelling only
			return decimal{d.negative, text, 0}
		}
		text, d.exponent = text[:at], exponent
	}
	whole, fraction, _ := strings.Cut(text, ".")
	d.exponent -= len(fraction)
	d.digits = strings.TrimLeft(whole+fraction, "0")
	significant := strings.TrimRight(d.digits, "0")
	d.exponent += len(d.digits) - len(significant)
	if d.digits = significant; d.digits == "" {
		return decimal{}
	}
	return d
}
