// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// verdict is a test that notes how it was ended.
type verdict struct {
	testing.TB
	failed, skipped string
}

func (*verdict) Helper() {}

func (v *verdict) Fatalf(format string, args ...any) {
	v.failed = fmt.Sprintf(format, args...)
	panic(v)
}

func (v *verdict) Skipf(format string, args ...any) {
	v.skipped = fmt.Sprintf(format, args...)
	panic(v)
}

// judge returns how a test that needs something ends.
func judge(need func(testing.TB)) *verdict {
	v := &verdict{}
	func() {
		defer func() { _ = recover() }()
		need(v)
	}()
	return v
}

// A machine with nothing on it.
func bare(variables map[string]string) environment {
	return environment{getenv: func(name string) string { return variables[name] }}
}

func TestNothingFoundFails(t *testing.T) {
	for name, need := range map[string]func(testing.TB){"server": bare(nil).needServer, "binaries": bare(nil).needBinaries} {
		v := judge(need)
		assert.Empty(t, v.skipped, name)
		for _, cure := range []string{"make deps", "apt-get install postgresql", "brew install postgresql", EnvWithout} {
			assert.Contains(t, v.failed, cure, name)
		}
	}
}

// The server of somebody else is enough, but not to stop it.
func TestGivenServer(t *testing.T) {
	e := bare(map[string]string{EnvServer: "postgres://localhost/"})
	assert.Empty(t, judge(e.needServer))
	assert.Contains(t, judge(e.needBinaries).failed, EnvServer+" cannot give it")
}

func TestWithout(t *testing.T) {
	e := bare(map[string]string{EnvWithout: "kafka,postgres"})
	assert.Contains(t, judge(e.needServer).skipped, "names postgres")
	assert.Contains(t, judge(e.needBinaries).skipped, "names postgres")

	e = bare(map[string]string{EnvWithout: "postgres-binaries", EnvServer: "postgres://localhost/"})
	assert.Empty(t, judge(e.needServer))
	assert.Contains(t, judge(e.needBinaries).skipped, "names postgres-binaries")

	e = bare(map[string]string{EnvWithout: "kafka"})
	assert.NotEmpty(t, judge(e.needServer).failed)
}

// What is in PATH goes first; else the newest release does, by number.
func TestBinaries(t *testing.T) {
	root := t.TempDir()
	e := bare(nil)
	e.places = []string{filepath.Join(root, "*", "bin")}
	assert.Empty(t, e.binaries())
	for _, release := range []string{"9", "15", "chosen"} {
		addBinaries(t, filepath.Join(root, release, "bin"), "postgres", "initdb")
	}
	addBinaries(t, filepath.Join(root, "99", "bin"), "postgres") // incomplete
	require.NoError(t, os.RemoveAll(filepath.Join(root, "chosen")))
	assert.Equal(t, filepath.Join(root, "15", "bin"), e.binaries())

	first := filepath.Join(root, "path")
	addBinaries(t, first, "postgres", "initdb")
	e.getenv = func(string) string { return first }
	assert.Equal(t, first, e.binaries())
}

func addBinaries(t *testing.T, folder string, names ...string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(folder, 0o700))
	for _, name := range names {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"), 0o700))
	}
}

// dependencies runs tools/deps.sh on a machine that has these commands alone.
// Each of them prints how it was called.
func dependencies(t *testing.T, variables []string, place string, commands map[string]string) (output string, err error) {
	t.Helper()
	folder := t.TempDir()
	for name, answer := range commands {
		script := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >&2\necho %s\n", name, answer)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(script), 0o700))
	}
	script, err := filepath.Abs("../../tools/deps.sh")
	require.NoError(t, err)
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	command := exec.Command(bash, script, place)
	command.Env = append([]string{"PATH=" + folder}, variables...)
	text, err := command.CombinedOutput()
	return string(text), err
}

// withRuntimes adds to a machine what the tests of the SDKs need.
func withRuntimes(commands map[string]string) map[string]string {
	for _, name := range []string{"python3", "openssl", "node", "npm", "javac", "mvn"} {
		commands[name] = ""
	}
	return commands
}

func TestDependencies(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "bin")
	root := withRuntimes(map[string]string{"id": "0", "apt-get": "", "sed": ""})

	for name, variables := range map[string][]string{
		"a server is given": {EnvServer + "=postgres://localhost/"},
		"not wanted":        {EnvWithout + "=kafka,postgres"},
	} {
		output, err := dependencies(t, variables, nowhere, root)
		require.NoError(t, err, name)
		assert.Empty(t, output, name)
	}

	installed := filepath.Join(t.TempDir(), "bin")
	addBinaries(t, installed, "postgres", "initdb")
	output, err := dependencies(t, nil, installed, root)
	require.NoError(t, err)
	assert.Empty(t, output)

	for name, commands := range map[string]map[string]string{
		"not root":   {"id": "1000", "apt-get": ""},
		"no apt-get": {"id": "0"},
	} {
		output, err := dependencies(t, nil, nowhere, withRuntimes(commands))
		require.Error(t, err, name)
		assert.NotContains(t, output, "apt-get update\n", name)
		for _, cure := range []string{"apt-get install postgresql", "brew install postgresql", EnvServer, EnvWithout + "=postgres"} {
			assert.Contains(t, output, cure, name)
		}
	}

	output, err = dependencies(t, []string{EnvWithout + "=kafka"}, nowhere, root)
	require.Error(t, err, "what was installed is not there")
	assert.Contains(t, output, "apt-get update\n")
	assert.Contains(t, output, "install --yes --no-install-recommends postgresql\n")
	assert.Less(t, strings.Index(output, "postgresql-common\n"), strings.Index(output, "recommends postgresql\n"))
}

// Each runtime that is missing is installed, and no other; one that is not
// wanted is not missed.
func TestDependenciesOfSDKs(t *testing.T) {
	packages := map[string]string{"python": "python3 python3-venv openssl", "node": "nodejs npm", "java": "default-jdk-headless maven"}
	for command, language := range map[string]string{"python3": "python", "openssl": "python", "node": "node", "npm": "node", "javac": "java", "mvn": "java"} {
		t.Run(command, func(t *testing.T) {
			place := filepath.Join(t.TempDir(), "bin")
			addBinaries(t, place, "postgres", "initdb")
			machine := withRuntimes(map[string]string{"id": "0", "apt-get": ""})
			delete(machine, command)

			output, err := dependencies(t, []string{EnvWithout + "=kafka"}, place, machine)
			require.Error(t, err, "what was installed is not there")
			assert.Equal(t, 1, strings.Count(output, "apt-get install --yes"))
			assert.Contains(t, output, "apt-get install --yes --no-install-recommends "+packages[language]+"\n")
			assert.Contains(t, output, EnvWithout+"="+language+"\n")

			output, err = dependencies(t, []string{EnvWithout + "=kafka," + language}, place, machine)
			require.NoError(t, err)
			assert.Empty(t, output)

			delete(machine, "apt-get")
			output, err = dependencies(t, nil, place, machine)
			require.Error(t, err)
			assert.Contains(t, output, "apt-get install "+packages[language]+" ")
		})
	}
}

// Where changes are judged nothing is skipped.
func TestContinuousIntegrationDoesWithoutNothing(t *testing.T) {
	text, err := os.ReadFile("../../.ci/run")
	require.NoError(t, err)
	assert.NotContains(t, string(text), EnvWithout)
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	assert.NotContains(t, string(makefile), EnvWithout)
}
