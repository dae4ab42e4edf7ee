// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package otelaudit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	module    = "github.com/otelaudit/otelaudit"
	collector = "go.opentelemetry.io/collector"
	pdata     = collector + "/pdata"
)

// source is what the rules look at: one file of ours that is not a test.
type source struct {
	folder  string // from the root, with slashes
	imports []string
	file    *ast.File
}

// rule finds what a file must not do and says so, or returns nothing.
type rule struct {
	name  string
	why   string
	check func(source) []string
}

var rules = []rule{
	{
		name: "components do not import each other",
		why:  "receiver, processor and exporter are used alone in other people's distributions; they meet as plog.Logs and through internal/receipt",
		check: func(s source) []string {
			components := []string{"auditreceiver", "auditprocessor", "auditexporter"}
			self := slices.IndexFunc(components, func(c string) bool { return within(s.folder, c) })
			if self < 0 {
				return nil
			}
			return s.importing(func(path string) bool {
				other := slices.IndexFunc(components, func(c string) bool { return within(path, module+"/"+c) })
				return other >= 0 && other != self
			})
		},
	},
	{
		name: "audit/ is importable by anybody",
		why:  "verifiers and SDK helpers embed it without the collector's module graph: of the collector pdata at most",
		check: func(s source) []string {
			if !within(s.folder, "audit") {
				return nil
			}
			return s.importing(func(path string) bool {
				ours := within(path, module)
				return within(path, collector) && !within(path, pdata) || ours && !within(path, module+"/audit")
			})
		},
	},
	{
		name: "audit/ knows no file, network or clock",
		why:  "what it computes must depend on its input alone: the same bytes give the same verdict everywhere",
		check: func(s source) []string {
			if !within(s.folder, "audit") {
				return nil
			}
			found := s.importing(func(path string) bool {
				return slices.Contains([]string{"os", "io/fs", "path/filepath", "syscall", "unsafe"}, path) ||
					within(path, "os") || within(path, "net") && path != "net/netip" || within(path, "golang.org/x/sys")
			})
			return append(found, s.calling("time", "Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep")...)
		},
	},
	{
		name: "audit/chain works on opaque digests",
		why:  "what a record means is not the chain's business; so it serves any payload and stays small enough to be reviewed",
		check: func(s source) []string {
			if !within(s.folder, "audit/chain") {
				return nil
			}
			return s.importing(func(path string) bool { return within(path, "go.opentelemetry.io") })
		},
	},
	{
		name: "what is on disk is no collector part",
		why:  "recovery is tested without a pipeline, payloads are opaque bytes to the journal; the command reads a quarantine without a collector",
		check: func(s source) []string {
			ours := []string{"internal/journal", "internal/durable", "internal/quarantine"}
			if !slices.ContainsFunc(ours, func(folder string) bool { return within(s.folder, folder) }) {
				return nil
			}
			return s.importing(func(path string) bool { return within(path, collector) })
		},
	},
	{
		name: "internal/postgres knows pdata at most",
		why:  "the command reads databases without a collector",
		check: func(s source) []string {
			if !within(s.folder, "internal/postgres") {
				return nil
			}
			return s.importing(func(path string) bool {
				return within(path, collector) && !within(path, pdata) || within(path, module) && !within(path, module+"/audit")
			})
		},
	},
	{
		name: "only tests import the fault disk",
		why:  "a disk that fails on demand must not get into a binary",
		check: func(s source) []string {
			return s.importing(func(path string) bool { return within(path, module+"/internal/journal/faultdisk") })
		},
	},
	{
		name: "only tests import the test server",
		why:  "it starts processes, and belongs in no binary",
		check: func(s source) []string {
			return s.importing(func(path string) bool { return within(path, module+"/internal/pgtest") })
		},
	},
	{
		name: "the command is thin",
		why: "an auditor's tool must not depend on the machines whose work it checks; " +
			"of what they leave on disk it reads, for operators, the journal and the quarantine, where it also leaves requests; " +
			"internal/doctor reads configurations as text; " +
			"internal/postgres is the one place that knows how records lie in tables, and what it reads the command still judges by the bytes alone",
		check: func(s source) []string {
			if !within(s.folder, "cmd") {
				return nil
			}
			return s.importing(func(path string) bool {
				return within(path, collector) && !within(path, pdata) ||
					within(path, module) && !within(path, module+"/audit") && path != module+"/internal/durable" &&
						path != module+"/internal/journal" && path != module+"/internal/quarantine" && path != module+"/internal/doctor" &&
						path != module+"/internal/postgres"
			})
		},
	},
	{
		name: "internal/doctor reads text, nothing else",
		why:  "it judges configurations of components that this build may not hold, and the command that uses it stays free of the collector",
		check: func(s source) []string {
			if !within(s.folder, "internal/doctor") {
				return nil
			}
			return s.importing(func(path string) bool {
				return within(path, module) || within(path, collector) || within(path, "os")
			})
		},
	},
	{
		name: "testbed is black box",
		why:  "it proves what the built binaries do: of our code it uses the public core alone",
		check: func(s source) []string {
			if !within(s.folder, "testbed") {
				return nil
			}
			return s.importing(func(path string) bool {
				return within(path, module) && !within(path, module+"/audit") && !within(path, module+"/testbed")
			})
		},
	},
	{
		name: "packages say what they are for",
		why:  "utils, common, types and helpers attract what belongs elsewhere",
		check: func(s source) []string {
			var found []string
			for _, part := range append(strings.Split(s.folder, "/"), s.file.Name.Name) {
				if slices.Contains([]string{"pkg", "util", "utils", "common", "types", "helpers", "misc", "shared"}, part) {
					found = append(found, "package in a folder named "+part)
				}
			}
			return found
		},
	},
	{
		name: "nothing registers itself",
		why:  "an init function acts at a distance: sinks are chosen by a switch, components by the builder",
		check: func(s source) []string {
			var found []string
			for _, declaration := range s.file.Decls {
				if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					found = append(found, "func init()")
				}
			}
			return found
		},
	},
	{
		name: "randomness is chosen with care",
		why:  "math/rand is predictable and seeded globally: crypto/rand where it matters, math/rand/v2 where it does not",
		check: func(s source) []string {
			return s.importing(func(path string) bool { return path == "math/rand" })
		},
	},
}

func TestArchitecture(t *testing.T) {
	sources := parseTree(t, ".")
	require.NotEmpty(t, sources)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for path, s := range sources {
				assert.Empty(t, r.check(s), "%s breaks a rule: %s. Why: %s", path, r.name, r.why)
			}
		})
	}
}

// Each rule must be able to fail: here is a file that breaks it.
func TestArchitectureRulesCatch(t *testing.T) {
	offenders := map[string]struct{ folder, code string }{
		"components do not import each other":      {"auditexporter/internal/filesink", `package p; import _ "github.com/otelaudit/otelaudit/auditprocessor"`},
		"audit/ is importable by anybody":          {"audit/verify", `package p; import _ "go.opentelemetry.io/collector/component"`},
		"audit/ knows no file, network or clock":   {"audit", `package p; import "time"; var now = time.Now`},
		"audit/chain works on opaque digests":      {"audit/chain", `package p; import _ "go.opentelemetry.io/collector/pdata/plog"`},
		"what is on disk is no collector part":     {"internal/quarantine", `package p; import _ "go.opentelemetry.io/collector/pdata/plog"`},
		"the command is thin":                      {"cmd/otelaudit", `package p; import _ "github.com/otelaudit/otelaudit/internal/receipt"`},
		"testbed is black box":                     {"testbed", `package p; import _ "github.com/otelaudit/otelaudit/internal/journal"`},
		"packages say what they are for":           {"internal/utils", `package utils`},
		"internal/postgres knows pdata at most":    {"internal/postgres", `package p; import _ "go.opentelemetry.io/collector/component"`},
		"nothing registers itself":                 {"auditexporter", `package p; func init() {}`},
		"randomness is chosen with care":           {"internal/journal", `package p; import _ "math/rand"`},
		"internal/doctor reads text, nothing else": {"internal/doctor", `package p; import _ "go.opentelemetry.io/collector/confmap"`},
		"only tests import the test server":        {"cmd/otelaudit", `package p; import _ "github.com/otelaudit/otelaudit/internal/pgtest"`},
		"only tests import the fault disk":         {"internal/journal", `package p; import _ "github.com/otelaudit/otelaudit/internal/journal/faultdisk"`},
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			offender, ok := offenders[r.name]
			require.True(t, ok, "a rule without an offender is not known to work")
			assert.NotEmpty(t, r.check(parse(t, offender.folder, "offender.go", []byte(offender.code))))
		})
	}
}

// Each component is a folder that a collector user finds their way in.
func TestComponentFolders(t *testing.T) {
	for _, component := range []string{"auditreceiver", "auditprocessor", "auditexporter"} {
		for _, name := range []string{"doc.go", "metadata.yaml", "README.md", "factory.go", "config.go"} {
			assert.FileExists(t, filepath.Join(component, name))
		}
		assert.DirExists(t, filepath.Join(component, "testdata"))
	}
}

func TestLicenceHeaders(t *testing.T) {
	const header = "// Copyright The otelaudit Authors\n// SPDX-License-Identifier: Apache-2.0\n"
	walk(t, ".", func(path string) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		if generated(text) {
			return
		}
		assert.True(t, strings.HasPrefix(string(text), header), "%s must begin with the copyright and licence lines", path)
	})
}

func (s source) importing(bad func(path string) bool) []string {
	var found []string
	for _, path := range s.imports {
		if bad(path) {
			found = append(found, "imports "+path)
		}
	}
	return found
}

// calling finds uses of the named members of a package that keeps its name.
func (s source) calling(pkg string, members ...string) []string {
	var found []string
	if !slices.Contains(s.imports, pkg) {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok && x.Name == pkg && slices.Contains(members, selector.Sel.Name) {
			found = append(found, "uses "+pkg+"."+selector.Sel.Name)
		}
		return true
	})
	return found
}

// within says whether path is root or below it.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

// parseTree reads every Go file of the module but tests.
func parseTree(t *testing.T, root string) map[string]source {
	sources := map[string]source{}
	walk(t, root, func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		sources[path] = parse(t, filepath.ToSlash(filepath.Dir(path)), path, text)
	})
	return sources
}

func parse(t *testing.T, folder, name string, text []byte) source {
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	require.NoError(t, err)
	s := source{folder: folder, file: file}
	for _, i := range file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		require.NoError(t, err)
		s.imports = append(s.imports, path)
	}
	return s
}

// walk visits the module's Go files; what the builder generates is not ours.
func walk(t *testing.T, root string, visit func(path string)) {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_") || entry.Name() == "data"):
			return filepath.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, ".go"):
			visit(path)
		}
		return nil
	})
	require.NoError(t, err)
}

func generated(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "// Code generated ") && strings.HasSuffix(line, " DO NOT EDIT.\n") {
			return true
		}
		if strings.HasPrefix(line, "package ") {
			return false
		}
	}
	return false
}
