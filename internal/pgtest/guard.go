// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// guard is a process that ends a server once the tests are gone. It notices at
// the end of a pipe that only the test process holds, which a panic, a timeout
// and a SIGKILL close as well. (PR_SET_PDEATHSIG would act at the end of the
// thread that started the server, which is not the end of the process, and
// exists on Linux only.)
type guard struct {
	command *exec.Cmd
	hold    io.Closer
}

// The first line of postmaster.pid is the server's process id; a server that is
// stopped has no such file.
const guarding = `
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" && while kill -0 "$pid"; do sleep 0.1; done
rm -rf "$1"
`

func newGuard(directory string) (*guard, error) {
	command := exec.Command("/bin/sh", "-c", guarding, "guard", directory)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hold, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("guard PostgreSQL: %w", err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("guard PostgreSQL: %w", err)
	}
	return &guard{command: command, hold: hold}, nil
}

// dismiss ends a guard that has nothing left to do.
func (g *guard) dismiss() error {
	if err := errors.Join(g.hold.Close(), g.command.Wait()); err != nil {
		return fmt.Errorf("guard PostgreSQL: %w", err)
	}
	return nil
}
