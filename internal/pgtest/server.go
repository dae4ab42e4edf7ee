// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	administrator = "postgres"
	readyWithin   = time.Minute // crash recovery on a busy machine included
	endWithin     = time.Minute
	poll          = 5 * time.Millisecond
)

// Mode is how a server is stopped.
type Mode syscall.Signal

// Modes, by the names that PostgreSQL gives them.
const (
	// Fast ends all sessions and writes a checkpoint.
	Fast = Mode(syscall.SIGINT)
	// Immediate is a crash: the next start recovers from the log.
	Immediate = Mode(syscall.SIGQUIT)
)

// Server is a PostgreSQL server of the test's own. Its address stays the same
// for as long as it lives. Its methods may be called by several goroutines at
// once.
type Server struct {
	binaries  string
	directory string
	password  string
	port      int
	owner     *syscall.Credential // of the server's processes; nil: who runs the tests
	guard     *guard

	mu  sync.Mutex
	pid int           // guarded by mu; 0 while it is stopped
	cpu time.Duration // guarded by mu; of the runs that have ended
}

// Start starts a server that the test may stop, start and shake. It ends with
// the test.
func Start(t testing.TB) *Server {
	t.Helper()
	machine().needBinaries(t)
	s, err := newServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newServer makes a cluster and starts its server.
func newServer() (*Server, error) {
	s := &Server{binaries: machine().binaries(), password: rand.Text()}
	if err := s.initialise(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	const attempts = 5 // somebody else may take a free port before the server does
	for attempt := 1; ; attempt++ {
		if s.port = freePort(); s.port == 0 {
			return nil, errors.Join(errors.New("start PostgreSQL: there is no free port"), s.close())
		}
		err := s.launch()
		if err == nil {
			return s, nil
		}
		if attempt == attempts || !errors.Is(err, errPortTaken) {
			return nil, errors.Join(err, s.close())
		}
	}
}

// initialise makes the directory, the guard over it and the cluster in it.
func (s *Server) initialise() error {
	var err error
	if s.directory, err = os.MkdirTemp("", "otelaudit-postgres-"); err != nil {
		return folderError(err)
	}
	if s.guard, err = newGuard(s.directory); err != nil {
		return err
	}
	if os.Geteuid() == 0 { // a server refuses to run as root
		if s.owner, err = unprivileged(); err != nil {
			return err
		}
	}
	secret := filepath.Join(s.directory, "password")
	if err := os.WriteFile(secret, []byte(s.password), 0o600); err != nil {
		return folderError(err)
	}
	if err := s.giveAway(s.directory, secret); err != nil {
		return err
	}
	output, err := s.command("initdb", "--pgdata="+s.data(), "--username="+administrator, "--pwfile="+secret,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, output)
	}
	return nil
}

func folderError(err error) error { return fmt.Errorf("make a directory for PostgreSQL: %w", err) }

// unprivileged returns who runs the server when the tests run as root.
func unprivileged() (*syscall.Credential, error) {
	account, err := user.Lookup(administrator)
	if err != nil {
		if account, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody: %w", err)
		}
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", account.Username, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", account.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// giveAway makes paths the owner's.
func (s *Server) giveAway(paths ...string) error {
	if s.owner == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Chown(path, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return folderError(err)
		}
	}
	return nil
}

func (s *Server) data() string    { return filepath.Join(s.directory, "data") }
func (s *Server) logFile() string { return filepath.Join(s.directory, "log") }

// command is one of the server's binaries. A terminal's Ctrl-C is not for it.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	command := exec.Command(filepath.Join(s.binaries, name), args...)
	command.Dir = s.directory
	command.Env = []string{"LC_ALL=C", "TZ=UTC"}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner, Setpgid: true}
	return command
}

// freePort finds a port below those that the kernel gives to clients: one of
// these may otherwise have it, or dial itself, while the server is stopped.
func freePort() int {
	const attempts, first, last = 100, 15000, 32000
	for range attempts {
		port := first + mathrand.IntN(last-first)
		listener, err := net.Listen("tcp", address(port))
		if err == nil && listener.Close() == nil {
			return port
		}
	}
	return 0
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

var errPortTaken = errors.New("somebody has taken the port")

// Start starts the stopped server and waits until it takes connections, after
// the recovery from a crash as well.
func (s *Server) Start() error {
	deadline := time.Now().Add(readyWithin)
	for {
		err := s.launch()
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(poll)
	}
}

func (s *Server) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != 0 {
		return errors.New("start PostgreSQL: it runs already")
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return folderError(err)
	}
	command := s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=on",
		"-c", "shared_buffers=16MB", "-c", "max_connections=100", "-c", "log_min_messages=warning")
	command.Stdout, command.Stderr = log, log
	if err := errors.Join(command.Start(), log.Close()); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	// Nobody waits for it in the background: the leak detectors of tests would
	// see that goroutine.
	s.pid = command.Process.Pid
	if err := command.Process.Release(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s.awaitReady()
}

// awaitReady waits until the server takes connections. One that does not in
// time is ended.
func (s *Server) awaitReady() error {
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(poll) {
		ended, err := s.reap()
		switch {
		case err != nil:
			return err
		case ended && strings.Contains(s.log(), "Address already in use"):
			return fmt.Errorf("start PostgreSQL on port %d: %w", s.port, errPortTaken)
		case ended:
			return fmt.Errorf("start PostgreSQL: it has ended:\n%s", s.log())
		case s.ping() == nil:
			return nil
		}
	}
	return errors.Join(fmt.Errorf("start PostgreSQL: it takes no connection:\n%s", s.log()), s.end(Immediate))
}

func (s *Server) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	return run(ctx, s.DSN(administrator), "SELECT 1")
}

// log returns the end of what the server has logged.
func (s *Server) log() string {
	const most = 4 << 10
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// reap asks whether the server has ended, and then takes what it has used.
func (s *Server) reap() (ended bool, err error) {
	var (
		status syscall.WaitStatus
		usage  syscall.Rusage
	)
	pid, err := syscall.Wait4(s.pid, &status, syscall.WNOHANG, &usage)
	for errors.Is(err, syscall.EINTR) {
		pid, err = syscall.Wait4(s.pid, &status, syscall.WNOHANG, &usage)
	}
	if err != nil {
		return false, fmt.Errorf("wait for PostgreSQL: %w", err)
	}
	if pid == 0 {
		return false, nil
	}
	s.pid = 0
	s.cpu += time.Duration(usage.Utime.Nano() + usage.Stime.Nano()) // its own children's, too
	return true, nil
}

// Stop stops the server and waits for its end. One that is stopped is fine.
func (s *Server) Stop(mode Mode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(mode)
}

func (s *Server) end(mode Mode) error {
	if s.pid == 0 {
		return nil
	}
	if err := syscall.Kill(s.pid, syscall.Signal(mode)); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	for deadline := time.Now().Add(endWithin); time.Now().Before(deadline); time.Sleep(poll) {
		if ended, err := s.reap(); ended || err != nil {
			return err
		}
	}
	return fmt.Errorf("stop PostgreSQL: it has not ended after %s:\n%s", endWithin, s.log())
}

// Restart stops the server in this mode and starts it again.
func (s *Server) Restart(mode Mode) error {
	if err := s.Stop(mode); err != nil {
		return err
	}
	return s.Start()
}

// KillConnections ends every session of clients but its own, and returns how
// many there were.
func (s *Server) KillConnections(ctx context.Context) (killed int, err error) {
	connection, err := pgx.Connect(ctx, s.DSN(administrator))
	if err != nil {
		return 0, fmt.Errorf("kill connections: %w", err)
	}
	err = connection.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&killed)
	if err := errors.Join(err, connection.Close(ctx)); err != nil {
		return 0, fmt.Errorf("kill connections: %w", err)
	}
	return killed, nil
}

// CPU returns the processor time, user and system, of the server's runs that
// have ended, its sessions included.
func (s *Server) CPU() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cpu
}

// DSN returns the URL of a database, for a superuser.
func (s *Server) DSN(database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(administrator, s.password), Host: address(s.port), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}).String()
}

// Database creates an empty database and returns its URL. It ends with the
// server.
func (s *Server) Database(t testing.TB) (dsn string) {
	t.Helper()
	name, err := create(t.Context(), s.DSN(administrator), "template0")
	if err != nil {
		t.Fatal(err)
	}
	return s.DSN(name)
}

// close ends the server and removes what it leaves. Twice is fine.
func (s *Server) close() error {
	err := s.Stop(Immediate)
	if s.directory != "" {
		err = errors.Join(err, os.RemoveAll(s.directory))
	}
	if s.guard != nil {
		err = errors.Join(err, s.guard.dismiss())
		s.guard = nil
	}
	return err
}
