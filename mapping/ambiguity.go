package mapping

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walfence/walfence/pkg/events"
	"go.yaml.in/yaml/v4"
)

// Names of guards, by pkg/cache: a key without a hash tag stands in one, a key with one gets a longer ending.
const (
	guardSuffix       = "}:walfence-guard"
	taggedGuardSuffix = ":walfence-guard:tagged"
)

// maxTemplates bounds how many templates, one per version, are compared with each other.
const maxTemplates = 10_000

// segment is what stands between two separators of a template: at most one value, with text around it.
type segment struct {
	prefix, suffix string
	value, tenant  bool // a value stands between prefix and suffix; and it is the tenant
}

// shape is a template cut at its separators. Values hold no separators, so two keys can be equal only if their shapes'
// separators are, and each pair of segments.
type shape struct {
	separators string
	segments   []segment
}

func newShape(literals []string, fields []field) shape {
	var s shape
	var separators []byte
	current, from := segment{}, 0
	for i, literal := range literals {
		from = 0
		for j := range len(literal) {
			if !events.IsSeparator(literal[j]) {
				continue
			}
			separators = append(separators, literal[j])
			s.segments = append(s.segments, current.with(literal[from:j]))
			current, from = segment{}, j+1
		}
		current = current.with(literal[from:])
		if i < len(fields) {
			current.value, current.tenant = true, fields[i].source == fromTenant
		}
	}
	s.segments = append(s.segments, current)
	s.separators = string(separators)
	return s
}

func (g segment) with(text string) segment {
	if g.value {
		g.suffix += text
	} else {
		g.prefix += text
	}
	return g
}

// meets tells whether some values make both segments the same text.
func (g segment) meets(h segment) bool {
	switch {
	case !g.value && !h.value:
		return g.prefix == h.prefix
	case !g.value:
		return h.meets(g)
	case !h.value:
		return len(h.prefix) >= len(g.prefix)+len(g.suffix) &&
			strings.HasPrefix(h.prefix, g.prefix) && strings.HasSuffix(h.prefix, g.suffix)
	}
	return (strings.HasPrefix(g.prefix, h.prefix) || strings.HasPrefix(h.prefix, g.prefix)) &&
		(strings.HasSuffix(g.suffix, h.suffix) || strings.HasSuffix(h.suffix, g.suffix))
}

// meetsOther tells whether keys of two shapes can be equal although their tenants differ. Where both have the tenant in
// the same place with the same text around it, equal keys have equal tenants.
func (s shape) meetsOther(o shape) bool {
	if s.separators != o.separators {
		return false
	}
	for i, g := range s.segments {
		h := o.segments[i]
		if !g.meets(h) || g.tenant && h.tenant && g.prefix == h.prefix && g.suffix == h.suffix {
			return false
		}
	}
	return true
}

// guard returns the shape of the guards of a template's keys.
func (t *template) guard() shape {
	literals := slices.Clone(t.literals)
	last := len(literals) - 1
	if strings.Contains(strings.Join(literals, ""), "{") {
		literals[last] += taggedGuardSuffix
	} else {
		literals[0] = "{" + literals[0]
		literals[last] += guardSuffix
	}
	return newShape(literals, t.fields)
}

// rendered is what a template renders into a cache: its keys, or their guards.
type rendered struct {
	rule    *Rule
	node    *yaml.Node
	shape   shape
	tenants string // where the tenant stands and what is around it: equal keys of two with equal ones have equal tenants
	guard   bool
}

func newRendered(r *Rule, n *yaml.Node, s shape, guard bool) rendered {
	var b strings.Builder
	for i, g := range s.segments {
		if g.tenant {
			fmt.Fprintf(&b, "%d %q %q ", i, g.prefix, g.suffix)
		}
	}
	return rendered{r, n, s, b.String(), guard}
}

// confusable tells whether one name can be rendered by both, for two tenants. Global rules have no tenant: their keys may
// meet each other's, but no tenant's. Guards meet only where keys do.
func (t *rendered) confusable(o *rendered) bool {
	switch {
	case t.rule.Global && o.rule.Global, t.guard && o.guard:
		return false
	case t.tenants == o.tenants:
		return false
	}
	return t.shape.meetsOther(o.shape)
}

// checkTenantsNeverMeet compares the templates of each cache. Caches with one URL are one.
func (p *parser) checkTenantsNeverMeet(rules []*ruleSource, caches []Cache) {
	count := 0
	for _, r := range rules {
		count += len(r.rule.outputs)
	}
	if count > maxTemplates {
		p.failAt(place{1, 1}, fmt.Sprintf("the file has %d templates (one per version), more than %d", count, maxTemplates), "")
		return
	}
	checked := map[string]bool{}
	for _, c := range caches {
		if !checked[c.URL] {
			checked[c.URL] = true
			p.compare(renderedInto(rules, caches, c.URL))
		}
	}
}

// renderedInto returns what rules render into one Redis.
func renderedInto(rules []*ruleSource, caches []Cache, url string) []rendered {
	var out []rendered
	for _, r := range rules {
		if !slices.ContainsFunc(r.rule.Caches, func(c int) bool { return caches[c].URL == url }) {
			continue
		}
		for i := range r.rule.outputs {
			o := &r.rule.outputs[i]
			out = append(out, newRendered(r.rule, o.node, newShape(o.literals, o.fields), false),
				newRendered(r.rule, o.node, o.guard(), true))
		}
	}
	return out
}

// compare reports, for each template, the first earlier one that it can be confused with.
func (p *parser) compare(all []rendered) {
	alike := map[string][]*rendered{} // by separators: only these can meet
	for i := range all {
		t := &all[i]
		others := alike[t.shape.separators]
		if j := slices.IndexFunc(others, t.confusable); j >= 0 {
			p.ambiguous(t, others[j])
		}
		alike[t.shape.separators] = append(others, t)
	}
}

func (p *parser) ambiguous(t, o *rendered) {
	what := "this template and %s of rule %q can render the same key for two tenants"
	switch {
	case t.guard:
		what = "the guard of a key of this template can be a key that %s of rule %q renders for another tenant"
	case o.guard:
		what = "this template can render what guards, for another tenant, a key of %s of rule %q"
	case t.rule.Global || o.rule.Global:
		what = "this template and %s of rule %q can render the same key, and one of them has no tenant"
	}
	p.rule = t.rule.Name
	p.fail(t.node, fmt.Sprintf(what, quote(o.node.Value), o.rule.Name),
		"let both begin alike up to and including {tenant}, or differ in text before the first placeholder")
	p.rule = ""
}
