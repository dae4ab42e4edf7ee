// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/verify"
)

const vectors = "../../audit/testdata/vectors/store"

// output is what a run leaves behind.
type output struct {
	code           int
	stdout, stderr string
}

func otelaudit(args ...string) output {
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), args, console{strings.NewReader(""), &stdout, &stderr})
	return output{code, stdout.String(), stderr.String()}
}

// fresh gives the test a configuration directory of its own.
func fresh(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", directory)
	return filepath.Join(directory, "otelaudit", "known")
}

// copyStore copies the store of a vector to a place where it may be changed.
func copyStore(t *testing.T, name string) string {
	t.Helper()
	directory := t.TempDir()
	require.NoError(t, os.CopyFS(directory, os.DirFS(filepath.Join(vectors, name, "store"))))
	return directory
}

func pub(name string) string   { return filepath.Join(vectors, name, "verifier.pub") }
func files(name string) string { return filepath.Join(vectors, name, "store") }

// jsonlFiles lists the stored files below a directory in path order.
func jsonlFiles(t *testing.T, directory string) []string {
	t.Helper()
	var list []string
	require.NoError(t, filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".jsonl") {
			list = append(list, path)
		}
		return err
	}))
	require.NotEmpty(t, list)
	return list
}

func TestVectors(t *testing.T) {
	cases, err := filepath.Glob(filepath.Join(vectors, "*", "case.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, cases, "no vectors")
	for _, path := range cases {
		name := filepath.Base(filepath.Dir(path))
		t.Run(name, func(t *testing.T) {
			fresh(t)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			var code int
			_, err = fmt.Sscanf(string(text), "expect: exit %d", &code)
			require.NoError(t, err)
			args := []string{"verify", "--json", "--key", pub(name), files(name)}
			if given := filepath.Join(vectors, name, "checkpoint"); exists(given) {
				args = append(args, "--checkpoint", given)
			}
			out := otelaudit(args...)
			assert.Equal(t, code, out.code, out.stderr)
			assert.Empty(t, out.stderr)
			var got, want verify.Report
			require.NoError(t, json.Unmarshal([]byte(out.stdout), &got))
			expected, err := os.ReadFile(filepath.Join(vectors, name, "report.json"))
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(expected, &want))
			for i := range want.Findings {
				if want.Findings[i].File != "" {
					want.Findings[i].File = filepath.Join(files(name), want.Findings[i].File)
				}
			}
			assert.Equal(t, want, got)
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestUsage(t *testing.T) {
	fresh(t)
	cases := []struct {
		args []string
		code int
		says string
	}{
		{nil, exitUsage, ""},
		{[]string{"help"}, exitSound, ""},
		{[]string{"verify", "--help"}, exitSound, ""},
		{[]string{"version"}, exitSound, ""},
		{[]string{"frobnicate"}, exitUsage, `unknown command "frobnicate"`},
		{[]string{"verify"}, exitUsage, "name a directory"},
		{[]string{"verify", "--frobnicate", "x"}, exitUsage, "not defined: -frobnicate"},
		{[]string{"verify", "x", "--key"}, exitUsage, "needs an argument: -key"},
		{[]string{"verify", "postgres://x@127.0.0.1:1/y"}, exitRead, "connect to PostgreSQL"},
		{[]string{"verify", "no/such/place"}, exitRead, "no/such/place"},
		{[]string{"verify", "--", "--key"}, exitRead, "--key"},
		{[]string{"verify", "--key", "no/such/key", "."}, exitRead, "no/such/key"},
		{[]string{"verify", "--key", "main_test.go", "."}, exitRead, "want a PEM block PUBLIC KEY"},
		{[]string{"verify", "--checkpoint", "main_test.go", "."}, exitRead, "not a checkpoint"},
		{[]string{"doctor", "--help"}, exitSound, ""},
		{[]string{"doctor"}, exitUsage, "name a collector configuration"},
		{[]string{"doctor", "--frobnicate", "x"}, exitUsage, "not defined: -frobnicate"},
		{append([]string{"doctor"}, make([]string, 65)...), exitUsage, "at most 64 files"},
		{[]string{"doctor", "no/such/file"}, exitRead, "no/such/file"},
		{[]string{"doctor", "--", "--json"}, exitRead, "--json"},
		{[]string{"doctor", "main_test.go"}, exitRead, "main_test.go: yaml: "},
		{[]string{"doctor", "."}, exitRead, "is a directory"},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			out := otelaudit(c.args...)
			assert.Equal(t, c.code, out.code)
			assert.Contains(t, out.stderr, c.says)
			if c.code == exitSound {
				assert.Contains(t, out.stdout, "otelaudit")
			}
		})
	}
}

func TestText(t *testing.T) {
	fresh(t)
	out := otelaudit("verify", files("sound"), "--key", pub("sound"))
	assert.Equal(t, exitSound, out.code)
	assert.Contains(t, out.stdout, "integrity:    sound (11 records, 6 checkpoints; trust: given key)\ncompleteness: complete\n")
	assert.Contains(t, out.stdout, "closed at 2027-01-15T08:00:00")
	assert.Empty(t, out.stderr, "no progress bar without a terminal")

	out = otelaudit("verify", "--key", pub("tampered"), files("tampered"))
	assert.Equal(t, exitBroken, out.code)
	assert.Contains(t, out.stdout, "integrity:    broken")
	assert.Contains(t, out.stdout, "FINDING tampered")
	assert.Contains(t, out.stdout, "index 4\n")
}

func TestEmptyDirectory(t *testing.T) {
	fresh(t)
	out := otelaudit("verify", t.TempDir())
	assert.Equal(t, exitUnproven, out.code)
	assert.Equal(t, "no stored records: nothing is proven\n", out.stdout)
}

// Trust on first use: the key is remembered, and another one later is refused.
func TestFirstUse(t *testing.T) {
	known := fresh(t)
	out := otelaudit("verify", files("sound"))
	assert.Equal(t, exitSound, out.code, out.stdout)
	assert.Contains(t, out.stdout, "trust: first use")
	info, err := os.Stat(filepath.Join(known, "instance-host-1.json"))
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, info.Mode().Perm())

	out = otelaudit("verify", files("sound"))
	assert.Equal(t, exitSound, out.code)
	assert.Contains(t, out.stdout, "trust: pinned key")

	content, err := os.ReadFile(filepath.Join(known, "instance-host-1.json"))
	require.NoError(t, err)
	other := bytes.Replace(content, []byte(`"key": "`), []byte(`"key": "AAAA`), 1)
	require.NoError(t, os.WriteFile(filepath.Join(known, "instance-host-1.json"), other, 0o600))
	out = otelaudit("verify", files("sound"))
	assert.Equal(t, exitRead, out.code, "what was remembered cannot be read")
	assert.Contains(t, out.stderr, "instance-host-1.json")

	swapped := append([]byte(nil), content...)
	at := bytes.Index(content, []byte(`"key": "`)) + len(`"key": "`)
	copy(swapped[at:], "AAAAAAAA")
	require.NoError(t, os.WriteFile(filepath.Join(known, "instance-host-1.json"), swapped, 0o600))
	out = otelaudit("verify", files("sound"))
	assert.Equal(t, exitBroken, out.code)
	assert.Contains(t, out.stdout, "bad-signature")
	assert.Contains(t, out.stderr, filepath.Join(known, "instance-host-1.json"), "the user has not named that key")
	after, err := os.ReadFile(filepath.Join(known, "instance-host-1.json"))
	require.NoError(t, err)
	assert.Equal(t, swapped, after, "a pin is never replaced")
}

// What a run has proven is a floor for the next.
func TestFloor(t *testing.T) {
	known := fresh(t)
	directory := copyStore(t, "sound")
	require.Equal(t, exitSound, otelaudit("verify", "--key", pub("sound"), directory).code)
	log := filepath.Join(known, "log-host-1-00112233445566aa.json")
	remembered, err := os.ReadFile(log)
	require.NoError(t, err)

	last := jsonlFiles(t, directory)
	newest := last[len(last)-1]
	content, err := os.ReadFile(newest)
	require.NoError(t, err)
	lines := bytes.SplitAfter(content, []byte("\n"))
	require.NoError(t, os.WriteFile(newest, bytes.Join(lines[:len(lines)-4], nil), 0o600))
	out := otelaudit("verify", "--key", pub("sound"), directory)
	assert.Equal(t, exitBroken, out.code)
	assert.Contains(t, out.stdout, "rolled-back")
	assert.Contains(t, out.stderr, "if records were deleted on purpose, delete that file")
	assert.Contains(t, out.stderr, log)
	after, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, remembered, after, "nothing is learned from a broken store")

	out = otelaudit("verify", "--key", pub("sound"), newest)
	assert.Equal(t, exitUnproven, out.code, "a single file is a part: the floor says nothing about it")

	fresh(t)
	out = otelaudit("verify", "--key", pub("sound"), directory)
	assert.Equal(t, exitUnproven, out.code, out.stdout)
	assert.Contains(t, out.stdout, "open-tail")
}

func TestUnreadableFile(t *testing.T) {
	fresh(t)
	directory := copyStore(t, "sound")
	stored := jsonlFiles(t, directory)
	require.NoError(t, os.Remove(stored[1]))
	require.NoError(t, os.Mkdir(filepath.Join(directory, "x"), 0o700))
	require.NoError(t, os.Symlink("no/such/target", stored[1]))
	out := otelaudit("verify", "--key", pub("sound"), directory)
	assert.Equal(t, exitRead, out.code, out.stdout)
	assert.Contains(t, out.stderr, stored[1])

	content, err := os.ReadFile(stored[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(stored[0], bytes.Replace(content, []byte("shop"), []byte("shoq"), 1), 0o600))
	assert.Equal(t, exitBroken, otelaudit("verify", "--key", pub("sound"), directory).code, "1 goes before 3")
}

func TestFilesAreReadOnce(t *testing.T) {
	fresh(t)
	directory := copyStore(t, "sound")
	stored := jsonlFiles(t, directory)
	require.NoError(t, os.WriteFile(filepath.Join(directory, "notes.txt"), []byte("hello\n"), 0o600))
	out := otelaudit("verify", "--key", pub("sound"), stored[0], directory)
	assert.Equal(t, exitSound, out.code, out.stdout)
	assert.NotContains(t, out.stdout, "duplicate")

	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(directory, link))
	assert.Equal(t, exitSound, otelaudit("verify", "--key", pub("sound"), link).code)
}

// A link in the store may lead to a file that never ends, such as /proc/kmsg:
// those have no size.
func TestFilesWithoutBytesAreNotOpened(t *testing.T) {
	store := copyStore(t, "sound")
	before, _, err := findFiles([]string{store})
	require.NoError(t, err)
	require.NotEmpty(t, before)
	require.NoError(t, os.WriteFile(filepath.Join(store, "empty.jsonl"), nil, 0o600))
	after, _, err := findFiles([]string{store})
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

func TestLongLines(t *testing.T) {
	fresh(t)
	directory := copyStore(t, "sound")
	for size, says := range map[int]string{readBuffer + 10: "malformed line", audit.MaxLine + 1: "too long to be read"} {
		text := append(bytes.Repeat([]byte("x"), size), '\n')
		require.NoError(t, os.WriteFile(filepath.Join(directory, "a.jsonl"), text, 0o600))
		out := otelaudit("verify", "--key", pub("sound"), directory)
		assert.Equal(t, exitBroken, out.code)
		assert.Contains(t, out.stdout, says)
	}
}

func TestSpillFile(t *testing.T) {
	s := &spillFile{}
	_, err := s.ReadAt(make([]byte, 1), 0)
	require.Error(t, err)
	_, err = s.WriteAt([]byte("abc"), 10)
	require.NoError(t, err)
	got := make([]byte, 3)
	_, err = s.ReadAt(got, 10)
	require.NoError(t, err)
	assert.Equal(t, "abc", string(got))
	require.NoError(t, s.Close())
}

func TestProgress(t *testing.T) {
	var w bytes.Buffer
	p := &progress{w: &w, total: 1000, drawn: -1}
	p.add(500)
	p.add(500)
	p.done()
	assert.Contains(t, w.String(), "[###############...............]  50 %")
	assert.Contains(t, w.String(), "100 %")
	assert.Nil(t, newProgress(&w, nil))
	var none *progress
	none.add(1)
	none.done()
}
