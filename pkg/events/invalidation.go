package events

import "time"

// Invalidation is one message on INVALIDATIONS, the feed: what was removed from one cache, for one tenant or, where
// Global, for keys without a tenant or for all tenants. It is published after the cache has applied it.
type Invalidation struct {
	Version  int       `json:"v"`
	Source   string    `json:"source"`
	Cache    string    `json:"cache"`
	Tenant   string    `json:"tenant"`
	Global   bool      `json:"global,omitempty"` // Tenant means nothing: keys without one, or all tenants
	Epoch    uint64    `json:"epoch"`            // the highest position that it covers
	LSN      LSN       `json:"lsn"`
	Time     time.Time `json:"time"`             // commit time of the newest change that it covers
	Keys     []string  `json:"keys,omitempty"`   // removed, each with its guard
	Scopes   []string  `json:"scopes,omitempty"` // bumped
	Patterns []Pattern `json:"patterns,omitempty"`
	Rules    []string  `json:"rules"`         // that led to it
	All      bool      `json:"all,omitempty"` // the whole cache is invalid
	Reason   string    `json:"reason,omitempty"`
}
