package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/pkg/cache"
)

// Cache is how readers read: a [*cache.Cache] of Values, or what takes its place to show that the checker sees the difference.
type Cache interface {
	Get(ctx context.Context, key string, load func(context.Context) (Value, error)) (Value, error)
}

// valueTTL is longer than any run: what goes away is removed by somebody.
const valueTTL = 24 * time.Hour

// Guarded returns pkg/cache's cache, whose fills are guarded.
func Guarded(client redis.UniversalClient) (*cache.Cache[Value], error) {
	c, err := cache.New[Value](client, cache.Options{TTL: valueTTL})
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return c, nil
}

// Reading returns the work of a reader: to read one key of one of the views through the cache, from the primary if it is not
// there, and tell the history.
func Reading(c Cache, views []View, history *History) Work {
	return func(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
		view := &views[rng.IntN(len(views))]
		key, args := view.Pick(rng)
		began := time.Now()
		value, err := c.Get(ctx, key, func(ctx context.Context) (Value, error) { return view.load(ctx, conn, args) })
		if err != nil {
			return err
		}
		history.Read(key, value, began)
		return nil
	}
}
