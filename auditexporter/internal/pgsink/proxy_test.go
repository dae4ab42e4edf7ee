// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
)

// poisoned seals a record that forbidPoison forbids.
func poisoned(t *testing.T, m *sinktest.Maker) sink.Entry {
	return m.Record(t, func(record plog.LogRecord) { record.SetEventName("poison") })
}

// proxy stands between a sink and the server and cuts the connection where the
// client learns least: at the commit.
type proxy struct {
	dsn    string
	server string

	mu    sync.Mutex
	armed string // guarded by mu; "", "before" or "after" the server has committed
	lost  string // guarded by mu; from this statement on nothing arrives, "" for none
	open  []net.Conn
}

func newProxy(t *testing.T, dsn string) *proxy {
	t.Helper()
	parsed, err := url.Parse(dsn)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{server: parsed.Host}
	parsed.Host = listener.Addr().String()
	p.dsn = parsed.String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, listener.Close())
		p.mu.Lock()
		for _, conn := range p.open {
			closeConn(conn)
		}
		p.mu.Unlock()
		serving.Wait()
	})
	return p
}

// closeConn closes what may be closed already.
func closeConn(conn net.Conn) { _ = conn.Close() }

func (p *proxy) cutAtCommit(stored bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed = "before"; stored {
		p.armed = "after"
	}
}

// swallow has the network go silent at a statement, for good: nothing arrives,
// and nobody is told.
func (p *proxy) swallow(statement string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = statement
}

// heal cuts what is open.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = ""
	for _, conn := range p.open {
		closeConn(conn)
	}
}

func (p *proxy) swallows(sent []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost != "" && bytes.Contains(bytes.ToLower(sent), []byte(p.lost))
}

// disarm says, once, that the next commit is to be cut, and how.
func (p *proxy) disarm(sent []byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !bytes.Contains(bytes.ToLower(sent), []byte("commit\x00")) {
		return ""
	}
	armed := p.armed
	p.armed = ""
	return armed
}

func (p *proxy) serve(client net.Conn) {
	defer closeConn(client)
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer closeConn(server)
	p.mu.Lock()
	p.open = append(p.open, client, server)
	p.mu.Unlock()
	var cut sync.Mutex // held where answers are to be kept back
	var back sync.WaitGroup
	back.Go(func() {
		defer closeConn(client)
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if err != nil {
				return
			}
			if !cut.TryLock() {
				return // this is the answer to the commit
			}
			_, err = client.Write(buffer[:n])
			cut.Unlock()
			if err != nil {
				return
			}
		}
	})
	defer back.Wait()
	buffer := make([]byte, 64<<10)
	for silent := false; ; {
		n, err := client.Read(buffer)
		if err != nil {
			closeConn(server)
			return
		}
		if silent = silent || p.swallows(buffer[:n]); silent {
			continue
		}
		switch p.disarm(buffer[:n]) {
		case "before":
			closeConn(server)
			return
		case "after":
			cut.Lock() // for good
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}
