package cache

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// DefaultGuardTTL is how long a guard stands that nobody fills or invalidates.
const DefaultGuardTTL = 10 * time.Second

// Options configure a [Cache].
type Options struct {
	// TTL is how long a value stays unless an invalidation removes it earlier. At least a millisecond.
	TTL time.Duration
	// GuardTTL is how long a load may take: a fill that comes later is refused. Zero means [DefaultGuardTTL].
	GuardTTL time.Duration
}

// Stats counts what a [Cache] did since it was made.
type Stats struct {
	Hits    uint64 // values found
	Misses  uint64 // values not found
	Filled  uint64 // loaded values stored
	Refused uint64 // loaded values not stored, since the guard of their miss was gone
	Failed  uint64 // loaded values not stored, since Redis did not take them
}

// Cache reads values of type T through Redis, as JSON. It is safe for concurrent use.
type Cache[T any] struct {
	client redis.UniversalClient
	opt    Options

	hits, misses, filled, refused, failed atomic.Uint64
}

// New returns a cache on a client of a single Redis, Sentinel or Cluster. The client stays the caller's to close.
func New[T any](client redis.UniversalClient, opt Options) (*Cache[T], error) {
	if opt.GuardTTL == 0 {
		opt.GuardTTL = DefaultGuardTTL
	}
	if opt.TTL < time.Millisecond || opt.GuardTTL < time.Millisecond {
		return nil, errors.New("make cache: TTL and GuardTTL must be at least a millisecond")
	}
	return &Cache[T]{client: client, opt: opt}, nil
}

// Get returns the value under key, and where there is none, loads and stores it.
//
// It calls load after the miss, in the caller's goroutine, at most once. The value that load returns is always returned; it
// is stored only if nothing invalidated the key meanwhile. The error is that of load, or of a Redis that does not
// answer (which is no miss), or one that matches [ErrKey].
func (c *Cache[T]) Get(ctx context.Context, key string, load func(ctx context.Context) (T, error)) (T, error) {
	var value T
	if err := CheckKey(key); err != nil {
		return value, err
	}
	keys := []string{key, GuardKey(key)}
	found, hit, guard, err := c.lookup(ctx, keys, rand.Text())
	if err != nil {
		return value, fmt.Errorf("read cache: %w", err)
	}
	if hit {
		c.hits.Add(1)
		if err := json.Unmarshal([]byte(found), &value); err != nil {
			return value, fmt.Errorf("decode cached value: %w", err)
		}
		return value, nil
	}
	c.misses.Add(1)
	if value, err = load(ctx); err != nil {
		return value, err
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return value, fmt.Errorf("encode value: %w", err)
	}
	c.count(c.fill(ctx, keys, guard, encoded, c.opt.TTL))
	return value, nil
}

// count takes the outcome of a fill. Its error is only counted: the value is right, and the next miss tries again.
func (c *Cache[T]) count(stored bool, err error) {
	switch {
	case err != nil:
		c.failed.Add(1)
	case stored:
		c.filled.Add(1)
	default:
		c.refused.Add(1)
	}
}

// Stats returns what the cache did so far.
func (c *Cache[T]) Stats() Stats {
	return Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(),
		Filled: c.filled.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(),
	}
}
