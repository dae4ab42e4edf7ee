// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Variables of the environment.
const (
	// EnvServer is the URL of a server to use.
	EnvServer = "OTELAUDIT_TEST_POSTGRES"
	// EnvWithout lists what tests are to do without.
	EnvWithout = "OTELAUDIT_WITHOUT"
)

const install = "install PostgreSQL: `make deps`, or" +
	" `apt-get install postgresql` on Debian and Ubuntu, `brew install postgresql` on macOS"

// environment is where a server is looked for.
type environment struct {
	getenv func(string) string
	places []string // patterns of folders beside those in PATH
}

func machine() environment {
	return environment{getenv: os.Getenv, places: []string{
		"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
		"/usr/pgsql-*/bin",                  // the project's own RPMs
		"/opt/homebrew/opt/postgresql*/bin", // Homebrew
		"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
	}}
}

// needServer ends a test that can have no server at all: it is skipped if that
// was asked for, and fails otherwise.
func (e environment) needServer(t testing.TB) {
	t.Helper()
	e.skip(t, "postgres")
	if e.getenv(EnvServer) == "" && e.binaries() == "" {
		t.Fatalf("this test needs a PostgreSQL server, and none is installed: %s; or set %s to the URL of one;"+
			" to do without these tests set %s=postgres", install, EnvServer, EnvWithout)
	}
}

// needBinaries is needServer for a test that stops and starts its server.
func (e environment) needBinaries(t testing.TB) {
	t.Helper()
	e.skip(t, "postgres")
	e.skip(t, "postgres-binaries")
	if e.binaries() == "" {
		t.Fatalf("this test stops and starts a PostgreSQL server of its own, which %s cannot give it, and none is installed: %s;"+
			" to do without these tests set %s=postgres-binaries", EnvServer, install, EnvWithout)
	}
}

func (e environment) skip(t testing.TB, what string) {
	t.Helper()
	if slices.Contains(strings.Split(e.getenv(EnvWithout), ","), what) {
		t.Skipf("%s names %s", EnvWithout, what)
	}
}

// binaries returns the folder of a server's binaries, or nothing.
func (e environment) binaries() string {
	folders := filepath.SplitList(e.getenv("PATH"))
	for _, pattern := range e.places {
		found, _ := filepath.Glob(pattern) // the patterns are ours, and sound
		slices.SortFunc(found, func(a, b string) int { return cmp.Or(cmp.Compare(release(b), release(a)), cmp.Compare(a, b)) })
		folders = append(folders, found...)
	}
	for _, folder := range folders {
		if executable(folder, "postgres") && executable(folder, "initdb") {
			return folder
		}
	}
	return ""
}

var digits = regexp.MustCompile(`[0-9]+`)

// release is the major release that a folder's name tells; the one without a
// number is Homebrew's newest.
func release(folder string) int {
	number, err := strconv.Atoi(digits.FindString(folder))
	if err != nil {
		return 1 << 30
	}
	return number
}

func executable(folder, name string) bool {
	info, err := os.Stat(filepath.Join(folder, name))
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}
