package main

import (
	"context"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/walfence/walfence/pkg/cache"
)

type settings map[string]string

// Settings are read by every request: refreshed before they end, and served old for a day if the database is away.
func (s *shop) getSettings(c *gin.Context) {
	tenant, ok := number(c, "tenant")
	if !ok {
		return
	}
	k := key("tenant:#:settings", c.Param("tenant"))
	all, err := s.settings.Get(c.Request.Context(), k, func(ctx context.Context) (settings, error) {
		rows, err := s.db.Query(ctx, "SELECT name, value FROM tenant_settings WHERE tenant_id = $1", tenant)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		all := settings{}
		for rows.Next() {
			var name, value string
			if err := rows.Scan(&name, &value); err != nil {
				return nil, err
			}
			all[name] = value
		}
		return all, rows.Err()
	})
	answer(c, all, err, cache.Freshness{Private: true, MaxAge: 10 * time.Second}, k)
}
