// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/proof"
	"github.com/otelaudit/otelaudit/internal/journal"
)

// attributeServiceName is where a resource says which service it is.
const attributeServiceName = "service.name"

// stages is what happens to a record between its arrival and its seal: hop,
// proof, repair, fill, validate, redact, limit, canonical bytes, digest. Immutable
// and safe for concurrent use.
type stages struct {
	validator *validator
	redactor  *redactor
	limits    LimitsConfig
	entries   int // entries of each mark on a record
	now       func() time.Time
	pool      sync.Pool // of *worker

	proofs  *proofs  // set before the first record comes; nil: no proof is looked at
	signing *signing // the same; nil: records are not signed

	identifier *journal.Identifier // set before the first record comes; nil: no record is identified
}

// newStages wires the stages. An error names the key that cannot work.
func newStages(validation ValidationConfig, redaction RedactionConfig, limits LimitsConfig, now func() time.Time) (*stages, error) {
	for _, config := range []interface{ Validate() error }{&validation, &redaction, &limits} {
		if err := config.Validate(); err != nil {
			return nil, err
		}
	}
	validator, err := newValidator(&validation)
	if err != nil {
		return nil, err
	}
	redactor, err := newRedactor(&redaction)
	if err != nil {
		return nil, err
	}
	s := &stages{
		validator: validator, redactor: redactor, limits: limits, now: now,
		entries: min(maxMarkEntries, max(2, limits.MaxRecordBytes/2048)),
	}
	s.pool.New = func() any { return &worker{stages: s, walker: newWalker(redactor)} }
	return s, nil
}

// apply runs the stages over the records of a request, in place, and returns
// one verdict for each, in order. It may be called concurrently with different
// logs. tenant is the authenticated tenant, empty if there is none.
func (s *stages) apply(logs plog.Logs, tenant string, integrityHash bool) ([]verdict, tally) {
	return s.applyIn(nil, logs, tenant, integrityHash)
}

// applyIn is apply for records that have places in producers' chains, which the
// session holds; nil: none has.
func (s *stages) applyIn(session *sequenceSession, logs plog.Logs, tenant string, integrityHash bool) ([]verdict, tally) {
	w := s.pool.Get().(*worker)
	defer s.pool.Put(w)
	w.session = session
	defer func() { w.session = nil }()
	w.begin(tenant, integrityHash)
	records := logs.LogRecordCount()
	verdicts := make([]verdict, 0, records)
	for _, ofResource := range logs.ResourceLogs().All() {
		w.takeResource(ofResource)
		for _, ofScope := range ofResource.ScopeLogs().All() {
			w.takeScope(ofResource, ofScope)
			w.resource.share(records)
			w.scope.share(records)
			for _, record := range ofScope.LogRecords().All() {
				verdicts = append(verdicts, verdict{})
				w.record(record, &verdicts[len(verdicts)-1])
			}
			w.tally.addRedacted(&w.scope)
		}
		w.tally.addRedacted(&w.resource) // only now: its scopes may have repaired it
	}
	return verdicts, w.tally
}

// maxTenantBytes bounds the authenticated tenant on a record, in bytes of UTF-8.
// The receiver takes none that is as long: what is cut is in no tenant's stream.
const maxTenantBytes = 256

// maxBuffer is the largest buffer that a worker keeps.
const maxBuffer = 1 << 20

// worker holds the memory of one call of apply. Not for concurrent use.
type worker struct {
	stages  *stages
	walker  *walker
	encoder canonical.Encoder
	buffer  []byte

	// of a request
	tenant        string
	integrityHash bool
	session       *sequenceSession // nil: no record claims a place
	now           time.Time
	tally         tally

	// of a group of records
	resource, scope marks
	service         string
	sentService     string      // the same before redaction
	claim           proof.Claim // what the resource says about proofs, before redaction
	earlier         int         // number behind the names of an earlier proof, where records are signed
	resourceFaults  []string    // limits that the resource exceeds, where that refuses
	scopeFaults     []string    // the same of the scope
	groupErr        error       // the group has no canonical form

	// of a record
	own    marks
	fields fields
	span   canonical.Span
	place  *placed // nil: claims none, or is not to be judged

	stream, streamName string // the last stream that was put together, and of which name
}

func (w *worker) begin(tenant string, integrityHash bool) {
	w.tenant = cutText(strings.ToValidUTF8(tenant, replacement), maxTenantBytes)
	w.integrityHash = integrityHash
	w.now = w.stages.now()
	w.tally = tally{}
	if cap(w.buffer) > maxBuffer {
		w.buffer = nil
	}
}

// takeResource runs the stages over a resource: once for all its records, each
// of which carries the marks.
func (w *worker) takeResource(logs plog.ResourceLogs) {
	w.resource.reset()
	resource := logs.Resource()
	service, repeated := serviceOf(resource.Attributes())
	w.sentService = strings.ToValidUTF8(strings.Clone(service), replacement) // as it will be stored
	if w.stages.proofs != nil {
		w.takeClaim(resource.Attributes())
	}
	if repeated { // before redaction, which may remove the last one
		logs.SetSchemaUrl(repairResource(resource, logs.SchemaUrl(), &w.resource))
	}
	if n := resource.DroppedAttributesCount(); n > 0 {
		repairDropped("resource", n, &w.resource)
		resource.SetDroppedAttributesCount(0)
	}
	dropEntities(resource)
	w.redactResource(logs)
	if w.walker.extent.duplicates || w.walker.extent.tooDeep {
		w.repairResource(logs)
	}
	w.limitGroup("resource", resource.Attributes(), &w.resource)
	w.service, _ = serviceOf(resource.Attributes())
	if w.stages.signing != nil {
		w.takeOver(resource.Attributes())
	}
}

// dropEntities leaves the attributes of resource and nothing else: its entity
// references (experimental in OTLP) only point into the attributes, and stand
// outside the canonical bytes.
func dropEntities(resource pcommon.Resource) {
	bare := pcommon.NewResource()
	resource.Attributes().MoveTo(bare.Attributes())
	bare.MoveTo(resource)
}

// serviceOf returns the last value of a service's name, as the canonical bytes
// have it, and whether it is not the only one.
func serviceOf(attributes pcommon.Map) (name string, repeated bool) {
	found := false
	for key, value := range attributes.All() {
		if key == attributeServiceName {
			name, repeated, found = value.Str(), found, true
		}
	}
	return name, repeated
}

func (w *worker) redactResource(logs plog.ResourceLogs) {
	w.walker.extent = extent{}
	logs.SetSchemaUrl(w.walker.resource(logs.Resource(), logs.SchemaUrl(), &w.resource))
}

func (w *worker) repairResource(logs plog.ResourceLogs) {
	logs.SetSchemaUrl(repairResource(logs.Resource(), logs.SchemaUrl(), &w.resource))
	w.redactResource(logs)
}

func (w *worker) redactScope(logs plog.ScopeLogs) {
	w.walker.extent = extent{}
	logs.SetSchemaUrl(w.walker.scope(logs.Scope(), logs.SchemaUrl(), &w.scope))
}

func (w *worker) repairScope(logs plog.ScopeLogs) {
	logs.SetSchemaUrl(repairScope(logs.Scope(), logs.SchemaUrl(), &w.scope))
	w.redactScope(logs)
}

// takeScope is takeResource for a scope, and prepares the encoder for the
// records of both.
func (w *worker) takeScope(ofResource plog.ResourceLogs, ofScope plog.ScopeLogs) {
	w.scope.reset()
	scope := ofScope.Scope()
	if n := scope.DroppedAttributesCount(); n > 0 {
		repairDropped("scope", n, &w.scope)
		scope.SetDroppedAttributesCount(0)
	}
	w.redactScope(ofScope)
	if w.walker.extent.duplicates || w.walker.extent.tooDeep {
		w.repairScope(ofScope)
	}
	w.limitGroup("scope", scope.Attributes(), &w.scope)
	w.limitNames(ofResource, ofScope)
	if w.setGroup(ofResource, ofScope) == nil {
		return
	}
	if !w.isCanonical(ofResource) { // seen at its first scope: sealed records keep their resource
		w.repairResource(ofResource)
		w.limitGroup("resource", ofResource.Resource().Attributes(), &w.resource)
		w.service, _ = serviceOf(ofResource.Resource().Attributes())
		if w.stages.signing != nil { // repaired with the rest, and cut if need be
			w.stages.signing.name(ofResource.Resource().Attributes())
		}
	}
	w.repairScope(ofScope)
	w.limitGroup("scope", scope.Attributes(), &w.scope)
	w.limitNames(ofResource, ofScope)
	_ = w.setGroup(ofResource, ofScope) // kept in groupErr: its records are refused
}

func (w *worker) isCanonical(r plog.ResourceLogs) bool {
	return w.encoder.SetGroup(r.Resource(), r.SchemaUrl(), pcommon.NewInstrumentationScope(), "") == nil
}

func (w *worker) setGroup(r plog.ResourceLogs, s plog.ScopeLogs) error {
	w.groupErr = w.encoder.SetGroup(r.Resource(), r.SchemaUrl(), s.Scope(), s.SchemaUrl())
	return w.groupErr
}

// A resource may take a quarter of a record, a scope a sixteenth, and each of
// the four names of both a sixty-fourth.
const (
	resourceShare = 4
	scopeShare    = 16
	nameShare     = 64
)

func (w *worker) limitGroup(name string, attributes pcommon.Map, m *marks) {
	limits := &w.stages.limits
	share, faults := limits.MaxRecordBytes/resourceShare, &w.resourceFaults
	if name == "scope" {
		share, faults = limits.MaxRecordBytes/scopeShare, &w.scopeFaults
	}
	*faults = (*faults)[:0]
	exceeds := limits.exceeds(&w.walker.extent)
	size := sizeOfMembers(attributes)
	if !exceeds && size <= share {
		return
	}
	if limits.Oversize == oversizeReject {
		*faults = append(*faults, limits.structureFaults(name, &w.walker.extent)...)
		if size > share {
			*faults = append(*faults, fmt.Sprintf("%s: larger than %d bytes, its share of `limits::max_record_bytes`", name, share))
		}
		return
	}
	l := limiter{limits: limits, marks: m, tally: &w.tally}
	l.at.start(name)
	if exceeds {
		l.attributes(attributes, cutGroup)
	}
	l.shrinkGroup(attributes, share)
}

// limitNames bounds the four names of a group.
func (w *worker) limitNames(r plog.ResourceLogs, s plog.ScopeLogs) {
	limit := w.stages.limits.MaxRecordBytes / nameShare
	bound := func(path, text string, set func(string), m *marks) {
		if sizeOfText(text) > limit {
			set(cutCanonical(text, limit))
			m.truncate(path, len(text))
			w.tally.truncated[cutGroup]++
		}
	}
	bound("resource.schema_url", r.SchemaUrl(), r.SetSchemaUrl, &w.resource)
	bound("scope.name", s.Scope().Name(), s.Scope().SetName, &w.scope)
	bound("scope.version", s.Scope().Version(), s.Scope().SetVersion, &w.scope)
	bound("scope.schema_url", s.SchemaUrl(), s.SetSchemaUrl, &w.scope)
}

// record runs the stages over one record and sets v. Verdicts are large, and
// this is deep in a goroutine that lives as long as one request: passed by
// value they would have its stack grow, and so be copied, every time.
func (w *worker) record(record plog.LogRecord, v *verdict) {
	w.own.reset()
	w.fields.scan(record.Attributes())
	checkpoint := w.fields.moved && completeCheckpoint(record, &w.own)
	if checkpoint {
		w.fields.scan(record.Attributes())
	}
	identity := w.identify(record)
	if checkpoint {
		w.timeCheckpoint(record)
	}
	if w.stages.proofs != nil {
		w.prove(record)
	}
	if w.session != nil {
		w.follow(record, &identity)
	}
	if w.fields.moved {
		moveHop(record.Attributes(), &w.own)
		w.fields.scan(record.Attributes())
	}
	repairFields(record, &w.own)
	if w.stages.signing != nil {
		w.keepEarlier(record)
	}

	faults, err := w.run(record)
	if err != nil {
		// Repaired content may be what a detector was waiting for: all over.
		w.unmark(record)
		repairRecord(record, &w.own)
		w.fields.scan(record.Attributes())
		faults, err = w.run(record)
	}
	if err == nil {
		faults, err = w.fit(record, faults)
	}
	if err == nil && w.signs() {
		err = w.sign(record)
	}
	w.conclude(record, faults, err, v)
	if v.identity = identity; identity.ID != (journal.ID{}) {
		v.identity.Integrity, v.identity.Verdict = v.integrity, codeOf(&w.own.proof)
	}
}

// errRepair says that the walk of redaction found what has no canonical form.
var errRepair = fmt.Errorf("repeated names or nesting: %w", canonical.ErrDepth)

// run takes a record through fill, validate, redact and limit to its canonical
// bytes, which are in w.buffer. faults are the limits it exceeds, where that
// refuses. An error says that it has no canonical form.
func (w *worker) run(record plog.LogRecord) (faults []string, err error) {
	s := w.stages
	fill(record, &w.fields, w.now, s.validator.maxID, &w.own)
	w.own.clearFlags()
	s.validator.check(record, &w.fields, w.tenant, w.now, &w.own)
	w.flagProof()
	w.flagPlace()

	w.walker.extent = extent{}
	w.walker.record(record, &w.own)
	if w.walker.extent.duplicates || w.walker.extent.tooDeep {
		return nil, errRepair
	}
	if s.limits.exceeds(&w.walker.extent) {
		if s.limits.Oversize == oversizeReject {
			faults = s.limits.structureFaults("record", &w.walker.extent)
		} else {
			w.maskBeforeCut(record)
			w.limiter().record(record)
		}
	}
	return faults, w.encode(record, s.entries)
}

func (w *worker) limiter() *limiter {
	return &limiter{limits: &w.stages.limits, marks: &w.own, tally: &w.tally}
}

// encode marks a record and writes its canonical bytes.
func (w *worker) encode(record plog.LogRecord, entries int) (err error) {
	w.mark(record, entries)
	w.buffer, w.span, err = w.encoder.Append(w.buffer[:0], record)
	return err
}

func (w *worker) reencode(record plog.LogRecord, entries int) error {
	w.unmark(record)
	return w.encode(record, entries)
}

// smallestCut is the length of protected texts at which a record always fits.
const (
	smallestCut = 4
	largestCut  = 256
)

// fit brings a record within its limits in bytes, the largest parts first.
// What is measured are the final canonical bytes, the marks included.
func (w *worker) fit(record plog.LogRecord, faults []string) ([]string, error) {
	limits := &w.stages.limits
	if len(w.buffer) <= min(w.stages.maxRecord(), limits.MaxMetadataBytes, limits.MaxDiffBytes) {
		return faults, nil
	}
	if limits.Oversize == oversizeReject {
		return append(faults, w.sizeFaults(record)...), nil
	}
	l := w.limiter()
	attributes := record.Attributes()
	metadata := l.replacePart(attributes, audit.AttributeMetadata, limits.MaxMetadataBytes)
	if diff := l.replacePart(attributes, audit.AttributeDiff, limits.MaxDiffBytes); metadata || diff {
		if err := w.reencode(record, w.stages.entries); err != nil {
			return faults, err
		}
	}
	return faults, w.fitRecord(record, l)
}

// maxRecord is what the canonical bytes of a record may take before it is
// signed.
func (s *stages) maxRecord() int {
	if s.signing != nil {
		return s.limits.MaxRecordBytes - s.signing.room
	}
	return s.limits.MaxRecordBytes
}

func (w *worker) sizeFaults(record plog.LogRecord) (faults []string) {
	limits := &w.stages.limits
	if n := len(w.buffer); n > w.stages.maxRecord() {
		faults = append(faults, fmt.Sprintf("record: %d bytes, above `limits::max_record_bytes` %d", n, limits.MaxRecordBytes))
	}
	check := func(attribute, key string, limit int) {
		if value, ok := record.Attributes().Get(attribute); ok {
			if n := sizeOf(value); n > limit {
				faults = append(faults, fmt.Sprintf("%s: %d bytes, above `limits::%s` %d", attribute, n, key, limit))
			}
		}
	}
	check(audit.AttributeMetadata, "max_metadata_bytes", limits.MaxMetadataBytes)
	check(audit.AttributeDiff, "max_diff_bytes", limits.MaxDiffBytes)
	return faults
}

func (w *worker) fitRecord(record plog.LogRecord, l *limiter) error {
	limit, entries := w.stages.maxRecord(), w.stages.entries
	for range 3 {
		if len(w.buffer) <= limit {
			return nil
		}
		w.maskBeforeCut(record)
		l.shrink(record, len(w.buffer)-limit)
		if err := w.reencode(record, entries); err != nil {
			return err
		}
	}
	for size := largestCut; len(w.buffer) > limit; size /= 2 {
		if size < smallestCut {
			return fmt.Errorf("record: %d bytes, above `limits::max_record_bytes` %d, after all was cut", len(w.buffer), limit)
		}
		l.dropUnprotected(record)
		if size < largestCut {
			l.cutProtected(record, size)
			entries = 0
		}
		if err := w.reencode(record, entries); err != nil {
			return err
		}
	}
	return nil
}

// conclude makes the verdict.
func (w *worker) conclude(record plog.LogRecord, faults []string, err error, v *verdict) {
	w.tally.addRedacted(&w.own)
	w.tally.addFlagged(&w.own, &w.resource, &w.scope)
	if len(w.own.repaired) > 0 {
		w.tally.repaired++
	}
	reasons := w.reasons()
	v.refused = len(reasons) > 0 && w.refuses()
	v.onlyKnown = w.own.codes[codeProof] && w.stages.proofs.reject
	v.verified = w.own.proof.Status
	faults = slices.Concat(faults, w.resourceFaults, w.scopeFaults)
	if err != nil {
		faults = append(faults, err.Error())
	}
	if len(faults) > 0 {
		v.refused = true
		w.tally.flagged[codeOversize]++
		reasons = append(reasons, faults...)
	}
	v.reasons = reasons
	v.recordID = stored(record.Attributes(), audit.AttributeRecordID)
	v.stream = w.streamOf(stored(record.Attributes(), audit.AttributeTenantID), len(reasons) > 0)
	if !v.refused {
		w.hash(v)
	}
	if w.place != nil {
		w.settle(v)
	}
}

// stored returns the last value of a name, as the canonical bytes have it.
func stored(attributes pcommon.Map, name string) (text string) {
	for key, value := range attributes.All() {
		if key == name {
			text = value.Str()
		}
	}
	return text
}

// reasons returns why a record is flagged.
func (w *worker) reasons() []string {
	n := len(w.own.flagged) + len(w.own.repaired) + len(w.resource.repaired) + len(w.scope.repaired)
	if n == 0 {
		return nil
	}
	return slices.Concat(w.own.flagged, w.own.repaired, w.resource.repaired, w.scope.repaired)
}

// refuses says whether what a record is flagged for refuses it, whether or not it
// came before.
func (w *worker) refuses() bool {
	for code := range codeCount {
		if code != codeProof && code != codeSequence && (w.own.codes[code] || w.resource.codes[code] || w.scope.codes[code]) {
			return w.stages.validator.reject
		}
	}
	return false
}

func (w *worker) hash(v *verdict) {
	v.digest = sha256.Sum256(w.buffer)
	if w.integrityHash {
		v.integrity = sha256.Sum256(w.buffer[w.span.Start:w.span.End])
	}
}

// streamOf names the stream of a record.
func (w *worker) streamOf(tenant string, flagged bool) string {
	kind, name := w.ownerOf(tenant, w.service)
	if flagged {
		return bounded(audit.StreamFlagged + kind + name)
	}
	if w.stream == "" || w.streamName != name || !strings.HasPrefix(w.stream, kind) {
		w.stream, w.streamName = bounded(kind+name), strings.Clone(name)
	}
	return w.stream
}

// ownerOf says whose a record is: the authenticated tenant's, else the one's
// that it names, else the service's.
func (w *worker) ownerOf(tenant, service string) (kind, name string) {
	switch {
	case w.tenant != "":
		return audit.StreamTenant, w.tenant
	case tenant != "":
		return audit.StreamTenant, tenant
	case service != "":
		return audit.StreamService, service
	default:
		return audit.StreamNone, ""
	}
}

func bounded(stream string) string {
	if len(stream) > audit.MaxStream {
		return audit.StreamOverflow
	}
	return stream
}

// mark writes on a record what the stages did to it and to its group, at most
// entries of a kind. With none it counts only.
func (w *worker) mark(record plog.LogRecord, entries int) {
	attributes := record.Attributes()
	if w.fields.proof {
		w.maskProofs(attributes)
	}
	if w.tenant != "" {
		attributes.PutStr(audit.AttributeCollectorTenant, w.tenant)
	}
	w.putVerdict(attributes, entries)
	if w.own.place != "" {
		attributes.PutStr(audit.AttributeCollectorSequence, string(w.own.place))
	}
	putTexts(attributes, audit.AttributeCollectorFilled, maxMarkEntries, 0, w.own.filled)
	putTexts(attributes, audit.AttributeCollectorRepaired, entries, w.more(moreRepaired),
		w.own.repaired, w.resource.repaired, w.scope.repaired)
	putTexts(attributes, audit.AttributeCollectorMasked, entries, w.more(moreMasked),
		w.own.masked, w.resource.masked, w.scope.masked)
	putTexts(attributes, audit.AttributeCollectorFlagged, entries, w.more(moreFlagged),
		w.own.flagged, w.own.repaired, w.resource.repaired, w.scope.repaired)
	w.putRedacted(attributes, entries)
	w.putTruncated(attributes, entries)
	if text := w.own.timeText[0]; text != "" {
		attributes.PutStr(attributeOriginalTimestamp, text)
	}
	if text := w.own.timeText[1]; text != "" {
		attributes.PutStr(attributeOriginalObserved, text)
	}
}

func (w *worker) unmark(record plog.LogRecord) {
	record.Attributes().RemoveIf(func(key string, _ pcommon.Value) bool {
		return strings.HasPrefix(key, audit.PrefixCollector)
	})
}

func (w *worker) maskProofs(attributes pcommon.Map) {
	switch {
	case w.own.changed():
		w.maskEach(attributes, isProof)
	case w.resource.changed(), w.scope.changed(): // which a producer does not sign, but a collector does
		w.maskEach(attributes, isHopProof)
	}
}

// maskBeforeCut masks the proofs of a record of which something will be cut:
// perhaps one of them.
func (w *worker) maskBeforeCut(record plog.LogRecord) {
	if w.fields.proof {
		w.maskEach(record.Attributes(), isProof)
	}
}

func (w *worker) more(kind int) int {
	return w.own.more[kind] + w.resource.more[kind] + w.scope.more[kind]
}

// putTexts writes lists of texts as one, at most entries of them and one that
// says how many more there were.
func putTexts(attributes pcommon.Map, key string, entries, more int, lists ...[]string) {
	total := 0
	for _, list := range lists {
		total += len(list)
	}
	if total == 0 && more == 0 {
		return
	}
	slice := attributes.PutEmptySlice(key)
	slice.EnsureCapacity(min(total, entries) + 1)
	for _, list := range lists {
		for _, text := range list {
			if slice.Len() < entries {
				slice.AppendEmpty().SetStr(text)
			} else {
				more++
			}
		}
	}
	if more > 0 {
		slice.AppendEmpty().SetStr("… and " + strconv.Itoa(more) + " more")
	}
}

// putRedacted writes the counts by rule; with no entries, their sum.
func (w *worker) putRedacted(attributes pcommon.Map, entries int) {
	var counts pcommon.Map
	made, sum := false, 0
	for by := range ruleCount {
		n := w.own.redacted[by] + w.resource.redacted[by] + w.scope.redacted[by]
		if n == 0 {
			continue
		}
		if !made {
			counts, made = attributes.PutEmptyMap(audit.AttributeCollectorRedacted), true
		}
		if sum += n; entries > 0 {
			counts.PutInt(ruleNames[by], int64(n))
		}
	}
	if made && entries == 0 {
		counts.PutInt("all", int64(sum))
	}
}

func (w *worker) putTruncated(attributes pcommon.Map, entries int) {
	lists := [...][]cut{w.own.truncated, w.resource.truncated, w.scope.truncated}
	total := len(lists[0]) + len(lists[1]) + len(lists[2])
	if total == 0 {
		return
	}
	sizes := attributes.PutEmptyMap(audit.AttributeCollectorTruncated)
	sizes.EnsureCapacity(min(total, entries+1))
	more := w.more(moreTruncated)
	for _, list := range lists {
		for i := range list {
			if sizes.Len() < entries {
				sizes.PutInt(list[i].path, int64(list[i].bytes))
			} else {
				more++
			}
		}
	}
	if more > 0 {
		sizes.PutInt("…", int64(more))
	}
}
