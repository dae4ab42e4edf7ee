// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/http"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// Domain statuses of OTEP 0267. The last two are ours, for what it has an HTTP
// status but no word.
const (
	domainQueued       = "verified_queued" // durable, and on its way to the sinks
	domainDelivered    = "delivered_all_sinks"
	domainPartial      = "delivered_partial" // a required sink refused it for good
	domainVerifyFailed = "rejected_verify_failed"
	domainSchema       = "rejected_schema_invalid"
	domainAuthz        = "rejected_authz"
	domainInternal     = "failed_internal" // for now: see retry_after
	domainIDTaken      = "rejected_id_conflict"
	domainTooLarge     = "rejected_too_large"
)

// answerField is the number of the field that carries the answer, as JSON text,
// in an ExportLogsServiceResponse or google.rpc.Status of /v1/audit. Who does
// not know it skips it, as protobuf says.
const answerField protowire.Number = 50267

// encodeAudit returns the body of an answer of /v1/audit: JSON to who sent JSON
// or accepts nothing else, else the protobuf that OTLP says, with the same JSON
// inside.
func (a *answer) encodeAudit(form encoding, accept []string) (contentType string, body []byte) {
	domain := a.appendDomain(nil)
	if form != encodingProtobuf || slices.Equal(accept, []string{string(encodingJSON)}) {
		return string(encodingJSON), append(domain, '\n')
	}
	contentType, body = a.encodeOTLP(form)
	body = protowire.AppendTag(body, answerField, protowire.BytesType)
	return contentType, protowire.AppendBytes(body, domain)
}

// anyQuarantined says that delivery waits for an operator.
func anyQuarantined(results []receipt.Result) bool {
	return slices.ContainsFunc(results, func(r receipt.Result) bool { return len(r.QuarantinedBy) > 0 })
}

// domain is the status of the request: of its worst record.
func (a *answer) domain() string {
	switch a.status {
	case http.StatusOK:
		return domainDelivered
	case http.StatusAccepted:
		if a.hasResult((*result).isQuarantined) {
			return domainPartial
		}
		return domainQueued
	case http.StatusUnauthorized, http.StatusForbidden:
		return domainAuthz
	case http.StatusConflict:
		return domainIDTaken
	case http.StatusRequestEntityTooLarge:
		return domainTooLarge
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return domainInternal
	}
	if a.hasResult((*result).isVerifyFailure) {
		return domainVerifyFailed
	}
	return domainSchema
}

func (a *answer) hasResult(is func(*result) bool) bool {
	for i := range a.results {
		if is(&a.results[i]) {
			return true
		}
	}
	return false
}

func (r *result) isQuarantined() bool { return r.sealed != nil && len(r.sealed.QuarantinedBy) > 0 }

func (r *result) isVerifyFailure() bool {
	return r.status == statusRefused && r.sealed != nil && r.sealed.VerifyStatus == receipt.VerifyFailed
}

// appendDomain writes the answer: of one record, or of a batch.
func (a *answer) appendDomain(dst []byte) []byte {
	domain := a.domain() // once: it looks at every record
	if len(a.ids) == 1 {
		dst = a.appendRecord(append(dst, '{'), 0, domain)
		dst = a.appendSinks(dst, "sink_status_map")
		if a.coversAny() {
			dst = append(dst, ',')
			dst = a.appendCheckpoint(dst)
		}
		return append(dst, '}')
	}
	dst = append(dst, `{"status":"`...)
	dst = append(append(dst, domain...), '"')
	if a.problem != "" {
		dst = appendText(append(dst, `,"reason":`...), a.problem)
	}
	dst = a.appendRetryAfter(dst)
	if len(a.ids) == 0 { // none came, or none could be read
		return append(dst, '}')
	}
	if a.coversAny() {
		dst = append(dst, ',')
		dst = a.appendCheckpoint(dst)
	}
	dst = a.appendSinks(dst, "sink_status_aggregate")
	dst = append(dst, `,"batch_id":"`...)
	dst = append(dst, a.batchID()...)
	dst = append(dst, `","record_status_map":{`...)
	for n, i := range a.shown() {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, a.ids[i])
		dst = a.appendRecord(append(dst, ':', '{'), i, domain)
		dst = append(dst, '}')
	}
	return append(dst, "}}"...)
}

// shown returns the positions of the records that the map names: an id is there
// once, and where records share one, that of the first with something against
// it. A record without an id is named by the reason of the batch.
func (a *answer) shown() []int {
	places := make(map[string]int, len(a.ids))
	var shown []int
	for i, id := range a.ids {
		if id == "" {
			continue
		}
		n, again := places[id]
		if !again {
			places[id] = len(shown)
			shown = append(shown, i)
		} else if a.resultOf(shown[n]).reason == "" && a.resultOf(i).reason != "" {
			shown[n] = i
		}
	}
	return shown
}

func (a *answer) resultOf(i int) *result {
	if i < len(a.results) {
		return &a.results[i]
	}
	return &result{}
}

// appendRecord writes the members of one record of a request with this status.
func (a *answer) appendRecord(dst []byte, i int, domain string) []byte {
	r := a.resultOf(i)
	dst = append(dst, `"record_id":`...)
	dst = appendText(dst, a.ids[i])
	dst = append(dst, `,"status":"`...)
	dst = append(append(dst, a.recordDomain(r, domain)...), '"')
	if s := r.sealed; s != nil {
		dst = appendReceipt(dst, s)
	}
	if a.checkpoint != nil && r.sealed != nil && r.sealed.Sealed && a.checkpoint.Covers(&r.sealed.Link) {
		dst = append(dst, `,"checkpoint_size":"`...)
		dst = append(strconv.AppendUint(dst, a.checkpoint.Size, 10), '"')
	}
	if reason := a.reasonOf(r); reason != "" {
		dst = appendText(append(dst, `,"reason":`...), reason)
	}
	return a.appendRetryAfter(dst)
}

// appendReceipt writes what the processor says of a record: hash, verdict, time
// and coordinates. A receipt is the same whenever it is asked for.
func appendReceipt(dst []byte, s *receipt.Result) []byte {
	if !s.Sealed && s.IntegrityHash != (chain.Hash{}) {
		dst = append(dst, `,"integrity_hash":"`...)
		dst = append(s.IntegrityHash.AppendHex(dst), '"')
	}
	if s.Sealed {
		dst = appendCoordinates(dst, s)
		dst = append(dst, `,"sink_timestamp":"`...)
		dst = append(strconv.AppendInt(dst, s.Link.SealedAt, 10), '"')
	}
	if s.VerifyStatus != "" {
		dst = appendText(append(dst, `,"verify_status":`...), s.VerifyStatus)
	}
	return dst
}

// recordDomain is the status of one record. What is refused is refused whole:
// the record that is to blame has its own reason.
func (a *answer) recordDomain(r *result, whole string) string {
	switch {
	case a.status != http.StatusAccepted:
		return whole
	case r.isQuarantined():
		return domainPartial
	}
	return domainQueued
}

const reasonQuarantined = "a required sink refused the record for good: it is sealed, and in quarantine until an operator decides"

func (a *answer) reasonOf(r *result) string {
	switch {
	case r.isQuarantined():
		return reasonQuarantined
	case r.reason != "":
		return r.reason
	case r.status == statusWithheld:
		return "nothing of the batch is stored, because of another record of it"
	case len(a.ids) == 1:
		return a.problem
	}
	return ""
}

// appendRetryAfter says in how many seconds to come again.
func (a *answer) appendRetryAfter(dst []byte) []byte {
	if a.retryAfter <= 0 {
		return dst
	}
	dst = append(dst, `,"retry_after":`...)
	return strconv.AppendInt(dst, int64(math.Ceil(a.retryAfter.Seconds())), 10)
}

// appendSinks writes how the sinks stand to the request, by the id of
// their exporter. The records of a request are delivered together, so one map
// serves them all; which of them a sink refused for good, the records say.
func (a *answer) appendSinks(dst []byte, name string) []byte {
	if len(a.sinks) == 0 {
		return dst
	}
	dst = append(append(append(dst, `,"`...), name...), `":{`...)
	for i := range a.sinks {
		s := &a.sinks[i]
		if a.hasResult(func(r *result) bool { return r.sealed != nil && slices.Contains(r.sealed.QuarantinedBy, s.Sink) }) {
			s.Delivery = receipt.DeliveryFailed
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, s.Sink)
		dst = appendSink(append(dst, ':'), s)
	}
	return append(dst, '}')
}

func appendSink(dst []byte, s *receipt.SinkStatus) []byte {
	dst = appendText(append(dst, `{"exporter_name":`...), s.Sink)
	dst = appendText(append(dst, `,"sink_type":`...), s.Type)
	dst = appendText(append(dst, `,"delivery_status":`...), s.Delivery)
	if s.Optional {
		dst = append(dst, `,"required":false`...)
	}
	if !s.LastAttempt.IsZero() {
		dst = strconv.AppendInt(append(dst, `,"attempt_count":`...), int64(s.Attempts), 10)
		dst = strconv.AppendInt(append(dst, `,"last_attempt_at":"`...), s.LastAttempt.UnixNano(), 10)
		dst = append(dst, '"')
	}
	if s.Code != "" {
		dst = appendText(append(dst, `,"error_code":`...), s.Code)
	}
	return append(dst, '}')
}

func (a *answer) coversAny() bool {
	return a.checkpoint != nil && a.hasResult(func(r *result) bool {
		return r.sealed != nil && r.sealed.Sealed && a.checkpoint.Covers(&r.sealed.Link)
	})
}

// appendCheckpoint writes the signed tree head that covers the records which
// name its size.
func (a *answer) appendCheckpoint(dst []byte) []byte {
	return appendText(append(dst, `"checkpoint":`...), string(a.checkpoint.Note))
}

// batchID names a batch by the ids of its records, so that the same batch has
// the same name whenever it comes.
func (a *answer) batchID() string {
	hash := sha256.New()
	var length [8]byte
	for _, id := range a.ids {
		binary.BigEndian.PutUint64(length[:], uint64(len(id)))
		hash.Write(length[:])
		hash.Write([]byte(id))
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}
