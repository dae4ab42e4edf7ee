// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package profiler is an extension that serves net/http/pprof on the loopback
// interface. It is for the benchmarks' own distribution and no other.
package profiler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension"
)

// Config is the configuration of the extension.
type Config struct {
	// Endpoint is what is listened on, host:port; the host must be a loopback
	// address.
	Endpoint string `mapstructure:"endpoint"`
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	host, _, err := net.SplitHostPort(c.Endpoint)
	if err != nil {
		return fmt.Errorf("`endpoint`: %w", err)
	}
	if !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("`endpoint` must be on a loopback address, found %q", host)
	}
	return nil
}

// NewFactory returns the factory of extensions of type profiler.
func NewFactory() extension.Factory {
	return extension.NewFactory(component.MustNewType("profiler"),
		func() component.Config { return &Config{Endpoint: "127.0.0.1:1777"} }, create, component.StabilityLevelDevelopment)
}

func create(_ context.Context, _ extension.Settings, config component.Config) (extension.Extension, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	return &profiler{server: &http.Server{Addr: config.(*Config).Endpoint, Handler: mux, ReadHeaderTimeout: time.Minute}}, nil
}

type profiler struct {
	server *http.Server
	done   chan error // nil until it was started
}

// Start implements component.Component.
func (p *profiler) Start(ctx context.Context, _ component.Host) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.server.Addr)
	if err != nil {
		return fmt.Errorf("serve profiles: %w", err)
	}
	p.done = make(chan error, 1)
	go func() { p.done <- p.server.Serve(listener) }()
	return nil
}

// Shutdown implements component.Component.
func (p *profiler) Shutdown(context.Context) error {
	if p.done == nil {
		return nil
	}
	err := p.server.Close()
	if served := <-p.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	p.done = nil
	return err
}
