// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"fmt"
	"slices"
	"time"
)

// Where a budget is full, memory goes on from requests that are still coming in
// to those who wait for it. Who waits takes from the caller that holds most, if
// that is more than the waiting one would then hold; else from the request that
// has been coming in for longest, once that is longer than readingTurn. The
// waiter whose caller holds least comes first, of several the one that has
// waited longest.
//
// Who is cut off is told to send again: nothing of the request was promised.
// What has come in whole is not cut off, unless it came at that very moment.
const (
	// readingTurn is what a request has to come in while others wait for the
	// memory that it holds. While none do, it has `read_timeout`.
	readingTurn = time.Second
	// longestWait is how long a request waits: for those who had their turn to
	// be cut off, and for their memory to come back.
	longestWait = 2 * readingTurn
	// So many requests wait at most, of all callers and of one.
	maxWaiting       = 1024
	maxWaitingOfPeer = 64
)

// errCutOff says that a request did not come in while others waited.
var errCutOff = fmt.Errorf("%w: the request did not come in time, and others wait", errBusy)

// waiter is a request that wants more than there is.
type waiter struct {
	*share
	bytes   int64
	granted chan struct{} // closed once it has them
}

// read begins the time in which the request comes in, and others may take its
// place. Where a read may block, end ends it.
func (s *share) read(end func()) { s.reading, s.end = true, end }

// hasRead ends it.
func (s *share) hasRead() {
	s.reading = false
	if !s.joined {
		return
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	delete(s.of.coming, s)
	s.joined = false
}

// admit takes more bytes. It waits where that is of use. After an error the share
// is as it was.
func (s *share) admit(bytes int64) error {
	if err := s.fits(bytes); err != nil {
		return err
	}
	if s.of.crowded.Load() > 0 || !s.grow(bytes) { // those who wait come first
		return s.wait(bytes)
	}
	if s.reading && !s.joined {
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		s.join()
	}
	return nil
}

// wait takes bytes once they are there.
func (s *share) wait(bytes int64) error {
	w := &waiter{share: s, bytes: bytes, granted: make(chan struct{})}
	if !s.of.queue(w) {
		return errBusy
	}
	last := time.Now().Add(longestWait)
	timer := time.NewTimer(longestWait)
	defer timer.Stop()
	for {
		next, ok := s.of.makeRoom()
		if !ok {
			return s.of.leave(w, errBusy)
		}
		timer.Reset(min(next, time.Until(last)))
		select {
		case <-w.granted:
			return nil
		case <-s.cutOff:
			return s.of.leave(w, errCutOff)
		case <-s.gone:
			return s.of.leave(w, errBusy)
		case <-timer.C:
			if !time.Now().Before(last) {
				return s.of.leave(w, errBusy)
			}
		}
	}
}

// queue lets w wait, unless too many do.
func (b *budget) queue(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ofPeer := 0
	for _, other := range b.waiters {
		if other.peer == w.peer {
			ofPeer++
		}
	}
	if len(b.waiters) >= maxWaiting || ofPeer >= maxWaitingOfPeer {
		return false
	}
	b.waiters = append(b.waiters, w)
	b.crowded.Add(1)
	return true
}

// leave ends a wait that failed, unless w has been granted what it wanted.
func (b *budget) leave(w *waiter, failed error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiters, w)
	if i < 0 {
		return nil
	}
	b.unqueue(i)
	b.settle() // the next may want less
	return failed
}

// unqueue takes a waiter out. The caller holds mu.
func (b *budget) unqueue(i int) {
	b.waiters = slices.Delete(b.waiters, i, i+1)
	b.crowded.Add(-1)
}

// makeRoom does what can be done now for those who wait, and says when to look
// again. It is not ok if nobody can be cut off.
func (b *budget) makeRoom() (next time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.settle()
}

// settle is makeRoom for who holds mu.
func (b *budget) settle() (next time.Duration, ok bool) {
	for len(b.waiters) > 0 {
		i := b.first()
		w := b.waiters[i]
		if !w.grow(w.bytes) {
			return b.cutFor(w)
		}
		b.unqueue(i)
		w.join()
		close(w.granted)
	}
	return longestWait, true
}

// join makes what a request holds available to others while it comes in. The
// caller holds of.mu.
func (s *share) join() {
	if !s.reading || s.joined {
		return
	}
	if s.of.coming == nil {
		s.of.coming = map[*share]struct{}{}
	}
	s.of.coming[s] = struct{}{}
	s.joined, s.since = true, time.Now()
}

// held says what the requests of each caller hold that are coming in: all of
// them, or those that are not cut off. The caller holds mu.
func (b *budget) held(all bool) map[string]int64 {
	held := map[string]int64{}
	for s := range b.coming {
		if all || !s.cut {
			held[s.peer] += s.size.Load()
		}
	}
	return held
}

// first is the place of the waiter whose turn it is. The caller holds mu.
func (b *budget) first() int {
	first, held := 0, b.held(true)
	for i, w := range b.waiters {
		if held[w.peer] < held[b.waiters[first].peer] {
			first = i
		}
	}
	return first
}

// cutFor cuts one request off for w, unless enough is coming back already. The
// caller holds mu.
func (b *budget) cutFor(w *waiter) (next time.Duration, ok bool) {
	richest, held := w.peer, b.held(false)
	for peer, bytes := range held {
		if bytes > held[richest] {
			richest = peer
		}
	}
	even := held[richest] <= held[w.peer]+w.bytes
	free, returning := b.limit-b.used.Load(), int64(0)
	var oldest *share
	for s := range b.coming {
		switch {
		case s.cut:
			returning += s.size.Load()
		case s == w.share || !even && s.peer != richest:
		case oldest == nil || s.since.Before(oldest.since):
			oldest = s
		}
	}
	switch {
	case returning > 0 && free+returning >= w.bytes:
		return longestWait, true
	case oldest == nil:
		return longestWait, returning > 0
	}
	if age := time.Since(oldest.since); even && age < readingTurn {
		return readingTurn - age, true
	}
	oldest.giveWay()
	return longestWait, true
}

// giveWay cuts the request off. The caller holds of.mu.
func (s *share) giveWay() {
	s.cut = true
	close(s.cutOff)
	if s.end != nil {
		s.end()
	}
}
