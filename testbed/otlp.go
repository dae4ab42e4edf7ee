// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc/mem"

	"github.com/otelaudit/otelaudit/audit"
)

const logsMethod = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

// Widths of the two numbers in a record id: who sent it, and its place among
// the records of that client.
const (
	clientDigits = 5
	recordDigits = 10
)

// placeholderID is what a prepared request carries in place of record ids.
var placeholderID = recordID(99_999, 9_999_999_999)

func recordID(client, record int) string {
	return fmt.Sprintf("bench-%0*d-%0*d", clientDigits, client, recordDigits, record)
}

// Requests are OTLP log requests, encoded beforehand: a client writes its own
// record ids over the ones in a copy, and so sends records that nobody has
// sent before for the price of a copy. Immutable.
type Requests struct {
	prepared []prepared
}

type prepared struct {
	bytes []byte
	ids   []int // offset of each record id
}

// NewRequests encodes requests of batch records each, with events of the
// corpus: plain ones, or its mix without those that have no id, are no events
// or are larger than any limit. The records of a request share a resource, as
// those of an SDK do.
func NewRequests(seed uint64, batch int, plain bool) (*Requests, error) {
	const records = 1024 // different ones, at least
	corpus := NewCorpus(seed, "bench")
	requests := &Requests{}
	for range max(4, records/batch) {
		p, err := prepare(corpus, batch, plain)
		if err != nil {
			return nil, fmt.Errorf("prepare requests: %w", err)
		}
		requests.prepared = append(requests.prepared, p)
	}
	return requests, nil
}

func prepare(corpus *Corpus, batch int, plain bool) (prepared, error) {
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	records := resource.ScopeLogs().AppendEmpty().LogRecords()
	for range batch {
		event := nextOrdinary(corpus, plain)
		record := records.AppendEmpty()
		target := plog.NewResourceLogs().Resource()
		if err := audit.DecodeEvent(event.JSON, target, record); err != nil {
			return prepared{}, err
		}
		record.Attributes().PutStr(audit.AttributeRecordID, placeholderID)
		record.SetObservedTimestamp(record.Timestamp())
		if records.Len() == 1 {
			target.MoveTo(resource.Resource())
		}
	}
	text, err := plogotlp.NewExportRequestFromLogs(logs).MarshalProto()
	if err != nil {
		return prepared{}, err
	}
	p := prepared{bytes: text}
	for start := 0; ; {
		i := bytes.Index(text[start:], []byte(placeholderID))
		if i < 0 {
			break
		}
		p.ids = append(p.ids, start+i)
		start += i + len(placeholderID)
	}
	if len(p.ids) != batch {
		return prepared{}, fmt.Errorf("%d records carry %d record ids", batch, len(p.ids))
	}
	return p, nil
}

func nextOrdinary(corpus *Corpus, plain bool) Event {
	for !plain {
		event := corpus.Next()
		switch event.Kind {
		case KindPlain, KindSecret, KindUnicode, KindFlagged:
			return event
		default:
		}
	}
	return corpus.Make(KindPlain)
}

// Size returns the mean size of a record in bytes, as it is sent.
func (r *Requests) Size() int {
	size, records := 0, 0
	for _, p := range r.prepared {
		size, records = size+len(p.bytes), records+len(p.ids)
	}
	return size / records
}

// appendRequest appends request n of a client, whose records are numbered from
// first on, and returns how many there are.
func (r *Requests) appendRequest(buffer []byte, n, client, first int) (request []byte, records int) {
	p := &r.prepared[(n+client)%len(r.prepared)]
	start := len(buffer)
	buffer = append(buffer, p.bytes...)
	for i, offset := range p.ids {
		id := buffer[start+offset : start+offset+len(placeholderID)]
		putDigits(id[len(id)-recordDigits:], first+i)
		putDigits(id[len("bench-"):len("bench-")+clientDigits], client)
	}
	return buffer, len(p.ids)
}

func putDigits(field []byte, n int) {
	for i := range slices.Backward(field) {
		field[i] = byte('0' + n%10)
		n /= 10
	}
}

// rawCodec carries messages as the bytes that they are on the wire, so that
// neither client nor server of a benchmark encodes anything.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(message any) (mem.BufferSlice, error) {
	text, ok := message.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("a raw message is a *[]byte, found %T", message)
	}
	return mem.BufferSlice{mem.SliceBuffer(*text)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, message any) error {
	text, ok := message.(*[]byte)
	if !ok {
		return fmt.Errorf("a raw message is a *[]byte, found %T", message)
	}
	*text = slices.Grow((*text)[:0], data.Len())[:data.Len()]
	data.CopyTo(*text)
	return nil
}

var errPartial = errors.New("the answer is a partial success")

// checkAnswer says whether an answer acknowledges the whole request.
func checkAnswer(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	answer := plogotlp.NewExportResponse()
	if err := answer.UnmarshalProto(text); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if partial := answer.PartialSuccess(); partial.RejectedLogRecords() > 0 || partial.ErrorMessage() != "" {
		return fmt.Errorf("%w: %d records rejected: %s", errPartial, partial.RejectedLogRecords(), partial.ErrorMessage())
	}
	return nil
}
