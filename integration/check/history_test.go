package check

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLatenessCountsFromTheFirstCommitThatTheReadMissed(t *testing.T) {
	zero := time.Now()
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	states := []state{{ver: 2, at: at(0)}, {ver: 3, at: at(10)}, {ver: 4, gone: true, at: at(20)}, {ver: 5, at: at(30)}}
	for _, c := range []struct {
		name       string
		ver        int64
		began      int
		wantMillis int
	}{
		{"newest", 5, 100, 0},
		{"newer than all that is known", 6, 100, 0},
		{"one behind", 3, 25, 5},
		{"one behind, read before the commit returned", 3, 15, 0},
		{"two behind", 2, 25, 15},
		{"before all that is known", 1, 25, 25},
		{"nothing, as it was", 0, 25, 0},
		{"nothing, and it was there again", 0, 37, 7},
	} {
		require.Equal(t, time.Duration(c.wantMillis)*time.Millisecond, lateness(states, c.ver, at(c.began)), c.name)
	}
	require.Equal(t, 5*time.Millisecond, lateness(states[:2], 0, at(5)), "nothing, before all that is known")
}

func TestHistoryPutsCommitsThatAreToldLateInTheirPlace(t *testing.T) {
	h := NewHistory()
	h.Committed("k", 3)
	h.Committed("k", 2)
	require.Equal(t, int64(3), h.Newest("k"))
	require.Zero(t, h.Read("k", Value{Ver: 3}, time.Now()))
	require.NotZero(t, h.Read("k", Value{Ver: 1}, time.Now()))
	for ver := range int64(100) {
		h.Committed("k", ver)
	}
	require.Len(t, h.keys["k"], kept)
	require.Equal(t, int64(99), h.Newest("k"))
}

func TestReadsOfWhatNobodyCommittedAreNotJudged(t *testing.T) {
	h := NewHistory()
	require.Zero(t, h.Read("unknown", Value{}, time.Now()))
	h.Committed("k", 2)
	h.Gone("k", 3)
	require.NotZero(t, h.Read("k", Value{Ver: 2}, time.Now()))
	require.Zero(t, h.Read("k", Value{}, time.Now()))
	reads := h.Reads()
	require.EqualValues(t, 2, reads.Judged)
	require.EqualValues(t, 1, reads.Late)
	require.EqualValues(t, 1, reads.Lateness.Count)
}

func TestHistogramBoundsItsQuantiles(t *testing.T) {
	var h Histogram
	require.Zero(t, h.Quantile(0.5))
	for ms := 1; ms <= 100; ms++ {
		h.Add(time.Duration(ms) * time.Millisecond)
	}
	require.InEpsilon(t, 50*time.Millisecond, h.Quantile(0.5), 0.3)
	require.InEpsilon(t, 99*time.Millisecond, h.Quantile(0.99), 0.3)
	require.Equal(t, 100*time.Millisecond, h.Quantile(1))
	h.Add(24 * time.Hour)
	require.Equal(t, 24*time.Hour, h.Max)
}
