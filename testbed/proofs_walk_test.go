// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// The walk of docs/proofs.md, word by word: a key of openssl's, a record that
// Python signs, what the receipt says of it and of its chain, and whether the
// stored lines verify without our code.
func TestProofsWalk(t *testing.T) {
	root, err := testbed.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "docs", "proofs.md"))
	require.NoError(t, err)
	shell := shellBlocks(string(text))
	require.Len(t, shell, 2, "policy, send")
	python := regexp.MustCompile("(?ms)^```python\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	require.Len(t, python, 2, "sign.py, check.py")

	w := newWalk(t, root)
	policy, found := strings.CutSuffix(shell[0], "./bin/otelcol-audit --config config/quickstart.yaml --config proofs.yaml\n")
	require.True(t, found, "the collector is started last")
	output, code := w.shell(policy)
	require.Zero(t, code, output)
	c, err := testbed.StartCommand(t.Context(), testbed.Settings{Directory: w.directory}, w.ports["127.0.0.1:13133"],
		"./bin/otelcol-audit", "--config", "config/quickstart.yaml", "--config", "proofs.yaml")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Kill()) })

	for i, name := range []string{"sign.py", "check.py"} {
		require.NoError(t, os.WriteFile(filepath.Join(w.directory, name), []byte(python[i][1]), 0o600))
	}
	path := "PATH=" + pythonWithCryptography(t, root) + ":$PATH\n"
	send, commands, _ := strings.Cut(shell[1], "\n")
	wanted := []string{`"verify_status":"passed"`, "proof failed: signature: ", "proof failed: unknown_key: ", `"verify_status":"passed"`, "audit.sequence: gap: "}
	lines := strings.Split(strings.TrimSpace(commands), "\n")
	require.Len(t, lines, len(wanted))
	for i, line := range lines {
		output, code := w.shell(path + send + "\n" + line)
		require.Zero(t, code, output)
		assert.Contains(t, output, wanted[i], line)
		signed := regexp.MustCompile(`(?m)^[0-9a-f]{64}$`).FindString(output)
		assert.Equal(t, !strings.Contains(line, "| sed"), strings.Contains(output, `"integrity_hash":"`+signed+`"`) && strings.Contains(output, `"status":"delivered_all_sinks"`), output)
	}

	const check = "cat ./data/audit/*/*/*/*.jsonl | python3 check.py"
	require.Contains(t, string(text), "`"+check+"`")
	output, code = w.shell(path + check)
	require.Zero(t, code, output)
	assert.Equal(t, 3, strings.Count(output, "signed "), output)
	output, code = w.shell(path + strings.Replace(check, "|", `| sed 's/"success"/"failure"/' |`, 1))
	assert.NotZero(t, code)
	assert.Contains(t, output, "InvalidSignature")
}

// pythonWithCryptography returns the folder of a python3 that has the package
// which docs/proofs.md signs with. It is installed once.
func pythonWithCryptography(t *testing.T, root string) string {
	t.Helper()
	const version = "48.0.0"
	examples[0].needRuntime(t)
	cache := filepath.Join(root, "_build", "sdks", "cryptography-"+version)
	if _, err := os.Stat(cache); err == nil {
		return filepath.Join(cache, "bin")
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(cache), 0o755))
	draft, err := os.MkdirTemp(filepath.Dir(cache), "cryptography-draft-") //nolint:usetesting // renamed, so on the same file system
	require.NoError(t, err)
	defer func() { require.NoError(t, os.RemoveAll(draft)) }()
	runStep(t, draft, "python3", "-m", "venv", ".")
	runStep(t, draft, "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "cryptography=="+version)
	if err := os.Rename(draft, cache); err != nil {
		require.DirExists(t, cache, "neither this run nor another one has installed it: %s", err)
	}
	return filepath.Join(cache, "bin")
}
