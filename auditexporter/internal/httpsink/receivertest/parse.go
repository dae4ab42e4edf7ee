// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package receivertest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// Entry is one record, stub or checkpoint of a request.
type Entry struct {
	ID   string // coordinate, or the eventId of an event
	Hash string // what 409 names
	Line string // the stored line, or the event
	Stub bool
}

func parse(format string, body []byte) ([]Entry, error) {
	switch format {
	case "ndjson":
		return parseLines(string(body))
	case "otlp_json":
		return parseLogs(body)
	default:
		return parseEvents(body)
	}
}

func parseLines(body string) ([]Entry, error) {
	var entries []Entry
	for line := range strings.Lines(body) {
		text, whole := strings.CutSuffix(line, "\n")
		if !whole {
			return nil, errors.New("line without line feed")
		}
		e, err := parseLine(text)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func parseLine(text string) (Entry, error) {
	line, err := audit.ParseLine([]byte(text))
	if err != nil {
		return Entry{}, err
	}
	if line.Kind == audit.LineCheckpoint {
		c, err := chain.ParseCheckpoint(line.Note)
		if err != nil {
			return Entry{}, err
		}
		sum := sha256.Sum256(line.Note)
		return Entry{ID: fmt.Sprintf("%s checkpoint %d", c.Origin, c.Size), Hash: hex.EncodeToString(sum[:]), Line: text}, nil
	}
	if line.Kind == audit.LineEvent {
		line.Link.Digest = sha256.Sum256(line.Event)
	}
	if line.Link.Hash() != line.Hash {
		return Entry{}, fmt.Errorf("index %d has another hash", line.Link.Index)
	}
	return Entry{
		ID: fmt.Sprintf("%s %d", line.Link.Origin, line.Link.Index), Hash: line.Hash.String(), Line: text,
		Stub: line.Kind == audit.LineStub,
	}, nil
}

func parseEvents(body []byte) ([]Entry, error) {
	var envelope struct {
		Events []json.RawMessage `json:"events"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return nil, err
	}
	if envelope.Events == nil {
		return nil, errors.New("no member `events`")
	}
	var entries []Entry
	for _, event := range envelope.Events {
		if err := audit.DecodeEvent(event, pcommon.NewResource(), plog.NewLogRecord()); err != nil {
			return nil, err
		}
		var named struct {
			ID string `json:"eventId"`
		}
		if err := json.Unmarshal(event, &named); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(event)
		entries = append(entries, Entry{ID: named.ID, Hash: hex.EncodeToString(sum[:]), Line: string(event)})
	}
	return entries, nil
}

// parseLogs makes the stored lines of an OTLP request.
func parseLogs(body []byte) ([]Entry, error) {
	logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(body)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				line, err := lineOf(resource, scope, record)
				if err != nil {
					return nil, err
				}
				e, err := parseLine(string(line))
				if err != nil {
					return nil, err
				}
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

func lineOf(resource plog.ResourceLogs, scope plog.ScopeLogs, record plog.LogRecord) ([]byte, error) {
	attributes := record.Attributes()
	if note, ok := attributes.Get(audit.AttributeChainCheckpoint); ok {
		hashes, _ := attributes.Get(audit.AttributeChainRange)
		compact := make([]chain.Hash, hashes.Slice().Len())
		for i, hash := range hashes.Slice().All() {
			if err := parseHash(&compact[i], hash); err != nil {
				return nil, err
			}
		}
		return audit.AppendCheckpoint(nil, []byte(note.Str()), compact), nil
	}
	link, hash, err := readSeal(attributes)
	if err != nil {
		return nil, err
	}
	var encoder canonical.Encoder
	if err := encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()); err != nil {
		return nil, err
	}
	event, _, err := encoder.Append(nil, record)
	return audit.AppendEvent(nil, &link, hash, event), err
}

func readSeal(attributes pcommon.Map) (link chain.Link, hash chain.Hash, err error) {
	number := func(name string) int64 {
		value, _ := attributes.Get(name)
		return value.Int()
	}
	origin, _ := attributes.Get(audit.AttributeChainOrigin)
	stream, _ := attributes.Get(audit.AttributeChainStream)
	prev, _ := attributes.Get(audit.AttributeChainPrev)
	own, complete := attributes.Get(audit.AttributeChainHash)
	if !complete {
		return link, hash, errors.New("record without " + audit.AttributeChainHash)
	}
	link = chain.Link{
		Origin: origin.Str(), Index: uint64(number(audit.AttributeChainIndex)), Stream: stream.Str(),
		Seq: uint64(number(audit.AttributeChainSeq)), SealedAt: number(audit.AttributeChainSealedAt),
	}
	return link, hash, errors.Join(parseHash(&link.Prev, prev), parseHash(&hash, own))
}

func parseHash(hash *chain.Hash, value pcommon.Value) (err error) {
	*hash, err = chain.ParseHash([]byte(value.Str()))
	return err
}
