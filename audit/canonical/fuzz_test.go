// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/gowebpki/jcs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

func encode(logs plog.Logs) ([]byte, Span, error) {
	var e Encoder
	if err := setGroup(&e, logs); err != nil {
		return nil, Span{}, err
	}
	return e.Append(nil, firstRecord(logs))
}

// checkAgainstReference says whether logs have a canonical form, and checks
// everything that must hold of it.
func checkAgainstReference(t *testing.T, logs plog.Logs) bool {
	t.Helper()
	got, span, err := encode(logs)
	var r reference
	want := r.canonical(t, logs)
	if want == nil {
		checkFault(t, err, r.faults)
		return false
	}
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))

	again, err := jcs.Transform(got)
	require.NoError(t, err)
	require.Equal(t, string(got), string(again), "JCS would write it differently")
	require.True(t, bytes.HasSuffix(got[:span.Start], []byte(`"record":`)))
	record, err := jcs.Transform(got[span.Start:span.End])
	require.NoError(t, err, "the span is not one JSON value")
	require.Equal(t, string(got[span.Start:span.End]), string(record))

	parsed, err := Parse(got)
	require.NoError(t, err)
	back, _, err := encode(parsed)
	require.NoError(t, err)
	require.Equal(t, string(got), string(back))
	return true
}

func checkFault(t *testing.T, err error, faults []error) {
	t.Helper()
	var path *PathError
	require.ErrorAs(t, err, &path)
	assert.NotEmpty(t, path.Path)
	assert.LessOrEqual(t, len(path.Path), maxPath)
	for _, fault := range faults {
		if errors.Is(err, fault) {
			return
		}
	}
	t.Fatalf("error %v is none of %v", err, faults)
}

func FuzzAgainstJCS(f *testing.F) {
	f.Add([]byte{})
	random := rand.New(rand.NewPCG(3, 4))
	for size := 16; size <= 1024; size *= 2 {
		f.Add(randomBytes(random, size))
	}
	f.Fuzz(func(t *testing.T, seed []byte) { checkAgainstReference(t, generate(t, seed)) })
}

// TestAgainstJCS is the fuzzer's work in small: every run of the tests sees
// records of all kinds.
func TestAgainstJCS(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	sound, total := 0, 1500
	for range total {
		if checkAgainstReference(t, generate(t, randomBytes(random, random.IntN(600)))) {
			sound++
		}
	}
	assert.Greater(t, sound, total/20, "too few records with a canonical form to mean anything")
	assert.Less(t, sound, total-total/20, "too few records without a canonical form to mean anything")
}

// FuzzParse looks for malleability: what Parse accepts is what Append writes.
func FuzzParse(f *testing.F) {
	for _, v := range vectors() {
		if v.canonical != "" {
			f.Add([]byte(v.canonical))
		} else if text, _, err := encode(v.logs(f)); err == nil {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		logs, err := Parse(text)
		if err != nil {
			require.ErrorIs(t, err, ErrNotCanonical)
			return
		}
		require.Equal(t, 1, logs.LogRecordCount())
		again, _, err := encode(logs)
		require.NoError(t, err)
		require.Equal(t, string(text), string(again))
	})
}

func FuzzCutString(f *testing.F) {
	for _, s := range awkward {
		f.Add(AppendString(nil, s))
	}
	for _, text := range []string{`"\u0008"`, `"\u001F"`, `"\/"`, `"\u00e9"`, `"\ud800"`, `"`, `"\`, `"\u00`, "\"\n\"", `""x`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		value, rest, err := CutString(text)
		if err != nil {
			return
		}
		require.Equal(t, string(text), string(AppendString(nil, value))+string(rest))
	})
}

func randomBytes(random *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}
