// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/auditexporter/internal/httpsink/receivertest"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
)

// safeBuffer is a buffer that a goroutine of net/http may write to.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// What an endpoint sends behind its answer does not get into the log: net/http
// quotes it there, whoever configured which logger.
func TestNothingBehindAnAnswerIsLogged(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, listener.Close()) })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			request, err := http.ReadRequest(bufio.NewReader(connection))
			if err == nil {
				_, err = io.Copy(io.Discard, request.Body)
			}
			if err == nil {
				_, err = io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nhush: what the record said")
			}
			assert.NoError(t, err)
		}
	}()
	var logged safeBuffer
	before := log.Writer()
	t.Cleanup(func() { log.SetOutput(before) })
	m := sinktest.NewMaker(sinktest.Origin)
	s := open(t, testConfig(&receivertest.Receiver{URL: "http://" + listener.Addr().String()}, FormatNDJSON))
	_, wrapped := log.Writer().(discreet)
	assert.True(t, wrapped)
	log.SetOutput(discreet{&logged})
	write(t, s, m.Records(t, 1)...)
	require.Eventually(t, func() bool { return logged.String() != "" }, time.Minute, time.Millisecond)
	assert.Contains(t, logged.String(), string(unsolicited)+"\n")
	assert.NotContains(t, logged.String(), "hush")

	log.Print("what others say stays")
	assert.Contains(t, logged.String(), "what others say stays")
}
