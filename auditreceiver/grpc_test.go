// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadata"
	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadatatest"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

func grpcConfig() *Config {
	config := testConfig()
	config.GRPC.GetOrInsertDefault().NetAddr.Endpoint = "127.0.0.1:0"
	return config
}

func connect(t *testing.T, r *auditReceiver) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient(r.grpc.listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, connection.Close()) })
	return connection
}

// dial returns the stock client of the collector.
func dial(t *testing.T, r *auditReceiver) plogotlp.GRPCClient {
	t.Helper()
	return plogotlp.NewGRPCClient(connect(t, r))
}

func TestGRPCTakesLogs(t *testing.T) {
	var got plog.Logs
	r, _ := start(t, grpcConfig(), receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), func(ctx context.Context, logs plog.Logs) error {
		got = plog.NewLogs()
		logs.CopyTo(got)
		return seal(ctx, logs)
	})
	sent := records("a", "b")
	for _, options := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}, {grpc.UseCompressor("zstd")}} {
		got = plog.Logs{}
		response, err := dial(t, r).Export(t.Context(), plogotlp.NewExportRequestFromLogs(sent), options...)
		require.NoError(t, err)
		assert.Zero(t, response.PartialSuccess().RejectedLogRecords())
		assert.Equal(t, marshalProto(t, sent), marshalProto(t, got))
	}
	assert.Zero(t, r.budget.used.Load())
}

func TestGRPCMessages(t *testing.T) {
	config := grpcConfig()
	config.GRPC.Get().MaxRecvMsgSizeMiB = 1
	r, _ := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
	connection := connect(t, r)
	export := func(body string, options ...grpc.CallOption) *status.Status {
		var answer raw
		options = append(options, grpc.ForceCodecV2(rawCodec{}))
		return status.Convert(connection.Invoke(t.Context(), "/"+logsService+"/"+logsMethod, raw(body), &answer, options...))
	}
	assert.Equal(t, codes.OK, export("").Code())
	for _, body := range []string{"\x0a\x05", marshalProto(t, nest(maxValueDepth+1))} {
		s := export(body)
		assert.Equal(t, codes.InvalidArgument, s.Code(), s.Message())
		assert.Empty(t, s.Details())
	}
	large := records(strings.Repeat("x", 1<<20))
	for _, options := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}, {grpc.UseCompressor("zstd")}} {
		s := export(marshalProto(t, large), options...)
		assert.Equal(t, codes.ResourceExhausted, s.Code(), s.Message())
		assert.Empty(t, s.Details(), "without RetryInfo it is not to be repeated")
	}
	assert.Zero(t, r.budget.used.Load())
	require.Eventually(t, func() bool { return r.grpc.reading.used.Load() == 0 }, time.Minute, time.Millisecond)
}

func TestGRPCZstdWindow(t *testing.T) {
	z := zstdMessages{limit: 100}
	message, err := z.Do(strings.NewReader(zstdWithWindow(t, maxZstdWindow, "some text")))
	require.NoError(t, err)
	assert.Equal(t, "some text", string(message))
	_, err = z.Do(strings.NewReader(zstdWithWindow(t, 2*maxZstdWindow, "some text")))
	require.Error(t, err)
	message, err = z.Do(strings.NewReader(zstdWithWindow(t, maxZstdWindow, strings.Repeat("x", 1<<20))))
	require.NoError(t, err)
	assert.Len(t, message, 101, "no more than is needed to refuse it")
}

func TestGRPCBudget(t *testing.T) {
	config := grpcConfig()
	config.MaxInFlightBytes = defaultMaxBody
	entered, leave := make(chan struct{}), make(chan struct{})
	r, _ := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), func(ctx context.Context, logs plog.Logs) error {
		entered <- struct{}{}
		<-leave
		return seal(ctx, logs)
	})
	client := dial(t, r)
	first := make(chan error, 1)
	go func() {
		_, err := client.Export(context.Background(), plogotlp.NewExportRequestFromLogs(records("a")))
		first <- err
	}()
	<-entered
	held := r.budget.used.Load()
	require.Positive(t, held)
	r.budget.used.Add(defaultMaxBody - held) // as if others were in flight
	_, err := client.Export(t.Context(), plogotlp.NewExportRequestFromLogs(records("a")))
	s := status.Convert(err)
	assert.Equal(t, codes.ResourceExhausted, s.Code(), s.Message())
	assert.Len(t, s.Details(), 1, "RetryInfo")
	r.budget.used.Add(held - defaultMaxBody)
	close(leave)
	require.NoError(t, <-first)
}

// Messages are read in turns: one that does not come must not hold its place
// for ever, and more than there are places must not be in memory.
func TestGRPCSlowMessages(t *testing.T) {
	config := grpcConfig()
	config.HTTP.ReadTimeout = time.Second
	r, _ := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
	stream := slowCall(t, r)
	var nothing raw
	s := status.Convert(stream.RecvMsg(&nothing))
	assert.Equal(t, codes.ResourceExhausted, s.Code(), s.Message())
	assert.Contains(t, s.Message(), "did not come in time")
	assert.Len(t, s.Details(), 1, "RetryInfo")
	require.Eventually(t, func() bool { return r.grpc.reading.used.Load() == 0 }, time.Minute, time.Millisecond)
	_, err := dial(t, r).Export(t.Context(), plogotlp.NewExportRequestFromLogs(records("a")))
	require.NoError(t, err)
}

// Messages that do not come must not keep out those that do.
func TestGRPCIdleCallsDoNotKeepOthersOut(t *testing.T) {
	config := grpcConfig()
	config.HTTP.ReadTimeout = time.Hour
	r, _ := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
	places := r.grpc.reading.limit / r.config.maxMessage()
	require.EqualValues(t, defaultMaxInFlight/(defaultMessageMiB<<20), places)
	idle := make([]grpc.ClientStream, places)
	for i := range idle {
		idle[i] = slowCall(t, r)
	}
	require.Eventually(t, func() bool { return r.grpc.reading.used.Load() == r.grpc.reading.limit }, time.Minute, time.Millisecond)
	_, err := dial(t, r).Export(t.Context(), plogotlp.NewExportRequestFromLogs(records("a")))
	require.NoError(t, err)
	cut := make(chan *status.Status, places)
	for _, stream := range idle {
		go func() {
			var nothing raw
			cut <- status.Convert(stream.RecvMsg(&nothing))
		}()
	}
	s := <-cut
	assert.Equal(t, codes.ResourceExhausted, s.Code(), s.Message())
	assert.Contains(t, s.Message(), "others wait")
	assert.Len(t, s.Details(), 1, "RetryInfo")
	assert.Empty(t, cut, "one had to go, no more")
}

// What a call may send before its turn, what a connection may hold and what a
// header may be are bounded, however fast the connection proves to be.
func TestGRPCBoundsWhatIsNotRead(t *testing.T) {
	r, _ := start(t, grpcConfig(), receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
	var heard recording
	connection, err := grpc.NewClient(r.grpc.listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			var err error
			heard.Conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
			return &heard, err
		}))
	require.NoError(t, err)
	large := plogotlp.NewExportRequestFromLogs(records(strings.Repeat("x", 3<<19)))
	for range 10 {
		_, err := plogotlp.NewGRPCClient(connection).Export(t.Context(), large)
		require.NoError(t, err)
	}
	ctx := grpcmetadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("x", maxHeaderBytes))
	_, err = plogotlp.NewGRPCClient(connection).Export(ctx, plogotlp.NewExportRequest())
	require.ErrorContains(t, err, "header list size")
	require.NoError(t, connection.Close())

	settings := map[http2.SettingID]uint32{http2.SettingInitialWindowSize: streamWindow}
	for framer := http2.NewFramer(nil, heard.bytes()); ; {
		frame, err := framer.ReadFrame()
		if err != nil {
			break
		}
		if set, ok := frame.(*http2.SettingsFrame); ok {
			require.NoError(t, set.ForeachSetting(func(s http2.Setting) error {
				settings[s.ID] = max(settings[s.ID], s.Val)
				return nil
			}))
		}
	}
	assert.EqualValues(t, streamWindow, settings[http2.SettingInitialWindowSize])
	assert.EqualValues(t, maxStreams, settings[http2.SettingMaxConcurrentStreams])
	assert.EqualValues(t, maxHeaderBytes, settings[http2.SettingMaxHeaderListSize])
}

// recording keeps what a connection hears.
type recording struct {
	net.Conn

	mu    sync.Mutex
	heard []byte // guarded by mu
}

func (c *recording) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, p[:n]...)
	return n, err
}

func (c *recording) bytes() *bytes.Reader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.NewReader(c.heard)
}

// slowCall begins a call and sends no message.
func slowCall(t *testing.T, r *auditReceiver) grpc.ClientStream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := connect(t, r).NewStream(ctx, &grpc.StreamDesc{StreamName: logsMethod, ClientStreams: true},
		"/"+logsService+"/"+logsMethod, grpc.ForceCodecV2(rawCodec{}))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return r.grpc.reading.used.Load() > 0 }, time.Minute, time.Millisecond)
	return stream
}

func TestGRPCTenant(t *testing.T) {
	id := component.MustNewID("fakeauth")
	h := newHost()
	h.extensions = map[component.ID]component.Component{id: &authenticator{tenants: map[string]any{"good": "acme", "none": nil}}}
	config := grpcConfig()
	config.GRPC.Get().IncludeMetadata = true
	config.GRPC.Get().Auth = configoptional.Some(configauth.Config{AuthenticatorID: id})
	config.Tenant = TenantConfig{Attribute: "tenant"}
	var tenant string
	var caller client.Info
	var incoming grpcmetadata.MD
	tel := componenttest.NewTelemetry()
	defer func() { assert.NoError(t, tel.Shutdown(context.Background())) }()
	r, _ := start(t, config, metadatatest.NewSettings(tel), h, func(ctx context.Context, logs plog.Logs) error {
		tenant, caller = receipt.FromContext(ctx).Tenant, client.FromContext(ctx)
		incoming, _ = grpcmetadata.FromIncomingContext(ctx)
		return seal(ctx, logs)
	})
	export := func(who string, logs plog.Logs) *status.Status {
		ctx := grpcmetadata.AppendToOutgoingContext(t.Context(), "authorization", who)
		_, err := dial(t, r).Export(ctx, plogotlp.NewExportRequestFromLogs(logs))
		return status.Convert(err)
	}
	assert.Equal(t, codes.OK, export("good", records("a")).Code())
	assert.Equal(t, "acme", tenant)
	assert.NotNil(t, caller.Addr)
	assert.Nil(t, caller.Auth)
	assert.Empty(t, caller.Metadata.Get("authorization"), "no credential goes down the pipeline")
	assert.Empty(t, incoming)

	foreign := records("a")
	foreign.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutStr(audit.AttributeTenantID, "evil")
	assert.Equal(t, codes.PermissionDenied, export("good", foreign).Code())
	assert.Equal(t, codes.PermissionDenied, export("none", records("a")).Code())
	stranger := export("nobody", records("a"))
	assert.Equal(t, codes.Unauthenticated, stranger.Code())
	assert.NotContains(t, stranger.Message(), "hunter2")
	metadatatest.AssertEqualReceiverAuditRequests(t, tel, []metricdata.DataPoint[int64]{
		{Value: 1, Attributes: attribute.NewSet(attribute.Int("status_code", 200))},
		{Value: 1, Attributes: attribute.NewSet(attribute.Int("status_code", 401))},
		{Value: 2, Attributes: attribute.NewSet(attribute.Int("status_code", 403))},
	}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
}

func TestGRPCTenantFromHeader(t *testing.T) {
	config := grpcConfig()
	config.Tenant.Header = "X-Tenant"
	var tenant string
	r, _ := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), func(ctx context.Context, logs plog.Logs) error {
		tenant = receipt.FromContext(ctx).Tenant
		return seal(ctx, logs)
	})
	ctx := grpcmetadata.AppendToOutgoingContext(t.Context(), "x-tenant", "acme")
	_, err := dial(t, r).Export(ctx, plogotlp.NewExportRequestFromLogs(records("a")))
	require.NoError(t, err)
	assert.Equal(t, "acme", tenant)
	_, err = dial(t, r).Export(t.Context(), plogotlp.NewExportRequestFromLogs(records("a")))
	assert.Equal(t, codes.PermissionDenied, status.Code(err))
}

func TestGRPCShutdownWaitsForTheAnswer(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r, err := newReceiver(grpcConfig(), receivertest.NewNopSettings(metadata.Type), pipe(func(ctx context.Context, logs plog.Logs) error {
		close(entered)
		<-leave
		return seal(ctx, logs)
	}).logs())
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	client := dial(t, r)
	answered := make(chan error, 1)
	go func() {
		_, err := client.Export(context.Background(), plogotlp.NewExportRequestFromLogs(records("a")))
		answered <- err
	}()
	<-entered
	down := make(chan error, 1)
	go func() { down <- r.Shutdown(context.Background()) }()
	require.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", r.grpc.listener.Addr().String())
		if err == nil {
			assert.NoError(t, connection.Close())
		}
		return err != nil
	}, time.Minute, time.Millisecond, "the endpoint must close first")
	assert.Empty(t, down)
	close(leave)
	require.NoError(t, <-answered)
	require.NoError(t, <-down)
}

func TestGRPCShutdownDoesNotWaitForAMessage(t *testing.T) {
	r, err := newReceiver(grpcConfig(), receivertest.NewNopSettings(metadata.Type), pipe(seal).logs())
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	slowCall(t, r)
	ctx, cancel := context.WithTimeout(t.Context(), lastReadTime+10*time.Second)
	defer cancel()
	require.NoError(t, r.Shutdown(ctx))
}

func TestGRPCStartFailsOnATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, taken.Close()) }()
	config := grpcConfig()
	config.GRPC.Get().NetAddr.Endpoint = taken.Addr().String()
	r, err := newReceiver(config, receivertest.NewNopSettings(metadata.Type), pipe(seal).logs())
	require.NoError(t, err)
	require.ErrorContains(t, r.Start(t.Context(), componenttest.NewNopHost()), "`grpc::endpoint`")
	assert.NoError(t, r.Shutdown(context.Background()))
}

func TestGRPCDeadListenerIsFatal(t *testing.T) {
	h := newHost()
	r, _ := start(t, grpcConfig(), receivertest.NewNopSettings(metadata.Type), h, seal)
	require.NoError(t, r.grpc.listener.Close())
	event := <-h.events
	assert.Equal(t, componentstatus.StatusFatalError, event.Status())
	assert.ErrorContains(t, event.Err(), "`grpc::endpoint`")
}

// A request that makes us panic must not end the collector.
func TestGRPCPanic(t *testing.T) {
	r, _ := start(t, grpcConfig(), receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), func(ctx context.Context, logs plog.Logs) error {
		if logs.LogRecordCount() == 2 {
			panic("a secret of the request")
		}
		return seal(ctx, logs)
	})
	_, err := dial(t, r).Export(t.Context(), plogotlp.NewExportRequestFromLogs(records("a", "b")))
	assert.Equal(t, codes.Unavailable, status.Code(err))
	assert.NotContains(t, err.Error(), "secret")
	assert.Zero(t, r.budget.used.Load())
	_, err = dial(t, r).Export(t.Context(), plogotlp.NewExportRequestFromLogs(records("a")))
	require.NoError(t, err)
}

func TestRawCodecTakesBytesOnly(t *testing.T) {
	_, err := rawCodec{}.Marshal("text")
	require.Error(t, err)
	require.Error(t, rawCodec{}.Unmarshal(nil, &bytes.Buffer{}))
}
