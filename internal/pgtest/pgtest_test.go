// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if os.Getenv(childOf) != "" {
		child()
	}
	Main(m)
}

func TestDatabase(t *testing.T) {
	first, second := Database(t), Database(t)
	require.NotEqual(t, first, second)
	require.NoError(t, run(t.Context(), first, "CREATE TABLE one (n int)"))
	require.NoError(t, run(t.Context(), second, "CREATE TABLE one (n int)"), "databases are apart")
	assert.Equal(t, "on", query(t, first, "SHOW fsync"))

	require.NoError(t, run(t.Context(), first, "INSERT INTO one VALUES (7)"))
	copied := Copy(t, first)
	require.NoError(t, run(t.Context(), first, "DELETE FROM one"))
	assert.Equal(t, "7", query(t, copied, "SELECT n::text FROM one"))
}

// A database goes with its test, even where somebody is still connected.
func TestDatabaseIsDropped(t *testing.T) {
	var dsn string
	t.Run("test", func(t *testing.T) {
		dsn = Database(t)
		connection, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		t.Cleanup(func() { require.Error(t, connection.Ping(t.Context())) })
	})
	require.ErrorContains(t, run(t.Context(), dsn, "SELECT 1"), "does not exist")
}

func TestDatabaseOfAGivenServer(t *testing.T) {
	s := Start(t)
	t.Setenv(EnvServer, s.DSN("postgres"))
	dsn := Database(t)
	assert.Contains(t, dsn, address(s.port))
	require.NoError(t, run(t.Context(), dsn, "SELECT 1"))

	err := checkURL("host=localhost password=secret")
	require.ErrorContains(t, err, EnvServer)
	assert.NotContains(t, err.Error(), "secret")
}

// What was committed survives a crash, under the same address.
func TestServerIsStoppedAndStarted(t *testing.T) {
	s := Start(t)
	dsn := s.Database(t)
	require.NoError(t, run(t.Context(), dsn, "CREATE TABLE one (n int)"))
	for i, mode := range []Mode{Immediate, Fast} {
		require.NoError(t, run(t.Context(), dsn, "INSERT INTO one VALUES (1)"))
		require.NoError(t, s.Stop(mode))
		require.NoError(t, s.Stop(mode), "twice is fine")
		require.ErrorIs(t, run(t.Context(), dsn, "SELECT 1"), syscall.ECONNREFUSED)
		require.NoError(t, s.Start())
		require.Error(t, s.Start(), "it runs")
		assert.Equal(t, strconv.Itoa(i+1), query(t, dsn, "SELECT count(*)::text FROM one"))
	}
	require.NoError(t, s.Restart(Immediate))
	require.NoError(t, run(t.Context(), dsn, "SELECT 1"))
	assert.Positive(t, s.CPU())
}

func TestKillConnections(t *testing.T) {
	s := Start(t)
	dsn := s.Database(t)
	for range 2 {
		connection, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		defer func() { require.Error(t, connection.Ping(t.Context())) }()
	}
	killed, err := s.KillConnections(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, killed)
	require.NoError(t, run(t.Context(), dsn, "SELECT 1"), "the server goes on")
}

const childOf = "PGTEST_CHILD"

// child is a test process that has two servers, one of them stopped and started
// again, and then hangs.
func child() {
	shared, err := serverURL()
	if err != nil {
		panic(err)
	}
	private, err := newServer()
	if err != nil {
		panic(err)
	}
	if err := private.Restart(Immediate); err != nil {
		panic(err)
	}
	fmt.Println(shared)
	fmt.Println(private.DSN("postgres"))
	select {}
}

// No server outlives its tests, not even if they are killed.
func TestNothingIsLeftBehind(t *testing.T) {
	machine().needBinaries(t)
	executable, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(executable)
	temporary := t.TempDir()
	openTo(t, temporary)
	command.Env = append(os.Environ(), childOf+"=1", "TMPDIR="+temporary, EnvServer+"=")
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines := bufio.NewScanner(output)
	var servers []string
	for len(servers) < 2 && lines.Scan() {
		servers = append(servers, lines.Text())
		require.NoError(t, run(t.Context(), lines.Text(), "SELECT 1"))
	}
	require.NoError(t, command.Process.Kill())
	_, err = io.Copy(io.Discard, output)
	require.NoError(t, err)
	require.Error(t, command.Wait())
	require.Len(t, servers, 2)
	require.Eventually(t, func() bool {
		left, err := os.ReadDir(temporary)
		return err == nil && len(left) == 0
	}, time.Minute, poll, "the directories are removed")
	for _, dsn := range servers {
		require.ErrorIs(t, run(t.Context(), dsn, "SELECT 1"), syscall.ECONNREFUSED)
	}
}

// openTo lets the server's user into the parents of a test's directory.
func openTo(t *testing.T, directory string) {
	t.Helper()
	for path := directory; strings.HasPrefix(path, os.TempDir()) && path != os.TempDir(); path = filepath.Dir(path) {
		require.NoError(t, os.Chmod(path, 0o755))
	}
}

func query(t *testing.T, dsn, statement string) (text string) {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	require.NoError(t, connection.QueryRow(t.Context(), statement).Scan(&text))
	require.NoError(t, connection.Close(t.Context()))
	return text
}
