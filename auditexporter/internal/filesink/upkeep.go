// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

const (
	// upkeepEvery is how often the disk and the old files are looked at.
	upkeepEvery = 10 * time.Second
	// upkeepTime bounds what is read of the lives that are over each time:
	// writes wait meanwhile.
	upkeepTime = time.Second
	// maxLead is how far ahead of the sink's own time a record may have been sealed
	// and still make others old.
	maxLead = time.Hour
	// maxLogs is how many logs' deliveries are remembered.
	maxLogs = 64
)

// upkeep is what is known for the work beside writing.
type upkeep struct {
	condition sink.Condition // since the last call
	next      time.Time
	logs      map[string]delivery // at most maxLogs
	low       error               // of the free room
	failure   error               // of retention
	untold    bool                // that nothing is known to be delivered
	leapt     error               // the clock, away from the time that has passed
}

// delivery is up to where a log is in every required sink.
type delivery struct {
	origin string
	// index: all records below and all checkpoints up to it are delivered, and
	// all of earlier lives.
	index  uint64
	latest int64  // the newest time of sealing that is known and can be
	sealed string // the life up to whose predecessor all files have manifests
}

func newUpkeep() upkeep { return upkeep{logs: map[string]delivery{}} }

// Upkeep seals the files of lives that are over, removes what retention says,
// and looks at the free room. What fails is in the condition, logged, and tried
// again; nothing is removed that is not known to be delivered.
func (s *Sink) Upkeep(ctx context.Context, delivered *sink.Entry) sink.Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.upkeep.condition.FreeBytes = -1
	if !s.closed {
		log := s.delivered(delivered)
		if now := s.config.now(); !now.Before(s.upkeep.next) || s.takeRotated() {
			s.upkeep.next = now.Add(upkeepEvery)
			s.look()
			s.tidy(ctx, log)
		}
	}
	condition := s.upkeep.condition
	condition.Trouble = errors.Join(s.upkeep.low, s.upkeep.failure, s.upkeep.leapt)
	s.upkeep.condition = sink.Condition{}
	return condition
}

// takeRotated says whether a file was sealed since the last time.
func (s *Sink) takeRotated() bool {
	rotated := false
	for _, o := range s.origins {
		rotated = rotated || o.rotated
		o.rotated = false
	}
	return rotated
}

// delivered notes how far a log is delivered, and returns the log's name, ""
// if nothing is known.
func (s *Sink) delivered(e *sink.Entry) string {
	if e == nil {
		if s.config.Retention.on() && !s.upkeep.untold {
			s.upkeep.untold = true
			s.config.Logger.Warn("retention removes nothing: a delivery did not come straight from an `audit` processor," +
				" so nobody knows what the other sinks have; put the processor directly before the exporter")
		}
		return ""
	}
	parsed, err := chain.ParseOrigin(e.Link.Origin)
	if err != nil {
		return "" // Write says what is wrong
	}
	log := parsed.Log()
	known, ok := s.upkeep.logs[log]
	if !ok && len(s.upkeep.logs) >= maxLogs {
		clear(s.upkeep.logs) // what is not known is not removed
	}
	if known.origin != e.Link.Origin {
		if s.isBefore(e.Link.Origin, known.origin) {
			return log // comes again; delivered stays delivered
		}
		known = delivery{origin: string([]byte(e.Link.Origin)), latest: known.latest, sealed: known.sealed}
	}
	known.index = max(known.index, e.Link.Index)
	if s.isCredible(e.Link.SealedAt) {
		known.latest = max(known.latest, e.Link.SealedAt)
	}
	s.upkeep.logs[log] = known
	return log
}

// isCredible says whether a record can have been sealed at that time, as far as
// the time goes that has passed since the sink was opened: were a clock that
// leaps ahead believed, it would make all that is stored old at once.
func (s *Sink) isCredible(sealedAt int64) bool {
	passed := s.config.now().Sub(s.opened) // by the monotonic clock
	if s.config.Retention.MaxAge <= 0 || sealedAt <= s.opened.Add(passed+maxLead).UnixNano() {
		s.upkeep.leapt = nil
		return true
	}
	if s.upkeep.leapt == nil {
		at := time.Unix(0, sealedAt).UTC()
		s.upkeep.leapt = fmt.Errorf("a record was sealed in the future, at %s: the clock has leapt ahead since the collector started,"+
			" or the machine slept; `file::retention::max_age` counts no age by such records;"+
			" if the clock is right now, start the collector again", at.Format(time.RFC3339))
		s.config.Logger.Error("retention by age rests", zap.Error(s.upkeep.leapt))
	}
	return false
}

// look asks the disk for its free room.
func (s *Sink) look() {
	free, err := s.config.files.free(s.config.Directory)
	if err != nil {
		s.upkeep.low = fmt.Errorf("ask for the free room of %s: %w", s.config.Directory, err)
		return
	}
	s.upkeep.condition.FreeBytes = free
	if free >= s.config.MinFreeBytes {
		s.upkeep.low = nil
		return
	}
	if s.upkeep.low == nil {
		s.config.Logger.Warn("the audit store's disk is almost full", zap.String("directory", s.config.Directory),
			zap.Int64("free_bytes", free), zap.Int64("min_free_bytes", s.config.MinFreeBytes))
	}
	s.upkeep.low = fmt.Errorf("the disk of %s has %d bytes left, less than `file::min_free_bytes`, %d:"+
		" make room, or let `file::retention` do it; writes go on until it is full, then they wait",
		s.config.Directory, free, s.config.MinFreeBytes)
}

// freeBytes is what is left for others than root.
func freeBytes(directory string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(directory, &stat); err != nil {
		return 0, err
	}
	block := uint64(stat.Bsize) // its type differs between systems
	if block > 0 && stat.Bavail > math.MaxInt64/block {
		return math.MaxInt64, nil
	}
	return int64(stat.Bavail * block), nil
}

// tidy seals and removes what there is in one log.
func (s *Sink) tidy(ctx context.Context, log string) {
	known, ok := s.upkeep.logs[log]
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, upkeepTime)
	defer cancel()
	err := s.retain(ctx, log, &known)
	if cut := ctx.Err(); cut != nil && errors.Is(err, cut) {
		return // goes on next time; what is known of its failures stays
	}
	if err != nil && s.upkeep.failure == nil {
		s.config.Logger.Error("old audit files could not be sealed or removed; trying again", zap.Error(err))
	}
	s.upkeep.failure = err
}
