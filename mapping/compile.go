package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"go.yaml.in/yaml/v4"
)

// fileFields are the fields that a rules file may have.
var fileFields = []string{"version", "source", "tenant", "caches", "scopes", "purge_hosts", "defaults", "rules"}

// Compile reads a rules file into a program. The name of the file is only for messages; env looks up an environment
// variable, and nil has none. The error is [Problems]: everything that is wrong, in the order of the file.
func Compile(file string, src []byte, env func(string) (string, bool)) (*Program, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	p := &parser{text: newText(file, src), env: env}
	prog := &Program{text: p.text}
	if root := p.document(src); root != nil {
		p.program(root, prog)
	}
	if len(p.problems) > 0 {
		return nil, p.problems.Sort()
	}
	sum := sha256.Sum256(src)
	prog.hash = hex.EncodeToString(sum[:])
	prog.index()
	return prog, nil
}

func (p *parser) program(root *yaml.Node, prog *Program) {
	p.text.secretFrom, p.text.secretTo = fieldLines(root, "caches", len(p.text.lines))
	fields := p.object(root, "the file", fileFields...)
	if fields == nil {
		return
	}
	p.version(root, fields["version"])
	prog.source = p.source(root, fields["source"])
	if n := fields["caches"]; n != nil {
		prog.caches = p.caches(n)
	} else {
		p.fail(root, `the file has no "caches"`, `write caches: {main: {redis: "${REDIS_URL}"}}`)
	}
	prog.rules = p.rules(root, fields, prog.caches)
}

func (p *parser) version(root, n *yaml.Node) {
	switch {
	case n == nil:
		p.fail(root, `the file has no "version"`, "write version: 1")
	case n.Kind != yaml.ScalarNode || n.Tag != "!!int" || n.Value != "1":
		p.fail(n, fmt.Sprintf("%q is not 1, the only version there is", "version"), "write version: 1")
	}
}

func (p *parser) source(root, n *yaml.Node) string {
	if n == nil {
		p.fail(root, `the file has no "source"`, "name the database: source: shop")
		return ""
	}
	return p.name(n, `"source"`)
}

// rules reads `rules`, and what concerns all of them together.
func (p *parser) rules(root *yaml.Node, fields map[string]*yaml.Node, caches []Cache) []*Rule {
	n := fields["rules"]
	if n == nil {
		p.fail(root, `the file has no "rules"`, "")
		return nil
	}
	sources := p.ruleSources(n)
	scopes, hosts := p.scopes(fields["scopes"]), p.purgeHosts(fields["purge_hosts"])
	common := p.defaults(root, fields["defaults"], fields)
	for _, s := range sources {
		s.inherit(common)
		s.hosts = hosts
	}
	tenant := p.tenantOfAll(root, fields["tenant"], sources)
	rules := make([]*Rule, len(sources))
	for i, s := range sources {
		s.rule.ordinal = i
		s.read(tenant, caches, scopes)
		rules[i] = s.rule
	}
	p.checkUsed(scopes)
	p.checkLookedUp(sources)
	p.checkTenantsNeverMeet(sources, caches)
	return rules
}

func (p *parser) ruleSources(n *yaml.Node) []*ruleSource {
	var out []*ruleSource
	lines := map[string]int{}
	for _, item := range p.list(n, "rules") {
		r := p.ruleNamed(item)
		if r == nil {
			continue
		}
		name := r.rule.Name
		if line := lines[name]; line > 0 && name != "" {
			p.failAt(place{r.rule.Line, r.rule.Column}, fmt.Sprintf("another rule has this name, on line %d", line), "")
		} else {
			lines[name] = r.rule.Line
		}
		out = append(out, r)
	}
	p.rule = ""
	return out
}

// tenantOfAll reads the file's `tenant`, which only rules that say it themselves can do without.
func (p *parser) tenantOfAll(root, n *yaml.Node, rules []*ruleSource) *tenancy {
	if n != nil {
		return p.tenancy(n)
	}
	for _, r := range rules {
		if r.fields["tenant"] == nil {
			p.fail(root, fmt.Sprintf(`the file has no "tenant", nor does rule %q`, r.rule.Name), tenantHint(""))
			break
		}
	}
	return nil
}
