package cache

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Freshness is what a response made of cached values says of how long others may keep it. Zero parts are left out.
type Freshness struct {
	// Private lets only the user's own browser keep it: for whatever belongs to one user.
	Private bool
	// MaxAge is how long browsers serve it without asking. They cannot be purged: keep it short.
	MaxAge time.Duration
	// SharedMaxAge is how long a CDN does. It can be purged, by the keys that SetSurrogateKeys gives it.
	SharedMaxAge time.Duration
	// StaleWhileRevalidate and StaleIfError are how long after that it may be served while it is asked for again, or while
	// that fails.
	StaleWhileRevalidate, StaleIfError time.Duration
}

// String returns the value of a Cache-Control header. The zero Freshness is "no-cache": keep it, but ask each time.
func (f Freshness) String() string {
	var parts []string
	if f.Private {
		parts = append(parts, "private")
	}
	for _, p := range []struct {
		name string
		d    time.Duration
	}{
		{"max-age", f.MaxAge},
		{"s-maxage", f.SharedMaxAge},
		{"stale-while-revalidate", f.StaleWhileRevalidate},
		{"stale-if-error", f.StaleIfError},
	} {
		if p.d > 0 && !(f.Private && p.name == "s-maxage") {
			parts = append(parts, p.name+"="+strconv.Itoa(int(p.d.Seconds())))
		}
	}
	if f.MaxAge <= 0 && f.SharedMaxAge <= 0 {
		parts = append(parts, "no-cache")
	}
	return strings.Join(parts, ", ")
}

// SetSurrogateKeys names the cache keys that a response was made of, so that a CDN can be purged by the rules that
// invalidate them. Keys of rules.yaml's templates have no space in them unless the template has; such a space becomes %20.
func SetSurrogateKeys(h http.Header, keys ...string) {
	escaped := make([]string, len(keys))
	for i, key := range keys {
		escaped[i] = strings.ReplaceAll(key, " ", "%20")
	}
	h.Set("Surrogate-Key", strings.Join(escaped, " "))
}

// ETag returns a strong entity tag of a response's body.
func ETag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

// NotModified sets the response's ETag, and where the request already has that version, answers 304 and returns true: then
// nothing else is to be written. Set other headers before.
func NotModified(w http.ResponseWriter, r *http.Request, etag string) bool {
	w.Header().Set("ETag", etag)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for known := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		known = strings.TrimPrefix(strings.TrimSpace(known), "W/")
		if known == etag || known == "*" {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}
