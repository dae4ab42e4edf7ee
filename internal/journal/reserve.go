// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/otelaudit/otelaudit/internal/durable"
)

const (
	reserveFile  = "reserve"
	reserveRetry = time.Second

	leastReserve = 4 << 20
	mostReserve  = 32 << 20

	// storedID is what an id takes in a file, about: the reserve has room for a
	// full one.
	storedID = 192
)

// reserve is room on the disk that is given up when there is none left: then
// the log's own records, checkpoints, the cursor and ids can still be written,
// and what is delivered can go. Clients' records wait until it is set aside
// again.
type reserve struct {
	journal *Journal

	mu    sync.Mutex
	held  bool      // guarded by mu
	busy  bool      // guarded by mu; somebody sets it aside or gives it up
	tried time.Time // guarded by mu; when it was last set aside, or could not be
}

// errReserve says that the disk has no room for clients' records.
var errReserve = errors.New("the disk of the journal is full")

func (o *Options) reserveBytes() int64 {
	return max(leastReserve, min(o.MaxBytes/32, mostReserve))
}

// find says that the reserve of an earlier process is still there.
func (r *reserve) find() {
	info, err := os.Stat(filepath.Join(r.journal.options.Directory, reserveFile))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = err == nil && info.Size() == r.journal.options.reserveBytes()
}

// ensure sets the reserve aside, trying at most once in a while.
func (r *reserve) ensure() error {
	if held, mine := r.begin(false); held {
		return nil
	} else if !mine {
		return errReserve
	}
	options := &r.journal.options
	err := r.journal.disk.Allocate(filepath.Join(options.Directory, reserveFile), options.reserveBytes())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy, r.held, r.tried = false, err == nil, time.Now()
	if err != nil {
		return fmt.Errorf("%w: %w", errReserve, err)
	}
	return nil
}

// release gives the reserve up. It is false if there is none.
func (r *reserve) release() bool {
	if _, mine := r.begin(true); !mine {
		return false
	}
	err := r.journal.removeFile(filepath.Join(r.journal.options.Directory, reserveFile))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = false
	return err == nil
}

// begin says whether the reserve is held, and whether it is the caller's to
// release it or, where it is not held, to set it aside: of two at a time one
// does, and nobody waits for the other's disk.
func (r *reserve) begin(release bool) (held, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine = !r.busy && r.held == release
	if !release && time.Since(r.tried) < reserveRetry {
		mine = false
	}
	held = r.held
	if mine {
		r.busy, r.held = true, false
	}
	return held, mine
}

// UseReserve runs write and, where the disk has no room for it, once more on that
// which the reserve gives up: for what has to be kept beside the journal in its
// directory. Clients' records then wait until the reserve is back. Safe for
// concurrent use.
func (j *Journal) UseReserve(write func() error) error { return j.reserve.use(write) }

// use runs write and, where the disk has no room for it, once more without the
// reserve.
func (r *reserve) use(write func() error) error {
	err := write()
	if durable.IsFull(err) && r.release() {
		return write()
	}
	return err
}
