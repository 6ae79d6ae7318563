package mapping

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/walfence/walfence/pkg/events"
)

// tableRules are the rules of one table, bound to the lists of columns that its events came with.
type tableRules struct {
	rules   []*Rule
	layouts atomic.Pointer[[]*layout] // replaced, never written to
}

// maxLayouts bounds what one table remembers: partitions may order their columns differently, and DDL changes them, but
// nothing stops a list from changing with every event.
const maxLayouts = 64

// layout is a table's rules, bound to where an event's columns stand.
type layout struct {
	columns  []string
	identity []bool
	types    []uint32
	rules    []boundRule
}

// boundRule is a rule with the indexes of its columns. An index is -1 where the event lacks the column.
type boundRule struct {
	*Rule
	tenantIndex int
	watched     []int // an update counts if one of these changed; nil: any update counts
	when        *boundClause
	// whenIdentified: all columns of the condition are in the replica identity.
	whenIdentified bool
	outputs        []boundOutput
	purges         []boundPurge
	lookup         *boundLookup // in place of outputs and purges
}

// boundOutput is a template with the indexes of its fields' columns.
type boundOutput struct {
	*output
	indexes []int
	// identified: all columns are in the replica identity, so that an update that logged no old row did not change the key.
	identified bool
}

// boundLookup is a rule's lookup with the indexes of the columns that it keeps.
type boundLookup struct {
	*Through
	indexes    []int
	identified bool
}

// layout returns the rules bound to an event's columns.
func (t *tableRules) layout(e *events.Event) *layout {
	known := t.layouts.Load()
	if known != nil {
		for _, l := range *known {
			if slices.Equal(l.columns, e.Columns) && slices.Equal(l.identity, e.Identity) && slices.Equal(l.types, e.Types) {
				return l
			}
		}
	}
	l := t.bind(e)
	next := []*layout{l}
	if known != nil && len(*known) < maxLayouts {
		next = append(next, *known...)
	}
	t.layouts.Store(&next) // may lose one that another goroutine bound meanwhile: it is bound again
	return l
}

func (t *tableRules) bind(e *events.Event) *layout {
	l := &layout{columns: make([]string, len(e.Columns)), identity: slices.Clone(e.Identity), types: slices.Clone(e.Types)}
	for i, c := range e.Columns {
		l.columns[i] = strings.Clone(c) // the event's memory is not ours to keep
	}
	for _, r := range t.rules {
		l.rules = append(l.rules, l.bindRule(r))
	}
	return l
}

func (l *layout) index(column string) int { return slices.Index(l.columns, column) }

// identified tells whether all columns at some indexes are there and in the replica identity.
func (l *layout) identified(indexes []int) bool {
	for _, i := range indexes {
		if i < 0 || !l.identity[i] {
			return false
		}
	}
	return true
}

func (l *layout) indexes(columns []string) []int {
	out := make([]int, len(columns))
	for i, c := range columns {
		out[i] = l.index(c)
	}
	return out
}

func (l *layout) bindRule(r *Rule) boundRule {
	b := boundRule{Rule: r, tenantIndex: -1}
	if !r.Global {
		b.tenantIndex = l.index(r.tenant)
	}
	if r.columns != nil {
		b.watched = l.indexes(unique(slices.Concat(r.keyColumns(), r.columns, r.whenColumns())))
	}
	if r.when != nil {
		b.when = l.bindClause(r.when.clause)
		b.whenIdentified = l.identified(l.indexes(r.when.columns))
	}
	if t := r.through; t != nil {
		if t.found {
			b.tenantIndex = -1 // even if the table has a column of that name
		}
		b.lookup = &boundLookup{Through: t, indexes: l.indexes(t.kept)}
		b.lookup.identified = l.identified(b.lookup.indexes)
		return b
	}
	l.bindActions(&b)
	return b
}

// bindActions binds what the rule does to the columns of the row that it does it for.
func (l *layout) bindActions(b *boundRule) {
	for i := range b.Rule.outputs {
		o := &b.Rule.outputs[i]
		bound := boundOutput{output: o, indexes: l.fieldIndexes(o.template, b.tenantIndex)}
		bound.identified = l.identified(bound.indexes)
		b.outputs = append(b.outputs, bound)
	}
	for _, p := range b.Rule.purges {
		b.purges = append(b.purges, l.bindPurge(p, b.tenantIndex))
	}
}

func (l *layout) fieldIndexes(t *template, tenant int) []int {
	indexes := make([]int, len(t.fields))
	for i := range t.fields {
		indexes[i] = tenant
		if t.fields[i].source == fromColumn {
			indexes[i] = l.index(t.fields[i].column)
		}
	}
	return indexes
}

// bindFound binds a rule to the rows that its lookup finds.
func bindFound(r *Rule) *boundRule {
	t := r.through
	l := &layout{columns: slices.Clone(t.columns), identity: make([]bool, len(t.columns))}
	for i := range t.kept {
		if t.index(l.columns[i]) != i {
			l.columns[i] = "" // what was found comes first
		}
	}
	b := &boundRule{Rule: r, tenantIndex: t.tenant}
	l.bindActions(b)
	return b
}
