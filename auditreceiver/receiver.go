// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadata"
)

const (
	pathEvents = "/v1/events"
	transport  = "http"

	// answerTime is what a handler gets beside the pipeline's time, to write
	// its answer, before shutdown gives up on it.
	answerTime = 2 * time.Second

	// lastReadTime is what a body has to arrive in once shutdown has begun:
	// nothing of it is promised yet, and a client that stalls must not use up
	// the time in which the pipeline drains.
	lastReadTime = 2 * time.Second
)

// auditReceiver is the running component.
type auditReceiver struct {
	config    Config
	settings  receiver.Settings
	next      consumer.Logs
	obsreport *receiverhelper.ObsReport
	telemetry *metadata.TelemetryBuilder
	budget    budget

	server   *http.Server
	listener net.Listener
	grpc     *grpcServer // nil where `grpc` is off
	serving  sync.WaitGroup
	stopping context.Context // ends when shutdown begins
	stop     context.CancelFunc
}

func newReceiver(config *Config, set receiver.Settings, next consumer.Logs) (*auditReceiver, error) {
	obsreport, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: set.ID, Transport: transport, ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, err
	}
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	r := &auditReceiver{config: *config, settings: set, next: next, obsreport: obsreport, telemetry: telemetry}
	r.budget.limit = config.MaxInFlightBytes
	r.stopping, r.stop = context.WithCancel(context.Background())
	if config.GRPC.HasValue() {
		if r.grpc, err = r.newGRPC(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Start begins to listen. It returns once the endpoints take connections.
func (r *auditReceiver) Start(ctx context.Context, host component.Host) error {
	named := metric.WithAttributeSet(attribute.NewSet(attribute.String("receiver", r.settings.ID.String())))
	err := r.telemetry.RegisterReceiverAuditInFlightBytesCallback(func(_ context.Context, o metric.Int64Observer) error {
		o.Observe(r.budget.used.Load(), named)
		return nil
	})
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	if err := r.startHTTP(ctx, host); err != nil {
		return err
	}
	if r.grpc == nil {
		return nil
	}
	return r.grpc.start(ctx, host)
}

func (r *auditReceiver) startHTTP(ctx context.Context, host component.Host) error {
	server, err := r.config.HTTP.ToServer(ctx, host.GetExtensions(), r.settings.TelemetrySettings, r.handler(),
		r.serverOptions()...)
	if err != nil {
		return fmt.Errorf("set up the server of `http`: %w", err)
	}
	// As over gRPC: a header is in memory before anybody knows whose it is.
	server.MaxHeaderBytes = maxHeaderBytes
	listener, err := r.config.HTTP.ToListener(ctx)
	if err != nil {
		return fmt.Errorf("listen on `http::endpoint`: %w", err)
	}
	r.settings.Logger.Info("listening for audit events", zap.Stringer("endpoint", listener.Addr()))
	r.server, r.listener = server, listener
	r.serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(fmt.Errorf("serve `http::endpoint`: %w", err)))
		}
	})
	return nil
}

func (r *auditReceiver) serverOptions() []confighttp.ToServerOption {
	options := []confighttp.ToServerOption{confighttp.WithErrorHandler(r.serveServerError)}
	if algorithms := r.config.HTTP.CompressionAlgorithms; algorithms == nil || slices.Contains(algorithms, encodingZstd) {
		options = append(options, confighttp.WithDecoder(encodingZstd, readZstd))
	}
	return options
}

// Shutdown stops to listen and waits for the requests in flight, each of which
// gets its true answer, for as long as the pipeline has time for one. Safe
// without Start and when called again.
func (r *auditReceiver) Shutdown(ctx context.Context) error {
	r.stop()
	ctx, cancel := context.WithTimeout(ctx, r.config.RequestTimeout+answerTime)
	defer cancel()
	calls := make(chan error, 1)
	go func() { calls <- r.shutdownGRPC(ctx) }()
	err := errors.Join(r.shutdownHTTP(ctx), <-calls)
	r.serving.Wait()
	r.telemetry.Shutdown()
	return err
}

func (r *auditReceiver) shutdownGRPC(ctx context.Context) error {
	if r.grpc == nil {
		return nil
	}
	return r.grpc.shutdown(ctx)
}

func (r *auditReceiver) shutdownHTTP(ctx context.Context) error {
	if r.server == nil {
		return nil
	}
	server := r.server
	r.server = nil
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("wait for requests in flight: %w", err), server.Close())
	}
	return nil
}

// handler routes requests. Every answer of it is JSON, but OTLP's to protobuf.
func (r *auditReceiver) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(pathEvents, func(w http.ResponseWriter, req *http.Request) {
		r.send(w, req, r.events(w, req))
	})
	for _, path := range []string{pathLogs, pathAudit} {
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			r.send(w, req, r.otlp(w, req))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		r.send(w, req, answer{status: http.StatusNotFound, problem: "there is nothing here: send events to " + pathEvents + ", log records to " + pathLogs + " or " + pathAudit})
	})
	return mux
}

const problemUnauthenticated = "the caller is not authenticated"

// serveServerError answers for what the server finds before our handlers run:
// a caller that is not authenticated, and compression that cannot be read.
func (r *auditReceiver) serveServerError(w http.ResponseWriter, req *http.Request, message string, status int) {
	if status == http.StatusUnauthorized {
		// The authenticator's text is for the operator, not for a stranger.
		r.settings.Logger.Debug("caller is not authenticated", zap.String("error", message))
		message = problemUnauthenticated
	}
	r.send(w, req, answer{status: status, problem: message})
}
