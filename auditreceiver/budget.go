// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// errBusy says that the budget has no room at the moment.
	errBusy = errors.New("too many bytes in flight: send again later")
	// errNeverFits says that a request alone needs more than the budget.
	errNeverFits = errors.New("the request needs more memory than `max_in_flight_bytes`: send fewer or smaller events")
)

// budget bounds the memory of the requests in flight, in bytes, and shares it
// among those who send them: see turns.go. Safe for concurrent use.
type budget struct {
	limit int64
	used  atomic.Int64
	// crowded counts the waiters, so that who gives memory back need not lock.
	crowded atomic.Int32

	mu      sync.Mutex
	coming  map[*share]struct{} // guarded by mu; of the requests that are still coming in
	waiters []*waiter           // guarded by mu; oldest first
}

// share is what one request has taken from a budget. It belongs to one
// goroutine; what others look at is guarded by the budget's mu.
type share struct {
	of   *budget
	size atomic.Int64

	peer string          // whose request it is
	gone <-chan struct{} // closed when the caller is; may be nil
	end  func()          // ends a read that blocks; may be nil

	reading bool          // the request is coming in: others may need its place
	joined  bool          // it is in of.coming
	since   time.Time     // guarded by of.mu; when it joined
	cut     bool          // guarded by of.mu; cutOff is closed
	cutOff  chan struct{} // closed when it must give way
}

// newShare returns an empty one for a request of the caller at an address.
func newShare(of *budget, address string, gone <-chan struct{}) *share {
	return &share{of: of, peer: peerOf(address), gone: gone, cutOff: make(chan struct{})}
}

// fits says whether so many more bytes can ever be had.
func (s *share) fits(bytes int64) error {
	if s.size.Load()+bytes > s.of.limit {
		return errNeverFits
	}
	return nil
}

// grow takes more bytes, if there are so many.
func (s *share) grow(bytes int64) bool {
	if s.of.used.Add(bytes) > s.of.limit {
		s.of.used.Add(-bytes)
		return false
	}
	s.size.Add(bytes)
	return true
}

// release gives everything back, to those who wait for it.
func (s *share) release() {
	s.of.used.Add(-s.size.Swap(0))
	if s.of.crowded.Load() > 0 {
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		s.of.settle()
	}
}

// peerOf is what callers are told apart by: the address without the port, of
// IPv6 the network, within which everybody has as many addresses as he likes.
func peerOf(address string) string {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return "" // a unix socket
	}
	ip := parsed.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	const network = 64
	prefix, err := ip.Prefix(network)
	if err != nil {
		return ""
	}
	return prefix.String()
}
