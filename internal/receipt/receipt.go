// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package receipt is what the audit receiver, processor and exporter tell each
// other through the context: the components themselves never import each other.
package receipt

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/otelaudit/otelaudit/audit/chain"
)

// ErrFilledTwice says that a second audit processor sealed the same request:
// the pipeline is wired wrongly.
var ErrFilledTwice = errors.New("two audit processors sealed one request: put exactly one `audit` processor behind each `audit` receiver")

// ErrConflict is wrapped by an exporter's error when its sink holds another
// content for a coordinate. It is an alarm: the processor takes nothing more
// in while it lasts.
var ErrConflict = errors.New("a sink holds another content for a sealed record: intake has stopped; run `otelaudit verify` on the store and compare it with a copy")

// Receipt travels down a pipeline in the context of one ConsumeLogs call. The
// receiver makes it and sets the wishes; the processor fills it, in the same
// goroutine, before ConsumeLogs returns. Not safe for concurrent use.
type Receipt struct {
	// Tenant is the authenticated tenant of the caller, empty if none. It
	// wins over what the records say.
	Tenant string
	// IntegrityHash asks for Result.IntegrityHash, which costs a SHA-256 a
	// record.
	IntegrityHash bool
	// RejectInvalid asks to refuse the request where a record breaks the
	// schema, whatever the processor does with others.
	RejectInvalid bool
	// AwaitDelivery, if it is not nil, asks to wait until every required sink
	// has the records, whatever the processor does for others. Closing it ends
	// the wait: the delivery then is pending.
	AwaitDelivery <-chan struct{}

	// Results has one entry for each record, in the order of the request,
	// once the processor has filled it.
	Results []Result
	// Pending is true where the records are durable but the delivery that the
	// processor was to wait for has not come in time.
	Pending bool
	// Checkpoint is the newest one that the next consumer has taken, where
	// AwaitDelivery asked; nil if there is none yet.
	Checkpoint *Checkpoint
	// Sinks says how each sink that is known stands to the request, where
	// AwaitDelivery asked, by id. A stock exporter is not known.
	Sinks  []SinkStatus
	filled bool
}

// Checkpoint is a signed tree head.
type Checkpoint struct {
	Origin string
	Size   uint64
	Note   []byte // never changed
}

// Covers says whether the record of a link is below the checkpoint.
func (c *Checkpoint) Covers(l *chain.Link) bool {
	return c != nil && c.Origin == l.Origin && l.Index < c.Size
}

// Result is what became of one record.
type Result struct {
	RecordID      string
	Sealed        bool // durable, at the coordinates below
	Link          chain.Link
	Hash          chain.Hash
	IntegrityHash chain.Hash // SHA-256 of the canonical `record`, where asked for
	// VerifyStatus is the verdict on the producer's proof, `passed` or `failed`;
	// empty where there was nothing to verify. Of a record that came before it is
	// the one that is stored, whatever this attempt is like.
	VerifyStatus string
	// Reasons says why the record was flagged (Sealed) or refused (not
	// Sealed), each naming its field. Empty on a record without fault.
	Reasons []string
	// QuarantinedBy are the sinks that refused the record for good and have not
	// taken it since, where AwaitDelivery asked: the record is in their
	// quarantines until an operator decides.
	QuarantinedBy []string
}

// Verdicts on a producer's proof, as OTEP 0267 names them.
const (
	VerifyPassed = "passed"
	VerifyFailed = "failed"
)

// Fill sets the results. A second call returns ErrFilledTwice.
func (r *Receipt) Fill(results []Result) error {
	if r.filled {
		return ErrFilledTwice
	}
	r.filled = true
	r.Results = results
	return nil
}

// Filled says whether a processor has filled r.
func (r *Receipt) Filled() bool { return r.filled }

type contextKey struct{}

// NewContext returns a context that carries r.
func NewContext(ctx context.Context, r *Receipt) context.Context {
	return context.WithValue(ctx, contextKey{}, r)
}

// FromContext returns the receipt in ctx, nil if there is none.
func FromContext(ctx context.Context) *Receipt {
	r, _ := ctx.Value(contextKey{}).(*Receipt)
	return r
}

// Refused returns the error for a request that would be refused again: the
// collector's OTLP receiver answers InvalidArgument or 400 to it.
func Refused(reason string) error {
	return status.Error(codes.InvalidArgument, reason)
}

// IsRefused says whether err was made by Refused.
func IsRefused(err error) bool {
	return status.Code(err) == codes.InvalidArgument && !IsTooLarge(err) && !IsIDTaken(err)
}

// IDTaken returns the error for a request with a record id that is known with
// other content, 409. To the collector's OTLP receiver it is a refusal.
func IDTaken(reason string) error {
	return &idTaken{refusal{status.New(codes.InvalidArgument, reason)}}
}

// IsIDTaken says whether err, or a part of it, was made by IDTaken.
func IsIDTaken(err error) bool {
	var t *idTaken
	return errors.As(err, &t)
}

type idTaken struct{ refusal }

// TooLarge returns the error for a request that could never fit, 413.
func TooLarge(reason string) error {
	return &tooLarge{refusal{status.New(codes.InvalidArgument, reason)}}
}

// Unavailable returns the error for a request that should come again after the
// given time: the collector's OTLP receiver answers Unavailable with RetryInfo
// or 503 with Retry-After to it.
func Unavailable(reason string, after time.Duration) error {
	s := status.New(codes.Unavailable, reason)
	if detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
		s = detailed
	}
	return s.Err()
}

// IsTooLarge says whether err was made by TooLarge.
func IsTooLarge(err error) bool {
	var t *tooLarge
	return errors.As(err, &t)
}

type tooLarge struct{ refusal }

// refusal is a status that an audit receiver knows more of than others do.
type refusal struct{ status *status.Status }

func (r refusal) Error() string              { return r.status.Message() }
func (r refusal) GRPCStatus() *status.Status { return r.status }
