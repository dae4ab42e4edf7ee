// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
)

// validator finds every fault of a record at once. Immutable.
type validator struct {
	reject    bool
	clockSkew time.Duration
	maxID     int
	maxName   int
	pattern   *regexp.Regexp // nil: none
	denyUUID  bool
}

func newValidator(config *ValidationConfig) (*validator, error) {
	pattern, err := compilePattern("validation::action::pattern", config.Action.Pattern)
	if err != nil {
		return nil, err
	}
	return &validator{
		reject:    config.OnInvalid == onInvalidReject,
		clockSkew: config.ClockSkew,
		maxID:     config.MaxIDBytes,
		maxName:   config.MaxNameBytes,
		pattern:   pattern,
		denyUUID:  config.Action.DenyUUID,
	}, nil
}

// kind of text that a field holds: decides its bound.
type kind uint8

const (
	kindID kind = iota
	kindName
)

// textRule is what the schema says about a field that holds a string.
type textRule struct {
	id       fieldID
	name     string
	kind     kind
	required bool
	allowed  []string // empty: any
	want     string   // the allowed values in words
}

var textRules = [...]textRule{
	{id: fieldRecordID, name: audit.AttributeRecordID, kind: kindID, required: true},
	{id: fieldActorID, name: audit.AttributeActorID, kind: kindID, required: true},
	{
		id: fieldActorType, name: audit.AttributeActorType, kind: kindName, required: true,
		allowed: []string{"user", "service", "system"}, want: "must be user, service or system",
	},
	{id: fieldAction, name: audit.AttributeAction, kind: kindName, required: true},
	{
		id: fieldOutcome, name: audit.AttributeOutcome, kind: kindName, required: true,
		allowed: []string{"success", "failure", "unknown"}, want: "must be success, failure or unknown",
	},
	{id: fieldActorName, name: audit.AttributeActorName, kind: kindName},
	{id: fieldActorSubtype, name: audit.AttributeActorSubtype, kind: kindName},
	{id: fieldOutcomeReason, name: audit.AttributeOutcomeReason, kind: kindName},
	{id: fieldTargetID, name: audit.AttributeTargetID, kind: kindID},
	{id: fieldTargetType, name: audit.AttributeTargetType, kind: kindName},
	{id: fieldTargetName, name: audit.AttributeTargetName, kind: kindName},
	{id: fieldTenantID, name: audit.AttributeTenantID, kind: kindID},
	{id: fieldOrgID, name: audit.AttributeOrgID, kind: kindID},
	{id: fieldRequestID, name: audit.AttributeRequestID, kind: kindID},
	{id: fieldTraceID, name: audit.AttributeTraceID, kind: kindID},
	{id: fieldSchemaVersion, name: audit.AttributeSchemaVersion, kind: kindName},
	{id: fieldRetentionTag, name: audit.AttributeRetentionTag, kind: kindName},
}

// check adds a reason to m for each fault of a record. tenant is the
// authenticated one, empty if there is none.
func (v *validator) check(record plog.LogRecord, f *fields, tenant string, now time.Time, m *marks) {
	v.checkEventName(record.EventName(), m)
	for i := range textRules {
		if rule := &textRules[i]; f.known[rule.id].set || rule.required {
			v.checkText(rule, &f.known[rule.id], m)
		}
	}
	v.checkAction(f.known[fieldAction].text, m)
	checkTarget(f, m)
	checkContainers(f, m)
	if stated := f.known[fieldTenantID].text; tenant != "" && stated != "" && stated != tenant {
		m.flag(codeTenant, audit.AttributeTenantID+": is not the authenticated tenant")
	}
	v.checkTime(record.Timestamp(), now, m)
}

func (v *validator) limit(k kind) int {
	if k == kindID {
		return v.maxID
	}
	return v.maxName
}

func (v *validator) checkEventName(name string, m *marks) {
	switch {
	case strings.TrimSpace(name) == "":
		m.flag(codeRequired, nameEventName+": required")
		return
	case len(name) > v.maxName:
		m.flag(codeLength, fmt.Sprintf("%s: longer than %d bytes", nameEventName, v.maxName))
		return
	}
	if v.pattern != nil && !v.pattern.MatchString(name) {
		m.flag(codeNaming, nameEventName+": does not match `validation::action::pattern`")
	}
	if v.denyUUID && holdsUUID(name) {
		m.flag(codeNaming, nameEventName+": holds a UUID: put it into an attribute")
	}
}

func (v *validator) checkText(rule *textRule, f *field, m *marks) {
	limit := v.limit(rule.kind)
	switch {
	case f.missing():
		if rule.required {
			m.flag(codeRequired, rule.name+": required")
		}
	case f.kind != pcommon.ValueTypeStr:
		m.flag(codeType, rule.name+": must be a string")
	case len(f.text) > limit:
		m.flag(codeLength, fmt.Sprintf("%s: longer than %d bytes", rule.name, limit))
	case f.text[0] <= ' ' && strings.TrimSpace(f.text) == "":
		m.flag(codeValue, rule.name+": blank")
	case len(rule.allowed) > 0 && !slices.Contains(rule.allowed, f.text):
		m.flag(codeValue, rule.name+": "+rule.want)
	}
}

func (v *validator) checkAction(action string, m *marks) {
	if v.denyUUID && len(action) <= v.maxName && holdsUUID(action) {
		m.flag(codeNaming, audit.AttributeAction+": holds a UUID: put it into an attribute")
	}
}

func checkTarget(f *fields, m *marks) {
	if !f.known[fieldTargetID].missing() && f.known[fieldTargetType].missing() {
		m.flag(codeRequired, audit.AttributeTargetType+": required beside "+audit.AttributeTargetID)
	}
}

func checkContainers(f *fields, m *marks) {
	if got := &f.known[fieldMetadata]; !got.missing() && got.kind != pcommon.ValueTypeMap {
		m.flag(codeType, audit.AttributeMetadata+": must be a map")
	}
	if got := &f.known[fieldDiff]; !got.missing() && got.kind != pcommon.ValueTypeMap && got.kind != pcommon.ValueTypeSlice {
		m.flag(codeType, audit.AttributeDiff+": must be a map or a list")
	}
	if got := &f.known[fieldActorRoles]; !got.missing() && got.kind != pcommon.ValueTypeSlice {
		m.flag(codeType, audit.AttributeActorRoles+": must be a list")
	}
}

// checkTime finds a missing time and one in the future. The past has no
// limit: a queue may have been offline for long.
func (v *validator) checkTime(timestamp pcommon.Timestamp, now time.Time, m *marks) {
	if timestamp == 0 {
		m.flag(codeRequired, nameTimestamp+": required")
		return
	}
	if v.clockSkew > 0 && uint64(timestamp) > uint64(now.Add(v.clockSkew).UnixNano()) {
		m.flag(codeClockSkew, fmt.Sprintf("%s: more than %s in the future", nameTimestamp, v.clockSkew))
	}
}

// holdsUUID says whether the canonical text form of a UUID is inside s.
func holdsUUID(s string) bool {
	for i := 0; i+36 <= len(s); i++ {
		if isUUID(s[i : i+36]) {
			return true
		}
	}
	return false
}

func isUUID(s string) bool {
	for i := range 36 {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !isHex(c) {
				return false
			}
		}
	}
	return true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
