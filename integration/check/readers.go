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

// Page is one key of a view.
type Page struct {
	View *View
	Key  string
	// Args are the arguments of the view's One.
	Args []any
}

// Read reads the page through the cache, and from the database if it is not there.
func (p *Page) Read(ctx context.Context, c Cache, conn *pgx.Conn) (Value, error) {
	return c.Get(ctx, p.Key, func(ctx context.Context) (Value, error) { return p.View.load(ctx, conn, p.Args) })
}

// Reading returns the work of a reader: to read one page of one of the views, and tell the history.
func Reading(c Cache, views []View, history *History) Work {
	return func(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
		page := Page{View: &views[rng.IntN(len(views))]}
		page.Key, page.Args = page.View.Pick(rng)
		began := time.Now()
		value, err := page.Read(ctx, c, conn)
		if err == nil {
			history.Read(page.Key, value, began)
		}
		return err
	}
}
