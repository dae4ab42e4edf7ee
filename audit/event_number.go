// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"math"
	"strconv"
)

// number is the value of a JSON number: an int64 if it is one, else a float64.
type number struct {
	isInt bool
	int   int64
	float float64
}

// parseNumber reads a JSON number without changing its value: it is an int64,
// or it equals the shortest decimal of its float64. Any other number would be
// stored as another value, so that ok is false. text must be valid JSON.
func parseNumber(text []byte) (n number, ok bool) {
	if i, isInt := plainInt(text); isInt {
		return number{isInt: true, int: i}, true
	}
	var space [64]byte
	exact, ok := parseDecimal(space[:0], text)
	if !ok {
		return number{}, false
	}
	if i, isInt := exact.int64(); isInt {
		return number{isInt: true, int: i}, true
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsInf(f, 0) {
		return number{}, false
	}
	var spaceShortest, textShortest [64]byte
	shortest, ok := parseDecimal(spaceShortest[:0], strconv.AppendFloat(textShortest[:0], f, 'e', -1, 64))
	if !ok || !exact.equal(&shortest) {
		return number{}, false
	}
	return number{float: f}, true
}

// plainInt reads the common case: at most 18 digits and nothing else.
func plainInt(text []byte) (value int64, ok bool) {
	digits := text
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	for _, b := range digits {
		if b < '0' || b > '9' {
			return 0, false
		}
		value = value*10 + int64(b-'0')
	}
	if len(digits) < len(text) {
		value = -value
	}
	return value, true
}

// decimal is the number ±digits × 10^exponent. Digits neither begin nor end
// with a zero; zero has none, no sign and exponent 0.
type decimal struct {
	negative bool
	digits   []byte
	exponent int64
}

// maxExponent bounds a decimal's exponent far outside what float64 holds, so
// that sums cannot overflow.
const maxExponent = 1 << 32

// parseDecimal reads a JSON number, appending its digits to space. ok is false
// if its exponent is out of any reach.
func parseDecimal(space, text []byte) (d decimal, ok bool) {
	d.digits = space
	i := 0
	if len(text) > 0 && text[0] == '-' {
		d.negative, i = true, 1
	}
	fraction := false
	for ; i < len(text) && text[i] != 'e' && text[i] != 'E'; i++ {
		if text[i] == '.' {
			fraction = true
			continue
		}
		if fraction {
			d.exponent--
		}
		if text[i] != '0' || len(d.digits) > 0 {
			d.digits = append(d.digits, text[i])
		}
	}
	for len(d.digits) > 0 && d.digits[len(d.digits)-1] == '0' {
		d.digits = d.digits[:len(d.digits)-1]
		d.exponent++
	}
	if len(d.digits) == 0 {
		return decimal{}, true
	}
	if i < len(text) {
		exponent, err := strconv.ParseInt(string(text[i+1:]), 10, 64)
		if err != nil || exponent > maxExponent || exponent < -maxExponent {
			return decimal{}, false
		}
		d.exponent += exponent
	}
	return d, true
}

func (d *decimal) equal(other *decimal) bool {
	return d.negative == other.negative && d.exponent == other.exponent && string(d.digits) == string(other.digits)
}

// int64 returns the value of d if it is one.
func (d *decimal) int64() (int64, bool) {
	const most = 19 // digits of the largest int64
	if d.exponent < 0 || d.exponent > most || len(d.digits)+int(d.exponent) > most {
		return 0, false
	}
	text := make([]byte, 0, most+1)
	if d.negative {
		text = append(text, '-')
	}
	text = append(text, d.digits...)
	for range d.exponent {
		text = append(text, '0')
	}
	if len(d.digits) == 0 {
		text = append(text, '0')
	}
	value, err := strconv.ParseInt(string(text), 10, 64)
	return value, err == nil
}
