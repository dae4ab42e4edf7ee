// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package durable

import "os"

// allocate gives f blocks for size bytes.
func allocate(f *os.File, size int64) error { return fill(f, size) }
