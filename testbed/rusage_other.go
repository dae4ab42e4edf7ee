// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package testbed

import "syscall"

// maxResident returns bytes, as the kernel does.
func maxResident(usage *syscall.Rusage) int64 { return usage.Maxrss }

// peakMemory returns 0: it is known once the process has ended.
func peakMemory(int) (int64, error) { return 0, nil }
