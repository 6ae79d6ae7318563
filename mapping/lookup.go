package mapping

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/walfence/walfence/pkg/events"
)

// Lookup is one query to run on the way from a change to its keys. What it finds is handed to [Lookup.Found].
type Lookup struct {
	Rule   *Rule
	Params []string // by the query's, as PostgreSQL's text

	kept []events.Value // of the changed row, by Through.kept
	old  bool           // they are from before the change
}

// lookUp adds the lookup that a row needs. A NULL among its parameters, or as its tenant, leads to no row.
func (r *boundRule) lookUp(w row, out *Result) {
	l := r.lookup
	id := append(strconv.AppendInt(out.scratch[:0], int64(r.ordinal), 10), 'l')
	for i, at := range l.indexes {
		v := w.value(at)
		if i < l.needed() {
			switch v.State {
			case events.Null:
				return
			case events.Absent, events.Unchanged:
				r.widenBecause(w, reason{doubt: doubtOf(v.State, w.old, at), column: l.kept[i]}, out)
				return
			}
		}
		id = append(strconv.AppendInt(append(id, byte('0'+v.State)), int64(len(v.Text)), 10), ':')
		id = append(id, v.Text...)
	}
	out.scratch = id
	if !out.first(id) {
		return
	}
	k := Lookup{Rule: r.Rule, Params: make([]string, len(l.params)), kept: make([]events.Value, len(l.indexes)), old: w.old}
	for i, at := range l.indexes {
		k.kept[i] = w.value(at)
	}
	for i, at := range l.params {
		k.Params[i] = k.kept[at].Text
	}
	out.Lookups = append(out.Lookups, k)
}

// needed is how many of the columns that are kept a lookup cannot do without: the query's, and the tenant's behind them.
func (t *Through) needed() int {
	n := len(t.params)
	for i := range t.kept {
		if t.tenant == i {
			n = max(n, i+1)
		}
	}
	return n
}

// Found appends what the rows that a lookup found lead to. Each row has the values of the query's Columns, in their order,
// as PostgreSQL's text with ISO dates and UTC, booleans true or false. Call it also if there is none, or more rows than
// the rule's cap: that widens, or leads to nothing if the rule says so.
func (l *Lookup) Found(rows [][]events.Value, out *Result) {
	t := l.Rule.through
	switch {
	case len(rows) == 0 && t.Ignore:
		return
	case len(rows) == 0:
		l.Widen("the lookup found no row", out)
		return
	case len(rows) > t.Cap:
		l.Widen(fmt.Sprintf("the lookup found more than %d rows", t.Cap), out)
		return
	}
	out.begin()
	values := make([]events.Value, len(t.columns))
	copy(values, l.kept)
	for _, found := range rows {
		if len(found) != len(t.Query.Columns) {
			l.Widen("the lookup found rows with other columns", out)
			break
		}
		copy(values[len(l.kept):], found)
		t.bound.found(row{found: values, old: l.old}, out)
	}
	out.finish()
}

// found leads one row that was found to keys and purges.
func (r *boundRule) found(w row, out *Result) {
	for i := range r.outputs {
		r.render(&r.outputs[i], w, out)
	}
	for i := range r.purges {
		r.purge(&r.purges[i], w, out)
	}
}

// Widen appends what stands in for a lookup that could not be made: a sweep of the rule, for the row's tenant if that is
// known without it.
func (l *Lookup) Widen(cause string, out *Result) {
	values := make([]events.Value, len(l.Rule.through.columns))
	copy(values, l.kept)
	l.Rule.through.bound.widenBecause(row{found: values, old: l.old}, reason{text: strings.Clone(cause)}, out)
}

// Tenant returns the tenant of the changed row; false if the rule is global, or the tenant is what the lookup finds.
func (l *Lookup) Tenant() (string, bool) {
	t := l.Rule.through
	if t.tenant < 0 || t.tenant >= len(l.kept) {
		return "", false
	}
	return l.kept[t.tenant].Text, true
}
