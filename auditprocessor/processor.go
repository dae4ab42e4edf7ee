// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditprocessor/internal/metadata"
	"github.com/otelaudit/otelaudit/internal/journal"
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

	// Set by Start, and not changed until Shutdown has returned.
	journal   *journal.Journal
	instance  string
	forwarder *forwarder
	stop      context.CancelFunc // ends the heartbeat
	running   sync.WaitGroup

	conflict atomic.Bool  // a sink reported receipt.ErrConflict for what is being delivered
	sealedAt atomic.Int64 // when the newest record was sealed, nanoseconds since 1970
}

func newProcessor(settings processor.Settings, config *Config, next consumer.Logs) (*auditProcessor, error) {
	stages, err := newStages(config.Validation, config.Redaction, config.Limits, time.Now)
	if err != nil {
		return nil, err
	}
	telemetry, err := metadata.NewTelemetryBuilder(settings.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return &auditProcessor{
		config: config, settings: settings, logger: settings.Logger,
		telemetry: telemetry, stages: stages, next: next,
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
	j, err := journal.Open(p.journalOptions(key))
	if err != nil {
		return err
	}
	if err := p.begin(j, key, host); err != nil {
		return errors.Join(err, j.Close())
	}
	return nil
}

func (p *auditProcessor) journalOptions(key ed25519.PrivateKey) journal.Options {
	return journal.Options{
		Directory:  p.config.Journal.Directory,
		Instance:   p.config.Chain.Instance,
		Key:        key,
		MaxBytes:   p.config.Journal.MaxBytes,
		MaxStreams: p.config.Chain.MaxStreams,
		Observe: journal.Observer{
			Committed: func(records, _ int, took time.Duration) {
				p.telemetry.ProcessorAuditGroupRecords.Record(context.Background(), int64(records))
				p.telemetry.ProcessorAuditSyncDuration.Record(context.Background(), took.Seconds())
			},
			Failed: func(err error) {
				p.telemetry.ProcessorAuditJournalFailures.Add(context.Background(), 1)
				p.logger.Error("journal: nothing is lost, callers were told to retry", zap.Error(err))
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
	p.journal = j
	if err := p.sealControl(startRecord(j.Previous(), p.settings.BuildInfo.Version, digest, public)); err != nil {
		p.journal = nil
		return err
	}
	p.forwarder = newForwarder(j, p.next, p.config.Journal.Directory, p.telemetry, p.logger, host, &p.conflict)
	if err := p.registerGauges(); err != nil {
		p.journal = nil
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.forwarder.start()
	p.running.Add(1)
	go p.heartbeat(ctx)
	return nil
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

func (p *auditProcessor) sealControl(record controlRecord) error {
	request, err := record.request(p.instance, time.Now())
	if err != nil {
		return err
	}
	if err := p.journal.Seal(request); err != nil {
		return fmt.Errorf("seal %s: %w", record.event, err)
	}
	p.sealedAt.Store(request.Links[0].SealedAt)
	return nil
}

// heartbeat seals a record whenever the log was silent for too long, so that
// silence is provable.
func (p *auditProcessor) heartbeat(ctx context.Context) {
	defer p.running.Done()
	for {
		silence := time.Since(time.Unix(0, p.sealedAt.Load()))
		timer := time.NewTimer(max(p.config.Chain.Heartbeat-silence, time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if time.Since(time.Unix(0, p.sealedAt.Load())) < p.config.Chain.Heartbeat {
			continue
		}
		if err := p.sealControl(heartbeatRecord()); err != nil {
			p.logger.Warn("no heartbeat could be sealed; trying again", zap.Error(err))
		}
	}
}

// Shutdown seals the stop record, delivers what it can within `drain_timeout`
// and closes the journal. The receivers have stopped before.
func (p *auditProcessor) Shutdown(context.Context) error {
	defer p.telemetry.Shutdown()
	if p.journal == nil {
		return nil
	}
	p.stop()
	p.running.Wait()
	err := p.sealControl(stopRecord())
	p.forwarder.drain(p.config.DrainTimeout, err == nil)
	p.logLeft()
	err = errors.Join(err, p.journal.Close())
	p.journal = nil
	return err
}

func (p *auditProcessor) logLeft() {
	if bytes, records := p.journal.Backlog(); bytes > 0 {
		p.logger.Warn("records are left in the journal; the next start delivers them",
			zap.Int64("records", records), zap.Int64("bytes", bytes))
	}
}
