// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/otelaudit/otelaudit/audit/query"
)

const (
	defaultLast = 10
	maxLast     = 100_000
	// look is how often a followed store is looked at.
	look = 500 * time.Millisecond
)

// runTail is otelaudit tail.
func runTail(ctx context.Context, args []string, c console) int {
	flags, s := searchFlags("tail")
	var asJSON, follow bool
	flags.IntVar(&s.limit, "n", defaultLast, "")
	flags.BoolVar(&asJSON, "json", false, "")
	flags.BoolVar(&follow, "f", false, "")
	flags.BoolVar(&follow, "follow", false, "")
	s.format = "table"
	rest, err := parseFlags(flags, args)
	if asJSON {
		s.format = "jsonl"
	}
	if err == nil {
		err = s.take(rest)
	}
	if err == nil && s.limit > maxLast {
		err = fmt.Errorf("-n must be at most %d: see query for more", maxLast)
	}
	if err != nil {
		return c.refuse("tail", err)
	}
	show, err := s.newShower(c)
	if err != nil {
		return c.refuse("tail", err)
	}
	show.limit = 0
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return show.end(s.tail(ctx, show, follow))
}

// follower is a store that can be tailed.
type follower interface {
	// last shows the newest n events.
	last(ctx context.Context, show *shower, n int) error
	// next shows what has come since.
	next(ctx context.Context, show *shower) error
	close() error
}

// recent is an event that may be one of the last.
type recent struct {
	place  string
	offset int64
	event  *query.Event
}

// newestOf returns the n events that were sealed last, in that order.
func newestOf(events []recent, n int) []recent {
	slices.SortStableFunc(events, func(a, b recent) int { return cmp.Compare(a.event.Link.SealedAt, b.event.Link.SealedAt) })
	return events[max(0, len(events)-n):]
}

func showRecent(show *shower, events []recent) error {
	for _, r := range events {
		if err := show.show(r.place, r.offset, r.event); err != nil {
			return err
		}
	}
	return nil
}

func (s *search) follow(ctx context.Context) (follower, error) {
	if s.database != "" {
		return s.followDatabase(ctx)
	}
	return &followedFiles{paths: s.paths, read: map[string]*followed{}}, nil
}

// tail shows the last events of a store and, if it is to follow, those that
// come, until ctx is done.
func (s *search) tail(ctx context.Context, show *shower, follow bool) (err error) {
	from, err := s.follow(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	err = from.last(ctx, show, s.limit)
	for {
		err = errors.Join(err, show.flush())
		if err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(look):
		}
		if err = from.next(ctx, show); ctx.Err() != nil {
			return show.flush()
		}
	}
}
