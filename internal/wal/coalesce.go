package wal

import (
	"bufio"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Reading every message as it comes makes the walsender, which is the bottleneck of a backlog, wake us for each one: half of
// its time. So while reads are large the next one waits a little, and brings more. The wait adapts to what each read
// brought, and there is none while reads are small: live traffic pays nothing.
const (
	largeRead = 32 << 10
	// What one read should bring: well under what a socket buffers (the sender stops when that is full), well over the
	// cost of waking up.
	wantRead  = 128 << 10
	firstWait = 50 * time.Microsecond
	lastWait  = 400 * time.Microsecond
	// A read returns at least this often, so that status goes out.
	readTimeout = 250 * time.Millisecond
	bufferSize  = 1 << 20
)

// socket is the reading side of the replication connection. It serves the goroutine that owns the connection.
type socket struct {
	in    io.Reader
	conn  net.Conn
	wait  time.Duration
	last  time.Time // when the last read returned: a clock that costs nothing per message
	heard time.Time // when one last brought something
	timed bool      // reads have a deadline: replication has begun
	bytes atomic.Uint64
}

// frontend puts the socket and a large buffer between the connection and pgconn. It is a pgconn.BuildFrontendFunc, to which
// pgconn passes its connection as the writer.
func (s *socket) frontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	s.in, s.conn = r, w.(net.Conn)
	return pgproto3.NewFrontend(bufio.NewReaderSize(s, bufferSize), w)
}

// Read reads what there is, after a wait if there seems to be much.
func (s *socket) Read(p []byte) (int, error) {
	if s.wait > 0 {
		time.Sleep(s.wait)
	}
	if s.timed {
		if err := s.conn.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
			return 0, err
		}
	}
	n, err := s.in.Read(p)
	s.last = time.Now()
	if n > 0 {
		s.heard = s.last
	}
	s.bytes.Add(uint64(n))
	s.wait = nextWait(s.wait, n)
	return n, err
}

// notRead tells that nothing was read for a reason of our own, so that the peer's silence means nothing.
func (s *socket) notRead() {
	s.last = time.Now()
	s.heard = s.last
}

func nextWait(wait time.Duration, n int) time.Duration {
	switch {
	case n < largeRead:
		return 0
	case wait == 0:
		return firstWait
	case n < wantRead:
		return min(2*wait, lastWait)
	case n > 2*wantRead:
		return max(wait/2, firstWait)
	}
	return wait
}
