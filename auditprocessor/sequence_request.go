// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"
)

// errSequenceHeld says why a request was not looked at.
const errSequenceHeld = "an earlier request of the same producer's stream is not settled yet"

// beginSequences takes hold of the streams that a request names; nil where
// there are none, or none is followed.
func (p *auditProcessor) beginSequences(ctx context.Context, logs plog.Logs, tenant string) (*sequenceSession, error) {
	if p.sequences == nil {
		return nil, nil
	}
	return p.sequences.begin(ctx, logs, tenant)
}

// endSequences lets go of a request's streams. What it moved is durable before
// it is answered: a restart does not take what a producer was told for a gap.
// Where the file fails the records are sealed all the same, so the answer is
// the same; the next request writes what is missing.
func (p *auditProcessor) endSequences(session *sequenceSession, sealed bool) {
	if session == nil {
		return
	}
	session.end(sealed)
	if !sealed {
		return
	}
	if err := p.sequences.save(); err != nil {
		p.telemetry.ProcessorAuditSequenceFailures.Add(context.Background(), 1)
		if more, due := p.unsaved.due(time.Now()); due {
			p.logger.Error("producers' streams could not be written: after a crash now some would show a gap that is none", zap.Error(err), zap.Int("since_the_last_line", more))
		}
	}
}

func (p *auditProcessor) closeSequences() error {
	if p.sequences == nil {
		return nil
	}
	return p.sequences.close()
}
