package events

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in PostgreSQL's write-ahead log. Its text form is PostgreSQL's own, "16/B374D848".
type LSN uint64

// ParseLSN reads PostgreSQL's text form of an LSN.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if ok {
		h, err1 := strconv.ParseUint(hi, 16, 32)
		l, err2 := strconv.ParseUint(lo, 16, 32)
		if err1 == nil && err2 == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fmt.Errorf("parse LSN %q: want two hexadecimal numbers with a slash between", s)
}

// String returns PostgreSQL's text form.
func (l LSN) String() string {
	return string(l.append(make([]byte, 0, 17)))
}

func (l LSN) append(dst []byte) []byte {
	dst = appendUpperHex(dst, uint64(l>>32))
	dst = append(dst, '/')
	return appendUpperHex(dst, uint64(l&0xffffffff))
}

func appendUpperHex(dst []byte, n uint64) []byte {
	const digits = "0123456789ABCDEF"
	shift := 0
	for n>>shift > 15 {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return dst
}

// AppendText appends PostgreSQL's text form.
func (l LSN) AppendText(dst []byte) ([]byte, error) { return l.append(dst), nil }

// MarshalText returns PostgreSQL's text form.
func (l LSN) MarshalText() ([]byte, error) { return l.append(nil), nil }

// UnmarshalText reads PostgreSQL's text form.
func (l *LSN) UnmarshalText(text []byte) error {
	v, err := ParseLSN(string(text))
	*l = v
	return err
}

// Position is where a change stands in everything that its source ever published. Positions of one source are ordered.
type Position struct {
	Epoch   uint64 // grows each time continuity could not be proved
	LSN     LSN    // commit LSN: where the transaction's commit record starts
	Ordinal uint64 // of the change within its transaction, from 0
}

// Compare returns -1, 0 or 1: whether p is before, at or after q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Epoch, q.Epoch), cmp.Compare(p.LSN, q.LSN), cmp.Compare(p.Ordinal, q.Ordinal))
}

// String returns "epoch:lsn:ordinal".
func (p Position) String() string {
	return fmt.Sprintf("%d:%s:%d", p.Epoch, p.LSN, p.Ordinal)
}
