package main

import (
	"context"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/pkg/cache"
)

type product struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// A list or a search depends on rows that nobody can name: its keys are in a scope, which any change of a product bumps.
func (s *shop) getProducts(c *gin.Context) {
	tenant, ok := number(c, "tenant")
	if !ok {
		return
	}
	ctx, search := c.Request.Context(), c.Query("q")
	scope := cache.Scope(c.Param("tenant"), "catalog")
	k, err := s.scopes.Key(ctx, scope, key("search:#", search))
	if err != nil { // without its generation nothing may be read from the cache
		found, err := s.search(ctx, tenant, search)
		answer(c, found, err, cache.Freshness{}, scope)
		return
	}
	found, err := s.lists.Get(ctx, k, func(ctx context.Context) ([]product, error) { return s.search(ctx, tenant, search) })
	answer(c, found, err, cache.Freshness{MaxAge: time.Second, SharedMaxAge: time.Hour, StaleIfError: 24 * time.Hour}, scope)
}

func (s *shop) search(ctx context.Context, tenant int64, text string) ([]product, error) {
	rows, err := s.db.Query(ctx, "SELECT id, name FROM products WHERE tenant_id = $1 AND name ILIKE '%' || $2 || '%' ORDER BY id LIMIT 50", tenant, text)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[product])
}
