// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// watch speaks up about a send that does not come to its end, whether the next
// consumer refuses it or does not answer at all. Safe for concurrent use.
type watch struct {
	after  time.Duration
	report func(error)

	mu      sync.Mutex
	timer   *time.Timer // guarded by mu; nil where nothing is under way
	since   time.Time   // guarded by mu
	what    string      // guarded by mu; names the first record of the send
	refusal error       // guarded by mu; nil where there was no answer yet
	spoke   bool        // guarded by mu
}

// begin says that a send is under way. Of a send that is under way already,
// its halves are a part.
func (w *watch) begin(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.what = what
	if w.timer == nil {
		w.since = time.Now()
		w.timer = time.AfterFunc(w.after, w.speak)
	}
}

// failed says that the send was refused.
func (w *watch) failed(refusal error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusal = refusal
}

// end says that the send, or a part of it, is settled: nothing is reported
// about it from here on. It returns whether something was.
func (w *watch) end() (spoke bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	spoke = w.spoke
	w.timer, w.refusal, w.spoke = nil, nil, false
	return spoke
}

// time says how long the send has been under way.
func (w *watch) time() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return 0
	}
	return time.Since(w.since)
}

func (w *watch) speak() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil || time.Since(w.since) < w.after {
		return // ended meanwhile
	}
	w.timer.Reset(w.after)
	w.spoke = true
	stuck := time.Since(w.since).Round(time.Second)
	if w.refusal == nil {
		w.report(fmt.Errorf("delivery is stuck at %s for %v: the next consumer does not answer", w.what, stuck))
		return
	}
	w.report(fmt.Errorf("delivery is stuck at %s for %v: %w", w.what, stuck, w.refusal))
}

func (f *forwarder) reportStuck(stuck error) {
	f.report(stuck)
	f.logger.Error("delivery is stuck; nothing is lost, the journal fills up", zap.Error(stuck))
}
