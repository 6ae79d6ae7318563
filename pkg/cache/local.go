package cache

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/walfence/walfence/pkg/events"
)

// local is the part of a cache that is in the process's own memory. An entry is valid only in the era of the feed in which
// its read began, and no invalidation of its key may come between that and its being stored.
type local[T any] struct {
	feed    *Feed
	entries *otter.Cache[string, *localEntry[T]]
	ttl     time.Duration

	// What invalidations do to reads that are under way, without a list of these: each key belongs to one of many versions,
	// and an invalidation of it moves that.
	seed     maphash.Seed
	versions [4096]atomic.Uint64
	sweeps   atomic.Uint64 // moved by what is invalid by pattern
}

type localEntry[T any] struct {
	entry[T]
	era   uint64
	until int64 // by the feed's clock
}

// sight is what a read saw of the feed before it began.
type sight struct{ era, version, sweeps uint64 }

func newLocal[T any](feed *Feed, size int, ttl time.Duration) *local[T] {
	l := &local[T]{
		feed: feed, ttl: ttl, seed: maphash.MakeSeed(),
		entries: otter.Must(&otter.Options[string, *localEntry[T]]{MaximumSize: size}),
	}
	feed.join(l)
	return l
}

func (l *local[T]) close() { l.feed.leave(l) }

// get returns what is known of a key, or nil. It neither allocates nor locks.
func (l *local[T]) get(key string) *localEntry[T] {
	e, ok := l.entries.GetIfPresent(key)
	if !ok || e.era != l.feed.era.Load() || e.until <= l.feed.clock.Load() {
		return nil
	}
	return e
}

func (l *local[T]) version(key string) *atomic.Uint64 {
	return &l.versions[maphash.String(l.seed, key)%uint64(len(l.versions))]
}

// see is called before a read is sent to Redis: every invalidation that the feed tells from then on counts.
func (l *local[T]) see(key string) sight {
	return sight{era: l.feed.era.Load(), version: l.version(key).Load(), sweeps: l.sweeps.Load()}
}

// put keeps what was read, unless something was invalidated since it was seen, for as long as it is left to live; negative
// for ever. The entry's bucket is locked while that is decided: an invalidation comes before, and is seen, or after, and
// removes the entry.
func (l *local[T]) put(key string, seen sight, e entry[T], left time.Duration) {
	if seen.era == 0 {
		return
	}
	ttl := l.ttl
	if left >= 0 {
		ttl = min(ttl, left)
	}
	until := l.feed.clock.Load() + int64(ttl)
	l.entries.Compute(key, func(old *localEntry[T], _ bool) (*localEntry[T], otter.ComputeOp) {
		if l.see(key) != seen {
			return old, otter.CancelOp
		}
		return &localEntry[T]{entry: e, era: seen.era, until: until}, otter.WriteOp
	})
}

// remove makes a key's entry, and reads of it that are under way, invalid.
func (l *local[T]) remove(keys []string) {
	for _, key := range keys {
		l.version(key).Add(1)
		l.entries.Invalidate(key)
	}
}

// sweep does the same for all keys that match.
func (l *local[T]) sweep(patterns []events.Pattern) {
	l.sweeps.Add(1)
	for key := range l.entries.Keys() {
		name := strings.TrimSuffix(key, generationSuffix) // a scope is told by its own name
		for _, p := range patterns {
			if p.Match(name) {
				l.entries.Invalidate(key)
			}
		}
	}
}

// clear frees what the end of an era has made invalid.
func (l *local[T]) clear() { l.entries.InvalidateAll() }

// told applies one invalidation.
func (l *local[T]) told(i *events.Invalidation) {
	l.remove(i.Keys)
	for _, scope := range i.Scopes {
		l.remove([]string{GenerationKey(scope)})
	}
	if len(i.Patterns) > 0 {
		l.sweep(i.Patterns)
	}
}
