package catalog

import (
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// InRules writes problems of tables and columns at the places of the rules file that name them. What concerns no table,
// or one that no rule names, is left out.
func (ps Problems) InRules(needs []mapping.Table) mapping.Problems {
	rules := make(map[events.Table][]*mapping.Rule, len(needs))
	for _, need := range needs {
		rules[need.Table] = need.Rules
	}
	var out mapping.Problems
	for i := range ps {
		out = append(out, ps[i].inRules(rules[ps[i].Table])...)
	}
	return out.Sort()
}

// inRules tells of a column at each rule that names it, but of a table, and of what takes statements, only once.
func (p *Problem) inRules(rules []*mapping.Rule) mapping.Problems {
	if len(rules) == 0 {
		return nil
	}
	if len(p.Columns) == 0 {
		return mapping.Problems{rules[0].TableProblem(p.Cause, p.advice())}
	}
	var out mapping.Problems
	for _, r := range rules {
		at := r.ColumnProblem(p.Columns[0], p.Cause, p.advice())
		named := at.Line != r.Line || at.Column != r.Column
		if named && (len(out) == 0 || len(p.Statements) == 0) {
			out = append(out, at)
		}
	}
	if len(out) == 0 {
		out = append(out, rules[0].TableProblem(p.Cause, p.advice()))
	}
	return out
}
