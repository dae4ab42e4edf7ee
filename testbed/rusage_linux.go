// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// maxResident returns bytes; Linux counts in KiB.
func maxResident(usage *syscall.Rusage) int64 { return usage.Maxrss << 10 }

// peakMemory returns the most memory that a running process has held, in
// bytes. What Linux tells once it has ended is at least what the parent held
// when it started the process.
func peakMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read peak memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "VmHWM:" && fields[2] == "kB" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("read peak memory: /proc/%d/status does not tell it", pid)
}
