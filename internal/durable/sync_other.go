// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package durable

import "os"

// Sync makes what was written to f durable.
func Sync(f *os.File) error { return f.Sync() }
