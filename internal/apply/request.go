package apply

import (
	"slices"
	"time"

	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

// Request asks for a sweep: of all that a rule's templates can have rendered, for one tenant or for all.
type Request struct {
	Rule   *mapping.Rule // nil: everything, the whole of every cache
	Tenant string        // as in the row; means nothing if All, or if the rule is global
	All    bool          // for all tenants
	Reason string

	position events.Position // the highest that led to it
	time     time.Time
}

// requestKey is what makes two requests the same.
type requestKey struct {
	rule   *mapping.Rule
	tenant string
	all    bool
}

// wholeKey is the key of a request for everything.
var wholeKey = requestKey{}

func (r Request) whole() bool { return r.Rule == nil }

func (r Request) key() requestKey {
	switch {
	case r.whole():
		return wholeKey
	case r.All:
		return requestKey{rule: r.Rule, all: true}
	}
	return requestKey{rule: r.Rule, tenant: r.Tenant}
}

// level says how wide the request is.
func (r Request) level() string {
	switch {
	case r.whole():
		return levelCache
	case r.All:
		return levelRule
	}
	return levelTenant
}

// Concerns tells whether the request reaches a cache, by its index in the program.
func (r Request) Concerns(cache int) bool {
	return r.whole() || slices.Contains(r.Rule.Caches, cache)
}

// Patterns returns what the request sweeps from a cache, by its index in the program.
func (r Request) Patterns(p *mapping.Program, cache int) []events.Pattern {
	if !r.Concerns(cache) {
		return nil
	}
	if !r.whole() {
		return withGenerations(r.Rule, r.Rule.Patterns(r.Tenant, r.All))
	}
	var patterns []events.Pattern
	for _, rule := range p.Rules() {
		patterns = append(patterns, Request{Rule: rule, All: true}.Patterns(p, cache)...)
	}
	return patterns
}

// withGenerations adds where package cache keeps the generations of scopes, for a rule that bumps some.
func withGenerations(r *mapping.Rule, patterns []events.Pattern) []events.Pattern {
	bumps := func(t mapping.KeyTemplate) bool { return t.Scope != "" }
	if !slices.ContainsFunc(r.Templates(), bumps) {
		return patterns
	}
	for _, p := range slices.Clone(patterns) {
		p = slices.Clone(p)
		p[len(p)-1] = cache.GenerationKey(p[len(p)-1])
		patterns = append(patterns, p)
	}
	return patterns
}
