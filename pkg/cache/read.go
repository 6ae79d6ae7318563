package cache

import (
	"context"
	"errors"
	"time"
)

// entry is a value, or ErrNotFound.
type entry[T any] struct {
	value T
	err   error
}

// read is one call of Get.
type read[T any] struct {
	c    *Cache[T]
	key  string
	load Load[T]

	seen  sight     // of the local cache, from before Redis was asked
	until time.Time // when waiting for others ends; zero before the first wait
	stale *entry[T] // what may be returned if loading fails
}

// run asks Redis until there is an answer to give: it asks again when somebody that was waited for is done.
func (r *read[T]) run(ctx context.Context) (T, error) {
	for {
		if r.c.local != nil {
			r.seen = r.c.local.see(r.key) // before the question is sent: an invalidation from here on counts
		}
		found, err := r.c.lookup(ctx, r.key)
		if err != nil {
			return r.withoutRedis(ctx, err)
		}
		e, done := r.answer(ctx, found)
		if done {
			return e.value, e.err
		}
	}
}

// answer makes something of what Redis said. It returns false where Redis is to be asked again.
func (r *read[T]) answer(ctx context.Context, found found) (entry[T], bool) {
	if !found.hit {
		r.c.stats.misses.Add(1)
		return r.miss(ctx, found.guard, found.leader)
	}
	e, err := r.c.decode(r.key, found.value)
	if err != nil {
		r.c.stats.undecodable.Add(1)
		return r.replace(ctx)
	}
	left := found.left - r.c.opt.grace()
	switch {
	case found.left < 0 || left > r.c.opt.RefreshBefore:
		r.c.stats.hits.Add(1)
	case left > 0:
		r.c.stats.hits.Add(1)
		r.c.refresh(ctx, r.key, r.load)
	case left > -r.c.opt.Stale:
		r.c.stats.stale.Add(1)
		r.c.refresh(ctx, r.key, r.load)
		return e, true // not kept locally: it is over already
	default:
		r.stale = &e
		return r.replace(ctx)
	}
	if r.c.local != nil {
		r.c.local.put(r.key, r.seen, e, left)
	}
	return e, true
}

// replace loads while a value is there that cannot be served.
func (r *read[T]) replace(ctx context.Context) (entry[T], bool) {
	if withoutFill(ctx) {
		return r.loadOnly(ctx), true
	}
	guard, leader, err := r.c.takeGuard(ctx, r.key)
	if err != nil {
		value, err := r.withoutRedis(ctx, err)
		return entry[T]{value, err}, true
	}
	e, done := r.miss(ctx, guard, leader)
	if done && e.err != nil && !errors.Is(e.err, ErrNotFound) && r.stale != nil && ctx.Err() == nil {
		r.c.stats.staleOnError.Add(1)
		return *r.stale, true
	}
	return e, done
}

// miss loads, or lets somebody else load who has missed the same value. Two who hold the same guard missed the same one: no
// invalidation came between, so what one reads is new enough for the other.
func (r *read[T]) miss(ctx context.Context, guard string, leader bool) (entry[T], bool) {
	if withoutFill(ctx) {
		return r.loadOnly(ctx), true
	}
	f, role := r.c.flights.join(flightKey{r.key, guard}, leader)
	if role == lead {
		return r.lead(ctx, f, leader), true
	}
	if r.until.IsZero() {
		r.until = time.Now().Add(max(r.c.opt.Wait, 0))
	}
	ctx, end := r.c.waiting(ctx)
	outcome := r.await(ctx, f, role)
	end(nil)
	switch outcome {
	case loadToo:
		return r.lead(ctx, &flight[T]{key: f.key, done: make(chan struct{})}, false), true
	case told:
		return *f.got, true
	}
	return entry[T]{err: ctx.Err()}, ctx.Err() != nil
}

// withoutRedis loads and stores nothing, as far as the limit for outages lets it.
func (r *read[T]) withoutRedis(ctx context.Context, cause error) (T, error) {
	var none T
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	if r.stale != nil {
		r.c.stats.staleOnError.Add(1)
		return r.stale.value, r.stale.err
	}
	bounded, cancel := context.WithTimeout(ctx, r.c.opt.Timeout)
	defer cancel()
	if r.c.opt.OutageLoads < 0 || r.c.outage.acquire(bounded) != nil {
		r.c.stats.unavailable.Add(1)
		return none, &unavailableError{cause}
	}
	defer r.c.outage.release()
	r.c.stats.bypassed.Add(1)
	e := r.loadOnly(ctx)
	return e.value, e.err
}

// loadOnly loads without storing.
func (r *read[T]) loadOnly(ctx context.Context) entry[T] {
	m := &Miss{refused: refusedWithoutFill}
	value, err := r.c.callLoad(ctx, m, r.load)
	return entry[T]{value, err}
}
