package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/pkg/events"
)

var (
	// ErrNotFound is what a loader returns, wrapped or not, where there is no value. [Cache.Get] returns it, also for as long
	// as this is remembered. A nil pointer or an empty value is a value.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable is matched by errors of reads that Redis did not answer, and that were not loaded either, so that an
	// outage of Redis does not become one of the database.
	ErrUnavailable = errors.New("cache unavailable")
)

// Load reads a value from where it really is. It is called after the miss, and must read then: not earlier, nor inside an
// older transaction.
type Load[T any] = func(ctx context.Context) (T, error)

// Cache reads values of type T through Redis. It is safe for concurrent use.
type Cache[T any] struct {
	opt      Options
	attached attached
	pack     packer
	redis    *outlet
	limiter  *Limiter
	outage   *Limiter
	flights  flights[T]
	waker    *waker
	local    *local[T] // nil without a feed
	record   *Applied  // nil without a source
	stats    counters
	warmth   warmth

	closing    sync.Mutex // held where background grows and where ctx ends
	background sync.WaitGroup
	ctx        context.Context // of what runs in the background
	stop       context.CancelFunc
}

// New returns a cache on a client of a single Redis, Sentinel or Cluster. The client stays the caller's to close. Its
// ContextTimeoutEnabled should be set: for a Cluster it must, since timeouts could not be kept otherwise.
func New[T any](client redis.UniversalClient, opt Options, options ...Option) (*Cache[T], error) {
	if err := opt.complete(); err != nil {
		return nil, err
	}
	c := &Cache[T]{opt: opt, attached: attached{codec: JSON}}
	for _, option := range options {
		option(&c.attached)
	}
	var err error
	if c.redis, err = newOutlet(client, opt.Timeout, &c.stats); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	if c.limiter = c.attached.limiter; c.limiter == nil {
		c.limiter = NewLimiter(opt.Loads)
	}
	c.outage = NewLimiter(max(opt.OutageLoads, 0))
	c.pack = packer{keyring: c.attached.keyring, compressAbove: opt.CompressAbove}
	c.waker = newWaker(client)
	c.ctx, c.stop = context.WithCancel(context.Background())
	if opt.Source != "" {
		c.record = NewApplied(c.redis.client, opt.Source)
	}
	if c.attached.feed != nil {
		c.local = newLocal[T](c.attached.feed, opt.LocalSize, opt.LocalTTL)
	}
	return c, nil
}

// Close ends what the cache does in the background, waits for it, and leaves the feed. Reads under way go on.
func (c *Cache[T]) Close() {
	c.closing.Lock()
	c.stop()
	c.closing.Unlock()
	c.background.Wait()
	c.waker.close()
	if c.local != nil {
		c.local.close()
	}
}

// Get returns the value under key, and where there is none, loads and stores it.
//
// It calls load after the miss, in the caller's goroutine, at most once: of all readers in all processes that miss a key at
// the same time one loads, and the others wait for it. The value that load returns is always returned; it is stored only
// if nothing invalidated the key meanwhile. What comes from the process's own memory is shared: do not change it.
//
// The error is that of load, or matches [ErrNotFound], [ErrKey], or, where Redis does not answer, [ErrUnavailable].
func (c *Cache[T]) Get(ctx context.Context, key string, load Load[T]) (T, error) {
	if c.local != nil {
		if e := c.local.get(key); e != nil {
			c.stats.localHits.add()
			return e.value, e.err
		}
	}
	if err := CheckKey(key); err != nil {
		var none T
		return none, err
	}
	r := read[T]{c: c, key: key, load: load}
	if c.attached.tracer == nil {
		return r.run(ctx)
	}
	ctx, end := c.attached.tracer.Start(ctx, "cache.read")
	value, err := r.run(ctx)
	end(err)
	return value, err
}

// applied reads the applied record of the loaders' source.
func (c *Cache[T]) applied(ctx context.Context) (p events.Position, known bool, err error) {
	if c.record == nil {
		return p, false, nil
	}
	err = c.redis.call(ctx, c.record.keys[0], func(ctx context.Context) error {
		p, known, err = c.record.Read(ctx)
		return err
	})
	return p, known, err
}

// span starts a span where there is a tracer.
func (c *Cache[T]) span(ctx context.Context, name string) (context.Context, func(error)) {
	if c.attached.tracer == nil {
		return ctx, func(error) {}
	}
	return c.attached.tracer.Start(ctx, name)
}

// encode returns what is stored for a value.
func (c *Cache[T]) encode(key string, value T, notFound bool) ([]byte, error) {
	var data []byte
	if !notFound {
		var err error
		if data, err = c.attached.codec.Marshal(value); err != nil {
			return nil, fmt.Errorf("encode value: %w", err)
		}
	}
	stored, err := c.pack.pack(key, data, notFound)
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	return stored, nil
}

// decode is the inverse of encode.
func (c *Cache[T]) decode(key string, stored []byte) (entry[T], error) {
	var e entry[T]
	data, notFound, err := c.pack.unpack(key, stored)
	switch {
	case err != nil:
		return e, err
	case notFound:
		e.err = ErrNotFound
		return e, nil
	}
	if err := c.attached.codec.Unmarshal(data, &e.value); err != nil {
		return e, fmt.Errorf("%w: %w", errUndecodable, err)
	}
	return e, nil
}

// lifetime is how long something is to stay in Redis.
func (c *Cache[T]) lifetime(notFound bool) time.Duration {
	ttl := c.opt.TTL
	if notFound {
		ttl = c.opt.NotFoundTTL
	}
	return max(shorten(ttl, c.opt.Jitter)+c.opt.grace(), time.Millisecond)
}
