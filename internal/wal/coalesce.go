package wal

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Reading every message as it comes keeps the walsender, which is the bottleneck of a backlog, busy with waking us: half of
// its time. So while much comes, each read waits a millisecond first, and brings more; measured with waits from 0.2 to
// 2.5 ms, this is where it is fastest, and stays so. Live traffic is far below the rate at which that begins.
const (
	backlogWait   = time.Millisecond
	backlogBegins = 8 << 20 // bytes per second
	backlogEnds   = 4 << 20
	rateWindow    = 2 * time.Millisecond
	// What the socket holds meanwhile. The sender stops when it is full.
	socketBuffer = 1 << 20
	bufferSize   = 1 << 20
	// A read returns at least this often, so that status goes out.
	readTimeout = 250 * time.Millisecond
)

// socket is the reading side of the replication connection. It serves the goroutine that owns the connection.
type socket struct {
	in    io.Reader
	conn  net.Conn
	last  time.Time // when the last read returned: a clock that costs nothing per message
	heard time.Time // when one last brought something
	timed bool      // reads have a deadline: replication has begun
	bytes atomic.Uint64

	backlog bool      // much comes
	window  time.Time // when the bytes that arrived began to be counted
	arrived int
}

// frontend puts the socket and a large buffer between the connection and pgconn. It is a pgconn.BuildFrontendFunc, to which
// pgconn passes its connection as the writer.
func (s *socket) frontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	s.in, s.conn = r, w.(net.Conn)
	return pgproto3.NewFrontend(bufio.NewReaderSize(s, bufferSize), w)
}

// Read reads what there is, after a wait if there seems to be much.
func (s *socket) Read(p []byte) (int, error) {
	if s.backlog {
		time.Sleep(backlogWait)
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
	s.pace(n)
	return n, err
}

// notRead tells that nothing was read for a reason of our own, so that the peer's silence means nothing.
func (s *socket) notRead() {
	s.last = time.Now()
	s.heard = s.last
}

// pace looks at the end of each window whether there is a backlog.
func (s *socket) pace(n int) {
	s.arrived += n
	elapsed := s.last.Sub(s.window)
	if elapsed < rateWindow {
		return
	}
	rate := float64(s.arrived) / elapsed.Seconds()
	s.backlog = rate >= backlogBegins || s.backlog && rate >= backlogEnds
	s.window, s.arrived = s.last, 0
}

// dial connects, and lets the socket hold what comes during a wait.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: time.Minute}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if b, ok := conn.(interface{ SetReadBuffer(bytes int) error }); ok {
		_ = b.SetReadBuffer(socketBuffer) // a smaller one is only slower
	}
	return unpoll(conn), nil
}
