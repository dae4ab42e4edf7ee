// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// health tells the collector when the sink falls ill and when it is well again,
// once each.
type health struct {
	host component.Host // set before the first report

	mu   sync.Mutex
	sick bool // guarded by mu
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
	if err == nil {
		err = h.trouble
	}
	if h.sick == (err != nil) {
		return
	}
	h.sick = err != nil
	if h.sick {
		componentstatus.ReportStatus(h.host, componentstatus.NewRecoverableErrorEvent(err))
	} else {
		componentstatus.ReportStatus(h.host, componentstatus.NewEvent(componentstatus.StatusOK))
	}
}
