package mapping

import (
	"github.com/walfence/walfence/pkg/events"
)

// Map appends what an event leads to. It never fails: what cannot be computed exactly widens.
//
// A key is rendered for a row's old and for its new values. A NULL in a placeholder without a default makes no key of that
// template, whatever else is unknown of the row; so a row whose tenant is NULL belongs to no tenant and makes no keys,
// and rows that all tenants share need a rule with `tenant: global`. A value that stays unknown sweeps the rule for the
// row's tenant, or for all where the tenant is unknown too.
func (p *Program) Map(e *events.Event, out *Result) {
	switch e.Kind {
	case events.KindRows:
		out.begin()
		p.rows(e.Table, e, out)
		if e.Partition != (events.Table{}) {
			p.rows(e.Partition, e, out)
		}
		out.finish()
	case events.KindTruncate:
		p.sweepTables(e, onTruncate, "the table was truncated", out)
	case events.KindSweep:
		if e.Table == (events.Table{}) {
			out.all(e.Reason)
			return
		}
		p.sweepTables(e, onAll, e.Reason, out)
	case events.KindHeartbeat:
	case events.KindEpoch:
		out.all(e.Reason)
	default:
		out.all("an event of the unknown kind " + string(e.Kind))
	}
}

// sweepTables sweeps the rules of an event's table, and of its partition, that look at one of some operations.
func (p *Program) sweepTables(e *events.Event, on operations, cause string, out *Result) {
	for _, name := range []events.Table{e.Table, e.Partition} {
		t := p.byName[name]
		if t == nil || name == (events.Table{}) {
			continue
		}
		for _, r := range t.rules {
			if r.on&on != 0 {
				out.sweep(r, "", true, reason{text: cause})
			}
		}
	}
}

// rows maps an event's changes by the rules of one name of its table.
func (p *Program) rows(name events.Table, e *events.Event, out *Result) {
	t := p.byName[name]
	if t == nil {
		return
	}
	if !wellFormed(e) {
		for _, r := range t.rules {
			out.sweep(r, "", true, reason{doubt: malformed})
		}
		return
	}
	l := t.layout(e)
	for i := range l.rules {
		r := &l.rules[i]
		for j := range e.Changes {
			c := &e.Changes[j]
			if r.on&operation(c.Op) != 0 && r.touched(e, c) && r.admits(e, c, out) {
				r.change(e, c, out)
			}
		}
	}
}

// wellFormed tells whether all rows have a value per column, as Event says. It costs little, and Map never fails.
func wellFormed(e *events.Event) bool {
	n := len(e.Columns)
	for i := range e.Changes {
		c := &e.Changes[i]
		if operation(c.Op) == 0 || c.Op != events.Delete && len(c.New) != n || c.Old != nil && len(c.Old) != n {
			return false
		}
	}
	return len(e.Identity) == n
}

// operation returns the set that holds one operation; empty for one that is not known.
func operation(op events.Op) operations {
	switch op {
	case events.Insert:
		return onInsert
	case events.Update:
		return onUpdate
	case events.Delete:
		return onDelete
	}
	return 0
}

// touched tells whether a change concerns the rule by its columns. A column whose old value is not known counts as changed,
// unless PostgreSQL says that it was not.
func (r *boundRule) touched(e *events.Event, c *events.Change) bool {
	if c.Op != events.Update || r.watched == nil {
		return true
	}
	for _, i := range r.watched {
		if columnChanged(e, c, i) != no {
			return true
		}
	}
	return false
}

// columnChanged tells whether an update changed a column.
func columnChanged(e *events.Event, c *events.Change, i int) truth {
	if i < 0 {
		return unknown
	}
	if c.New[i].State == events.Unchanged {
		return no
	}
	switch old := e.OldValue(c, i); {
	case old.State == events.Absent || old.State == events.Unchanged || c.New[i].State == events.Absent:
		return unknown
	default:
		return truthOf(old != c.New[i])
	}
}

// admits tells whether the rule's condition holds for the row before or after a change, or may hold.
func (r *boundRule) admits(e *events.Event, c *events.Change, out *Result) bool {
	if r.when == nil {
		return true
	}
	after := row{event: e, change: c}
	if c.Op != events.Delete && r.when.holds(after, r.tenantOf(after), out) != no {
		return true
	}
	before := row{event: e, change: c, old: true}
	return hasBefore(c, r.whenIdentified) && r.when.holds(before, r.tenantOf(before), out) != no
}

// hasBefore tells whether there was a row before a change that may differ from the one after it, in columns that are all
// identified or not: an update that logged no old row changed no column of the replica identity.
func hasBefore(c *events.Change, identified bool) bool {
	return c.Op == events.Delete || c.Op == events.Update && (c.Old != nil || !identified)
}

// change leads one change to keys, purges or a lookup, for the row after it and for the row before it.
func (r *boundRule) change(e *events.Event, c *events.Change, out *Result) {
	after, before := row{event: e, change: c}, row{event: e, change: c, old: true}
	if l := r.lookup; l != nil {
		if c.Op != events.Delete {
			r.lookUp(after, out)
		}
		if hasBefore(c, l.identified) {
			r.lookUp(before, out)
		}
		return
	}
	for i := range r.outputs {
		o := &r.outputs[i]
		if c.Op != events.Delete {
			r.render(o, after, out)
		}
		if hasBefore(c, o.identified) {
			r.render(o, before, out)
		}
	}
	for i := range r.purges {
		p := &r.purges[i]
		if c.Op != events.Delete {
			r.purge(p, after, out)
		}
		if hasBefore(c, p.identified) {
			r.purge(p, before, out)
		}
	}
}

// row is a row before or after a change, or where found is set one that a lookup found, with what was kept of the change.
type row struct {
	event  *events.Event
	change *events.Change
	old    bool
	found  []events.Value
}

// value returns what the row holds in a column. Of a column that the event lacks nothing is known.
func (w row) value(i int) events.Value {
	switch {
	case i < 0:
		return events.Value{}
	case w.found != nil:
		return w.found[i]
	case w.old:
		return w.event.OldValue(w.change, i)
	}
	return w.event.NewValue(w.change, i)
}

// render adds the key that a template makes of a row, or what stands in for a key that is not known.
func (r *boundRule) render(t *boundOutput, w row, out *Result) {
	from := len(out.arena)
	missing := -1 // a field whose value is not known
	var doubt doubt
	dst := append(out.arena, t.literals[0]...)
	for i := range t.fields {
		f, start := &t.fields[i], len(dst)
		switch v := w.value(t.indexes[i]); {
		case v.State == events.Present:
			dst = events.AppendKeyPart(dst, v.Text)
		case v.State == events.Null && f.falls:
			dst = append(dst, f.fallback...)
		case v.State == events.Null:
			out.arena = dst[:from] // no key; what it grew by stays of use
			return
		default:
			missing, doubt = i, doubtOf(v.State, w.old, t.indexes[i])
		}
		if f.aloneInTag && len(dst) == start && missing != i {
			doubt = emptyTag
		}
		dst = append(dst, t.literals[i+1]...)
	}
	if len(dst)-from > MaxKeyBytes && doubt == certain {
		doubt = longKey
	}
	out.arena = dst
	if doubt == certain {
		if out.key(r.Rule, t.output, r.tenantOf(w).Text, from) && t.refresh != nil {
			out.bind(t, w)
		}
		return
	}
	out.arena = dst[:from]
	r.widen(t.template, w, doubt, missing, out)
}

// tenantOf returns a row's tenant; nothing for a global rule.
func (r *boundRule) tenantOf(w row) events.Value { return w.value(r.tenantIndex) }

// widen sweeps the rule in place of a key that is not known: for the row's tenant, or where that is not known for all.
func (r *boundRule) widen(t *template, w row, d doubt, field int, out *Result) {
	why := reason{doubt: d}
	if field >= 0 {
		why.column = t.fields[field].column
		if t.fields[field].source == fromTenant {
			why.column = r.tenant
		}
	}
	r.widenBecause(w, why, out)
}

func (r *boundRule) widenBecause(w row, why reason, out *Result) {
	tenant := r.tenantOf(w)
	all := r.Global || tenant.State != events.Present
	if all {
		tenant.Text = ""
	}
	out.sweep(r.Rule, tenant.Text, all, why)
}
