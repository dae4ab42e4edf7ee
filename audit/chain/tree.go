// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// EmptyRoot is the root of a tree without leaves, SHA-256 of nothing (RFC 6962
// section 2.1).
var EmptyRoot = Hash(sha256.Sum256(nil))

// Tree is an append-only Merkle tree of RFC 6962, kept as the compact range of
// its leaves: the roots of its perfect subtrees, largest first. Its memory is
// at most 64 hashes. The zero Tree is empty. Not safe for concurrent use;
// Clone is a snapshot.
type Tree struct {
	size   uint64
	hashes []Hash // one for each set bit of size, highest bit first
}

// ResumeTree returns the tree of the given size whose compact range is hashes.
func ResumeTree(size uint64, hashes []Hash) (Tree, error) {
	if want := bits.OnesCount64(size); want != len(hashes) {
		return Tree{}, fmt.Errorf("a tree of %d leaves has %d range hashes, found %d", size, want, len(hashes))
	}
	return Tree{size: size, hashes: slices.Clone(hashes)}, nil
}

// Append adds a leaf.
func (t *Tree) Append(leaf Hash) {
	node := leaf
	for size := t.size; size&1 == 1; size >>= 1 {
		last := len(t.hashes) - 1
		node = nodeHash(&t.hashes[last], &node)
		t.hashes = t.hashes[:last]
	}
	t.hashes = append(t.hashes, node)
	t.size++
}

// Size returns the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Root returns the RFC 6962 Merkle tree hash.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return EmptyRoot
	}
	root := t.hashes[len(t.hashes)-1]
	for _, left := range slices.Backward(t.hashes[:len(t.hashes)-1]) {
		root = nodeHash(&left, &root)
	}
	return root
}

// Range returns a copy of the compact range: with Size all that ResumeTree
// needs.
func (t *Tree) Range() []Hash { return slices.Clone(t.hashes) }

// Clone returns a tree that shares nothing with t.
func (t *Tree) Clone() Tree { return Tree{size: t.size, hashes: slices.Clone(t.hashes)} }

// Restore makes t equal to saved without allocating.
func (t *Tree) Restore(saved *Tree) {
	t.size = saved.size
	t.hashes = append(t.hashes[:0], saved.hashes...)
}

func nodeHash(left, right *Hash) Hash {
	var b [1 + 2*HashSize]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+HashSize:], right[:])
	return sha256.Sum256(b[:])
}

var errRange = errors.New("range hashes do not fold to the root")

// CheckRange returns the tree whose compact range is hashes, if it has the
// given size and root.
func CheckRange(size uint64, root Hash, hashes []Hash) (Tree, error) {
	tree, err := ResumeTree(size, hashes)
	if err != nil {
		return Tree{}, err
	}
	if tree.Root() != root {
		return Tree{}, errRange
	}
	return tree, nil
}
