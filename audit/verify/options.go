// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"slices"

	"github.com/otelaudit/otelaudit/audit/chain"
)

// DefaultWindow is how many lines that came ahead of their turn are held, over
// all origins, before the verifier goes on without the lines between.
const DefaultWindow = 65_536

// Options is what the caller trusts, holds and remembers. The zero Options
// trusts nobody but the first key it meets.
type Options struct {
	// Keys are the signing keys that the caller was given. Where there is
	// one, nothing else is trusted: pins and keys found in the log are not
	// asked.
	Keys []ed25519.PublicKey
	// Pins are the keys that earlier runs met first, by instance.
	Pins map[string][]Pin
	// Checkpoints are signed notes held from outside the store.
	Checkpoints [][]byte
	// Floors is what earlier runs saw of each log, by its name.
	Floors map[string]Floor
	// Window bounds the lines that wait for their turn; 0 means
	// DefaultWindow.
	Window int
	// Spill takes what does not fit into memory: 33 bytes for each stored
	// record. With nil it stays in memory.
	Spill Spill
}

// Spill is random access to scratch space, such as a temporary file.
type Spill interface {
	io.ReaderAt
	io.WriterAt
}

// Pin is a key that an instance was first seen with.
type Pin struct {
	Key ed25519.PublicKey
	// Ended says that the caller recorded the end of the key's validity: what
	// it signed is reported as unverifiable and proves nothing.
	Ended bool
}

// Floor is what a run saw of one log. A later run that sees less of it reports
// the difference.
type Floor struct {
	Lives []FloorLife // oldest first
}

// FloorLife is one origin of a Floor: its leaves from First up to Size were
// there and sound, and Root was the root at Size.
type FloorLife struct {
	Origin string
	First  uint64
	Size   uint64
	Root   chain.Hash
}

// given is a checkpoint from outside the store.
type given struct {
	note []byte
	chain.Checkpoint
	name chain.Origin
}

func parseGiven(notes [][]byte) ([]given, error) {
	parsed := make([]given, 0, len(notes))
	for i, signed := range notes {
		c, err := chain.ParseCheckpoint(signed)
		if err != nil {
			return nil, fmt.Errorf("checkpoint %d of those given: %w", i+1, err)
		}
		name, err := chain.ParseOrigin(c.Origin)
		if err != nil {
			return nil, fmt.Errorf("checkpoint %d of those given: %w", i+1, err)
		}
		parsed = append(parsed, given{note: signed, Checkpoint: c, name: name})
	}
	return parsed, nil
}

// Merge returns what is known after a run that saw later, where f was known
// before it: of every life the most that was ever seen.
func (f Floor) Merge(later Floor) Floor {
	merged := Floor{Lives: append([]FloorLife(nil), f.Lives...)}
	for _, seen := range later.Lives {
		i := slices.IndexFunc(merged.Lives, func(l FloorLife) bool { return l.Origin == seen.Origin })
		if i < 0 {
			merged.Lives = append(merged.Lives, seen)
			continue
		}
		known := &merged.Lives[i]
		known.First = min(known.First, seen.First)
		if seen.Size > known.Size {
			known.Size, known.Root = seen.Size, seen.Root
		}
	}
	return merged
}
