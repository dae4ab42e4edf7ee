// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package testbed

import "syscall"

// maxResident returns bytes, as the kernel does.
func maxResident(usage *syscall.Rusage) int64 { return usage.Maxrss }
