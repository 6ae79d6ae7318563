package mapping

import (
	"slices"

	"go.yaml.in/yaml/v4"
)

// defaults are what rules that do not say otherwise say.
type defaults struct {
	fields  map[string]*yaml.Node            // of rules
	options map[string]map[string]*yaml.Node // of what stands in a rule's `refresh` and `purge`
}

// defaultFields are the fields of a rule that `defaults` may set, besides the options of refreshes and purges: all but
// what a rule is about and what it does.
var defaultFields = []string{"on", "tenant", "versions", "cache", "when", "on_empty", "cap", "repeat"}

// defaults reads `defaults`. The values are read again with each rule, and the same problem is reported once.
func (p *parser) defaults(root, n *yaml.Node, fields map[string]*yaml.Node) *defaults {
	d := &defaults{options: map[string]map[string]*yaml.Node{}}
	if n == nil {
		return d
	}
	p.defaultFrom, p.defaultTo = fieldLines(root, "defaults", len(p.text.lines))
	d.fields = p.object(n, `"defaults"`, append(slices.Clone(defaultFields), "refresh", "purge")...)
	for name, options := range map[string][]string{"refresh": refreshOptions, "purge": purgeOptions} {
		if v := d.fields[name]; v != nil {
			d.options[name] = p.object(v, `"`+name+`" of "defaults"`, options...)
			delete(d.fields, name)
		}
	}
	if t := d.fields["tenant"]; t != nil && fields["tenant"] != nil {
		p.fail(t, `"tenant" is given twice, at the top of the file too`, "leave one of them out")
	}
	return d
}

// inherit adds the defaults to a rule's own fields.
func (r *ruleSource) inherit(d *defaults) {
	r.own, r.defaults = r.fields, d
	r.fields = map[string]*yaml.Node{}
	for name, n := range d.fields {
		r.fields[name] = n
	}
	for name, n := range r.own {
		r.fields[name] = n
	}
}

// fillIn adds the defaults of a refresh's or a purge's options, but those named, to its own fields.
func (r *ruleSource) fillIn(fields map[string]*yaml.Node, of string, but ...string) {
	for name, n := range r.defaults.options[of] {
		if fields[name] == nil && !slices.Contains(but, name) {
			fields[name] = n
		}
	}
}

// fieldLines returns the lines of one of the file's fields: from its name to the next field's; from > to if it is missing.
func fieldLines(root *yaml.Node, name string, last int) (from, to int) {
	from, to = last+1, last
	for i := 0; i+1 < len(root.Content) && root.Kind == yaml.MappingNode; i += 2 {
		line := root.Content[i].Line
		if from <= last {
			return from, max(from, line-1)
		}
		if root.Content[i].Value == name {
			from = line
		}
	}
	return from, to
}
