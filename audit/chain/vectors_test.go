// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package chain_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/chain"
)

var update = flag.Bool("update", false, "write the vector files anew")

const vectors = "../testdata/vectors"

// vector is one file: lines `name: value`, the first of them `expect`.
type vector struct {
	names  []string
	values map[string]string
}

func (v *vector) add(name, value string) *vector {
	if v.values == nil {
		v.values = map[string]string{}
	}
	v.names = append(v.names, name)
	v.values[name] = value
	return v
}

func (v *vector) write(t *testing.T, folder, name string) {
	t.Helper()
	var b strings.Builder
	for _, key := range v.names {
		b.WriteString(strings.TrimRight(key+": "+v.values[key], " ") + "\n")
	}
	require.NoError(t, os.MkdirAll(filepath.Join(vectors, folder), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(vectors, folder, name+".txt"), []byte(b.String()), 0o644))
}

// readVectors returns the vectors of a folder by name. No vector is a failure.
func readVectors(t *testing.T, folder string) map[string]map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(vectors, folder, "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, paths, "no vectors in %s", folder)
	found := map[string]map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), "expect: "), "%s does not begin with what to expect", path)
		values := map[string]string{}
		for line := range strings.Lines(string(text)) {
			name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			require.True(t, ok, "%s: %q", path, line)
			values[name] = strings.TrimPrefix(value, " ")
		}
		found[strings.TrimSuffix(filepath.Base(path), ".txt")] = values
	}
	return found
}

func hashOf(t *testing.T, text string) chain.Hash {
	t.Helper()
	h, err := chain.ParseHash(text)
	require.NoError(t, err)
	return h
}

func hashesOf(t *testing.T, text string) []chain.Hash {
	t.Helper()
	var hashes []chain.Hash
	for each := range strings.FieldsSeq(text) {
		hashes = append(hashes, hashOf(t, each))
	}
	return hashes
}

func joinHashes(hashes []chain.Hash) string {
	texts := make([]string, 0, len(hashes))
	for _, h := range hashes {
		texts = append(texts, h.String())
	}
	return strings.Join(texts, " ")
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	require.NoError(t, err)
	return b
}

func number(t *testing.T, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err)
	return n
}

const testOrigin = "host-1/00112233445566aa/20261123T090700Z-0123abcd"

func fill(b byte) (h chain.Hash) {
	for i := range h {
		h[i] = b
	}
	return h
}

func links() map[string]chain.Link {
	return map[string]chain.Link{
		"first":         {Origin: testOrigin, Stream: "origin:", Seq: 1, SealedAt: 1_800_000_000_000_000_000, Digest: fill(0xd1)},
		"later":         {Origin: testOrigin, Index: 258, Stream: "tenant:acme", Seq: 17, SealedAt: 1_800_000_000_000_000_001, Prev: fill(0xa0), Digest: fill(0xd2)},
		"before-1970":   {Origin: testOrigin, Index: 1, Stream: "none:", Seq: 1, SealedAt: -1, Digest: fill(0xd3)},
		"unicode":       {Origin: testOrigin, Index: 1 << 40, Stream: "tenant:Zoë", Seq: 1 << 33, SealedAt: 1, Prev: fill(1), Digest: fill(2)},
		"longest-names": {Origin: strings.Repeat("o", chain.MaxName), Stream: strings.Repeat("s", chain.MaxName), Seq: 1},
	}
}

func writeLinkVectors(t *testing.T) {
	for name, l := range links() {
		b, err := l.AppendBinary(nil)
		require.NoError(t, err)
		var v vector
		v.add("expect", "ok").add("origin", l.Origin).add("index", strconv.FormatUint(l.Index, 10)).
			add("stream", l.Stream).add("seq", strconv.FormatUint(l.Seq, 10)).
			add("sealed_at", strconv.FormatInt(l.SealedAt, 10)).add("prev", l.Prev.String()).
			add("digest", l.Digest.String()).add("link", hex.EncodeToString(b)).add("hash", l.Hash().String())
		v.write(t, "link", name)
	}
	first := links()["first"]
	good, err := first.AppendBinary(nil)
	require.NoError(t, err)
	for name, bad := range map[string][]byte{
		"bad-version": append([]byte{2}, good[1:]...),
		"bad-cut":     good[:len(good)-1],
		"bad-longer":  append(append([]byte{}, good...), 0),
		"bad-utf8":    append([]byte{1, 0, 1, 0xff}, good[3+len(testOrigin):]...),
		"bad-empty":   nil,
	} {
		new(vector).add("expect", "not a link").add("link", hex.EncodeToString(bad)).write(t, "link", name)
	}
}

func TestLinkVectors(t *testing.T) {
	if *update {
		writeLinkVectors(t)
	}
	for name, v := range readVectors(t, "link") {
		t.Run(name, func(t *testing.T) {
			parsed, err := chain.ParseLink(unhex(t, v["link"]))
			if v["expect"] != "ok" {
				require.ErrorIs(t, err, chain.ErrLink)
				return
			}
			require.NoError(t, err)
			sealedAt, err := strconv.ParseInt(v["sealed_at"], 10, 64)
			require.NoError(t, err)
			want := chain.Link{
				Origin: v["origin"], Index: number(t, v["index"]), Stream: v["stream"], Seq: number(t, v["seq"]),
				SealedAt: sealedAt, Prev: hashOf(t, v["prev"]), Digest: hashOf(t, v["digest"]),
			}
			assert.Equal(t, want, parsed)
			assert.Equal(t, v["hash"], want.Hash().String())
			b, err := want.AppendBinary(nil)
			require.NoError(t, err)
			assert.Equal(t, v["link"], hex.EncodeToString(b))
		})
	}
}

// leafOf is leaf number i of the tree vectors: the RFC 6962 leaf hash of the
// decimal number i.
func leafOf(i uint64) chain.Hash { return leafHash([]byte(strconv.FormatUint(i, 10))) }

func writeTreeVectors(t *testing.T) {
	var tree chain.Tree
	var leaves []chain.Hash
	for size := uint64(0); size <= 33; size++ {
		if size <= 8 || size >= 31 {
			new(vector).add("expect", "ok").add("size", strconv.FormatUint(size, 10)).add("leaves", joinHashes(leaves)).
				add("range", joinHashes(tree.Range())).add("root", tree.Root().String()).
				write(t, "tree", fmt.Sprintf("size-%02d", size))
		}
		tree.Append(leafOf(size))
		leaves = append(leaves, leafOf(size))
	}
	tree = chain.Tree{}
	for i := range uint64(5) {
		tree.Append(leafOf(i))
	}
	hashes := tree.Range()
	reject := func(name string, root chain.Hash, hashes ...chain.Hash) {
		new(vector).add("expect", "range does not fold").add("size", "5").add("range", joinHashes(hashes)).
			add("root", root.String()).write(t, "tree", name)
	}
	reject("bad-root", leafOf(9), hashes...)
	reject("bad-order", tree.Root(), hashes[1], hashes[0])
	reject("bad-few", tree.Root(), hashes[0])
	reject("bad-many", tree.Root(), hashes[0], hashes[1], hashes[1])
}

func TestTreeVectors(t *testing.T) {
	if *update {
		writeTreeVectors(t)
	}
	for name, v := range readVectors(t, "tree") {
		t.Run(name, func(t *testing.T) {
			size, root, hashes := number(t, v["size"]), hashOf(t, v["root"]), hashesOf(t, v["range"])
			resumed, err := chain.CheckRange(size, root, hashes)
			if v["expect"] != "ok" {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			var tree chain.Tree
			for _, leaf := range hashesOf(t, v["leaves"]) {
				tree.Append(leaf)
			}
			assert.Equal(t, root, tree.Root())
			assert.Equal(t, size, tree.Size())
			assert.Equal(t, v["range"], joinHashes(tree.Range()))
			assert.Equal(t, tree.Root(), resumed.Root())
		})
	}
}

func checkpointKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) }

func otherKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("a key that is not the one given."))
}

// The value of note is the signed note with each line feed written as \n.
func writeCheckpointVectors(t *testing.T) {
	public := hex.EncodeToString(checkpointKey().Public().(ed25519.PublicKey))
	write := func(name, expect, text string) {
		new(vector).add("expect", expect).add("key", public).add("note", strings.ReplaceAll(text, "\n", `\n`)).
			write(t, "checkpoint", name)
	}
	for name, size := range map[string]uint64{"empty": 0, "one": 1, "many": 123_456_789} {
		c := chain.Checkpoint{Origin: testOrigin, Size: size, Root: fill(byte(size))}
		signed, err := chain.SignCheckpoint(c, checkpointKey())
		require.NoError(t, err)
		new(vector).add("expect", "ok").add("key", public).add("note", strings.ReplaceAll(string(signed), "\n", `\n`)).
			add("origin", c.Origin).add("size", strconv.FormatUint(size, 10)).add("root", c.Root.String()).
			write(t, "checkpoint", name)
	}
	c := chain.Checkpoint{Origin: testOrigin, Size: 5, Root: fill(7)}
	signed, err := chain.SignCheckpoint(c, checkpointKey())
	require.NoError(t, err)
	stranger, err := chain.SignCheckpoint(c, otherKey())
	require.NoError(t, err)
	write("other-key", "bad signature", string(stranger))
	write("other-size", "bad signature", strings.Replace(string(signed), "\n5\n", "\n6\n", 1))
	write("two-signatures", "ok", string(stranger)+string(signed[strings.LastIndex(string(signed), "\n\n")+2:]))
	write("size-with-zero", "not a checkpoint", strings.Replace(string(signed), "\n5\n", "\n05\n", 1))
	write("extension-line", "not a checkpoint", strings.Replace(string(signed), "\n\n", "\nmore\n\n", 1))
	write("no-signature", "not a checkpoint", c.Text())
	write("short-root", "not a checkpoint", strings.Replace(string(signed), "BwcH", "Bw==", 1))
}

func TestCheckpointVectors(t *testing.T) {
	if *update {
		writeCheckpointVectors(t)
	}
	for name, v := range readVectors(t, "checkpoint") {
		t.Run(name, func(t *testing.T) {
			key := ed25519.PublicKey(unhex(t, v["key"]))
			c, by, err := chain.OpenCheckpoint([]byte(strings.ReplaceAll(v["note"], `\n`, "\n")), []ed25519.PublicKey{key})
			switch v["expect"] {
			case "ok":
				require.NoError(t, err)
				assert.Equal(t, key, by)
				if v["origin"] != "" {
					assert.Equal(t, chain.Checkpoint{Origin: v["origin"], Size: number(t, v["size"]), Root: hashOf(t, v["root"])}, c)
				}
			case "bad signature":
				require.ErrorIs(t, err, chain.ErrSignature)
			case "not a checkpoint":
				require.ErrorIs(t, err, chain.ErrCheckpoint)
			default:
				require.Fail(t, "unknown expectation", v["expect"])
			}
		})
	}
}
