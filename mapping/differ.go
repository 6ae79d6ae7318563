package mapping

import (
	"fmt"
	"strings"
)

// Differ returns the rules of an old program that a new one does not have just so, and those of the new one that the old
// one did not have. What these can have rendered is in doubt when one program replaces the other, and is to be swept. A
// rule that only has another name or place, another time to repeat after, or other ways to fill, does not differ.
func Differ(old, next *Program) (gone, added []*Rule) {
	return without(old, next), without(next, old)
}

// without returns the rules of one program that another lacks.
func without(p, other *Program) []*Rule {
	have := map[string]bool{}
	for _, r := range other.rules {
		have[other.meaning(r)] = true
	}
	var out []*Rule
	for _, r := range p.rules {
		if !have[p.meaning(r)] {
			out = append(out, r)
		}
	}
	return out
}

// meaning writes down everything that decides which keys a rule invalidates, when, and where.
func (p *Program) meaning(r *Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %d %q %q %v\n", r.Table, r.on, r.columns, r.tenant, r.Global)
	for _, c := range r.Caches {
		fmt.Fprintf(&b, "cache %q %q\n", p.caches[c].Name, p.caches[c].URL)
	}
	if r.when != nil {
		fmt.Fprintf(&b, "when %q\n", r.when.node.Value)
	}
	if t := r.through; t != nil {
		fmt.Fprintf(&b, "through %q %v %d\n", t.Query.SQL, t.Ignore, t.Cap)
	}
	for i := range r.outputs {
		o := &r.outputs[i]
		fmt.Fprintf(&b, "key %q %q\n", o.text(), o.scope)
		if s := o.refresh; s != nil {
			fmt.Fprintf(&b, "refresh %q %s\n", s.Query.SQL, s.Shape)
		}
	}
	for _, s := range r.purges {
		fmt.Fprintf(&b, "purge %s\n", s.meaning())
	}
	return b.String()
}

func (s *PurgeSpec) meaning() string {
	var b strings.Builder
	if s.key != nil {
		fmt.Fprintf(&b, "key %q ", s.key.text())
	}
	for _, q := range []*purgeRequest{s.one, s.tenant, s.all} {
		if q == nil {
			b.WriteString("none ")
			continue
		}
		fmt.Fprintf(&b, "%s ", q.method)
		for _, t := range q.texts() {
			fmt.Fprintf(&b, "%q ", t.text())
		}
	}
	return b.String()
}
