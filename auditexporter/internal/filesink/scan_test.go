// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLocate(t *testing.T) {
	m := newMaker()
	m.records(12)
	record, checkpoint := m.record(), m.checkpoint()
	l := newLocator(testOrigin)
	at, ok := l.locate(appendLine(nil, &record))
	assert.True(t, ok)
	assert.Equal(t, coordinate{false, 12}, at)
	at, ok = l.locate(appendLine(nil, &checkpoint))
	assert.True(t, ok)
	assert.Equal(t, coordinate{true, 13}, at)

	other := newLocator(otherOrigin)
	_, ok = other.locate(appendLine(nil, &record))
	assert.False(t, ok, "a line of another origin")
	_, ok = other.locate(appendLine(nil, &checkpoint))
	assert.False(t, ok, "a checkpoint of another origin")

	big := record
	big.Link.Index = math.MaxUint64
	line := string(appendLine(nil, &big))
	at, ok = l.locate([]byte(line))
	assert.True(t, ok)
	assert.Equal(t, uint64(math.MaxUint64), at.number)
	_, ok = l.locate([]byte(strings.Replace(line, "18446744073709551615", "18446744073709551616", 1)))
	assert.False(t, ok, "more than a uint64")
}

func FuzzLocate(f *testing.F) {
	m := newMaker()
	e, c := m.record(), m.checkpoint()
	f.Add(appendLine(nil, &e))
	f.Add(appendLine(nil, &c))
	l := newLocator(testOrigin)
	f.Fuzz(func(t *testing.T, line []byte) {
		at, ok := l.locate(line)
		kind, sound := soundLine(line)
		if ok && sound && at.checkpoint != (kind == 1) {
			t.Fatalf("located a %v in a line of kind %d", at, kind)
		}
	})
}

func TestLineReader(t *testing.T) {
	long := strings.Repeat("y", 2*readSize+5)
	text := "a\n\nbc\n" + long + "\nend"
	lines := newLineReader(strings.NewReader(text), 2, int64(len(text)))
	var got []string
	for {
		line, start, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.Equal(t, text[start:start+int64(len(line))], string(line))
		got = append(got, string(line))
	}
	assert.Equal(t, []string{"\n", "bc\n", long + "\n", "end"}, got)
}

// A line that no sink wrote costs bounded memory and is not sound.
func TestEndlessLine(t *testing.T) {
	text := append(bytes.Repeat([]byte("z"), maxLine+10), "\nnext\n"...)
	lines := newLineReader(bytes.NewReader(text), 0, int64(len(text)))
	line, _, err := lines.next()
	require.NoError(t, err)
	assert.LessOrEqual(t, len(line), maxLine)
	_, sound := soundLine(line)
	assert.False(t, sound)
	line, start, err := lines.next()
	require.NoError(t, err)
	assert.Equal(t, "next\n", string(line))
	assert.EqualValues(t, maxLine+11, start)
}

func TestNames(t *testing.T) {
	for _, first := range []uint64{0, 7, math.MaxUint64} {
		got, ok := parseName(fileName(first), ".jsonl")
		assert.True(t, ok)
		assert.Equal(t, first, got)
	}
	for _, name := range []string{
		"", "0.jsonl", "lock", "00000000000000000000.jsonl.gz", "+0000000000000000001.jsonl",
		"99999999999999999999.jsonl", "00000000000000000001.tmp",
	} {
		_, ok := parseName(name, ".jsonl")
		assert.False(t, ok, name)
	}
}
