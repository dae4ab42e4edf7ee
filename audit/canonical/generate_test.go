// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/protobuf/encoding/protowire"
)

// generator turns bytes into a record. It writes OTLP protobuf itself, because
// pdata's own setters cannot make duplicate keys.
type generator struct{ rest []byte }

// awkward are strings where an encoder may go wrong.
var awkward = []string{
	"", "a", "audit.action", "audit.integrity.value", "audit.integrity.collector.tenant",
	"audit.integrity.chain.seq", "audit.integrity.hop.0.chain.seq", "audit.integrity.", "audit.integrity",
	"audit.integrity.collector.", "audit.integrity.chain", "audit.integrity/", "audit.zzz",
	"\"", "\\", "\b\f\n\r\t", "\x00\x1f", "\x7f", "<&>", "\u2028", "é", "\ue000", "\uffff", "😀", "\U0010ffff",
	"exactly8", "nine byte", "seventeen bytes!!", "quote in the\" middle",
}

// invalid are strings that are not UTF-8.
var invalid = []string{"\xff", "a\xffb", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80", "cut\xe2\x82"}

var awkwardDoubles = []uint64{
	0, 1 << 63, 1, 0x7fefffffffffffff, 0x444b1ae4d6e2ef50, 0x444b1ae4d6e2ef4f, 0x3eb0c6f7a0b5ed8c,
	0x3eb0c6f7a0b5ed8d, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xbecbf647612f3696,
}

func (g *generator) byte() byte {
	if len(g.rest) == 0 {
		return 0
	}
	b := g.rest[0]
	g.rest = g.rest[1:]
	return b
}

func (g *generator) uint64() uint64 {
	var b [8]byte
	g.rest = g.rest[copy(b[:], g.rest):]
	return binary.BigEndian.Uint64(b[:])
}

func (g *generator) text() string {
	n := int(g.byte())
	switch {
	case n == 255:
		return invalid[int(g.byte())%len(invalid)]
	case n >= 128:
		return awkward[n%len(awkward)]
	}
	var runes []rune
	for range n % 24 {
		runes = append(runes, rune(g.byte()))
	}
	return string(runes)
}

func (g *generator) double() uint64 {
	if n := int(g.byte()); n >= 16 {
		return math.Float64bits(float64(int64(g.uint64())) * math.Pow(10, float64(n%64-32)))
	}
	return awkwardDoubles[int(g.byte())%len(awkwardDoubles)]
}

func (g *generator) time() uint64 {
	switch g.byte() % 32 {
	case 0:
		return 0
	case 1:
		return math.MaxInt64
	case 2:
		return g.uint64() // the one that may be too late
	default:
		return g.uint64() >> 1
	}
}

// value writes an AnyValue; depth is how many containers may still follow.
func (g *generator) value(depth int) []byte {
	switch kind := g.byte() % 9; kind {
	case 0:
		return nil
	case 1:
		return stringField(nil, 1, g.text())
	case 2:
		return varintField(nil, 2, uint64(g.byte()&1))
	case 3:
		return varintField(nil, 3, g.uint64())
	case 4:
		return fixed64Field(nil, 4, g.double())
	case 7:
		return stringField(nil, 7, g.text())
	case 8:
		return g.nest(int(g.byte()) % 68)
	default:
		if depth == 0 {
			return nil
		}
		if kind == 5 {
			var values []byte
			for range g.byte() % 6 {
				values = bytesField(values, 1, g.value(depth-1))
			}
			return bytesField(nil, 5, values)
		}
		return bytesField(nil, 6, g.members(nil, 1, depth-1))
	}
}

// nest writes slices and maps inside one another.
func (g *generator) nest(levels int) []byte {
	var value []byte
	for i := range levels {
		if i%2 == 0 {
			value = bytesField(nil, 5, bytesField(nil, 1, value))
		} else {
			value = bytesField(nil, 6, bytesField(nil, 1, bytesField(stringField(nil, 1, "k"), 2, value)))
		}
	}
	return value
}

// members adds KeyValue messages in the given field.
func (g *generator) members(dst []byte, field protowire.Number, depth int) []byte {
	n := int(g.byte())
	if n < 250 {
		n %= 12
	}
	for range n {
		pair := stringField(nil, 1, g.text())
		dst = bytesField(dst, field, bytesField(pair, 2, g.value(depth)))
	}
	return dst
}

func (g *generator) record() []byte {
	b := fixed64Field(nil, 1, g.time())
	b = fixed64Field(b, 11, g.time())
	if g.byte()&1 != 0 {
		b = varintField(b, 2, g.uint64()) // beyond 32 bits it is cut, as protobuf asks
	}
	b = stringField(b, 3, g.text())
	b = bytesField(b, 5, g.value(3))
	b = g.members(b, 6, 3)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 8, protowire.Fixed32Type), uint32(g.byte()%3))
	if g.byte()&1 != 0 {
		b = bytesField(b, 9, append(make([]byte, 8), binary.BigEndian.AppendUint64(nil, g.uint64())...))
	}
	if g.byte()&1 != 0 {
		b = bytesField(b, 10, binary.BigEndian.AppendUint64(nil, g.uint64()))
	}
	return stringField(b, 12, g.text())
}

func (g *generator) request() []byte {
	record := g.record()
	scope := g.members(stringField(stringField(nil, 1, g.text()), 2, g.text()), 3, 2)
	scopeLogs := stringField(bytesField(bytesField(nil, 1, scope), 2, record), 3, g.text())
	resource := g.members(nil, 1, 2)
	resourceLogs := stringField(bytesField(bytesField(nil, 1, resource), 2, scopeLogs), 3, g.text())
	return bytesField(nil, 1, resourceLogs)
}

func generate(t *testing.T, seed []byte) plog.Logs {
	g := generator{rest: seed}
	logs, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(g.request())
	require.NoError(t, err)
	return logs
}

func bytesField(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

func stringField(b []byte, field protowire.Number, value string) []byte {
	return bytesField(b, field, []byte(value))
}

func varintField(b []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), value)
}

func fixed64Field(b []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), value)
}
