package pgoutput

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/walfence/walfence/pkg/events"
)

// reader takes big-endian values off a message. Its first fault sticks: from then on there is nothing left to read and
// every value is zero, so that decoding code cannot miss a check.
type reader struct {
	data  []byte
	pos   int    // 0 <= pos <= len(data)
	fault string // what was wrong; "" while nothing is
	at    int    // where reading stopped
}

func (r *reader) left() int { return len(r.data) - r.pos }

func (r *reader) fail(fault string) {
	if r.fault == "" {
		r.fault, r.at = fault, r.pos
	}
	r.pos = len(r.data)
}

// take returns the next n bytes, or nil and the fault.
func (r *reader) take(n int) []byte {
	if n < 0 || n > r.left() {
		r.fail("ends early")
		return nil
	}
	b := r.data[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) lsn() events.LSN { return events.LSN(r.uint64()) }

// Seconds from the Unix epoch to PostgreSQL's, 2000-01-01 UTC.
const postgresEpoch = 946_684_800

// time reads microseconds since PostgreSQL's epoch. Seconds are split off first: their sum cannot overflow.
func (r *reader) time() time.Time {
	micros := int64(r.uint64())
	return time.Unix(postgresEpoch+micros/1e6, micros%1e6*1e3).UTC()
}

// string reads up to a zero byte.
func (r *reader) string() string {
	n := bytes.IndexByte(r.data[r.pos:], 0)
	if n < 0 {
		r.fail("string does not end")
		return ""
	}
	s := string(r.data[r.pos : r.pos+n])
	r.pos += n + 1
	return s
}

// namespace reads a schema's name, which pgoutput leaves empty for pg_catalog.
func (r *reader) namespace() string {
	if s := r.string(); s != "" || r.fault != "" {
		return s
	}
	return "pg_catalog"
}

// flags reads a byte of which only the known bits may be set: an unknown one would change what the message means.
func (r *reader) flags(known byte) byte {
	f := r.byte()
	if f&^known != 0 {
		r.fail("unknown flags")
		return 0
	}
	return f
}

// count checks a number of elements against the bytes that they take at least, ahead of making room for them.
func (r *reader) count(n uint32, size int) int {
	if uint64(n)*uint64(size) > uint64(r.left()) {
		r.fail("count is above what follows")
		return 0
	}
	return int(n)
}

// tuple reads a row over dst.
func (r *reader) tuple(dst Tuple) Tuple {
	dst = dst[:0]
	for range r.count(uint32(r.uint16()), 1) {
		if r.left() == 0 {
			r.fail("ends early")
			return dst
		}
		kind := r.data[r.pos]
		switch kind {
		case ColumnText, ColumnBinary:
			r.pos++
			n := r.uint32()
			if uint64(n) > uint64(r.left()) {
				r.fail("value ends early")
				return dst
			}
			dst = append(dst, Column{Kind: kind, Data: r.take(int(n))})
		case ColumnNull, ColumnUnchanged:
			r.pos++
			dst = append(dst, Column{Kind: kind})
		default:
			r.fail("unknown kind of column")
			return dst
		}
	}
	return dst
}
