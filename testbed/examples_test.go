// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/pgtest"
	"github.com/otelaudit/otelaudit/testbed"
)

// example is a client below examples/, with the published SDK of its language.
type example struct {
	language  string
	protocols []string
	needs     [][]string // commands that succeed where the runtime is installed
	cure      string     // Debian's packages
	install   [][]string // run once, in a copy of the example
	run       []string   // run in that copy
}

var examples = []example{
	{
		language:  "python",
		protocols: []string{"grpc", "http/protobuf"},
		needs:     [][]string{{"python3", "-c", "import ensurepip, venv"}},
		cure:      "python3 python3-venv",
		install: [][]string{
			{"python3", "-m", "venv", ".venv"},
			{".venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"},
		},
		run: []string{".venv/bin/python", "audit.py"},
	},
	{
		language:  "node",
		protocols: []string{"grpc", "http/protobuf", "http/json"},
		needs:     [][]string{{"node", "--version"}, {"npm", "--version"}},
		cure:      "nodejs npm",
		install:   [][]string{{"npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"}},
		run:       []string{"node", "audit.mjs"},
	},
	{
		language:  "java",
		protocols: []string{"grpc", "http/protobuf"},
		needs:     [][]string{{"javac", "-version"}, {"mvn", "--version"}},
		cure:      "default-jdk-headless maven",
		install:   [][]string{{"mvn", "--quiet", "--batch-mode", "process-classes"}},
		run:       []string{"java", "-cp", "target/classes:target/lib/*", "example.Audit"},
	},
	{
		language:  "go",
		protocols: []string{"grpc", "http/protobuf"},
		needs:     [][]string{{"go", "version"}},
		cure:      "golang",
	},
}

// The published SDKs, unmodified, in the programs that application developers
// are told to copy, against the quickstart: each event that a client was told
// is durable is stored once, and as it should be. A client whose events are
// refused says so, although its SDK does not.
func TestExamples(t *testing.T) {
	root, err := testbed.Root()
	require.NoError(t, err)
	w := newWalk(t, root)
	c, err := testbed.StartCommand(t.Context(), testbed.Settings{Directory: w.directory}, w.ports["127.0.0.1:13133"], "./bin/otelcol-audit", "--config", "config/quickstart.yaml")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Kill()) })
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	t.Cleanup(refusing.Close)

	var told promised
	t.Run("clients", func(t *testing.T) { // ends with the last of them
		for _, e := range examples {
			t.Run(e.language, func(t *testing.T) {
				t.Parallel()
				client := e.prepare(t, root)
				for _, protocol := range e.protocols {
					t.Run(strings.ReplaceAll(protocol, "/", "-"), func(t *testing.T) {
						t.Parallel()
						endpoint := w.ports["127.0.0.1:4318"]
						if protocol == "grpc" {
							endpoint = w.ports["127.0.0.1:4317"]
						}
						output, complaint, err := client.send(t, protocol, "http://"+endpoint)
						require.NoError(t, err, "%s%s", output, complaint)
						ids := strings.Fields(output)
						assert.Len(t, ids, 10, "%s%s", output, complaint)
						told.add(ids)
					})
				}
				t.Run("refused", func(t *testing.T) {
					t.Parallel()
					output, complaint, err := client.send(t, "http/protobuf", refusing.URL)
					var exit *exec.ExitError
					require.ErrorAs(t, err, &exit)
					assert.Equal(t, 1, exit.ExitCode())
					assert.Empty(t, output)
					assert.Contains(t, complaint, "10 of 10 audit events are not known to be stored")
				})
			})
		}
	})
	require.NoError(t, c.Stop(), "%s", c.Log())

	settings := testbed.Settings{Directory: filepath.Join(w.directory, "data")}
	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	assert.Zero(t, stored.Flagged)
	assert.Equal(t, told.once, stored.Records)
}

// promised are the ids of which clients were told that they are durable.
type promised struct {
	mu   sync.Mutex
	once map[string]int
}

func (p *promised) add(ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.once == nil {
		p.once = map[string]int{}
	}
	for _, id := range ids {
		p.once[id] = 1
	}
}

// installed is an example that can run.
type installed struct {
	directory string
	command   []string
}

func (i installed) send(t *testing.T, protocol, endpoint string) (stdout, stderr string, err error) {
	t.Helper()
	const patience = "120000" // milliseconds; Python reads seconds
	command := exec.CommandContext(t.Context(), i.command[0], i.command[1:]...)
	command.Dir = i.directory
	command.Env = append(os.Environ(),
		"OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol,
		"OTEL_EXPORTER_OTLP_TIMEOUT="+patience, "OTEL_BLRP_EXPORT_TIMEOUT="+patience,
		"NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1") // a proxy to the package registry is none to the collector
	var output, complaint bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaint
	err = command.Run()
	return output.String(), complaint.String(), err
}

// prepare installs an example with what it needs from its package registry.
// That is done once for each version of its files.
func (e example) prepare(t *testing.T, root string) installed {
	t.Helper()
	e.needRuntime(t)
	source := filepath.Join(root, "examples", e.language)
	if e.language == "go" { // its packages are the module's
		binary := filepath.Join(t.TempDir(), "audit")
		runStep(t, source, "go", "build", "-o", binary, ".")
		return installed{directory: source, command: []string{binary}}
	}

	files := exampleFiles(t, source)
	cache := filepath.Join(root, "_build", "sdks", fmt.Sprintf("%s-%x", e.language, digest(t, source, files)))
	ready := installed{directory: cache, command: slices.Clone(e.run)}
	if strings.HasPrefix(e.run[0], ".") {
		ready.command[0] = filepath.Join(cache, e.run[0])
	}
	if _, err := os.Stat(cache); err == nil {
		return ready
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(cache), 0o755))
	draft, err := os.MkdirTemp(filepath.Dir(cache), e.language+"-draft-") //nolint:usetesting // renamed, so on the same file system
	require.NoError(t, err)
	defer func() { require.NoError(t, os.RemoveAll(draft)) }()
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(source, file))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(draft, file)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(draft, file), text, 0o600))
	}
	for _, step := range e.install {
		runStep(t, draft, step...)
	}
	if err := os.Rename(draft, cache); err != nil {
		require.DirExists(t, cache, "neither this run nor another one has installed it: %s", err)
	}
	return ready
}

// needRuntime ends a test whose language is not installed: it is skipped if
// that was asked for, and fails otherwise.
func (e example) needRuntime(t *testing.T) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv(pgtest.EnvWithout), ","), e.language) {
		t.Skipf("%s names %s", pgtest.EnvWithout, e.language)
	}
	require.NoError(t, e.missing(t.Context()))
}

// missing returns what to do about a runtime that is not installed.
func (e example) missing(ctx context.Context) error {
	for _, need := range e.needs {
		if output, err := exec.CommandContext(ctx, need[0], need[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("this test runs the OpenTelemetry SDK of %s, and %q fails: %w\n%sinstall it: `make deps`, or `apt-get install %s` on Debian and Ubuntu;"+
				" to do without set %s=%s", e.language, need, err, output, e.cure, pgtest.EnvWithout, e.language)
		}
	}
	return nil
}

// A test that is not run for want of a runtime fails, and says what to do.
func TestExamplesNeedTheirRuntimes(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, e := range examples {
		err := e.missing(t.Context())
		require.ErrorIs(t, err, exec.ErrNotFound, e.language)
		assert.ErrorContains(t, err, "apt-get install "+e.cure)
		assert.ErrorContains(t, err, pgtest.EnvWithout+"="+e.language)
	}
}

// runStep runs a command that has to succeed.
func runStep(t *testing.T, directory string, command ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	name := command[0]
	if strings.HasPrefix(name, ".") {
		name = filepath.Join(directory, name)
	}
	step := exec.CommandContext(ctx, name, command[1:]...)
	step.Dir = directory
	output, err := step.CombinedOutput()
	require.NoError(t, err, "%q: %s", command, output)
}

// exampleFiles are the files of an example, without what a developer has
// installed or built in it.
func exampleFiles(t *testing.T, source string) []string {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".venv", "node_modules", "target", "__pycache__"}, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		name, err := filepath.Rel(source, path)
		files = append(files, name)
		return err
	}))
	return files
}

// digest tells versions of an example apart.
func digest(t *testing.T, source string, files []string) []byte {
	t.Helper()
	hash := sha256.New()
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(source, file))
		require.NoError(t, err)
		_, err = fmt.Fprintf(hash, "%s %d\n%s", file, len(text), text)
		require.NoError(t, err)
	}
	return hash.Sum(nil)[:8]
}
