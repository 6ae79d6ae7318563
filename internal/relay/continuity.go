package relay

import (
	"errors"
	"time"

	"github.com/walfence/walfence/pkg/events"
)

// Found is what a source looks like on connecting to it.
type Found struct {
	System      uint64
	Timeline    uint32
	SlotCreated bool       // just now: there was none, or it was lost
	Confirmed   events.LSN // the slot's confirmed_flush_lsn
	Publication string     // fingerprint
	Stream      time.Time  // when CHANGES was created
	WALEnd      events.LSN // pg_current_wal_lsn()
	StatsReset  time.Time  // when statistics were last reset: at a crash, and by hand
	TrustCrash  bool       // CDC_EPOCH_ON_CRASH=never
	// Broken is what a session ended with that has already proved a break: ReasonRewound or ReasonStreamTruncated.
	Broken string
}

// Why continuity could not be proved: the reasons of epochs.
const (
	ReasonFirstStart  = "first_start"
	ReasonSystem      = "other_system"
	ReasonTimeline    = "timeline"
	ReasonStream      = "stream_recreated"
	ReasonSlotMissing = "slot_missing"
	ReasonSlotAhead   = "slot_ahead"
	ReasonPublication = "publication_changed"
	ReasonCrash       = "crash"
	ReasonRewound     = "rewound"
	ReasonTruncated   = "stream_truncated"
)

// Judge compares the last message of a source with what was found, and returns why continuity is not proved, or "".
func Judge(last *events.Continuity, found Found) string {
	switch {
	case found.Broken != "":
		return found.Broken
	case last == nil:
		return ReasonFirstStart
	case last.System != found.System:
		return ReasonSystem
	case last.Timeline != found.Timeline:
		return ReasonTimeline
	case !last.Stream.Equal(found.Stream):
		return ReasonStream
	case found.SlotCreated:
		return ReasonSlotMissing
	case !last.StatsReset.Equal(found.StatsReset) && !found.TrustCrash:
		return ReasonCrash
	case found.WALEnd < last.Floor:
		return ReasonRewound
	case found.Confirmed > last.Floor:
		return ReasonSlotAhead
	case last.Publication != found.Publication:
		return ReasonPublication
	}
	return ""
}

// Expect returns the transaction that must reappear before anything is published, or nil: the newest that was published, if
// the slot stands before it. After a restore PostgreSQL sends others in its place.
func Expect(last *events.Continuity, confirmed events.LSN) *events.Transaction {
	if p := last.Published; p.LSN != 0 && p.LSN >= confirmed {
		return &p
	}
	return nil
}

// ErrRewound ends a session in which something else was read where the newest published transaction must be: the database
// went back in time.
var ErrRewound = errors.New("the database went back in time: what was published is not in its history any more")

// ErrReread ends a session that has recognised the newest published transaction, and has to read again what came before it:
// not all of that is in the stream.
var ErrReread = errors.New("recognised the newest published transaction, reading once more")

// NextEpoch is max(known + 1, unix milliseconds): greater than any that was ever published, also where what was published is
// not known.
func NextEpoch(last *events.Continuity, now time.Time) uint64 {
	epoch := uint64(now.UnixMilli())
	if last != nil {
		epoch = max(epoch, last.Epoch+1)
	}
	return epoch
}
