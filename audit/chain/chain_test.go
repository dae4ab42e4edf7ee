// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package chain_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/otelaudit/otelaudit/audit/chain"
)

func leafHash(data []byte) chain.Hash { return chain.Hash(rfc6962.DefaultHasher.HashLeaf(data)) }

// The bytes of a link, put together by hand.
func TestLinkBytes(t *testing.T) {
	link := chain.Link{Origin: "ab", Index: 0x0102, Stream: "c", Seq: 3, SealedAt: -2, Prev: fill(0x11), Digest: fill(0x22)}
	b, err := link.AppendBinary([]byte("x"))
	require.NoError(t, err)
	want := "78" + "01" + "0002" + "6162" + "0000000000000102" + "0001" + "63" + "0000000000000003" +
		"fffffffffffffffe" + strings.Repeat("11", 32) + strings.Repeat("22", 32)
	assert.Equal(t, want, hex.EncodeToString(b))
	assert.Equal(t, leafHash(b[1:]), link.Hash(), "the hash is the RFC 6962 leaf of the link")
	assert.Equal(t, chain.Hash(sha256.Sum256(append([]byte{0}, b[1:]...))), link.Hash())
}

func TestLinkNamesAreBounded(t *testing.T) {
	for _, link := range []chain.Link{
		{Origin: strings.Repeat("o", chain.MaxName+1)}, {Stream: strings.Repeat("s", chain.MaxName+1)},
	} {
		_, err := link.AppendBinary(nil)
		require.Error(t, err)
		assert.Panics(t, func() { link.Hash() })
	}
}

func TestHashHasOneSpelling(t *testing.T) {
	text := strings.Repeat("0aF1"[:2]+"9f", 16)
	h, err := chain.ParseHash(text)
	require.NoError(t, err)
	assert.Equal(t, text, h.String())
	for _, bad := range []string{"", text[1:], text + "0", strings.ToUpper(text), "g" + text[1:]} {
		_, err := chain.ParseHash(bad)
		require.Error(t, err, bad)
	}
}

// Roots and ranges of the first sizes are those of another implementation.
func TestTreeAgainstLibrary(t *testing.T) {
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	theirs := factory.NewEmptyRange(0)
	var ours chain.Tree
	for i := range uint64(1_100) {
		root, err := theirs.GetRootHash(nil)
		require.NoError(t, err)
		if i == 0 {
			root = rfc6962.DefaultHasher.EmptyRoot()
		}
		require.Equal(t, chain.Hash(root), ours.Root(), "size %d", i)
		hashes := ours.Range()
		require.Len(t, hashes, len(theirs.Hashes()))
		for j, h := range theirs.Hashes() {
			require.Equal(t, chain.Hash(h), hashes[j])
		}
		resumed, err := chain.CheckRange(i, ours.Root(), hashes)
		require.NoError(t, err)
		leaf := leafOf(i)
		require.NoError(t, theirs.Append(leaf[:], nil))
		ours.Append(leaf)
		resumed.Append(leaf)
		require.Equal(t, ours.Root(), resumed.Root())
	}
}

func TestTreeCopies(t *testing.T) {
	var tree chain.Tree
	for i := range uint64(5) {
		tree.Append(leafOf(i))
	}
	saved, root := tree.Clone(), tree.Root()
	tree.Range()[0] = fill(9)
	assert.Equal(t, root, tree.Root(), "a range is a copy")
	for i := range uint64(40) {
		tree.Append(leafOf(i))
	}
	assert.Equal(t, root, saved.Root())
	tree.Restore(&saved)
	assert.Equal(t, root, tree.Root())
	tree.Append(leafOf(1))
	assert.Equal(t, root, saved.Root(), "a restored tree shares nothing")
}

func TestCheckpointIsACheckpointForOthers(t *testing.T) {
	key := checkpointKey()
	c := chain.Checkpoint{Origin: testOrigin, Size: 5, Root: fill(7)}
	signed, err := chain.SignCheckpoint(c, key)
	require.NoError(t, err)
	line, err := note.NewEd25519VerifierKey(testOrigin, key.Public().(ed25519.PublicKey))
	require.NoError(t, err)
	verifier, err := note.NewVerifier(line)
	require.NoError(t, err)
	theirs, rest, _, err := log.ParseCheckpoint(signed, testOrigin, verifier)
	require.NoError(t, err)
	assert.Empty(t, rest)
	assert.Equal(t, c.Size, theirs.Size)
	assert.Equal(t, c.Root[:], theirs.Hash)
}

func TestCheckpointKeys(t *testing.T) {
	c := chain.Checkpoint{Origin: testOrigin, Size: 5, Root: fill(7)}
	signed, err := chain.SignCheckpoint(c, checkpointKey())
	require.NoError(t, err)
	mine, other := checkpointKey().Public().(ed25519.PublicKey), otherKey().Public().(ed25519.PublicKey)
	got, by, err := chain.OpenCheckpoint(signed, []ed25519.PublicKey{other, mine})
	require.NoError(t, err)
	assert.Equal(t, c, got)
	assert.Equal(t, mine, by)
	got, _, err = chain.OpenCheckpoint(signed, nil)
	require.ErrorIs(t, err, chain.ErrSignature)
	assert.Equal(t, c, got, "what an untrusted checkpoint says is still returned")
	_, err = chain.ParseCheckpoint(make([]byte, chain.MaxNote+1))
	require.ErrorIs(t, err, chain.ErrCheckpoint)
}

func TestOriginNames(t *testing.T) {
	o, err := chain.ParseOrigin(testOrigin)
	require.NoError(t, err)
	assert.Equal(t, chain.Origin{Instance: "host-1", Journal: "00112233445566aa", Life: "20261123T090700Z-0123abcd"}, o)
	assert.Equal(t, testOrigin, o.String())
	assert.Equal(t, "host-1/00112233445566aa", o.Log())
	for _, bad := range []string{
		"", "host-1", "host-1/00112233445566aa", "/00112233445566aa/20261123T090700Z-0123abcd", testOrigin + "/", testOrigin + "\n",
		strings.ToUpper(testOrigin), "a b/00112233445566aa/20261123T090700Z-0123abcd",
	} {
		_, err := chain.ParseOrigin(bad)
		require.Error(t, err, "%q", bad)
	}
	for name, good := range map[string]bool{"host": true, "a.b_c-D9": true, "": false, ".": false, "..": false, "a/b": false, "ä": false, strings.Repeat("a", 129): false} {
		assert.Equal(t, good, chain.CheckInstance(name) == nil, "%q", name)
	}
}

func FuzzParseLink(f *testing.F) {
	for _, link := range links() {
		b, err := link.AppendBinary(nil)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		link, err := chain.ParseLink(b)
		if err != nil {
			return
		}
		again, err := link.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	signed, err := chain.SignCheckpoint(chain.Checkpoint{Origin: testOrigin, Size: 5, Root: fill(7)}, checkpointKey())
	require.NoError(f, err)
	f.Add(signed)
	f.Add([]byte("a\n1\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := chain.ParseCheckpoint(b)
		if err != nil {
			return
		}
		require.True(t, strings.HasPrefix(string(b), c.Text()+"\n"), "the text is in one spelling")
	})
}

func BenchmarkLinkHash(b *testing.B) {
	link := links()["later"]
	b.ReportAllocs()
	for b.Loop() {
		link.Hash()
	}
}

func BenchmarkTreeAppend(b *testing.B) {
	var tree chain.Tree
	leaf := fill(1)
	b.ReportAllocs()
	for b.Loop() {
		tree.Append(leaf)
	}
}

func ExampleTree() {
	var tree chain.Tree
	fmt.Println(tree.Root())
	// Output: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
}
