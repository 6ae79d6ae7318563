package rulestest

import (
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// expectation is all that a test's changes must lead to. What is left out must not happen.
type expectation struct {
	Keys      byCache  `yaml:"keys"`      // removed
	Scopes    byCache  `yaml:"scopes"`    // the keys of generations that are removed
	Refreshes byCache  `yaml:"refreshes"` // keys that are filled again
	Purges    []string `yaml:"purges"`    // "METHOD url", or keys of batches
	Sweeps    []sweep  `yaml:"sweeps"`
}

// byCache are keys of the only cache, or of several by name.
type byCache struct {
	only  []string
	named map[string][]string
}

// sweep is a rule that is swept, for one tenant or all.
type sweep struct {
	Rule   string  `yaml:"rule"`
	Tenant *string `yaml:"tenant"` // nil: for all tenants
}

// UnmarshalYAML reads a list, or lists by the names of caches.
func (b *byCache) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		return n.Decode(&b.named)
	}
	return n.Decode(&b.only)
}

// lines returns the keys with their caches, each as a line of a report.
func (b *byCache) lines(action string, p *mapping.Program) ([]string, error) {
	named := b.named
	if len(b.only) > 0 {
		if len(p.Caches()) != 1 {
			return nil, fmt.Errorf("there are several caches: write %s: {%s: [...]}", action, p.Caches()[0].Name)
		}
		named = map[string][]string{p.Caches()[0].Name: b.only}
	}
	var out []string
	for cache, keys := range named {
		if !slices.ContainsFunc(p.Caches(), func(c mapping.Cache) bool { return c.Name == cache }) {
			return nil, fmt.Errorf("unknown cache %q", cache)
		}
		for _, key := range keys {
			out = append(out, keyLine(action, cache, key))
		}
	}
	return out, nil
}

func keyLine(action, cache, key string) string { return fmt.Sprintf("%s %s: %s", action, cache, key) }

const (
	removes   = "keys"
	bumps     = "scopes"
	refreshes = "refreshes"
	purges    = "purges"
	sweeps    = "sweeps"
)

// lines returns what is expected, each as a line of a report.
func (x *expectation) lines(p *mapping.Program) ([]string, error) {
	keys, err1 := x.Keys.lines(removes, p)
	scopes, err2 := x.Scopes.lines(bumps, p)
	fills, err3 := x.Refreshes.lines(refreshes, p)
	out := slices.Concat(keys, scopes, fills)
	errs := []error{err1, err2, err3}
	for _, u := range x.Purges {
		out = append(out, purges+": "+u)
	}
	for _, s := range x.Sweeps {
		if p.Rule(s.Rule) == nil {
			errs = append(errs, fmt.Errorf("unknown rule %q", s.Rule))
		}
		out = append(out, sweepLine(s.Rule, s.Tenant))
	}
	return out, errors.Join(errs...)
}

func sweepLine(rule string, tenant *string) string {
	if tenant == nil {
		return fmt.Sprintf("%s: rule %s of all tenants", sweeps, rule)
	}
	return fmt.Sprintf("%s: rule %s of tenant %q", sweeps, rule, *tenant)
}

// outcome is what changes led to: lines of a report, each with the rules and the causes behind it.
type outcome map[string][]string

func (o outcome) add(line, why string) {
	if !slices.Contains(o[line], why) {
		o[line] = append(o[line], why)
	}
}

// gather adds what a result holds.
func (o outcome) gather(p *mapping.Program, r *mapping.Result) {
	cache := func(i int) string { return p.Caches()[i].Name }
	for _, k := range r.Keys {
		action := removes
		if k.Scope != "" {
			action = bumps
		}
		o.add(keyLine(action, cache(k.Cache), k.Key), "by rule "+k.Rule.Name)
	}
	for _, f := range r.Refreshes {
		o.add(keyLine(refreshes, cache(f.Cache), f.Key), "by rule "+f.Rule.Name)
	}
	for _, u := range r.Purges {
		line := u.Key
		if u.Request != nil {
			line = u.Request.Method + " " + u.Request.URL
		}
		o.add(purges+": "+line, "by rule "+u.Rule.Name)
	}
	for _, s := range r.Sweeps {
		tenant := &s.Tenant
		if s.All {
			tenant = nil
		}
		o.add(sweepLine(s.Rule.Name, tenant), s.Cause)
	}
}

// found returns rows as a lookup would find them.
func found(q *mapping.Query, rows []values) ([][]events.Value, error) {
	out := [][]events.Value{}
	for _, row := range rows {
		cells := make([]events.Value, len(q.Columns))
		for i, column := range q.Columns {
			n, ok := row[column]
			if !ok {
				return nil, fmt.Errorf("a row that is found lacks the column %q", column)
			}
			v, err := valueOf(&n)
			if err != nil {
				return nil, fmt.Errorf("column %q: %w", column, err)
			}
			cells[i] = v
		}
		if len(row) != len(cells) {
			return nil, fmt.Errorf("a row that is found has other columns than %v", q.Columns)
		}
		out = append(out, cells)
	}
	return out, nil
}
