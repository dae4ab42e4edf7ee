// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package otelaudit_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs/guarantees.md names a test for each promise: it must exist.
func TestGuaranteesNameTests(t *testing.T) {
	page, err := os.ReadFile("docs/guarantees.md")
	require.NoError(t, err)
	require.NotEmpty(t, namedTests(t, existingTests(t), page))
}

// docs/otep-0267.md has a row for each requirement, in order, and each that is
// met, in whatever way, names tests.
func TestOTEPNamesTests(t *testing.T) {
	page, err := os.ReadFile("docs/otep-0267.md")
	require.NoError(t, err)
	const requirements = 89
	rows := regexp.MustCompile(`(?m)^\| R(\d+) \|([^|]+)\|([^|]+)\|([^|]*)\|([^|]*)\|$`).FindAllStringSubmatch(string(page), -1)
	exists := existingTests(t)
	for i, row := range rows {
		require.Equal(t, strconv.Itoa(i+1), row[1], "a row is missing, or has another form")
		status, why := strings.TrimSpace(row[3]), strings.TrimSpace(row[4])
		tests := namedTests(t, exists, []byte(row[5]))
		switch status {
		case "met", "different":
			assert.NotEmpty(t, tests, "R%s names no test", row[1])
		case "open", "not applicable":
		default:
			t.Errorf("R%s is %q", row[1], status)
		}
		assert.False(t, status != "met" && why == "", "R%s gives no reason", row[1])
	}
	require.Equal(t, requirements, len(rows)) //nolint:testifylint // the rows are too long to be shown
}

// namedTests returns the tests that a text names, all of which exist.
func namedTests(t *testing.T, exists map[string]bool, text []byte) [][][]byte {
	t.Helper()
	named := regexp.MustCompile("`([a-z]+\\.(?:Test|Fuzz)\\w+)`").FindAllSubmatch(text, -1)
	for _, match := range named {
		assert.True(t, exists[string(match[1])], "%s does not exist", match[1])
	}
	return named
}

// existingTests are the tests of the module, as package and name.
func existingTests(t *testing.T) map[string]bool {
	t.Helper()
	exists := map[string]bool{}
	walk(t, ".", func(path string) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		folder := filepath.Base(filepath.Dir(path))
		for _, match := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(text, -1) {
			exists[folder+"."+string(match[1])] = true
		}
	})
	return exists
}

// Links between pages must lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	pages := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_") || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		pages++
		text, err := os.ReadFile(path)
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			_, statErr := os.Stat(filepath.Join(filepath.Dir(path), match[1]))
			assert.NoError(t, statErr, "%s links to %s", path, match[1])
		}
		return err
	})
	require.NoError(t, err)
	require.NotZero(t, pages)
}

// The versions that examples/go/README.md has people get are those that the
// example is built with here.
func TestGoExampleNamesItsVersions(t *testing.T) {
	page, err := os.ReadFile("examples/go/README.md")
	require.NoError(t, err)
	module, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	named := regexp.MustCompile(`(go\.opentelemetry\.io/\S+)@(v\S+)`).FindAllSubmatch(page, -1)
	require.Len(t, named, 4)
	for _, match := range named {
		assert.Contains(t, string(module), "\t"+string(match[1])+" "+string(match[2])+"\n")
	}
}
