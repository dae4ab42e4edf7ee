// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	readyWithin = 60 * time.Second
	// The collector promises to end within 30 s of SIGTERM.
	stopWithin = 35 * time.Second
)

// Settings describe one collector.
type Settings struct {
	// Directory holds the collector's data: `journal`, `audit`, its
	// configuration and its log. It survives restarts.
	Directory string
	// Instance is the log's name, "testbed" if empty.
	Instance string
	// Binary is the collector to run, bin/otelcol-audit if empty.
	Binary string
	// Extra are fragments of YAML that go over the base configuration.
	Extra []string
}

// Collector is a running child process.
type Collector struct {
	Settings
	HTTP     string // endpoint of the audit receiver, host:port
	OTLPGRPC string
	OTLPHTTP string
	Metrics  string
	health   string

	command  *exec.Cmd
	log      *os.File
	logStart int64         // where this process begins in the log file
	ended    chan struct{} // closed once the process is gone
	waitErr  error         // set before ended is closed
}

// Journal returns the journal directory.
func (s Settings) Journal() string { return filepath.Join(s.Directory, "journal") }

// Store returns the directory of the file sink.
func (s Settings) Store() string { return filepath.Join(s.Directory, "audit") }

// Key returns the file of the verifier's public key.
func (s Settings) Key() string { return filepath.Join(s.Journal(), "verifier.pub") }

// Checkpoint returns the file of the newest delivered checkpoint.
func (s Settings) Checkpoint() string { return filepath.Join(s.Journal(), "checkpoint") }

// LogFile returns the file that the collector's own log goes to.
func (s Settings) LogFile() string { return filepath.Join(s.Directory, "collector.log") }

const baseConfig = `
receivers:
  audit: {http: {endpoint: %[1]s}}
  otlp: {protocols: {grpc: {endpoint: %[2]s}, http: {endpoint: %[3]s}}}
processors:
  audit:
    journal: {directory: %[6]q}
    chain: {instance: %[8]s}
exporters:
  audit: {file: {directory: %[7]q}}
extensions:
  health_check: {endpoint: %[5]s}
service:
  extensions: [health_check]
  pipelines:
    logs/audit: {receivers: [audit, otlp], processors: [audit], exporters: [audit]}
  telemetry:
    metrics:
      level: normal
      readers: [{pull: {exporter: {prometheus: {host: %[4]s, port: %[9]s}}}}]
`

// Start starts a collector on free ports and waits until it is ready.
func Start(ctx context.Context, s Settings) (*Collector, error) {
	const attempts = 3 // somebody else may take a free port before the child does
	var err error
	for range attempts {
		c, launchErr := Launch(s)
		if launchErr != nil {
			return nil, launchErr
		}
		if err = c.waitReady(ctx); err == nil {
			return c, nil
		}
		if !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return nil, err
}

// Launch starts a collector on free ports and does not wait for it.
func Launch(s Settings) (*Collector, error) {
	if s.Binary == "" {
		binary, err := Binary("otelcol-audit")
		if err != nil {
			return nil, err
		}
		s.Binary = binary
	}
	if s.Instance == "" {
		s.Instance = "testbed"
	}
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	c := &Collector{Settings: s, HTTP: ports[0], OTLPGRPC: ports[1], OTLPHTTP: ports[2], Metrics: ports[3], health: ports[4], ended: make(chan struct{})}
	config := filepath.Join(s.Directory, "config.yaml")
	if err := os.WriteFile(config, c.config(), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	args := []string{"--config", config}
	for _, extra := range s.Extra {
		args = append(args, "--config", "yaml:"+extra)
	}
	return c, c.run(exec.Command(s.Binary, args...))
}

func (c *Collector) config() []byte {
	host, port, _ := net.SplitHostPort(c.Metrics)
	return fmt.Appendf(nil, baseConfig, c.HTTP, c.OTLPGRPC, c.OTLPHTTP, host, c.health, c.Journal(), c.Store(), c.Instance, port)
}

// StartCommand starts a collector by a command of the caller's, in
// s.Directory, and waits until the health endpoint is green. Of the other
// endpoints it knows nothing.
func StartCommand(ctx context.Context, s Settings, health, name string, args ...string) (*Collector, error) {
	c := &Collector{Settings: s, health: health, ended: make(chan struct{})}
	command := exec.Command(name, args...)
	command.Dir = s.Directory
	if err := c.run(command); err != nil {
		return nil, err
	}
	return c, c.waitReady(ctx)
}

// run starts the command as c's process, its output going to the log file.
func (c *Collector) run(command *exec.Cmd) error {
	var err error
	if c.log, err = os.OpenFile(c.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if c.logStart, err = c.log.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("open log: %w", errors.Join(err, c.log.Close()))
	}
	command.Stdout, command.Stderr = c.log, c.log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is ours, not the child's
	c.command = command
	if err := command.Start(); err != nil {
		return fmt.Errorf("start collector: %w", errors.Join(err, c.log.Close()))
	}
	go func() {
		c.waitErr = errors.Join(command.Wait(), c.log.Close())
		close(c.ended)
	}()
	return nil
}

// waitReady waits until the collector is ready. One that is not, in time, is
// killed.
func (c *Collector) waitReady(ctx context.Context) error {
	err := c.poll(ctx)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n%s", errors.Join(err, c.Kill()), c.Log())
}

func (c *Collector) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		if c.Ready(ctx) {
			return nil
		}
		select {
		case <-c.ended:
			return errors.New("the collector ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("the collector is not ready: %w", ctx.Err())
		case <-poll.C:
		}
	}
}

// Ready says whether the health endpoint is green.
func (c *Collector) Ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.health, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// ErrTooEarly says that SIGTERM came before the collector handled signals, and
// so ended it as a kill does. The collector begins to handle them a moment
// after its health endpoint is green, and nothing shows when.
var ErrTooEarly = errors.New("SIGTERM came before the collector handled signals")

// Stop asks the collector to end and waits for it. An exit code other than 0,
// or an end that takes longer than promised, is an error.
func (c *Collector) Stop() error {
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop collector: %w", err)
	}
	select {
	case <-c.ended:
		if status, ok := c.command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
			return ErrTooEarly
		}
		return c.waitErr
	case <-time.After(stopWithin):
		return errors.Join(fmt.Errorf("the collector has not ended %s after SIGTERM", stopWithin), c.Kill())
	}
}

// Kill ends the collector as a power cut would, as far as the process goes.
func (c *Collector) Kill() error {
	if err := c.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill collector: %w", err)
	}
	<-c.ended
	return nil
}

// Reload asks the collector to read its configuration again and to start all
// its components anew, in the same process. It returns at once.
func (c *Collector) Reload() error {
	if err := c.command.Process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("reload collector: %w", err)
	}
	return nil
}

// Held is what a running process holds.
type Held struct {
	Memory  int64 // resident, bytes
	Peak    int64 // the most that Memory ever was
	Threads int64
}

// Held asks the kernel, Linux only, what the collector holds now.
func (c *Collector) Held() (held Held, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.command.Process.Pid))
	if err != nil {
		return Held{}, fmt.Errorf("read process status: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		for name, field := range map[string]*int64{"VmRSS:": &held.Memory, "VmHWM:": &held.Peak, "Threads:": &held.Threads} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				_, scanErr := fmt.Sscan(rest, field)
				err = errors.Join(err, scanErr)
			}
		}
	}
	held.Memory <<= 10 // the kernel counts in KiB
	held.Peak <<= 10
	return held, err
}

// Usage returns the processor time of a collector that has ended and the most
// memory that it held, in bytes.
func (c *Collector) Usage() (cpu time.Duration, memory int64) {
	<-c.ended
	state := c.command.ProcessState
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		memory = maxResident(usage)
	}
	return state.UserTime() + state.SystemTime(), memory
}

// Log returns the last lines that this process has logged.
func (c *Collector) Log() []byte {
	text, err := os.ReadFile(c.LogFile())
	if err != nil || int64(len(text)) < c.logStart {
		return nil
	}
	const most = 8 << 10
	text = text[c.logStart:]
	return text[max(0, len(text)-most):]
}

// Binary returns the path of a binary that `make build` makes.
func Binary(name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no binary %s: run `make build` first: %w", name, err)
	}
	return path, nil
}

// Root returns the root of the module that the working directory is in.
func Root() (string, error) {
	directory, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(directory, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module github.com/otelaudit/otelaudit\n")) {
			return directory, nil
		}
		parent := filepath.Dir(directory)
		if parent == directory {
			return "", errors.New("find module: the working directory is not in the otelaudit tree")
		}
		directory = parent
	}
}

// freePorts returns loopback endpoints that nobody listens on.
func freePorts(n int) ([]string, error) {
	var endpoints []string
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close() //nolint:errcheck // held until all are found, so that they differ
		endpoints = append(endpoints, listener.Addr().String())
	}
	return endpoints, nil
}
