// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// OTLPSink is somebody else's OTLP/gRPC server behind a stock exporter. It
// keeps what it takes as stored lines, each coordinate once, so that the
// verifier can judge it. It shares no code with the audit exporter.
type OTLPSink struct {
	Endpoint string // host:port, the same after each Up
	// Delay is how long each call takes, at least.
	Delay time.Duration

	plogotlp.UnimplementedGRPCServer
	directory string
	server    *grpc.Server // of the Up that is not yet Down

	mu       sync.Mutex
	poison   string                    // guarded by mu
	encoder  canonical.Encoder         // guarded by mu
	lines    *os.File                  // guarded by mu
	stored   map[coordinate]chain.Hash // guarded by mu
	calls    int                       // guarded by mu
	repeated int                       // guarded by mu
	faults   []string                  // guarded by mu
}

// coordinate is where a record or a checkpoint belongs.
type coordinate struct {
	origin     string
	index      uint64
	checkpoint bool
}

// NewOTLPSink returns a sink that is down and keeps its lines below directory.
func NewOTLPSink(directory string) (*OTLPSink, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("open sink: %w", err)
	}
	lines, err := os.OpenFile(filepath.Join(directory, "lines.jsonl"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open sink: %w", err)
	}
	return &OTLPSink{
		Endpoint: ports[0], directory: directory, lines: lines,
		stored: map[coordinate]chain.Hash{},
	}, nil
}

// Store returns the directory of the lines.
func (s *OTLPSink) Store() string { return s.directory }

// Config returns the configuration of a stock exporter to this sink, named
// otlp/<name>, without a queue and without a retry of its own: the audit
// processor has both.
func (s *OTLPSink) Config(name string) string {
	return fmt.Sprintf(`exporters: {otlp/%s: {endpoint: %s, tls: {insecure: true}, compression: none, timeout: 10s, sending_queue: {enabled: false}, retry_on_failure: {enabled: false}}}`, name, s.Endpoint)
}

// Up lets the sink take records.
func (s *OTLPSink) Up() error {
	listener, err := net.Listen("tcp", s.Endpoint)
	if err != nil {
		return fmt.Errorf("start sink: %w", err)
	}
	s.server = grpc.NewServer(grpc.MaxRecvMsgSize(maxAnswer))
	plogotlp.RegisterGRPCServer(s.server, s)
	go s.server.Serve(listener) //nolint:errcheck // ends with Down; a sink that serves nothing fails the test
	return nil
}

// Down cuts every connection. Calls that have begun may be stored without an
// answer.
func (s *OTLPSink) Down() {
	if s.server != nil {
		s.server.Stop()
		s.server = nil
	}
}

// Close takes the sink down for good.
func (s *OTLPSink) Close() error {
	s.Down()
	return s.lines.Close()
}

// Poison makes the sink refuse the record with this id for good, with every
// other record of its call; "" ends that.
func (s *OTLPSink) Poison(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poison = id
}

// Seen says how many calls there were, how many records came again, and what
// no sink should see.
func (s *OTLPSink) Seen() (calls, repeated int, faults []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, s.repeated, s.faults
}

// Export stores one request, whole or not at all.
func (s *OTLPSink) Export(ctx context.Context, request plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	if err := pause(ctx, s.Delay); err != nil {
		return plogotlp.ExportResponse{}, status.FromContextError(err).Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	err := s.store(request.Logs())
	if _, isStatus := status.FromError(err); err != nil && !isStatus {
		s.faults = append(s.faults, err.Error())
		err = status.Error(codes.Unavailable, err.Error())
	}
	return plogotlp.NewExportResponse(), err
}

func (s *OTLPSink) store(logs plog.Logs) error {
	var (
		text  []byte
		added = map[coordinate]chain.Hash{}
	)
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			if err := s.encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()); err != nil {
				return err
			}
			for _, record := range scope.LogRecords().All() {
				if id, ok := record.Attributes().Get(audit.AttributeRecordID); ok && s.poison != "" && id.Str() == s.poison {
					return status.Error(codes.InvalidArgument, "one record is poison")
				}
				var err error
				if text, err = s.line(text, record, added); err != nil {
					return err
				}
			}
		}
	}
	if _, err := s.lines.Write(text); err != nil {
		return err
	}
	maps.Copy(s.stored, added)
	return nil
}

// line appends the stored line of one record, unless its coordinate has it.
func (s *OTLPSink) line(text []byte, record plog.LogRecord, added map[coordinate]chain.Hash) ([]byte, error) {
	attributes := attributesOf(record)
	note := attributes.text(audit.AttributeChainCheckpoint)
	at := coordinate{origin: attributes.text(audit.AttributeChainOrigin), index: uint64(attributes.number(audit.AttributeChainIndex)), checkpoint: note != ""}
	hash, fresh := chain.Hash(sha256.Sum256([]byte(note))), []byte(nil)
	var err error
	if at.checkpoint {
		fresh = audit.AppendCheckpoint(nil, []byte(note), attributes.hashes(audit.AttributeChainRange))
	} else {
		hash, fresh, err = s.event(record, attributes, at)
	}
	if err = errors.Join(err, attributes.err); err != nil {
		return nil, fmt.Errorf("%s %d: %w", at.origin, at.index, err)
	}
	before, repeated := s.stored[at]
	switch {
	case repeated && before != hash:
		return nil, fmt.Errorf("%s %d: comes with another hash than before", at.origin, at.index)
	case repeated:
		s.repeated++
		return text, nil
	}
	if _, twice := added[at]; twice {
		return nil, fmt.Errorf("%s %d: comes twice in one call", at.origin, at.index)
	}
	added[at] = hash
	return append(append(text, fresh...), '\n'), nil
}

func (s *OTLPSink) event(record plog.LogRecord, attributes *attributeReader, at coordinate) (chain.Hash, []byte, error) {
	event, _, err := s.encoder.Append(nil, record)
	if err != nil {
		return chain.Hash{}, nil, err
	}
	link := chain.Link{
		Origin: at.origin, Index: at.index, Stream: attributes.text(audit.AttributeChainStream),
		Seq: uint64(attributes.number(audit.AttributeChainSeq)), SealedAt: attributes.number(audit.AttributeChainSealedAt),
		Prev: attributes.hash(audit.AttributeChainPrev), Digest: sha256.Sum256(event),
	}
	hash := attributes.hash(audit.AttributeChainHash)
	if link.Hash() != hash {
		return chain.Hash{}, nil, errors.New("is not what was sealed")
	}
	return hash, audit.AppendEvent(nil, &link, hash, event), nil
}

// attributeReader reads attributes of a record and keeps the first error.
type attributeReader struct {
	attributes pcommon.Map
	err        error
}

func attributesOf(record plog.LogRecord) *attributeReader {
	return &attributeReader{attributes: record.Attributes()}
}

func (r *attributeReader) text(name string) string {
	value, ok := r.attributes.Get(name)
	if !ok {
		return "" // its line will not verify
	}
	return value.Str()
}

func (r *attributeReader) number(name string) int64 {
	value, ok := r.attributes.Get(name)
	if !ok {
		return 0
	}
	return value.Int()
}

func (r *attributeReader) hash(name string) chain.Hash {
	hash, err := chain.ParseHash(r.text(name))
	r.err = errors.Join(r.err, err)
	return hash
}

func (r *attributeReader) hashes(name string) []chain.Hash {
	list, ok := r.attributes.Get(name)
	if !ok {
		return nil
	}
	var hashes []chain.Hash
	for _, element := range list.Slice().All() {
		hash, err := chain.ParseHash(element.Str())
		r.err = errors.Join(r.err, err)
		hashes = append(hashes, hash)
	}
	return hashes
}
