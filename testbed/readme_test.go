// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// The walk of README.md, word by word: its commands in its order, on the
// quickstart configuration. Only the ports are other ones, so that the test
// does not need those of the README to be free.
func TestReadmeWalk(t *testing.T) {
	root, err := testbed.Root()
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	blocks := shellBlocks(string(readme))
	require.Len(t, blocks, 6, "run, send, look, verify, change, verify")
	require.Equal(t, "make run\n", blocks[0])

	w := newWalk(t, root)
	c, err := testbed.StartCommand(t.Context(), testbed.Settings{Directory: w.directory}, w.ports["127.0.0.1:13133"], "./bin/otelcol-audit", "--config", "config/quickstart.yaml")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Kill()) })

	send, code := w.shell(blocks[1])
	require.Zero(t, code, send)
	assert.Contains(t, send, `"record_id":"01JDEXAMPLE0000000000000001"`)
	assert.Contains(t, send, `"index":"`)

	look := w.eventually(blocks[2]) // an answer means durable; the sink is a moment behind
	assert.Contains(t, look, `"event":{`)
	assert.NotContains(t, look, "correct horse battery staple")
	assert.Contains(t, look, "***")

	verdict := w.eventually(blocks[3])
	t.Logf("%s", verdict)
	change, code := w.shell(blocks[4])
	require.Zero(t, code, change)
	verdict, code = w.shell(blocks[5])
	t.Logf("%s", verdict)
	assert.Equal(t, 1, code)
	assert.Contains(t, verdict, "tampered")
}

func shellBlocks(markdown string) []string {
	var blocks []string
	for _, match := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(markdown, -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}

// walk is a folder as a user has it after `make build`.
type walk struct {
	t         *testing.T
	directory string
	ports     map[string]string // endpoint in the README → free endpoint
	replace   *strings.Replacer
}

func newWalk(t *testing.T, root string) *walk {
	w := &walk{t: t, directory: t.TempDir(), ports: map[string]string{}}
	require.NoError(t, os.Symlink(filepath.Join(root, "bin"), filepath.Join(w.directory, "bin")))
	config, err := os.ReadFile(filepath.Join(root, "config", "quickstart.yaml"))
	require.NoError(t, err)
	var pairs []string
	for _, endpoint := range []string{"127.0.0.1:4317", "127.0.0.1:4318", "127.0.0.1:4319", "127.0.0.1:13133"} {
		require.Contains(t, string(config), endpoint)
		w.ports[endpoint] = freePort(t)
		pairs = append(pairs, endpoint, w.ports[endpoint])
	}
	_, metrics, err := net.SplitHostPort(freePort(t))
	require.NoError(t, err)
	require.Contains(t, string(config), "port: 8888")
	w.replace = strings.NewReplacer(append(pairs, "port: 8888", "port: "+metrics)...)
	require.NoError(t, os.Mkdir(filepath.Join(w.directory, "config"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(w.directory, "config", "quickstart.yaml"), []byte(w.replace.Replace(string(config))), 0o600))
	return w
}

// shell runs commands of the README and returns what they print.
func (w *walk) shell(commands string) (output string, code int) {
	command := exec.Command("sh", "-eu", "-c", w.replace.Replace(commands))
	command.Dir = w.directory
	command.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(w.directory, "xdg"), "PATH="+curlPath(w.t)+string(os.PathListSeparator)+os.Getenv("PATH"))
	text, err := command.CombinedOutput()
	if command.ProcessState == nil {
		require.NoError(w.t, err)
	}
	return string(text), command.ProcessState.ExitCode()
}

// eventually runs commands until they succeed.
func (w *walk) eventually(commands string) string {
	ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Second)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		output, code := w.shell(commands)
		if code == 0 {
			return output
		}
		select {
		case <-ctx.Done():
			require.FailNow(w.t, "the command does not succeed", "exit code %d: %s\n%s", code, commands, output)
		case <-poll.C:
		}
	}
}

func freePort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// curlPath returns a folder that holds a stand-in for curl where the machine
// has none: this test binary, see TestMain.
func curlPath(t *testing.T) string {
	directory := t.TempDir()
	if _, err := exec.LookPath("curl"); err == nil {
		return directory
	}
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(directory, "curl")))
	return directory
}
