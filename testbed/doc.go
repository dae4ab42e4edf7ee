// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package testbed starts the built binaries, loads them, breaks them, and asks
// the verifier what is left. It knows them as a user does: a configuration
// file, HTTP, files and exit codes.
//
// `make build` must have run; a test that finds no binary says so.
package testbed
