// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The sections of a configuration.
const (
	receivers  = "receivers"
	processors = "processors"
	exporters  = "exporters"
	connectors = "connectors"
	extensions = "extensions"
	service    = "service"
)

const auditType = "audit"

// examination is one configuration under examination.
type examination struct {
	root      *node
	pipelines []*pipeline // of every signal, in order of their ids
	audits    []*pipeline // logs pipelines that hold an audit component, or stand before or behind one
	findings  []Finding
	noted     map[note]bool
}

// note is what is said once.
type note struct {
	code Code
	path string
}

// pipeline is one of service::pipelines.
type pipeline struct {
	id         string
	signal     string
	node       *node
	receivers  []*part
	processors []*part
	exporters  []*part
	guessed    bool // a list is to be resolved by the collector: what is absent proves nothing

	previous, next []*pipeline // logs pipelines that connectors join to this one
}

// part is a component as a pipeline names it.
type part struct {
	section string // receivers, processors, exporters or connectors
	id      string
	kind    string // of the id `kind/name`, without underscores: some types are spelt with and without
	node    *node  // its configuration, nil if there is none
	defined bool
	use     *node // where the pipeline names it
}

func newExamination(root *node) *examination {
	e := &examination{root: root, findings: []Finding{}, noted: map[note]bool{}}
	pipelines := e.at(service, "pipelines")
	if pipelines.unknown() {
		e.unresolved(pipelines, "service::pipelines")
	} else if pipelines != nil {
		for _, id := range slices.Sorted(maps.Keys(pipelines.fields)) {
			e.pipelines = append(e.pipelines, e.newPipeline(id, pipelines.fields[id]))
		}
	}
	e.connect()
	e.audits = e.findAudits()
	return e
}

func (e *examination) newPipeline(id string, n *node) *pipeline {
	signal, _, _ := strings.Cut(strings.TrimSpace(id), "/")
	p := &pipeline{id: id, signal: strings.TrimSpace(signal), node: n}
	p.receivers = e.parts(p, receivers)
	p.processors = e.parts(p, processors)
	p.exporters = e.parts(p, exporters)
	return p
}

// parts are the components that a pipeline names in one of its lists.
func (e *examination) parts(p *pipeline, section string) []*part {
	named := p.node.at(section)
	if named.unknown() {
		p.guessed = true
		e.unresolved(named, p.path(section))
		return nil
	}
	if named == nil {
		return nil
	}
	var parts []*part
	for _, item := range named.items {
		if item.unknown() {
			p.guessed = true
			e.unresolved(item, p.path(section))
			continue
		}
		if item.kind == scalar {
			parts = append(parts, e.newPart(section, strings.TrimSpace(item.text), item))
		}
	}
	return parts
}

func (e *examination) newPart(section, id string, use *node) *part {
	if section == receivers || section == exporters {
		if _, ok := e.lookup(connectors, id); ok {
			section = connectors
		}
	}
	kind, _, _ := strings.Cut(id, "/")
	p := &part{section: section, id: id, kind: normalKind(kind), use: use}
	p.node, p.defined = e.lookup(section, id)
	return p
}

// normalKind is a type's name without what its spellings differ in.
func normalKind(kind string) string {
	return strings.ReplaceAll(strings.TrimSpace(kind), "_", "")
}

// lookup finds the configuration of a component. Where a section is to be
// resolved by the collector, the component is taken to be there.
func (e *examination) lookup(section, id string) (*node, bool) {
	all := e.at(section)
	if all.unknown() {
		return all.at(id), section != connectors
	}
	if all == nil {
		return nil, false
	}
	for key, value := range all.fields {
		if strings.TrimSpace(key) == id {
			return value, true
		}
	}
	return nil, false
}

func (e *examination) at(path ...string) *node { return e.root.at(path...) }

func (p *pipeline) path(keys ...string) string {
	return join(append([]string{service, "pipelines", p.id}, keys...)...)
}

func (p *part) path(keys ...string) string {
	return join(append([]string{p.section, p.id}, keys...)...)
}

func join(keys ...string) string { return strings.Join(keys, keyDelimiter) }

// is says that p is of one of these types, which are written without
// underscores.
func (p *part) is(kinds ...string) bool { return slices.Contains(kinds, p.kind) }

// place is the nearest thing that is written on the way to the given key.
func (p *part) place(keys ...string) *node {
	for i := len(keys); i >= 0; i-- {
		if n := p.node.at(keys[:i]...); n != nil {
			return n
		}
	}
	return p.use
}

// add notes a finding, once for each path.
func (e *examination) add(code Code, at *node, path, reason, cure string) {
	if e.noted[note{code, path}] {
		return
	}
	e.noted[note{code, path}] = true
	f := Finding{Severity: severities[code], Code: code, Path: path, Reason: reason, Cure: cure}
	if at == nil {
		at = e.root
	}
	f.File, f.Line = at.file, at.line
	e.findings = append(e.findings, f)
}

// found notes a finding at a key of a component.
func (e *examination) found(code Code, p *part, keys []string, reason, cure string) {
	e.add(code, p.place(keys...), p.path(keys...), reason, cure)
}

func (e *examination) unresolved(n *node, path string) {
	e.add(codeUnresolved, n, path,
		fmt.Sprintf("%q is known to the collector only: what depends on it is not judged", shorten(n.text)),
		"make sure that what it stands for keeps what docs/doctor.md asks for, or write the value itself")
}

func (e *examination) malformed(p *part, keys []string, want string) {
	e.found(codeUnresolved, p, keys, "the value is not "+want+": what depends on it is not judged",
		"write "+want+"; `otelcol-audit validate` names what the collector refuses")
}

// boolean is a component's setting, see setting.
func (e *examination) boolean(p *part, fallback bool, keys ...string) (value, ok bool) {
	return setting(e, p, fallback, (*node).boolean, "true or false", keys)
}

// duration is a component's setting, see setting.
func (e *examination) duration(p *part, fallback time.Duration, keys ...string) (value time.Duration, ok bool) {
	return setting(e, p, fallback, (*node).duration, "a time such as 5s", keys)
}

// string is a component's setting, see setting.
func (e *examination) string(p *part, fallback string, keys ...string) (value string, ok bool) {
	return setting(e, p, fallback, (*node).string, "a text", keys)
}

// setting reads what a component has at a key, fallback where it has nothing. It
// is not ok, and a finding says so, where only the collector knows the value or
// it is not what is wanted.
func setting[T any](e *examination, p *part, fallback T, read func(*node) (T, bool), want string, keys []string) (value T, ok bool) {
	n := p.node.at(keys...)
	switch {
	case n.unset():
		return fallback, true
	case n.unknown():
		e.unresolved(n, p.path(keys...))
		return fallback, false
	}
	if value, ok = read(n); !ok {
		e.malformed(p, keys, want)
		return fallback, false
	}
	return value, true
}

// has says that an optional section of a component is there and not switched
// off. One that only the collector knows is taken to be there, and named.
func (e *examination) has(p *part, keys ...string) bool {
	if p.node.at(keys...).unset() {
		return false
	}
	enabled, ok := e.boolean(p, true, append(slices.Clone(keys), "enabled")...)
	return enabled || !ok
}

// shorten keeps what a configuration says readable in a report.
func shorten(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
