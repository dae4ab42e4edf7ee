// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"path"
	"slices"
	"strings"
)

// checkShared finds directories and processors that two would use.
func (e *examination) checkShared() {
	e.checkReusedProcessors()
	var seals []*part
	var stores []*part
	for _, p := range e.audits {
		seals = append(seals, slices.DeleteFunc(slices.Clone(p.processors), func(q *part) bool { return !isAudit(q) })...)
		stores = append(stores, slices.DeleteFunc(slices.Clone(p.exporters), func(x *part) bool { return !isAudit(x) })...)
	}
	e.checkDirectories(seals, codeJournalShared, []string{"journal", "directory"}, map[string]string{},
		"one journal belongs to one processor in one pipeline: the second one cannot lock the directory and the collector does not start",
		"a directory of its own for each")
	e.checkInJournal(seals, stores)
	e.checkDirectories(stores, codeStoreShared, []string{"file", "directory"}, map[string]string{},
		"one store belongs to one exporter: the second one cannot lock the directory and the collector does not start",
		"a directory of its own for each, or the same exporter in both pipelines")
	e.checkDirectories(stores, codeStoreShared, []string{"quarantine", "directory"}, besideStores(stores),
		"one quarantine belongs to one exporter: the second one cannot lock the directory and the collector does not start",
		"a directory of its own for each: where none is named it is `file::directory` with `.quarantine` behind it")
}

// checkInJournal finds exporters that keep something in the directory of a journal.
func (e *examination) checkInJournal(seals, stores []*part) {
	journals := map[string]bool{}
	for _, q := range seals {
		journals[directoryAt(q, "journal", "directory")] = true
	}
	delete(journals, "")
	for _, x := range stores {
		for _, keys := range [][]string{{"file", "directory"}, {"quarantine", "directory"}} {
			if journals[directoryAt(x, keys...)] {
				e.found(codeStoreShared, x, keys,
					"an audit processor has its journal here and cannot lock it beside this exporter: the collector does not start",
					"a directory of its own for each")
			}
		}
	}
}

// checkReusedProcessors finds a processor in several pipelines. Unlike
// exporters, the collector makes one for each.
func (e *examination) checkReusedProcessors() {
	users := map[string][]string{}
	for _, p := range e.sealed() {
		q := p.processors[p.seal()]
		users[q.id] = append(users[q.id], p.id)
	}
	for _, p := range e.sealed() {
		q := p.processors[p.seal()]
		if in := users[q.id]; len(in) > 1 {
			e.found(codeJournalShared, q, []string{"journal", "directory"},
				"pipelines "+strings.Join(in, ", ")+" each start this processor on one journal: the second cannot lock it and the collector does not start",
				"define a processor for each pipeline, such as `audit/"+pipelineName(in[1])+"`, with a directory of its own; or one pipeline with all receivers")
		}
	}
}

// pipelineName is the name part of `logs/name`.
func pipelineName(id string) string {
	if _, name, ok := strings.Cut(id, "/"); ok {
		return name
	}
	return "second"
}

// directoryAt is the text of a directory's key, "" where there is none.
func directoryAt(p *part, keys ...string) string {
	n := p.node.at(keys...)
	if n == nil || n.kind != scalar || n.text == "" {
		return ""
	}
	return path.Clean(n.text)
}

// besideStores says, by directory, which exporter keeps its quarantine there
// without being told to.
func besideStores(parts []*part) map[string]string {
	by := map[string]string{}
	for _, p := range parts {
		store := directoryAt(p, "file", "directory")
		if store != "" && directoryAt(p, "quarantine", "directory") == "" {
			by[store+".quarantine"] = p.id
		}
	}
	return by
}

// checkDirectories finds two components with one directory. first says, by
// directory, which component has it already. Texts are compared: two equal
// `${env:X}` are one directory.
func (e *examination) checkDirectories(parts []*part, code Code, keys []string, first map[string]string, reason, cure string) {
	for _, p := range parts {
		directory := directoryAt(p, keys...)
		if directory == "" {
			continue
		}
		if other, taken := first[directory]; taken && other != p.id {
			e.found(code, p, keys, reason+" (the other is "+other+")", cure)
		} else {
			first[directory] = p.id
		}
	}
}

// checkProcessors judges the audit processors themselves, and where they and
// our exporters keep what they have.
func (e *examination) checkProcessors() {
	for _, p := range e.audits {
		for _, q := range p.processors {
			if isAudit(q) && q.defined {
				e.checkProcessor(q)
			}
		}
		for _, x := range p.exporters {
			if isAudit(x) && x.defined {
				e.checkDirectory(x, "file", "directory")
				e.checkDirectory(x, "quarantine", "directory")
			}
		}
	}
}

func (e *examination) checkProcessor(q *part) {
	e.checkDirectory(q, "journal", "directory")
	if enabled, ok := e.boolean(q, true, "redaction", "enabled"); ok && !enabled {
		e.found(codeRedactionOff, q, []string{"redaction", "enabled"},
			"secrets in events are hashed, sealed and stored as they come, and evidence cannot be masked afterwards",
			"remove it: redaction is on by default; name exceptions in `redaction::ignore_keys`")
	}
	e.checkChains(q)
}

// checkChains finds requests that are refused for what a stranger may have done.
func (e *examination) checkChains(q *part) {
	enabled, known := e.boolean(q, true, "sequence", "enabled")
	violation, ok := e.string(q, "mark", "sequence", "on_violation")
	if known && ok && enabled && violation == "reject" && !q.node.at("proof", "require_signature").holds() {
		e.found(codeChainOpen, q, []string{"sequence", "on_violation"},
			"who may write for a tenant and need not sign can end or take over the stream of another producer, whose requests are then refused",
			"`proof::require_signature` for those who number their records, or `on_violation: mark`")
	}
}

// checkDirectory judges where acknowledged events are kept. One that only the
// collector knows is a deployment's usual way, and no finding.
func (e *examination) checkDirectory(p *part, keys ...string) {
	n := p.node.at(keys...)
	if n.unset() || n.kind != scalar || strings.HasPrefix(n.text, "${") {
		return
	}
	directory := path.Clean(n.text)
	if !path.IsAbs(directory) {
		e.found(codeDirRelative, p, keys,
			shorten(directory)+" depends on where the collector is started: from elsewhere it begins an empty one, and what the old one holds is not delivered or not found",
			"write the whole path, such as /var/lib/otelcol-audit/"+path.Base(directory))
		return
	}
	for _, volatile := range []string{"/tmp", "/var/tmp", "/dev/shm", "/run", "/var/run"} {
		if directory == volatile || strings.HasPrefix(directory, volatile+"/") {
			e.found(codeDirTemporary, p, keys,
				"what is below "+volatile+" is deleted at a restart, or by a cleaner: acknowledged events go with it",
				"write a path on a disk that stays, such as /var/lib/otelcol-audit/"+path.Base(directory))
		}
	}
}
