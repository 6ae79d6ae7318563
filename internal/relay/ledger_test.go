package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walfence/walfence/pkg/events"
)

// TestFloorIsWhatANaiveModelSays plays random histories of transactions, acks and keepalives against a model that keeps
// everything and computes the floor from its definition.
func TestFloorIsWhatANaiveModelSays(t *testing.T) {
	type transaction struct {
		commit, end events.LSN
		acks        int
		closed      bool
	}
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(0, events.Transaction{})
		var model []*transaction
		var quiet []events.LSN // positions of keepalives, each with how many transactions were read before it
		var after []int
		var clock events.LSN
		newest := func() *transaction {
			if len(model) == 0 {
				return nil
			}
			return model[len(model)-1]
		}
		inside := func() bool { n := newest(); return n != nil && !n.closed }
		tick := func() events.LSN { clock += events.LSN(rapid.Uint64Range(1, 3).Draw(t, "step")); return clock }
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				if inside() {
					return
				}
				tx := &transaction{commit: tick()}
				model = append(model, tx)
				require.EqualValues(t, len(model)-1, l.open(events.Transaction{LSN: tx.commit}))
			},
			"event": func(t *rapid.T) {
				if inside() {
					newest().acks++
					l.event(uint64(len(model) - 1))
				}
			},
			"commit": func(t *rapid.T) {
				if inside() {
					newest().end, newest().closed = tick(), true
					l.close(uint64(len(model)-1), clock)
				}
			},
			"ack": func(t *rapid.T) {
				for n, tx := range model {
					if tx.acks > 0 && rapid.Bool().Draw(t, "this") {
						tx.acks--
						l.acked(uint64(n))
						return
					}
				}
			},
			"keepalive": func(t *rapid.T) {
				l.keepalive(tick())
				if !inside() {
					quiet, after = append(quiet, clock), append(after, len(model))
				}
			},
			"": func(t *rapid.T) {
				var want events.LSN
				whole := 0
				for whole < len(model) && model[whole].closed && model[whole].acks == 0 {
					want = max(want, model[whole].end)
					whole++
				}
				for i, lsn := range quiet {
					if after[i] <= whole {
						want = max(want, lsn)
					}
				}
				floor, published := l.state()
				require.Equal(t, want, floor)
				for _, tx := range model {
					if tx.commit == published.LSN {
						require.True(t, tx.closed && tx.acks == 0, "published before it was whole")
					}
				}
			},
		})
	})
}

func TestConfirmTrailsTheAckUntilTheStreamIsOnDisk(t *testing.T) {
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	c := confirmer{trail: 2 * time.Second}
	c.note(10, at(0))
	c.note(20, at(time.Second))
	c.note(15, at(time.Second)) // acks come in any order
	require.EqualValues(t, 0, c.confirm(at(1999*time.Millisecond)))
	require.EqualValues(t, 10, c.confirm(at(2*time.Second)))
	require.EqualValues(t, 20, c.confirm(at(3*time.Second)))
	require.EqualValues(t, 20, c.acked())
}

func TestConfirmKeepsFewMarksAndNeverConfirmsAYoungOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Now()
		c := confirmer{trail: 2 * time.Second}
		type floor struct {
			at  time.Time
			lsn events.LSN
		}
		var all []floor
		now := start
		for i := range rapid.IntRange(1, 200).Draw(t, "acks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "ms")) * time.Millisecond)
			c.note(events.LSN(i+1), now)
			all = append(all, floor{now, events.LSN(i + 1)})
			var oldEnough events.LSN
			for _, f := range all {
				if now.Sub(f.at) >= c.trail {
					oldEnough = f.lsn
				}
			}
			got := c.confirm(now)
			require.LessOrEqual(t, got, oldEnough)
			require.LessOrEqual(t, len(c.marks), int(2*c.trail/markEvery)+3)
		}
		require.EqualValues(t, len(all), c.confirm(now.Add(c.trail)))
	})
}

func TestATransactionThatIsInTheStreamBeforeItsCommitIsReadIsThenPublished(t *testing.T) {
	l := newLedger(0, events.Transaction{})
	l.event(l.open(events.Transaction{LSN: 1})) // waits at the gate
	l.close(0, 2)
	n := l.open(events.Transaction{LSN: 3})
	l.event(n)
	l.acked(n)
	l.close(n, 4)
	floor, published := l.state()
	require.Zero(t, floor)
	require.EqualValues(t, 3, published.LSN)
}
