// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate gives f blocks for size bytes.
func allocate(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP):
			return fill(f, size)
		default:
			return os.NewSyscallError("fallocate", err)
		}
	}
}
