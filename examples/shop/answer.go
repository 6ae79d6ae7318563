package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

// answer writes a value with what lets browsers and a CDN keep it, and the CDN be purged by the cache key.
func answer(c *gin.Context, value any, err error, f cache.Freshness, key string) {
	switch {
	case errors.Is(err, cache.ErrNotFound):
		c.JSON(http.StatusNotFound, gin.H{"error": "not found"})
		return
	case errors.Is(err, cache.ErrUnavailable):
		c.Header("Retry-After", "1")
		c.JSON(http.StatusServiceUnavailable, gin.H{"error": "try again"})
		return
	case err != nil:
		_ = c.Error(err)
		c.JSON(http.StatusInternalServerError, gin.H{"error": "internal"})
		return
	}
	body, err := json.Marshal(value)
	if err != nil {
		_ = c.AbortWithError(http.StatusInternalServerError, err)
		return
	}
	c.Header("Cache-Control", f.String())
	cache.SetSurrogateKeys(c.Writer.Header(), key)
	if !cache.NotModified(c.Writer, c.Request, cache.ETag(body)) {
		c.Data(http.StatusOK, "application/json", body)
	}
}

// key fills a template's values in, escaped as rules.yaml's are.
func key(template string, values ...string) string {
	var out []byte
	for i := range len(template) {
		if template[i] == '#' {
			out = events.AppendKeyPart(out, values[0])
			values = values[1:]
			continue
		}
		out = append(out, template[i])
	}
	return string(out)
}

// number reads a number of the path; the answer is written if it is none.
func number(c *gin.Context, name string) (int64, bool) {
	n, err := strconv.ParseInt(c.Param(name), 10, 64)
	if err != nil {
		c.JSON(http.StatusBadRequest, gin.H{"error": name + " is no number"})
	}
	return n, err == nil
}
