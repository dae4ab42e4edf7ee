// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"

	"github.com/otelaudit/otelaudit/internal/postgres"
)

// SQLSTATEs and their classes. What is in none of them is tried again.
const (
	classData       = "22" // a value that a type does not take
	classConstraint = "23"
	classLimit      = "54" // too much for one row, or one index entry
	classLogin      = "28"
	classDatabase   = "3D"
	classSchema     = "3F"
	classAccess     = "42" // rights, names, columns

	uniqueViolation = "23505"
	checkViolation  = "23514"
	readOnly        = "25006"
	noRight         = "42501"
	queryCancelled  = "57014" // by statement_timeout, or by a person
)

// refusedTLS is what pgconn says of a server that does not speak TLS; it has no
// error of its own for that.
const refusedTLS = "server refused TLS connection"

// faultOf returns the database's error inside err, nil if there is none.
func faultOf(err error) *postgres.Fault {
	var fault *postgres.Fault
	if errors.As(err, &fault) {
		return fault
	}
	return nil
}

// noPartition says that no partition takes a row: somebody removed the default
// one. The row is not the cause.
func noPartition(f *postgres.Fault) bool { return f.Code == checkViolation && f.Constraint == "" }

// isData says that a row is refused for what it holds. A unique key is not
// meant: that may be a matter of who came first.
func isData(f *postgres.Fault) bool {
	switch f.Class() {
	case classData, classLimit:
		return true
	case classConstraint:
		return f.Code != uniqueViolation && !noPartition(f)
	}
	return false
}

// cure says what to do about an error that only a person can cure, "" for all
// others.
func (s *Sink) cure(err error) string {
	if fault := faultOf(err); fault != nil {
		return s.cureFault(fault)
	}
	var (
		certificate *tls.CertificateVerificationError
		name        *net.DNSError
	)
	switch {
	case errors.Is(err, postgres.ErrVersion):
		return "bring the tables up to date"
	case errors.As(err, &certificate):
		return "the server's certificate is not trusted: see sslrootcert, sslmode and host in `postgres::dsn`"
	case strings.Contains(err.Error(), refusedTLS):
		return "the server does not speak TLS, which sslmode in `postgres::dsn` asks for: set ssl = on there, or correct host and port"
	case errors.As(err, &name) && name.IsNotFound:
		return "correct the host in `postgres::dsn`"
	}
	return ""
}

func (s *Sink) cureFault(fault *postgres.Fault) string {
	table := s.config.Table
	switch {
	case fault.Code == readOnly:
		return "the server takes no writes, it may be a standby: let `postgres::dsn` lead to the primary (target_session_attrs=read-write)"
	case fault.Code == noRight:
		return "give the user in `postgres::dsn` the role: GRANT " + table.Writer() + " TO …; the tables' owner makes them with" +
			" otelaudit schema postgres --table " + table.String() + " | psql"
	case noPartition(fault):
		return "make a default partition again: CREATE TABLE … PARTITION OF " + table.String() + " DEFAULT"
	}
	switch fault.Class() {
	case classLogin:
		return "correct user, password or certificate in `postgres::dsn`, or the server's pg_hba.conf"
	case classDatabase:
		return "create the database, or correct its name in `postgres::dsn`"
	case classSchema, classAccess:
		return "the tables are not as they should be: compare them with otelaudit schema postgres --table " + table.String()
	}
	return ""
}
