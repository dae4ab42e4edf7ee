// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/proof"
	"github.com/otelaudit/otelaudit/audit/sequence"
	"github.com/otelaudit/otelaudit/internal/journal"
)

// verdict is what the stages found about one record.
type verdict struct {
	recordID string
	// stream is where the record is sealed, `flagged:` in front where it
	// breaks the schema.
	stream string
	// reasons says why the record is flagged or refused, each naming its
	// field and never a value.
	reasons []string
	// refused is true where the configuration refuses what breaks the schema
	// or the limits. The record must not be sealed.
	refused bool
	// digest is the SHA-256 of the canonical bytes, integrity that of the
	// member `record` in them, where asked for. Both zero if refused.
	digest, integrity chain.Hash
	// verified is the verdict on the producer's proof, empty where there was
	// nothing to verify.
	verified proof.Status
	// place is what is wrong with the record's place in its producer's chain.
	place sequence.Finding
	// onlyKnown refuses the record unless it came before: its proof or its place
	// does not hold now, but keys end and chains go on.
	onlyKnown bool
	// identity makes the record known when it comes again; zero if it came
	// without an id.
	identity journal.Identity
}

// fieldID numbers the attributes that the stages know by name.
type fieldID uint8

const (
	fieldNone fieldID = iota
	fieldRecordID
	fieldRecordUID
	fieldActorID
	fieldActorType
	fieldActorName
	fieldActorRoles
	fieldActorSubtype
	fieldAction
	fieldOutcome
	fieldOutcomeReason
	fieldTargetID
	fieldTargetType
	fieldTargetName
	fieldTenantID
	fieldOrgID
	fieldRequestID
	fieldTraceID
	fieldSchemaVersion
	fieldRetentionTag
	fieldMetadata
	fieldDiff
	fieldCount
)

// attributeRecordUID is the semantic convention's name for a record id.
const attributeRecordUID = "log.record.uid"

// fieldOf returns the number of an attribute's name.
func fieldOf(name string) fieldID {
	switch name {
	case audit.AttributeRecordID:
		return fieldRecordID
	case attributeRecordUID:
		return fieldRecordUID
	case audit.AttributeActorID:
		return fieldActorID
	case audit.AttributeActorType:
		return fieldActorType
	case audit.AttributeActorName:
		return fieldActorName
	case audit.AttributeActorRoles:
		return fieldActorRoles
	case audit.AttributeActorSubtype:
		return fieldActorSubtype
	case audit.AttributeAction:
		return fieldAction
	case audit.AttributeOutcome:
		return fieldOutcome
	case audit.AttributeOutcomeReason:
		return fieldOutcomeReason
	case audit.AttributeTargetID:
		return fieldTargetID
	case audit.AttributeTargetType:
		return fieldTargetType
	case audit.AttributeTargetName:
		return fieldTargetName
	case audit.AttributeTenantID:
		return fieldTenantID
	case audit.AttributeOrgID:
		return fieldOrgID
	case audit.AttributeRequestID:
		return fieldRequestID
	case audit.AttributeTraceID:
		return fieldTraceID
	case audit.AttributeSchemaVersion:
		return fieldSchemaVersion
	case audit.AttributeRetentionTag:
		return fieldRetentionTag
	case audit.AttributeMetadata:
		return fieldMetadata
	case audit.AttributeDiff:
		return fieldDiff
	}
	return fieldNone
}

// protected says whether redaction leaves a field alone: without it a record
// can no longer be found, deduplicated or put into its stream.
func (id fieldID) protected() bool {
	switch id {
	case fieldRecordID, fieldActorID, fieldActorType, fieldAction, fieldOutcome,
		fieldTargetID, fieldTargetType, fieldTenantID, fieldRequestID, fieldTraceID:
		return true
	default:
		return false
	}
}

// field is one known attribute of a record.
type field struct {
	text string // value of a string
	kind pcommon.ValueType
	set  bool
}

// fields are the known attributes of a record; of a repeated name the last,
// as in the canonical bytes.
type fields struct {
	known [fieldCount]field
	moved bool // an earlier collector's seal, or what claims to be one
	proof bool // a producer's signature, or a hash of the record
}

// scan reads the attributes that the stages know.
func (f *fields) scan(attributes pcommon.Map) {
	*f = fields{}
	for key, value := range attributes.All() {
		if strings.HasPrefix(key, audit.PrefixIntegrity) {
			f.moved = f.moved || belongsToHop(key)
			f.proof = f.proof || isProof(key)
			continue
		}
		if id := fieldOf(key); id != fieldNone {
			f.known[id] = field{text: value.Str(), kind: value.Type(), set: true}
		}
	}
}

// missing says whether a field is absent or empty.
func (f *field) missing() bool {
	return !f.set || f.kind == pcommon.ValueTypeEmpty || (f.kind == pcommon.ValueTypeStr && f.text == "")
}

// cut is something that was shortened.
type cut struct {
	path  string
	bytes int // before
}

// Bounds on the marks of one record, so that they never outgrow the event.
const (
	maxMarkEntries = 32
	maxMarkBytes   = 200
	maxKeyInPath   = 64
)

// marks collects what the stages did to a record, or to the resource and scope
// of a group of records.
type marks struct {
	filled    []string
	repaired  []string
	redacted  [ruleCount]int
	masked    []string
	truncated []cut
	flagged   []string // by validation
	codes     [codeCount]bool

	more   [markKinds]int   // entries that found no room, by kind
	proof  proof.Verdict    // on what the producer signed
	proofs []maskedProof    // signatures that were masked
	place  sequence.Finding // on the record's place in its producer's chain

	timeText [2]string // original timestamp and observed timestamp that had no canonical form
}

const (
	moreRepaired = iota
	moreMasked
	moreTruncated
	moreFlagged
	markKinds
)

func (m *marks) reset() {
	*m = marks{
		filled: m.filled[:0], repaired: m.repaired[:0], masked: m.masked[:0],
		truncated: m.truncated[:0], flagged: m.flagged[:0], proofs: m.proofs[:0],
	}
}

func (m *marks) addBounded(list *[]string, more int, entry string) {
	if len(*list) >= maxMarkEntries {
		m.more[more]++
		return
	}
	*list = append(*list, shorten(entry, maxMarkBytes))
}

// maxGroupEntries bounds the entries that a group's marks may make on all of
// its records together.
const maxGroupEntries = 4096

// share cuts the marks of a group down to what each of its records can carry:
// a few bytes of a resource must not become many on thousands of records. What
// flags a record keeps one entry.
func (m *marks) share(records int) {
	entries := min(maxMarkEntries, maxGroupEntries/max(records, 1))
	m.masked = cutMarks(m, moreMasked, m.masked, entries)
	m.repaired = cutMarks(m, moreRepaired, m.repaired, max(entries, 1))
	m.truncated = cutMarks(m, moreTruncated, m.truncated, max(entries, 1))
}

func cutMarks[T any](m *marks, kind int, list []T, entries int) []T {
	if len(list) > entries {
		m.more[kind] += len(list) - entries
		list = list[:entries]
	}
	return list
}

func (m *marks) fill(name string) { m.filled = append(m.filled, name) }

func (m *marks) repair(path, what string) {
	m.addBounded(&m.repaired, moreRepaired, shorten(path, maxMarkBytes-len(what)-2)+": "+what)
	m.codes[codeRepaired] = true
}

func (m *marks) redact(path string, by rule) {
	m.redacted[by]++
	if !slices.Contains(m.masked, path) {
		m.addBounded(&m.masked, moreMasked, path)
	}
}

func (m *marks) truncate(path string, bytes int) {
	path = shorten(path, maxMarkBytes)
	for i := range m.truncated {
		if m.truncated[i].path == path {
			m.truncated[i].bytes = max(m.truncated[i].bytes, bytes)
			return
		}
	}
	if len(m.truncated) >= maxMarkEntries {
		m.more[moreTruncated]++
		return
	}
	m.truncated = append(m.truncated, cut{path, bytes})
}

func (m *marks) flag(code reasonCode, reason string) {
	m.codes[code] = true
	m.addBounded(&m.flagged, moreFlagged, reason)
}

func (m *marks) clearFlags() {
	m.flagged = m.flagged[:0]
	m.more[moreFlagged] = 0
	repaired := m.codes[codeRepaired]
	m.codes = [codeCount]bool{}
	m.codes[codeRepaired] = repaired
}

// changed says whether redaction or truncation touched the record.
func (m *marks) changed() bool {
	return len(m.truncated) > 0 || m.redacted != [ruleCount]int{}
}

// shorten cuts s to at most limit bytes at the boundary of a character and
// makes it valid UTF-8.
func shorten(s string, limit int) string {
	if len(s) > limit {
		s = s[:boundary(s, limit-len("…"))] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// boundary returns the largest n' ≤ n at which s can be cut without splitting
// a character.
func boundary(s string, n int) int {
	for limit := n - 3; n > 0 && n > limit && n < len(s) && s[n]&0xC0 == 0x80; {
		n--
	}
	return n
}

// step is one name or index on the way to a value.
type step struct {
	key   string
	index int // -1: key
}

// location is where a walk stands.
type location struct {
	root  string
	steps []step
}

func (l *location) start(root string) {
	l.root = root
	l.steps = l.steps[:0]
}

func (l *location) push(key string)    { l.steps = append(l.steps, step{key, -1}) }
func (l *location) pushIndex(i int)    { l.steps = append(l.steps, step{"", i}) }
func (l *location) pop()               { l.steps = l.steps[:len(l.steps)-1] }
func (l *location) rename(name string) { l.steps[len(l.steps)-1].key = name }

// String writes the path: `audit.metadata.headers[2].value`.
func (l *location) String() string {
	var b strings.Builder
	b.WriteString(l.root)
	for _, s := range l.steps {
		if b.Len() > maxMarkBytes {
			break
		}
		if s.index >= 0 {
			b.WriteByte('[')
			b.WriteString(strconv.Itoa(s.index))
			b.WriteByte(']')
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(shorten(s.key, maxKeyInPath))
	}
	return b.String()
}

// reasonCode groups the reasons for a flag, for telemetry.
type reasonCode uint8

const (
	codeRequired reasonCode = iota
	codeType
	codeValue
	codeLength
	codeClockSkew
	codeNaming
	codeTenant
	codeRepaired
	codeOversize
	codeProof
	codeSequence
	codeCount
)

var reasonNames = [codeCount]string{
	"required", "type", "value", "length", "clock_skew", "naming", "tenant", "repaired", "oversize", "proof", "sequence",
}

// truncation groups what the limits cut, for telemetry.
type truncation uint8

const (
	cutMetadata truncation = iota
	cutDiff
	cutBody
	cutAttribute
	cutGroup // resource or scope
	truncationCount
)

var truncationNames = [truncationCount]string{"metadata", "diff", "body", "attribute", "resource"}

// tally counts what the stages did to the records of a request. Its names are
// fixed sets.
type tally struct {
	redacted  [ruleCount]int64          // values, by rule
	flagged   [codeCount]int64          // records, by reason; a record counts once for each reason it has
	truncated [truncationCount]int64    // values, by part
	repaired  int64                     // records
	proofs    [len(proofOutcomes)]int64 // records, by the verdict on their proof
}

// addRedacted counts the values of one record, resource or scope.
func (t *tally) addRedacted(m *marks) {
	for i, n := range m.redacted {
		t.redacted[i] += int64(n)
	}
}

// addFlagged counts one record with its own marks and those of its group.
func (t *tally) addFlagged(own, resource, scope *marks) {
	for i := range t.flagged {
		if own.codes[i] || resource.codes[i] || scope.codes[i] {
			t.flagged[i]++
		}
	}
}

// eachRedacted calls f for each rule that redacted something.
func (t *tally) eachRedacted(f func(rule string, values int64)) { each(t.redacted[:], ruleNames[:], f) }

// eachFlagged calls f for each reason that records were flagged or refused for.
func (t *tally) eachFlagged(f func(reason string, records int64)) {
	each(t.flagged[:], reasonNames[:], f)
}

// eachTruncated calls f for each part of which something was cut.
func (t *tally) eachTruncated(f func(part string, values int64)) {
	each(t.truncated[:], truncationNames[:], f)
}

func each(counts []int64, names []string, f func(string, int64)) {
	for i, n := range counts {
		if n > 0 {
			f(names[i], n)
		}
	}
}
