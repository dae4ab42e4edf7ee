// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

const barWidth = 30

// progress draws a bar on a terminal. A nil progress draws nothing.
type progress struct {
	w           io.Writer
	total, read int64
	drawn       int64 // per mille
}

// newProgress returns nil unless w is a terminal.
func newProgress(w io.Writer, files []source) *progress {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	p := &progress{w: w, drawn: -1}
	for _, each := range files {
		p.total += each.size
	}
	return p
}

func (p *progress) add(n int64) {
	if p == nil || p.total == 0 {
		return
	}
	p.read += n
	now := min(p.read*1000/p.total, 1000)
	if now == p.drawn {
		return
	}
	p.drawn = now
	full := int(now) * barWidth / 1000
	// A bar that cannot be drawn must not stop the verification.
	_, _ = fmt.Fprintf(p.w, "\r[%s%s] %3d %%", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), now/10)
}

// done takes the bar away.
func (p *progress) done() {
	if p != nil && p.drawn >= 0 {
		_, _ = fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", barWidth+10))
	}
}
