package relay

import "sync/atomic"

// budget bounds what was read and is not in the stream yet: what settles aside until it is visible, and what waits for an
// ack. Above it, reading waits. It is safe for concurrent use.
type budget struct {
	limit int64 // bytes
	used  atomic.Int64
	freed chan struct{} // holds a token when there may be room again
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, freed: make(chan struct{}, 1)}
}

func (b *budget) take(n int64) { b.used.Add(n) }

// free gives back, and wakes who waits once half of the budget is free: a reader that is woken for every event reads no
// more than one.
func (b *budget) free(n int64) {
	after := b.used.Add(-n)
	if before := after + n; before >= b.limit/2 && after < b.limit/2 {
		select {
		case b.freed <- struct{}{}:
		default:
		}
	}
}

// room returns nil if there is room, or a channel that says when to look again.
func (b *budget) room() <-chan struct{} {
	if b.used.Load() < b.limit {
		return nil
	}
	return b.freed
}
