// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import "github.com/otelaudit/otelaudit/audit/chain"

// heads is where the streams of a log stand. One life hands it to the next
// where the next goes on exactly where the other ended.
type heads struct {
	streams map[string]*head
	// Each gap begins a new epoch: what the missing lines did to a stream of
	// an older epoch is unknown.
	epoch uint32
	// whole says that nothing of the log is missing so far, so that an
	// unknown stream must begin with seq 1.
	whole bool
}

type head struct {
	seq   uint64
	hash  chain.Hash
	epoch uint32
}

func newHeads(whole bool) *heads { return &heads{streams: map[string]*head{}, whole: whole} }

func (h *heads) gap() {
	h.epoch++
	h.whole = false
}

// follow moves the head of f's stream to f and says whether f was what had to
// come. After a gap it asks only what no gap can explain.
func (h *heads) follow(f *fact) bool {
	at := h.streams[f.stream]
	if at == nil {
		h.streams[f.stream] = &head{seq: f.seq, hash: f.hash, epoch: h.epoch}
		first := f.seq == 1 && f.prev == chain.Hash{}
		later := f.seq > 1 && f.prev != chain.Hash{}
		return first || (later && !h.whole)
	}
	direct := f.seq == at.seq+1
	fits := direct && f.prev == at.hash
	if at.epoch != h.epoch && !direct {
		fits = f.seq > at.seq
	}
	at.seq, at.hash, at.epoch = f.seq, f.hash, h.epoch
	return fits
}
