// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
)

var updateLines = flag.Bool("update-lines", false, "write the vector files of stored lines anew")

const lineVectors = "testdata/vectors/line"

const lineOrigin = "host-1/00112233445566aa/20261123T090700Z-0123abcd"

func lineEvent(stream string, sealedAt int64) []byte {
	event := []byte(`{"record":{"event_name":"user.login"}}`)
	link := chain.Link{Origin: lineOrigin, Index: 7, Stream: stream, Seq: 3, SealedAt: sealedAt, Prev: sha256.Sum256(nil), Digest: sha256.Sum256(event)}
	return audit.AppendEvent(nil, &link, link.Hash(), event)
}

func lineStub() []byte {
	link := chain.Link{Origin: lineOrigin, Stream: "none:", Seq: 1, SealedAt: 1, Digest: sha256.Sum256([]byte("gone"))}
	return audit.AppendStub(nil, &link, link.Hash())
}

func lineCheckpoint(hashes ...chain.Hash) []byte {
	return audit.AppendCheckpoint(nil, []byte("text\n\n— name c2ln\n"), hashes)
}

// goodLines are lines that an encoder writes.
func goodLines() map[string][]byte {
	return map[string][]byte{
		"event":             lineEvent("tenant:acme", 1_800_000_000_000_000_000),
		"event-before-1970": lineEvent("tenant:acme", -1),
		"event-first-time":  lineEvent("tenant:acme", math.MinInt64),
		"event-escapes":     lineEvent("tenant:a\"\\\b\t\n\f\r\x01Zoë\u2028😀", 1),
		"stub":              lineStub(),
		"checkpoint":        lineCheckpoint(sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))),
		"checkpoint-empty":  lineCheckpoint(),
	}
}

// badLines are lines that no encoder writes.
func badLines() map[string]string {
	event, stub, point := string(lineEvent("tenant:acme", 1)), string(lineStub()), string(lineCheckpoint(sha256.Sum256(nil)))
	change := func(line, old, new string) string { return strings.Replace(line, old, new, 1) }
	return map[string]string{
		"empty":                 "",
		"other-object":          `{}`,
		"space":                 change(event, `,"event"`, `, "event"`),
		"cut":                   event[:len(event)-2],
		"extra-member":          event[:len(event)-1] + `,"x":1}`,
		"event-no-object":       change(event, `"event":{`, `"event":[`),
		"index-number":          change(event, `"index":"7"`, `"index":7`),
		"index-zero-in-front":   change(event, `"index":"7"`, `"index":"07"`),
		"index-negative":        change(event, `"index":"7"`, `"index":"-7"`),
		"index-too-large":       change(event, `"index":"7"`, `"index":"18446744073709551616"`),
		"sealed-at-minus-zero":  change(event, `"sealed_at":"1"`, `"sealed_at":"-0"`),
		"sealed-at-too-large":   change(event, `"sealed_at":"1"`, `"sealed_at":"9223372036854775808"`),
		"sealed-at-too-small":   change(event, `"sealed_at":"1"`, `"sealed_at":"-9223372036854775809"`),
		"hash-uppercase":        change(event, `"prev":"e`, `"prev":"E`),
		"hash-cut":              change(event, `"prev":"e3`, `"prev":"`),
		"members-swapped":       change(event, `"index":"7","origin":"`+lineOrigin+`"`, `"origin":"`+lineOrigin+`","index":"7"`),
		"escape-not-needed":     change(event, `tenant:acme`, `tenant:\u0061cme`),
		"escape-slash":          change(event, `tenant:acme`, `tenant:\/acme`),
		"stream-not-utf8":       change(event, `tenant:acme`, "tenant:\xff"),
		"stream-too-long":       change(event, `tenant:acme`, strings.Repeat("s", chain.MaxName+1)),
		"stub-other-reason":     change(stub, `"gone":"quarantined"`, `"gone":"lost"`),
		"stub-extra":            stub + "}",
		"checkpoint-extra":      change(point, `]}`, `],"x":1}`),
		"checkpoint-comma":      change(point, `"]}`, `",]}`),
		"checkpoint-range-long": string(lineCheckpoint(make([]chain.Hash, 65)...)),
		"checkpoint-not-string": change(point, `"checkpoint":"`, `"checkpoint":1"`),
	}
}

func writeLineVectors(t *testing.T) {
	t.Helper()
	require.NoError(t, os.MkdirAll(lineVectors, 0o755))
	write := func(name, expect, line string) {
		text := strings.TrimRight("expect: "+expect+"\nline: "+line, " ") + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(lineVectors, name+".txt"), []byte(text), 0o644))
	}
	for name, line := range goodLines() {
		write(name, strings.SplitN(name, "-", 2)[0], string(line))
	}
	for name, line := range badLines() {
		write("bad-"+name, "malformed", line)
	}
}

func TestLineVectors(t *testing.T) {
	if *updateLines {
		writeLineVectors(t)
	}
	paths, err := filepath.Glob(filepath.Join(lineVectors, "*.txt"))
	require.NoError(t, err)
	require.Len(t, paths, len(goodLines())+len(badLines()), "a vector is missing or has no case here")
	kinds := map[string]audit.LineKind{"event": audit.LineEvent, "stub": audit.LineStub, "checkpoint": audit.LineCheckpoint}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			expect, rest, ok := strings.Cut(strings.TrimPrefix(string(text), "expect: "), "\n")
			require.True(t, ok)
			stored := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(rest, "line:"), " "), "\n")
			line, err := audit.ParseLine([]byte(stored))
			if expect == "malformed" {
				require.ErrorIs(t, err, audit.ErrMalformed)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, kinds[expect], line.Kind)
			assert.Equal(t, stored, string(encodeLine(&line)))
			if line.Kind == audit.LineEvent {
				line.Link.Digest = sha256.Sum256(line.Event)
			}
			if line.Kind != audit.LineCheckpoint {
				assert.Equal(t, line.Link.Hash(), line.Hash)
			}
		})
	}
}

// encodeLine writes a parsed line again.
func encodeLine(line *audit.Line) []byte {
	switch line.Kind {
	case audit.LineEvent:
		return audit.AppendEvent(nil, &line.Link, line.Hash, line.Event)
	case audit.LineStub:
		return audit.AppendStub(nil, &line.Link, line.Hash)
	default:
		return audit.AppendCheckpoint(nil, line.Note, line.Range)
	}
}

func TestParseLineKeepsTheEvent(t *testing.T) {
	text := lineEvent("tenant:acme", 5)
	line, err := audit.ParseLine(text)
	require.NoError(t, err)
	assert.Equal(t, `{"record":{"event_name":"user.login"}}`, string(line.Event))
	assert.True(t, bytes.HasSuffix(text, append(line.Event, '}')))
	assert.Equal(t, lineOrigin, line.Link.Origin)
	assert.EqualValues(t, 7, line.Link.Index)
	assert.EqualValues(t, 3, line.Link.Seq)
	assert.EqualValues(t, 5, line.Link.SealedAt)
}

func FuzzParseLine(f *testing.F) {
	for _, line := range goodLines() {
		f.Add(line)
	}
	for _, line := range badLines() {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		line, err := audit.ParseLine(text)
		if err != nil {
			require.ErrorIs(t, err, audit.ErrMalformed)
			return
		}
		require.Equal(t, string(text), string(encodeLine(&line)))
	})
}

func BenchmarkParseLine(b *testing.B) {
	line := lineEvent("tenant:acme", 1_800_000_000_000_000_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := audit.ParseLine(line); err != nil {
			b.Fatal(err)
		}
	}
}
