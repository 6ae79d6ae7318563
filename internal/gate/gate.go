// Package gate knows which transactions can be read by now.
//
// Its promise: a transaction is let through only when the primary has shown it in a snapshot. PostgreSQL streams a commit when
// its record is flushed and makes it visible later, much later with a synchronous standby; whoever acted on the event in
// between would read the old row.
package gate

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Waiter is a transaction that waits for its visibility.
type Waiter interface {
	// Release is called once, when the transaction is visible, from the goroutine of [Gate.Run].
	Release()
}

// Query takes a new snapshot on the server that streams, and returns an error if it cannot be sure that it is that one.
type Query func(context.Context) (Snapshot, error)

// A transaction that is not visible at once is asked for again after a pause that doubles from the first to the second: a
// local commit follows in microseconds, a stalled synchronous standby may take minutes, and reads must follow soon.
const (
	firstPause = 50 * time.Microsecond
	lastPause  = 20 * time.Millisecond
)

// Gate holds transactions until they are visible. One query serves all that wait. Its methods are safe for concurrent use.
type Gate struct {
	query  Query
	latest atomic.Pointer[Snapshot]
	asked  chan struct{} // holds one token while somebody waits for a query

	waits, queries atomic.Uint64

	mu      sync.Mutex
	waiting []entry
}

type entry struct {
	xid    uint64
	waiter Waiter
	since  time.Time
}

// New takes the first snapshot, by which xids are widened.
func New(ctx context.Context, query Query) (*Gate, error) {
	s, err := query(ctx)
	if err != nil {
		return nil, fmt.Errorf("take first snapshot: %w", err)
	}
	g := &Gate{query: query, asked: make(chan struct{}, 1)}
	g.latest.Store(&s)
	return g, nil
}

// Widen gives the xid8 of a transaction that was just read from the stream.
func (g *Gate) Widen(xid uint32) uint64 { return g.latest.Load().Widen(xid) }

// Visible reports whether a committed transaction is known to be visible. What one snapshot shows stays visible, so a
// backlog needs no queries.
func (g *Gate) Visible(xid uint64) bool { return g.latest.Load().Ended(xid) }

// Admit reports whether a committed transaction is known to be visible. If not, w is released when it is.
func (g *Gate) Admit(xid uint64, w Waiter) bool {
	g.mu.Lock()
	if g.Visible(xid) {
		g.mu.Unlock()
		return true
	}
	g.waiting = append(g.waiting, entry{xid: xid, waiter: w, since: time.Now()})
	g.mu.Unlock()
	g.waits.Add(1)
	select {
	case g.asked <- struct{}{}:
	default:
	}
	return false
}

// Waiting returns how many transactions wait, and since when the first of them does.
func (g *Gate) Waiting() (n int, since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, e := range g.waiting {
		if i == 0 || e.since.Before(since) {
			since = e.since
		}
	}
	return len(g.waiting), since
}

// Counts returns how many transactions have had to wait, and how many snapshots were taken for them.
func (g *Gate) Counts() (waits, queries uint64) { return g.waits.Load(), g.queries.Load() }

// Run asks for snapshots as long as somebody waits, until ctx ends or a query fails. Whoever waits then is not released.
func (g *Gate) Run(ctx context.Context) error {
	pause := firstPause
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.asked:
		}
		g.queries.Add(1)
		s, err := g.query(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("take snapshot: %w", err)
		}
		released, left := g.release(&s)
		if released > 0 {
			pause = firstPause
		}
		if left == 0 {
			continue
		}
		if !g.pause(ctx, pause) {
			pause = min(2*pause, lastPause)
		} else {
			pause = firstPause
		}
	}
}

// release lets through what the snapshot shows, in the order of arrival, and stores it when nobody is left whom it shows, who
// came meanwhile included: a later transaction that it shows as well must not overtake them.
func (g *Gate) release(s *Snapshot) (released, left int) {
	for {
		g.mu.Lock()
		visible := g.take(s)
		if len(visible) == 0 {
			g.latest.Store(s)
			left = len(g.waiting)
			g.mu.Unlock()
			return released, left
		}
		g.mu.Unlock()
		for _, w := range visible {
			w.Release()
		}
		released += len(visible)
	}
}

// take removes those whom the snapshot shows. The lock is held.
func (g *Gate) take(s *Snapshot) (visible []Waiter) {
	kept := g.waiting[:0]
	for _, e := range g.waiting {
		if s.Ended(e.xid) {
			visible = append(visible, e.waiter)
		} else {
			kept = append(kept, e)
		}
	}
	clear(g.waiting[len(kept):])
	g.waiting = kept
	return visible
}

// pause waits before the next query for those that are left, and reports whether somebody new came meanwhile.
func (g *Gate) pause(ctx context.Context, d time.Duration) (new bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-g.asked:
		new = true
	case <-t.C:
	case <-ctx.Done():
	}
	select {
	case g.asked <- struct{}{}:
	default:
	}
	return new
}
