// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"

	"github.com/otelaudit/otelaudit/auditexporter/internal/pgsink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

// Bounds of PostgresConfig.
const (
	defaultConnections      = 4
	maxConnections          = 100
	defaultStatementTimeout = 30 * time.Second
	minStatementTimeout     = 100 * time.Millisecond
	maxStatementTimeout     = time.Hour
)

// PostgresConfig says where and how the PostgreSQL sink stores.
type PostgresConfig struct {
	// DSN leads to the database: a URL, or key=value pairs as libpq takes them.
	// What it leaves out comes from libpq's environment variables (PGPASSWORD,
	// PGSERVICE and so on). TLS is set in it: sslmode, sslrootcert, sslcert,
	// sslkey. Required.
	DSN configopaque.String `mapstructure:"dsn"`
	// Table names the table of records, with or without a schema; all other
	// tables are named after it. Default audit_events, in the schema public.
	Table string `mapstructure:"table"`
	// CreateSchema makes the tables and brings older ones up to date. With false
	// they must be there: otelaudit schema postgres prints them. Default true.
	CreateSchema bool `mapstructure:"create_schema"`
	// MaxConnections is how many connections are open at once. 1 to 100,
	// default 4.
	MaxConnections int `mapstructure:"max_connections"`
	// StatementTimeout is how long the server works at one statement. 100 ms to
	// 1 h, default 30 s. The exporter's timeout bounds a whole attempt.
	StatementTimeout time.Duration `mapstructure:"statement_timeout"`
}

func defaultPostgres() PostgresConfig {
	return PostgresConfig{
		Table: postgres.DefaultTable, CreateSchema: true, MaxConnections: defaultConnections, StatementTimeout: defaultStatementTimeout,
	}
}

// Validate says what is wrong with the PostgreSQL sink's configuration.
func (c *PostgresConfig) Validate() error {
	var errs []error
	if c.DSN == "" {
		errs = append(errs, errors.New("`dsn` must not be empty: it leads to the database, such as"+
			" postgres://collector@db.example:5432/audit?sslmode=verify-full, or service=audit"))
	} else if err := postgres.CheckDSN(string(c.DSN)); err != nil {
		errs = append(errs, fmt.Errorf("`dsn`: %w", err))
	}
	if _, err := postgres.ParseTable(c.Table); err != nil {
		errs = append(errs, fmt.Errorf("`table`: %w", err))
	}
	if c.MaxConnections < 1 || c.MaxConnections > maxConnections {
		errs = append(errs, fmt.Errorf("`max_connections` must be from 1 to %d, found %d", maxConnections, c.MaxConnections))
	}
	if c.StatementTimeout < minStatementTimeout || c.StatementTimeout > maxStatementTimeout {
		errs = append(errs, fmt.Errorf("`statement_timeout` must be from %v to %v, found %v",
			minStatementTimeout, maxStatementTimeout, c.StatementTimeout))
	}
	return errors.Join(errs...)
}

func (e *auditExporter) openPostgres(c *PostgresConfig) (sink.Sink, error) {
	table, err := postgres.ParseTable(c.Table)
	if err != nil {
		return nil, fmt.Errorf("`postgres::table`: %w", err)
	}
	return pgsink.Open(pgsink.Config{
		DSN: string(c.DSN), Table: table, CreateSchema: c.CreateSchema,
		MaxConnections: c.MaxConnections, StatementTimeout: c.StatementTimeout, Logger: e.settings.Logger,
	})
}
