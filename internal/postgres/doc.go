// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package postgres knows how sealed records are kept in PostgreSQL: the tables
// and their migrations, the columns that are derived from a record, and how
// what is stored is read again. The exporter's sink writes with it, the command
// reads with it.
//
// A row of the table audit_events holds the link, its hash and the canonical
// bytes that were sealed. They alone are evidence. All other columns are derived
// from them by a [Deriver] so that people can query, and are derived again when
// the row is verified. docs/postgres.md describes tables, roles and partitions
// for operators.
//
// Text that PostgreSQL cannot hold is shown in another way in derived columns:
// the character U+0000 as the six characters \u0000, and text in a column that
// an index holds is cut and gets a hash where it is longer than an index takes
// (see [Shown]). The stream of a link, which its hash covers, is kept such that
// it can be read back: \ as \\ and U+0000 as \u0000.
package postgres
