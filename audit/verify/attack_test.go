// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
)

// replace changes the first old in a line; the line must have one.
func replace(t *testing.T, line *[]byte, old, new string) {
	t.Helper()
	require.Contains(t, string(*line), old)
	*line = bytes.Replace(*line, []byte(old), []byte(new), 1)
}

// find returns the place of the record with the given index of the life that
// file belongs to.
func (s store) find(t *testing.T, origin string, index string) (*stored, int) {
	t.Helper()
	for _, f := range s {
		for i, line := range f.lines {
			if strings.HasPrefix(f.name, origin) && bytes.Contains(line, []byte(`"index":"`+index+`"`)) &&
				bytes.HasPrefix(line, []byte(`{"chain"`)) {
				return f, i
			}
		}
	}
	require.Fail(t, "no such record", "%s %s", origin, index)
	return nil, 0
}

func (s store) line(t *testing.T, origin, index string) *[]byte {
	f, i := s.find(t, origin, index)
	return &f.lines[i]
}

// rehash makes every line of the origin consistent again after edit has changed
// the canonical bytes of some: all that an attacker can do who has no key.
func rehash(t *testing.T, s store, origin string, edit func(index uint64, event []byte) []byte) chain.Tree {
	t.Helper()
	heads := map[string]chain.Head{}
	var tree chain.Tree
	for _, f := range s {
		if !strings.HasPrefix(f.name, origin) {
			continue
		}
		for i, line := range f.lines {
			parsed, err := audit.ParseLine(line)
			require.NoError(t, err)
			if parsed.Kind != audit.LineEvent {
				continue
			}
			event := edit(parsed.Link.Index, slices.Clone(parsed.Event))
			link := parsed.Link
			link.Digest = sha256.Sum256(event)
			if head, ok := heads[link.Stream]; ok {
				link.Prev = head.Hash
			}
			hash := link.Hash()
			heads[link.Stream] = chain.Head{Seq: link.Seq, Hash: hash}
			tree.Append(hash)
			f.lines[i] = audit.AppendEvent(nil, &link, hash, event)
		}
	}
	return tree
}

func editUser(index uint64, event []byte) []byte {
	if index != 17 {
		return event
	}
	return bytes.Replace(event, []byte("user-"), []byte("USER-"), 1)
}

// forge returns a self-consistent line that nobody sealed.
func forge(link chain.Link, text string) []byte {
	event := []byte(`{"record":{"event_name":"` + text + `"}}`)
	link.Digest = sha256.Sum256(event)
	return audit.AppendEvent(nil, &link, link.Hash(), event)
}

func parsedLink(t *testing.T, line []byte) chain.Link {
	parsed, err := audit.ParseLine(line)
	require.NoError(t, err)
	if parsed.Kind == audit.LineEvent {
		parsed.Link.Digest = sha256.Sum256(parsed.Event)
	}
	return parsed.Link
}

type attack struct {
	name string
	do   func(t *testing.T, s store) store
	// What is found with the key alone, and with the key and the newest
	// checkpoint.
	kinds, covered []verify.Kind
	// Exit codes of the two.
	exit, exitCovered int
}

const (
	life1 = instance + "/" + journal + "/20261123T090100Z-00000001"
	life2 = instance + "/" + journal + "/20261123T090200Z-00000002"
)

func flip(life, index, old, new string) func(*testing.T, store) store {
	return func(t *testing.T, s store) store {
		replace(t, s.line(t, life, index), old, new)
		return s
	}
}

// same is an attack that a given checkpoint makes no difference to.
func same(name string, exit int, do func(*testing.T, store) store, found ...verify.Kind) attack {
	return attack{name: name, do: do, kinds: found, covered: found, exit: exit, exitCovered: exit}
}

func cutLines(n int) func(*testing.T, store) store {
	return func(_ *testing.T, s store) store {
		last := s[len(s)-1]
		last.lines = last.lines[:len(last.lines)-n]
		return s
	}
}

func deleteFile(i int) func(*testing.T, store) store {
	return func(_ *testing.T, s store) store { return slices.Delete(s, i, i+1) }
}

func deleteRecord(life, index string) func(*testing.T, store) store {
	return func(t *testing.T, s store) store {
		f, i := s.find(t, life, index)
		f.lines = slices.Delete(f.lines, i, i+1)
		return s
	}
}

func attacks(t *testing.T) []attack {
	return []attack{
		same("flip a byte in the record", 1, flip(life1, "17", `"stringValue":"user-`, `"stringValue":"usEr-`), verify.Tampered),
		same("flip a byte of the resource", 1, flip(life1, "17", `"shop"`, `"shoq"`), verify.Tampered),
		same("flip a byte of the collector part", 1, flip(life1, "17", `{"collector":{"audit.integrity.collector.tenant":{"stringValue":"g`, `{"collector":{"audit.integrity.collector.tenant":{"stringValue":"h`), verify.Tampered),
		same("flip a byte of the hash", 1, func(t *testing.T, s store) store {
			line := *s.line(t, life1, "17")
			line[len(`{"chain":{"hash":"`)] = otherHex(line[len(`{"chain":{"hash":"`)])
			return s
		}, verify.Tampered),
		same("flip a digit of the index", 1, flip(life1, "17", `"index":"17"`, `"index":"57"`), verify.Tampered),
		same("flip a digit of the index to a taken one", 1, flip(life1, "17", `"index":"17"`, `"index":"13"`), verify.Tampered),
		same("flip a byte of the origin", 1, flip(life1, "17", `host-1`, `host-2`), verify.Tampered),
		same("flip the stream", 1, flip(life1, "17", `tenant:globex`, `tenant:glObex`), verify.Tampered),
		same("flip seq", 1, flip(life1, "17", `"seq":"6"`, `"seq":"7"`), verify.Tampered),
		same("flip sealed_at", 1, flip(life1, "17", `"sealed_at":"1`, `"sealed_at":"2`), verify.Tampered),
		same("flip prev", 1, func(t *testing.T, s store) store {
			line := *s.line(t, life1, "17")
			at := bytes.Index(line, []byte(`"prev":"`)) + 8
			line[at] = otherHex(line[at])
			return s
		}, verify.Tampered),
		same("flip a byte of the first start record", 1, flip(life1, "0", `"1.0.0"`, `"1.0.1"`), verify.Tampered),
		same("flip a byte of the last stop record", 1, flip(life2, "19", `"shop"`, `"shoq"`), verify.Tampered),
		same("break the JSON of a line", 1, flip(life1, "17", `"event":{`, `"event":[`), verify.Malformed),
		same("break the first line", 1, flip(life1, "0", `{"chain":{`, `{"chain":[`), verify.Malformed),
		same("flip a byte of a signature", 1, func(t *testing.T, s store) store {
			line := s[1].lines[len(s[1].lines)-1]
			at := bytes.LastIndex(line, []byte(`\n"`)) - 9
			line[at] ^= 1
			return s
		}, verify.BadSignature),
		same("flip a size in a checkpoint", 1, func(t *testing.T, s store) store {
			replace(t, &s[1].lines[len(s[1].lines)-1], `\n25\n`, `\n24\n`)
			return s
		}, verify.BadSignature),
		same("flip a range hash", 1, func(t *testing.T, s store) store {
			line := s[1].lines[len(s[1].lines)-1]
			at := bytes.Index(line, []byte(`"range":["`)) + 10
			line[at] = otherHex(line[at])
			return s
		}, verify.Tampered),
		same("delete a line", 1, deleteRecord(life1, "17"), verify.Missing),
		same("delete a line before a checkpoint", 1, deleteRecord(life1, "12"), verify.Missing),
		same("delete the start record of the second life", 1, deleteRecord(life2, "0"), verify.Missing),
		same("delete one tenant", 1, func(_ *testing.T, s store) store {
			for _, f := range s {
				f.lines = slices.DeleteFunc(f.lines, func(line []byte) bool { return bytes.Contains(line, []byte(`"stream":"tenant:acme"`)) })
			}
			return s
		}, verify.Missing),
		same("delete a middle file", 1, deleteFile(1), verify.Missing),
		same("delete the last file of a life that ended", 1, deleteFile(3), verify.Missing),
		same("delete the first file", 4, deleteFile(0), verify.OpenHead),
		same("delete all of the first life", 4, func(_ *testing.T, s store) store { return s[4:] }, verify.OpenHead),
		same("delete the first lines", 4, func(_ *testing.T, s store) store {
			s[0].lines = s[0].lines[5:]
			return s
		}, verify.OpenHead),
		{"cut the last line", cutLines(1), []verify.Kind{verify.OpenTail}, nil, 4, 0},
		{"cut the last two lines", cutLines(2), []verify.Kind{verify.OpenTail}, []verify.Kind{verify.Missing}, 4, 1},
		{"cut the last five lines", cutLines(5), []verify.Kind{verify.OpenTail}, []verify.Kind{verify.Missing}, 4, 1},
		{"cut all but a start", cutLines(21), []verify.Kind{verify.OpenTail}, []verify.Kind{verify.Missing}, 4, 1},
		{"delete the last life", deleteFile(4), nil, []verify.Kind{verify.Missing}, 0, 1},
		same("swap the events of two lines", 1, func(t *testing.T, s store) store {
			a, b := s.line(t, life1, "16"), s.line(t, life1, "18")
			pa, pb := bytes.Index(*a, []byte(`"event":`)), bytes.Index(*b, []byte(`"event":`))
			newA := append(slices.Clone((*a)[:pa]), (*b)[pb:]...)
			newB := append(slices.Clone((*b)[:pb]), (*a)[pa:]...)
			*a, *b = newA, newB
			return s
		}, verify.Tampered),
		same("insert a line at a taken coordinate", 1, func(t *testing.T, s store) store {
			f, i := s.find(t, life1, "17")
			f.lines = slices.Insert(f.lines, i+1, forge(parsedLink(t, f.lines[i]), "forged"))
			return s
		}, verify.Inserted),
		same("insert a line before the one it imitates", 1, func(t *testing.T, s store) store {
			f, i := s.find(t, life1, "17")
			f.lines = slices.Insert(f.lines, i, forge(parsedLink(t, f.lines[i]), "forged"))
			return s
		}, verify.Inserted),
		same("insert an unsound copy", 1, func(t *testing.T, s store) store {
			f, i := s.find(t, life1, "17")
			f.lines = slices.Insert(f.lines, i+1, slices.Clone(f.lines[i]))
			replace(t, &f.lines[i+1], `"shop"`, `"shoq"`)
			return s
		}, verify.Inserted),
		same("insert a line after the stop", 1, func(t *testing.T, s store) store {
			f := s[4]
			link := parsedLink(t, *s.line(t, life2, "18"))
			link.Index, link.Seq, link.Prev = 20, link.Seq+1, link.Hash()
			f.lines = append(f.lines, forge(link, "forged"))
			return s
		}, verify.Inserted),
		same("insert a line far after the stop", 1, func(t *testing.T, s store) store {
			link := parsedLink(t, *s.line(t, life2, "18"))
			link.Index = 1 << 40
			s[4].lines = append(s[4].lines, forge(link, "forged"))
			return s
		}, verify.Inserted),
		same("insert a line after the end of an older life", 1, func(t *testing.T, s store) store {
			link := parsedLink(t, *s.line(t, life1, "48"))
			link.Index = 50
			s[3].lines = append(s[3].lines, forge(link, "forged"))
			return s
		}, verify.Inserted),
		same("insert a line that is no JSON", 1, func(t *testing.T, s store) store {
			f, i := s.find(t, life1, "17")
			f.lines = slices.Insert(f.lines, i, []byte("hello"))
			return s
		}, verify.Malformed),
		same("add a member", 1, func(t *testing.T, s store) store {
			line := s.line(t, life1, "17")
			*line = append((*line)[:len(*line)-1], `,"x":{}}`...)
			return s
		}, verify.Malformed),
		same("add a scalar member", 1, func(t *testing.T, s store) store {
			line := s.line(t, life1, "17")
			*line = append((*line)[:len(*line)-1], `,"x":1}`...)
			return s
		}, verify.Malformed),
		same("add a second event", 1, func(t *testing.T, s store) store {
			line := s.line(t, life1, "17")
			at := bytes.Index(*line, []byte(`,"event":`))
			*line = append(slices.Clone((*line)[:len(*line)-1]), (*line)[at:]...)
			return s
		}, verify.Malformed),
		same("add white space", 1, flip(life1, "17", `,"event":`, `, "event":`), verify.Malformed),
		same("splice lines of another origin", 1, func(t *testing.T, s store) store {
			other := newSealer(t, testKey("a"))
			other.journal = "ffffffffffffffff"
			other.start()
			other.events(9)
			f, i := s.find(t, life1, "17")
			f.lines = slices.Insert(f.lines, i, other.files[0].lines[4:8]...)
			return s
		}, verify.Inserted),
		same("splice a later life of the same log", 1, func(t *testing.T, s store) store {
			link := parsedLink(t, *s.line(t, life2, "18"))
			link.Origin = instance + "/" + journal + "/20261123T090300Z-00000003"
			s[4].lines = append(s[4].lines, forge(link, "forged"))
			return s
		}, verify.Inserted),
		same("re-hash everything", 1, func(t *testing.T, s store) store {
			rehash(t, s, life1, editUser)
			return s
		}, verify.Tampered),
		same("re-hash everything, take the checkpoints of that life away", 1, func(t *testing.T, s store) store {
			rehash(t, s, life1, editUser)
			for _, f := range s[:4] {
				f.lines = slices.DeleteFunc(f.lines, func(line []byte) bool { return bytes.HasPrefix(line, []byte(`{"checkpoint"`)) })
			}
			return s
		}, verify.Tampered),
		{"re-hash the newest life, take its checkpoints away", func(t *testing.T, s store) store {
			rehash(t, s, life2, func(index uint64, event []byte) []byte {
				return bytes.Replace(event, []byte("user-8"), []byte("user-9"), 1)
			})
			f := s[4]
			f.lines = slices.DeleteFunc(f.lines, func(line []byte) bool { return bytes.HasPrefix(line, []byte(`{"checkpoint"`)) })
			return s
		}, []verify.Kind{verify.OpenTail}, []verify.Kind{verify.Tampered}, 4, 1},
		{"re-hash and re-sign with another key", func(t *testing.T, s store) store {
			resign(t, s, life2)
			return s
		}, []verify.Kind{verify.BadSignature}, []verify.Kind{verify.BadSignature}, 1, 1},
		same("duplicate a line", 0, func(t *testing.T, s store) store {
			f, i := s.find(t, life1, "17")
			f.lines = slices.Insert(f.lines, i, slices.Clone(f.lines[i]))
			return s
		}, verify.Duplicate),
		same("duplicate a whole file", 0, func(_ *testing.T, s store) store {
			return append(s, &stored{name: "zz-copy.jsonl", lines: s[1].lines})
		}, verify.Duplicate),
		same("duplicate a checkpoint", 0, func(_ *testing.T, s store) store {
			f := s[4]
			f.lines = append(f.lines, slices.Clone(f.lines[len(f.lines)-1]))
			return s
		}),
		same("reorder two lines", 0, func(t *testing.T, s store) store {
			f, i := s.find(t, life1, "17")
			f.lines[i], f.lines[i+1] = f.lines[i+1], f.lines[i]
			return s
		}, verify.Reordered),
		same("reverse a file", 0, func(_ *testing.T, s store) store {
			slices.Reverse(s[2].lines)
			return s
		}, verify.Reordered),
		same("reverse everything", 0, func(_ *testing.T, s store) store {
			var all [][]byte
			for _, f := range s {
				all = append(all, f.lines...)
			}
			slices.Reverse(all)
			return store{{name: "all.jsonl", lines: all}}
		}, verify.Reordered),
		same("a torn last line in the newest file", 0, func(_ *testing.T, s store) store {
			s[4].torn = []byte(`{"chain":{"ha`)
			return s
		}, verify.OpenTail),
		same("a torn last line in another file", 1, func(_ *testing.T, s store) store {
			s[1].torn = []byte(`{"chain":{"ha`)
			return s
		}, verify.Malformed),
		{"take the newline of the last line away", func(_ *testing.T, s store) store {
			last := s[4]
			last.torn = last.lines[len(last.lines)-1]
			last.lines = last.lines[:len(last.lines)-1]
			return s
		}, []verify.Kind{verify.OpenTail}, []verify.Kind{verify.OpenTail}, 4, 0},
	}
}

func otherHex(c byte) byte {
	if c == '0' {
		return '1'
	}
	return '0'
}

// resign edits a record of the origin and signs the new tree with a key that
// nobody trusts.
func resign(t *testing.T, s store, origin string) {
	rehash(t, s, origin, func(_ uint64, event []byte) []byte {
		return bytes.Replace(event, []byte("user-8"), []byte("user-9"), 1)
	})
	var tree chain.Tree
	for _, f := range s {
		if !strings.HasPrefix(f.name, origin) {
			continue
		}
		for i, line := range f.lines {
			if bytes.HasPrefix(line, []byte(`{"chain"`)) {
				link := parsedLink(t, line)
				tree.Append(link.Hash())
				continue
			}
			signed, err := chain.SignCheckpoint(chain.Checkpoint{Origin: origin, Size: tree.Size(), Root: tree.Root()}, testKey("mallory"))
			require.NoError(t, err)
			f.lines[i] = audit.AppendCheckpoint(nil, signed, tree.Range())
		}
	}
}

func TestAttacks(t *testing.T) {
	sealed := standard(t, testKey("a"))
	for _, a := range attacks(t) {
		t.Run(a.name, func(t *testing.T) {
			attacked := a.do(t, sealed.files.clone())
			options := givenKey(sealed.key)
			report := check(t, attacked, options)
			assert.Equal(t, slices.Sorted(slices.Values(a.kinds)), kinds(report), describe(report))
			assert.Equal(t, a.exit, report.ExitCode())

			options.Checkpoints = [][]byte{sealed.note}
			report = check(t, attacked, options)
			assert.Equal(t, slices.Sorted(slices.Values(a.covered)), kinds(report), "with a checkpoint: %s", describe(report))
			assert.Equal(t, a.exitCovered, report.ExitCode(), "with a checkpoint")
		})
	}
}
