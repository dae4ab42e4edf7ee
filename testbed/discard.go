// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
)

// Discard is an OTLP/gRPC server that accepts everything and keeps nothing.
type Discard struct {
	Endpoint string
	server   *grpc.Server
	requests atomic.Int64
	done     chan error
}

// NewDiscard starts one on a free port of the loopback interface.
func NewDiscard() (*Discard, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start discarding server: %w", err)
	}
	const largest = 64 << 20
	d := &Discard{Endpoint: listener.Addr().String(), done: make(chan error, 1)}
	d.server = grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(largest), grpc.UnknownServiceHandler(d.accept))
	go func() { d.done <- d.server.Serve(listener) }()
	return d, nil
}

func (d *Discard) accept(_ any, stream grpc.ServerStream) error {
	var request, answer []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	d.requests.Add(1)
	return stream.SendMsg(&answer)
}

// Requests returns how many were received.
func (d *Discard) Requests() int64 { return d.requests.Load() }

// Close ends the server.
func (d *Discard) Close() error {
	d.server.Stop()
	return <-d.done
}
