// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor/processortest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// sinkFake stores what it is given by coordinate, as an exporter would, and
// fails while down is set.
type sinkFake struct {
	mu          sync.Mutex
	down        error
	records     []sealedRecord
	checkpoints []string
	arrived     chan struct{} // capacity 1
}

type sealedRecord struct {
	link  chain.Link
	hash  string
	event string
	id    string
}

func newSinkFake() *sinkFake { return &sinkFake{arrived: make(chan struct{}, 1)} }

func (*sinkFake) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *sinkFake) ConsumeLogs(_ context.Context, logs plog.Logs) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		select {
		case s.arrived <- struct{}{}:
		default:
		}
	}()
	if s.down != nil {
		return s.down
	}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if err := s.store(resource, scope, record); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *sinkFake) store(resource plog.ResourceLogs, scope plog.ScopeLogs, record plog.LogRecord) error {
	get := func(name string) pcommon.Value {
		value, _ := record.Attributes().Get(name)
		return value
	}
	if note, found := record.Attributes().Get(audit.AttributeChainCheckpoint); found {
		s.checkpoints = append(s.checkpoints, note.Str())
		return nil
	}
	prev, err := chain.ParseHash(get(audit.AttributeChainPrev).Str())
	if err != nil {
		return err
	}
	var encoder canonical.Encoder
	if err := encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()); err != nil {
		return err
	}
	bytes, _, err := encoder.Append(nil, record)
	if err != nil {
		return err
	}
	link := chain.Link{
		Origin:   get(audit.AttributeChainOrigin).Str(),
		Index:    uint64(get(audit.AttributeChainIndex).Int()),
		Stream:   get(audit.AttributeChainStream).Str(),
		Seq:      uint64(get(audit.AttributeChainSeq).Int()),
		SealedAt: get(audit.AttributeChainSealedAt).Int(),
		Prev:     prev,
		Digest:   sha256.Sum256(bytes),
	}
	s.records = append(s.records, sealedRecord{
		link: link, hash: get(audit.AttributeChainHash).Str(),
		event: record.EventName(), id: get(audit.AttributeRecordID).Str(),
	})
	return nil
}

func (s *sinkFake) setDown(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

// waitFor blocks until the sink's content satisfies done.
func (s *sinkFake) waitFor(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		ok := done()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-s.arrived:
		case <-deadline:
			t.Fatal("the sink did not get what it should")
		}
	}
}

// check says that what the sink holds is one sound log: dense indexes per
// origin, dense chained streams over all of them, and signed roots that fit.
func (s *sinkFake) check(t *testing.T, key ed25519.PublicKey) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	trees := map[string]*chain.Tree{}
	roots := map[string]chain.Hash{}
	heads := map[string]chain.Head{}
	for _, record := range s.records {
		tree := trees[record.link.Origin]
		if tree == nil {
			tree = new(chain.Tree)
			trees[record.link.Origin] = tree
		}
		require.Equal(t, tree.Size(), record.link.Index)
		head := heads[record.link.Stream]
		require.Equal(t, head.Seq+1, record.link.Seq, record.link.Stream)
		require.Equal(t, head.Hash, record.link.Prev)
		hash := record.link.Hash()
		require.Equal(t, hash.String(), record.hash)
		heads[record.link.Stream] = chain.Head{Seq: record.link.Seq, Hash: hash}
		tree.Append(hash)
		roots[fmt.Sprint(record.link.Origin, tree.Size())] = tree.Root()
	}
	require.NotEmpty(t, s.checkpoints)
	for _, note := range s.checkpoints {
		c, _, err := chain.OpenCheckpoint([]byte(note), []ed25519.PublicKey{key})
		require.NoError(t, err)
		require.Equal(t, roots[fmt.Sprint(c.Origin, c.Size)], c.Root)
	}
}

func testConfig(t *testing.T, directory string) *Config {
	t.Helper()
	config := createDefaultConfig().(*Config)
	config.Journal.Directory = directory
	config.Chain.Instance = "test"
	return config
}

func startProcessor(t testing.TB, config *Config, next consumer.Logs) *auditProcessor {
	t.Helper()
	p, err := newProcessor(processortest.NewNopSettings(metadata.Type), config, next)
	require.NoError(t, err)
	require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
	return p
}

func publicKey(t *testing.T, directory string) ed25519.PublicKey {
	t.Helper()
	key, err := readKey(filepath.Join(directory, keyFile))
	require.NoError(t, err)
	return key.Public().(ed25519.PublicKey)
}

func event(id string) plog.Logs {
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	resource.Resource().Attributes().PutStr("service.name", "billing")
	record := resource.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName("user.login")
	record.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
	attributes := record.Attributes()
	attributes.PutStr(audit.AttributeRecordID, id)
	attributes.PutStr(audit.AttributeActorID, "alice")
	attributes.PutStr(audit.AttributeActorType, "user")
	attributes.PutStr(audit.AttributeAction, "LOGIN")
	attributes.PutStr(audit.AttributeOutcome, "success")
	return logs
}

func TestLivesOfOneLog(t *testing.T) {
	directory := t.TempDir()
	sink := newSinkFake()
	const lives, events = 3, 5
	for life := range lives {
		p := startProcessor(t, testConfig(t, directory), sink)
		for i := range events {
			filled := &receipt.Receipt{Tenant: "acme", IntegrityHash: true}
			id := fmt.Sprintf("%d-%d", life, i)
			require.NoError(t, p.ConsumeLogs(receipt.NewContext(t.Context(), filled), event(id)))
			require.Len(t, filled.Results, 1)
			result := filled.Results[0]
			require.True(t, result.Sealed)
			require.Equal(t, id, result.RecordID)
			require.Equal(t, "tenant:acme", result.Link.Stream)
			require.Equal(t, result.Link.Hash(), result.Hash)
			require.NotZero(t, result.IntegrityHash)
		}
		require.NoError(t, p.Shutdown(t.Context()))
		require.NoError(t, p.Shutdown(t.Context()), "twice")
	}
	sink.check(t, publicKey(t, directory))
	require.Len(t, sink.records, lives*(events+2))
	require.Equal(t, audit.EventOriginStart, sink.records[0].event)
	require.Equal(t, audit.EventOriginStop, sink.records[len(sink.records)-1].event)

	note, err := os.ReadFile(filepath.Join(directory, checkpointFile))
	require.NoError(t, err)
	require.Equal(t, sink.checkpoints[len(sink.checkpoints)-1], string(note))
}

func TestDeliveryGoesOnAfterAnOutage(t *testing.T) {
	directory := t.TempDir()
	sink := newSinkFake()
	sink.setDown(errors.New("no room"))
	config := testConfig(t, directory)
	config.DrainTimeout = time.Millisecond
	p := startProcessor(t, config, sink)
	require.NoError(t, p.ConsumeLogs(t.Context(), event("kept")), "durable although the sink is down")
	require.NoError(t, p.Shutdown(t.Context()))
	require.Empty(t, sink.records)

	p = startProcessor(t, config, sink)
	sink.setDown(nil)
	sink.waitFor(t, func() bool { return len(sink.records) == 4 }) // start, kept, stop, start
	require.Equal(t, "kept", sink.records[1].id)
	require.NoError(t, p.Shutdown(t.Context()))
	sink.check(t, publicKey(t, directory))
}

func TestStatusToStockReceivers(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Validation.OnInvalid = "reject"
	p := startProcessor(t, config, newSinkFake())
	defer func() { require.NoError(t, p.Shutdown(t.Context())) }()

	invalid := event("x")
	invalid.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().Remove(audit.AttributeActorID)
	err := p.ConsumeLogs(t.Context(), invalid)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, audit.AttributeActorID)

	filled := &receipt.Receipt{}
	ctx := receipt.NewContext(t.Context(), filled)
	require.NoError(t, p.ConsumeLogs(ctx, event("y")))
	require.Equal(t, codes.Unavailable, status.Code(p.ConsumeLogs(ctx, event("y"))), "filled twice")
}

func TestJournalOfAnotherPipeline(t *testing.T) {
	directory := t.TempDir()
	p := startProcessor(t, testConfig(t, directory), newSinkFake())
	defer func() { require.NoError(t, p.Shutdown(t.Context())) }()
	second, err := newProcessor(processortest.NewNopSettings(metadata.Type), testConfig(t, directory), newSinkFake())
	require.NoError(t, err)
	require.ErrorContains(t, second.Start(t.Context(), componenttest.NewNopHost()), "journal::directory")
	require.NoError(t, second.Shutdown(t.Context()))
}

// Of two that start on a new directory one gets it, and its key.
func TestStartersOfANewDirectory(t *testing.T) {
	for range 50 {
		directory := t.TempDir()
		var starters sync.WaitGroup
		keys := make(chan ed25519.PrivateKey, 2)
		for range 2 {
			starters.Go(func() {
				key, err := loadKey(testConfig(t, directory))
				if err != nil {
					t.Error(err)
				}
				keys <- key
			})
		}
		starters.Wait()
		first, second := <-keys, <-keys
		require.Equal(t, first, second)
		entries, err := os.ReadDir(directory)
		require.NoError(t, err)
		require.Len(t, entries, 1)
	}
}

func TestLostKeyIsNotReplaced(t *testing.T) {
	directory := t.TempDir()
	p := startProcessor(t, testConfig(t, directory), newSinkFake())
	require.NoError(t, p.Shutdown(t.Context()))
	require.NoError(t, os.Remove(filepath.Join(directory, keyFile)))
	p, err := newProcessor(processortest.NewNopSettings(metadata.Type), testConfig(t, directory), newSinkFake())
	require.NoError(t, err)
	require.ErrorContains(t, p.Start(t.Context(), componenttest.NewNopHost()), "restore the key")
	require.NoError(t, p.Shutdown(t.Context()))
}

func TestHeartbeat(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Chain.Heartbeat = time.Second
	sink := newSinkFake()
	p := startProcessor(t, config, sink)
	sink.waitFor(t, func() bool { return len(sink.records) >= 2 })
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, audit.EventOriginHeartbeat, sink.records[1].event)
	sink.check(t, publicKey(t, config.Journal.Directory))
}

// A receiver that gave up waiting for its handlers leaves some behind.
func TestCallersAfterShutdown(t *testing.T) {
	sink := newSinkFake()
	p := startProcessor(t, testConfig(t, t.TempDir()), sink)
	var late sync.WaitGroup
	late.Go(func() {
		for i := 0; status.Code(p.ConsumeLogs(context.Background(), event(fmt.Sprint(i)))) != codes.Unavailable; i++ {
		}
	})
	require.NoError(t, p.Shutdown(t.Context()))
	late.Wait()
	require.Equal(t, codes.Unavailable, status.Code(p.ConsumeLogs(t.Context(), event("late"))))
	require.NoError(t, p.Shutdown(t.Context()), "twice")
	require.Equal(t, audit.EventOriginStop, sink.records[len(sink.records)-1].event)
}

// What a second opener finds out must not cost the first one its public key.
func TestSecondOpenerLeavesTheVerifierKey(t *testing.T) {
	directory, other := t.TempDir(), t.TempDir()
	p := startProcessor(t, testConfig(t, directory), newSinkFake())
	defer func() { require.NoError(t, p.Shutdown(t.Context())) }()
	before, err := os.ReadFile(filepath.Join(directory, verifierFile))
	require.NoError(t, err)

	stranger := filepath.Join(other, keyFile)
	require.NoError(t, ensureKey(other, stranger))
	config := testConfig(t, directory)
	config.Chain.Signing.KeyFile = stranger
	second, err := newProcessor(processortest.NewNopSettings(metadata.Type), config, newSinkFake())
	require.NoError(t, err)
	require.ErrorContains(t, second.Start(t.Context(), componenttest.NewNopHost()), "journal::directory")
	require.NoError(t, second.Shutdown(t.Context()))
	after, err := os.ReadFile(filepath.Join(directory, verifierFile))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
}

// A log keeps its key: another one, or a forgotten setting, is not taken in
// silence, and leaves what verifiers trust as it was.
func TestAnotherSigningKeyIsRefused(t *testing.T) {
	directory, other := t.TempDir(), t.TempDir()
	require.NoError(t, startProcessor(t, testConfig(t, directory), newSinkFake()).Shutdown(t.Context()))
	path := filepath.Join(directory, verifierFile)
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	config := testConfig(t, directory)
	config.Chain.Signing.KeyFile = filepath.Join(other, keyFile)
	require.NoError(t, ensureKey(other, config.Chain.Signing.KeyFile))
	p, err := newProcessor(processortest.NewNopSettings(metadata.Type), config, newSinkFake())
	require.NoError(t, err)
	require.ErrorContains(t, p.Start(t.Context(), componenttest.NewNopHost()), "the key is not the one that this journal's log is signed with")
	require.NoError(t, p.Shutdown(t.Context()))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))

	require.NoError(t, startProcessor(t, testConfig(t, directory), newSinkFake()).Shutdown(t.Context()), "its own key is taken again")
}

// A clock that is set back must not stop the heartbeat until it has caught up.
func TestHeartbeatWhenTheClockIsSetBack(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Chain.Heartbeat = time.Second
	sink := newSinkFake()
	p, err := newProcessor(processortest.NewNopSettings(metadata.Type), config, sink)
	require.NoError(t, err)
	p.now = func() time.Time { return time.Now().Add(time.Hour) } // what sealed was ahead of what is measured
	require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
	sink.waitFor(t, func() bool { return len(sink.records) >= 2 })
	require.NoError(t, p.Shutdown(t.Context()))
	require.Equal(t, audit.EventOriginHeartbeat, sink.records[1].event)
}

// A conflict lasts until the sink has taken what it is about, whatever else
// goes wrong in between; and it is reported, whatever went wrong before.
func TestConflictLasts(t *testing.T) {
	other := errors.New("no room")
	failures := []error{other, fmt.Errorf("sink: %w", receipt.ErrConflict), other, other}
	attempts, attempt := make(chan struct{}), 0
	next, err := consumer.NewLogs(func(context.Context, plog.Logs) error {
		<-attempts
		if attempt++; attempt > len(failures) {
			return nil
		}
		return failures[attempt-1]
	})
	require.NoError(t, err)
	p, err := newProcessor(processortest.NewNopSettings(metadata.Type), testConfig(t, t.TempDir()), next)
	require.NoError(t, err)
	host := &statusHost{Host: componenttest.NewNopHost()}
	require.NoError(t, p.Start(t.Context(), host))

	for range failures { // one begins only after the one before was judged
		attempts <- struct{}{}
	}
	require.Equal(t, codes.Unavailable, status.Code(p.ConsumeLogs(t.Context(), event("x"))))
	require.Equal(t, 1, host.conflicts())
	attempts <- struct{}{} // taken
	require.NoError(t, p.sealControl(t.Context(), heartbeatRecord()))
	attempts <- struct{}{}
	close(attempts)
	require.NoError(t, p.ConsumeLogs(t.Context(), event("x")))
	require.NoError(t, p.Shutdown(t.Context()))
}

// statusHost counts what is reported.
type statusHost struct {
	component.Host
	mu     sync.Mutex
	events []*componentstatus.Event
}

func (h *statusHost) Report(event *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
}

func (h *statusHost) conflicts() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, event := range h.events {
		if errors.Is(event.Err(), receipt.ErrConflict) {
			n++
		}
	}
	return n
}

// What the checkpoint file names is never delivered again: an older checkpoint
// would take its place.
func TestCheckpointFileIsNotAheadOfTheCursor(t *testing.T) {
	directory, crashed := t.TempDir(), t.TempDir()
	sink := newSinkFake()
	p := startProcessor(t, testConfig(t, directory), sink)
	path := filepath.Join(directory, checkpointFile)
	require.Eventually(t, func() bool { _, err := os.Stat(path); return err == nil }, time.Minute, time.Millisecond)
	require.NoError(t, os.CopyFS(crashed, os.DirFS(directory)))
	require.NoError(t, p.Shutdown(t.Context()))

	held, err := os.ReadFile(filepath.Join(crashed, checkpointFile))
	require.NoError(t, err)
	sink = newSinkFake()
	require.NoError(t, startProcessor(t, testConfig(t, crashed), sink).Shutdown(t.Context()))
	require.NotContains(t, sink.checkpoints, string(held))
}

// While the sink is down the pending age grows, also where a checkpoint, which
// has no time of its own, is first in hand.
func TestAgeOfACheckpoint(t *testing.T) {
	var age int64
	var f *forwarder
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next, err := consumer.NewLogs(func(context.Context, plog.Logs) error {
		age = f.oldest.Load()
		cancel()
		return errors.New("down")
	})
	require.NoError(t, err)
	p, err := newProcessor(processortest.NewNopSettings(metadata.Type), testConfig(t, t.TempDir()), next)
	require.NoError(t, err)
	f = newForwarder(p, componenttest.NewNopHost())
	pieces := appendPieces(nil, &journal.Frame{Number: 1, Checkpoint: &journal.Checkpoint{}})
	require.Error(t, f.deliver(ctx, pieces))
	require.NotZero(t, age)
	f.oldest.Store(time.Now().Add(time.Hour).UnixNano())
	require.Zero(t, f.age(), "the clock was set back")
}

func TestConcurrentCallersShareGroups(t *testing.T) {
	directory := t.TempDir()
	sink := newSinkFake()
	p := startProcessor(t, testConfig(t, directory), sink)
	const callers, each = 16, 25
	var wait sync.WaitGroup
	for caller := range callers {
		wait.Go(func() {
			for i := range each {
				if err := p.ConsumeLogs(context.Background(), event(fmt.Sprintf("%d-%d", caller, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	require.NoError(t, p.Shutdown(t.Context()))
	sink.check(t, publicKey(t, directory))
	require.Len(t, sink.records, callers*each+2)
}

func TestConfigValidate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"directory": {func(c *Config) { c.Journal.Directory = "" }, "`journal::directory`"},
		"max_bytes": {func(c *Config) { c.Journal.MaxBytes = 1 }, "`journal::max_bytes`"},
		"ack":       {func(c *Config) { c.Ack = "never" }, "`ack`"},
		"drain":     {func(c *Config) { c.DrainTimeout = time.Hour }, "`drain_timeout`"},
		"waits":     {func(c *Config) { c.Ack, c.AckTimeout = ackDelivered, time.Minute }, "`ack_timeout` and `drain_timeout`"},
		"instance":  {func(c *Config) { c.Chain.Instance = "a/b" }, "`chain::instance`"},
		"streams":   {func(c *Config) { c.Chain.MaxStreams = 0 }, "`chain::max_streams`"},
		"heartbeat": {func(c *Config) { c.Chain.Heartbeat = 0 }, "`chain::heartbeat`"},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig(t, t.TempDir())
			test.change(config)
			err := errors.Join(config.Validate(), config.Chain.Validate(), config.Journal.Validate())
			require.ErrorContains(t, err, test.want)
		})
	}
}
