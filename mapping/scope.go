package mapping

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v4"
)

// scopeSource is a scope of the file: the template of the key that holds its generation.
type scopeSource struct {
	node   *yaml.Node
	used   bool
	broken bool // reported
}

// scopes reads `scopes`: templates by name.
func (p *parser) scopes(n *yaml.Node) map[string]*scopeSource {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		p.fail(n, fmt.Sprintf("%q is %s, not a mapping", "scopes", kind(n)), `write scopes: {catalog: "tenant:{tenant}:catalog"}`)
		return nil
	}
	out := map[string]*scopeSource{}
	for name, v := range p.entries(n, `"scopes"`, nil) {
		out[name] = &scopeSource{node: v, broken: true}
		if _, ok := p.scalar(v, fmt.Sprintf("scope %q", name)); !ok {
			continue
		}
		p.checkName(v, "a scope's name", name)
		t, flaws := parseTemplate(v.Value)
		for _, f := range flaws {
			p.failAt(p.offset(v, f.at), f.cause, f.hint)
		}
		if t.has(fromVersion) {
			p.fail(v, "the template of a scope names {version}", "a scope's generation is one for all versions: leave {version} out")
		}
		out[name].broken = len(flaws) > 0 || t.has(fromVersion)
	}
	return out
}

// readBump reads the scopes that the rule gives a new generation.
func (r *ruleSource) readBump(scopes map[string]*scopeSource) {
	n := r.fields["bump"]
	if n == nil {
		return
	}
	for _, item := range r.texts(n, "bump") {
		s := scopes[item.Value]
		if s == nil {
			r.unknownScope(item, scopes)
			continue
		}
		s.used = true
		if s.broken {
			continue
		}
		if t := r.template(s.node, nil); t != nil {
			r.add(output{template: t, scope: item.Value, node: s.node}, nil)
		}
	}
}

func (r *ruleSource) unknownScope(n *yaml.Node, scopes map[string]*scopeSource) {
	hint := `write scopes: {` + brief(n.Value) + `: "tenant:{tenant}:` + brief(n.Value) + `"} at the top of the file`
	if len(scopes) > 0 {
		hint = didYouMean(n.Value, slices.Sorted(maps.Keys(scopes)))
	}
	r.fail(n, fmt.Sprintf("unknown scope %s", quote(n.Value)), hint)
}

// checkUsed reports scopes that no rule bumps: what stands in them would never be invalidated.
func (p *parser) checkUsed(scopes map[string]*scopeSource) {
	for name, s := range scopes {
		if !s.used {
			p.fail(s.node, fmt.Sprintf("no rule bumps the scope %q", name), "write bump: ["+name+"] in a rule, or leave the scope out")
		}
	}
}
