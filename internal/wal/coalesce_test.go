package wal

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABacklogBeginsAboveLiveTrafficAndEndsBelow(t *testing.T) {
	now := time.Now()
	s := socket{last: now, window: now}
	second := func(bytes int) {
		for range 100 {
			s.last = s.last.Add(10 * time.Millisecond)
			s.pace(bytes / 100)
		}
	}
	second(1 << 20) // more than a thousand commits in a second
	require.False(t, s.backlog)
	second(10 << 20)
	require.True(t, s.backlog)
	second(5 << 20)
	require.True(t, s.backlog, "a slower reader has not caught up yet")
	second(1 << 20)
	require.False(t, s.backlog)
}

// pair is a connection as the reader dials it, and its peer.
func pair(t *testing.T) (net.Conn, net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := dial(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	peer, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(); _ = peer.Close() })
	return c, peer
}

func TestTheDialedConnectionIsAConnection(t *testing.T) {
	c, peer := pair(t)
	text := strings.Repeat("x", 4<<20)
	go func() {
		_, _ = io.WriteString(peer, text)
		_, _ = io.Copy(peer, peer)
	}()
	got := make([]byte, len(text))
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
	go func() { _, _ = io.WriteString(c, text) }()
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
	require.NoError(t, peer.Close())
	_, err = c.Read(got)
	require.ErrorIs(t, err, io.EOF)
}

func TestTheDialedConnectionHeedsItsDeadlineAlsoWhenItIsMovedMeanwhile(t *testing.T) {
	c, _ := pair(t)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetDeadline(time.Time{}))
	done := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	require.NoError(t, c.SetDeadline(time.Now()))
	select {
	case err := <-done:
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-time.After(10 * time.Second):
		t.Fatal("still reading")
	}
}

func TestClosingTheDialedConnectionEndsItsReaderAndHappensOnce(t *testing.T) {
	c, _ := pair(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	require.NoError(t, c.Close())
	select {
	case err := <-done:
		require.Error(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("still reading")
	}
	require.ErrorIs(t, c.Close(), net.ErrClosed)
	_, err := c.Write([]byte{1})
	require.ErrorIs(t, err, net.ErrClosed)
}
