// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package doctor judges whole collector configurations: it finds what around
// the audit components breaks their promise that acknowledged events are kept,
// once, and in nobody else's hands. A component sees its own section only;
// the doctor sees the pipelines.
//
// It reads the configuration as text. What the collector would resolve at its
// start (`${env:X}`) is unknown to it, and it says so where it matters. What a
// setting means is the collector's release that this project builds with;
// docs/doctor.md lists the findings.
package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Severity says what a finding costs.
type Severity string

const (
	// Error says that acknowledged events can be lost, doubled or leaked, or
	// that the collector refuses to start.
	Error Severity = "error"
	// Warning says that something is weaker than it could be, or not to be
	// judged from here.
	Warning Severity = "warning"
)

// Finding is one place that breaks the promise.
type Finding struct {
	Severity Severity `json:"severity"`
	// Code is a stable word for what was found.
	Code Code `json:"code"`
	// Path leads to the place: `exporters::otlp::sending_queue`. The key may
	// be absent; its default is then what was found.
	Path string `json:"path"`
	// File and Line are where the path, or what is there of it, is written.
	File string `json:"file"`
	Line int    `json:"line"`
	// Reason says what happens, Cure what to write.
	Reason string `json:"reason"`
	Cure   string `json:"cure"`
}

// Report is what Examine found. Its JSON form is stable.
type Report struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	// Pipelines are the audit pipelines: what was judged.
	Pipelines []string  `json:"pipelines"`
	Findings  []Finding `json:"findings"`
}

// File is one configuration file.
type File struct {
	Name string
	Text []byte
}

// Examine judges the configuration that the collector makes of the files, the
// later ones overriding the earlier ones. An error says, with file and line,
// what could not be read; the report is then empty.
func Examine(files []File) (Report, error) {
	if len(files) == 0 {
		return Report{}, errors.New("no configuration to examine")
	}
	var root *node
	for _, file := range files {
		parsed, err := parse(file.Name, file.Text)
		if err != nil {
			return Report{}, err
		}
		if root == nil || parsed.kind != null { // an empty file adds nothing
			root = merge(root, parsed)
		}
	}
	if pipelines := root.at(service, "pipelines"); pipelines != nil && len(pipelines.fields) > maxPipelines {
		return Report{}, pipelines.fault(fmt.Sprintf("more than %d pipelines", maxPipelines))
	}
	e := newExamination(root)
	for _, check := range checks {
		check(e)
	}
	return e.report(), nil
}

// checks is all that is looked for.
var checks = []func(*examination){
	(*examination).checkSignals,
	(*examination).checkDefined,
	(*examination).checkSealed,
	(*examination).checkBeforeSeal,
	(*examination).checkAfterSeal,
	(*examination).checkConnectors,
	(*examination).checkKept,
	(*examination).checkShared,
	(*examination).checkReceivers,
	(*examination).checkCallers,
	(*examination).checkProcessors,
	(*examination).checkExporters,
	(*examination).checkTimeouts,
	(*examination).checkTelemetry,
}

func (e *examination) report() Report {
	r := Report{Pipelines: []string{}, Findings: e.findings}
	for _, p := range e.audits {
		r.Pipelines = append(r.Pipelines, p.id)
	}
	for _, f := range r.Findings {
		if f.Severity == Error {
			r.Errors++
		} else {
			r.Warnings++
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(a.Severity, b.Severity), // error before warning
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Reason, b.Reason))
	})
	return r
}
