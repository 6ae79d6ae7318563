package mapping

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walfence/walfence/pkg/events"
)

// Explanation says what an event leads to, and for each rule that does nothing, why.
type Explanation struct {
	Kind  events.Kind       `json:"kind"`
	Table string            `json:"table,omitempty"`
	Whole string            `json:"whole,omitempty"` // why all caches are invalidated whole
	Rules []RuleExplanation `json:"rules"`
}

// RuleExplanation says what an event leads to by one rule.
type RuleExplanation struct {
	Rule    string              `json:"rule"`
	Line    int                 `json:"line"`
	Nothing string              `json:"nothing,omitempty"` // why the rule does nothing, whatever the rows are
	Effects []Effect            `json:"effects,omitempty"` // of an event without rows
	Changes []ChangeExplanation `json:"changes,omitempty"`
}

// ChangeExplanation says what one row's change leads to by one rule.
type ChangeExplanation struct {
	Op      string   `json:"op"`
	Nothing string   `json:"nothing,omitempty"` // why it leads to nothing
	Effects []Effect `json:"effects,omitempty"`
	Notes   []string `json:"notes,omitempty"` // what was not certain, or made no key
}

// Effect is one thing that is done.
type Effect struct {
	Action string   `json:"action"` // delete, bump, refresh, lookup, purge or sweep
	Cache  string   `json:"cache,omitempty"`
	Tenant string   `json:"tenant,omitempty"`
	All    bool     `json:"all,omitempty"` // of a sweep: for all tenants
	Key    string   `json:"key,omitempty"`
	Scope  string   `json:"scope,omitempty"`
	Query  string   `json:"query,omitempty"`
	Params []string `json:"params,omitempty"`
	Method string   `json:"method,omitempty"`
	URL    string   `json:"url,omitempty"`
	Cause  string   `json:"cause,omitempty"` // of a sweep
}

// Explain says what [Program.Map] makes of an event, and why.
func (p *Program) Explain(e *events.Event) Explanation {
	x := Explanation{Kind: e.Kind}
	if e.Table != (events.Table{}) {
		x.Table = e.Table.String()
	}
	var all Result
	p.Map(e, &all)
	if all.Whole {
		x.Whole = all.Cause
	}
	for _, r := range p.rules {
		x.Rules = append(x.Rules, p.explainRule(r, e, &all))
	}
	return x
}

func (p *Program) explainRule(r *Rule, e *events.Event, all *Result) RuleExplanation {
	x := RuleExplanation{Rule: r.Name, Line: r.Line}
	switch {
	case e.Kind == events.KindHeartbeat:
		x.Nothing = "a heartbeat changes nothing"
	case all.Whole:
		x.Effects = []Effect{{Action: "sweep", All: true, Cause: all.Cause}}
	case r.Table != e.Table && (r.Table != e.Partition || e.Partition == (events.Table{})):
		x.Nothing = "it is about " + r.Table.String()
	case e.Kind != events.KindRows:
		x.Effects = p.effects(r, all)
		if len(x.Effects) == 0 {
			x.Nothing = "it is not about " + string(e.Kind) + ": " + r.onText()
		}
	case !wellFormed(e):
		x.Effects = p.effects(r, all)
	default:
		p.explainChanges(r, e, &x)
	}
	return x
}

func (p *Program) explainChanges(r *Rule, e *events.Event, x *RuleExplanation) {
	l := &layout{columns: e.Columns, identity: e.Identity, types: e.Types}
	b := l.bindRule(r)
	for i := range e.Changes {
		x.Changes = append(x.Changes, p.explainChange(&b, e, &e.Changes[i]))
	}
}

func (p *Program) explainChange(r *boundRule, e *events.Event, c *events.Change) ChangeExplanation {
	x := ChangeExplanation{Op: c.Op.String()}
	var out Result
	switch {
	case r.on&operation(c.Op) == 0:
		x.Nothing = "it is not about " + c.Op.String() + ": " + r.onText()
		return x
	case !r.touched(e, c):
		x.Nothing = "the update changed none of " + strings.Join(r.watchedNames(), ", ")
		return x
	case !r.admits(e, c, &out):
		x.Nothing = "its condition does not hold"
		x.Notes = r.explainWhen(e, c, &out)
		return x
	}
	if r.when != nil {
		x.Notes = r.explainWhen(e, c, &out)
	}
	out.begin()
	r.change(e, c, &out)
	out.finish()
	x.Effects = p.effects(r.Rule, &out)
	x.Notes = append(x.Notes, r.explainNulls(e, c)...)
	if len(x.Effects) == 0 {
		x.Nothing = "no key follows from the row"
	}
	return x
}

func (r *Rule) onText() string {
	var names []string
	for i, name := range operationNames {
		if r.on&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return "on: [" + strings.Join(names, ", ") + "]"
}

func (r *boundRule) watchedNames() []string {
	return unique(slices.Concat(r.keyColumns(), r.Rule.columns, r.whenColumns()))
}

// explainWhen says what the condition comes to before and after a change, and by which values.
func (r *boundRule) explainWhen(e *events.Event, c *events.Change, out *Result) []string {
	var notes []string
	say := func(when string, w row) {
		words := []string{"may hold", "does not hold", "holds"}
		note := fmt.Sprintf("when %s %s the change", words[r.when.holds(w, r.tenantOf(w), out)], when)
		var values []string
		for _, column := range r.Rule.when.columns {
			values = append(values, "row."+column+" is "+shownValue(w.value(slices.Index(e.Columns, column))))
		}
		if len(values) > 0 {
			note += ": " + strings.Join(values, ", ")
		}
		if len(e.Types) == 0 && len(values) > 0 {
			note += " (their types are not known)"
		}
		notes = append(notes, note)
	}
	if c.Op != events.Insert {
		say("before", row{event: e, change: c, old: true})
	}
	if c.Op != events.Delete {
		say("after", row{event: e, change: c})
	}
	return notes
}

func shownValue(v events.Value) string {
	switch v.State {
	case events.Present:
		return quote(v.Text)
	case events.Null:
		return "NULL"
	case events.Unchanged:
		return "an unchanged TOAST value"
	}
	return "not known"
}

// explainNulls says which templates made no key because of a NULL.
func (r *boundRule) explainNulls(e *events.Event, c *events.Change) []string {
	var notes []string
	for _, w := range []row{{event: e, change: c}, {event: e, change: c, old: true}} {
		if w.old && c.Op == events.Insert || !w.old && c.Op == events.Delete {
			continue
		}
		if r.lookup != nil {
			for i, at := range r.lookup.indexes[:r.lookup.needed()] {
				if w.value(at).State == events.Null {
					notes = append(notes, fmt.Sprintf("nothing is looked up: %s is NULL", r.lookup.kept[i]))
				}
			}
			continue
		}
		for _, o := range r.outputs {
			for i := range o.fields {
				if f := &o.fields[i]; w.value(o.indexes[i]).State == events.Null && !f.falls {
					notes = append(notes, fmt.Sprintf("%s makes no key: %s is NULL", quote(o.text()), f.columnName(r.Rule)))
					break
				}
			}
		}
	}
	slices.Sort(notes)
	return slices.Compact(notes)
}

func (f *field) columnName(r *Rule) string {
	if f.source == fromTenant {
		return r.tenant
	}
	return f.column
}

// text returns the template as it is written.
func (t *template) text() string {
	var b strings.Builder
	escape := strings.NewReplacer("{", "{{", "}", "}}")
	for i, literal := range t.literals {
		b.WriteString(escape.Replace(literal))
		if i < len(t.fields) {
			f := &t.fields[i]
			b.WriteString("{" + f.name())
			if f.falls {
				b.WriteString("|" + f.fallback)
			}
			b.WriteString("}")
		}
	}
	return b.String()
}

// effects returns what of a result is one rule's.
func (p *Program) effects(r *Rule, out *Result) []Effect {
	var x []Effect
	for _, k := range out.Keys {
		if k.Rule == r {
			e := Effect{Action: "delete", Cache: p.caches[k.Cache].Name, Tenant: k.Tenant, Key: k.Key, Scope: k.Scope}
			if k.Scope != "" {
				e.Action = "bump"
			}
			x = append(x, e)
		}
	}
	for _, f := range out.Refreshes {
		if f.Rule == r {
			x = append(x, Effect{
				Action: "refresh", Cache: p.caches[f.Cache].Name, Tenant: f.Tenant, Key: f.Key, Query: f.Spec.Query.SQL, Params: f.Params,
			})
		}
	}
	for i := range out.Lookups {
		if l := &out.Lookups[i]; l.Rule == r {
			tenant, _ := l.Tenant()
			x = append(x, Effect{Action: "lookup", Tenant: tenant, Query: r.through.Query.SQL, Params: l.Params})
		}
	}
	for _, u := range out.Purges {
		if u.Rule == r {
			e := Effect{Action: "purge", Tenant: u.Tenant, Key: u.Key, Method: u.Spec.one.method}
			if u.Request != nil {
				e.URL = u.Request.URL
			}
			x = append(x, e)
		}
	}
	for _, s := range out.Sweeps {
		if s.Rule == r {
			x = append(x, Effect{Action: "sweep", Tenant: s.Tenant, All: s.All, Cause: s.Cause})
		}
	}
	return x
}
