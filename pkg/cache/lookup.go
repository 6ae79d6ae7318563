package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

// found is what Redis said of a key: a value, or the guard of its miss.
type found struct {
	hit    bool
	value  []byte
	left   time.Duration // until the value expires; negative: never, or nobody asked
	guard  string
	leader bool // the guard is new: who missed first loads
}

// lookup reads the value, or takes the guard, in one step of Redis. Where most reads hit, it tries a plain GET first, which
// costs Redis a third less; what it misses, only the script decides.
func (c *Cache[T]) lookup(ctx context.Context, key string) (f found, err error) {
	if c.warmth.warm() || withoutFill(ctx) {
		f, err = c.peek(ctx, key)
		if err != nil || f.hit || withoutFill(ctx) {
			c.warmth.note(f.hit)
			return f, err
		}
	}
	f, err = c.ask(ctx, key)
	c.warmth.note(f.hit)
	return f, err
}

// aged tells whether it matters when a value expires.
func (c *Cache[T]) aged() bool {
	return c.opt.grace() > 0 || c.opt.RefreshBefore > 0 || c.local != nil
}

// peek reads the value if there is one.
func (c *Cache[T]) peek(ctx context.Context, key string) (f found, err error) {
	f.left = -1
	err = c.redis.call(ctx, key, func(ctx context.Context) error {
		if !c.aged() {
			f.value, err = c.redis.client.Get(ctx, key).Bytes()
			return err
		}
		pipe := c.redis.client.Pipeline()
		value, left := pipe.Get(ctx, key), pipe.PTTL(ctx, key)
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		f.value, err = value.Bytes()
		f.left = left.Val()
		return err
	})
	if errors.Is(err, redis.Nil) {
		return found{}, nil
	}
	f.hit = err == nil
	return f, err
}

// ask runs the miss script.
func (c *Cache[T]) ask(ctx context.Context, key string) (f found, err error) {
	id := newGuard()
	var reply any
	err = c.redis.call(ctx, key, func(ctx context.Context) error {
		reply, err = missScript.Run(ctx, c.redis.client, []string{key, GuardKey(key)}, id, c.opt.GuardTTL.Milliseconds()).Result()
		return err
	})
	if err != nil {
		c.giveUp(ctx, flightKey{key, id}, err)
		return f, err
	}
	return understand(reply, id)
}

// understand reads the miss script's reply to a miss with this id.
func understand(reply any, id string) (found, error) {
	switch reply := reply.(type) {
	case string:
		guard := strings.TrimSuffix(reply, waited)
		return found{guard: guard, leader: guard == id}, nil
	case []any:
		if len(reply) != 2 {
			break
		}
		value, ok1 := reply[0].(string)
		left, ok2 := reply[1].(int64)
		if ok1 && ok2 {
			return found{hit: true, value: []byte(value), left: milliseconds(left)}, nil
		}
	}
	return found{}, fmt.Errorf("read cache: unexpected reply of type %T", reply)
}

// milliseconds turns a PTTL into a duration; what never expires is negative.
func milliseconds(n int64) time.Duration {
	if n < 0 {
		return -1
	}
	return time.Duration(n) * time.Millisecond
}

// takeGuard takes the guard of a key that has a value.
func (c *Cache[T]) takeGuard(ctx context.Context, key string) (guard string, leader bool, err error) {
	id := newGuard()
	err = c.redis.call(ctx, key, func(ctx context.Context) error {
		guard, err = guardScript.Run(ctx, c.redis.client, []string{GuardKey(key)}, id, c.opt.GuardTTL.Milliseconds()).Text()
		return err
	})
	if err != nil {
		c.giveUp(ctx, flightKey{key, id}, err)
		return "", false, err
	}
	guard = strings.TrimSuffix(guard, waited)
	return guard, guard == id, nil
}

// giveUp releases, in the background, a guard that may have been taken though no answer came: or readers would wait for a
// load that nobody makes until it expires.
func (c *Cache[T]) giveUp(ctx context.Context, k flightKey, err error) {
	if !errors.Is(err, gobreaker.ErrOpenState) && !errors.Is(err, gobreaker.ErrTooManyRequests) {
		c.spawn(func() { c.release(ctx, k) })
	}
}

// fill reports whether the guard still stood, and the value was stored.
func (c *Cache[T]) fill(ctx context.Context, k flightKey, value []byte, ttl time.Duration) (stored bool, err error) {
	err = c.redis.call(ctx, k.key, func(ctx context.Context) error {
		stored, err = fillScript.Run(ctx, c.redis.client, []string{k.key, GuardKey(k.key)}, k.guard, value, ttl.Milliseconds()).Bool()
		return err
	})
	return stored, err
}

// release gives up a guard under which nothing will be filled, so that the next reader loads at once. Where it fails, the
// guard expires.
func (c *Cache[T]) release(ctx context.Context, k flightKey) {
	_ = c.redis.call(context.WithoutCancel(ctx), k.key, func(ctx context.Context) error {
		return releaseScript.Run(ctx, c.redis.client, []string{GuardKey(k.key)}, k.guard).Err()
	})
}

// announceWait asks to be told of the fill, and returns how long its guard still stands; 0 if there is nothing to wait for.
func (c *Cache[T]) announceWait(ctx context.Context, k flightKey, replacing bool) (left time.Duration, err error) {
	err = c.redis.call(ctx, k.key, func(ctx context.Context) error {
		ms, err := waitScript.Run(ctx, c.redis.client, []string{k.key, GuardKey(k.key)}, k.guard, replacing).Int64()
		left = time.Duration(ms) * time.Millisecond
		return err
	})
	return left, err
}

// warmth is how much of the latest reads hit, in 1/1024.
type warmth struct{ level atomic.Int32 }

// warmFrom is where a GET that may have to be followed by a script costs less than the script at once.
const warmFrom = 1024 * 4 / 5

func (w *warmth) warm() bool { return w.level.Load() >= warmFrom }

// note takes one more read. Two at once may lose one of them: it is an estimate.
func (w *warmth) note(hit bool) {
	old := w.level.Load()
	now := old - old/16
	if hit {
		now = old + (1024-old)/16
	}
	if now != old {
		w.level.Store(now)
	}
}
