// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import "syscall"

// maxResident returns bytes; Linux counts in KiB.
func maxResident(usage *syscall.Rusage) int64 { return usage.Maxrss << 10 }
