// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// shared is the server of all tests of this process that do not stop it.
var shared struct {
	sync.Mutex
	server *Server // nil until the first test asks
	err    error   // of the attempt to start it, which is made once
}

// Main is for TestMain: it runs the tests, stops the server that they shared,
// fails if goroutines are left, and ends the process.
//
// A package with a TestMain of its own may do without: the guard stops the
// server then.
func Main(m *testing.M) { goleak.VerifyTestMain(thenStop{m}) }

type thenStop struct{ tests *testing.M }

func (m thenStop) Run() int {
	code := m.tests.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		return code
	}
	if err := shared.server.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// Database creates an empty database for the test, on a server that may be
// shared, and returns its URL. The database is dropped after the test, whoever
// is still connected.
func Database(t testing.TB) (dsn string) {
	t.Helper()
	return fresh(t, "template0")
}

// Copy is Database with the content of another one, to which nobody may be
// connected.
func Copy(t testing.TB, of string) (dsn string) {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal("copy a database: its URL is none")
	}
	return fresh(t, strings.TrimPrefix(u.Path, "/"))
}

func fresh(t testing.TB, template string) (dsn string) {
	t.Helper()
	machine().needServer(t)
	server, err := serverURL()
	if err != nil {
		t.Fatal(err)
	}
	name, err := create(t.Context(), server, template)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := run(ctx, server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the database of a test: %v", err)
		}
	})
	return withDatabase(server, name)
}

// serverURL returns the URL of the server that tests share.
func serverURL() (string, error) {
	if given := os.Getenv(EnvServer); given != "" {
		return given, checkURL(given)
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = newServer()
	}
	if shared.err != nil {
		return "", shared.err
	}
	return shared.server.DSN(administrator), nil
}

// checkURL demands a form in which the database can be replaced. Its error does
// not tell the text, which may hold a password.
func checkURL(dsn string) error {
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return errors.New(EnvServer + " must be a URL: postgres://user:password@host:port/database")
	}
	return nil
}

func withDatabase(dsn, name string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn // was parsed before
	}
	u.Path = "/" + name
	return u.String()
}

// create creates a database with a name of its own.
func create(ctx context.Context, server, template string) (name string, err error) {
	name = "otelaudit_test_" + strings.ToLower(rand.Text()[:12])
	if err := run(ctx, server, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		return "", fmt.Errorf("create a database for a test: %w", err)
	}
	return name, nil
}

// run runs one statement in a connection of its own.
func run(ctx context.Context, dsn, statement string) error {
	connection, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = connection.Exec(ctx, statement)
	return errors.Join(err, connection.Close(ctx))
}
