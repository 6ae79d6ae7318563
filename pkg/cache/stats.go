package cache

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Stats counts what a [Cache] did since it was made.
type Stats struct {
	LocalHits    uint64 // values found in the process's own memory
	Hits         uint64 // values found in Redis
	Stale        uint64 // values served after their TTL, while they were loaded again
	StaleOnError uint64 // values served after their TTL, since they could not be loaded
	Misses       uint64 // values not found
	Filled       uint64 // loaded values stored
	Refused      uint64 // loaded values not stored, for whatever reason
	Failed       uint64 // loaded values not stored, since Redis did not take them
	Refreshed    uint64 // values loaded again in the background
	Undecodable  uint64 // values found that were none, and loaded again
	Bypassed     uint64 // loads for reads that Redis did not answer
	Unavailable  uint64 // reads that failed, since Redis did not answer and no more loads were let through
	Waits        uint64 // misses that waited for another's load
	Loads        uint64 // calls of loaders
	LoadErrors   uint64 // calls of loaders that failed
	Tripped      uint64 // times that Redis was given a rest
	Dropped      uint64 // times that everything in the process's own memory was dropped
}

// Why a loaded value was not stored. These words stand in metrics.
const (
	refusedGuard       = "guard"        // it was invalidated meanwhile, or the load took too long
	refusedReplica     = "replica"      // nobody has shown that the replica was far enough
	refusedWithoutFill = "without_fill" // the caller said so
)

// counters are a cache's live numbers.
type counters struct {
	localHits                                         striped
	hits, stale, staleOnError, misses, filled, failed atomic.Uint64
	refusedGuard, refusedReplica, refusedWithoutFill  atomic.Uint64
	refreshed, undecodable, bypassed, unavailable     atomic.Uint64
	waits, loads, loadErrors, tripped                 atomic.Uint64
	loadTime, waitTime                                durations
}

func (c *counters) refuse(reason string) {
	switch reason {
	case refusedReplica:
		c.refusedReplica.Add(1)
	case refusedWithoutFill:
		c.refusedWithoutFill.Add(1)
	default:
		c.refusedGuard.Add(1)
	}
}

func (c *counters) loaded(took time.Duration, failed bool) {
	c.loads.Add(1)
	c.loadTime.observe(took)
	if failed {
		c.loadErrors.Add(1)
	}
}

// waiting starts to count a wait.
func (c *Cache[T]) waiting(ctx context.Context) (context.Context, func(error)) {
	ctx, end := c.span(ctx, "cache.wait")
	began := time.Now()
	c.stats.waits.Add(1)
	return ctx, func(err error) {
		c.stats.waitTime.observe(time.Since(began))
		end(err)
	}
}

// Stats returns what the cache did so far.
func (c *Cache[T]) Stats() Stats {
	s := &c.stats
	stats := Stats{
		LocalHits: s.localHits.sum(), Hits: s.hits.Load(), Stale: s.stale.Load(), StaleOnError: s.staleOnError.Load(),
		Misses: s.misses.Load(), Filled: s.filled.Load(), Failed: s.failed.Load(), Refreshed: s.refreshed.Load(),
		Refused:     s.refusedGuard.Load() + s.refusedReplica.Load() + s.refusedWithoutFill.Load(),
		Undecodable: s.undecodable.Load(), Bypassed: s.bypassed.Load(), Unavailable: s.unavailable.Load(),
		Waits: s.waits.Load(), Loads: s.loads.Load(), LoadErrors: s.loadErrors.Load(), Tripped: s.tripped.Load(),
	}
	if c.local != nil {
		stats.Dropped = c.local.feed.dropped.Load()
	}
	return stats
}

// striped is a counter that many processors add to without waiting for each other.
type striped [16]struct {
	n atomic.Uint64
	_ [56]byte // a cache line each
}

func (s *striped) add() { s[rand.Uint32()%uint32(len(s))].n.Add(1) }

func (s *striped) sum() (total uint64) {
	for i := range s {
		total += s[i].n.Load()
	}
	return total
}

// bounds are where the histograms of durations are divided, in seconds: a Redis that is near up to a load that is slow.
var bounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// durations is a histogram that costs two additions.
type durations struct {
	counts [len(bounds) + 1]atomic.Uint64
	nanos  atomic.Int64
}

func (d *durations) observe(took time.Duration) {
	i := 0
	for i < len(bounds) && took.Seconds() > bounds[i] {
		i++
	}
	d.counts[i].Add(1)
	d.nanos.Add(int64(took))
}
