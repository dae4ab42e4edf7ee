// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Command load measures the built collector end to end: events a second,
// latency, and what each event costs in processor time, memory and bytes on
// disk. Client and collector share the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/otelaudit/otelaudit/testbed"
)

func main() {
	total := flag.Int("events", 200_000, "events of each run; fewer where each is a request")
	clients := flag.Int("clients", 0, "measure this number of clients alone")
	batch := flag.Int("batch", 1, "with -clients: events of a request")
	flag.Parse()
	loads := []testbed.Load{
		{Clients: 1, MaxBatch: 1, Events: *total / 40},
		{Clients: 16, MaxBatch: 1, Events: *total / 4},
		{Clients: 256, MaxBatch: 1, Events: *total / 4},
		{Clients: 16, MaxBatch: 50, Events: *total},
		{Clients: 16, MaxBatch: 500, Events: *total},
	}
	if *clients > 0 {
		loads = []testbed.Load{{Clients: *clients, MaxBatch: *batch, Events: *total}}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := measure(ctx, loads); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, loads []testbed.Load) error {
	fmt.Printf("%8s %6s %10s %12s %10s %10s %8s %10s\n", "clients", "batch", "events/s", "cpu s/100k", "p50", "p99", "MiB", "B/event")
	for _, load := range loads {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := run(ctx, load); err != nil {
			return fmt.Errorf("%d clients, batches of %d: %w", load.Clients, load.MaxBatch, err)
		}
	}
	return nil
}

// run gives one load to a collector of its own and checks what it has stored.
func run(ctx context.Context, load testbed.Load) (err error) {
	directory, err := os.MkdirTemp("", "otelaudit-load-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	settings := testbed.Settings{Directory: directory}
	c, err := testbed.Start(ctx, settings)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Kill()) }()
	load.Plain, load.Name = true, "load"
	outcome := load.Run(ctx, c.HTTP)
	if len(outcome.Surprises) > 0 || len(outcome.Unknown) > 0 {
		return fmt.Errorf("%d events without an answer, surprises: %q", len(outcome.Unknown), outcome.Surprises)
	}
	if err := c.Stop(); err != nil {
		return err
	}
	report, err := testbed.Verify(directory, "--key", settings.Key(), settings.Store())
	if err != nil {
		return err
	}
	if report.Exit != 0 {
		return fmt.Errorf("what was stored does not verify: exit code %d, findings %v", report.Exit, report.Kinds())
	}
	stored, err := testbed.ReadStore(settings.Store())
	if err != nil {
		return err
	}
	cpu, memory := c.Usage()
	n := float64(outcome.Sent)
	fmt.Printf("%8d %6d %10.0f %12.2f %10s %10s %8d %10.0f\n", load.Clients, load.MaxBatch, n/outcome.Elapsed.Seconds(),
		cpu.Seconds()*1e5/n, outcome.Quantile(.5).Round(1e4), outcome.Quantile(.99).Round(1e4), memory>>20, float64(stored.Bytes)/n)
	return nil
}
