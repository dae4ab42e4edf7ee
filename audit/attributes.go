// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package audit names what an audit event carries as an OpenTelemetry log
// record, maps the JSON form of an event to such a record and back, and writes
// and reads the lines in which sealed records are stored.
//
// The names are those of OTEP 0267 where it has one. The package knows no
// file, no network and no clock.
package audit

// Attributes of a record that OTEP 0267 names.
const (
	AttributeRecordID      = "audit.record.id"
	AttributeActorID       = "audit.actor.id"
	AttributeActorType     = "audit.actor.type" // user, service or system
	AttributeAction        = "audit.action"
	AttributeOutcome       = "audit.outcome" // success, failure or unknown
	AttributeTargetID      = "audit.target.id"
	AttributeTargetType    = "audit.target.type"
	AttributeSourceID      = "audit.source.id"
	AttributeSourceType    = "audit.source.type" // ipv4, ipv6 or hostname
	AttributeSchemaVersion = "audit.schema.version"
)

// Attributes of a record that the draft has no name for.
const (
	AttributeActorName     = "audit.actor.name"
	AttributeActorRoles    = "audit.actor.roles"
	AttributeActorSubtype  = "audit.actor.subtype"
	AttributeTargetName    = "audit.target.name"
	AttributeOutcomeReason = "audit.outcome.reason" // denied or error
	AttributeRequestID     = "audit.request.id"
	AttributeTraceID       = "audit.trace.id" // a trace id that is not 32 hex digits
	AttributeTenantID      = "audit.tenant.id"
	AttributeOrgID         = "audit.org.id"
	AttributeMetadata      = "audit.metadata"
	AttributeDiff          = "audit.diff"
	AttributeRetentionTag  = "audit.retention.tag"
	AttributeSpanID        = "audit.span.id" // a span id that is not 16 hex digits

	// The flags of a sender that has cut metadata or diff itself.
	AttributeMetadataTruncated = "audit.metadata.truncated"
	AttributeDiffTruncated     = "audit.diff.truncated"
	// AttributeSenderIntegrity holds, as a map, what a sender claims about an
	// event's integrity. It is evidence of the claim and is never trusted.
	AttributeSenderIntegrity = "audit.sender.integrity"
)

// Attributes of a record and its resource that OpenTelemetry's semantic
// conventions name.
const (
	AttributeClientAddress = "client.address"
	AttributeUserAgent     = "user_agent.original"
	AttributeSessionID     = "session.id"

	ResourceEnvironment     = "deployment.environment.name"
	ResourceServiceName     = "service.name"
	ResourceServiceVersion  = "service.version"
	ResourceServiceInstance = "service.instance.id"
	ResourceHostName        = "host.name"
	ResourceCloudRegion     = "cloud.region"
)

// Attributes of the integrity namespace. All of them are outside the record
// that a producer signs; all but the chain are inside the digest.
const (
	// PrefixIntegrity starts every attribute that is left out of `record`.
	PrefixIntegrity = "audit.integrity."
	// PrefixCollector starts what this collector adds: the member `collector`.
	PrefixCollector = "audit.integrity.collector."
	// PrefixChain starts the coordinates that sealing adds. They are outside
	// the canonical bytes, because the link holds them.
	PrefixChain = "audit.integrity.chain."
	// PrefixHop starts the seals of earlier collectors: hop.<n>.chain.… and
	// hop.<n>.collector.…, n from 0.
	PrefixHop = "audit.integrity.hop."
)

// Attributes of a sealed record: its link and the link's hash. Index, seq and
// sealed_at are integers, the hashes lowercase hex.
const (
	AttributeChainOrigin   = PrefixChain + "origin"
	AttributeChainIndex    = PrefixChain + "index"
	AttributeChainStream   = PrefixChain + "stream"
	AttributeChainSeq      = PrefixChain + "seq"
	AttributeChainSealedAt = PrefixChain + "sealed_at"
	AttributeChainPrev     = PrefixChain + "prev"
	AttributeChainHash     = PrefixChain + "hash"

	// AttributeChainCheckpoint and AttributeChainRange make a log record a
	// checkpoint in band: the signed note, and the compact range of its tree
	// as a list of lowercase hex hashes. Such a record also carries
	// AttributeChainOrigin and, as its coordinate, AttributeChainIndex = size.
	AttributeChainCheckpoint = PrefixChain + "checkpoint"
	AttributeChainRange      = PrefixChain + "range"
)

// Attributes that the processor adds to a record: what it found and did.
const (
	AttributeCollectorTenant    = PrefixCollector + "tenant"    // authenticated tenant
	AttributeCollectorFilled    = PrefixCollector + "filled"    // list of fields that were set
	AttributeCollectorRepaired  = PrefixCollector + "repaired"  // list of "<path>: <what>"
	AttributeCollectorRedacted  = PrefixCollector + "redacted"  // map: rule → number of values
	AttributeCollectorMasked    = PrefixCollector + "masked"    // list of paths whose value was masked or removed
	AttributeCollectorTruncated = PrefixCollector + "truncated" // map: path → original size in bytes
	AttributeCollectorFlagged   = PrefixCollector + "flagged"   // list of reasons why the record breaks the schema

	AttributeCollectorVerifyStatus = PrefixCollector + "verify_status" // passed or failed: the verdict on a producer's proof
	AttributeCollectorVerifyReason = PrefixCollector + "verify_reason" // why it failed, one word
	AttributeCollectorVerifyKey    = PrefixCollector + "verify_key"    // id of the key that proved it
	AttributeCollectorProofs       = PrefixCollector + "proofs"        // map: name of a signature that was masked → keyed hash of it
	AttributeCollectorSequence     = PrefixCollector + "sequence"      // what is wrong with the record's place in its producer's chain
)

// Attributes of a producer's proof, as OTEP 0267 names them: a signature over
// `record`, who made it, and of what form.
const (
	AttributeIntegrityValue            = PrefixIntegrity + "value"
	AttributeIntegrityNewValue         = PrefixIntegrity + "new_value" // by the key that takes over
	AttributeIntegritySigner           = PrefixIntegrity + "signer"    // producer or collector
	AttributeIntegrityCanonicalization = PrefixIntegrity + "canonicalization"

	// Of the resource.
	ResourceIntegrityAlgorithm   = PrefixIntegrity + "algorithm"
	ResourceIntegrityCertificate = PrefixIntegrity + "certificate"
)

// EventKeyTransition is the event name of a record that hands a producer's
// stream over to another key.
const EventKeyTransition = "audit.integrity.key-transition"

// Attributes of a producer's own chain, as OTEP 0267 names them.
const (
	AttributeSequenceStreamID         = "audit.sequence.stream_id"
	AttributeSequenceNumber           = "audit.sequence.number" // from 1
	AttributeSequencePreviousHash     = "audit.sequence.previous_hash"
	AttributeSequencePreviousRecordID = "audit.sequence.previous_record_id"
	AttributeSequenceEnd              = "audit.sequence.end" // true on the last record

	// Names that earlier drafts had for the hash of the record before.
	AttributeSequencePrevHash = "audit.sequence.prev_hash"
	AttributePrevHash         = "audit.prev_hash"
	AttributePrevDotHash      = "audit.prev.hash"
)

// Event names of control records: sealed records that the collector itself
// writes to the stream StreamOrigin. A name alone never makes a control record.
const (
	EventOriginStart     = "audit.origin.start"
	EventOriginHeartbeat = "audit.origin.heartbeat"
	EventOriginStop      = "audit.origin.stop"
	EventQuarantine      = "audit.quarantine"
)

// EventHopCheckpoint names the record that keeps a checkpoint of another log,
// which an earlier collector has forwarded. It is no control record.
const EventHopCheckpoint = "audit.hop.checkpoint"

// Attributes of a control record. Sizes are integers, roots and digests
// lowercase hex.
const (
	AttributeOriginVersion      = "audit.origin.version"       // version of the distribution
	AttributeOriginConfig       = "audit.origin.config"        // digest of the effective configuration
	AttributeOriginCause        = "audit.origin.cause"         // first, clean or crash: how the previous life ended
	AttributeOriginPrevious     = "audit.origin.previous"      // name of the previous origin
	AttributeOriginPreviousSize = "audit.origin.previous.size" // its final size
	AttributeOriginPreviousRoot = "audit.origin.previous.root" // its final root
	AttributeOriginKey          = "audit.origin.key"           // public signing key as standard base64
)

// Attributes of an audit.quarantine record: what was done with a record that a
// sink refused for good, whose it is by its coordinate and digest, which sink,
// and why.
const (
	AttributeQuarantineAction = "audit.quarantine.action" // quarantine, replay or drop
	AttributeQuarantineOrigin = "audit.quarantine.origin"
	AttributeQuarantineIndex  = "audit.quarantine.index"
	AttributeQuarantineDigest = "audit.quarantine.digest"
	AttributeQuarantineSink   = "audit.quarantine.sink"
	AttributeQuarantineReason = "audit.quarantine.reason"
)

// Streams. The first three kinds are chosen by what a record says, the others
// are the collector's own: no client can produce them.
const (
	StreamTenant   = "tenant:"   // + authenticated tenant, else audit.tenant.id
	StreamService  = "service:"  // + service.name
	StreamNone     = "none:"     // neither
	StreamOrigin   = "origin:"   // control records
	StreamFlagged  = "flagged:"  // + the stream of a record that breaks the schema
	StreamOverflow = "overflow:" // too many streams, or a name of more than MaxStream bytes
)

// MaxStream is the longest name of a stream in bytes; a longer one becomes
// StreamOverflow.
const MaxStream = 256
