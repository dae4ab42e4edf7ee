// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/durable"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

const (
	attributeQuarantineAction = "audit.quarantine.action"

	// quarantineDirectory is the folder in the journal directory that keeps
	// what the next consumer refused for good.
	quarantineDirectory = "quarantine"

	// nextConsumer stands for the sink in the evidence: which of the exporters
	// behind a fan-out refused cannot be seen from here.
	nextConsumer = "next consumer"
)

var errDigest = errors.New("a journal record has another digest than its link")

// putAway settles a record that the next consumer refuses for good: first it
// is durable in the quarantine directory, then in the log that it is there.
func (f *forwarder) putAway(ctx context.Context, poison *piece, refusal error) error {
	reason := refusalReason(refusal)
	link := &poison.request.Links[poison.from]
	err := f.insist(ctx, func() error { return f.put(poison, reason) })
	if err != nil {
		return err
	}
	f.logger.Warn("the next consumer refused a record for good; it is in quarantine",
		zap.String("origin", link.Origin), zap.Uint64("index", link.Index), zap.String("reason", reason))
	f.logger.Debug("why a record was refused for good", zap.Error(refusal))
	return f.sealReports(ctx, []receipt.Report{{
		Action: receipt.Quarantined, Origin: link.Origin, Index: link.Index, Digest: link.Digest,
		Sink: nextConsumer, Reason: reason,
	}})
}

// canonical returns the canonical bytes of the one record in p.
func (p *piece) canonical() ([]byte, error) {
	logs, err := p.decode()
	if err != nil {
		return nil, err
	}
	keep(logs, 0, p.records()) // nothing empty before it
	resource := logs.ResourceLogs().At(0)
	scope := resource.ScopeLogs().At(0)
	var encoder canonical.Encoder
	if err := encoder.SetGroup(resource.Resource(), resource.SchemaUrl(), scope.Scope(), scope.SchemaUrl()); err != nil {
		return nil, err
	}
	bytes, _, err := encoder.Append(nil, scope.LogRecords().At(0))
	if err != nil {
		return nil, err
	}
	if chain.Hash(sha256.Sum256(bytes)) != p.request.Links[p.from].Digest {
		return nil, errDigest
	}
	return bytes, nil
}

// TEMPORARY
func (f *forwarder) put(poison *piece, reason string) error {
	bytes, err := poison.canonical()
	if err != nil {
		return err
	}
	link := &poison.request.Links[poison.from]
	if err := durable.MkdirAll(f.quarantine); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(f.quarantine, fmt.Sprint(link.Index)), append(bytes, reason...))
}
