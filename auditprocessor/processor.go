// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/proof"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/journal"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// auditProcessor wires stages, journal and forwarder. ConsumeLogs may be called
// from many goroutines.
type auditProcessor struct {
	config    *Config
	settings  processor.Settings
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder
	stages    *stages
	next      consumer.Logs
	now       func() time.Time                  // of what is sealed; tests set another
	jitter    func(time.Duration) time.Duration // a part of a back-off; tests set another
	disk      durable.Disk                      // of the journal; nil is the real one, tests set another

	// Set by Start. The journal stays: who comes after Shutdown is told so by it.
	journal   *journal.Journal
	instance  string
	forwarder *forwarder
	producers *keyring
	sequences *sequences         // nil: producers' chains are not followed
	stop      context.CancelFunc // ends the heartbeat; nil where nothing runs
	running   sync.WaitGroup

	failures occasional // lines about failures of the journal
	unproven occasional // lines about proofs that failed
	unsaved  occasional // lines about the file of producers' streams
	broken   occasional // lines about producers' chains
	taken    occasional // lines about ids that came with other content

	quarantined quarantineMemory
	published   atomic.Pointer[receipt.Checkpoint] // the newest that the next consumer has taken
	sinks       sinkBoard

	conflict atomic.Bool  // a sink reported receipt.ErrConflict for what is being delivered
	created  time.Time    // with the monotonic clock, which nobody sets back
	sealedAt atomic.Int64 // when the newest record was sealed, nanoseconds since created
}

func newProcessor(settings processor.Settings, config *Config, next consumer.Logs) (*auditProcessor, error) {
	stages, err := newStages(config.Validation, config.Redaction, config.Limits, time.Now)
	if err != nil {
		return nil, err
	}
	stages.proofs = newProofs(&config.Proof)
	telemetry, err := metadata.NewTelemetryBuilder(settings.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return &auditProcessor{
		config: config, settings: settings, logger: settings.Logger,
		telemetry: telemetry, stages: stages, next: next, now: time.Now, jitter: rand.N[time.Duration], created: time.Now(),
	}, nil
}

// Capabilities says that the stages change records in place.
func (p *auditProcessor) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// Start recovers the journal, seals the start record of this life, and begins
// to forward. The collector starts its receivers after it: nothing is taken in
// before the journal is open.
func (p *auditProcessor) Start(_ context.Context, host component.Host) error {
	key, err := loadKey(p.config)
	if err != nil {
		return err
	}
	if p.stages.signing, err = newSigning(&p.config.Sign); err != nil {
		return err
	}
	p.producers = p.keyring()
	if err := p.producers.load(); err != nil {
		return err
	}
	j, err := journal.Open(p.journalOptions(key))
	if err != nil {
		return err
	}
	if err := p.begin(j, key, host); err != nil {
		return errors.Join(err, p.closeSequences(), j.Close())
	}
	return nil
}

// keyring keeps the keys of the stage that verifies proofs.
func (p *auditProcessor) keyring() *keyring {
	return &keyring{
		config: &p.config.Proof, logger: p.logger,
		use: func(ring *proof.Ring) {
			if p.stages.proofs != nil {
				p.stages.proofs.ring.Store(ring)
			}
		},
		failed: func() { p.telemetry.ProcessorAuditKeyFailures.Add(context.Background(), 1) },
	}
}

func (p *auditProcessor) journalOptions(key ed25519.PrivateKey) journal.Options {
	return journal.Options{
		Directory:  p.config.Journal.Directory,
		Instance:   p.config.Chain.Instance,
		Key:        key,
		MaxBytes:   p.config.Journal.MaxBytes,
		MaxStreams: p.config.Chain.MaxStreams,
		IDWindow:   p.config.Idempotency.Window,
		IDBytes:    p.config.Idempotency.MaxBytes,
		Now:        p.now,
		Disk:       p.disk,
		Observe: journal.Observer{
			Committed: func(records, _ int, took time.Duration) {
				p.telemetry.ProcessorAuditGroupRecords.Record(context.Background(), int64(records))
				p.telemetry.ProcessorAuditSyncDuration.Record(context.Background(), took.Seconds())
			},
			Failed: func(err error) {
				p.telemetry.ProcessorAuditJournalFailures.Add(context.Background(), 1)
				if more, due := p.failures.due(time.Now()); due {
					p.logger.Error("journal: nothing is lost, callers were told to retry", zap.Int("since_the_last_line", more), zap.Error(err))
				}
			},
		},
	}
}

func (p *auditProcessor) begin(j *journal.Journal, key ed25519.PrivateKey, host component.Host) error {
	origin, err := chain.ParseOrigin(j.Origin())
	if err != nil {
		return err
	}
	p.instance = origin.Instance
	p.logRecovery(j)
	digest, err := p.config.digest()
	if err != nil {
		return err
	}
	public := key.Public().(ed25519.PublicKey)
	if err := writeVerifier(filepath.Join(p.config.Journal.Directory, verifierFile), public); err != nil {
		return err
	}
	p.journal = j
	p.stages.identifier = j.Identifier()
	if p.config.Sequence.Enabled {
		if p.sequences, err = openSequences(&p.config.Sequence, p.config.Journal.Directory, j); err != nil {
			return err
		}
	}
	if err := p.openRefused(); err != nil {
		return err
	}
	if err := p.sealControl(context.Background(), startRecord(j.Previous(), p.settings.BuildInfo.Version, digest, public)); err != nil {
		return err
	}
	p.forwarder = newForwarder(p, host)
	if err := p.registerGauges(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.forwarder.start()
	p.running.Add(1)
	go p.heartbeat(ctx)
	if p.stages.proofs != nil {
		p.running.Go(func() { p.producers.keep(ctx) })
	}
	return nil
}

func (p *auditProcessor) openRefused() error {
	damaged, err := p.quarantined.open(p.config.Journal.Directory)
	if damaged > 0 {
		p.logger.Warn("lines of the file of refused records cannot be read: who asks for one of them may be told that it was delivered",
			zap.Int("lines", damaged))
	}
	return err
}

func (p *auditProcessor) logRecovery(j *journal.Journal) {
	bytes, records := j.Backlog()
	previous := j.Previous()
	p.logger.Info("journal is open",
		zap.String("origin", j.Origin()),
		zap.String("previous_life_ended", string(previous.Cause)),
		zap.Int64("undelivered_records", records),
		zap.Int64("undelivered_bytes", bytes),
		zap.Int64("torn_bytes", j.Torn()))
	p.telemetry.ProcessorAuditRecoveredRecords.Add(context.Background(), records)
}

func (p *auditProcessor) sealControl(ctx context.Context, record controlRecord) error {
	if _, err := record.seal(ctx, p.journal, p.instance, p.now()); err != nil {
		return err
	}
	p.hasSealed()
	return nil
}

func (p *auditProcessor) hasSealed() { p.sealedAt.Store(int64(time.Since(p.created))) }

// silence says how long ago the newest record was sealed.
func (p *auditProcessor) silence() time.Duration {
	return time.Since(p.created) - time.Duration(p.sealedAt.Load())
}

// heartbeat seals a record whenever the log was silent for too long, so that
// silence is provable.
func (p *auditProcessor) heartbeat(ctx context.Context) {
	defer p.running.Done()
	for {
		timer := time.NewTimer(max(p.config.Chain.Heartbeat-p.silence(), time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if p.silence() < p.config.Chain.Heartbeat {
			continue
		}
		if err := p.sealControl(ctx, heartbeatRecord()); err != nil && ctx.Err() == nil {
			p.logger.Warn("no heartbeat could be sealed; trying again", zap.Error(err))
		}
	}
}

// Shutdown seals the stop record, delivers what it can within `drain_timeout`,
// both within the longest one that there is, and closes the journal. The
// receivers have stopped before. Safe without Start and when called again.
func (p *auditProcessor) Shutdown(context.Context) error {
	defer p.telemetry.Shutdown()
	if p.stop == nil {
		return nil
	}
	p.stop()
	p.stop = nil
	p.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), maxDrainTimeout)
	defer cancel()
	err := p.sealControl(ctx, stopRecord())
	ctx, cancel = context.WithTimeout(ctx, p.config.DrainTimeout)
	defer cancel()
	ended := p.forwarder.drain(ctx, err == nil)
	p.logLeft()
	return errors.Join(err, p.closeJournal(ended))
}

// closeTimeout is how long the disk may take to let the journal go.
const closeTimeout = time.Second

// errHeld says why the journal could not be closed.
var errHeld = errors.New("the next consumer still holds records although its context has ended, or the disk of the journal does not answer: the journal directory stays locked until they let go or this process ends; what is in the journal is delivered by the next start")

// closeJournal closes the journal, which is the forwarder's until that has
// ended. What takes too long happens later, or never: nobody waits for a
// consumer or a disk that does not answer.
func (p *auditProcessor) closeJournal(ended bool) error {
	closed := make(chan error, 1)
	go func() {
		<-p.forwarder.done
		closed <- errors.Join(p.closeSequences(), p.journal.UseReserve(p.quarantined.close), p.journal.Close())
	}()
	patience := closeTimeout
	if !ended {
		patience = 0
	}
	select {
	case err := <-closed:
		return err
	case <-time.After(patience):
	}
	go func() {
		if err := <-closed; err != nil {
			p.logger.Error("the journal was closed late, with an error; nothing is lost", zap.Error(err))
		}
	}()
	return errHeld
}

func (p *auditProcessor) logLeft() {
	if bytes, records := p.journal.Backlog(); bytes > 0 {
		p.logger.Warn("records are left in the journal; the next start delivers them",
			zap.Int64("records", records), zap.Int64("bytes", bytes))
	}
}
