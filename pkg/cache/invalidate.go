package cache

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Invalidate removes keys, with their guards, from Redis and from the process's own memory. A writer that calls it after its
// commit closes the gap until walfence does the same, so that it reads its own write. It is an optimisation: without it, or
// if it fails, nothing stays stale.
func (c *Cache[T]) Invalidate(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			return fmt.Errorf("invalidate: %w", err)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), chunk)
		if err := c.remove(ctx, keys[:n]); err != nil {
			return fmt.Errorf("invalidate: %w", err)
		}
		keys = keys[n:]
	}
	return nil
}

func (c *Cache[T]) remove(ctx context.Context, keys []string) error {
	err := c.redis.call(ctx, keys[0], func(ctx context.Context) error {
		pipe := c.redis.client.Pipeline()
		for _, key := range keys {
			pipe.Unlink(ctx, key, GuardKey(key))
		}
		cmds, _ := pipe.Exec(ctx) // each command has its error
		for i, cmd := range cmds {
			err := cmd.Err()
			if redis.IsTryAgainError(err) {
				err = c.removeSplit(ctx, keys[i])
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if c.local != nil {
		c.local.remove(keys) // after Redis, from where it would be read again
	}
	return err
}

// removeSplit removes a pair whose slot is on the move: the guard first, so that the fill that it admits is over.
func (c *Cache[T]) removeSplit(ctx context.Context, key string) error {
	if err := c.redis.client.Unlink(ctx, GuardKey(key)).Err(); err != nil {
		return err
	}
	return c.redis.client.Unlink(ctx, key).Err()
}
