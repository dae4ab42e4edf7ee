// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadata"
)

const (
	addressA = "192.0.2.1:1"
	addressB = "192.0.2.2:1"
)

// comingIn is a request that holds bytes and is being read.
func comingIn(t *testing.T, b *budget, address string, bytes int64) *share {
	t.Helper()
	s := newShare(b, address, nil)
	s.read(nil)
	require.NoError(t, s.admit(bytes))
	return s
}

// ask wants bytes for a request that is being read.
func ask(b *budget, address string, bytes int64) (*share, chan error) {
	s := newShare(b, address, nil)
	s.read(nil)
	asked := make(chan error, 1)
	go func() { asked <- s.admit(bytes) }()
	return s, asked
}

func isCutOff(s *share) bool {
	select {
	case <-s.cutOff:
		return true
	default:
		return false
	}
}

// Who holds much gives way at once to who would hold less.
func TestTurnsTakeFromTheRichest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 100}
		started := time.Now()
		oldest := comingIn(t, b, addressA, 40)
		time.Sleep(time.Millisecond)
		other := comingIn(t, b, addressB, 20)
		younger := comingIn(t, b, addressA, 40)
		poor, asked := ask(b, "192.0.2.3:1", 30)
		synctest.Wait()
		require.True(t, isCutOff(oldest))
		require.False(t, isCutOff(younger))
		require.False(t, isCutOff(other))
		oldest.hasRead()
		oldest.release()
		require.NoError(t, <-asked)
		require.Equal(t, time.Millisecond, time.Since(started))
		require.EqualValues(t, 90, b.used.Load())
		for _, s := range []*share{younger, other, poor} {
			s.hasRead()
			s.release()
		}
		require.Zero(t, b.used.Load())
		require.Empty(t, b.coming)
	})
}

// Among equals the oldest gives way, after its turn.
func TestTurnsAmongEquals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 100}
		started := time.Now()
		first := comingIn(t, b, addressA, 50)
		time.Sleep(readingTurn / 2)
		second := comingIn(t, b, addressA, 50)
		_, asked := ask(b, addressA, 50)
		<-first.cutOff
		require.Equal(t, readingTurn, time.Since(started))
		first.hasRead()
		first.release()
		require.NoError(t, <-asked)
		require.False(t, isCutOff(second))
	})
}

// The poorest waiter comes first, and who has nothing to wait for goes.
func TestTurnsOfWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 100}
		held := comingIn(t, b, addressA, 60)
		working := comingIn(t, b, addressB, 40)
		working.hasRead() // it has come in: nobody takes it
		_, rich := ask(b, addressA, 40)
		synctest.Wait()
		_, poor := ask(b, addressB, 40)
		synctest.Wait()
		require.True(t, isCutOff(held), "60 is more than the 40 that the other would hold")
		working.release()
		require.NoError(t, <-poor)
		require.Empty(t, rich)
		held.hasRead()
		held.release()
		require.NoError(t, <-rich)
	})
}

func TestTurnsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 100}
		working := comingIn(t, b, addressB, 100)
		working.hasRead()
		_, asked := ask(b, addressA, 1)
		require.ErrorIs(t, <-asked, errBusy, "nobody can give way: there is nothing to wait for")
		working.release()

		stuck := comingIn(t, b, addressB, 100)
		began := time.Now()
		_, asked = ask(b, addressA, 1)
		require.ErrorIs(t, <-asked, errBusy)
		require.Equal(t, longestWait, time.Since(began), "it was cut off, but never ended")
		require.Empty(t, b.waiters)
		require.Zero(t, b.crowded.Load())
		stuck.release()

		held := comingIn(t, b, addressB, 100)
		gone := make(chan struct{})
		s := newShare(b, addressA, gone)
		close(gone)
		require.ErrorIs(t, s.admit(1), errBusy)
		require.ErrorIs(t, s.admit(101), errNeverFits)
		require.ErrorIs(t, held.admit(1), errNeverFits)
	})
}

// A request that waits for more can be cut off itself, so that two that wait
// for each other do not wait for ever.
func TestTurnsCutOffWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 100}
		type outcome struct {
			share *share
			err   error
		}
		ended := make(chan outcome, 2)
		for _, s := range []*share{comingIn(t, b, addressA, 50), comingIn(t, b, addressA, 50)} {
			go func() { ended <- outcome{s, s.admit(50)} }()
		}
		for _, want := range []error{errCutOff, nil} {
			o := <-ended
			require.ErrorIs(t, o.err, want)
			synctest.Wait() // the other one looks again only once there is room
			o.share.hasRead()
			o.share.release()
		}
		require.Zero(t, b.used.Load())
		require.Empty(t, b.coming)
	})
}

func TestTurnsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 100}
		stuck := comingIn(t, b, addressA, 100)
		stuck.giveWay() // and takes its time
		var waiting []chan error
		for range maxWaitingOfPeer {
			_, asked := ask(b, addressB, 1)
			waiting = append(waiting, asked)
		}
		synctest.Wait()
		_, asked := ask(b, addressB, 1)
		require.ErrorIs(t, <-asked, errBusy, "one caller's requests")
		for i := maxWaitingOfPeer; i < maxWaiting; i++ {
			_, asked := ask(b, fmt.Sprintf("198.51.%d.%d:1", i/256, i%256), 1)
			waiting = append(waiting, asked)
		}
		synctest.Wait()
		_, asked = ask(b, "192.0.2.3:1", 1)
		require.ErrorIs(t, <-asked, errBusy, "all callers' requests")
		stuck.release()
		granted := 0
		for _, asked := range waiting {
			if <-asked == nil {
				granted++
			}
		}
		require.Equal(t, 100, granted)
	})
}

func TestPeers(t *testing.T) {
	assert.Equal(t, "192.0.2.1", peerOf("192.0.2.1:80"))
	assert.Equal(t, "192.0.2.1", peerOf("[::ffff:192.0.2.1]:80"))
	assert.Equal(t, peerOf("[2001:db8::1]:80"), peerOf("[2001:db8::2:3%eth0]:81"))
	assert.NotEqual(t, peerOf("[2001:db8::1]:80"), peerOf("[2001:db8:0:1::1]:80"))
	assert.Empty(t, peerOf("@"))
}

// Bodies that do not come must not keep out those that do, however many
// connections hold them.
func TestSlowBodiesDoNotKeepOthersOut(t *testing.T) {
	config := testConfig()
	config.HTTP.ReadTimeout = time.Hour
	config.MaxInFlightBytes = defaultMaxBody
	for name, c := range map[string]struct {
		connections int
		body        string
	}{
		"announced": {defaultMaxBody / announcedBytes, "{"},
		"large":     {1, strings.Repeat(" ", defaultMaxBody-announcedBytes/2)},
	} {
		t.Run(name, func(t *testing.T) {
			r, url := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), seal)
			slow := make([]net.Conn, c.connections)
			for i := range slow {
				connection, err := net.Dial("tcp", r.listener.Addr().String())
				require.NoError(t, err)
				defer func() { assert.NoError(t, connection.Close()) }()
				slow[i] = connection
				_, err = fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", pathEvents, defaultMaxBody, c.body)
				require.NoError(t, err)
				if i == 0 {
					require.Eventually(t, func() bool { return r.budget.used.Load() > 0 }, time.Minute, time.Millisecond, "it is the oldest")
				}
			}
			come := int64(c.connections * max(len(c.body), announcedBytes))
			require.Eventually(t, func() bool { return r.budget.used.Load() == come }, time.Minute, time.Millisecond)
			body := `{"action":"` + strings.Repeat("a", announcedBytes) + `"}`
			assert.Equal(t, http.StatusOK, post(t, url, contentJSON, body).status)
			require.NoError(t, slow[0].SetReadDeadline(time.Now().Add(time.Minute)))
			text, err := io.ReadAll(slow[0])
			require.NoError(t, err, "the first was the oldest, and is cut off")
			assert.True(t, strings.HasPrefix(string(text), "HTTP/1.1 503 "), string(text))
			assert.Contains(t, string(text), "Retry-After: 1")
		})
	}
}
