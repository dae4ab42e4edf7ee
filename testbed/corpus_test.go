// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// A scan for secrets means nothing unless the corpus carries each of them.
func TestCorpusCarriesEverySecret(t *testing.T) {
	corpus := testbed.NewCorpus(1, "corpus")
	var sent bytes.Buffer
	for range 5000 {
		sent.Write(corpus.Next().JSON)
	}
	for _, needle := range testbed.Needles() {
		assert.Contains(t, sent.String(), needle.Text, "no event carries the %s", needle.Name)
	}
}

func TestCorpusIsReproducible(t *testing.T) {
	a, b := testbed.NewCorpus(7, "same"), testbed.NewCorpus(7, "same")
	for range 1000 {
		first, second := a.Next(), b.Next()
		require.Equal(t, first.Kind, second.Kind)
		require.Equal(t, first.ID, second.ID)
	}
}

// A needle is found wherever it lies, also across the edge of a read.
func TestFindLeaksAcrossReads(t *testing.T) {
	needle := testbed.Needle{Name: "needle", Text: "zQ7-a-needle-of-some-length"}
	const window = 8 << 20
	for _, offset := range []int{0, 1000, window - 10, window - 1, window, 2*window - 4096 - 5} {
		directory := t.TempDir()
		text := bytes.Repeat([]byte("hay "), (2*window+1000)/4)
		copy(text[offset:], needle.Text)
		require.NoError(t, os.WriteFile(filepath.Join(directory, "haystack"), text, 0o600))
		leaks, err := testbed.FindLeaks(directory, []testbed.Needle{needle})
		require.NoError(t, err)
		require.NotEmpty(t, leaks, "at %d", offset)
		assert.Equal(t, offset, leaks[0].Offset)
	}
}
