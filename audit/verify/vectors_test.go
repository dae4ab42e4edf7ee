// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/verify"
)

var update = flag.Bool("update", false, "write the vector files anew")

const storeVectors = "../testdata/vectors/store"

// storeCase is a whole store, small. With it goes the key, and the newest
// checkpoint where covered says so.
type storeCase struct {
	name    string
	about   string
	covered bool
	do      func(t *testing.T, s store) store
}

// small is a closed log of two lives, the first with two files.
func small(t testing.TB) *sealer {
	s := newSealer(t, testKey("vectors"))
	s.start()
	s.events(2)
	s.rotate()
	s.events(2)
	s.stop()
	s.start()
	s.events(3)
	s.stop()
	return s
}

func storeCases() []storeCase {
	return []storeCase{
		{"sound", "nothing is wrong, a final stop closes the log", false, func(_ *testing.T, s store) store { return s }},
		{"sound-covered", "no final stop, but a checkpoint from outside covers the tail", true, func(_ *testing.T, s store) store { return s }},
		{"open-tail", "the last two lines are cut off", false, cutLines(2)},
		{"cut-tail", "the last two lines are cut off, a checkpoint from outside covers them", true, cutLines(2)},
		{"open-head", "the first file is not there", false, deleteFile(0)},
		{"missing", "a line is not there", false, deleteRecord(life1, "4")},
		{"tampered", "a byte of a record is changed", false, flip(life1, "4", "user-1", "user-7")},
		{"tampered-rehashed", "a record is changed and everything hashed again", false, func(t *testing.T, s store) store {
			rehash(t, s, life1, func(index uint64, event []byte) []byte {
				if index != 4 {
					return event
				}
				return bytes.Replace(event, []byte("user-1"), []byte("user-7"), 1)
			})
			return s
		}},
		{"malformed", "a member is added to a line", false, func(t *testing.T, s store) store {
			line := s.line(t, life1, "4")
			*line = append((*line)[:len(*line)-1], `,"x":1}`...)
			return s
		}},
		{"inserted", "a line that hashes well stands beside the genuine one", false, func(t *testing.T, s store) store {
			f, i := s.find(t, life1, "4")
			f.lines = slices.Insert(f.lines, i+1, forge(parsedLink(t, f.lines[i]), "forged"))
			return s
		}},
		{"bad-signature", "the last life is changed, hashed and signed again by another key", false, func(t *testing.T, s store) store {
			resign(t, s, life2)
			return s
		}},
		{"notices", "a line twice, two lines in the wrong order, a torn last line", false, func(t *testing.T, s store) store {
			f, i := s.find(t, life1, "3")
			f.lines[i], f.lines[i+1] = f.lines[i+1], f.lines[i]
			f.lines = append(f.lines, slices.Clone(f.lines[i]))
			s[len(s)-1].torn = []byte(`{"chain":{"ha`)
			return s
		}},
	}
}

func forkedCase(t *testing.T) (*sealer, store) {
	s := newSealer(t, testKey("vectors"))
	s.start()
	s.stop()
	c := s.copyOf()
	for _, each := range []*sealer{s, c} {
		each.start()
		each.events(1)
		each.stop()
	}
	return s, append(s.files, c.files...)
}

func quarantinedCase(t *testing.T) (*sealer, store) {
	s := newSealer(t, testKey("vectors"))
	s.start()
	s.quarantine(true)
	s.stop()
	return s, s.files
}

// replayedCase is a record that was stored after all; with whole false it is
// gone again.
func replayedCase(t *testing.T, whole bool) (*sealer, store) {
	s := newSealer(t, testKey("vectors"))
	s.start()
	link := s.quarantine(true)
	if whole {
		s.replay(&link)
	}
	s.did("replay", "audit/file", &link)
	s.stop()
	return s, s.files
}

func droppedCase(t *testing.T) (*sealer, store) {
	s := newSealer(t, testKey("vectors"))
	s.start()
	link := s.quarantine(true)
	s.did("drop", "audit/file", &link)
	s.stop()
	return s, s.files
}

func writeStoreVector(t *testing.T, name, about string, sealed *sealer, files store, covered bool) {
	folder := filepath.Join(storeVectors, name)
	require.NoError(t, os.RemoveAll(folder))
	write := func(path string, content []byte) {
		path = filepath.Join(folder, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o644))
	}
	options := givenKey(sealed.key)
	if covered {
		options.Checkpoints = [][]byte{sealed.note}
		write("checkpoint", sealed.note)
	}
	for _, f := range files {
		content := append(bytes.Join(f.lines, []byte("\n")), '\n')
		write(filepath.Join("store", f.name), append(content, f.torn...))
	}
	encoded, err := x509.MarshalPKIXPublicKey(public(sealed.key))
	require.NoError(t, err)
	write("verifier.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: encoded}))
	report := check(t, files, options)
	text, err := json.MarshalIndent(report, "", "  ")
	require.NoError(t, err)
	write("report.json", append(text, '\n'))
	names := make([]string, 0, 3)
	for _, kind := range kinds(report) {
		names = append(names, string(kind))
	}
	expect := strings.TrimSpace(fmt.Sprintf("expect: exit %d %s", report.ExitCode(), strings.Join(names, " ")))
	write("case.txt", []byte(expect+"\nabout: "+about+"\n"))
}

func writeStoreVectors(t *testing.T) {
	for _, c := range storeCases() {
		s := small(t)
		if c.name == "sound-covered" {
			s = newSealer(t, testKey("vectors"))
			s.start()
			s.events(3)
			s.checkpoint()
		}
		writeStoreVector(t, c.name, c.about, s, c.do(t, s.files.clone()), c.covered)
	}
	s, files := forkedCase(t)
	writeStoreVector(t, "forked", "a copied journal was started: two lives follow one", s, files, false)
	s, files = quarantinedCase(t)
	writeStoreVector(t, "quarantined", "a stub and the sealed record that explains it", s, files, false)
	s, files = droppedCase(t)
	writeStoreVector(t, "dropped", "a stub whose record an operator gave up", s, files, false)
	s, files = replayedCase(t, true)
	writeStoreVector(t, "replayed", "a stub, the whole record beside it, and the sealed record of that", s, files, false)
	s, files = replayedCase(t, false)
	writeStoreVector(t, "replayed-gone", "a stub and the sealed record that the whole one was stored, which is not there", s, files, false)
}

// readStore reads the files below a folder as a store, names relative to it.
func readStore(t *testing.T, folder string) store {
	t.Helper()
	var s store
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		lines := bytes.Split(content, []byte("\n"))
		last := len(lines) - 1
		s = append(s, &stored{name: filepath.ToSlash(name), lines: lines[:last], torn: lines[last]})
		return nil
	}))
	return s
}

func TestStoreVectors(t *testing.T) {
	if *update {
		writeStoreVectors(t)
	}
	folders, err := filepath.Glob(filepath.Join(storeVectors, "*", "case.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, folders, "no vectors")
	for _, path := range folders {
		folder := filepath.Dir(path)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			read := func(name string) []byte {
				text, err := os.ReadFile(filepath.Join(folder, name))
				require.NoError(t, err)
				return text
			}
			block, _ := pem.Decode(read("verifier.pub"))
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			require.NoError(t, err)
			options := verify.Options{Keys: []ed25519.PublicKey{key.(ed25519.PublicKey)}}
			if _, err := os.Stat(filepath.Join(folder, "checkpoint")); err == nil {
				options.Checkpoints = [][]byte{read("checkpoint")}
			}
			report := check(t, readStore(t, filepath.Join(folder, "store")), options)
			got, err := json.Marshal(report)
			require.NoError(t, err)
			assert.JSONEq(t, string(read("report.json")), string(got))
			expect, _, _ := strings.Cut(string(read("case.txt")), "\n")
			words := strings.Fields(strings.TrimPrefix(expect, "expect: "))
			require.GreaterOrEqual(t, len(words), 2)
			assert.Equal(t, words[1], fmt.Sprint(report.ExitCode()))
			found := make([]string, 0, 3)
			for _, kind := range kinds(report) {
				found = append(found, string(kind))
			}
			assert.Equal(t, strings.Join(words[2:], " "), strings.Join(found, " "))
		})
	}
}
