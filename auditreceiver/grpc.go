// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	logsService = "opentelemetry.proto.collector.logs.v1.LogsService"
	logsMethod  = "Export"

	// maxStreams bounds the calls of one connection, also of those that are
	// begun and given up at once. Clients wait with what is above it.
	maxStreams = 1024
	// streamWindow is what a call may send before its turn to be read. A message
	// that is being read has a window of its own size. Left to itself, grpc
	// widens the windows of a fast connection to megabytes for each call.
	streamWindow = 64 << 10
	// connectionWindow is what may be on its way over one connection.
	connectionWindow = 1 << 20
	// maxHeaderBytes is for names, traces and credentials.
	maxHeaderBytes = 64 << 10
)

// grpcServer takes OTLP over gRPC. A message is read as bytes, in its turn, and
// goes through the same admission, decoding and verdict as a body over HTTP.
//
// Export is served as a stream of one message each way, which is what a unary
// call is on the wire: so the handler runs before the message is in memory, and
// decides how many are read at one time and for how long.
type grpcServer struct {
	receiver  *auditReceiver
	obsreport *receiverhelper.ObsReport
	server    *grpc.Server
	listener  net.Listener
	// reading bounds the messages that are read at one time: each takes the size
	// of the largest, together they are no larger than `max_in_flight_bytes`.
	reading budget
	// readTimeout is what a message has to come in.
	readTimeout time.Duration
}

func (r *auditReceiver) newGRPC() (*grpcServer, error) {
	obsreport, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: r.settings.ID, Transport: "grpc", ReceiverCreateSettings: r.settings,
	})
	if err != nil {
		return nil, err
	}
	s := &grpcServer{receiver: r, obsreport: obsreport, readTimeout: r.config.readTimeout()}
	s.reading.limit = max(r.config.maxMessage(), r.config.MaxInFlightBytes)
	return s, nil
}

func (s *grpcServer) start(ctx context.Context, host component.Host) error {
	config := s.receiver.config.GRPC.Get()
	server, err := config.ToServer(ctx, host.GetExtensions(), s.receiver.settings.TelemetrySettings,
		configgrpc.WithGrpcServerOption(grpc.ForceServerCodecV2(rawCodec{})),
		//nolint:staticcheck // the other way is to register one for the whole process, stock components included
		configgrpc.WithGrpcServerOption(grpc.RPCDecompressor(zstdMessages{limit: s.receiver.config.maxMessage()})),
		configgrpc.WithGrpcServerOption(grpc.StaticStreamWindowSize(streamWindow)),
		configgrpc.WithGrpcServerOption(grpc.StaticConnWindowSize(connectionWindow)),
		configgrpc.WithGrpcServerOption(grpc.MaxHeaderListSize(maxHeaderBytes)),
		configgrpc.WithGrpcServerOption(grpc.StreamInterceptor(s.intercept))) // the outermost: it sees who is not authenticated
	if err != nil {
		return fmt.Errorf("set up the server of `grpc`: %w", err)
	}
	listener, err := config.NetAddr.Listen(ctx)
	if err != nil {
		return fmt.Errorf("listen on `grpc::endpoint`: %w", err)
	}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: logsService,
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: logsMethod, Handler: s.export}},
	}, s)
	s.receiver.settings.Logger.Info("listening for audit events over gRPC", zap.Stringer("endpoint", listener.Addr()))
	s.server, s.listener = server, listener
	s.receiver.serving.Go(func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(fmt.Errorf("serve `grpc::endpoint`: %w", err)))
		}
	})
	return nil
}

// shutdown waits for the calls in flight until ctx ends.
func (s *grpcServer) shutdown(ctx context.Context) error {
	if s.server == nil {
		return nil
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.server.GracefulStop()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		s.server.Stop()
		<-ended
		return fmt.Errorf("wait for calls in flight: %w", ctx.Err())
	}
}

// intercept answers for who is turned away before the handler.
func (s *grpcServer) intercept(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	err := next(server, stream)
	if status.Code(err) != codes.Unauthenticated {
		return err
	}
	// The authenticator's text is for the operator, not for a stranger.
	s.receiver.settings.Logger.Debug("caller is not authenticated", zap.Error(err))
	a := answer{status: http.StatusUnauthorized, problem: problemUnauthenticated}
	s.receiver.count(stream.Context(), &a)
	return a.statusOf().Err()
}

// export answers one call.
func (s *grpcServer) export(_ any, stream grpc.ServerStream) error {
	a := s.recovering(stream)
	s.receiver.count(stream.Context(), &a)
	if a.status/100 != 2 {
		return a.statusOf().Err()
	}
	return stream.SendMsg(raw(nil)) // the empty response: no partial success
}

// recovering is answer, whatever a request does to us: as net/http does, and
// grpc-go does not.
func (s *grpcServer) recovering(stream grpc.ServerStream) (a answer) {
	defer func() {
		if problem := recover(); problem != nil {
			s.receiver.settings.Logger.Error("a call ended in a panic", zap.String("panic", withoutPayload(problem)), zap.Stack("stack"))
			a = answer{status: http.StatusServiceUnavailable, retryAfter: retryFailed, problem: "the collector failed at this request: see its log"}
		}
	}()
	return s.answer(stream)
}

// withoutPayload describes a panic. What is not the runtime's own text may quote
// a record.
func withoutPayload(problem any) string {
	if err, ok := problem.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", problem)
}

func (s *grpcServer) answer(stream grpc.ServerStream) answer {
	r := s.receiver
	header := s.header(stream.Context())
	who, err := r.config.caller(stream.Context(), header, connectionOf(stream.Context()))
	if err != nil {
		return answer{status: http.StatusForbidden, problem: err.Error()}
	}
	taken := newShare(&r.budget, addressOf(stream.Context()), stream.Context().Done())
	defer taken.release()
	body, err := s.read(stream, taken)
	if err != nil {
		return unreadable(err)
	}
	ctx := r.config.Tenant.callerContext(stream.Context(), header)
	// What came with the call, credentials among it, stays here.
	ctx = metadata.NewIncomingContext(ctx, nil)
	return r.takeOTLP(ctx, &inbound{
		report: s.obsreport, form: encodingProtobuf, body: body, taken: taken, who: who, filled: who.receipt(),
	})
}

func addressOf(ctx context.Context) string {
	if from, ok := peer.FromContext(ctx); ok {
		return from.Addr.String()
	}
	return ""
}

// connectionOf returns what is known of a connection with TLS, nil if it has
// none.
func connectionOf(ctx context.Context) *tls.ConnectionState {
	if from, ok := peer.FromContext(ctx); ok {
		if info, ok := from.AuthInfo.(credentials.TLSInfo); ok {
			return &info.State
		}
	}
	return nil
}

// header is the one that the tenant may be named in, nothing else of what came
// with the call.
func (s *grpcServer) header(ctx context.Context) http.Header {
	header := http.Header{}
	if name := s.receiver.config.Tenant.Header; name != "" {
		for _, value := range metadata.ValueFromIncomingContext(ctx, name) {
			header.Add(name, value)
		}
	}
	return header
}

var errSlow = fmt.Errorf("%w: the message did not come in time", errBusy)

// read waits for its turn and reads the message, for as long as there is time
// for it, into memory that taken has admitted.
func (s *grpcServer) read(stream grpc.ServerStream, taken *share) ([]byte, error) {
	size := s.receiver.config.maxMessage()
	place := newShare(&s.reading, addressOf(stream.Context()), stream.Context().Done())
	place.read(nil)
	if err := place.admit(size); err != nil {
		return nil, fmt.Errorf("%w: too many messages are being read", err)
	}
	var message raw
	received := make(chan error, 1)
	go func() {
		// Ends at the latest with the call, which returning from its handler ends.
		defer place.release()
		defer place.hasRead() // first: what holds nothing must not be asked to give way
		received <- stream.RecvMsg(&message)
	}()
	timeout := time.NewTimer(s.readTimeout)
	defer timeout.Stop()
	stopping := s.receiver.stopping.Done()
	for {
		select {
		case err := <-received:
			if err != nil {
				return nil, judgeReceive(err)
			}
			return message, taken.admit(int64(len(message)))
		case <-stopping:
			stopping = nil
			timeout.Reset(lastReadTime)
		case <-place.cutOff:
			return nil, errCutOff
		case <-timeout.C:
			return nil, errSlow
		}
	}
}

// judgeReceive reads an error of the transport. The client has its answer
// already, which is the transport's: RESOURCE_EXHAUSTED without RetryInfo for
// what is too large.
func judgeReceive(err error) error {
	if status.Code(err) == codes.ResourceExhausted {
		return &http.MaxBytesError{}
	}
	return errors.New(cut(status.Convert(err).Message()))
}

// raw is a message as it is on the wire.
type raw []byte

// rawCodec leaves messages alone: they are decoded after admission.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.(raw)
	if !ok {
		return nil, fmt.Errorf("marshal %T: want bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(message)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(*raw)
	if !ok {
		return fmt.Errorf("unmarshal into %T: want bytes", v)
	}
	*message = data.Materialize() //nolint:misspell // grpc's name
	return nil
}
