package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/pkg/cache"
)

type profile struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// A profile is the user's own, and rather read from the process's memory than from anywhere else.
func (s *shop) getProfile(c *gin.Context) {
	tenant, ok := number(c, "tenant")
	id, ok2 := number(c, "id")
	if !ok || !ok2 {
		return
	}
	k := profileKey(c)
	p, err := s.profiles.Get(c.Request.Context(), k, func(ctx context.Context) (p profile, err error) {
		err = s.db.QueryRow(ctx, "SELECT name, email FROM users WHERE tenant_id = $1 AND id = $2", tenant, id).Scan(&p.Name, &p.Email)
		return p, notFound(err)
	})
	answer(c, p, err, cache.Freshness{Private: true, MaxAge: time.Second}, k)
}

func profileKey(c *gin.Context) string {
	return key("tenant:#:user:#:profile", c.Param("tenant"), c.Param("id"))
}

// putName shows how a writer reads its own write: it invalidates after the commit, and need not wait for walfence.
func (s *shop) putName(c *gin.Context) {
	tenant, ok := number(c, "tenant")
	id, ok2 := number(c, "id")
	if !ok || !ok2 {
		return
	}
	tag, err := s.db.Exec(c.Request.Context(), "UPDATE users SET name = $3 WHERE tenant_id = $1 AND id = $2", tenant, id, c.Query("name"))
	switch {
	case err != nil:
		_ = c.AbortWithError(http.StatusInternalServerError, err)
	case tag.RowsAffected() == 0:
		c.JSON(http.StatusNotFound, gin.H{"error": "not found"})
	default:
		_ = s.profiles.Invalidate(c.Request.Context(), profileKey(c)) // an optimisation: walfence does it anyway
		c.Status(http.StatusNoContent)
	}
}

// notFound is what a loader returns for a row that is not there: that, too, is cached.
func notFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return cache.ErrNotFound
	}
	return err
}
