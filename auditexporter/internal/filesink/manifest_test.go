// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelaudit/otelaudit/audit"
)

// checkManifests compares every manifest with the file that it describes, if
// that is there.
func checkManifests(t testing.TB, folder, origin string) {
	t.Helper()
	listed, err := disk{}.names(folder)
	require.NoError(t, err)
	for _, name := range listed {
		if !isManifest(name) {
			continue
		}
		first, ok := parseName(name, manifestExtension)
		require.True(t, ok, name)
		m, err := readManifest(disk{}, folder, origin, first)
		require.NoError(t, err)
		text, err := os.ReadFile(filepath.Join(folder, m.file))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, describe(t, origin, first, text), m)
	}
}

// describe makes the manifest of text another way.
func describe(t testing.TB, origin string, first uint64, text []byte) manifest {
	t.Helper()
	m := manifest{origin: origin, file: fileName(first), bytes: int64(len(text)), sha256: sha256.Sum256(text)}
	for line := range strings.Lines(string(text)) {
		m.lines++
		if at := checkLine(t, origin, []byte(line)); at.checkpoint {
			m.checkpoint, m.hasCheckpoint = at.number, true
			continue
		}
		sealedAt := parsed(t, line).Link.SealedAt
		if !m.records.used {
			m.earliest, m.latest = sealedAt, sealedAt
		}
		m.earliest, m.latest = min(m.earliest, sealedAt), max(m.latest, sealedAt)
		m.records.add(parsed(t, line).Link.Index)
	}
	return m
}

func parsed(t testing.TB, line string) audit.Line {
	t.Helper()
	l, err := audit.ParseLine([]byte(strings.TrimSuffix(line, "\n")))
	require.NoError(t, err)
	return l
}

// checkSealed requires a manifest beside each file but the newest, which has
// none, and that those are read-only.
func checkSealed(t testing.TB, folder string) {
	t.Helper()
	list, err := listFolder(disk{}, folder)
	require.NoError(t, err)
	for i, first := range list.files {
		sealed := i < len(list.files)-1
		require.Equal(t, sealed, list.manifests[first], fileName(first))
		info, err := os.Stat(filepath.Join(folder, fileName(first)))
		require.NoError(t, err)
		if sealed {
			require.Equal(t, os.FileMode(sealedMode), info.Mode(), fileName(first))
		} else {
			require.Equal(t, os.FileMode(fileMode), info.Mode(), fileName(first))
		}
	}
}

const manifestVector = `{"bytes":"5120","checkpoint":"12","earliest":"1790000000000000000","file":"00000000000000000004.jsonl",` +
	`"first":"4","last":"11","latest":"1790000000000000007","lines":"10","origin":"host-1/00112233445566ff/20261123T090700Z-0a0b0c0d",` +
	`"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}` + "\n"

func TestManifestVector(t *testing.T) {
	m := manifest{
		origin: testOrigin, file: fileName(4), bytes: 5120, lines: 10, sha256: sha256.Sum256(nil),
		records: span{4, 11, true}, earliest: 1_790_000_000_000_000_000, latest: 1_790_000_000_000_000_007,
		checkpoint: 12, hasCheckpoint: true,
	}
	assert.Equal(t, manifestVector, string(m.encode()))
	read, err := parseManifest([]byte(manifestVector))
	require.NoError(t, err)
	assert.Equal(t, m, read)
	assert.Equal(t, uint64(12), m.end())

	bare := manifest{origin: testOrigin, file: fileName(0)}
	read, err = parseManifest(bare.encode())
	require.NoError(t, err)
	assert.Equal(t, bare, read)
}

func TestNoManifest(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                  "",
		"another order":          strings.Replace(manifestVector, `"first":"4","last":"11"`, `"last":"11","first":"4"`, 1),
		"a space":                strings.Replace(manifestVector, `,`, `, `, 1),
		"a number for a string":  strings.Replace(manifestVector, `"12"`, `12`, 1),
		"a member missing":       strings.Replace(manifestVector, `"last":"11",`, ``, 1),
		"another member":         strings.Replace(manifestVector, `"first"`, `"extra":"1","first"`, 1),
		"a member twice":         strings.Replace(manifestVector, `"first"`, `"file":"a","first"`, 1),
		"a range turned":         strings.Replace(manifestVector, `"last":"11"`, `"last":"3"`, 1),
		"a time range turned":    strings.Replace(manifestVector, `"latest":"179`, `"latest":"178`, 1),
		"a negative length":      strings.Replace(manifestVector, `"5120"`, `"-1"`, 1),
		"a short hash":           strings.Replace(manifestVector, `b855"`, `b8"`, 1),
		"no line feed":           strings.TrimSuffix(manifestVector, "\n"),
		"longer than any can be": strings.Replace(manifestVector, "host-1", strings.Repeat("h", maxManifest), 1),
	} {
		_, err := parseManifest([]byte(text))
		assert.ErrorIs(t, err, errManifest, name)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifestVector))
	f.Add((&manifest{origin: "o", file: "f"}).encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseManifest(text)
		if err != nil {
			require.ErrorIs(t, err, errManifest)
			return
		}
		require.Equal(t, string(text), string(m.encode()), "another spelling passes")
	})
}

// asUser is the file system as one sees it who is not root.
type asUser struct{ disk }

func (u asUser) open(path string) (file, error) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o200 == 0 {
		return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrPermission}
	}
	return u.disk.open(path)
}

// A manifest that was moved away is made anew, that of the last file of a life
// as well, which is read-only.
func TestManifestIsMadeAnew(t *testing.T) {
	directory := t.TempDir()
	config := retaining(directory, Retention{MaxBytes: 1 << 20})
	config.files = asUser{}
	batches := history(t, 2, 3)
	s := open(t, config)
	for _, batch := range batches {
		deliverInOrder(t, s, batch)
	}
	require.NoError(t, s.Close())
	life := filepath.Join(directory, filepath.FromSlash(batches[0][0].Link.Origin))
	before, err := disk{}.names(life)
	require.NoError(t, err)
	kept := map[string]string{}
	for _, name := range before {
		if isManifest(name) {
			text, err := os.ReadFile(filepath.Join(life, name))
			require.NoError(t, err)
			kept[name] = string(text)
			require.NoError(t, os.Remove(filepath.Join(life, name)))
		}
	}
	require.Len(t, kept, 3)

	s = open(t, config)
	last := batches[len(batches)-1]
	require.NoError(t, s.Upkeep(t.Context(), &last[len(last)-1]).Trouble)
	after, err := disk{}.names(life)
	require.NoError(t, err)
	require.Equal(t, before, after)
	for name, text := range kept {
		made, err := os.ReadFile(filepath.Join(life, name))
		require.NoError(t, err)
		require.Equal(t, text, string(made))
	}
	list, err := listFolder(disk{}, life)
	require.NoError(t, err)
	for _, first := range list.files {
		info, err := os.Stat(filepath.Join(life, fileName(first)))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(sealedMode), info.Mode())
	}
	require.NoError(t, s.Close())
}

// Links that somebody planted in the store lead the sink nowhere: neither what
// it begins nor what it seals empties the file behind one.
func TestLinksInTheStore(t *testing.T) {
	directory := t.TempDir()
	precious := filepath.Join(t.TempDir(), "signing.key")
	require.NoError(t, os.WriteFile(precious, []byte("precious"), 0o600))
	s := open(t, retaining(directory, Retention{}))
	for _, batch := range history(t, 1, 3) {
		life := filepath.Join(directory, filepath.FromSlash(batch[0].Link.Origin))
		require.NoError(t, os.MkdirAll(life, 0o700))
		for number := range uint64(30) {
			for _, extension := range []string{".tmp", ".manifest.tmp", manifestExtension} {
				_ = os.Symlink(precious, filepath.Join(life, stem(number)+extension)) // some are there
			}
		}
		deliverInOrder(t, s, batch)
	}
	require.NoError(t, s.Close())
	text, err := os.ReadFile(precious)
	require.NoError(t, err)
	require.Equal(t, "precious", string(text))
	require.Empty(t, withoutTail(verifyStore(t, directory)))
}

// plantManifest writes a manifest of the file with a number that claims the future.
func plantManifest(t *testing.T, directory, origin string, first uint64) {
	t.Helper()
	m := manifest{origin: origin, file: fileName(first), checkpoint: 1_000_000, hasCheckpoint: true}
	path := filepath.Join(directory, filepath.FromSlash(origin), manifestName(first))
	require.NoError(t, os.WriteFile(path, m.encode(), 0o600))
}

// A manifest is not signed. One that claims the future while the sink runs does
// not keep what is delivered from being stored; where the sink has to believe
// it, after a start, it says what it leaves out.
func TestManifestOfTheFuture(t *testing.T) {
	directory := t.TempDir()
	core, logs := observer.New(zap.WarnLevel)
	config := retaining(directory, Retention{})
	config.Logger, config.MaxFileBytes = zap.New(core), 1<<20
	batches := history(t, 1, 4)
	s := open(t, config)
	deliverInOrder(t, s, batches[0])
	plantManifest(t, directory, batches[0][0].Link.Origin, 999)
	moved := filepath.Join(t.TempDir(), "moved")
	files := stored(t, directory)
	require.NoError(t, os.Rename(filepath.Join(directory, files[len(files)-1]), moved))
	for _, batch := range batches[1:3] {
		written := write(t, s, batch...)
		require.Zero(t, written.Repeated)
		require.Positive(t, written.Stored)
	}
	require.Len(t, logs.FilterMessageSnippet("is not believed").All(), 1)
	require.Empty(t, logs.FilterMessageSnippet("is not stored").All())
	require.NoError(t, s.Close())

	s = open(t, config)
	require.Equal(t, len(batches[3]), write(t, s, batches[3]...).Repeated)
	require.Len(t, logs.FilterMessageSnippet("is not stored").All(), 1)
	require.NoError(t, s.Close())
}

// Nor does one of the newest file, which has none yet, have the next file begin in
// the future: until that comes no file would follow it.
func TestManifestOfTheNewestFile(t *testing.T) {
	directory := t.TempDir()
	core, logs := observer.New(zap.ErrorLevel)
	config := retaining(directory, Retention{})
	config.Logger, config.MaxFileBytes = zap.New(core), 16<<10
	batches := history(t, 1, 30)
	s := open(t, config)
	deliverInOrder(t, s, batches[0])
	name := batches[0][0].Link.Origin
	life := filepath.Join(directory, filepath.FromSlash(name))
	list, err := listFolder(disk{}, life)
	require.NoError(t, err)
	newest := list.files[len(list.files)-1]
	require.False(t, list.manifests[newest])
	plantManifest(t, directory, name, newest)
	text, err := os.ReadFile(filepath.Join(life, fileName(newest)))
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(life, fileName(newest))))
	require.NoError(t, os.WriteFile(filepath.Join(life, fileName(newest)), text, 0o600))
	for _, batch := range batches[1:] {
		require.Positive(t, write(t, s, batch...).Stored)
	}
	require.Len(t, logs.FilterMessageSnippet("is not believed").All(), 1)
	list, err = listFolder(disk{}, life)
	require.NoError(t, err)
	require.Less(t, list.files[len(list.files)-1], uint64(1000))
	require.Greater(t, len(list.files), 3, "files are full, and followed by others")
	require.NoError(t, s.Close())
	require.Empty(t, withoutTail(verifyStore(t, directory)))
}
