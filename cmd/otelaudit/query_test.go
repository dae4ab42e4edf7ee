// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// found is what query prints as jsonl.
type found struct {
	Event struct {
		EventID string `json:"eventId"`
		Action  string `json:"action"`
	} `json:"event"`
	Origin string `json:"origin"`
	Index  string `json:"index"`
	Hash   string `json:"hash"`
	Stream string `json:"stream"`
	Tenant string `json:"tenant"`
}

func parseFound(t *testing.T, text string) []found {
	t.Helper()
	var all []found
	for line := range strings.Lines(text) {
		var f found
		require.NoError(t, json.Unmarshal([]byte(line), &f), line)
		all = append(all, f)
	}
	return all
}

func ids(all []found) []string {
	list := []string{}
	for _, f := range all {
		list = append(list, f.Event.EventID)
	}
	return list
}

// searched is a store of a few events that differ in each thing that can be
// asked for.
func searched(t *testing.T) string {
	t.Helper()
	p, store := filePipeline(t)
	sendAll(
		t, p,
		event("e-0", 0, nil),
		event("e-1", 60, eventOptions{"actor": `eve "x"`}),
		event("e-2", 120, eventOptions{"action": "file.write"}),
		event("e-3", 180, eventOptions{"target": "f-2"}),
		event("e-4", 240, eventOptions{"tenant": "other"}),
		event("e-5", 300, eventOptions{"outcome": "DENIED"}),
		event("e-6", 360, eventOptions{"outcome": "FAILURE"}),
	)
	p.stop()
	return store
}

func TestQueryFilters(t *testing.T) {
	store := searched(t)
	cases := []struct {
		args []string
		want string
	}{
		{nil, "e-0 e-1 e-2 e-3 e-4 e-5 e-6"},
		{[]string{"--actor", `eve "x"`}, "e-1"},
		{[]string{"--actor", "acme"}, ""},
		{[]string{"--action", "file.write"}, "e-2"},
		{[]string{"--target", "f-2"}, "e-3"},
		{[]string{"--tenant", "other"}, "e-4"},
		{[]string{"--tenant", "acme", "--outcome", "DENIED"}, "e-5"},
		{[]string{"--outcome", "failure"}, "e-6"},
		{[]string{"--since", "2026-11-01T00:03:00Z", "--until", "2026-11-01T00:05:00Z"}, "e-3 e-4"},
		{[]string{"--since", "2026-11-02"}, ""},
		{[]string{"--until", "2026-11-02"}, "e-0 e-1 e-2 e-3 e-4 e-5 e-6"},
		{[]string{"--limit", "2"}, "e-0 e-1"},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			out := otelaudit(append([]string{"query", store, "--format", "jsonl"}, c.args...)...)
			require.Equal(t, exitSound, out.code, out.stderr)
			assert.Equal(t, strings.Fields(c.want), ids(parseFound(t, out.stdout)))
			assert.Empty(t, out.stderr)
		})
	}
}

// What query shows as jsonl has the coordinates by which verify names it; raw is
// the stored line itself.
func TestQueryForms(t *testing.T) {
	store := searched(t)
	out := otelaudit("query", "--format", "jsonl", "--target", "f-2", store)
	f := parseFound(t, out.stdout)
	require.Len(t, f, 1)
	assert.Equal(t, "tenant:acme", f[0].Stream)
	assert.Equal(t, "acme", f[0].Tenant)

	out = otelaudit("query", "--format", "jsonl", "--raw", "--target", "f-2", store)
	var stored []byte
	for _, path := range jsonlFiles(t, store) {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		stored = append(stored, content...)
	}
	assert.Contains(t, string(stored), "\n"+out.stdout)
	assert.Contains(t, out.stdout, f[0].Hash)

	out = otelaudit("query", "--target", "f-2", store)
	assert.Equal(t, exitSound, out.code)
	lines := strings.SplitAfter(out.stdout, "\n")
	require.Len(t, lines, 3)
	assert.Equal(t, []string{"OCCURRED", "TENANT", "OUTCOME", "ACTION", "ACTOR", "TARGET", "COORDINATE"}, strings.Fields(lines[0]))
	assert.Equal(t, []string{"2026-11-01T00:03:00.000Z", "acme", "SUCCESS", "file.read", "u-1", "file:f-2", f[0].Origin + "/" + f[0].Index}, strings.Fields(lines[1]))
}

func TestQueryControl(t *testing.T) {
	store := searched(t)
	out := otelaudit("query", "--control", "--format", "jsonl", "--action", "audit.origin.stop", store)
	assert.Len(t, parseFound(t, out.stdout), 1)
	out = otelaudit("query", "--format", "jsonl", "--action", "audit.origin.stop", store)
	assert.Empty(t, out.stdout)
}

// What an attacker wrote into an event must not steer the auditor's terminal,
// nor forge a line or a column.
func TestQueryIsSafeForTerminals(t *testing.T) {
	p, store := filePipeline(t)
	evil := "\x1b[2J\u009b31m\u202e\nu-1  file:f-1"
	evilJSON, err := json.Marshal(evil)
	require.NoError(t, err)
	text := strings.Replace(event("e-0", 0, nil), `"u-1"`, string(evilJSON), 1)
	text = strings.Replace(text, `"file.read"`, `"user\u001b]0;x\u0007.login"`, 1)
	sendAll(t, p, text)
	p.stop()
	for _, format := range []string{"table", "jsonl"} {
		out := otelaudit("query", "--format", format, store)
		require.Equal(t, exitSound, out.code, out.stderr)
		for _, forbidden := range []string{"\x1b", "\u009b", "\u202e", "\x07"} {
			assert.NotContains(t, out.stdout, forbidden, format)
		}
		assert.Equal(t, map[string]int{"table": 2, "jsonl": 1}[format], strings.Count(out.stdout, "\n"), format)
	}
	out := otelaudit("query", "--format", "jsonl", store)
	var f struct {
		Event struct{ Actor struct{ ID string } }
	}
	require.NoError(t, json.Unmarshal([]byte(out.stdout), &f))
	assert.Equal(t, evil, f.Event.Actor.ID, "it is the same value")
}

// A cell that a spreadsheet would run as a formula gets an apostrophe in front.
func TestW24FormulasInCSV(t *testing.T) {
	p, store := filePipeline(t)
	values := []string{"=cmd|' /C calc'!A0", "+1+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'x", " =1", "\u00a0=1", "\u200b=1", "\ufeff+1", "\uff1d1", "plain", "a=1", " x"}
	var events []string
	for i, value := range values {
		text, err := json.Marshal(value)
		require.NoError(t, err)
		events = append(events, strings.Replace(event("e-"+strconv.Itoa(i), i, nil), `"u-1"`, string(text), 1))
	}
	sendAll(t, p, events...)
	p.stop()

	rows := readCSV(t, otelaudit("query", "--format", "csv", store))
	require.Len(t, rows, len(values))
	for i, value := range values {
		guarded := value
		if value != "plain" && value != "a=1" && value != " x" {
			guarded = "'" + value
		}
		assert.Equal(t, guarded, rows[i]["actor_id"])
		assert.JSONEq(t, `{"n":`+strconv.Itoa(i)+`}`, rows[i]["metadata"])
		assert.Empty(t, rows[i]["metadata_truncated"], "what the event does not say is not false")
	}
	rows = readCSV(t, otelaudit("export", "--format", "csv", "--no-formula-guard", store))
	for i, value := range values {
		assert.Equal(t, value, rows[i]["actor_id"])
	}
	empty := otelaudit("query", "--format", "csv", "--actor", "nobody", store)
	assert.Equal(t, 1, strings.Count(empty.stdout, "\n"), "the names of the columns")
}

// readCSV returns the rows by the names of their columns.
func readCSV(t *testing.T, out output) []map[string]string {
	t.Helper()
	require.Equal(t, exitSound, out.code, out.stderr)
	all, err := csv.NewReader(strings.NewReader(out.stdout)).ReadAll()
	require.NoError(t, err)
	require.NotEmpty(t, all)
	assert.Equal(t, "event_id,schema_version,occurred_at,action,outcome,actor_id,actor_type,actor_display_name,actor_roles,actor_ip,"+
		"actor_user_agent,target_id,target_type,target_display_name,tenant_id,org_id,target,context,metadata,diff,integrity,retention_tag,"+
		"metadata_truncated,diff_truncated,origin,index,hash", strings.Join(all[0], ","))
	var rows []map[string]string
	for _, cells := range all[1:] {
		row := map[string]string{}
		for i, name := range all[0] {
			row[name] = cells[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// Query shows what is stored, but says so where it is not what was sealed.
func TestQueryOfADamagedStore(t *testing.T) {
	store := searched(t)
	paths := jsonlFiles(t, store)
	content, err := os.ReadFile(paths[0])
	require.NoError(t, err)
	changed := bytes.Replace(content, []byte("f-2"), []byte("f-3"), 1)
	require.NotEqual(t, content, changed)
	require.NoError(t, os.WriteFile(paths[0], changed, 0o600))
	out := otelaudit("query", "--format", "jsonl", store)
	assert.Equal(t, exitBroken, out.code)
	assert.Equal(t, 7, strings.Count(out.stdout, "\n"))
	assert.Contains(t, out.stderr, paths[0])
	assert.Contains(t, out.stderr, "the stored hash is not that of the event")
	assert.Equal(t, exitSound, otelaudit("query", "--target", "f-1", store).code, "what is shown is sound")

	require.NoError(t, os.WriteFile(paths[0], append([]byte("{}\n"), content...), 0o600))
	out = otelaudit("query", "--format", "jsonl", store)
	assert.Equal(t, exitRead, out.code)
	assert.Equal(t, 7, strings.Count(out.stdout, "\n"), "the others are shown")
	assert.Contains(t, out.stderr, paths[0]+", byte 0: malformed line")

	torn := content[:len(content)-1]
	require.NoError(t, os.WriteFile(paths[0], torn, 0o600))
	assert.Equal(t, exitSound, otelaudit("query", store).code, "a line that is being written is no line yet")
}

func TestQueryUsage(t *testing.T) {
	for says, args := range map[string][]string{
		"name a directory":                 {"query"},
		"one database at a time":           {"query", "postgres://a", "postgres://b"},
		"not both":                         {"query", "postgres://a", "x"},
		"--table goes with a database":     {"query", "--table", "x", "y"},
		"--format \"xml\"":                 {"query", "--format", "xml", "x"},
		"--raw goes with":                  {"query", "--raw", "x"},
		"--no-formula-guard goes with":     {"query", "--no-formula-guard", "x"},
		"is empty: name what to look for":  {"query", "--actor", "", "x"},
		"want RFC 3339":                    {"query", "--since", "yesterday", "x"},
		"--since must be before":           {"query", "--since", "1h", "--until", "2h", "x"},
		"must not be negative":             {"query", "--limit", "-1", "x"},
		"--require-tenant: name one":       {"export", "--require-tenant", "x"},
		"--page-size needs --cursor":       {"export", "--page-size", "10", "x"},
		"--format must be jsonl, csv":      {"export", "--format", "table", "x"},
		"--format lines is for export":     {"query", "--format", "lines", "x"},
		"goes with no filter":              {"export", "--format", "lines", "--actor", "a", "x"},
		"goes without --cursor":            {"export", "--format", "lines", "--cursor", "c", "postgres://x"},
		"-n must be at most":               {"tail", "-n", "1000000", "x"},
		"--endpoint must be a URL":         {"send", "--endpoint", "ftp://x"},
		"events go to /v1/events":          {"send", "--endpoint", "http://x/v1/audit"},
		"must not hold a password":         {"send", "--endpoint", "http://u:p@x"},
		"OTELAUDIT_HEADERS":                {"help", "send"},
		"--key go together":                {"send", "--cert", "x"},
		"want lines such as":               {"send", "--header", "nonsense"},
		"--retry-for must not be negative": {"send", "--retry-for", "-1s"},
	} {
		out := otelaudit(args...)
		if args[0] == "help" {
			assert.Contains(t, out.stdout, says)
			continue
		}
		assert.Equal(t, exitUsage, out.code, "%v", args)
		assert.Contains(t, out.stderr, says, "%v", args)
		assert.Contains(t, out.stderr, "see otelaudit "+args[0]+" --help")
	}
	for _, m := range manuals {
		out := otelaudit("help", m.command)
		assert.Equal(t, exitSound, out.code)
		assert.Contains(t, out.stdout, "otelaudit "+m.command)
		assert.Contains(t, otelaudit("help").stdout, "otelaudit "+m.synopses[0])
		if m.command != "version" {
			assert.Equal(t, out, otelaudit(m.command, "--help"))
		}
	}
	assert.Equal(t, exitUsage, otelaudit("help", "frobnicate").code)
}

// A cursor finds all that was stored since, in the newest file, in new files, in
// new lives and in other logs, and nothing twice.
func TestExportGoesOn(t *testing.T) {
	directory := t.TempDir()
	store := filepath.Join(directory, "audit")
	config := map[string]any{"file": map[string]any{"directory": store, "max_file_bytes": 4 << 10}}
	at := filepath.Join(t.TempDir(), "cursor")
	export := func(more ...string) []string {
		out := otelaudit(append([]string{"export", "--cursor", at, store}, more...)...)
		require.Equal(t, exitSound, out.code, out.stderr)
		assert.Contains(t, out.stderr, "exported ")
		return ids(parseFound(t, out.stdout))
	}
	p := startPipeline(t, directory, config)
	sendAll(t, p, event("a-0", 0, nil), event("a-1", 1, nil))
	eventually(t, func() bool { return len(parseFound(t, otelaudit("query", "--format", "jsonl", store).stdout)) == 2 })
	assert.Equal(t, []string{"a-0", "a-1"}, export())
	assert.Empty(t, export())
	sent := 0
	eventually(t, func() bool { // several files: at most one rotation a second
		sendAll(t, p, event("b-"+strconv.Itoa(sent), sent, nil))
		sent++
		return len(jsonlFiles(t, store)) >= 3
	})
	p.stop()
	p = startPipeline(t, directory, config) // a new life
	sendAll(t, p, event("c-0", 0, nil))
	p.stop()
	got := export()
	assert.Len(t, got, sent+1)
	assert.Equal(t, "c-0", got[sent])

	// Another log, whose folder comes before all others in path order.
	require.NoError(t, os.CopyFS(filepath.Join(store, "0"), os.DirFS(files("sound"))))
	other := export()
	assert.NotEmpty(t, other)
	assert.Empty(t, export())

	require.NoError(t, os.Remove(at))
	var pages []string
	for {
		page := export("--page-size", "7")
		pages = append(pages, page...)
		if len(page) < 7 {
			break
		}
	}
	assert.Len(t, pages, 2+sent+1+len(other))

	lock, err := lockCursor(at)
	require.NoError(t, err)
	out := otelaudit("export", "--cursor", at, store)
	assert.Equal(t, exitRead, out.code)
	assert.Contains(t, out.stderr, "another export is at work with it")
	assert.Empty(t, out.stdout)
	require.NoError(t, lock.Unlock())

	out = otelaudit("export", "--cursor", at, "--actor", "x", store)
	assert.Equal(t, exitRead, out.code)
	assert.Contains(t, out.stderr, "was written with other filters")
	require.NoError(t, os.WriteFile(at, []byte("nonsense"), 0o600))
	out = otelaudit("export", "--cursor", at, store)
	assert.Contains(t, out.stderr, "not the cursor of an export")
}

// linesOf cuts a file of the vector `sound` into two that follow each other: the
// second begins with the line that the first one ends with.
func linesOf(t *testing.T) (folder string, first, second []byte) {
	t.Helper()
	text, err := os.ReadFile(jsonlFiles(t, files("sound"))[0])
	require.NoError(t, err)
	lines := bytes.SplitAfter(text, []byte("\n"))
	middle := len(lines) / 2
	require.Greater(t, middle, 2)
	folder = filepath.Join(t.TempDir(), "audit", "host-1", "00112233445566aa", "20261123T090700Z-0a1b2c3d")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	return folder, bytes.Join(lines[:middle], nil), bytes.Join(lines[middle-1:], nil)
}

// What was removed before an export read it is told, once; what an export had
// read may go.
func TestExportTellsWhatItNeverSaw(t *testing.T) {
	write := func(t *testing.T, name string, text []byte) string {
		t.Helper()
		require.NoError(t, os.WriteFile(name, text, 0o600))
		return name
	}
	setUp := func(t *testing.T) (folder string, first, second []byte, export func() output) {
		folder, first, second = linesOf(t)
		at := filepath.Join(t.TempDir(), "cursor")
		store := filepath.Dir(filepath.Dir(filepath.Dir(folder)))
		return folder, first, second, func() output {
			return otelaudit("export", "--control", "--cursor", at, store)
		}
	}
	t.Run("read to its end", func(t *testing.T) {
		folder, first, second, export := setUp(t)
		old := write(t, filepath.Join(folder, "00000000000000000000.jsonl"), first)
		require.Equal(t, exitSound, export().code)
		require.NoError(t, os.Remove(old))
		write(t, filepath.Join(folder, "00000000000000000009.jsonl"), second)
		out := export()
		assert.Equal(t, exitSound, out.code, out.stderr)
		assert.NotEmpty(t, out.stdout)
	})
	t.Run("read in part", func(t *testing.T) {
		folder, first, second, export := setUp(t)
		part := first[:bytes.IndexByte(first, '\n')+1]
		old := write(t, filepath.Join(folder, "00000000000000000000.jsonl"), part)
		require.Equal(t, exitSound, export().code)
		require.NoError(t, os.Remove(old))
		write(t, filepath.Join(folder, "00000000000000000009.jsonl"), second)
		out := export()
		assert.Equal(t, exitRead, out.code)
		assert.Contains(t, out.stderr, "00000000000000000000.jsonl: what the last export had not read of it was removed meanwhile")
		assert.NotEmpty(t, out.stdout)
		assert.Equal(t, exitSound, export().code)
	})
	t.Run("the rest of a life", func(t *testing.T) {
		folder, first, second, export := setUp(t)
		write(t, filepath.Join(folder, "00000000000000000000.jsonl"), first)
		require.Equal(t, exitSound, export().code)
		require.NoError(t, os.RemoveAll(folder))
		out := export()
		assert.Equal(t, exitRead, out.code)
		assert.Contains(t, out.stderr, "nobody knows whether the last export had read all of that")
		assert.Equal(t, exitSound, export().code)
		next := filepath.Join(filepath.Dir(folder), "20261124T090700Z-0a1b2c3d")
		require.NoError(t, os.Mkdir(next, 0o700))
		write(t, filepath.Join(next, "00000000000000000007.jsonl"), second)
		out = export()
		assert.Equal(t, exitRead, out.code)
		assert.Contains(t, out.stderr, "files before 00000000000000000007.jsonl were removed before an export read them")
		assert.Equal(t, exitSound, export().code)
	})
	t.Run("a life that was followed by another", func(t *testing.T) {
		folder, first, second, export := setUp(t)
		write(t, filepath.Join(folder, "00000000000000000000.jsonl"), first)
		next := filepath.Join(filepath.Dir(folder), "20261124T090700Z-0a1b2c3d")
		require.NoError(t, os.Mkdir(next, 0o700))
		write(t, filepath.Join(next, "00000000000000000000.jsonl"), second)
		require.Equal(t, exitSound, export().code)
		require.NoError(t, os.RemoveAll(folder))
		assert.Equal(t, exitSound, export().code)
	})
	t.Run("page by page", func(t *testing.T) {
		folder, first, second, _ := setUp(t)
		at := filepath.Join(t.TempDir(), "cursor")
		root := filepath.Dir(filepath.Dir(filepath.Dir(folder)))
		export := func() output { return otelaudit("export", "--control", "--page-size", "1", "--cursor", at, root) }
		write(t, filepath.Join(folder, "00000000000000000000.jsonl"), first[:bytes.IndexByte(first, '\n')+1])
		require.Equal(t, exitSound, export().code)
		require.Equal(t, exitSound, export().code)
		before := filepath.Join(root, "host-0", "00112233445566aa", "20261123T090700Z-0a1b2c3d")
		require.NoError(t, os.MkdirAll(before, 0o700))
		write(t, filepath.Join(before, "00000000000000000000.jsonl"), first)
		require.NoError(t, os.Remove(filepath.Join(folder, "00000000000000000000.jsonl")))
		old := write(t, filepath.Join(folder, "00000000000000000009.jsonl"), second)
		next := filepath.Join(filepath.Dir(folder), "20261124T090700Z-0a1b2c3d")
		require.NoError(t, os.Mkdir(next, 0o700))
		write(t, filepath.Join(next, "00000000000000000007.jsonl"), second)
		out := export()
		assert.Equal(t, exitRead, out.code)
		assert.Contains(t, out.stderr, "was removed meanwhile")
		assert.Contains(t, out.stderr, "were removed before an export read them")
		out = export()
		assert.Equal(t, exitSound, out.code, out.stderr)
		// Told of is not read.
		require.NoError(t, os.Remove(old))
		write(t, filepath.Join(folder, "00000000000000000012.jsonl"), second)
		out = export()
		assert.Equal(t, exitRead, out.code)
		assert.Contains(t, out.stderr, "00000000000000000009.jsonl: what the last export had not read of it was removed meanwhile")
	})
	t.Run("one file each time", func(t *testing.T) {
		folder, first, second, _ := setUp(t)
		at := filepath.Join(t.TempDir(), "cursor")
		require.Equal(t, exitSound, otelaudit("export", "--cursor", at, write(t, filepath.Join(folder, "00000000000000000000.jsonl"), first)).code)
		next := filepath.Join(filepath.Dir(folder), "20261124T090700Z-0a1b2c3d")
		require.NoError(t, os.Mkdir(next, 0o700))
		write(t, filepath.Join(next, "00000000000000000000.jsonl"), first)
		out := otelaudit("export", "--cursor", at, write(t, filepath.Join(next, "00000000000000000007.jsonl"), second))
		assert.Equal(t, exitSound, out.code, out.stderr)
	})
	t.Run("files of other names", func(t *testing.T) {
		root, at := t.TempDir(), filepath.Join(t.TempDir(), "cursor")
		_, first, second := linesOf(t)
		export := func() output { return otelaudit("export", "--cursor", at, root) }
		for _, month := range []string{"2026-10", "2026-11"} {
			require.NoError(t, os.Mkdir(filepath.Join(root, month), 0o700))
			write(t, filepath.Join(root, month, "audit.jsonl"), first)
			out := export()
			assert.Equal(t, exitSound, out.code, out.stderr)
		}
		require.NoError(t, os.Remove(filepath.Join(root, "2026-11", "audit.jsonl")))
		write(t, filepath.Join(root, "2026-11", "more.jsonl"), second[bytes.IndexByte(second, '\n')+1:])
		out := export()
		assert.Equal(t, exitSound, out.code, out.stderr)
	})
	t.Run("a store that cannot be looked at", func(t *testing.T) {
		folder, first, _, export := setUp(t)
		write(t, filepath.Join(folder, "00000000000000000000.jsonl"), first)
		require.Equal(t, exitSound, export().code)
		root := filepath.Dir(filepath.Dir(filepath.Dir(folder)))
		require.NoError(t, os.Rename(root, root+".away"))
		out := export()
		assert.Equal(t, exitRead, out.code)
		assert.NotContains(t, out.stderr, "removed")
		require.NoError(t, os.Rename(root+".away", root))
		assert.Equal(t, exitSound, export().code)
	})
	t.Run("another file of the same name", func(t *testing.T) {
		folder, first, second, export := setUp(t)
		part := first[:bytes.IndexByte(first, '\n')+1]
		name := write(t, filepath.Join(folder, "00000000000000000000.jsonl"), part)
		require.Equal(t, exitSound, export().code)
		require.NoError(t, os.Remove(name))
		require.Greater(t, len(second), len(part))
		write(t, name, second)
		out := export()
		assert.Equal(t, exitRead, out.code)
		assert.Contains(t, out.stderr, "is another file than at the last export")
		assert.Empty(t, out.stdout)
	})
}

// The lines of a store are the store.
func TestExportLines(t *testing.T) {
	fresh(t)
	copied := filepath.Join(t.TempDir(), "copy.jsonl")
	out := otelaudit("export", "--format", "lines", files("sound"))
	require.Equal(t, exitSound, out.code, out.stderr)
	require.NoError(t, os.WriteFile(copied, []byte(out.stdout), 0o600))
	assert.Equal(t, exitSound, otelaudit("verify", "--key", pub("sound"), copied).code)
}

// What is printed of a query is all, or the exit code says that it is not.
func TestQueryReportsFailedOutput(t *testing.T) {
	at := filepath.Join(t.TempDir(), "cursor")
	for _, args := range [][]string{
		{"query", files("sound")},
		{"export", "--format", "csv", files("sound")},
		{"export", "--cursor", at, files("sound")},
		{"tail", files("sound")},
	} {
		var stderr strings.Builder
		assert.Equal(t, exitRead, run(t.Context(), args, console{strings.NewReader(""), brokenWriter{}, &stderr}), "%v", args)
		assert.Contains(t, stderr.String(), "no space left", "%v", args)
	}
	assert.NoFileExists(t, at, "nothing was exported")
}
