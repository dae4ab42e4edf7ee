// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

// Code is a stable word for what was found. docs/doctor.md says more of each.
type Code string

// The codes, from the client's side to the sink's.
const (
	codeUnresolved       Code = "unresolved"
	codeUndefined        Code = "undefined"
	codeNoAuditPipeline  Code = "no-audit-pipeline"
	codeWrongSignal      Code = "wrong-signal"
	codeUnsealedReceiver Code = "unsealed-receiver"
	codeUnsealedExporter Code = "unsealed-exporter"
	codeSecondSeal       Code = "second-seal"

	codePlaintextDoor   Code = "plaintext-door"
	codeOpenDoor        Code = "open-door"
	codePlaintextAsked  Code = "plaintext-asked"
	codeInsecureIdle    Code = "insecure-unneeded"
	codeTenantHeader    Code = "tenant-header"
	codeCallersBypassed Code = "callers-bypassed"
	codeCallerUnbounded Code = "caller-unbounded"
	codeRuleUnreached   Code = "rule-unreached"
	codeKafkaMarks      Code = "kafka-marks-early"
	codeReceiverDrops   Code = "receiver-drops-refused"
	codeReceiverOffset  Code = "receiver-forgets-offset"
	codeReceiverOther   Code = "receiver-unknown"

	codeAsyncBefore   Code = "answers-before-seal"
	codeSampledBefore Code = "sampled-before-seal"
	codeFilterBefore  Code = "filtered-before-seal"
	codeUnknownBefore Code = "unknown-before-seal"
	codeAfterSeal     Code = "processor-after-seal"
	codeLimiterLate   Code = "limiter-after-seal"

	codeConnector     Code = "connector-after-seal"
	codeConnectorLoss Code = "connector-loses"

	codeJournalShared Code = "journal-shared"
	codeStoreShared   Code = "store-shared"
	codeDirRelative   Code = "directory-relative"
	codeDirTemporary  Code = "directory-temporary"
	codeRedactionOff  Code = "redaction-off"
	codeChainOpen     Code = "chain-unsigned"

	codeNotKept        Code = "not-kept"
	codeQueueMemory    Code = "queue-in-memory"
	codeQueueDisk      Code = "queue-on-disk"
	codeOptionalOnly   Code = "optional-only"
	codeQueueBatch     Code = "queue-batch"
	codeStorageMissing Code = "storage-missing"
	codeStorageSync    Code = "storage-unsynced"
	codeStorageOther   Code = "storage-unknown"
	codeRetryOff       Code = "retry-off"
	codeRetryEnds      Code = "retry-gives-up"
	codeExporterBuffer Code = "exporter-buffers"
	codePlaintextSink  Code = "plaintext-sink"

	codeTimeoutCut   Code = "timeout-cut"
	codeTimeoutOrder Code = "timeout-order"
	codeNoMetrics    Code = "no-metrics"
)

// severities has each code once.
var severities = map[Code]Severity{
	codeUnresolved:       Warning,
	codeUndefined:        Error,
	codeNoAuditPipeline:  Error,
	codeWrongSignal:      Error,
	codeUnsealedReceiver: Error,
	codeUnsealedExporter: Error,
	codeSecondSeal:       Error,

	codePlaintextDoor:   Error,
	codeOpenDoor:        Warning,
	codePlaintextAsked:  Warning,
	codeInsecureIdle:    Warning,
	codeTenantHeader:    Warning,
	codeCallersBypassed: Warning,
	codeCallerUnbounded: Warning,
	codeRuleUnreached:   Warning,
	codeKafkaMarks:      Warning,
	codeReceiverDrops:   Warning,
	codeReceiverOffset:  Warning,
	codeReceiverOther:   Warning,

	codeAsyncBefore:   Error,
	codeSampledBefore: Error,
	codeFilterBefore:  Warning,
	codeUnknownBefore: Warning,
	codeAfterSeal:     Error,
	codeLimiterLate:   Warning,

	codeConnector:     Warning,
	codeConnectorLoss: Error,

	codeJournalShared: Error,
	codeStoreShared:   Error,
	codeDirRelative:   Warning,
	codeDirTemporary:  Warning,
	codeRedactionOff:  Warning,
	codeChainOpen:     Warning,

	codeNotKept:        Error,
	codeQueueMemory:    Error,
	codeQueueDisk:      Warning,
	codeOptionalOnly:   Error,
	codeQueueBatch:     Error,
	codeStorageMissing: Error,
	codeStorageSync:    Error,
	codeStorageOther:   Warning,
	codeRetryOff:       Error,
	codeRetryEnds:      Error,
	codeExporterBuffer: Error,
	codePlaintextSink:  Warning,

	codeTimeoutCut:   Error,
	codeTimeoutOrder: Warning,
	codeNoMetrics:    Warning,
}
