package mapping

import (
	"slices"

	"github.com/walfence/walfence/pkg/events"
)

// Program is a compiled rules file. It is immutable, and may be used from many goroutines.
type Program struct {
	text   *text
	hash   string
	source string
	caches []Cache
	rules  []*Rule
	names  map[string]*Rule
	tables []Table
	byName map[events.Table]*tableRules
}

// Source is the rules file's name of the database.
func (p *Program) Source() string { return p.source }

// Hash identifies the text of the rules file. It is the SHA-256 in hexadecimal digits, before variables are filled in.
func (p *Program) Hash() string { return p.hash }

// Caches returns the caches in the order of the file. Nothing may write to them.
func (p *Program) Caches() []Cache { return p.caches }

// Rules returns the rules in the order of the file. Nothing may write to them.
func (p *Program) Rules() []*Rule { return p.rules }

// Rule returns the rule of a name, or nil.
func (p *Program) Rule(name string) *Rule { return p.names[name] }

// Table is what rules need of one table.
type Table struct {
	events.Table
	Columns []string // of which events must carry the values; sorted
	// Old are the columns that must be in the replica identity, those of keys and tenants; without them an update or a
	// delete widens. Sorted. Empty if no rule looks at updates or deletes.
	Old []string
	// Compared are further columns that should be in the replica identity: those of a rule's `columns` and `when`. Without
	// them every update counts as one that touched them, and as one for which the condition held before. Sorted.
	Compared []string
	Typed    bool // events must carry the columns' types
	Rules    []*Rule
}

// Tables returns what rules need, by table, in the order of the file. Nothing may write to it.
func (p *Program) Tables() []Table { return p.tables }

// index prepares what Map and Tables look up.
func (p *Program) index() {
	p.names = map[string]*Rule{}
	p.byName = map[events.Table]*tableRules{}
	for _, r := range p.rules {
		p.names[r.Name] = r
		t := p.byName[r.Table]
		if t == nil {
			t = &tableRules{}
			p.byName[r.Table] = t
			p.tables = append(p.tables, Table{Table: r.Table})
		}
		t.rules = append(t.rules, r)
	}
	for _, r := range p.rules {
		if r.through != nil {
			r.through.bound = bindFound(r)
		}
	}
	for i := range p.tables {
		p.tables[i].gather(p.byName[p.tables[i].Table].rules)
	}
}

func (t *Table) gather(rules []*Rule) {
	t.Rules = rules
	for _, r := range rules {
		key, when := r.keyColumns(), r.whenColumns()
		t.Columns = append(append(append(t.Columns, key...), r.columns...), when...)
		t.Typed = t.Typed || len(when) > 0
		if r.on&(onUpdate|onDelete) != 0 {
			t.Old = append(t.Old, key...)
		}
		if r.on&onUpdate != 0 {
			t.Compared = append(t.Compared, r.columns...)
		}
		if r.on&(onUpdate|onDelete) != 0 {
			t.Compared = append(t.Compared, when...)
		}
	}
	t.Columns, t.Old, t.Compared = unique(t.Columns), unique(t.Old), unique(t.Compared)
	t.Compared = slices.DeleteFunc(t.Compared, func(c string) bool { return slices.Contains(t.Old, c) })
}

// keyColumns returns the columns of the changed row that decide about the rule's keys and their tenant.
func (r *Rule) keyColumns() []string {
	if r.through != nil {
		return slices.Clone(r.through.kept)
	}
	out := r.placeholders()
	if !r.Global {
		out = append(out, r.tenant)
	}
	return out
}

// placeholders returns the columns that stand in the rule's templates and purges.
func (r *Rule) placeholders() []string {
	var out []string
	for i := range r.outputs {
		out = append(out, r.outputs[i].columns()...)
	}
	for _, p := range r.purges {
		out = append(out, p.columns()...)
	}
	return out
}

// columns returns the columns that stand in a template.
func (t *template) columns() []string {
	var out []string
	for i := range t.fields {
		if t.fields[i].source == fromColumn {
			out = append(out, t.fields[i].column)
		}
	}
	return out
}

func (r *Rule) whenColumns() []string {
	if r.when == nil {
		return nil
	}
	return r.when.columns
}

func unique(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
