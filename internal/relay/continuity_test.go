package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/pkg/events"
)

func TestContinuityIsProvedOnlyIfNothingThatMattersDiffers(t *testing.T) {
	stream, reset := time.Unix(1, 0), time.Unix(2, 0)
	last := events.Continuity{
		System: 7, Timeline: 2, Epoch: 5, Floor: 100, Publication: "p", Stream: stream, StatsReset: reset,
		Published: events.Transaction{LSN: 90, XID: 3, Time: time.Unix(3, 0)},
	}
	found := Found{System: 7, Timeline: 2, Confirmed: 100, Publication: "p", Stream: stream, WALEnd: 200, StatsReset: reset}
	require.Empty(t, Judge(&last, found))
	require.Equal(t, ReasonFirstStart, Judge(nil, found))
	for reason, change := range map[string]func(*Found){
		ReasonSystem:      func(f *Found) { f.System = 8 },
		ReasonTimeline:    func(f *Found) { f.Timeline = 3 },
		ReasonStream:      func(f *Found) { f.Stream = reset },
		ReasonSlotMissing: func(f *Found) { f.SlotCreated = true },
		ReasonSlotAhead:   func(f *Found) { f.Confirmed = 101 },
		ReasonPublication: func(f *Found) { f.Publication = "q" },
		ReasonCrash:       func(f *Found) { f.StatsReset = stream },
		ReasonRewound:     func(f *Found) { f.WALEnd = 99 },
		ReasonTruncated:   func(f *Found) { f.Broken = ReasonTruncated },
	} {
		f := found
		change(&f)
		require.Equal(t, reason, Judge(&last, f))
	}
	trusted := found
	trusted.StatsReset, trusted.TrustCrash = stream, true
	require.Empty(t, Judge(&last, trusted))
}

func TestTheNewestPublishedTransactionIsExpectedOnlyWhereItIsSentAgain(t *testing.T) {
	last := events.Continuity{Published: events.Transaction{LSN: 90, XID: 3}}
	require.Equal(t, &last.Published, Expect(&last, 90))
	require.Nil(t, Expect(&last, 91), "the slot stands behind it")
	require.Nil(t, Expect(&events.Continuity{}, 0), "nothing was published")
}

func TestEpochsGrowAlsoWhereTheClockDoesNot(t *testing.T) {
	now := time.UnixMilli(1000)
	require.EqualValues(t, 1000, NextEpoch(nil, now))
	require.EqualValues(t, 1000, NextEpoch(&events.Continuity{Epoch: 5}, now))
	require.EqualValues(t, 5001, NextEpoch(&events.Continuity{Epoch: 5000}, now))
}
