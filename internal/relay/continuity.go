package relay

import (
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
)

// Judge compares the last message of a source with what was found, and returns why continuity is not proved, or "".
func Judge(last *events.Continuity, found Found) string {
	switch {
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
	case found.Confirmed > last.Floor:
		return ReasonSlotAhead
	case last.Publication != found.Publication:
		return ReasonPublication
	}
	return ""
}

// NextEpoch is max(known + 1, unix milliseconds): greater than any that was ever published, also where what was published is
// not known.
func NextEpoch(last *events.Continuity, now time.Time) uint64 {
	epoch := uint64(now.UnixMilli())
	if last != nil {
		epoch = max(epoch, last.Epoch+1)
	}
	return epoch
}
