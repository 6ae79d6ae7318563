package cache

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// missScript returns the value as a string; or, where there is none, the id of the guard that stands, as an array of
// one: the caller's own if it is the first to miss. KEYS: value, guard. ARGV: new id, guard's lifetime in ms.
var missScript = redis.NewScript(`
local value = redis.call('GET', KEYS[1])
if value then return value end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {ARGV[1]} end
return {redis.call('GET', KEYS[2])}
`)

// fillScript stores the value iff the guard still has the id of the miss, and removes the guard. KEYS: value, guard.
// ARGV: id, value, value's lifetime in ms.
var fillScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
`)

// lookup returns the value and true, or the id of the guard that a fill needs.
func (c *Cache[T]) lookup(ctx context.Context, keys []string, newID string) (value string, hit bool, guard string, err error) {
	reply, err := missScript.Run(ctx, c.client, keys, newID, c.opt.GuardTTL.Milliseconds()).Result()
	if err != nil {
		return "", false, "", err
	}
	switch reply := reply.(type) {
	case string:
		return reply, true, "", nil
	case []any:
		if len(reply) == 1 {
			if guard, ok := reply[0].(string); ok {
				return "", false, guard, nil
			}
		}
	}
	return "", false, "", fmt.Errorf("unexpected reply of type %T", reply)
}

// fill reports whether the guard still stood, and the value was stored.
func (c *Cache[T]) fill(ctx context.Context, keys []string, guard string, value []byte, ttl time.Duration) (bool, error) {
	n, err := fillScript.Run(ctx, c.client, keys, guard, value, ttl.Milliseconds()).Int()
	return n == 1, err
}
