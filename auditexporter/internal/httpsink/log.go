// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"bytes"
	"io"
	"log"
	"sync"
)

// unsolicited begins what net/http says, through the logger of the whole
// process, of bytes that come without a request. It goes on to quote them, up to
// 4 KiB, and an endpoint can have put content into them. No option of the client
// turns that off.
var unsolicited = []byte("Unsolicited response received on idle HTTP channel")

// discreet cuts what net/http quotes of an answer off the lines for w.
type discreet struct{ w io.Writer }

func (d discreet) Write(line []byte) (int, error) {
	cut := line
	if i := bytes.Index(line, unsolicited); i >= 0 {
		cut = append(bytes.Clone(line[:i+len(unsolicited)]), '\n')
	}
	if _, err := d.w.Write(cut); err != nil {
		return 0, err
	}
	return len(line), nil
}

var quieting sync.Mutex

// keepQuiet has the process's logger be discreet.
func keepQuiet() {
	quieting.Lock()
	defer quieting.Unlock()
	if _, already := log.Writer().(discreet); !already {
		log.SetOutput(discreet{log.Writer()})
	}
}
