// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cases reads testdata: the first line of each file has the expected codes.
func cases(t *testing.T) map[string]File {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths, "no cases")
	found := map[string]File{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		found[strings.TrimSuffix(filepath.Base(path), ".yaml")] = File{Name: path, Text: text}
	}
	return found
}

func expected(t *testing.T, file File) []Code {
	t.Helper()
	first, _, _ := strings.Cut(string(file.Text), "\n")
	words, ok := strings.CutPrefix(first, "# expect: ")
	require.True(t, ok, "%s must begin with `# expect: `", file.Name)
	codes := []Code{}
	for word := range strings.FieldsSeq(words) {
		if word != "none" {
			codes = append(codes, Code(word))
		}
	}
	return codes
}

func codesOf(r Report) []Code {
	codes := []Code{}
	for _, f := range r.Findings {
		codes = append(codes, f.Code)
	}
	return codes
}

func TestCases(t *testing.T) {
	for name, file := range cases(t) {
		t.Run(name, func(t *testing.T) {
			report, err := Examine([]File{file})
			require.NoError(t, err)
			assert.ElementsMatch(t, expected(t, file), codesOf(report), "%+v", report.Findings)
			lines := strings.Count(string(file.Text), "\n")
			for _, f := range report.Findings {
				assert.Equal(t, severities[f.Code], f.Severity)
				assert.Equal(t, file.Name, f.File)
				assert.True(t, f.Line > 1 && f.Line <= lines, "line %d of %s", f.Line, f.Code)
				assert.NotEmpty(t, f.Path)
				assert.NotEmpty(t, f.Reason)
				assert.NotEmpty(t, f.Cure)
			}
		})
	}
}

// A code that no case expects is not known to be found.
func TestEachCodeHasCase(t *testing.T) {
	seen := map[Code]bool{}
	for _, file := range cases(t) {
		for _, code := range expected(t, file) {
			seen[code] = true
		}
	}
	for code := range severities {
		assert.True(t, seen[code], "no case expects %s", code)
	}
	for code := range seen {
		assert.Contains(t, severities, code)
	}
}

// The ready configurations must not need the doctor.
func TestOwnConfigurations(t *testing.T) {
	paths, err := filepath.Glob("../../config/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		report, err := Examine([]File{{Name: path, Text: text}})
		require.NoError(t, err)
		assert.Zero(t, report.Errors, "%+v", report.Findings)
		assert.NotEmpty(t, report.Pipelines)
	}
}

// docs/doctor.md lists each code with its severity, why and cure.
func TestCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/doctor.md")
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (\\w+) \\| ([^|]+) \\| ([^|]+) \\|$")
	documented := map[Code]Severity{}
	for _, match := range row.FindAllSubmatch(page, -1) {
		documented[Code(match[1])] = Severity(match[2])
	}
	assert.Equal(t, severities, documented)
	assert.Len(t, row.FindAll(page, -1), len(documented), "a code is documented twice")
}

func TestPlaces(t *testing.T) {
	report, err := Examine([]File{{Name: "a.yaml", Text: []byte(`
receivers: {audit: }
processors:
  audit:
    journal: {directory: /var/lib/audit}
exporters:
  otlp:
    endpoint: collector:4317
    sending_queue:
      queue_size: 10
service:
  pipelines:
    logs: {receivers: [audit], processors: [audit], exporters: [otlp]}
`)}})
	require.NoError(t, err)
	require.Equal(t, []Code{codeRetryEnds, codeQueueMemory}, codesOf(report))
	assert.Equal(t, "exporters::otlp::retry_on_failure::max_elapsed_time", report.Findings[0].Path)
	assert.Equal(t, 7, report.Findings[0].Line, "the component stands in for an absent key")
	assert.Equal(t, "exporters::otlp::sending_queue", report.Findings[1].Path)
	assert.Equal(t, 9, report.Findings[1].Line)
	assert.Equal(t, []string{"logs"}, report.Pipelines)
}

// Later files override earlier ones: maps by key, the rest as a whole.
func TestFilesAreMerged(t *testing.T) {
	base := File{"base.yaml", []byte(`
receivers: {audit: {http: {endpoint: "0.0.0.0:4319", auth: {authenticator: basicauth}}}}
processors: {audit: {journal: {directory: /var/lib/journal}}, batch: }
exporters: {audit: {file: {directory: /var/lib/audit}}}
service: {pipelines: {logs: {receivers: [audit], processors: [batch, audit], exporters: [audit]}}}
`)}
	cases := []struct {
		name, over string
		codes      []Code
	}{
		{"nothing", "", []Code{codeAsyncBefore, codePlaintextDoor}},
		{"lists are replaced", "service: {pipelines: {logs: {processors: [audit]}}}", []Code{codePlaintextDoor}},
		{"maps are joined", "receivers: {audit: {http: {tls: {cert_file: a}}}}", []Code{codeAsyncBefore}},
		{"null replaces a map", "receivers: {audit: }", []Code{codeAsyncBefore}},
		{"keys are split", `receivers::audit::http::endpoint: "[::1]:4319"`, []Code{codeAsyncBefore}},
		{"a map replaces null", "processors: {batch: {timeout: 1s}}", []Code{codeAsyncBefore, codePlaintextDoor}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			report, err := Examine([]File{base, {"over.yaml", []byte(c.over)}})
			require.NoError(t, err)
			assert.ElementsMatch(t, c.codes, codesOf(report))
		})
	}
}

func TestUnreadable(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a: &a [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 6 {
		before, next := string(rune('a'+i)), string(rune('b'+i))
		fmt.Fprintf(&bomb, "%s: &%s [%s*%s]\n", next, next, strings.Repeat("*"+before+", ", 9), before)
	}
	var pipelines strings.Builder
	for i := range maxPipelines + 1 {
		fmt.Fprintf(&pipelines, "    logs/%d:\n", i)
	}
	cases := []struct{ name, text, says string }{
		{"syntax", "a:\n  - b\n c: d\n", "config.yaml: yaml: line 2"},
		{"key twice", "a: 1\nb: 2\na: 3\n", `config.yaml:3: key "a" is set twice`},
		{"two documents", "a: 1\n---\nb: 2\n", "config.yaml:2: a second document"},
		{"bad second document", "a: 1\n---\n[\n", "config.yaml: yaml: line"},
		{"list", "- a\n", "config.yaml:1: a collector configuration must be a map"},
		{"text", "hello", "config.yaml:1: a collector configuration must be a map"},
		{"key is a list", "a: 1\n[b]: 2\n", "config.yaml:2: a key must be a word"},
		{"merge of a text", "a:\n  <<: b\n", "config.yaml:2: `<<` must name a map"},
		{"merge of texts", "a:\n  <<: [b]\n", "config.yaml:2: `<<` must name maps"},
		{"undefined alias", "a: *b\n", "config.yaml: yaml: unknown anchor"},
		{"alias of itself", "a: &a\n  b: *a\n", "levels deep"},
		{"too deep", strings.Repeat("[", 200) + strings.Repeat("]", 200), "levels deep"},
		{"key too deep", strings.Repeat("a::", 200) + "b: 1", "levels"},
		{"aliases without end", bomb.String(), "more than 100000 values"},
		{"too large", strings.Repeat("#", MaxFileBytes+1), "config.yaml: larger than 1048576 bytes"},
		{"too many pipelines", "service:\n  pipelines:\n" + pipelines.String(), "config.yaml:2: more than 1000 pipelines"},
		{"not UTF-8", "a: \xff\n", "config.yaml: yaml: "},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			report, err := Examine([]File{{"config.yaml", []byte(c.text)}})
			require.ErrorContains(t, err, c.says)
			assert.Empty(t, report)
		})
	}
	_, err := Examine(nil)
	require.Error(t, err)
}

// The report does not depend on the order in which maps are read.
func TestReportIsStable(t *testing.T) {
	all := cases(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		first, err := Examine([]File{all[name]})
		require.NoError(t, err)
		for range 20 {
			again, err := Examine([]File{all[name]})
			require.NoError(t, err)
			require.Equal(t, first, again, name)
		}
	}
}

func FuzzExamine(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.yaml")
	require.NoError(f, err)
	require.NotEmpty(f, paths)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(text, []byte("receivers: {audit: }"))
	}
	f.Add([]byte("receivers:\n  audit: &a\n    <<: *a\n"), []byte("? [a]\n: b"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		report, err := Examine([]File{{"first.yaml", first}, {"second.yaml", second}})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "first.yaml:") && !strings.HasPrefix(err.Error(), "second.yaml:") {
				t.Fatalf("error without its file: %v", err)
			}
			return
		}
		if report.Errors+report.Warnings != len(report.Findings) {
			t.Fatalf("%d errors and %d warnings in %d findings", report.Errors, report.Warnings, len(report.Findings))
		}
		for _, finding := range report.Findings {
			if severities[finding.Code] == "" || finding.File == "" || finding.Path == "" {
				t.Fatalf("incomplete: %+v", finding)
			}
		}
	})
}
