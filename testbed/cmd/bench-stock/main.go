// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Command bench-stock measures what an acknowledgement that is durable costs,
// in one run beside two stock collectors of the same release: one whose OTLP
// exporter has a persistent queue that is synced, and one that keeps nothing.
// Load generator, collectors and the server that takes what the stock one
// delivers share the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/otelaudit/otelaudit/testbed"
)

func main() {
	seconds := flag.Int("seconds", 4, "how long each measurement is")
	rounds := flag.Int("rounds", 3, "measurements of each collector under each load; the median counts")
	directory := flag.String("directory", "data", "where the collectors keep their data: on a disk, not in memory")
	only := flag.String("load", "", "measure this load alone")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := os.MkdirAll(*directory, 0o700)
	if err == nil {
		err = compare(ctx, *directory, *rounds, time.Duration(*seconds)*time.Second, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-stock:", err)
		os.Exit(1)
	}
}

// The stock queue's quota is set so high that it never refuses, its exporter
// does not compress, and retries have no end, as durability wants it.
const queued = `
exporters:
  otlp:
    endpoint: %s
    tls: {insecure: true}
    compression: none
    retry_on_failure: {max_elapsed_time: 0}
    sending_queue: {storage: file_storage, queue_size: 100000000}
extensions:
  file_storage: {directory: ., fsync: true}
service:
  extensions: [health_check, file_storage]
  pipelines:
    logs: {receivers: [otlp], exporters: [otlp]}
`

const nop = `
exporters: {nop: {}}
service:
  extensions: [health_check]
  pipelines:
    logs: {receivers: [otlp], exporters: [nop]}
`

type load struct {
	name           string
	clients, batch int
	connections    int // 0: one for each client
	rate           int
}

var loads = []load{
	{"1", 1, 1, 0, 0},
	{"64", 64, 1, 0, 0},
	{"1024", 1024, 1, 0, 0},
	{"1024/16", 1024, 1, 16, 0},
	{"64x100", 64, 100, 0, 0},
	{"paced", 64, 1, 0, 5000},
}

func (l load) String() string {
	text := fmt.Sprintf("%d clients, %d records a request", l.clients, l.batch)
	if l.connections > 0 {
		text += fmt.Sprintf(", sharing %d connections", l.connections)
	}
	if l.rate > 0 {
		text += fmt.Sprintf(", %d requests/s, latency from when each was due", l.rate)
	}
	return text
}

func compare(ctx context.Context, directory string, rounds int, duration time.Duration, only string) (err error) {
	server, err := testbed.NewDiscard()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	keepsNothing := func(*testbed.Collector, *testbed.OTLPOutcome) error { return nil }
	subjects := []testbed.Subject{
		testbed.Audit("otelaudit", ""),
		testbed.Peer("stock, synced queue", fmt.Sprintf(queued, server.Endpoint), keepsNothing),
		testbed.Peer("stock, nop", nop, keepsNothing),
	}
	for _, l := range loads {
		if only != "" && only != l.name {
			continue
		}
		if err := measure(ctx, directory, subjects, l, rounds, duration); err != nil {
			return fmt.Errorf("load %s: %w", l.name, err)
		}
	}
	return nil
}

func measure(ctx context.Context, directory string, subjects []testbed.Subject, l load, rounds int, duration time.Duration) error {
	requests, err := testbed.NewRequests(1, l.batch, true)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s: %s (%d B a record)\n%28s %s\n", l.name, l, requests.Size(), "", testbed.MeasurementHeader())
	sent := testbed.OTLPLoad{Requests: requests, Clients: l.clients, Connections: l.connections, Rate: l.rate, Warm: time.Second, Duration: duration}
	medians, err := testbed.Compare(ctx, directory, subjects, sent, rounds, os.Stderr)
	if err != nil {
		return err
	}
	for i, subject := range subjects {
		fmt.Printf("%28s %s\n", subject.Name, medians[i])
	}
	ours, durable, nothing := medians[0], medians[1], medians[2]
	fmt.Printf("%28s %.2f x the rate of the synced queue at %.2f x its CPU, %.2f x its p99; %.2f x the p99 of nop\n", "ratio",
		ours.Rate/durable.Rate, ours.CPU/durable.CPU, float64(ours.P99)/float64(durable.P99), float64(ours.P99)/float64(nothing.P99))
	return nil
}
