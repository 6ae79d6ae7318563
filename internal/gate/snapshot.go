package gate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is what pg_current_snapshot() returns: which transactions a query that starts now would see.
type Snapshot struct {
	Xmin uint64   // every transaction before it has ended
	Xmax uint64   // no transaction from it on had ended
	Xip  []uint64 // in progress between the two, ascending
}

// ParseSnapshot reads the text form xmin:xmax:xip,xip,...
func ParseSnapshot(s string) (Snapshot, error) {
	parts := strings.SplitN(s, ":", 3)
	if len(parts) != 3 {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: want xmin:xmax:xip_list", s)
	}
	var snap Snapshot
	var err error
	if snap.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot xmin: %w", err)
	}
	if snap.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot xmax: %w", err)
	}
	if parts[2] == "" {
		return snap, nil
	}
	for word := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return Snapshot{}, fmt.Errorf("parse snapshot xip: %w", err)
		}
		snap.Xip = append(snap.Xip, xid)
	}
	slices.Sort(snap.Xip)
	return snap, nil
}

// Ended reports whether a transaction had ended when the snapshot was taken. Of a transaction that is known to have
// committed it says that the snapshot sees it.
func (s *Snapshot) Ended(xid uint64) bool {
	if xid < s.Xmin {
		return true
	}
	if xid >= s.Xmax {
		return false
	}
	_, running := slices.BinarySearch(s.Xip, xid)
	return !running
}

// EndedAll reports whether every transaction that was in progress in an earlier snapshot had ended.
func (s *Snapshot) EndedAll(earlier *Snapshot) bool {
	for _, xid := range earlier.Xip {
		if !s.Ended(xid) {
			return false
		}
	}
	return true
}

// Widen gives the 64-bit transaction id (xid8) of a 32-bit one. The two ids of a running cluster are never more than 2^31
// apart, so only one of the candidates is near the snapshot.
func (s *Snapshot) Widen(xid uint32) uint64 {
	return s.Xmax + uint64(int64(int32(xid-uint32(s.Xmax))))
}
