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
)

// runQuery is otelaudit query.
func runQuery(ctx context.Context, args []string, c console) int {
	flags, s := searchFlags("query")
	s.printFlags(flags, "table")
	flags.IntVar(&s.limit, "limit", 0, "")
	rest, err := parseFlags(flags, args)
	if err == nil {
		err = s.take(rest)
	}
	if err == nil && s.format == formatLines {
		err = errors.New("--format lines is for export")
	}
	if err != nil {
		return c.refuse("query", err)
	}
	show, err := s.newShower(c)
	if err != nil {
		return c.refuse("query", err)
	}
	return show.end(s.read(ctx, show, nil))
}

// runExport is otelaudit export: a query that can go on where it ended.
func runExport(ctx context.Context, args []string, c console) int {
	flags, s := searchFlags("export")
	s.printFlags(flags, "jsonl")
	flags.IntVar(&s.limit, "page-size", 0, "")
	path := flags.String("cursor", "", "")
	strict := flags.Bool("require-tenant", false, "")
	rest, err := parseFlags(flags, args)
	if err == nil {
		err = s.take(rest)
	}
	switch {
	case err != nil:
	case *strict && s.filter.Tenant == "":
		err = errors.New("--require-tenant: name one with --tenant")
	case s.limit > 0 && *path == "":
		err = errors.New("--page-size needs --cursor, or the next page cannot be had")
	case s.format == "table":
		err = errors.New("--format must be jsonl, csv or lines")
	case s.format == formatLines && s.database != "" && *path != "":
		err = errors.New("--format lines of a database goes without --cursor: it is all of it, from one snapshot")
	}
	if err != nil {
		return c.refuse("export", err)
	}
	show, err := s.newShower(c)
	if err != nil {
		return c.refuse("export", err)
	}
	return show.end(s.export(ctx, show, *path, c))
}

// export reads from where the cursor at path stands, and moves it once all is
// printed. A crash between the two has the next run print again what this one
// printed.
func (s *search) export(ctx context.Context, show *shower, path string, c console) (err error) {
	if path == "" {
		return s.read(ctx, show, nil)
	}
	lock, err := lockCursor(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	at, err := openCursor(path, s)
	if err != nil {
		return err
	}
	if err := s.read(ctx, show, at); err != nil {
		return err
	}
	if err := syncOutput(c.out); err != nil {
		return err
	}
	if err := at.save(path); err != nil {
		return err
	}
	state := "all that there is now"
	if s.limit > 0 && show.printed == s.limit {
		state = "there may be more: run again"
	}
	if _, err := fmt.Fprintf(c.err, "otelaudit: exported %d %s, %s\n", show.printed, s.unit(), state); err != nil {
		return fmt.Errorf("say where the export ended: %w", err)
	}
	return nil
}

func (s *search) unit() string {
	if s.format == formatLines {
		return "lines"
	}
	return "events"
}

// read shows what is wanted of the store. With a cursor it begins there, and
// moves it.
func (s *search) read(ctx context.Context, show *shower, at *cursor) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	var err error
	switch {
	case s.database == "":
		err = s.readFiles(ctx, show, cmp.Or(at, &cursor{}))
	case show.whole != nil:
		err = s.copyDatabase(ctx, show)
	case at == nil:
		err = s.readDatabase(ctx, show)
	default:
		err = s.readStored(ctx, show, at)
	}
	return errors.Join(err, show.flush())
}

// readFiles reads files in path order.
func (s *search) readFiles(ctx context.Context, show *shower, at *cursor) error {
	files, _, unread := findFiles(s.paths)
	if unread == nil { // or what is not seen need not be gone, and the cursor stays where it is
		for _, err := range at.leftOut(s.paths, files) {
			show.unread++
			show.complain(show.unread, fmt.Errorf("%w; run verify", err))
		}
	}
	var last []byte // a copy of the last whole line of a file
	for _, file := range files {
		from, err := at.from(file)
		if err != nil {
			unread = errors.Join(unread, err)
			continue
		}
		if from < 0 {
			continue
		}
		last = last[:0]
		err = eachLine(file.path, from, func(l *fileLine) error {
			if err := interrupted(ctx); err != nil {
				return err
			}
			if l.torn { // it is being written, or was cut: it is no line yet
				return nil
			}
			from = l.offset + l.size
			last = append(last[:0], l.text...)
			return show.text(file.path, l)
		})
		var mark *lineMark
		if len(last) > 0 {
			mark = markLine(last)
		}
		at.move(file.path, from, mark)
		if errors.Is(err, errEnough) {
			return unread
		}
		if ctx.Err() != nil {
			return err
		}
		unread = errors.Join(unread, err)
	}
	return unread
}
