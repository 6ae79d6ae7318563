package mapping

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// checkPlaceholders checks a template against what the rule says of tenant and versions.
func (r *ruleSource) checkPlaceholders(n *yaml.Node, t *template, versions []string, whole bool) bool {
	before := len(r.problems)
	for i := range t.fields {
		f := &t.fields[i]
		switch {
		case f.source == fromVersion && versions == nil:
			r.failAt(r.offset(n, f.at), `{version} is used, but the rule has no "versions"`, "write versions: [v1]")
		case f.source == fromTenant && r.rule.Global:
			r.failAt(r.offset(n, f.at), "the rule is global: {tenant} has no value", "leave {tenant} out, or write tenant: {column: tenant_id}")
		}
	}
	known := whole || !strings.Contains(n.Value, "tenant") // a flaw may have hidden the placeholder
	if known && !t.has(fromTenant) && !r.rule.Global && r.rule.tenant != "" {
		r.fail(n, "the template has no {tenant}", r.missingTenantHint(n.Value, t))
	}
	return len(r.problems) == before
}

func (r *ruleSource) missingTenantHint(text string, t *template) string {
	if strings.Contains(text, "{{tenant}}") {
		return "{{ and }} are literal braces: write {tenant}, or {{{tenant}}} for a hash tag"
	}
	for i := range t.fields {
		if name := t.fields[i].column; name == r.rule.tenant || nearest(name, []string{"tenant"}) != "" {
			return fmt.Sprintf("write {tenant} instead of {%s}", name)
		}
	}
	return "begin it with tenant:{tenant}:, or write tenant: global if all tenants share the key"
}
