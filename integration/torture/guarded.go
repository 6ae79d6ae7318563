package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/cache/pgxreplica"
)

// guarded is pkg/cache, with cdc and invalidator to keep it in step.
type guarded struct {
	cache   *cache.Cache[int64]
	replica bool
}

func (s *stage) guarded(replica bool, options ...cache.Option) (*guarded, error) {
	c, err := cache.New[int64](s.client, cache.Options{TTL: valueTTL, Source: sourceName, Replica: replica}, options...)
	return &guarded{cache: c, replica: replica}, err
}

func (p *guarded) get(ctx context.Context, key string, src *source) (bool, error) {
	before := p.cache.Stats().Filled
	load := src.load
	if p.replica {
		load = pgxreplica.Load(src.conn, func(ctx context.Context, tx pgx.Tx) (int64, error) { return src.loadIn(ctx, tx) })
	}
	_, err := p.cache.Get(ctx, key, load)
	return p.cache.Stats().Filled > before, err
}

func (*guarded) invalidate(context.Context, redis.Pipeliner, string, uint64) {}
func (*guarded) settle()                                                     {}
func (p *guarded) close()                                                    { p.cache.Close() }
