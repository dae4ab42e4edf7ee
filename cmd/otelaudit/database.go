// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/query"
	"github.com/otelaudit/otelaudit/audit/verify"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// pageRows is how many rows are asked for at a time.
const pageRows = 1000

// runSchema is otelaudit schema postgres.
func runSchema(args []string, c console) int {
	flags, table := schemaFlags()
	rest, err := parseFlags(flags, args)
	if err == nil && (len(rest) != 1 || rest[0] != "postgres") {
		err = errors.New("the one schema there is is that of postgres")
	}
	var parsed postgres.Table
	if err == nil {
		parsed, err = postgres.ParseTable(*table)
	}
	if err != nil {
		return c.refuse("schema", err)
	}
	return write(c.out, parsed.Schema())
}

// open connects to the database of a store.
func (s *store) open(ctx context.Context) (*postgres.Reader, error) {
	table, err := postgres.ParseTable(s.table)
	if err != nil {
		return nil, fmt.Errorf("--table: %w", err)
	}
	return postgres.OpenReader(ctx, s.database, table)
}

// feedRows gives all that is stored to a verifier. What a finding calls its file
// is the table and the origin, its offset the index of the row.
func feedRows(ctx context.Context, from *postgres.Reader, v *verify.Verifier) error {
	store := from.Name()
	var origin, place string
	return from.Lines(ctx, func(s *postgres.Stored) error {
		if s.Origin != origin || place == "" {
			origin, place = s.Origin, store+"/"+s.Origin
		}
		v.Row(place, int64(s.Index), s.Line, s.Column)
		return nil
	})
}

// copyDatabase prints all that is stored as the lines that a file would hold.
func (s *search) copyDatabase(ctx context.Context, show *shower) (err error) {
	from, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	return from.Lines(ctx, func(stored *postgres.Stored) error { return show.copy(stored.Line) })
}

// readDatabase shows rows in the order in which they occurred.
func (s *search) readDatabase(ctx context.Context, show *shower) (err error) {
	from, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	wanted := postgres.Filter{
		Actor: s.filter.Actor, Action: s.filter.Action, TargetID: s.filter.Target, Tenant: s.filter.Tenant,
		Outcome: s.filter.Outcome, From: s.filter.Since, To: s.filter.Until,
	}
	if show.stubs, err = from.Stubs(ctx); err != nil {
		return err
	}
	rows := rowShower{shower: show, filter: s.filter, place: from.Name()}
	var after postgres.Cursor
	for {
		count := 0
		err := from.Query(ctx, wanted, after, pageRows, func(row *postgres.Row) error {
			count++
			after = row.Cursor()
			return rows.row(row)
		})
		switch {
		case errors.Is(err, errEnough):
			return nil
		case ctx.Err() != nil:
			return interrupted(ctx)
		case err != nil || count < pageRows:
			return err
		}
	}
}

// readStored shows rows origin by origin, as they were stored: none of what is
// stored later, whenever it occurred, is before the cursor.
func (s *search) readStored(ctx context.Context, show *shower, at *cursor) (err error) {
	from, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if show.stubs, err = from.Stubs(ctx); err != nil {
		return err
	}
	stored := followedRows{from: from}
	origins, err := stored.origins(ctx)
	for i := 0; err == nil && i < len(origins); i++ {
		err = stored.readOrigin(ctx, show, origins[i].Origin, at.origin(origins[i].Origin))
	}
	switch {
	case errors.Is(err, errEnough):
		return nil
	case ctx.Err() != nil:
		return interrupted(ctx)
	}
	return err
}

// rowShower shows rows as the database found them.
type rowShower struct {
	*shower
	filter  query.Filter
	place   string
	deriver postgres.Deriver
}

// row shows what the canonical bytes of a row say. Where they do not match what
// the database was asked for, its columns were changed.
func (s *rowShower) row(row *postgres.Row) error {
	if row.Link.Stream == audit.StreamOrigin && !s.filter.Control {
		return nil
	}
	line := audit.Line{Kind: audit.LineEvent, Link: row.Link, Hash: row.Hash, Event: row.Canonical}
	place, index := s.place+"/"+row.Link.Origin, int64(row.Link.Index)
	e, err := query.Read(&line)
	if err != nil {
		s.cannot(place, index, err)
		return nil
	}
	says := s.filter
	says.Since, says.Until = e.OccurredAt, e.OccurredAt.Add(1)
	if !says.Matches(e) {
		if row.Difference(s.deriver.DeriveCanonical(&row.Link, row.Hash, row.Canonical)) == "" {
			return nil // a column shows it like what was asked for, such as U+0000
		}
		s.unsound++
		s.complain(s.unsound, fmt.Errorf("%s: the columns do not show what the record says; run verify", locate(place, index)))
		return nil
	}
	if !s.filter.Matches(e) { // by less than a column of time shows
		return nil
	}
	return s.show(place, index, e)
}

// followedRows is a store in a database.
type followedRows struct {
	from *postgres.Reader
	read map[string]uint64 // by origin: the index that comes next
}

func (s *search) followDatabase(ctx context.Context) (follower, error) {
	from, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	return &followedRows{from: from, read: map[string]uint64{}}, nil
}

func (f *followedRows) close() error { return f.from.Close() }

// readOrigin shows what is not read of an origin, and notes that it is.
func (f *followedRows) readOrigin(ctx context.Context, show *shower, origin string, mark *originMark) error {
	place := f.from.Name() + "/" + origin
	for _, g := range mark.unread() {
		for more := true; more; {
			count, limit := 0, int(min(pageRows, g.Below-g.From))
			err := f.from.From(ctx, origin, g.From, limit, func(row *postgres.Row) error {
				if row.Link.Index >= g.Below {
					return errEnd
				}
				count++
				g.From = row.Link.Index + 1
				mark.take(row.Link.Index)
				return show.line(place, int64(row.Link.Index), &audit.Line{Kind: audit.LineEvent, Link: row.Link, Hash: row.Hash, Event: row.Canonical})
			})
			if err != nil && !errors.Is(err, errEnd) {
				return err
			}
			more = err == nil && count == limit && g.From < g.Below
		}
	}
	return nil
}

// errEnd says that what comes next is read already.
var errEnd = errors.New("end")

// last begins with the origins whose newest record was sealed last, and ends
// where no other can hold a newer one than those found.
func (f *followedRows) last(ctx context.Context, show *shower, n int) error {
	origins, err := f.origins(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(origins, func(a, b postgres.Newest) int { return cmp.Compare(b.SealedAt, a.SealedAt) })
	var newest []recent
	for _, o := range origins {
		f.read[o.Origin] = o.Index + 1
		if n == 0 || len(newest) == n && newest[0].event.Link.SealedAt > o.SealedAt {
			continue
		}
		found, err := f.back(ctx, show, o, n)
		if err != nil {
			return err
		}
		newest = newestOf(append(newest, found...), n)
	}
	return showRecent(show, newest)
}

func (f *followedRows) origins(ctx context.Context) ([]postgres.Newest, error) {
	var all []postgres.Newest
	err := f.from.Origins(ctx, func(o postgres.Newest) error {
		all = append(all, o)
		return nil
	})
	return all, err
}

// back returns the last n records of an origin that are wanted.
func (f *followedRows) back(ctx context.Context, show *shower, o postgres.Newest, n int) ([]recent, error) {
	var found []recent
	place, below := f.from.Name()+"/"+o.Origin, o.Index+1
	for {
		count := 0
		err := f.from.Back(ctx, o.Origin, below, pageRows, func(row *postgres.Row) error {
			if count++; len(found) == n {
				return errEnough
			}
			below = row.Link.Index
			e, err := show.sieve.Take(&audit.Line{Kind: audit.LineEvent, Link: row.Link, Hash: row.Hash, Event: row.Canonical})
			switch {
			case err != nil:
				show.cannot(place, int64(row.Link.Index), err)
			case e != nil:
				found = append(found, recent{place, int64(row.Link.Index), e})
			}
			return nil
		})
		if err == nil && count == pageRows {
			continue
		}
		if errors.Is(err, errEnough) {
			err = nil
		}
		slices.Reverse(found)
		return found, err
	}
}

// next shows, of every origin, the records behind those that were read.
func (f *followedRows) next(ctx context.Context, show *shower) error {
	origins, err := f.origins(ctx)
	if err != nil {
		return err
	}
	for _, o := range origins {
		for f.read[o.Origin] <= o.Index {
			if err := f.page(ctx, show, o.Origin); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *followedRows) page(ctx context.Context, show *shower, origin string) error {
	place, count := f.from.Name()+"/"+origin, 0
	err := f.from.From(ctx, origin, f.read[origin], pageRows, func(row *postgres.Row) error {
		count++
		f.read[origin] = row.Link.Index + 1
		return show.line(place, int64(row.Link.Index), &audit.Line{Kind: audit.LineEvent, Link: row.Link, Hash: row.Hash, Event: row.Canonical})
	})
	if err == nil && count == 0 { // what was there a moment ago was deleted
		f.read[origin] = math.MaxInt64
	}
	return err
}
