// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/auditexporter/internal/httpsink/receivertest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
)

// mishaps are what an endpoint and the way to it do to requests, beside what is
// wrong with their records.
var mishaps = []receivertest.Fault{
	{Status: http.StatusServiceUnavailable},
	{Status: http.StatusGatewayTimeout, Stored: true},
	{Status: http.StatusTooManyRequests},
	{Status: http.StatusUnauthorized},
	{Status: http.StatusNotFound},
	{Status: http.StatusFound},
	{Status: http.StatusRequestEntityTooLarge},
	{Status: http.StatusConflict},
	{Reset: true},
	{Reset: true, Stored: true},
}

// An endpoint that fails at random, with poison among the records and sinks that
// start anew: everything is there once, and nothing but poison is refused.
func TestChaos(t *testing.T) {
	for seed := range uint64(20) {
		for _, format := range []Format{FormatNDJSON, FormatOTLPJSON} {
			t.Run(fmt.Sprintf("%d %s", seed, format), func(t *testing.T) { chaos(t, seed, format) })
		}
	}
}

func chaos(t *testing.T, seed uint64, format Format) {
	random := rand.New(rand.NewPCG(seed, 1))
	r := receivertest.New(t, receivertest.Config{Format: string(format), Poison: isPoison, ConflictOnRepeat: seed%3 == 0})
	trouble := rand.New(rand.NewPCG(seed, 2)) // used by the endpoint alone
	r.Each(func(request *receivertest.Request) *receivertest.Fault {
		fault := &mishaps[trouble.IntN(len(mishaps))]
		if trouble.IntN(4) > 0 || fault.Status == http.StatusRequestEntityTooLarge && len(request.Entries) < 2 {
			return nil
		}
		return fault
	})
	m := sinktest.NewMaker(sinktest.Origin)
	config := testConfig(r, format)
	config.MaxRequestRecords = 1 + random.IntN(20)
	config.remember = 64
	s := open(t, config)
	var want []string
	poisons := map[uint64]bool{}
	var w ward
	for range 8 {
		batch := []sink.Entry{m.Control(t)}
		for range random.IntN(30) {
			if random.IntN(15) == 0 {
				batch = append(batch, poison(t, m))
				continue
			}
			batch = append(batch, m.Record(t, nil))
		}
		batch = append(batch, m.Checkpoint(t))
		for i := range batch {
			e := &batch[i]
			switch {
			case !isPoison(string(e.Event)):
				want = append(want, string(e.AppendLine(nil)))
				continue
			case format == FormatNDJSON:
				want = append(want, string(e.AppendStub(nil)))
			}
			poisons[e.Link.Index] = true
		}
		for attempts := 0; ; attempts++ {
			require.Less(t, attempts, 500)
			if random.IntN(10) == 0 {
				s = open(t, config)
			}
			_, err := s.Write(t.Context(), batch, w.refuse)
			if err == nil {
				break
			}
			require.NotErrorIs(t, err, sink.ErrConflict)
		}
	}
	got := r.Lines()
	slices.Sort(want)
	slices.Sort(got)
	assert.True(t, slices.Equal(want, got), "%d lines, want %d", len(got), len(want))
	refused := map[uint64]bool{}
	for i := range w.entries {
		refused[w.entries[i].Link.Index] = true
	}
	assert.Equal(t, poisons, refused)
}
