// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

var (
	seedsFlag = flag.Uint64("seeds", 300, "how many seeds TestSimulation runs")
	seedFlag  = flag.Uint64("seed", 0, "the one seed that TestSimulation runs, with its trace")
)

// TestSimulation drives the processor, with its journal and its forwarder,
// through chance clients, sinks, faults and deaths. A seed is the same run every
// time.
func TestSimulation(t *testing.T) {
	shared := newSimulated(t)
	if *seedFlag > 0 {
		synctest.Test(t, func(t *testing.T) {
			s := shared.simulation(t, *seedFlag)
			s.aloud = true
			s.run()
		})
		return
	}
	var next atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			own := newSimulated(t)
			for seed := next.Add(1); seed <= *seedsFlag && !t.Failed(); seed = next.Add(1) {
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { own.simulation(t, seed).run() })
				}) {
					t.Errorf("replay it with: go test ./auditprocessor -run '^TestSimulation$' -seed %d", seed)
				}
			}
			shared.add(own.happened)
		})
	}
	workers.Wait()
	if !t.Failed() && *seedsFlag >= enoughSeeds {
		shared.checkCoverage(t)
	}
}

// enoughSeeds is how many of them meet every fault.
const enoughSeeds = 300

// TestSimulationReplays says that a seed is the same run every time.
func TestSimulationReplays(t *testing.T) {
	shared := newSimulated(t)
	for seed := uint64(1); seed <= *seedsFlag/15; seed++ {
		var traces [3]string
		for i := range traces {
			synctest.Test(t, func(t *testing.T) {
				s := shared.simulation(t, seed)
				s.lines = &strings.Builder{}
				s.run()
				traces[i] = s.lines.String()
			})
		}
		require.Equal(t, traces[0], traces[1], "seed %d", seed)
		require.Equal(t, traces[0], traces[2], "seed %d", seed)
	}
}

// simulated is what simulations share, one after the other: what is expensive
// to make, and what they met.
type simulated struct {
	key      string // file
	public   ed25519.PublicKey
	settings processor.Settings
	configs  []*Config // the processor's, which change from life to life
	stages   []*stages // of each of them

	mu       sync.Mutex
	happened map[string]int // guarded by mu
}

func newSimulated(t *testing.T) *simulated {
	shared := &simulated{
		key: filepath.Join(t.TempDir(), "key"), settings: processortest.NewNopSettings(metadata.Type), happened: map[string]int{},
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	shared.public = key.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(shared.key, pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), 0o600))
	for _, keys := range [][]string{nil, {"favourite colour"}} {
		config := testConfig(t, "set later")
		config.Chain.Signing.KeyFile = shared.key
		config.Redaction.Keys = keys
		made, err := newStages(config.Validation, config.Redaction, config.Limits, time.Now)
		require.NoError(t, err)
		shared.configs, shared.stages = append(shared.configs, config), append(shared.stages, made)
	}
	return shared
}

func (shared *simulated) add(happened map[string]int) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for what, n := range happened {
		shared.happened[what] += n
	}
}

// checkCoverage says that the seeds met everything that they can meet.
func (shared *simulated) checkCoverage(t *testing.T) {
	for _, what := range simEvents() {
		if shared.happened[what] == 0 {
			t.Errorf("no seed met: %s", what)
		}
	}
}

func simEvents() []string {
	all := []string{
		"acknowledged", "delivery pending", "conflict", "unavailable", "the first result again",
		"an event twice in a request", "an id with other content", "cancelled", "killed between steps",
		"restart", "another configuration", "died in recovery", "died in recovery twice in a row", "full disk",
		"quarantined", "quarantined by the processor", "verified",
		deathKill, string(faultdisk.LoseAll), string(faultdisk.LoseNone), string(faultdisk.LoseSome),
	}
	for _, m := range moods[:6] {
		all = append(all, string(m))
	}
	for step, ways := range faultdisk.Failures {
		all = append(all, killedAt(step))
		for _, way := range ways {
			all = append(all, faultdisk.Name(step, way))
		}
	}
	return all
}

const deathKill = "killed"

func killedAt(s faultdisk.Step) string { return "killed at: " + string(s) }

// simulation is one seed. Everything that the processor's goroutines do to the
// outside passes a gate, and the driver opens one gate at a time, when nothing
// else moves: so a seed is one order of events. Time moves only in advance.
type simulation struct {
	*simulated
	t        *testing.T
	seed     uint64
	random   *rand.Rand // the driver's
	verified bool       // the verifier is asked at the end
	aloud    bool
	writing  sync.Mutex
	lines    *strings.Builder // guarded by writing; the trace, where it is wanted

	disk       *faultdisk.Disk
	generation uint64 // of the disk
	weather    simWeather
	processor  *auditProcessor
	counters   *simCounters
	config     int
	ack        string
	begun      []string // origins of the lives whose start succeeded

	sinks     []*modelSink
	poisonous bool

	made, tokens int
	sent         map[string][]simRecord // with an id, by tenant
	running, all []*attempt
	unanswered   []*simRequest
	conflicts    []*attempt
	cutOff, away []*attempt         // that failed in the journal: for now, and for good
	promised     map[string]promise // by id
	promises     []promise

	mu         sync.Mutex
	waiting    []*gate               // guarded by mu
	dying      bool                  // guarded by mu
	complaints []string              // guarded by mu
	seen       map[coordinate]given  // guarded by mu; all that was ever given out
	lives      []string              // guarded by mu; origins, as they became known
	order      []string              // guarded by mu; origins, as their first records were given out
	points     []given               // guarded by mu; checkpoints
	done       map[coordinate]bool   // guarded by mu; taken by all sinks
	gone       map[coordinate]string // guarded by mu; said to be in quarantine, by which sink
}

// gate is where a goroutine of the processor waits for the driver.
type gate struct {
	name string
	open chan struct{}
}

func (shared *simulated) simulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{
		simulated: shared, t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)),
		disk: faultdisk.New(faultdisk.Scratch(t)), sent: map[string][]simRecord{}, promised: map[string]promise{},
		seen: map[coordinate]given{}, done: map[coordinate]bool{}, gone: map[coordinate]string{},
		verified: seed%50 == 0, ack: ackDurable,
	}
	s.disk.Gate = func(step faultdisk.Step) { s.pass(string(step)) }
	s.poisonous = s.random.IntN(3) == 0
	for i := range 1 + s.random.IntN(2) {
		s.sinks = append(s.sinks, newModelSink(i, rand.New(rand.NewPCG(seed, uint64(i+1)))))
	}
	if s.random.IntN(3) == 0 {
		s.ack = ackDelivered
	}
	return s
}

// note adds a line to the trace. A seed writes the same lines every time.
func (s *simulation) note(format string, arguments ...any) {
	if !s.traced() {
		return
	}
	line := fmt.Sprintf(format, arguments...)
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.aloud {
		s.t.Log(line)
	}
	if s.lines != nil {
		s.lines.WriteString(line + "\n")
	}
}

func (s *simulation) traced() bool { return s.aloud || s.lines != nil }

func (s *simulation) happen(what string) {
	s.simulated.mu.Lock()
	defer s.simulated.mu.Unlock()
	s.happened[what]++
}

// complain says that a promise is broken. Any goroutine may.
func (s *simulation) complain(format string, arguments ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complaints = append(s.complaints, fmt.Sprintf(format, arguments...))
}

// pass waits for the driver.
func (s *simulation) pass(name string) {
	if g := s.enter(name); g != nil {
		<-g.open
	}
}

func (s *simulation) enter(name string) *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dying {
		return nil
	}
	g := &gate{name: name, open: make(chan struct{})}
	s.waiting = append(s.waiting, g)
	return g
}

const sinkGate = "sink"

// passSink waits for the driver or for the end of ctx, and says whether it was
// that.
func (s *simulation) passSink(ctx context.Context) (ended bool) {
	g := s.enter(sinkGate)
	if g == nil {
		return true
	}
	select {
	case <-g.open:
		return false
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(other *gate) bool { return other == g })
	return true
}

func (s *simulation) isDying() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dying
}

// settle waits until nothing moves, and looks at what came of it.
func (s *simulation) settle() {
	synctest.Wait()
	s.collect()
}

// openOne opens a gate, if one is there that may be opened.
func (s *simulation) openOne() bool {
	s.mu.Lock()
	gates := slices.DeleteFunc(slices.Clone(s.waiting), func(g *gate) bool { return g.name == sinkGate && s.hangs() })
	if len(gates) == 0 {
		s.mu.Unlock()
		return false
	}
	slices.SortFunc(gates, func(a, b *gate) int { return strings.Compare(a.name, b.name) })
	g := gates[s.random.IntN(len(gates))]
	s.waiting = slices.DeleteFunc(s.waiting, func(other *gate) bool { return other == g })
	s.mu.Unlock()
	s.note("open %s", g.name)
	close(g.open)
	s.settle()
	return true
}

func (s *simulation) hangs() bool {
	return slices.ContainsFunc(s.sinks, func(sink *modelSink) bool { return sink.mood == moodHang })
}

// openAll opens gates until none is left that may be opened.
func (s *simulation) openAll() {
	for range 500 {
		if s.disk.Gone() || !s.openOne() {
			return
		}
	}
	s.complain("the processor does not come to rest")
}

func (s *simulation) advance(d time.Duration) {
	s.note("advance %v", d)
	time.Sleep(d) // the bubble's clock
	s.settle()
}

// run is the whole of a seed.
func (s *simulation) run() {
	s.reopen()
	for range 15 + s.random.IntN(40) {
		s.act()
		if s.disk.Gone() {
			s.die("at a step")
		}
		if s.failed() {
			break
		}
	}
	s.finish()
	s.judge()
	for _, complaint := range s.complaints {
		s.t.Error(complaint)
	}
}

func (s *simulation) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.complaints) > 0
}

// act is one thing that clients, sinks, operators, time or fate do.
func (s *simulation) act() {
	switch chance := s.random.IntN(100); {
	case chance < 22:
		if len(s.running) < 5 {
			s.send(s.newRequest())
		}
	case chance < 32:
		s.retry()
	case chance < 55:
		for range 1 + s.random.IntN(8) {
			if s.disk.Gone() || !s.openOne() {
				break
			}
		}
	case chance < 72:
		s.openAll()
	case chance < 80:
		s.advance([]time.Duration{10 * time.Millisecond, 120 * time.Millisecond, 300 * time.Millisecond, time.Second, 6 * time.Second, 61 * time.Second}[s.random.IntN(6)])
	case chance < 83:
		s.cancelOne()
	case chance < 88:
		sink := s.sinks[s.random.IntN(len(s.sinks))]
		sink.mood = moods[s.random.IntN(len(moods))]
		s.note("%s: %s", sink.name, sink.mood)
	case chance < 93:
		s.changeWeather()
	case chance < 96:
		s.happen("killed between steps")
		s.die("between steps")
	default:
		s.restart()
	}
}

func (s *simulation) retry() {
	if len(s.unanswered) == 0 {
		return
	}
	i := s.random.IntN(len(s.unanswered))
	r := s.unanswered[i]
	s.unanswered = slices.Delete(s.unanswered, i, i+1)
	s.send(r)
}

func (s *simulation) cancelOne() {
	if len(s.running) == 0 {
		return
	}
	s.cancel(s.running[s.random.IntN(len(s.running))])
	s.happen("cancelled")
	s.settle()
}

func (s *simulation) cancel(a *attempt) {
	s.note("request %d is cancelled", a.request.number)
	a.canceled = true
	a.cancel()
}

// simWeather is chance that depends on the step and how often it was asked
// for, and on nothing else.
type simWeather struct {
	often, deadly uint64 // in 1,000
	full          bool
}

func (s *simulation) changeWeather() {
	s.weather = simWeather{often: []uint64{0, 0, 50, 300}[s.random.IntN(4)], deadly: []uint64{0, 300}[s.random.IntN(2)]}
	if s.random.IntN(8) == 0 {
		s.weather = simWeather{full: true}
		s.happen("full disk")
	}
	s.note("weather: %+v", s.weather)
	s.disk.SetWeather(s.weatherOf(s.weather))
}

func (s *simulation) weatherOf(w simWeather) faultdisk.Weather {
	generation := s.generation
	disk := s.disk
	return func(step faultdisk.Step) faultdisk.Fault {
		if w.full {
			return fullDisk(disk, step)
		}
		name := fnv.New64a()
		_, _ = name.Write([]byte(step)) // never fails
		chance := rand.New(rand.NewPCG(s.seed<<20|generation, name.Sum64()+uint64(disk.Asked(step))))
		if chance.Uint64N(1000) >= w.often {
			return faultdisk.Fault{}
		}
		ways := faultdisk.Failures[step]
		fault := faultdisk.Fault{Failure: ways[chance.IntN(len(ways))], Deadly: chance.Uint64N(1000) < w.deadly}
		if fault.Deadly {
			s.happen(killedAt(step))
		}
		return fault
	}
}

// fullDisk has no room until the reserve is given up.
func fullDisk(d *faultdisk.Disk, step faultdisk.Step) faultdisk.Fault {
	full := faultdisk.Fault{Failure: faultdisk.Nothing, Full: true}
	switch step {
	case faultdisk.StepReserve:
		return full
	case faultdisk.StepRemove, faultdisk.StepSyncRemoved, faultdisk.StepTruncate, faultdisk.StepSyncCreated, faultdisk.StepTail:
		return faultdisk.Fault{}
	}
	if d.Live["reserve"] == nil {
		return faultdisk.Fault{}
	}
	return full
}

// clear is weather in which all succeeds.
func (s *simulation) clear() {
	s.note("clear weather")
	s.weather = simWeather{}
	s.disk.SetWeather(nil)
}

// open starts a processor on the disk as it is.
func (s *simulation) open() error {
	config := *s.configs[s.config]
	config.Journal.Directory = s.disk.Directory
	config.Ack = s.ack
	counters := newSimCounters()
	settings := s.settings
	settings.MeterProvider = counters
	telemetry, err := metadata.NewTelemetryBuilder(settings.TelemetrySettings)
	if err != nil {
		return err
	}
	p := &auditProcessor{
		config: &config, settings: settings, logger: zap.NewNop(), telemetry: telemetry, stages: s.stages[s.config],
		next: s, now: time.Now, jitter: func(d time.Duration) time.Duration { return d / 2 }, disk: s.disk, created: time.Now(),
	}
	s.processor, s.counters = p, counters
	err = s.drive(func() error { return p.Start(context.Background(), componenttest.NewNopHost()) })
	if err == nil {
		s.begun = append(s.begun, p.journal.Origin())
		s.mu.Lock()
		s.name(p.journal.Origin())
		s.mu.Unlock()
	}
	return err
}

// drive does what takes a while: it opens gates, and lets time pass, until it
// is done.
func (s *simulation) drive(do func() error) error {
	var err error
	var returned atomic.Bool
	go func() {
		err = do()
		returned.Store(true)
	}()
	s.settle()
	for range 2000 {
		if returned.Load() {
			return err
		}
		if s.disk.Gone() {
			s.openForDead()
		}
		if !s.openOne() && !returned.Load() {
			s.advance(time.Second)
		}
	}
	panic("the processor does not come to an end")
}

// openForDead lets a process that is gone run into the errors of its disk.
func (s *simulation) openForDead() {
	s.mu.Lock()
	s.dying = true
	slices.SortFunc(s.waiting, func(a, b *gate) int { return strings.Compare(a.name, b.name) })
	for _, g := range s.waiting {
		close(g.open)
	}
	s.waiting = nil
	s.mu.Unlock()
	s.settle()
}

// reopen starts processors until one runs. Each attempt may meet bad weather,
// but for the last.
func (s *simulation) reopen() {
	deaths := 0
	for try := 0; ; try++ {
		if try < 4 {
			s.changeWeather()
		} else {
			s.clear()
		}
		err := s.open()
		s.note("open: %v", s.short(err))
		switch {
		case err == nil && !s.disk.Gone():
			s.away, s.cutOff = append(s.away, s.cutOff...), nil // a segment says durably what counts of those before
			return
		case err == nil: // it died as it had just begun
			s.end()
		case !errors.Is(err, faultdisk.ErrFault) && !errors.Is(err, faultdisk.ErrDead) && !errors.Is(err, journal.ErrWrite) && !s.weather.full:
			s.complain("start: %v", err)
		}
		if s.disk.Gone() {
			deaths++
			s.happen("died in recovery")
			if deaths > 1 {
				s.happen("died in recovery twice in a row")
			}
			s.nextDisk()
		}
		if try > 5 {
			s.t.Fatalf("seed %d: no start succeeds: %v", s.seed, err)
		}
	}
}

// short is an error as the trace has it: paths and names differ from run to
// run.
func (s *simulation) short(err error) string {
	for _, known := range []error{faultdisk.ErrDead, faultdisk.ErrFault, journal.ErrWrite, journal.ErrClosed} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if err != nil {
		return "error"
	}
	return "ok"
}

// die ends the process at once, and starts another.
func (s *simulation) die(where string) {
	s.note("death %s", where)
	s.disk.Kill()
	s.end()
	s.nextDisk()
	s.reopen()
}

// end lets the dead process's goroutines end. They cannot touch the disk.
func (s *simulation) end() {
	s.openForDead()
	_ = s.drive(func() error { return s.processor.Shutdown(context.Background()) }) // the disk is gone, and says so
	s.dismiss()
}

// dismiss ends what callers still wait for.
func (s *simulation) dismiss() {
	for _, a := range slices.Clone(s.running) { // settle takes out who returned
		s.cancel(a)
		s.settle()
	}
	if len(s.running) > 0 {
		s.complain("%d callers were not answered", len(s.running))
	}
}

// nextDisk is what the next process finds.
func (s *simulation) nextDisk() {
	s.gather()
	switch s.random.IntN(4) {
	case 0:
		s.happen(deathKill)
		s.disk = s.disk.Survivors()
	case 1:
		s.cutPower(faultdisk.LoseAll)
	case 2:
		s.cutPower(faultdisk.LoseNone)
	default:
		s.cutPower(faultdisk.LoseSome)
	}
	s.generation++
	s.mu.Lock()
	s.dying = false
	s.mu.Unlock()
}

func (s *simulation) cutPower(how faultdisk.Loss) {
	s.note("power cut: %s", how)
	s.happen(string(how))
	s.cutOff = nil
	s.disk = s.disk.PowerCut(s.t, how, s.random)
}

// gather counts the faults of a disk.
func (s *simulation) gather() { s.add(s.disk.Fired()) }

// restart ends the process in peace, as far as disk and sinks let it, and
// starts another, maybe with another configuration.
func (s *simulation) restart() {
	s.note("restart")
	s.happen("restart")
	err := s.drive(func() error { return s.processor.Shutdown(context.Background()) })
	s.note("shutdown: %s", s.short(err))
	s.dismiss()
	if s.disk.Gone() {
		s.openForDead()
		s.nextDisk()
	} else {
		s.reconcile()
	}
	if s.random.IntN(2) == 0 {
		s.config = 1 - s.config
		s.happen("another configuration")
	}
	if s.random.IntN(3) == 0 {
		s.ack = map[string]string{ackDurable: ackDelivered, ackDelivered: ackDurable}[s.ack]
	}
	s.reopen()
}

// finish lets everybody get what they wait for.
func (s *simulation) finish() {
	s.clear()
	for _, sink := range s.sinks {
		sink.mood = moodGood
	}
	for try := 0; s.unfinished() && try < 100 && !s.failed(); try++ {
		s.openAll()
		s.retry()
		s.openAll()
		s.advance(time.Second)
	}
	if len(s.running)+len(s.unanswered) > 0 {
		s.complain("in clear weather %d requests are not answered", len(s.running)+len(s.unanswered))
	}
	err := s.drive(func() error { return s.processor.Shutdown(context.Background()) })
	s.dismiss()
	s.gather()
	if err != nil {
		s.complain("the last shutdown: %v", err)
		return
	}
	if bytes, records := s.processor.journal.Backlog(); bytes != 0 || records != 0 {
		s.complain("the last shutdown leaves %d records of %d bytes", records, bytes)
	}
	s.reconcile()
}

// unfinished says whether somebody waits for an answer or for a delivery.
func (s *simulation) unfinished() bool {
	bytes, _ := s.processor.journal.Backlog()
	return len(s.unanswered)+len(s.running) > 0 || bytes > 0
}

// reconcile checks the counters of a life at its end.
func (s *simulation) reconcile() {
	_, pending := s.processor.journal.Backlog()
	in := s.counters.sum("received") + s.counters.sum("recovered")
	out := s.counters.sum("delivered") + s.counters.sum("duplicate") + s.counters.sum("refused") + s.counters.sum("quarantined") + pending
	if in != out {
		s.complain("received + recovered = %d, but stored + duplicates + refused + quarantined + pending = %d: %v, pending %d",
			in, out, s.counters.all(), pending)
	}
}

// simCounters is a meter that only adds up.
type simCounters struct {
	noop.MeterProvider
	mu   sync.Mutex
	sums map[string]*atomic.Int64
}

func newSimCounters() *simCounters { return &simCounters{sums: map[string]*atomic.Int64{}} }

func (c *simCounters) sum(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sums["otelcol_processor_audit_"+name+"_records"].Load()
}

func (c *simCounters) all() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.sums)) {
		fmt.Fprintf(&b, "%s=%d ", strings.TrimPrefix(name, "otelcol_processor_audit_"), c.sums[name].Load())
	}
	return b.String()
}

// Meter implements metric.MeterProvider.
func (c *simCounters) Meter(string, ...metric.MeterOption) metric.Meter { return simMeter{counters: c} }

type simMeter struct {
	noop.Meter
	counters *simCounters
}

// Int64Counter implements metric.Meter.
func (m simMeter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.counters.mu.Lock()
	defer m.counters.mu.Unlock()
	sum := new(atomic.Int64)
	m.counters.sums[name] = sum
	return simCounter{sum: sum}, nil
}

type simCounter struct {
	noop.Int64Counter
	sum *atomic.Int64
}

// Add implements metric.Int64Counter.
func (c simCounter) Add(_ context.Context, n int64, _ ...metric.AddOption) { c.sum.Add(n) }
