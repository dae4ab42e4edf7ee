// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrDSN says that a connection string cannot be read. Why is not told: the
// reason might repeat a part of the password.
var ErrDSN = errors.New("dsn cannot be read: it must be a URL such as postgres://user@host:5432/database?sslmode=verify-full," +
	" or pairs such as host=… user=… dbname=…; in a URL, a password's special characters must be percent-encoded;" +
	" files that it names (sslrootcert, sslcert, sslkey, service file) must be there")

// CheckDSN returns ErrDSN for what is no connection string.
func CheckDSN(dsn string) error {
	if _, err := pgconn.ParseConfig(dsn); err != nil {
		return ErrDSN
	}
	return nil
}

// Fault is an error of the database without what it may repeat of a row.
type Fault struct {
	Code       string // SQLSTATE
	Message    string // "" where it might hold content
	Table      string
	Column     string
	Constraint string
}

// Error returns the text for people.
func (f *Fault) Error() string {
	var b strings.Builder
	if f.Message != "" {
		b.WriteString(f.Message + " ")
	}
	fmt.Fprintf(&b, "(SQLSTATE %s", f.Code)
	for _, part := range []struct{ name, value string }{{"table", f.Table}, {"column", f.Column}, {"constraint", f.Constraint}} {
		if part.value != "" {
			fmt.Fprintf(&b, ", %s %s", part.name, part.value)
		}
	}
	b.WriteString(")")
	return b.String()
}

// Class is the first two characters of the SQLSTATE.
func (f *Fault) Class() string { return f.Code[:min(2, len(f.Code))] }

// Clean returns err without what the database repeats of rows: it wraps a Fault
// in place of the database's own error. Errors of other kinds are as they were.
func Clean(err error) error {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return err
	}
	f := &Fault{Code: refused.Code, Table: refused.TableName, Column: refused.ColumnName, Constraint: refused.ConstraintName}
	switch f.Class() {
	case "22", "23", "54", "P0": // data, constraints, limits, and what triggers of others say
	default:
		f.Message = refused.Message
	}
	return f
}

// HasCode says whether err wraps a Fault of the given SQLSTATE.
func HasCode(err error, code string) bool {
	var fault *Fault
	return errors.As(err, &fault) && fault.Code == code
}
