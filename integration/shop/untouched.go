package shop

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/integration/check"
)

// Untouched are keys of tenants whose rows no writer changes. An invalidation that removes one of them has met the wrong tenant,
// or was a sweep of the whole cache.
func (s *Shop) Untouched() []check.Page {
	view := s.profiles()
	var pages []check.Page
	for tenant := s.busy() + 1; tenant <= s.Tenants; tenant++ {
		for id := int64(tenant); id <= int64(s.Tenants*s.Users); id += int64(s.Tenants) {
			pages = append(pages, check.Page{View: &view, Key: profileKey(tenant, id), Args: []any{tenant, id}})
		}
	}
	return pages
}

// Fill reads every one of these pages through the cache.
func Fill(ctx context.Context, c check.Cache, conn *pgx.Conn, pages []check.Page) error {
	for _, page := range pages {
		if _, err := page.Read(ctx, c, conn); err != nil {
			return err
		}
	}
	return nil
}
