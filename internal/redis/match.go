package redis

import (
	"strings"

	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/events"
)

// selection is what one pass over the keyspace takes.
type selection struct {
	patterns []events.Pattern
	glob     string // matches what any pattern does, and more
}

func selectKeys(patterns []events.Pattern) selection {
	return selection{patterns: patterns, glob: commonGlob(patterns)}
}

// selectGuards selects the guards of the keys that patterns match.
func selectGuards(patterns []events.Pattern) selection {
	guards := make([]events.Pattern, len(patterns))
	for i, p := range patterns {
		guards[i] = guardPattern(p)
	}
	return selectKeys(guards)
}

// guardPattern mirrors [cache.GuardKey]. A value never holds braces, so the template tells whether there is a hash tag.
func guardPattern(p events.Pattern) events.Pattern {
	g := append(events.Pattern(nil), p...)
	last := len(g) - 1
	if strings.Contains(strings.Join(p, ""), "{") {
		g[last] += cache.TaggedGuardSuffix
		return g
	}
	g[0] = "{" + g[0]
	g[last] += cache.GuardSuffix
	return g
}

func (s selection) match(key string) bool {
	for _, p := range s.patterns {
		if p.Match(key) {
			return true
		}
	}
	return false
}

// commonGlob returns the narrowest glob of the form prefix*suffix, or for one pattern its own: a server that knows what is
// wanted sends less.
func commonGlob(patterns []events.Pattern) string {
	if len(patterns) == 1 {
		return patterns[0].Glob()
	}
	prefix, suffix := patterns[0][0], patterns[0][len(patterns[0])-1]
	shortest := -1 // of the patterns without a value in them
	for _, p := range patterns {
		prefix = prefix[:commonPrefix(prefix, p[0])]
		suffix = suffix[len(suffix)-commonSuffix(suffix, p[len(p)-1]):]
		if len(p) == 1 && (shortest < 0 || len(p[0]) < shortest) {
			shortest = len(p[0])
		}
	}
	if over := len(prefix) + len(suffix) - shortest; shortest >= 0 && over > 0 {
		prefix = prefix[:max(len(prefix)-over, 0)]
		suffix = suffix[max(len(prefix)+len(suffix)-shortest, 0):]
	}
	return events.Pattern{prefix, suffix}.Glob()
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonSuffix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}
