// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// pushAttributes puts the sorted attributes of a record on the empty stack.
func (e *Encoder) pushAttributes(attributes pcommon.Map) {
	wide := e.push(attributes)
	// Records of one kind tend to carry the same attributes in the same order:
	// the last record's permutation mostly sorts this one.
	if len(e.lastTop) == len(e.order) {
		copy(e.order, e.lastTop)
	}
	sortFields(e.order, e.fields, wide)
	e.lastTop = append(e.lastTop[:0], e.order...)
}

// push puts the members of m on the stack, unsorted. wide says that their order
// may differ from that of their bytes.
func (e *Encoder) push(m pcommon.Map) (wide bool) {
	n := int32(0)
	for key, value := range m.All() {
		plain := isPlain(key)
		wide = wide || !plain
		e.fields = append(e.fields, field{key: key, value: value, plain: plain})
		e.order = append(e.order, n)
		n++
	}
	return wide
}

func (e *Encoder) pop(base int) {
	clear(e.fields[base:])
	e.fields = e.fields[:base]
	e.order = e.order[:base]
}

// release forgets the record.
func (e *Encoder) release() {
	e.pop(0)
	if cap(e.fields) > maxScratch {
		e.fields, e.order, e.lastTop = nil, nil, nil
	}
}

// integrityRange finds, in the record's sorted attributes, those of the
// integrity namespace: keys with a common prefix stand together.
func (e *Encoder) integrityRange() (first, last int) {
	return e.searchPrefix(0, len(e.fields), prefixIntegrity)
}

func (e *Encoder) prefixRange(first, last int, prefix string) Span {
	first, last = e.searchPrefix(first, last, prefix)
	return Span{first, last}
}

func (e *Encoder) searchPrefix(first, last int, prefix string) (int, int) {
	end := last
	for first < last {
		middle := int(uint(first+last) >> 1)
		if compareKeys(e.fields[e.order[middle]].key, prefix) < 0 {
			first = middle + 1
		} else {
			last = middle
		}
	}
	for last < end && strings.HasPrefix(e.fields[e.order[last]].key, prefix) {
		last++
	}
	return first, last
}

// maxInsertion is the largest map that is sorted by insertion, which is fastest
// where little is out of place.
const maxInsertion = 32

// sortFields sorts order, a permutation of fields, by key, equal keys by
// position. wide asks for UTF-16 order.
func sortFields(order []int32, fields []field, wide bool) {
	if wide || len(order) > maxInsertion {
		slices.SortFunc(order, func(a, b int32) int {
			if c := compareKeys(fields[a].key, fields[b].key); c != 0 {
				return c
			}
			return int(a) - int(b)
		})
		return
	}
	for i := 1; i < len(order); i++ {
		moved := order[i]
		j := i
		for ; j > 0; j-- {
			c := strings.Compare(fields[order[j-1]].key, fields[moved].key)
			if c < 0 || c == 0 && order[j-1] < moved {
				break
			}
			order[j] = order[j-1]
		}
		order[j] = moved
	}
}

// compareKeys compares by UTF-16 code units (RFC 8785 section 3.2.3). UTF-8
// bytes have the same order but for one thing: characters above U+FFFF, whose
// first byte is 0xf0 or more, come before U+E000 to U+FFFF, whose first byte is
// 0xee or 0xef, because their surrogates do.
func compareKeys(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x >= 0xee && y >= 0xee && (x >= 0xf0) != (y >= 0xf0) {
			x, y = y, x
		}
		return int(x) - int(y)
	}
	return len(a) - len(b)
}
