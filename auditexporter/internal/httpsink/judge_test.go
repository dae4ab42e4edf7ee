// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/auditexporter/internal/httpsink/receivertest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
)

func TestPoisonIsFoundAmongMany(t *testing.T) {
	for _, format := range []Format{FormatNDJSON, FormatOTLPJSON} {
		s, r := start(t, format, receivertest.Config{Poison: isPoison})
		m := sinktest.NewMaker(sinktest.Origin)
		var batch []sink.Entry
		var want []string
		for i := range 200 {
			if i%67 == 5 {
				batch = append(batch, poison(t, m))
				if format == FormatNDJSON {
					want = append(want, string(batch[i].AppendStub(nil)))
				}
				continue
			}
			batch = append(batch, m.Record(t, nil))
			want = append(want, lines(batch[i])...)
		}
		var w ward
		result, err := s.Write(t.Context(), batch, w.refuse)
		require.NoError(t, err)
		assert.Equal(t, sink.Result{Stored: 197, Refused: 3}, counts(result))
		assert.Len(t, w.entries, 3)
		assert.Equal(t, want, r.Lines(), "in order")
		for _, reason := range w.reasons {
			assert.Equal(t, "the endpoint answered 422 Unprocessable Entity to it alone, and takes others", reason)
		}
		assert.Less(t, len(r.Requests()), 100)
	}
}

// An endpoint that refuses all refuses none for its own sake.
func TestEndpointThatRefusesAll(t *testing.T) {
	for _, status := range []int{400, 406, 413, 415, 422, 451} {
		for name, make := range map[string]func(*testing.T, *sinktest.Maker) []sink.Entry{
			"one":       func(t *testing.T, m *sinktest.Maker) []sink.Entry { return m.Records(t, 1) },
			"two":       func(t *testing.T, m *sinktest.Maker) []sink.Entry { return m.Records(t, 2) },
			"many":      func(t *testing.T, m *sinktest.Maker) []sink.Entry { return m.Records(t, 100) },
			"with ours": func(t *testing.T, m *sinktest.Maker) []sink.Entry { return append(m.Records(t, 2), m.Control(t)) },
			"ours first": func(t *testing.T, m *sinktest.Maker) []sink.Entry {
				return append([]sink.Entry{m.Control(t)}, m.Records(t, 2)...)
			},
			"checkpoint too": func(t *testing.T, m *sinktest.Maker) []sink.Entry { return append(m.Records(t, 2), m.Checkpoint(t)) },
		} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				s, r := start(t, FormatNDJSON, receivertest.Config{})
				batch := make(t, sinktest.NewMaker(sinktest.Origin))
				r.Always(&receivertest.Fault{Status: status, Body: "hush"})
				for range 3 {
					_, err := s.Write(t.Context(), batch, noRefusal)
					require.ErrorIs(t, err, sink.ErrOperator)
					require.ErrorContains(t, err, fmt.Sprint(status))
					require.ErrorContains(t, err, "`http::")
					assertNoSecrets(t, err)
				}
				assert.Less(t, len(r.Requests()), 60)
				r.Always(nil)
				write(t, s, batch...)
				assert.ElementsMatch(t, lines(batch...), r.Lines())
			})
		}
	}
}

// It took records until it was set up anew: what it refuses now is not poison.
func TestEndpointThatBeganToRefuse(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{})
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Records(t, 5)...)
	r.Always(&receivertest.Fault{Status: 422})
	batch := m.Records(t, 3)
	_, err := s.Write(t.Context(), batch, noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	require.ErrorContains(t, err, "also to what it should take")
	keys := map[string]bool{}
	for _, request := range r.Requests() {
		keys[request.Header.Get("Idempotency-Key")] = true
	}
	assert.Len(t, keys, len(r.Requests()), "a key that is known would not say that it is taken")
	r.Always(nil)
	write(t, s, batch...)
}

// It goes on taking what is ours and refuses all clients: an outage as well.
func TestEndpointThatBeganToRefuseClients(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{})
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Record(t, nil), m.Control(t), m.Checkpoint(t))
	r.SetPoison(func(line string) bool { return strings.Contains(line, "invoice.viewed") })
	batch := append(m.Records(t, 3), m.Control(t))
	_, err := s.Write(t.Context(), batch, noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	r.SetPoison(nil)
	write(t, s, batch...)
}

// A line that no verifier would read is not sent.
func TestLineTooLongForVerifiers(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{})
	s.form.mostBytes = 2000
	m := sinktest.NewMaker(sinktest.Origin)
	long := m.Record(t, func(r plog.LogRecord) { r.Body().SetStr(strings.Repeat("x", 2000)) })
	batch := []sink.Entry{m.Record(t, nil), long, m.Record(t, nil)}
	var w ward
	result, err := s.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 2, Refused: 1}, counts(result))
	require.Len(t, w.reasons, 1)
	assert.Contains(t, w.reasons[0], "longer than the 2000 that a verifier reads")
	assert.Equal(t, []string{lines(batch[0])[0], string(long.AppendStub(nil)), lines(batch[2])[0]}, r.Lines())
	assert.Len(t, r.Requests(), 1)
	_, err = s.Replay(t.Context(), &long)
	require.ErrorIs(t, err, sink.ErrRefused)
	s.form.mostBytes = 4000
	_, err = s.Replay(t.Context(), &long)
	require.NoError(t, err)

	full := errors.New("quarantine is full")
	s.form.mostBytes = 2000
	next := m.Record(t, func(r plog.LogRecord) { r.Body().SetStr(strings.Repeat("x", 2000)) })
	_, err = s.Write(t.Context(), []sink.Entry{next}, func(*sink.Entry, string) error { return full })
	require.ErrorIs(t, err, full)
	assert.Len(t, r.Lines(), 4)
}

// What is refused, and taken when it comes once more, is not poison.
func TestRefusalThatPasses(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{})
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Record(t, nil))
	r.Next(receivertest.Fault{Status: 400})
	e := m.Record(t, nil)
	assert.Equal(t, 1, write(t, s, e).Stored)
	assert.Contains(t, r.Lines(), lines(e)[0])
}

// Poison that comes first, when nothing was taken yet.
func TestPoisonAtFirst(t *testing.T) {
	for name, c := range map[string]struct {
		make func(*testing.T, *sinktest.Maker) []sink.Entry
		want sink.Result
	}{
		"alone": {
			func(t *testing.T, m *sinktest.Maker) []sink.Entry { return []sink.Entry{poison(t, m)} },
			sink.Result{Refused: 1},
		},
		"before a record": {
			func(t *testing.T, m *sinktest.Maker) []sink.Entry {
				return []sink.Entry{poison(t, m), m.Record(t, nil)}
			},
			sink.Result{Refused: 1, Stored: 1},
		},
		"before a checkpoint": {
			func(t *testing.T, m *sinktest.Maker) []sink.Entry { return []sink.Entry{poison(t, m), m.Checkpoint(t)} },
			sink.Result{Refused: 1, Checkpoints: 1},
		},
		"a run before others": {
			func(t *testing.T, m *sinktest.Maker) []sink.Entry {
				var batch []sink.Entry
				for range 12 {
					batch = append(batch, poison(t, m))
				}
				return append(batch, m.Records(t, 12)...)
			},
			sink.Result{Refused: 12, Stored: 12},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := start(t, FormatNDJSON, receivertest.Config{Poison: isPoison})
			batch := c.make(t, sinktest.NewMaker(sinktest.Origin))
			var w ward
			result, err := s.Write(t.Context(), batch, w.refuse)
			require.NoError(t, err)
			assert.Equal(t, c.want, counts(result))
			assert.Len(t, r.Lines(), len(batch))
		})
	}
}

// All of the first records are refused, one by one: that is how a wrong format
// looks, though the endpoint may have taken what is ours.
func TestManyRefusedAndNoneTaken(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{Poison: isPoison})
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Control(t), m.Checkpoint(t))
	var batch []sink.Entry
	for range maxTried {
		batch = append(batch, poison(t, m))
	}
	_, err := s.Write(t.Context(), batch, noRefusal)
	require.ErrorIs(t, err, sink.ErrOperator)
	require.ErrorContains(t, err, "each of 8 records")
	assert.Len(t, r.Lines(), 2)
	// One that is taken tells them apart.
	batch = append(batch, m.Record(t, nil))
	var w ward
	result, err := s.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Refused: 8, Stored: 1}, counts(result))
}

func TestOursAreNeverRefused(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{})
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Records(t, 3)...)
	r.SetPoison(func(line string) bool {
		return strings.Contains(line, "heartbeat") || strings.HasPrefix(line, `{"checkpoint"`)
	})
	for _, e := range []sink.Entry{m.Control(t), m.Checkpoint(t)} {
		_, err := s.Write(t.Context(), []sink.Entry{e}, noRefusal)
		require.ErrorIs(t, err, sink.ErrOperator)
		require.ErrorContains(t, err, "what the collector itself sealed")
	}
}

func TestStubThatIsRefused(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{Poison: func(line string) bool {
		return isPoison(line) || strings.Contains(line, `"gone":`)
	}})
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Record(t, nil))
	e := poison(t, m)
	var w ward
	result, err := s.Write(t.Context(), []sink.Entry{e}, w.refuse)
	require.ErrorIs(t, err, sink.ErrOperator)
	require.ErrorContains(t, err, "stub")
	assert.Zero(t, result.Refused)
	r.SetPoison(isPoison)
	result, err = s.Write(t.Context(), []sink.Entry{e}, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Refused: 1}, counts(result))
}

// The endpoint refuses and goes down while it is judged.
func TestOutageWhileJudging(t *testing.T) {
	for _, fault := range []receivertest.Fault{{Status: 503}, {Status: 401}} {
		s, r := start(t, FormatNDJSON, receivertest.Config{Poison: isPoison})
		m := sinktest.NewMaker(sinktest.Origin)
		write(t, s, m.Record(t, nil))
		e := poison(t, m)
		r.Next(receivertest.Fault{Status: 422}, fault) // the record, the witness
		_, err := s.Write(t.Context(), []sink.Entry{e}, noRefusal)
		require.Error(t, err)
		r.Next(receivertest.Fault{Status: 422}, receivertest.Fault{Status: 200}, fault) // and the record once more
		_, err = s.Write(t.Context(), []sink.Entry{e}, noRefusal)
		require.Error(t, err)
		var w ward
		_, err = s.Write(t.Context(), []sink.Entry{e}, w.refuse)
		require.NoError(t, err)
		assert.Len(t, w.entries, 1)
	}
}

// While attempts are cut short, the search for poison gets on.
func TestSearchGoesOnInTheNextAttempt(t *testing.T) {
	s, r := start(t, FormatNDJSON, receivertest.Config{Poison: isPoison})
	m := sinktest.NewMaker(sinktest.Origin)
	batch := append([]sink.Entry{poison(t, m)}, m.Records(t, 127)...)
	attempts := 0
	for ; s.window > 1; attempts++ {
		r.Next(receivertest.Fault{Status: 422}, receivertest.Fault{Status: 503})
		_, err := s.Write(t.Context(), batch, noRefusal)
		require.Error(t, err)
		require.Less(t, attempts, 20)
	}
	var w ward
	result, err := s.Write(t.Context(), batch, w.refuse)
	require.NoError(t, err)
	assert.Equal(t, sink.Result{Stored: 127, Refused: 1}, counts(result))
}

func TestConflicts(t *testing.T) {
	m := sinktest.NewMaker(sinktest.Origin)
	e, checkpoint := m.Record(t, nil), m.Checkpoint(t)
	other := strings.Repeat("0f", 32)
	integrity := func(hash string) string { return `{"integrity_hash":"` + hash + `"}` }
	for name, c := range map[string]struct {
		entry sink.Entry
		body  string
		want  error // nil: it is stored
		busy  bool
	}{
		"same hash":                 {entry: e, body: `{"hash":"` + e.Hash.String() + `"}`},
		"same hash of a checkpoint": {entry: checkpoint, body: `{"hash":"` + hashOf(&checkpoint).String() + `"}`},
		"other hash":                {entry: e, body: `{"hash":"` + other + `"}`, want: sink.ErrConflict},
		"other checkpoint":          {entry: checkpoint, body: `{"hash":"` + other + `"}`, want: sink.ErrConflict},
		"same integrity hash":       {entry: e, body: integrity(integrityOf(t, &e))},
		"other integrity hash":      {entry: e, body: integrity(other), want: sink.ErrConflict},
		"of a checkpoint":           {entry: checkpoint, body: integrity(other), busy: true},
		"no body":                   {entry: e, busy: true},
		"no hash":                   {entry: e, body: `{"error":"hush"}`, busy: true},
		"not a hash":                {entry: e, body: `{"hash":"hush"}`, busy: true},
		"upper case":                {entry: e, body: `{"hash":"` + strings.ToUpper(other) + `"}`, busy: true},
		"no JSON":                   {entry: e, body: `<hush>`, busy: true},
		"a list":                    {entry: e, body: `[]`, busy: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := start(t, FormatNDJSON, receivertest.Config{})
			r.Next(receivertest.Fault{Status: http.StatusConflict, Body: c.body})
			result, err := s.Write(t.Context(), []sink.Entry{c.entry}, noRefusal)
			switch {
			case c.busy:
				require.ErrorContains(t, err, "409 Conflict without the `hash`")
				assert.NotErrorIs(t, err, sink.ErrConflict)
				write(t, s, c.entry)
			case c.want != nil:
				require.ErrorIs(t, err, c.want)
				require.ErrorContains(t, err, sinktest.Origin)
			default:
				require.NoError(t, err)
				assert.Equal(t, sink.Result{Repeated: 1}, counts(result))
				write(t, s, c.entry)
				assert.Len(t, r.Requests(), 1)
			}
			if err != nil {
				assertNoSecrets(t, err)
			}
		})
	}
}

// A batch with one record in conflict is split until that is named; the others
// are stored.
func TestConflictInABatch(t *testing.T) {
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 9)
	s, r := start(t, FormatNDJSON, receivertest.Config{})
	forged := sinktest.Forge(t, &batch[6])
	write(t, s, forged)
	again := open(t, testConfig(r, FormatNDJSON)) // which knows nothing of it
	result, err := again.Write(t.Context(), batch, noRefusal)
	require.ErrorIs(t, err, sink.ErrConflict)
	require.ErrorContains(t, err, "index 6")
	assert.Equal(t, sink.Result{Stored: 6}, counts(result))
	assert.Equal(t, append(lines(forged), lines(batch[:6]...)...), r.Lines(), "nothing is written over")
}

func TestPartialSuccess(t *testing.T) {
	m := sinktest.NewMaker(sinktest.Origin)
	batch := m.Records(t, 4)
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{
		"none":             {`{}`, true},
		"nothing":          {``, true},
		"text":             {`stored`, true},
		"a warning alone":  {`{"partialSuccess":{"errorMessage":"hush"}}`, true},
		"zero":             {`{"partialSuccess":{"rejectedLogRecords":"0"}}`, true},
		"rejected":         {`{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"hush"}}`, false},
		"rejected, number": {`{"partialSuccess":{"rejectedLogRecords":1}}`, false},
		"too long":         {`{"partialSuccess":{"errorMessage":"` + strings.Repeat("hush", maxAnswer) + `"}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := start(t, FormatOTLPJSON, receivertest.Config{})
			r.Always(&receivertest.Fault{Status: 200, Body: c.body})
			_, err := s.Write(t.Context(), batch, noRefusal)
			if c.ok {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			assertNoSecrets(t, err)
			r.Always(nil)
			write(t, s, batch...)
			assert.ElementsMatch(t, lines(batch...), r.Lines())
		})
	}
}

// One that alone is rejected in a partial success is poison as any other.
func TestPartialSuccessForOne(t *testing.T) {
	s, r := start(t, FormatOTLPJSON, receivertest.Config{})
	m := sinktest.NewMaker(sinktest.Origin)
	write(t, s, m.Record(t, nil))
	rejected := receivertest.Fault{Status: 200, Body: `{"partialSuccess":{"rejectedLogRecords":"1"}}`}
	r.Next(rejected, receivertest.Fault{Status: 200}, rejected) // the record, the witness, the record
	var w ward
	_, err := s.Write(t.Context(), m.Records(t, 1), w.refuse)
	require.NoError(t, err)
	require.Len(t, w.reasons, 1)
	assert.Contains(t, w.reasons[0], "partial success")
}
