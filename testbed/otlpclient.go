// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/otelaudit/otelaudit/audit"
)

// OTLPClient sends log records to the stock otlp receiver of one collector.
type OTLPClient struct {
	connection *grpc.ClientConn
	grpc       plogotlp.GRPCClient
	http       *http.Client
	url        string
}

// NewOTLPClient returns a client of the collector.
func NewOTLPClient(c *Collector) (*OTLPClient, error) {
	connection, err := grpc.NewClient(c.OTLPGRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &OTLPClient{
		connection: connection, grpc: plogotlp.NewGRPCClient(connection),
		http: &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}, url: "http://" + c.OTLPHTTP + "/v1/logs",
	}, nil
}

// Close gives the connections back.
func (c *OTLPClient) Close() error {
	c.http.CloseIdleConnections()
	return c.connection.Close()
}

// SendGRPC sends the records over gRPC. The error is a status.
func (c *OTLPClient) SendGRPC(ctx context.Context, logs plog.Logs) error {
	_, err := c.grpc.Export(ctx, plogotlp.NewExportRequestFromLogs(logs))
	return err
}

// SendHTTP sends the records over HTTP and returns the status of the answer.
func (c *OTLPClient) SendHTTP(ctx context.Context, logs plog.Logs) (code int, err error) {
	body, err := plogotlp.NewExportRequestFromLogs(logs).MarshalProto()
	if err != nil {
		return 0, fmt.Errorf("marshal records: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("send records: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	response, err := c.http.Do(request)
	if err != nil {
		return 0, fmt.Errorf("send records: %w", err)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, errors.Join(err, response.Body.Close())
}

// OTLPRecords makes valid audit records with the given ids. The note is part
// of their content.
func OTLPRecords(note string, ids ...string) plog.Logs {
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	resource.Resource().Attributes().PutStr("service.name", "otlp-client")
	records := resource.ScopeLogs().AppendEmpty().LogRecords()
	for _, id := range ids {
		record := records.AppendEmpty()
		record.SetTimestamp(pcommon.NewTimestampFromTime(time.Unix(1_700_000_000, 0)))
		record.SetEventName("invoice.update")
		for name, value := range map[string]string{
			audit.AttributeRecordID: id, audit.AttributeActorID: "user_1", audit.AttributeActorType: "user",
			audit.AttributeAction: "UPDATE", audit.AttributeOutcome: "success", audit.AttributeTenantID: "acme",
		} {
			record.Attributes().PutStr(name, value)
		}
		record.Attributes().PutEmptyMap(audit.AttributeMetadata).PutStr("note", note)
	}
	return logs
}
