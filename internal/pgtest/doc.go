// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package pgtest gives tests a real PostgreSQL server. Only tests import it.
//
// It takes the server that OTELAUDIT_TEST_POSTGRES names, by URL, of a user who
// may create databases; otherwise it starts one of the installed binaries, on
// loopback, in a temporary directory. A test whose server is to be stopped and
// started takes one of its own, for which there must be binaries.
//
// Nothing found fails the test. OTELAUDIT_WITHOUT is the only way around: a
// list with commas, in which `postgres` skips every test that needs PostgreSQL,
// and `postgres-binaries` those that need a server of their own.
//
// Servers are durable (fsync is on), and nothing outlives the tests: each has a
// guard, a process that waits for the end of the test process, however that
// comes, and then ends the server and removes its directory.
package pgtest
