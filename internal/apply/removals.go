package apply

import (
	"slices"
	"time"

	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

// removals are the keys that one cache loses, and what the feed says of them.
type removals struct {
	keys   []string
	seen   map[string]struct{}
	groups map[group]*told
}

// group is a tenant's keys, or where global, those without a tenant.
type group struct {
	tenant string
	global bool
}

// told is what the feed says of one group.
type told struct {
	keys     []string
	scopes   []string
	rules    []*mapping.Rule
	position events.Position
	time     time.Time
}

func newRemovals() removals {
	return removals{seen: map[string]struct{}{}, groups: map[group]*told{}}
}

func (c *removals) reset() {
	clear(c.keys)
	c.keys = c.keys[:0]
	clear(c.seen)
	clear(c.groups)
}

// add notes a key that an event leads to, unless it is there already: then it returns false.
func (c *removals) add(k *mapping.Key, e *events.Event) bool {
	if _, again := c.seen[k.Key]; again {
		return false
	}
	c.seen[k.Key] = struct{}{}
	c.keys = append(c.keys, k.Key)
	if k.Scope != "" { // the template is the scope's name; package cache keeps the generation beside it
		c.keys = append(c.keys, cache.GenerationKey(k.Key))
	}
	g := group{tenant: k.Tenant, global: k.Rule.Global}
	t := c.groups[g]
	if t == nil {
		t = &told{}
		c.groups[g] = t
	}
	t.add(k, e)
	return true
}

func (t *told) add(k *mapping.Key, e *events.Event) {
	if k.Scope == "" {
		t.keys = append(t.keys, k.Key)
	} else {
		t.scopes = append(t.scopes, k.Key)
	}
	if e.Position.Compare(t.position) > 0 {
		t.position = e.Position
	}
	if e.Time.After(t.time) {
		t.time = e.Time
	}
	if !slices.Contains(t.rules, k.Rule) {
		t.rules = append(t.rules, k.Rule)
	}
}

// tell returns what the feed says of the removals: one message per tenant, or several where there are too many keys.
func (c *removals) tell(source, cacheName string, out []events.Invalidation) []events.Invalidation {
	for g, t := range c.groups {
		told := events.Invalidation{
			Version: events.Version, Source: source, Cache: cacheName, Tenant: g.tenant, Global: g.global,
			Epoch: t.position.Epoch, LSN: t.position.LSN, Time: t.time, Rules: ruleNames(t.rules),
		}
		for keys, scopes := t.keys, t.scopes; len(keys)+len(scopes) > 0; {
			n := fitting(keys)
			told.Keys, keys = keys[:n], keys[n:]
			told.Scopes = nil
			if len(told.Keys) == 0 {
				n = fitting(scopes)
				told.Scopes, scopes = scopes[:n], scopes[n:]
			}
			out = append(out, told)
		}
	}
	return out
}
