// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"errors"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// ailment is how ill a sink is.
type ailment uint8

const (
	well     ailment = iota
	troubled         // it takes what it is given, for how long is another matter
	out              // it does not, and that may pass by itself
	stuck            // it does not before somebody does something
	alarming         // something was changed
)

func ailmentOf(err error) ailment {
	switch {
	case err == nil:
		return well
	case errors.Is(err, receipt.ErrConflict), errors.Is(err, errMismatch):
		return alarming
	case errors.Is(err, sink.ErrOperator):
		return stuck
	}
	return out
}

// health tells the collector when the sink falls ill, when that gets worse, and
// when it is well again, once each: what only a person can cure must not hide
// behind the outage that came first.
type health struct {
	host component.Host // set before the first report

	mu   sync.Mutex
	told ailment // guarded by mu
	// guarded by mu; what an operator should see to though writes succeed
	trouble error
}

// note sets what is reported while writes succeed.
func (h *health) note(trouble error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trouble = trouble
}

func (h *health) report(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := ailmentOf(err)
	if err == nil && h.trouble != nil {
		now, err = troubled, h.trouble
	}
	if now == h.told || now > troubled && now < h.told {
		return
	}
	h.told = now
	if err != nil {
		componentstatus.ReportStatus(h.host, componentstatus.NewRecoverableErrorEvent(err))
	} else {
		componentstatus.ReportStatus(h.host, componentstatus.NewEvent(componentstatus.StatusOK))
	}
}
