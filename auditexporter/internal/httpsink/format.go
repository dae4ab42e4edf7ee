// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// Format is what a body holds.
type Format string

// The formats.
const (
	// FormatEvents is {"events":[…]}, each event in the original shape.
	// Checkpoints, stubs and the chain are not in it: what the endpoint has
	// cannot be verified.
	FormatEvents Format = "events"
	// FormatNDJSON is the stored lines, stubs and checkpoints included. One
	// body behind the other is a file that can be verified.
	FormatNDJSON Format = "ndjson"
	// FormatOTLPJSON is an OTLP logs request with the chain's attributes on
	// each record, and checkpoints as log records.
	FormatOTLPJSON Format = "otlp_json"
)

// form is how a format is written: a body is prefix, the items with separators
// between them, suffix.
type form struct {
	contentType               string
	prefix, separator, suffix string
	// append writes one entry. The error is the collector's fault, not the
	// record's.
	append func(dst []byte, e *sink.Entry) ([]byte, error)
	// stub writes what stands in place of a refused record, nil if nothing.
	stub        func(dst []byte, e *sink.Entry) []byte
	checkpoints bool
	mostBytes   int // the longest item that may be sent
}

var forms = map[Format]form{
	FormatEvents: {
		contentType: "application/json", prefix: `{"events":[`, separator: ",", suffix: `]}`,
		append: func(dst []byte, e *sink.Entry) ([]byte, error) {
			return audit.EncodeEvent(dst, e.Resource.Resource(), e.Record), nil
		},
		mostBytes: math.MaxInt,
	},
	FormatNDJSON: {
		contentType: "application/x-ndjson",
		append: func(dst []byte, e *sink.Entry) ([]byte, error) {
			return append(e.AppendLine(dst), '\n'), nil
		},
		stub:        func(dst []byte, e *sink.Entry) []byte { return append(e.AppendStub(dst), '\n') },
		checkpoints: true,
		mostBytes:   audit.MaxLine + len("\n"),
	},
	FormatOTLPJSON: {
		contentType: "application/json", prefix: logsPrefix, separator: ",", suffix: logsSuffix,
		append: appendResourceLogs, checkpoints: true,
		mostBytes: math.MaxInt,
	},
}

// item is one entry as it is sent.
type item struct {
	entry   *sink.Entry
	text    []byte
	refused string // why only its stub is sent, "" for the entry itself
}

// body puts the items together.
func (f *form) body(items []item) []byte {
	size := len(f.prefix) + len(f.suffix)
	for i := range items {
		size += len(items[i].text) + len(f.separator)
	}
	body := append(make([]byte, 0, size), f.prefix...)
	for i := range items {
		if i > 0 {
			body = append(body, f.separator...)
		}
		body = append(body, items[i].text...)
	}
	return append(body, f.suffix...)
}

// hashOf is what tells two contents of one coordinate apart: the hash of a
// record's link, or SHA-256 of a checkpoint's signed note.
func hashOf(e *sink.Entry) chain.Hash {
	if e.Kind == audit.LineCheckpoint {
		return sha256.Sum256(e.Note)
	}
	return e.Hash
}

const (
	logsPrefix = `{"resourceLogs":[`
	logsSuffix = `]}`
)

// appendResourceLogs appends e as an element of the list `resourceLogs`.
func appendResourceLogs(dst []byte, e *sink.Entry) ([]byte, error) {
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	scope := resource.ScopeLogs().AppendEmpty()
	record := scope.LogRecords().AppendEmpty()
	if e.Kind == audit.LineCheckpoint {
		setCheckpoint(record.Attributes(), e)
	} else {
		e.Resource.Resource().CopyTo(resource.Resource())
		resource.SetSchemaUrl(e.Resource.SchemaUrl())
		e.Scope.Scope().CopyTo(scope.Scope())
		scope.SetSchemaUrl(e.Scope.SchemaUrl())
		e.Record.CopyTo(record)
		setChain(record.Attributes(), e)
	}
	text, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	if err != nil {
		return dst, err
	}
	text, hasPrefix := bytes.CutPrefix(text, []byte(logsPrefix))
	text, hasSuffix := bytes.CutSuffix(text, []byte(logsSuffix))
	if !hasPrefix || !hasSuffix {
		return dst, errors.New("OTLP JSON has another envelope than this version knows")
	}
	return append(dst, text...), nil
}

// setChain writes the seal onto a record. A record from the pipeline has the
// same already, one that is replayed does not.
func setChain(attributes pcommon.Map, e *sink.Entry) {
	attributes.PutStr(audit.AttributeChainOrigin, e.Link.Origin)
	attributes.PutInt(audit.AttributeChainIndex, clampInt(e.Link.Index))
	attributes.PutStr(audit.AttributeChainStream, e.Link.Stream)
	attributes.PutInt(audit.AttributeChainSeq, clampInt(e.Link.Seq))
	attributes.PutInt(audit.AttributeChainSealedAt, e.Link.SealedAt)
	attributes.PutStr(audit.AttributeChainPrev, e.Link.Prev.String())
	attributes.PutStr(audit.AttributeChainHash, e.Hash.String())
}

func setCheckpoint(attributes pcommon.Map, e *sink.Entry) {
	attributes.PutStr(audit.AttributeChainOrigin, e.Link.Origin)
	attributes.PutInt(audit.AttributeChainIndex, clampInt(e.Link.Index))
	attributes.PutStr(audit.AttributeChainCheckpoint, string(e.Note))
	hashes := attributes.PutEmptySlice(audit.AttributeChainRange)
	hashes.EnsureCapacity(len(e.Range))
	for _, hash := range e.Range {
		hashes.AppendEmpty().SetStr(hash.String())
	}
}

// clampInt is n as an attribute's integer. No tree grows past it.
func clampInt(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
