package mapping

import "fmt"

// Warnings returns what is probably wrong with the rules, although they can be run: refreshes that read tables that no rule
// is about, so that a change there leaves the value stale until it expires.
func (p *Program) Warnings() Problems {
	var out Problems
	for _, r := range p.rules {
		for _, s := range r.Refreshes() {
			for _, t := range s.Query.Tables {
				if _, ok := p.byName[t]; !ok {
					out = append(out, r.QueryProblem(s.Query, fmt.Sprintf("%s is read, but no rule is about it: what changes there is not noticed", t),
						fmt.Sprintf("add a rule with table: %s that refreshes the same keys, unless it never changes", t)))
				}
			}
		}
	}
	return out.Sort()
}
