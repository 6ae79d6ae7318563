package wal

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// unpolled is a socket that Go's poller does not know. The poller wakes a thread for every packet that arrives, whether
// somebody reads or not; the walsender pays for the waking, and during a wait that is half of its time.
type unpolled struct {
	net.Conn // closed: only its addresses are of use

	fd       int
	mu       sync.RWMutex // held for reading while fd is in use, so that a closed number is not taken for another file
	closed   atomic.Bool
	deadline [2]atomic.Int64 // Unix nanoseconds, 0 for none, of reads and of writes
}

const (
	reads = iota
	writes

	// A deadline that another goroutine moves while a call waits is noticed after this.
	notice = 100 * time.Millisecond
)

// unpoll takes a connection's socket out of the poller, or returns the connection as it is.
func unpoll(conn net.Conn) net.Conn {
	filer, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return conn
	}
	file, err := filer.File()
	if err != nil {
		return conn
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return conn
	}
	conn.Close()
	return &unpolled{Conn: conn, fd: fd}
}

// transfer calls move until it has moved something, waiting for the socket in between.
func (u *unpolled) transfer(which int, events int16, move func() (int, error)) (int, error) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	for !u.closed.Load() {
		n, err := move()
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
			return n, err
		}
		wait := notice
		if d := u.deadline[which].Load(); d != 0 {
			wait = min(wait, time.Until(time.Unix(0, d)))
		}
		if wait <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		runtime.Gosched() // what was just read has made others ready, who need this thread
		fds := []unix.PollFd{{Fd: int32(u.fd), Events: events}}
		if _, err := unix.Poll(fds, int(wait/time.Millisecond)+1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("poll", err)
		}
	}
	return 0, net.ErrClosed
}

// Read is part of net.Conn.
func (u *unpolled) Read(p []byte) (int, error) {
	n, err := u.transfer(reads, unix.POLLIN, func() (int, error) {
		n, _, err := unix.Recvfrom(u.fd, p, unix.MSG_DONTWAIT)
		return n, err
	})
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

// Write is part of net.Conn.
func (u *unpolled) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		var n int
		n, err = u.transfer(writes, unix.POLLOUT, func() (int, error) {
			return unix.SendmsgN(u.fd, p[written:], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		})
		written += max(n, 0)
	}
	return written, err
}

// Close is part of net.Conn. A call that waits ends within a moment.
func (u *unpolled) Close() error {
	if u.closed.Swap(true) {
		return net.ErrClosed
	}
	_ = unix.Shutdown(u.fd, unix.SHUT_RDWR) // wakes who waits; fails only where the peer has gone
	u.mu.Lock()
	defer u.mu.Unlock()
	return unix.Close(u.fd)
}

// SetDeadline is part of net.Conn.
func (u *unpolled) SetDeadline(t time.Time) error {
	u.set(reads, t)
	u.set(writes, t)
	return nil
}

// SetReadDeadline is part of net.Conn.
func (u *unpolled) SetReadDeadline(t time.Time) error { u.set(reads, t); return nil }

// SetWriteDeadline is part of net.Conn.
func (u *unpolled) SetWriteDeadline(t time.Time) error { u.set(writes, t); return nil }

func (u *unpolled) set(which int, t time.Time) {
	if t.IsZero() {
		u.deadline[which].Store(0)
		return
	}
	u.deadline[which].Store(t.UnixNano())
}
