package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"time"
)

// lead loads for all that share the flight, stores the value if its guard still stands, and hands it to them. If the load
// panics or its caller has left, the others ask again.
func (r *read[T]) lead(ctx context.Context, f *flight[T], leader bool) (got entry[T]) {
	var shared *entry[T]
	settled := false
	defer func() {
		r.c.flights.finish(f, shared)
		if leader && !settled {
			r.c.release(ctx, f.key)
		}
	}()
	m := &Miss{applied: r.c.applied}
	got.value, got.err = r.c.callLoad(ctx, m, r.load)
	if got.err == nil || errors.Is(got.err, ErrNotFound) {
		var err error
		if settled, err = r.c.store(ctx, f.key, r.seen, m, got); err != nil {
			got.err = err
		}
	}
	if got.err == nil || ctx.Err() == nil {
		shared = &got
	}
	return got
}

// callLoad calls a loader within the limits.
func (c *Cache[T]) callLoad(ctx context.Context, m *Miss, load Load[T]) (value T, err error) {
	if err := c.limiter.acquire(ctx); err != nil {
		return value, err
	}
	defer c.limiter.release()
	ctx, end := c.span(ctx, "cache.load")
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, missKey{}, m), c.opt.LoadTimeout)
	defer cancel()
	began, failed := time.Now(), true
	defer func() {
		c.stats.loaded(time.Since(began), failed)
		end(err)
	}()
	value, err = load(ctx)
	failed = err != nil && !errors.Is(err, ErrNotFound)
	return value, err
}

// store fills, and keeps locally what was filled. It returns false if the guard was left as it is. Its error is that of
// encoding; what else goes wrong is only counted: the value is right, and the next miss tries again.
func (c *Cache[T]) store(ctx context.Context, k flightKey, seen sight, m *Miss, e entry[T]) (settled bool, err error) {
	notFound := e.err != nil
	if notFound && c.opt.NotFoundTTL < 0 {
		return false, nil
	}
	if reason := m.refusal(c.opt.Replica); reason != "" {
		c.stats.refuse(reason)
		return false, nil
	}
	stored, err := c.encode(k.key, e.value, notFound)
	if err != nil {
		return false, err
	}
	ctx, end := c.span(ctx, "cache.fill")
	ttl := c.lifetime(notFound)
	ok, err := c.fill(context.WithoutCancel(ctx), k, stored, ttl)
	end(err)
	switch {
	case err != nil:
		c.stats.failed.Add(1)
	case !ok:
		c.stats.refuse(refusedGuard)
	default:
		c.stats.filled.Add(1)
		if notFound {
			e.err = ErrNotFound
		}
		if c.local != nil {
			c.local.put(k.key, seen, e, ttl-c.opt.grace())
		}
	}
	return true, nil
}

// refresh loads a value again in the background, unless somebody does already.
func (c *Cache[T]) refresh(ctx context.Context, key string, load Load[T]) {
	if withoutFill(ctx) {
		return // its loader may read what is not committed
	}
	f, role := c.flights.join(flightKey{key: key}, false) // no guard yet: one at a time per process
	if role == follow {
		return
	}
	ctx = context.WithoutCancel(ctx)
	started := c.spawn(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.ctx, cancel)()
		defer c.flights.finish(f, nil)
		c.refreshNow(ctx, key, load)
	})
	if !started {
		c.flights.finish(f, nil)
	}
}

// refreshNow takes the guard and fills. A panic of the loader is counted: who waits for the value next meets it.
func (c *Cache[T]) refreshNow(ctx context.Context, key string, load Load[T]) {
	var seen sight
	if c.local != nil {
		seen = c.local.see(key)
	}
	guard, leader, err := c.takeGuard(ctx, key)
	if err != nil || !leader {
		return
	}
	k := flightKey{key, guard}
	settled := false
	defer func() {
		_ = recover()
		if !settled {
			c.release(ctx, k)
		}
	}()
	m := &Miss{applied: c.applied}
	var e entry[T]
	if e.value, e.err = c.callLoad(ctx, m, load); e.err != nil && !errors.Is(e.err, ErrNotFound) {
		return
	}
	if settled, err = c.store(ctx, k, seen, m, e); settled && err == nil {
		c.stats.refreshed.Add(1)
	}
}

// spawn runs something in the background, unless the cache is closed.
func (c *Cache[T]) spawn(do func()) bool {
	c.closing.Lock()
	defer c.closing.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.background.Go(do)
	return true
}

// newGuard returns an id that no other miss has.
func newGuard() string { return rand.Text() }
