// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"slices"
	"strings"
	"time"
)

// Exporters that store nothing, by type without underscores.
var passing = []string{"debug", "logging", "nop"}

const defaultMaxElapsed = 5 * time.Minute

// checkKept finds pipelines whose records no exporter stores for certain.
func (e *examination) checkKept() {
	for _, p := range e.sealed() {
		guessed := p.guessed || slices.ContainsFunc(behind(p), func(other *pipeline) bool { return other.guessed })
		stores := slices.DeleteFunc(slices.Clone(exportersBehind(p)), func(x *part) bool {
			return x.section != exporters || x.is(passing...)
		})
		at := p.node
		if named := p.node.at(exporters); named != nil {
			at = named
		}
		switch {
		case guessed:
		case len(stores) == 0:
			e.add(codeNotKept, at, p.path(exporters),
				"no exporter of this pipeline stores anything: the journal counts records as delivered and deletes them",
				"add an exporter that keeps: `audit: {file: {directory: …}}`")
		case !slices.ContainsFunc(stores, func(x *part) bool { return !e.isOptional(x) }):
			e.add(codeOptionalOnly, at, p.path(exporters),
				"every store of this pipeline is optional: the journal counts records as delivered and deletes them, also those that a store misses",
				"leave `required: false` out of one of them")
		}
	}
}

// isOptional says that an exporter of ours may miss records. What cannot be told
// is taken to be required.
func (e *examination) isOptional(x *part) bool {
	if !isAudit(x) || !x.defined {
		return false
	}
	required, ok := e.boolean(x, true, "required")
	return ok && !required
}

// checkExporters judges what stands between the journal and the stores.
func (e *examination) checkExporters() {
	for _, p := range e.sealed() {
		for _, x := range exportersBehind(p) {
			if x.section != exporters || !x.defined || x.is(passing...) {
				continue
			}
			if isAudit(x) {
				e.checkOurExporter(x)
				e.checkPlaintextSink(x)
			} else {
				e.checkStockExporter(x)
			}
		}
	}
}

// checkOurExporter judges the queue of a required sink. One that is optional has
// a queue of its own, and repeats without being told to.
func (e *examination) checkOurExporter(x *part) {
	required, ok := e.boolean(x, true, "required")
	if !ok || !required || !e.queues(x) {
		return
	}
	if e.batches(x) {
		e.found(codeQueueBatch, x, []string{"sending_queue", "batch"},
			"a merged batch loses the context in which the audit processor learns what became of its records: the exporter does not start",
			"remove `batch`: the processor sends large batches already")
	}
	if waits, ok := e.boolean(x, true, "sending_queue", "wait_for_result"); ok && !waits {
		e.found(codeQueueMemory, x, []string{"sending_queue"},
			"it answers before the store has the records: the journal would count them as delivered and delete them, so the exporter does not start",
			"remove `sending_queue`: the journal is the queue; or set `wait_for_result: true`")
	}
}

func (e *examination) checkStockExporter(x *part) {
	if x.is("file") {
		e.found(codeExporterBuffer, x, nil,
			"it answers while the records are in its buffer, and syncs nothing: the journal deletes what a crash then loses",
			"use `audit: {file: {directory: …}}`, which answers after the sync")
		return
	}
	if !e.queues(x) {
		return // nothing waits in it: the processor repeats what fails
	}
	if !x.node.at("sending_queue", "storage").unset() {
		e.found(codeQueueDisk, x, []string{"sending_queue", "storage"},
			"while the collector starts, the queue deletes what was in flight and writes it again later: a crash in between loses it, whatever is configured",
			"write `sending_queue: {enabled: false}`: the journal is the queue, and keeps records until the exporter has sent them")
		e.checkStorage(x, "sending_queue", "storage")
		e.checkRetry(x)
		return
	}
	waits, ok := e.boolean(x, false, "sending_queue", "wait_for_result")
	if !ok || waits {
		return
	}
	reason := "records wait in memory: the journal counts them as delivered and deletes them, and a crash loses them"
	if x.node.at("sending_queue").unset() {
		reason = "`sending_queue` is on by default, in memory: the journal counts records as delivered and deletes them, and a crash loses them"
	}
	e.found(codeQueueMemory, x, []string{"sending_queue"}, reason,
		"write `sending_queue: {enabled: false}`: the journal is the queue; or set `wait_for_result: true`")
	e.checkRetry(x)
}

// queues says that an exporter has a queue: ours if it is asked for, a stock
// one unless it is switched off.
func (e *examination) queues(x *part) bool {
	if isAudit(x) && x.node.at("sending_queue") == nil {
		return false
	}
	enabled, ok := e.boolean(x, true, "sending_queue", "enabled")
	return enabled && ok
}

// batches says that our exporter's queue merges requests. Without a value the
// key switches it on.
func (e *examination) batches(x *part) bool {
	if x.node.at("sending_queue", "batch") == nil {
		return false
	}
	enabled, ok := e.boolean(x, true, "sending_queue", "batch", "enabled")
	return enabled && ok
}

// checkRetry finds a queue that drops what the store does not take.
func (e *examination) checkRetry(x *part) {
	enabled, ok := e.boolean(x, true, "retry_on_failure", "enabled")
	if !ok {
		return
	}
	if !enabled {
		e.found(codeRetryOff, x, []string{"retry_on_failure"},
			"a queue that does not wait drops records at their first failure, after the journal has deleted them",
			"switch the queue off, or write `retry_on_failure: {enabled: true, max_elapsed_time: 0}`")
		return
	}
	elapsed, ok := e.duration(x, defaultMaxElapsed, "retry_on_failure", "max_elapsed_time")
	if ok && elapsed != 0 {
		e.found(codeRetryEnds, x, []string{"retry_on_failure", "max_elapsed_time"},
			"after "+elapsed.String()+" without success the queue drops the records, also from a disk; the journal has deleted them",
			"switch the queue off, or write `retry_on_failure: {max_elapsed_time: 0}`: it then repeats without end")
	}
}

// checkStorage judges the extension that a component keeps its state in.
func (e *examination) checkStorage(x *part, keys ...string) {
	id, ok := e.string(x, "", keys...)
	if !ok {
		return
	}
	storage := e.newPart(extensions, strings.TrimSpace(id), x.place(keys...))
	if !storage.defined || !e.serves(storage.id) {
		e.found(codeStorageMissing, x, keys,
			"the extension "+shorten(storage.id)+" is not defined under `extensions`, or not named in `service::extensions`: the collector does not start",
			"define it, `"+shorten(storage.id)+": {directory: …, fsync: true}`, and name it in `service::extensions`")
		return
	}
	if !storage.is("filestorage") {
		e.found(codeStorageOther, storage, nil,
			"it is not known whether it has synced what "+x.id+" writes before it answers",
			"use `file_storage` with `fsync: true`")
		return
	}
	if synced, ok := e.boolean(storage, false, "fsync"); ok && !synced {
		e.found(codeStorageSync, storage, []string{"fsync"},
			"`fsync` is off by default: a power failure loses what "+x.id+" has written, and can leave a file that keeps the collector from starting",
			"write `fsync: true`")
	}
}

// serves says that service::extensions names the extension, or may.
func (e *examination) serves(id string) bool {
	named := e.at(service, "extensions")
	if named == nil {
		return false
	}
	return named.unknown() || slices.ContainsFunc(named.items, func(item *node) bool {
		return item.unknown() || item.kind == scalar && strings.TrimSpace(item.text) == id
	})
}
