package mapping

// Needs is what carrying out a program takes besides removing keys. A program that cannot do something of it must refuse
// the rules: nothing may be left out silently.
type Needs struct {
	Lookups   bool // queries on the way from a change to its keys: Result.Lookups
	Refreshes bool // queries whose results are filled: Result.Refreshes
	Purges    bool // HTTP requests: Result.Purges
	Repeats   bool // removing again later: Rule.Repeat
	Bumps     bool // the feed tells of scopes: Key.Scope
}

// Database tells whether queries are to be run.
func (n Needs) Database() bool { return n.Lookups || n.Refreshes }

// Needs returns what the rules ask for.
func (p *Program) Needs() Needs {
	var n Needs
	for _, r := range p.rules {
		n.Lookups = n.Lookups || r.through != nil
		n.Purges = n.Purges || len(r.purges) > 0
		n.Repeats = n.Repeats || len(r.Repeat) > 0
		for i := range r.outputs {
			n.Refreshes = n.Refreshes || r.outputs[i].refresh != nil
			n.Bumps = n.Bumps || r.outputs[i].scope != ""
		}
	}
	return n
}

// Through says how the rule's keys are looked up; nil where they follow from the changed row alone.
func (r *Rule) Through() *Through { return r.through }

// Refreshes returns what the rule refreshes, once per version. Nothing may write to it.
func (r *Rule) Refreshes() []*RefreshSpec {
	var out []*RefreshSpec
	for i := range r.outputs {
		if s := r.outputs[i].refresh; s != nil {
			out = append(out, s)
		}
	}
	return out
}

// QueryProblem describes what is wrong with the rule's `through` or the query of a refresh, at its place.
func (r *Rule) QueryProblem(q *Query, cause, hint string) Problem {
	return r.text.problem(r.text.offset(q.node, 0), r.Name, cause, hint)
}
