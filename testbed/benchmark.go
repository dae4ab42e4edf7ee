// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Subject is a collector that a benchmark measures.
type Subject struct {
	Name string
	// Start starts it with its data in directory, which is empty.
	Start func(ctx context.Context, directory string) (*Collector, error)
	// Check says whether it has kept what it acknowledged. It is called once
	// the collector has ended.
	Check func(c *Collector, outcome *OTLPOutcome) error
}

// Measurement is what one run, or the median of several, has shown.
type Measurement struct {
	Rate      float64 // acknowledged records a second
	P50, P99  time.Duration
	CPU       float64 // seconds of the collector for 100,000 records
	Generator float64 // seconds of the load generator for 100,000 records
	Memory    int64   // the most that the collector held, in bytes
	Refused   int     // requests that had to be sent again
}

// Measure runs load on a new collector of subject.
func Measure(ctx context.Context, parent string, subject Subject, load OTLPLoad) (m Measurement, err error) {
	directory, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return Measurement{}, fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	c, err := subject.Start(ctx, directory)
	if err != nil {
		return Measurement{}, err
	}
	defer func() { err = errors.Join(err, c.Kill()) }()
	var idle float64 // what the collector and the generator had used before
	var own time.Duration
	outcome, err := load.Run(ctx, c.OTLPGRPC, func() (err error) {
		if own, err = processorTime(); err != nil {
			return err
		}
		idle, err = c.processorSeconds(ctx)
		return err
	})
	if err != nil {
		return Measurement{}, err
	}
	spent, err := processorTime()
	if err != nil {
		return Measurement{}, err
	}
	memory, memoryErr := peakMemory(c.command.Process.Pid)
	if err := errors.Join(memoryErr, c.Stop()); err != nil {
		return Measurement{}, err
	}
	used, held := c.Usage() // what is still to be delivered at the end is work as well
	if memory == 0 {
		memory = held
	}
	if err := subject.Check(c, outcome); err != nil {
		return Measurement{}, err
	}
	n := float64(outcome.Records)
	return Measurement{
		Rate: n / outcome.Elapsed.Seconds(), P50: outcome.Quantile(.5), P99: outcome.Quantile(.99),
		CPU: (used.Seconds() - idle) * 1e5 / n, Generator: (spent - own).Seconds() * 1e5 / n,
		Memory: memory, Refused: outcome.Refused,
	}, nil
}

func (c *Collector) processorSeconds(ctx context.Context) (float64, error) {
	seconds, found, err := c.Metric(ctx, "otelcol_process_cpu_seconds")
	if err == nil && !found {
		err = errors.New("the collector does not tell its processor time")
	}
	return seconds, err
}

func processorTime() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// Compare measures every subject under load in turn, rounds times, and returns
// the medians in the order of subjects. Each measurement is told to progress.
func Compare(ctx context.Context, parent string, subjects []Subject, load OTLPLoad, rounds int, progress io.Writer) ([]Measurement, error) {
	all := make([][]Measurement, len(subjects))
	for range rounds {
		for i, subject := range subjects {
			m, err := Measure(ctx, parent, subject, load)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", subject.Name, err)
			}
			if _, err := fmt.Fprintf(progress, "%28s %s\n", subject.Name, m); err != nil {
				return nil, fmt.Errorf("tell progress: %w", err)
			}
			all[i] = append(all[i], m)
		}
	}
	medians := make([]Measurement, len(subjects))
	for i := range subjects {
		medians[i] = median(all[i])
	}
	return medians, nil
}

func median(of []Measurement) Measurement {
	return Measurement{
		Rate:      middle(of, func(m Measurement) float64 { return m.Rate }),
		P50:       middle(of, func(m Measurement) time.Duration { return m.P50 }),
		P99:       middle(of, func(m Measurement) time.Duration { return m.P99 }),
		CPU:       middle(of, func(m Measurement) float64 { return m.CPU }),
		Generator: middle(of, func(m Measurement) float64 { return m.Generator }),
		Memory:    middle(of, func(m Measurement) int64 { return m.Memory }),
		Refused:   middle(of, func(m Measurement) int { return m.Refused }),
	}
}

func middle[T cmp.Ordered](of []Measurement, value func(Measurement) T) T {
	values := make([]T, len(of))
	for i, m := range of {
		values[i] = value(m)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// MeasurementHeader is the line above the lines of measurements.
func MeasurementHeader() string {
	return fmt.Sprintf("%10s %10s %10s %12s %12s %6s %8s", "records/s", "p50", "p99", "cpu s/100k", "client s/100k", "MiB", "refused")
}

// String returns a line of a table.
func (m Measurement) String() string {
	return fmt.Sprintf("%10.0f %10s %10s %12.2f %13.2f %6d %8d", m.Rate, m.P50.Round(1e4), m.P99.Round(1e4), m.CPU, m.Generator, m.Memory>>20, m.Refused)
}

// Audit returns the subject that this project is about: the shipped collector,
// or another binary of it, its OTLP door, the audit processor and the file sink. Its store must verify,
// closed, and hold every acknowledged record once, and no secret of the corpus
// may be in any file.
func Audit(name, binary string) Subject {
	return Subject{
		Name: name,
		Start: func(ctx context.Context, directory string) (*Collector, error) {
			return Start(ctx, Settings{Directory: directory, Binary: binary})
		},
		Check: checkStore,
	}
}

func checkStore(c *Collector, outcome *OTLPOutcome) error {
	report, err := Verify(c.Directory, "--key", c.Key(), c.Store())
	if err != nil {
		return err
	}
	if report.Exit != 0 {
		return fmt.Errorf("what was stored does not verify: exit code %d, findings %v", report.Exit, report.Kinds())
	}
	leaks, err := FindLeaks(c.Directory, Needles())
	if err != nil {
		return err
	}
	if len(leaks) > 0 {
		return fmt.Errorf("a secret has reached the disk: %v", leaks)
	}
	stored, err := ReadStore(c.Store())
	if err != nil {
		return err
	}
	for id := range outcome.IDs {
		if stored.Records[id] != 1 {
			return fmt.Errorf("record %s was acknowledged and is stored %d times", id, stored.Records[id])
		}
		delete(stored.Records, id)
	}
	if len(stored.Records) > 0 {
		return fmt.Errorf("%d records are stored that nobody has sent", len(stored.Records))
	}
	return nil
}

// Peer returns a stock collector of bin/otelcol-peers, its working directory
// that of its data. config is its configuration without what every subject
// has: the receiver otlp, the extension health_check and the telemetry.
func Peer(name, config string, check func(*Collector, *OTLPOutcome) error) Subject {
	return Subject{
		Name: name,
		Start: func(ctx context.Context, directory string) (*Collector, error) {
			return startPeer(ctx, directory, config)
		},
		Check: check,
	}
}

const peerConfig = `
receivers:
  otlp: {protocols: {grpc: {endpoint: %s}}}
extensions:
  health_check: {endpoint: %s}
service:
  telemetry:
    metrics:
      level: normal
      readers: [{pull: {exporter: {prometheus: {host: %s, port: %s}}}}]
`

func startPeer(ctx context.Context, directory, config string) (*Collector, error) {
	binary, err := Binary("otelcol-peers")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(ports[2])
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	own, err := filepath.Abs(filepath.Join(directory, "config.yaml"))
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	if err := os.WriteFile(own, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	c, err := StartCommand(ctx, Settings{Directory: directory}, ports[1], binary, "--config", own,
		"--config", "yaml:"+fmt.Sprintf(peerConfig, ports[0], ports[1], host, port))
	if err != nil {
		return nil, err
	}
	c.OTLPGRPC, c.Metrics = ports[0], ports[2]
	return c, nil
}

// Profile writes a CPU profile of our pipeline under load to a file. The
// collector is bin/otelcol-peers, which has the same components and an
// endpoint for profiles.
func Profile(ctx context.Context, parent string, load OTLPLoad, file string) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	const config = `
processors: {audit: {journal: {directory: ./journal}, chain: {instance: testbed}}}
exporters: {audit: {file: {directory: ./audit}}}
extensions: {profiler: {endpoint: %s}}
service:
  extensions: [health_check, profiler]
  pipelines: {logs: {receivers: [otlp], processors: [audit], exporters: [audit]}}
`
	subject := Peer("otelaudit", fmt.Sprintf(config, ports[0]), checkStore)
	start := subject.Start
	fetched := make(chan error, 1)
	subject.Start = func(ctx context.Context, directory string) (*Collector, error) {
		c, err := start(ctx, directory)
		if err == nil {
			go func() { fetched <- fetchProfile(ctx, ports[0], load.Duration, file) }()
		}
		return c, err
	}
	_, err = Measure(ctx, parent, subject, load)
	if err != nil {
		return err
	}
	return <-fetched
}

func fetchProfile(ctx context.Context, endpoint string, duration time.Duration, file string) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", endpoint, int(duration.Seconds())), nil)
	if err != nil {
		return fmt.Errorf("fetch profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("fetch profile: %w", err)
	}
	text, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("fetch profile: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch profile: status %d: %s", response.StatusCode, text)
	}
	return os.WriteFile(file, text, 0o600)
}
