// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/testbed"
)

const eventForm = `{"eventId":%[1]q,"action":"invoice.update","outcome":"SUCCESS","actor":{"type":"user","id":"user_1"},
"context":{"occurredAt":%[3]q,"tenantId":%[2]q,"sourceService":"billing-api"},
"metadata":{"note":"note of %[1]s","user_password":"not for the disk"}}`

// send sends n events of three tenants and returns their results.
func send(t *testing.T, c *testbed.Collector, name string, n int) []testbed.Result {
	t.Helper()
	client := testbed.NewClient(c.HTTP)
	defer client.Close()
	var list []string
	for i := range n {
		tenant := []string{"acme", "globex", "initech"}[i%3]
		list = append(list, fmt.Sprintf(eventForm, fmt.Sprintf("%s-%d", name, i), tenant, time.Now().UTC().Format(time.RFC3339Nano)))
	}
	answer, err := client.Send(t.Context(), "application/json", []byte("["+strings.Join(list, ",")+"]"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Code, "%s", answer.Body)
	require.Len(t, answer.Results, n)
	return answer.Results
}

// fillStore runs a collector until its store has at least the given number of
// files, and stops it.
func fillStore(t *testing.T, settings testbed.Settings, files int) {
	t.Helper()
	settings.Extra = append(settings.Extra, "exporters::audit::file::max_file_bytes: 16384")
	c := start(t, settings)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pace := time.NewTicker(200 * time.Millisecond) // checkpoints, and so files, come once a second
	defer pace.Stop()
	for round := 0; ; round++ {
		send(t, c, fmt.Sprintf("%s-%d", settings.Instance, round), 12)
		found, err := testbed.StoredFiles(settings.Store())
		require.NoError(t, err)
		if len(found) >= files {
			break
		}
		select {
		case <-ctx.Done():
			require.FailNow(t, "the sink does not rotate", "%d files", len(found))
		case <-pace.C:
		}
	}
	stop(t, c)
}

// Whoever may write to the store, but not to the journal's key, can change
// nothing without being seen; and each change is called by its name.
func TestStoredFileAttacks(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir(), Instance: "victim"}
	fillStore(t, settings, 4)
	requireSound(t, settings)
	other := testbed.Settings{Directory: t.TempDir(), Instance: "stranger"}
	fillStore(t, other, 1)

	foreign := load(t, other.Store())
	_, attackerKey, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	const sound, finding, unproven = 0, 1, 4
	tests := []struct {
		name       string
		attack     func(*store)
		checkpoint bool // the auditor holds a checkpoint
		exit       int
		kinds      []string
	}{
		{"nothing", func(*store) {}, true, sound, []string{}},
		{"a byte of the record", func(s *store) { s.edit(s.event(3), "note of", "mote of") }, false, finding, []string{"tampered"}},
		{"a byte of the resource", func(s *store) { s.edit(s.event(3), "billing-api", "billing-apj") }, false, finding, []string{"tampered"}},
		{"a byte of the collector's part", func(s *store) {
			s.edit(s.event(3), "metadata.user_password", "metadata.user_passwore")
		}, false, finding, []string{"tampered"}},
		{"a byte of the stream", func(s *store) { s.edit(s.event(3), `"stream":"tenant:`, `"stream":"tenans:`) }, false, finding, []string{"tampered"}},
		{"a byte of the hash", func(s *store) { s.flipHash(s.event(3)) }, false, finding, []string{"tampered"}},
		{"a line deleted", func(s *store) { s.remove(s.event(3), s.event(3)+1) }, false, finding, []string{"missing"}},
		{"a tenant deleted", func(s *store) { s.removeTenant("globex") }, false, finding, []string{"missing"}},
		{"a middle file deleted", func(s *store) { s.removeFile(1) }, false, finding, []string{"missing"}},
		{"the first file deleted", func(s *store) { s.removeFile(0) }, false, unproven, []string{"open-head"}},
		{"the last lines cut", func(s *store) { s.cut(5) }, false, unproven, []string{"open-tail"}},
		{"the last lines cut, checkpoint held", func(s *store) { s.cut(5) }, true, finding, []string{"missing"}},
		{"the last file deleted, checkpoint held", func(s *store) { s.removeFile(-1) }, true, finding, []string{"missing"}},
		{"the events of two lines swapped", func(s *store) { s.swapEvents(s.event(3), s.event(4)) }, false, finding, []string{"tampered"}},
		{"a forged line at a taken place", func(s *store) { s.forge(s.event(3)) }, false, finding, []string{"inserted"}},
		{"a line after the end", func(s *store) { s.appendForged() }, false, finding, []string{"inserted"}},
		{"a line of no form", func(s *store) { s.insert(s.event(3), `{"note":"I was here"}`) }, false, finding, []string{"malformed"}},
		{"an extra JSON member", func(s *store) { s.edit(s.event(3), `{"chain":`, `{"a":1,"chain":`) }, false, finding, []string{"malformed"}},
		{"a second event member", func(s *store) { s.doubleEvent(s.event(3)) }, false, finding, []string{"malformed"}},
		{"lines of another origin", func(s *store) { s.insert(s.event(3), foreign.lines[5].text, foreign.lines[6].text) }, false, finding, []string{"inserted"}},
		{"all hashes anew, without the key", func(s *store) { s.rewrite(s.event(3), nil) }, false, finding, []string{"tampered"}},
		{"all hashes anew, signed with another key", func(s *store) { s.rewrite(s.event(3), attackerKey) }, false, finding, []string{"bad-signature"}},
		{"all hashes anew, another key, checkpoint held", func(s *store) { s.rewrite(s.event(3), attackerKey) }, true, finding, []string{"bad-signature"}},
		{"lines twice", func(s *store) { s.insert(s.event(3), s.lines[s.event(3)].text, s.lines[s.event(4)].text) }, true, sound, []string{"duplicate"}},
		{"lines out of order", func(s *store) { s.swapLines(s.event(3), s.event(4)) }, true, sound, []string{"reordered"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			directory := copyTree(t, settings.Store())
			s := load(t, directory)
			test.attack(s)
			s.save()
			args := []string{"--key", settings.Key()}
			if test.checkpoint {
				args = append(args, "--checkpoint", settings.Checkpoint())
			}
			report := verify(t, append(args, directory)...)
			assert.Equal(t, test.exit, report.Exit, "%+v\n%s", report.Findings, report.Stderr)
			assert.Equal(t, test.kinds, report.Kinds(), "%+v", report.Findings)
		})
	}
}

// store is a directory of stored lines that an attacker changes.
type store struct {
	t     *testing.T
	files []string
	lines []storedLine
}

type storedLine struct {
	file int
	text string
}

func load(t *testing.T, directory string) *store {
	files, err := testbed.StoredFiles(directory)
	require.NoError(t, err)
	s := &store{t: t, files: files}
	for i, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			s.lines = append(s.lines, storedLine{i, strings.TrimSuffix(line, "\n")})
		}
	}
	return s
}

func (s *store) save() {
	for i, path := range s.files {
		var text bytes.Buffer
		for _, line := range s.lines {
			if line.file == i {
				text.WriteString(line.text + "\n")
			}
		}
		if text.Len() == 0 {
			require.NoError(s.t, os.Remove(path))
			continue
		}
		require.NoError(s.t, os.WriteFile(path, text.Bytes(), 0o600))
	}
}

// event returns the position of the nth client record of the second file.
func (s *store) event(n int) int {
	for i, line := range s.lines {
		if line.file == 1 && strings.Contains(line.text, `"stream":"tenant:`) {
			if n == 0 {
				return i
			}
			n--
		}
	}
	require.FailNow(s.t, "the second file has too few events")
	return 0
}

func (s *store) parse(i int) audit.Line {
	line, err := audit.ParseLine([]byte(s.lines[i].text))
	require.NoError(s.t, err)
	if line.Kind == audit.LineEvent {
		line.Link.Digest = sha256.Sum256(line.Event)
	}
	return line
}

func (s *store) edit(i int, from, to string) {
	require.Contains(s.t, s.lines[i].text, from)
	s.lines[i].text = strings.Replace(s.lines[i].text, from, to, 1)
}

func (s *store) flipHash(i int) {
	const at = len(`{"chain":{"hash":"`)
	digit := byte('0')
	if s.lines[i].text[at] == digit {
		digit = '1'
	}
	s.lines[i].text = s.lines[i].text[:at] + string(digit) + s.lines[i].text[at+1:]
}

func (s *store) remove(from, to int) { s.lines = slices.Delete(s.lines, from, to) }

func (s *store) cut(n int) { s.lines = s.lines[:len(s.lines)-n] }

func (s *store) removeTenant(tenant string) {
	before := len(s.lines)
	s.lines = slices.DeleteFunc(s.lines, func(line storedLine) bool {
		return strings.Contains(line.text, `"stream":"tenant:`+tenant+`"`)
	})
	require.Less(s.t, len(s.lines), before)
}

func (s *store) removeFile(n int) {
	file := (n + len(s.files)) % len(s.files)
	s.lines = slices.DeleteFunc(s.lines, func(line storedLine) bool { return line.file == file })
}

func (s *store) insert(at int, texts ...string) {
	for i, text := range texts {
		s.lines = slices.Insert(s.lines, at+i, storedLine{s.lines[at].file, text})
	}
}

func (s *store) swapLines(i, j int) {
	s.lines[i].text, s.lines[j].text = s.lines[j].text, s.lines[i].text
}

func (s *store) swapEvents(i, j int) {
	a, b := s.parse(i), s.parse(j)
	s.lines[i].text = string(audit.AppendEvent(nil, &a.Link, a.Hash, b.Event))
	s.lines[j].text = string(audit.AppendEvent(nil, &b.Link, b.Hash, a.Event))
}

func (s *store) doubleEvent(i int) {
	event := string(s.parse(i).Event)
	s.lines[i].text = strings.TrimSuffix(s.lines[i].text, "}") + `,"event":` + event + "}"
}

// forge puts beside line i another one of the same coordinate, whose hash is
// right for what it says.
func (s *store) forge(i int) {
	line := s.parse(i)
	s.insert(i+1, forged(line.Link, line.Event))
}

// appendForged goes on where the log has ended.
func (s *store) appendForged() {
	var last, model audit.Line
	for i := range s.lines {
		if line := s.parse(i); line.Kind == audit.LineEvent {
			last = line
			if line.Link.Stream != audit.StreamOrigin {
				model = line
			}
		}
	}
	link := model.Link
	link.Index, link.Seq, link.Prev = last.Link.Index+1, model.Link.Seq+1, model.Hash
	end := len(s.lines) - 1
	s.lines = append(s.lines, storedLine{s.lines[end].file, forged(link, model.Event)})
}

func forged(link chain.Link, event []byte) string {
	event = bytes.Replace(event, []byte("note of"), []byte("lies of"), 1)
	link.Digest = sha256.Sum256(event)
	return string(audit.AppendEvent(nil, &link, link.Hash(), event))
}

// rewrite changes the event of line i and makes every later hash fit. With a
// key it signs the checkpoints anew, without one they stay.
func (s *store) rewrite(i int, key ed25519.PrivateKey) {
	var (
		tree  chain.Tree
		heads = map[string]chain.Hash{}
	)
	for n := range s.lines {
		line := s.parse(n)
		if line.Kind == audit.LineCheckpoint {
			s.lines[n].text = s.resign(line, &tree, key)
			continue
		}
		event := line.Event
		if n == i {
			event = bytes.Replace(event, []byte("note of"), []byte("lies of"), 1)
		}
		link := line.Link
		link.Digest, link.Prev = sha256.Sum256(event), heads[link.Stream]
		hash := link.Hash()
		heads[link.Stream] = hash
		tree.Append(hash)
		s.lines[n].text = string(audit.AppendEvent(nil, &link, hash, event))
	}
}

func (s *store) resign(line audit.Line, tree *chain.Tree, key ed25519.PrivateKey) string {
	checkpoint, err := chain.ParseCheckpoint(line.Note)
	require.NoError(s.t, err)
	require.Equal(s.t, tree.Size(), checkpoint.Size)
	if key == nil {
		return string(audit.AppendCheckpoint(nil, line.Note, line.Range))
	}
	checkpoint.Root = tree.Root()
	note, err := chain.SignCheckpoint(checkpoint, key)
	require.NoError(s.t, err)
	return string(audit.AppendCheckpoint(nil, note, tree.Range()))
}

// overlay copies the files of one store into another one's directory.
func overlay(directory, other string) error {
	files, err := testbed.StoredFiles(other)
	if err != nil {
		return err
	}
	for _, path := range files {
		relative, err := filepath.Rel(other, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(directory, relative)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(target, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Whoever has stolen the signing key and may write to the store can write
// another history that is sound in itself. Another sink of the pipeline, which
// somebody else runs, has been sent every signed checkpoint: one of them tells.
func TestCheckpointHeldElsewhere(t *testing.T) {
	witness := newHTTPSink(t)
	require.NoError(t, witness.Up())
	settings := testbed.Settings{Directory: t.TempDir(), Instance: "victim"}
	settings.Extra = append(toHTTP(settings.Directory, witness, "ndjson"), "service::pipelines::logs/audit::exporters: [audit, audit/http]")
	fillStore(t, settings, 2)
	elsewhere := load(t, witness.Store())
	var newest []byte
	for i := range elsewhere.lines {
		if line := elsewhere.parse(i); line.Kind == audit.LineCheckpoint {
			newest = line.Note
		}
	}
	held := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, os.WriteFile(held, newest, 0o600))
	require.Zero(t, verify(t, "--key", settings.Key(), "--checkpoint", held, settings.Store()).Exit)

	block, _ := pem.Decode(readFile(t, filepath.Join(settings.Journal(), "signing.key")))
	stolen, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	s := load(t, settings.Store())
	s.rewrite(s.event(3), stolen.(ed25519.PrivateKey))
	s.save()
	require.Zero(t, verify(t, "--key", settings.Key(), settings.Store()).Exit, "sound in itself")
	report := verify(t, "--key", settings.Key(), "--checkpoint", held, settings.Store())
	assert.Equal(t, 1, report.Exit, "%+v", report.Findings)
	assert.Equal(t, []string{"tampered"}, report.Kinds())
}
