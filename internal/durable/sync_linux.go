// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sync makes what was written to f durable, and as much of its metadata as is
// needed to read it back.
func Sync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR { // a plain errno
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
