package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/walfence/walfence/pkg/events"
)

const (
	// DefaultMaxStale is how long a process may hear nothing before it stops trusting its own memory.
	DefaultMaxStale = 2 * time.Second
	// tick is how precise lifetimes in the process's own memory are. Reading a coarse clock is what makes a hit cheap.
	tick = 50 * time.Millisecond
)

// FeedOptions say which invalidations a [Feed] receives.
type FeedOptions struct {
	// Cache is the cache's name in rules.yaml.
	Cache string
	// Tenants are the only ones whose invalidations are received, beside those that concern all; then other tenants' values
	// must not be read through this feed. None stands for all.
	Tenants []string
	// Source is the name in rules.yaml of the database. Only WaitFor needs it.
	Source string
	// MaxStale is how long NATS may be silent before nothing local is served any more. Zero means [DefaultMaxStale].
	MaxStale time.Duration
}

// Feed receives invalidations, and keeps in step with them what its caches hold in the process's own memory. While it cannot
// receive, these hold nothing; whenever it may have missed some, they drop all. One feed serves all caches of a process. It is
// safe for concurrent use.
type Feed struct {
	nc       *nats.Conn
	opt      FeedOptions
	maxStale time.Duration
	stop     context.CancelFunc
	running  sync.WaitGroup

	// era numbers the time since everything was last dropped; 0 while nothing local may be served. clock is the time since
	// the feed was opened, in ns, as of the last tick. Both are read at every local hit.
	era     atomic.Uint64
	clock   atomic.Int64
	dropped atomic.Uint64
	began   time.Time

	mu      sync.Mutex
	members []member
	last    uint64 // era
	live    bool   // messages can arrive
	reason  string // why not
	heard   time.Time
	silent  bool
}

// member is what a feed keeps in step.
type member interface {
	told(i *events.Invalidation)
	clear()
}

// OpenFeed begins to receive, in the background, and goes on until it is closed. NATS may be away meanwhile. The connection
// stays the caller's.
func OpenFeed(nc *nats.Conn, opt FeedOptions) (*Feed, error) {
	orDefault(&opt.MaxStale, DefaultMaxStale)
	f := &Feed{nc: nc, opt: opt, maxStale: opt.MaxStale, began: time.Now(), heard: time.Now(), reason: "not connected yet"}
	subscriber, err := events.NewSubscriber(nc, events.SubscriberOptions{
		Cache: opt.Cache, Tenants: opt.Tenants,
		OnInvalidation: f.tell, OnGap: func(string) { f.drop() }, OnState: f.state,
	})
	if err != nil {
		return nil, fmt.Errorf("open feed: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	f.running.Go(func() { _ = subscriber.Run(ctx) }) // its error is that it was stopped
	f.running.Go(func() { f.listen(ctx) })
	f.running.Go(func() { f.keepTime(ctx) })
	return f, nil
}

// Close ends receiving. Caches that use the feed go on without anything local.
func (f *Feed) Close() {
	f.stop()
	f.running.Wait()
	f.state(false, "closed")
}

// Live reports whether values are served from the process's own memory, and if not, why.
func (f *Feed) Live() (live bool, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.live && f.silent {
		return false, "nats is silent"
	}
	return f.live, f.reason
}

func (f *Feed) join(m member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = append(f.members[:len(f.members):len(f.members)], m)
}

func (f *Feed) leave(m member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = slices.DeleteFunc(slices.Clone(f.members), func(other member) bool { return other == m })
}

// tell hands an invalidation to all members.
func (f *Feed) tell(i *events.Invalidation) {
	if i.All {
		f.drop()
		return
	}
	f.mu.Lock()
	members := f.members
	f.mu.Unlock()
	for _, m := range members {
		m.told(i)
	}
}

// drop makes everything invalid that was read before.
func (f *Feed) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newEra()
}

// newEra begins an era, if anything local may be served. f.mu is held.
func (f *Feed) newEra() {
	f.last++
	f.dropped.Add(1)
	era := f.last
	if !f.live || f.silent {
		era = 0
	}
	f.era.Store(era)
	for _, m := range f.members {
		m.clear()
	}
}

// state notes whether messages can arrive.
func (f *Feed) state(live bool, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = time.Now()
	f.live, f.reason, f.silent = live, reason, false
	f.newEra()
}

// listen asks NATS for a sign of life. Its answer comes behind everything that was sent before.
func (f *Feed) listen(ctx context.Context) {
	every := time.NewTicker(f.maxStale / 4)
	defer every.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, f.maxStale)
		asked := time.Now()
		err := f.nc.FlushWithContext(bounded)
		cancel()
		if err == nil {
			f.hear(asked)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// hear notes that everything up to a moment has arrived.
func (f *Feed) hear(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = at
	if f.silent {
		f.silent = false
		f.newEra()
	}
}

// keepTime moves the clock, and ends an era in which nothing is heard any more.
func (f *Feed) keepTime(ctx context.Context) {
	every := time.NewTicker(min(tick, f.maxStale/8))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			f.clock.Store(int64(time.Since(f.began)))
			f.checkSilence()
		}
	}
}

func (f *Feed) checkSilence() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.silent && time.Since(f.heard) > f.maxStale {
		f.silent = true
		f.newEra()
	}
}
