package mapping

import (
	"slices"

	"go.yaml.in/yaml/v4"
)

// output is one template of a rule, for one version, and what is done to its keys: one that is neither a scope's nor
// refreshed is deleted.
type output struct {
	*template
	scope   string       // name of the scope whose generation the key is; empty for others
	refresh *RefreshSpec // nil for others
	binds   []bind       // of refresh, by the query's parameters
	version string       // that it was expanded for; empty for none
	node    *yaml.Node   // where it stands in the file; nil after Compile
}

// bind is where a parameter's value comes from: a field of the template, or where that is negative a text.
type bind struct {
	field int
	text  string
}

// readOutputs reads `delete`, `bump` and `refresh`, each template once per version.
func (r *ruleSource) readOutputs(scopes map[string]*scopeSource) {
	versions := r.readVersions()
	r.readDelete(versions)
	r.readBump(scopes)
	r.readRefresh(versions)
	r.readPurge()
	if !slices.ContainsFunc(actionFields, func(f string) bool { return r.fields[f] != nil }) {
		r.fail(r.node, "the rule does nothing", `write delete: ["tenant:{tenant}:..."]`)
	}
	if v := r.own["versions"]; v != nil && !r.versioned {
		r.fail(v, `no template of the rule names {version}`, `leave "versions" out, or put {version} into the templates`)
	}
}

// readDelete reads the templates of the keys to delete.
func (r *ruleSource) readDelete(versions []string) {
	if n := r.fields["delete"]; n != nil {
		for _, item := range r.texts(n, "delete") {
			if t := r.template(item, versions); t != nil {
				r.add(output{template: t, node: item}, versions)
			}
		}
	}
}

// template reads a template and checks what the rule says of it; nil after a problem.
func (r *ruleSource) template(n *yaml.Node, versions []string) *template {
	t, flaws := parseTemplate(n.Value)
	for _, f := range flaws {
		r.failAt(r.offset(n, f.at), f.cause, f.hint)
	}
	r.versioned = r.versioned || t.has(fromVersion)
	if !r.checkPlaceholders(n, t, versions, len(flaws) == 0) || len(flaws) > 0 {
		return nil
	}
	return t
}

// add adds a template to the rule, once per version.
func (r *ruleSource) add(o output, versions []string) {
	for i := range o.fields {
		if o.fields[i].source == fromColumn {
			r.uses(o.fields[i].column, r.offset(o.node, o.fields[i].at))
		}
	}
	if !o.has(fromVersion) {
		r.addOne(o)
		return
	}
	t := o.template
	for _, v := range versions {
		o.template, o.version = t.fill(fromVersion, v), v
		r.addOne(o)
	}
}

func (r *ruleSource) addOne(o output) {
	if o.refresh != nil {
		o.binds = o.bind(o.refresh.Query)
	}
	r.rule.outputs = append(r.rule.outputs, o)
}

// bind finds the field that fills each parameter of a query. The parser has seen to it that there is one.
func (o *output) bind(q *Query) []bind {
	out := make([]bind, len(q.Params))
	for i, name := range q.Params {
		out[i] = bind{field: slices.IndexFunc(o.fields, func(f field) bool { return f.name() == name })}
		if out[i].field < 0 {
			out[i].text = o.version
		}
	}
	return out
}
