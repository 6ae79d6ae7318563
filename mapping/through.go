package mapping

import (
	"fmt"
	"slices"

	"github.com/walfence/walfence/pkg/events"
	"go.yaml.in/yaml/v4"
)

// Through says how rows of another table are found on the way from a change to its keys.
type Through struct {
	Query  *Query
	Ignore bool // finding no row leads to nothing, instead of widening
	Cap    int  // rows of one lookup above which it widens

	kept    []string // columns of the changed row that are needed once the rows are found
	params  []int    // of kept, by the query's parameters
	columns []string // of the rows that templates are rendered from: kept, and behind them the query's
	tenant  int      // of columns: where the tenant is; -1 for a global rule
	found   bool     // the tenant is one of the query's columns
	at      *yaml.Node
	bound   *boundRule // to columns
}

const (
	defaultCap = 1000
	maxCap     = 100_000
)

// readThrough reads `through`, `on_empty` and `cap`.
func (r *ruleSource) readThrough() {
	n := r.fields["through"]
	for _, name := range []string{"on_empty", "cap"} {
		if at := r.own[name]; at != nil && n == nil {
			r.fail(at, fmt.Sprintf(`%q is given, but the rule has no "through"`, name), "leave it out")
		}
	}
	if n == nil {
		return
	}
	t := &Through{Cap: defaultCap, tenant: -1, at: n}
	if e := r.fields["on_empty"]; e != nil {
		t.Ignore = r.word(e, `"on_empty"`, "widen", "ignore") == "ignore"
	}
	if c := r.fields["cap"]; c != nil {
		t.Cap = r.count(c, `"cap"`, 1, maxCap)
	}
	q, tokens := r.query(n, "through")
	if q == nil {
		r.broken = true
		return
	}
	columns, f := columnsOf(tokens)
	if f != nil {
		r.failAt(r.offset(n, f.at), f.cause, f.hint)
		r.broken = true
		return
	}
	q.Columns, t.Query = columns, q
	t.found = !r.rule.Global && slices.Contains(columns, r.rule.tenant)
	r.checkThrough(n, t)
	r.rule.through = t
}

func (r *ruleSource) checkThrough(n *yaml.Node, t *Through) {
	if len(t.Query.Params) == 0 {
		r.fail(n, "the query has no parameter", "name a column of the changed row: WHERE id = :order_id")
	}
	for _, p := range t.Query.params {
		at := r.offset(n, p.from)
		switch {
		case p.text == "version":
			r.failAt(at, "the query asks for :version, which a change does not have", "")
		case p.text == "tenant" && r.rule.Global:
			r.failAt(at, "the rule is global: :tenant has no value", "")
		case p.text == "tenant" && t.found:
			r.failAt(at, fmt.Sprintf("the tenant comes out of the query, as %s, and cannot go into it", quote(r.rule.tenant)),
				"leave "+r.rule.tenant+" out of what it selects, or :tenant out of its WHERE")
		case p.text != "tenant":
			r.uses(p.text, at)
		}
	}
}

// layThrough lays out the row that the templates are rendered from once rows are found.
func (r *Rule) layThrough() {
	t := r.through
	keep := func(column string) int {
		if i := slices.Index(t.kept, column); i >= 0 {
			return i
		}
		t.kept = append(t.kept, column)
		return len(t.kept) - 1
	}
	for _, name := range t.Query.Params {
		if name == "tenant" {
			name = r.tenant
		}
		t.params = append(t.params, keep(name))
	}
	if !r.Global && !t.found {
		keep(r.tenant)
	}
	for _, c := range r.placeholders() {
		if !slices.Contains(t.Query.Columns, c) {
			keep(c)
		}
	}
	t.columns = append(slices.Clone(t.kept), t.Query.Columns...)
	if !r.Global {
		t.tenant = t.index(r.tenant)
	}
}

// index returns where a column stands in the row that templates are rendered from. What the query found comes first.
func (t *Through) index(column string) int {
	if i := slices.Index(t.Query.Columns, column); i >= 0 {
		return len(t.kept) + i
	}
	return slices.Index(t.kept, column)
}

// checkLookedUp reports tables that a rule looks up and that no rule is about: a change there would be missed.
func (p *parser) checkLookedUp(rules []*ruleSource) {
	known := map[events.Table]bool{}
	for _, r := range rules {
		known[r.rule.Table] = true
	}
	for _, r := range rules {
		if r.rule.through == nil {
			continue
		}
		for _, t := range r.rule.through.Query.Tables {
			if !known[t] {
				p.rule = brief(r.rule.Name)
				p.fail(r.rule.through.at, fmt.Sprintf("%s is looked up, but no rule is about it: what changes there would be missed", t),
					fmt.Sprintf("add a rule with table: %s that deletes the same keys", t))
			}
		}
	}
	p.rule = ""
}
