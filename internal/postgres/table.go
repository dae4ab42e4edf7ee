// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"fmt"
	"regexp"
	"strings"
)

// DefaultTable is the table's name unless the configuration has another.
const DefaultTable = "audit_events"

// maxTableName leaves room, in the 63 bytes of an identifier, for the suffixes
// of what is named after the table.
const (
	maxTableName  = 40
	maxSchemaName = 63
)

var tableName = regexp.MustCompile(`^(?:([A-Za-z_][A-Za-z0-9_]*)\.)?([A-Za-z_][A-Za-z0-9_]*)$`)

// Table names the tables of one store.
type Table struct{ schema, name string }

// ParseTable reads a name, with or without a schema in front. Without one it is
// in the schema public, whatever the search path says. As PostgreSQL does with
// names that are not quoted, capital letters become small.
func ParseTable(text string) (Table, error) {
	parts := tableName.FindStringSubmatch(text)
	if parts == nil || len(parts[2]) > maxTableName || len(parts[1]) > maxSchemaName {
		return Table{}, fmt.Errorf("table must be a name of letters, digits and _ that begins with no digit, of at most %d bytes,"+
			" such as %s, or with its schema %s, found %q", maxTableName, DefaultTable, "audit."+DefaultTable, text)
	}
	t := Table{schema: strings.ToLower(parts[1]), name: strings.ToLower(parts[2])}
	if t.schema == "" {
		t.schema = "public"
	}
	return t, nil
}

// String returns schema and name.
func (t Table) String() string { return t.schema + "." + t.name }

// Writer is the role that may insert and nothing else.
func (t Table) Writer() string { return t.name + "_writer" }

// Reader is the role that may read.
func (t Table) Reader() string { return t.name + "_reader" }

// Events is the table of records, quoted for SQL.
func (t Table) Events() string { return t.quoted("") }

// Stubs is the table of stubs, quoted for SQL.
func (t Table) Stubs() string { return t.quoted("_stubs") }

// Checkpoints is the table of checkpoints, quoted for SQL.
func (t Table) Checkpoints() string { return t.quoted("_checkpoints") }

// PartitionFunction makes a month's partition, quoted for SQL.
func (t Table) PartitionFunction() string { return t.quoted("_partition") }

// Trigger refuses a coordinate that is stored twice; not quoted.
func (t Table) Trigger() string { return t.name + "_once" }

func (t Table) migrations() string { return t.quoted("_migrations") }

// quoted needs no escaping: ParseTable lets no quotation mark through.
func (t Table) quoted(suffix string) string {
	return `"` + t.schema + `"."` + t.name + suffix + `"`
}
