package gate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walfence/walfence/internal/gate"
)

// server is a naive model of PostgreSQL's transactions.
type server struct {
	mu      sync.Mutex
	next    uint64
	running map[uint64]bool
	asked   int
	broken  error
}

func (s *server) snapshot(context.Context) (gate.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	text := fmt.Sprintf("%d:%d:", s.next, s.next)
	if len(s.running) > 0 {
		var xids []uint64
		for xid := range s.running {
			xids = append(xids, xid)
		}
		slices.Sort(xids)
		text = fmt.Sprintf("%d:%d:", xids[0], s.next)
		for i, xid := range xids {
			if i > 0 {
				text += ","
			}
			text += fmt.Sprint(xid)
		}
	}
	snap, err := gate.ParseSnapshot(text)
	return snap, errors.Join(err, s.broken)
}

func (s *server) begin() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.running[s.next-1] = true
	return s.next - 1
}

func (s *server) end(xid uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, xid)
}

func (s *server) visible(xid uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.running[xid]
}

type waiter func()

func (w waiter) Release() { w() }

func start(t testing.TB, ctx context.Context, s *server) (*gate.Gate, func() error) {
	g, err := gate.New(ctx, s.snapshot)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	return g, func() error { stop(); return <-done }
}

func TestNothingPassesBeforeItIsVisibleAndEverythingPassesAfter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &server{next: rapid.Uint64Range(3, 1<<40).Draw(rt, "next"), running: map[uint64]bool{}}
			g, stop := start(t, t.Context(), s)
			var mu sync.Mutex
			released := map[uint64]bool{}
			release := func(xid uint64) {
				mu.Lock()
				defer mu.Unlock()
				if !s.visible(xid) || released[xid] {
					panic(fmt.Sprintf("%d released early or twice", xid))
				}
				released[xid] = true
			}
			waiting := map[uint64]bool{}
			var open []uint64
			for range rapid.IntRange(1, 40).Draw(rt, "steps") {
				synctest.Wait()
				switch rapid.IntRange(0, 3).Draw(rt, "step") {
				case 0:
					open = append(open, s.begin())
				case 1: // decoded: streamed before it is visible, or long after
					if len(open) == 0 {
						continue
					}
					xid := open[rapid.IntRange(0, len(open)-1).Draw(rt, "which")]
					if waiting[xid] {
						continue
					}
					waiting[xid] = true
					if g.Admit(xid, waiter(func() { release(xid) })) {
						release(xid)
					}
				case 2:
					if len(open) > 0 {
						s.end(open[rapid.IntRange(0, len(open)-1).Draw(rt, "ends")])
					}
				case 3:
					time.Sleep(time.Duration(rapid.IntRange(0, 30).Draw(rt, "ms")) * time.Millisecond) // synthetic time
					synctest.Wait()
				}
			}
			time.Sleep(50 * time.Millisecond) // synthetic time: longer than the longest pause
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			for xid := range waiting {
				require.Equal(t, s.visible(xid), released[xid], "xid %d", xid)
			}
			require.NoError(t, stop())
		})
	})
}

func TestABacklogThatIsVisibleNeedsNoQuery(t *testing.T) {
	s := &server{next: 1000, running: map[uint64]bool{}}
	g, stop := start(t, t.Context(), s)
	for xid := uint64(3); xid < 1000; xid++ {
		require.True(t, g.Admit(xid, nil))
	}
	require.NoError(t, stop())
	require.Equal(t, 1, s.asked)
}

func TestOneQueryServesAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{next: 10, running: map[uint64]bool{}}
		g, stop := start(t, t.Context(), s)
		released := 0
		s.mu.Lock() // the query takes until all have come
		for xid := uint64(10); xid < 110; xid++ {
			require.False(t, g.Admit(xid, waiter(func() { released++ })))
		}
		s.next = 110
		s.mu.Unlock()
		synctest.Wait()
		require.Equal(t, 100, released)
		require.LessOrEqual(t, s.asked, 3)
		require.NoError(t, stop())
	})
}

func TestATransactionThatComesWhileOthersAreReleasedIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queries := 0
		g, err := gate.New(t.Context(), func(context.Context) (gate.Snapshot, error) {
			if queries++; queries == 1 {
				return gate.ParseSnapshot("10:10:")
			}
			time.Sleep(time.Second) // synthetic time
			return gate.ParseSnapshot("13:13:")
		})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		passed := false
		require.False(t, g.Admit(10, waiter(func() { // the snapshot that releases it shows 11 and 12 too
			require.False(t, g.Admit(11, waiter(func() { passed = true })))
		})))
		time.Sleep(1500 * time.Millisecond) // synthetic time
		synctest.Wait()
		require.True(t, g.Visible(12))
		require.True(t, passed, "12 passes before 11")
		stop()
		require.NoError(t, <-done)
	})
}

func TestATransactionThatStaysInvisibleDoesNotHoldUpLaterOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{next: 10, running: map[uint64]bool{}}
		g, stop := start(t, t.Context(), s)
		stalled := s.begin()
		require.False(t, g.Admit(stalled, waiter(func() { panic("released") })))
		time.Sleep(time.Second) // synthetic time
		later, released := s.begin(), false
		s.end(later)
		require.False(t, g.Admit(later, waiter(func() { released = true })))
		synctest.Wait()
		require.True(t, released)
		n, since := g.Waiting()
		require.Equal(t, 1, n)
		require.Equal(t, time.Second, time.Since(since))
		require.Less(t, s.asked, 100, "queries while nothing changes")
		require.NoError(t, stop())
	})
}

func TestAGateThatCannotAskEndsAndReleasesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{next: 10, running: map[uint64]bool{}}
		g, stop := start(t, t.Context(), s)
		s.mu.Lock()
		s.broken = errors.New("another server")
		s.mu.Unlock()
		require.False(t, g.Admit(10, waiter(func() { panic("released") })))
		synctest.Wait()
		require.ErrorContains(t, stop(), "another server")
	})
}

func TestWidenFindsTheXidNextToTheSnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xid := rapid.Uint64Range(1<<32, 1<<50).Draw(t, "xid")
		distance := rapid.Int64Range(-1<<31+1, 1<<31-1).Draw(t, "distance")
		s := gate.Snapshot{Xmax: uint64(int64(xid) + distance)}
		require.Equal(t, xid, s.Widen(uint32(xid)))
	})
}

func TestDamagedSnapshotsAreRefused(t *testing.T) {
	for _, bad := range []string{"", "1", "1:2", "x:2:", "1:x:", "1:2:x", "1:2:1,"} {
		_, err := gate.ParseSnapshot(bad)
		require.Error(t, err, bad)
	}
	s, err := gate.ParseSnapshot("10:20:15,12")
	require.NoError(t, err)
	for xid, ended := range map[uint64]bool{9: true, 10: true, 12: false, 13: true, 15: false, 19: true, 20: false, 21: false} {
		require.Equal(t, ended, s.Ended(xid), xid)
	}
	later, _ := gate.ParseSnapshot("15:25:15")
	require.False(t, later.EndedAll(&s))
	later, _ = gate.ParseSnapshot("16:25:")
	require.True(t, later.EndedAll(&s))
}
