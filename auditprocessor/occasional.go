// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"sync"
	"time"
)

// linePause is the least time between two log lines about one matter: what a
// client or a full disk can cause a thousand times a second must not fill the
// log. The metrics have all of it.
const linePause = 10 * time.Second

// occasional lets a line through now and then. Safe for concurrent use.
type occasional struct {
	mu   sync.Mutex
	last time.Time // guarded by mu
	more int       // guarded by mu; lines held back since
}

// due says whether a line may be written, and how many were held back before
// it.
func (o *occasional) due(now time.Time) (more int, due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.last.IsZero() && now.Sub(o.last) < linePause {
		o.more++
		return 0, false
	}
	more, o.last, o.more = o.more, now, 0
	return more, true
}
