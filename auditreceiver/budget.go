// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"errors"
	"sync/atomic"
)

var (
	// errBusy says that the budget has no room at the moment.
	errBusy = errors.New("too many bytes in flight: send again later")
	// errNeverFits says that a request alone needs more than the budget.
	errNeverFits = errors.New("the request needs more memory than `max_in_flight_bytes`: send fewer or smaller events")
)

// budget bounds the memory of the requests in flight, in bytes. Safe for
// concurrent use.
type budget struct {
	limit int64
	used  atomic.Int64
}

// share is what one request has taken from a budget. Not for concurrent use.
type share struct {
	of   *budget
	size int64
}

// fits says whether so many more bytes could be had now. It takes none.
func (s *share) fits(bytes int64) error {
	if s.size+bytes > s.of.limit {
		return errNeverFits
	}
	if s.of.used.Load()+bytes > s.of.limit {
		return errBusy
	}
	return nil
}

// grow takes more bytes. After an error the share is as it was.
func (s *share) grow(bytes int64) error {
	if s.size+bytes > s.of.limit {
		return errNeverFits
	}
	if s.of.used.Add(bytes) > s.of.limit {
		s.of.used.Add(-bytes)
		return errBusy
	}
	s.size += bytes
	return nil
}

// release gives everything back.
func (s *share) release() {
	s.of.used.Add(-s.size)
	s.size = 0
}
