// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrVersion says that the tables are not those that this version needs.
var ErrVersion = errors.New("tables are missing or of another version")

// ErrForeign says that the table's name belongs to something else.
var ErrForeign = errors.New("table was not made by otelaudit")

// lockKey makes our advisory locks differ from those of others, as far as a
// number can. It is part of the schema: every version has the same.
const lockKey = 8031727

// LockOrigin makes writers of one origin take turns until the transaction ends.
// Its one argument is the origin.
//
// Here as elsewhere functions have their schema in front, and arguments the
// types of the function that is meant: PostgreSQL prefers a function of that
// name in another schema of the search path, whose types fit better, and that
// would be somebody else's code with our rights.
var LockOrigin = fmt.Sprintf("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, %d::bigint))", lockKey)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one step from an older version of the tables. It may be applied
// to tables that have it already.
type migration struct {
	version int
	name    string
	sql     string
}

// migrationSteps returns all steps in their order.
func (t Table) migrationSteps() []migration {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	fill := strings.NewReplacer(
		"@table@", t.Events(), "@schema@", `"`+t.schema+`"`, "@name@", t.name, "@lock@", strconv.Itoa(lockKey))
	steps := make([]migration, len(names))
	for i, name := range names { // Glob sorts them
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			panic(err) // it is embedded
		}
		steps[i] = migration{i + 1, strings.TrimSuffix(strings.TrimPrefix(name, "migrations/"), ".sql"), fill.Replace(string(text))}
	}
	return steps
}

// prepare makes the schema and the table of migrations, and stops where a
// table's name is taken: whose table that is could change what is stored.
func (t Table) prepare() string {
	const text = `DO $do$
DECLARE
    taken text;
BEGIN
    IF to_regnamespace('@schema@') IS NULL THEN
        CREATE SCHEMA @schema@;
    END IF;
    IF to_regclass('@migrations@') IS NULL THEN
        FOREACH taken IN ARRAY ARRAY['@table@', '@stubs@', '@checkpoints@', '@default@'] LOOP
            IF to_regclass(taken) IS NOT NULL THEN
                RAISE EXCEPTION '% is there and was not made by otelaudit: set postgres::table to another name, or rename that table', taken
                    USING ERRCODE = 'duplicate_table';
            END IF;
        END LOOP;
    END IF;
    CREATE TABLE IF NOT EXISTS @migrations@ (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
END
$do$;
`
	return strings.NewReplacer("@table@", t.Events(), "@stubs@", t.Stubs(), "@checkpoints@", t.Checkpoints(), "@default@", t.quoted("_default"),
		"@migrations@", t.migrations(), "@schema@", `"`+t.schema+`"`).Replace(text)
}

// quiet leaves out that something is there already, which is as it should be.
const quiet = "SET LOCAL client_min_messages = warning;\n"

// trustedPath has the transaction find nobody's functions but PostgreSQL's.
const trustedPath = "SET LOCAL search_path = pg_catalog, pg_temp;\n"

// lock has no result, which psql would print.
func (t Table) lock() string {
	return fmt.Sprintf("DO $do$ BEGIN PERFORM pg_advisory_xact_lock(hashtextextended('%s migrations', %d)); END $do$;\n", t, lockKey)
}

// Schema returns all SQL that makes the tables, for whom the collector has not
// the rights to. It may be run any number of times, and brings older tables up
// to date.
func (t Table) Schema() string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- Tables of otelaudit's PostgreSQL sink as %s. Run it as the role that is to own them;\n"+
		"-- to make the roles %s and %s that role needs CREATEROLE.\n"+
		"-- It may be run again, and brings older tables up to date.\n\n", t, t.Writer(), t.Reader())
	b.WriteString("BEGIN;\n" + quiet + trustedPath + t.lock() + t.prepare())
	for _, step := range t.migrationSteps() {
		fmt.Fprintf(&b, "\n-- %s\n%s\n%s", step.name, step.sql, t.applied(step))
	}
	b.WriteString("\nCOMMIT;\n")
	return b.String()
}

func (t Table) applied(m migration) string {
	return fmt.Sprintf("INSERT INTO %s (version, name) VALUES (%d, '%s') ON CONFLICT DO NOTHING;\n", t.migrations(), m.version, m.name)
}

// Migrate applies the migrations that are missing, all or none. Several may call
// it at once. An error wraps ErrVersion where the tables are newer, ErrForeign
// where the name is taken.
func (t Table) Migrate(ctx context.Context, conn Beginner) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, trustedPath+t.lock()+t.prepare(), pgx.QueryExecModeSimpleProtocol); err != nil {
			err = Clean(err)
			if HasCode(err, "42P07") { // duplicate_table
				return fmt.Errorf("%w: %w", ErrForeign, err)
			}
			return fmt.Errorf("make table of migrations: %w", err)
		}
		version, err := t.version(ctx, tx)
		if err != nil {
			return err
		}
		steps := t.migrationSteps()
		if version > len(steps) {
			return t.wrongVersion(version, len(steps))
		}
		for _, step := range steps[version:] {
			if _, err := tx.Exec(ctx, step.sql+t.applied(step), pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("migration %s: %w", step.name, Clean(err))
			}
		}
		return nil
	})
}

// Beginner is a connection, a transaction or a pool.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Querier is a connection, a transaction or a pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row
}

// CheckVersion returns an error that wraps ErrVersion unless the tables are
// those of this version.
func (t Table) CheckVersion(ctx context.Context, conn Querier) error {
	version, err := t.version(ctx, conn)
	if HasCode(err, "42P01") { // undefined_table
		version, err = 0, nil
	}
	if err != nil {
		return err
	}
	if want := len(t.migrationSteps()); version != want {
		return t.wrongVersion(version, want)
	}
	return nil
}

func (t Table) version(ctx context.Context, conn Querier) (version int, err error) {
	err = conn.QueryRow(ctx, "SELECT coalesce(pg_catalog.max(version), 0) FROM "+t.migrations()).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read version of tables: %w", Clean(err))
	}
	return version, nil
}

func (t Table) wrongVersion(version, want int) error {
	if version > want {
		return fmt.Errorf("%w: %s has version %d, this otelaudit knows up to %d: install a newer one", ErrVersion, t, version, want)
	}
	if version == 0 {
		return fmt.Errorf("%w: %s is not there, or not ours: is its name right? Else run otelaudit schema postgres --table %s | psql, as the owner of the tables",
			ErrVersion, t, t)
	}
	return fmt.Errorf("%w: %s has version %d of %d: run otelaudit schema postgres --table %s | psql, as the owner of the tables",
		ErrVersion, t, version, want, t)
}
