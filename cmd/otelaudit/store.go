// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"io"
	"strings"

	"github.com/otelaudit/otelaudit/internal/postgres"
)

// defaultTable is the table of the postgres sink unless it is told another.
const defaultTable = postgres.DefaultTable

func schemaFlags() (*flag.FlagSet, *string) {
	flags := flag.NewFlagSet("schema", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags, flags.String("table", defaultTable, "")
}

// store is where stored records are: a database, or directories and files.
type store struct {
	database string // URL, empty for files
	table    string
	paths    []string
}

// name takes the arguments that name a store.
func (s *store) name(arguments []string) error {
	for _, argument := range arguments {
		if !isDatabase(argument) {
			if strings.Contains(argument, "://") || strings.Contains(argument, "password=") { // no path: an error would show the password
				return errors.New("a database is named by a URL that begins with postgres:// (what it leaves out comes from PGPASSWORD and the like)")
			}
			s.paths = append(s.paths, argument)
			continue
		}
		if s.database != "" {
			return errors.New("name one database at a time")
		}
		s.database = argument
	}
	switch {
	case len(arguments) == 0:
		return errors.New("name a directory, files, or postgres://host/database")
	case s.database != "" && len(s.paths) > 0:
		return errors.New("name a database, or directories and files, not both")
	case s.table == "":
		return errors.New("--table is empty: name the table, or leave the flag out")
	case s.database == "" && s.table != defaultTable:
		return errors.New("--table goes with a database alone")
	}
	return nil
}

func isDatabase(argument string) bool {
	return strings.HasPrefix(argument, "postgres://") || strings.HasPrefix(argument, "postgresql://")
}
