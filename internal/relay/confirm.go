package relay

import (
	"sync"
	"time"

	"github.com/walfence/walfence/pkg/events"
)

// confirmer knows up to where PostgreSQL may discard WAL: the highest floor that stands in a message that the stream has
// acked. An ack does not mean that the message is on disk, so a confirm trails it by as long as the server takes to sync. It
// is safe for concurrent use.
type confirmer struct {
	trail time.Duration

	mu     sync.Mutex
	safe   events.LSN
	newest events.LSN
	marks  []mark // acked floors that are too young, oldest first
}

type mark struct {
	at    time.Time
	floor events.LSN
}

// A floor is remembered at most this often.
const markEvery = 50 * time.Millisecond

// note books a floor whose message was acked now.
func (c *confirmer) note(floor events.LSN, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if floor <= c.newest {
		return
	}
	c.newest = floor
	if c.trail == 0 {
		c.safe = floor
		return
	}
	if n := len(c.marks); n >= 2 && c.marks[n-1].at.Sub(c.marks[n-2].at) < markEvery {
		c.marks = c.marks[:n-1] // the newest mark moves on to this floor and its later time
	}
	c.marks = append(c.marks, mark{at: now, floor: floor})
}

// confirm returns the highest LSN that may be confirmed now.
func (c *confirmer) confirm(now time.Time) events.LSN {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := 0
	for old < len(c.marks) && now.Sub(c.marks[old].at) >= c.trail {
		c.safe = c.marks[old].floor
		old++
	}
	c.marks = append(c.marks[:0], c.marks[old:]...)
	return c.safe
}

// acked returns the highest floor that is in the stream, on disk or not.
func (c *confirmer) acked() events.LSN {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}
