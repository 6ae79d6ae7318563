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
	rules    []boundRule
}

// boundRule is a rule with the indexes of its columns. An index is -1 where the event lacks the column.
type boundRule struct {
	*Rule
	tenantIndex int
	watched     []int // an update counts if one of these changed; nil: any update counts
	templates   []boundTemplate
}

// boundTemplate is a template with the indexes of its fields' columns.
type boundTemplate struct {
	*template
	indexes []int
	// identified: all columns are in the replica identity, so that an update that logged no old row did not change the key.
	identified bool
}

// layout returns the rules bound to an event's columns.
func (t *tableRules) layout(e *events.Event) *layout {
	known := t.layouts.Load()
	if known != nil {
		for _, l := range *known {
			if slices.Equal(l.columns, e.Columns) && slices.Equal(l.identity, e.Identity) {
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
	l := &layout{columns: make([]string, len(e.Columns)), identity: slices.Clone(e.Identity)}
	for i, c := range e.Columns {
		l.columns[i] = strings.Clone(c) // the event's memory is not ours to keep
	}
	for _, r := range t.rules {
		l.rules = append(l.rules, l.bindRule(r))
	}
	return l
}

func (l *layout) bindRule(r *Rule) boundRule {
	b := boundRule{Rule: r, tenantIndex: -1}
	if !r.Global {
		b.tenantIndex = slices.Index(l.columns, r.tenant)
	}
	if r.columns != nil {
		for _, c := range unique(append(r.keyColumns(), r.columns...)) {
			b.watched = append(b.watched, slices.Index(l.columns, c))
		}
	}
	for _, t := range r.templates {
		b.templates = append(b.templates, l.bindTemplate(t, b.tenantIndex))
	}
	return b
}

func (l *layout) bindTemplate(t *template, tenant int) boundTemplate {
	b := boundTemplate{template: t, indexes: make([]int, len(t.fields)), identified: true}
	for i := range t.fields {
		at := tenant
		if t.fields[i].source == fromColumn {
			at = slices.Index(l.columns, t.fields[i].column)
		}
		b.indexes[i] = at
		b.identified = b.identified && at >= 0 && l.identity[at]
	}
	return b
}
