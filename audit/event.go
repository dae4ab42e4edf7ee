// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"net/netip"
	"strings"
)

// Bounds of one event in its JSON form.
const (
	// MaxEventDepth is how deep objects and arrays nest, the event itself
	// counted. What keeps to it is never cut by the canonical form.
	MaxEventDepth = 64
	// MaxEventValues is how many JSON values an event holds.
	MaxEventValues = 16384
	// MaxEventMembers is how many members one object inside an event has.
	MaxEventMembers = 1024
	// MaxFieldErrors is how many problems of one event are told.
	MaxFieldErrors = 16

	// maxPath is the longest path in bytes that an error repeats.
	maxPath = 256
)

// FieldError is one thing that is wrong with an event.
type FieldError struct {
	// Path leads from the event to the value: member names and array
	// indices, joined by dots. Empty for the event itself.
	Path string
	// Problem says what is wrong and what to do. It never repeats a value.
	Problem string
}

// Error returns "path: problem".
func (e *FieldError) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return e.Path + ": " + e.Problem
}

// FieldErrors is all that is wrong with one event, at most MaxFieldErrors
// entries.
type FieldErrors []*FieldError

// Error joins the texts of the single problems.
func (e FieldErrors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the single problems.
func (e FieldErrors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

// fieldKind says how a member of an event is spelt in a log record. Each kind
// has one case in the decoder and one in the encoder.
type fieldKind uint8

const (
	kindString     fieldKind = iota // string ⇄ attribute of the record
	kindResource                    // string ⇄ attribute of the resource
	kindBool                        // boolean ⇄ attribute of the record
	kindStrings                     // array of strings ⇄ attribute of the record
	kindMap                         // free object ⇄ attribute of the record
	kindObject                      // object of known members
	kindVersion                     // number or string ⇄ audit.schema.version
	kindAction                      // string ⇄ event name, and the verb in audit.action
	kindOutcome                     // word ⇄ audit.outcome and audit.outcome.reason
	kindActorType                   // string ⇄ audit.actor.type and audit.actor.subtype
	kindTime                        // RFC 3339 or milliseconds ⇄ timestamp
	kindTraceID                     // 32 hex digits ⇄ trace id, else an attribute
	kindSpanID                      // 16 hex digits ⇄ span id, else an attribute
	kindMessage                     // any value ⇄ body
	kindAttributes                  // free object ⇄ the record's other attributes
	kindOther                       // free object ⇄ the resource's other attributes
)

// field is one member of an event, or of an object inside it.
type field struct {
	name      string
	kind      fieldKind
	attribute string  // where the value is kept, if in an attribute
	fields    []field // of kindObject
}

// eventFields is the whole event, in the order in which it is written.
var eventFields = []field{
	{name: "schemaVersion", kind: kindVersion, attribute: AttributeSchemaVersion},
	{name: "eventId", kind: kindString, attribute: AttributeRecordID},
	{name: "action", kind: kindAction},
	{name: "outcome", kind: kindOutcome, attribute: AttributeOutcome},
	{name: "actor", kind: kindObject, fields: []field{
		{name: "type", kind: kindActorType, attribute: AttributeActorType},
		{name: "id", kind: kindString, attribute: AttributeActorID},
		{name: "displayName", kind: kindString, attribute: AttributeActorName},
		{name: "roles", kind: kindStrings, attribute: AttributeActorRoles},
		{name: "ip", kind: kindString, attribute: AttributeClientAddress},
		{name: "userAgent", kind: kindString, attribute: AttributeUserAgent},
	}},
	{name: "target", kind: kindObject, fields: []field{
		{name: "type", kind: kindString, attribute: AttributeTargetType},
		{name: "id", kind: kindString, attribute: AttributeTargetID},
		{name: "displayName", kind: kindString, attribute: AttributeTargetName},
	}},
	{name: "context", kind: kindObject, fields: []field{
		{name: "occurredAt", kind: kindTime},
		{name: "requestId", kind: kindString, attribute: AttributeRequestID},
		{name: "traceId", kind: kindTraceID, attribute: AttributeTraceID},
		{name: "spanId", kind: kindSpanID, attribute: AttributeSpanID},
		{name: "sessionId", kind: kindString, attribute: AttributeSessionID},
		{name: "tenantId", kind: kindString, attribute: AttributeTenantID},
		{name: "orgId", kind: kindString, attribute: AttributeOrgID},
		{name: "environment", kind: kindResource, attribute: ResourceEnvironment},
		{name: "sourceService", kind: kindResource, attribute: ResourceServiceName},
		{name: "sourceVersion", kind: kindResource, attribute: ResourceServiceVersion},
		{name: "sourceInstance", kind: kindResource, attribute: ResourceServiceInstance},
		{name: "sourceHost", kind: kindResource, attribute: ResourceHostName},
		{name: "sourceRegion", kind: kindResource, attribute: ResourceCloudRegion},
	}},
	{name: "metadata", kind: kindMap, attribute: AttributeMetadata},
	{name: "diff", kind: kindMap, attribute: AttributeDiff},
	{name: "integrity", kind: kindMap, attribute: AttributeSenderIntegrity},
	{name: "retentionTag", kind: kindString, attribute: AttributeRetentionTag},
	{name: "metadataTruncated", kind: kindBool, attribute: AttributeMetadataTruncated},
	{name: "diffTruncated", kind: kindBool, attribute: AttributeDiffTruncated},
	{name: "message", kind: kindMessage},
	{name: "attributes", kind: kindAttributes},
	{name: "resource", kind: kindOther},
}

// derived are the attributes that follow from another member. What a sender
// says in `attributes` wins over what would follow.
func derived(attribute string) bool {
	switch attribute {
	case AttributeAction, AttributeOutcomeReason, AttributeActorSubtype:
		return true
	}
	return false
}

// verb returns the OTEP's action for an action of an event: its last segment
// in upper case, "" if there is none.
func verb(action string) string {
	return strings.ToUpper(action[strings.LastIndexAny(action, ".:/")+1:])
}

// splitOutcome spells an outcome of an event as the attributes audit.outcome
// and audit.outcome.reason. A word that it does not know stays as it is: the
// processor flags it.
func splitOutcome(word string) (outcome, reason string) {
	switch {
	case strings.EqualFold(word, "SUCCESS"):
		return "success", ""
	case strings.EqualFold(word, "FAILURE"):
		return "failure", ""
	case strings.EqualFold(word, "DENIED"):
		return "failure", "denied"
	case strings.EqualFold(word, "ERROR"):
		return "failure", "error"
	case strings.EqualFold(word, "UNKNOWN"):
		return "unknown", ""
	}
	return word, ""
}

// joinOutcome is the word that splitOutcome spells as outcome and reason, or
// the one for outcome alone if no word says both.
func joinOutcome(outcome, reason string) string {
	switch outcome {
	case "success":
		return "SUCCESS"
	case "failure":
		switch reason {
		case "denied":
			return "DENIED"
		case "error":
			return "ERROR"
		}
		return "FAILURE"
	case "unknown":
		return "UNKNOWN"
	}
	return outcome
}

// actorTypes maps the free words that senders use to the three of the OTEP.
var actorTypes = map[string]string{
	"user": "user", "human": "user", "person": "user", "admin": "user",
	"administrator": "user", "operator": "user", "employee": "user",
	"customer": "user", "member": "user", "owner": "user", "guest": "user",
	"anonymous": "user", "end_user": "user", "support": "user",

	"service": "service", "service_account": "service", "serviceaccount": "service",
	"api_key": "service", "apikey": "service", "api": "service", "token": "service",
	"client": "service", "application": "service", "app": "service", "bot": "service",
	"robot": "service", "agent": "service", "machine": "service", "workload": "service",
	"integration": "service", "webhook": "service", "device": "service",

	"system": "system", "cron": "system", "job": "system", "scheduler": "system",
	"worker": "system", "daemon": "system", "kernel": "system", "internal": "system",
}

// longestActorType bounds what is looked up in actorTypes.
const longestActorType = 32

// splitActorType spells the type of an actor as audit.actor.type and
// audit.actor.subtype; the subtype is "" where it would only repeat the type.
// A word that it does not know stays as it is: the processor flags it.
func splitActorType(word string) (kind, subtype string) {
	if kind, ok := actorTypes[word]; ok {
		if kind == word {
			return word, ""
		}
		return kind, word
	}
	if len(word) > longestActorType {
		return word, ""
	}
	folded := strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(word))
	if kind, ok := actorTypes[folded]; ok {
		return kind, word
	}
	return word, ""
}

// sourceType is the audit.source.type of an address.
func sourceType(address string) string {
	parsed, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return "hostname"
	case parsed.Unmap().Is4():
		return "ipv4"
	default:
		return "ipv6"
	}
}
