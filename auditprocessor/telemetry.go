// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit/sequence"
)

// registerGauges lets the meter ask for what waits in the journal. Each names
// its processor: of two that said the same about themselves one would be seen.
func (p *auditProcessor) registerGauges() error {
	named := labelled("processor", p.settings.ID.String())
	return errors.Join(
		p.telemetry.RegisterProcessorAuditPendingRecordsCallback(func(_ context.Context, o metric.Int64Observer) error {
			_, records := p.forwarder.journal.Backlog()
			o.Observe(records, named)
			return nil
		}),
		p.telemetry.RegisterProcessorAuditPendingBytesCallback(func(_ context.Context, o metric.Int64Observer) error {
			bytes, _ := p.forwarder.journal.Backlog()
			o.Observe(bytes, named)
			return nil
		}),
		p.telemetry.RegisterProcessorAuditCapacityBytesCallback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(p.config.Journal.MaxBytes, named)
			return nil
		}),
		p.telemetry.RegisterProcessorAuditPendingAgeCallback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(p.forwarder.age().Seconds(), named)
			return nil
		}),
		p.telemetry.RegisterProcessorAuditStuckTimeCallback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(p.forwarder.watch.time().Seconds(), named)
			return nil
		}),
	)
}

// age says how long the oldest group in hand has waited.
func (f *forwarder) age() time.Duration {
	if oldest := f.oldest.Load(); oldest != 0 {
		return max(0, time.Since(time.Unix(0, oldest)))
	}
	return 0
}

// count says what became of the records of a sealed request: how many were
// sealed, and how many came before.
func (p *auditProcessor) count(ctx context.Context, sealed, duplicates int, t *tally) {
	p.telemetry.ProcessorAuditSealedRecords.Add(ctx, int64(sealed))
	p.telemetry.ProcessorAuditDuplicateRecords.Add(ctx, int64(duplicates))
	t.eachFlagged(func(reason string, n int64) {
		p.telemetry.ProcessorAuditFlaggedRecords.Add(ctx, n, labelled("reason", reason))
	})
	t.eachRedacted(func(rule string, n int64) {
		p.telemetry.ProcessorAuditRedactedValues.Add(ctx, n, labelled("rule", rule))
	})
	t.eachTruncated(func(part string, n int64) {
		p.telemetry.ProcessorAuditTruncatedValues.Add(ctx, n, labelled("part", part))
	})
	if t.repaired > 0 {
		p.telemetry.ProcessorAuditRepairedRecords.Add(ctx, t.repaired)
	}
}

// countProofs counts what came, sealed or not: a proof that fails is an event of
// its own.
func (p *auditProcessor) countProofs(ctx context.Context, t *tally) {
	t.eachProof(func(verdict string, n int64) {
		p.telemetry.ProcessorAuditVerifiedRecords.Add(ctx, n, labelled("verdict", verdict))
	})
	if failed := t.failedProofs(); failed > 0 {
		if more, due := p.unproven.due(time.Now()); due {
			p.logger.Warn("proofs of producers failed: verified_records says why", zap.Int64("records", failed), zap.Int("since_the_last_line", more))
		}
	}
}

// countPlaces counts what was found about the places of records that were
// sealed: one that came before keeps the finding that it had then.
func (p *auditProcessor) countPlaces(ctx context.Context, s *sealing) {
	for k := range s.sealed() {
		p.countPlace(ctx, s.verdicts[s.at(k)].place)
	}
}

func (p *auditProcessor) countRefusedPlaces(ctx context.Context, verdicts []verdict) {
	for i := range verdicts {
		if verdicts[i].refused {
			p.countPlace(ctx, verdicts[i].place)
		}
	}
}

func (p *auditProcessor) countPlace(ctx context.Context, f sequence.Finding) {
	if f == "" {
		return
	}
	p.telemetry.ProcessorAuditSequenceFindings.Add(ctx, 1, labelled("finding", string(f)))
	if !f.Violates() {
		return
	}
	if more, due := p.broken.due(time.Now()); due {
		p.logger.Warn("the chain of a producer is broken: sequence_findings counts them, the record says which", zap.String("finding", string(f)), zap.Int("since_the_last_line", more))
	}
}

func labelled(key, value string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String(key, value)))
}
