// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

// sampleFrames returns one frame of each kind.
func sampleFrames(f *testing.F) (group, checkpoint, state frame) {
	f.Helper()
	s := newState()
	w := writer{journal: &Journal{options: Options{Key: testKey}}, state: s, next: 2}
	w.journal.options.setDefaults()
	w.journal.origin = "test/0011223344556677/20261123T090700Z-00112233"
	start := &Request{Kind: Start, Payload: []byte("start"), Links: []chain.Link{{Stream: "origin:"}}, Hashes: make([]chain.Hash, 1)}
	w.encodeGroup([]*Request{start})
	request := &Request{
		Payload: []byte("payload"), Links: []chain.Link{{Stream: "a"}, {Stream: "b"}}, Hashes: make([]chain.Hash, 2),
		Identities: []Identity{{ID: ID{1}, Fingerprint: Fingerprint{2}, Integrity: chain.Hash{3}, Verdict: MaxVerdict}, {}},
	}
	w.encodeGroup([]*Request{request, request})
	group = sampleFrame(f, bytes.Clone(w.buffer), frameGroup)
	c, err := w.signCheckpoint()
	require.NoError(f, err)
	checkpoint = sampleFrame(f, appendCheckpoint(beginFrame(nil), c), frameCheckpoint)
	state = sampleFrame(f, appendState(beginFrame(nil), acceptedEnd{segment: 1, length: 100}, s), frameState)
	return group, checkpoint, state
}

func sampleFrame(f *testing.F, b []byte, kind frameKind) frame {
	require.NoError(f, finishFrame(b, kind, 7, 99))
	parsed, err := parseFrame(b)
	require.NoError(f, err)
	return parsed
}

func FuzzParseFrame(f *testing.F) {
	group, checkpoint, state := sampleFrames(f)
	for _, sample := range []frame{group, checkpoint, state} {
		b := append(beginFrame(nil), sample.payload...)
		require.NoError(f, finishFrame(b, sample.kind, sample.number, sample.salt))
		f.Add(b)
		f.Add(b[:len(b)-1])
		f.Add(append(bytes.Clone(b[3:]), b...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		parsed, err := parseFrame(b)
		if err != nil {
			require.ErrorIs(t, err, errFrame)
		} else {
			again := append(beginFrame(nil), parsed.payload...)
			require.NoError(t, finishFrame(again, parsed.kind, parsed.number, parsed.salt))
			require.Equal(t, b[:parsed.size()], again)
		}
		found := laterFrame(b, func(frame) bool { return true })
		require.True(t, found || err != nil, "a frame at the start is found")
	})
}

func FuzzParseGroup(f *testing.F) {
	group, _, _ := sampleFrames(f)
	f.Add(group.payload)
	f.Add(group.payload[:len(group.payload)-1])
	f.Fuzz(func(t *testing.T, payload []byte) {
		parsed, err := parseGroup(payload, true)
		if err != nil {
			require.ErrorIs(t, err, errPayload)
			return
		}
		require.Equal(t, payload, appendGroup(nil, &parsed))
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	_, checkpoint, _ := sampleFrames(f)
	f.Add(checkpoint.payload)
	f.Fuzz(func(t *testing.T, payload []byte) {
		parsed, err := parseCheckpoint(payload)
		if err == nil {
			require.Equal(t, payload, appendCheckpoint(nil, &parsed))
		}
	})
}

func FuzzParseState(f *testing.F) {
	_, _, state := sampleFrames(f)
	f.Add(state.payload)
	f.Fuzz(func(t *testing.T, payload []byte) {
		before, parsed, err := parseState(payload)
		if err == nil {
			require.Equal(t, payload, appendState(nil, before, parsed))
		}
	})
}

// FuzzRecover opens a journal on any last segment: it starts or refuses, and
// never hurts itself.
func FuzzRecover(f *testing.F) {
	_, _, state := sampleFrames(f)
	b := appendState(beginFrame(nil), acceptedEnd{}, newState())
	require.NoError(f, finishFrame(b, frameState, 1, 99))
	f.Add(b, state.payload, true)
	f.Add(b, []byte{}, false)
	f.Fuzz(func(t *testing.T, first, payload []byte, asState bool) {
		kind := frameGroup
		if asState {
			kind = frameState
		}
		second := append(beginFrame(nil), payload...)
		require.NoError(t, finishFrame(second, kind, 2, 99))
		directory := faultdisk.Scratch(t)
		files := journalFiles{
			identityFile:                   []byte(`{"instance":"test","journal":"0011223344556677","secret":"` + strings.Repeat("00", secretSize) + `"}`),
			"00000000000000000001.segment": append(bytes.Clone(first), second...),
		}
		j, err := files.open(t, directory+"/journal")
		if err == nil {
			require.Positive(t, j.durable)
		}
	})
}
