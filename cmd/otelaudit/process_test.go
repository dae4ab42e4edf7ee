// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/pgtest"
)

// asCommand makes this test binary the command itself.
const asCommand = "OTELAUDIT_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	pgtest.Main(m)
}

// process is the command as a process of its own, with real pipes and signals.
func process(t *testing.T, args ...string) (command *exec.Cmd, stdout, stderr *screen) {
	t.Helper()
	command = exec.CommandContext(t.Context(), os.Args[0], args...)
	command.Env = append(os.Environ(), asCommand+"=1")
	stdout, stderr = &screen{}, &screen{}
	command.Stdout, command.Stderr = stdout, stderr
	return command, stdout, stderr
}

// Ctrl-C ends a tail in order; another signal, too.
func TestTailIsInterrupted(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		command, stdout, stderr := process(t, "tail", "-f", "--control", "--json", files("sound"))
		require.NoError(t, command.Start())
		eventually(t, func() bool { return strings.HasSuffix(stdout.String(), "\n") })
		require.NoError(t, command.Process.Signal(signal))
		require.NoError(t, command.Wait(), stderr.String())
		assert.Empty(t, stderr.String())
		assert.Len(t, parseFound(t, stdout.String()), 10)
	}
}

// A send that is interrupted says of what it does not know the fate.
func TestSendIsInterrupted(t *testing.T) {
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(server.Close)
	command, stdout, stderr := process(t, "send", "--endpoint", server.URL)
	command.Stdin = strings.NewReader(event("e", 0, nil))
	require.NoError(t, command.Start())
	<-asked
	require.NoError(t, command.Process.Signal(os.Interrupt))
	var exit *exec.ExitError
	require.ErrorAs(t, command.Wait(), &exit)
	assert.Equal(t, exitRead, exit.ExitCode())
	assert.Contains(t, stderr.String(), "whether the events of this batch are stored is not known")
	assert.Empty(t, stdout.String())
}
