// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/chain"
)

const (
	benchRecords = 512
	benchRecord  = 1024
	benchStreams = 20
)

// benchGroup returns a group of 512 records of one KiB, in requests of 8.
func benchGroup() []*Request {
	var group []*Request
	for i := range benchRecords / 8 {
		r := &Request{Payload: make([]byte, 8*benchRecord), Links: make([]chain.Link, 8), Hashes: make([]chain.Hash, 8)}
		for k := range r.Links {
			r.Links[k].Stream = fmt.Sprintf("tenant:customer-%02d", (8*i+k)%benchStreams)
			r.Links[k].Digest = sha256.Sum256([]byte{byte(i), byte(k)})
		}
		group = append(group, r)
	}
	return group
}

func benchWriter() *writer {
	j := &Journal{options: Options{Key: testKey}, origin: "collector-1.example/0011223344556677/20261123T090700Z-00112233"}
	j.options.setDefaults()
	w := &writer{journal: j, state: newState(), next: 2}
	w.state.enter(j.origin)
	return w
}

// BenchmarkSeal is the work of the sealer without its disk. seal: link, tree
// and heads; frame: sealing, encoding and checksum.
func BenchmarkSeal(b *testing.B) {
	b.Run("seal", func(b *testing.B) {
		w, group := benchWriter(), benchGroup()
		perRecord(b, func() {
			w.state.begin()
			for _, r := range group {
				for i := range r.Links {
					r.Hashes[i] = w.state.seal(&r.Links[i], w.journal.options.MaxStreams)
				}
			}
		})
	})
	b.Run("frame", func(b *testing.B) {
		w, group := benchWriter(), benchGroup()
		perRecord(b, func() {
			w.state.begin()
			w.encodeGroup(group)
			if err := finishFrame(w.buffer, frameGroup, w.next, w.salt); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// perRecord measures one group a round and reports the cost of a record.
func perRecord(b *testing.B, round func()) {
	round() // grows the scratch memory
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		round()
	}
	runtime.ReadMemStats(&after)
	records := float64(b.N) * benchRecords
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/records, "ns/record")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/records, "allocs/record")
}

// BenchmarkSealDurable is a request of one record, sealed and synced, from a
// number of clients at once. A forwarder takes all there is.
func BenchmarkSealDurable(b *testing.B) {
	for _, clients := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var groups atomic.Int64
			j, err := Open(Options{
				Directory: b.TempDir(), Instance: "bench", Key: testKey,
				Observe: Observer{Committed: func(int, int, time.Duration) { groups.Add(1) }},
			})
			require.NoError(b, err)
			request := func(kind RecordKind) *Request {
				return &Request{Kind: kind, Payload: make([]byte, benchRecord), Links: []chain.Link{{Stream: "tenant:a"}}}
			}
			require.NoError(b, j.Seal(context.Background(), request(Start)))
			var left atomic.Int64
			left.Store(int64(b.N))
			var running sync.WaitGroup
			b.ResetTimer()
			for range clients {
				running.Go(func() {
					for left.Add(-1) >= 0 {
						if err := j.Seal(context.Background(), request(Client)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			running.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			b.ReportMetric(float64(b.N)/float64(groups.Load()), "requests/group")
			require.NoError(b, j.Close())
		})
	}
}

// BenchmarkRecover opens a journal with a backlog: the newest segment is
// replayed, the others are checked.
func BenchmarkRecover(b *testing.B) {
	directory := b.TempDir()
	j, err := Open(Options{Directory: directory, Instance: "bench", Key: testKey})
	require.NoError(b, err)
	require.NoError(b, j.Seal(context.Background(), &Request{Kind: Start, Links: []chain.Link{{Stream: "origin:"}}}))
	for range 400 {
		group := benchGroup()
		for _, r := range group {
			require.NoError(b, j.admit(prepared(r)))
		}
		j.wakeUp()
		<-group[len(group)-1].sealed
	}
	require.NoError(b, j.Close())
	size := directorySize(b, directory)
	for b.Loop() {
		j, err := Open(Options{Directory: directory, Instance: "bench", Key: testKey})
		require.NoError(b, err)
		require.NoError(b, j.Close())
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/(float64(size)/(1<<30)), "ms/GiB")
}

// prepared makes r ready for admit, as Seal does.
func prepared(r *Request) *Request {
	r.sealed = make(chan struct{})
	return r
}

func directorySize(b *testing.B, directory string) (size int64) {
	names, err := filepath.Glob(filepath.Join(directory, "*"+segmentSuffix))
	require.NoError(b, err)
	for _, name := range names {
		info, err := os.Stat(name)
		require.NoError(b, err)
		size += info.Size()
	}
	return size
}

// BenchmarkLookup asks for ids that are not known, as most are, of a store of
// the given number of full files.
func BenchmarkLookup(b *testing.B) {
	for _, files := range []int{0, 8, 56} {
		b.Run(fmt.Sprintf("%d files", files), func(b *testing.B) {
			directory := b.TempDir()
			j, err := Open(Options{Directory: directory, Instance: "bench", Key: testKey})
			require.NoError(b, err)
			random := rand.New(rand.NewPCG(1, 1))
			fresh := func() (id ID) {
				binary.BigEndian.PutUint64(id[:8], random.Uint64())
				binary.BigEndian.PutUint64(id[8:], random.Uint64())
				return id
			}
			link := chain.Link{Origin: "o", Stream: "s", SealedAt: time.Now().UnixNano()}
			for range files {
				table := newIDTable(j.ids.through + 1)
				for range fullTable {
					table.add(&Identity{ID: fresh()}, table.first, &link, chain.Hash{})
				}
				table.through = table.first
				require.NoError(b, j.ids.writeFrozen(table))
			}
			identities := make([]Identity, 1<<16)
			for i := range identities {
				identities[i].ID = fresh()
			}
			i := 0
			for b.Loop() {
				_, found, err := j.ids.lookup(&identities[i&(1<<16-1)], time.Now())
				if found || err != nil {
					b.Fatal(found, err)
				}
				i++
			}
			b.StopTimer()
			require.NoError(b, j.Close())
		})
	}
}
