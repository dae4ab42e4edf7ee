// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package otelaudit_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs/guarantees.md names a test for each promise: it must exist.
func TestGuaranteesNameTests(t *testing.T) {
	exists := map[string]bool{}
	walk(t, ".", func(path string) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		folder := filepath.Base(filepath.Dir(path))
		for _, match := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(text, -1) {
			exists[folder+"."+string(match[1])] = true
		}
	})
	page, err := os.ReadFile("docs/guarantees.md")
	require.NoError(t, err)
	named := regexp.MustCompile("`([a-z]+\\.(?:Test|Fuzz)\\w+)`").FindAllSubmatch(page, -1)
	require.NotEmpty(t, named)
	for _, match := range named {
		assert.True(t, exists[string(match[1])], "%s does not exist", match[1])
	}
}

// Links between pages must lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	pages := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_")):
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
