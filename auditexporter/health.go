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
}

func (h *health) report(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
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
