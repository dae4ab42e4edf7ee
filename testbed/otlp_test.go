// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
)

func TestRequestsCarryIDsOfTheirOwn(t *testing.T) {
	requests, err := NewRequests(1, 10, false)
	require.NoError(t, err)
	seen := map[string]bool{}
	var buffer []byte
	for client := range 3 {
		next := 0
		for n := range len(requests.prepared) + 1 {
			var records int
			buffer, records = requests.appendRequest(buffer[:0], n, client, next)
			require.Equal(t, 10, records)
			request := plogotlp.NewExportRequest()
			require.NoError(t, request.UnmarshalProto(buffer))
			for i, record := range request.Logs().ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
				id, ok := record.Attributes().Get(audit.AttributeRecordID)
				require.True(t, ok)
				assert.Equal(t, recordID(client, next+i), id.Str())
				assert.False(t, seen[id.Str()], "two records have the id %s", id.Str())
				seen[id.Str()] = true
			}
			next += records
		}
	}
}

func TestOTLPLoadCountsWhatIsAcknowledged(t *testing.T) {
	server, err := NewDiscard()
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Close()) }()
	requests, err := NewRequests(1, 3, true)
	require.NoError(t, err)
	warm := int64(0)
	load := OTLPLoad{Requests: requests, Clients: 4, Connections: 2, Warm: 20 * time.Millisecond, Duration: 50 * time.Millisecond}
	outcome, err := load.Run(t.Context(), server.Endpoint, func() error { warm = server.Requests(); return nil })
	require.NoError(t, err)
	assert.Positive(t, warm)
	assert.Positive(t, outcome.Records)
	assert.EqualValues(t, 3*(server.Requests()-warm), outcome.Records)
	assert.Len(t, outcome.Latencies, outcome.Records/3)
	ids := 0
	for range outcome.IDs {
		ids++
	}
	assert.EqualValues(t, 3*server.Requests(), ids, "the warm-up's records are acknowledged as well")
}

func TestOTLPLoadKeepsItsRate(t *testing.T) {
	server, err := NewDiscard()
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Close()) }()
	requests, err := NewRequests(1, 1, true)
	require.NoError(t, err)
	load := OTLPLoad{Requests: requests, Clients: 5, Rate: 1000, Duration: 200 * time.Millisecond}
	outcome, err := load.Run(t.Context(), server.Endpoint, func() error { return nil })
	require.NoError(t, err)
	assert.Equal(t, 200, outcome.Records)
}

// answering starts a server that answers as told, and counts the requests.
func answering(t *testing.T, answer func(n int64) ([]byte, error)) (endpoint string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var n atomic.Int64
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		text, err := answer(n.Add(1))
		if err != nil {
			return err
		}
		return stream.SendMsg(&text)
	}))
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-done)
	})
	return listener.Addr().String()
}

func TestOTLPLoadSendsAgainWhatIsUnavailable(t *testing.T) {
	endpoint := answering(t, func(n int64) ([]byte, error) {
		if n == 1 {
			return nil, status.Error(codes.Unavailable, "later")
		}
		return nil, nil
	})
	requests, err := NewRequests(1, 1, true)
	require.NoError(t, err)
	outcome, err := OTLPLoad{Requests: requests, Clients: 1, Duration: 20 * time.Millisecond}.Run(t.Context(), endpoint, func() error { return nil })
	require.NoError(t, err)
	assert.Equal(t, 1, outcome.Refused)
	assert.Positive(t, outcome.Records)
	assert.GreaterOrEqual(t, outcome.Quantile(1), 100*time.Millisecond, "the time of a request is that of all its attempts")
}

func TestOTLPLoadTakesNoOtherAnswer(t *testing.T) {
	partial := plogotlp.NewExportResponse()
	partial.PartialSuccess().SetRejectedLogRecords(1)
	rejected, err := partial.MarshalProto()
	require.NoError(t, err)
	requests, err := NewRequests(1, 1, true)
	require.NoError(t, err)
	for name, answer := range map[string]func(int64) ([]byte, error){
		"error":           func(int64) ([]byte, error) { return nil, status.Error(codes.InvalidArgument, "no") },
		"partial success": func(int64) ([]byte, error) { return rejected, nil },
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := answering(t, answer)
			_, err := OTLPLoad{Requests: requests, Clients: 2, Duration: time.Minute}.Run(t.Context(), endpoint, func() error { return nil })
			require.Error(t, err)
		})
	}
}
