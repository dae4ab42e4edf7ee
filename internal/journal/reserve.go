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
	tried time.Time // guarded by mu; when setting it aside failed last
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held {
		return nil
	}
	if !r.tried.IsZero() && time.Since(r.tried) < reserveRetry {
		return errReserve
	}
	options := &r.journal.options
	err := r.journal.disk.Allocate(filepath.Join(options.Directory, reserveFile), options.reserveBytes())
	if err != nil {
		r.tried = time.Now()
		return fmt.Errorf("%w: %w", errReserve, err)
	}
	r.held, r.tried = true, time.Time{}
	return nil
}

// release gives the reserve up. It is false if there is none.
func (r *reserve) release() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held {
		return false
	}
	r.held = false
	return r.journal.removeFile(filepath.Join(r.journal.options.Directory, reserveFile)) == nil
}

// use runs write and, where the disk has no room for it, once more without the
// reserve.
func (r *reserve) use(write func() error) error {
	err := write()
	if durable.IsFull(err) && r.release() {
		return write()
	}
	return err
}
