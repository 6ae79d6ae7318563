package mapping

import (
	"strconv"

	"github.com/expr-lang/expr/vm"

	"github.com/walfence/walfence/pkg/events"
)

// env is what a test sees.
type env struct {
	row    map[string]any
	values map[string]any
	vm     vm.VM
}

func newEnv() *env {
	e := &env{row: map[string]any{}}
	e.values = map[string]any{"row": e.row}
	return e
}

// memo remembers what a test came to, by the values that it looked at: columns in conditions rarely hold many.
type memo struct {
	known map[string]truth
}

const maxMemo = 1024

// boundClause is a clause with the indexes of its columns.
type boundClause struct {
	*clause
	parts   []*boundClause
	indexes []int // of columns, or of changed
	classes []class
	sound   bool // the test's types fit; else it is unknown always
}

func (l *layout) bindClause(c *clause) *boundClause {
	b := &boundClause{clause: c}
	for _, part := range c.parts {
		b.parts = append(b.parts, l.bindClause(part))
	}
	names := c.columns
	if c.changed != nil {
		names = c.changed
	}
	columns := map[string]class{}
	for _, name := range names {
		i, k := l.index(name), classUnknown
		if i >= 0 && i < len(l.types) {
			k = classOf(l.types[i])
		}
		columns[name] = k
		b.indexes, b.classes = append(b.indexes, i), append(b.classes, k)
	}
	b.sound = c.compiled != nil && c.check(columns) == nil
	return b
}

// holds evaluates a clause for a row: yes, no, or unknown.
//
// The zero truth is unknown, so that nothing is skipped by an omission.
func (b *boundClause) holds(w row, tenant events.Value, out *Result) truth {
	switch b.connective {
	case not:
		switch b.parts[0].holds(w, tenant, out) {
		case yes:
			return no
		case no:
			return yes
		}
		return unknown
	case and, or:
		return b.join(w, tenant, out)
	}
	if b.changed != nil {
		return b.hasChanged(w)
	}
	return b.run(w, tenant, out)
}

// join evaluates the two parts of an and or an or. What decides alone decides, even if the other part is unknown.
func (b *boundClause) join(w row, tenant events.Value, out *Result) truth {
	decides, otherwise := no, yes
	if b.connective == or {
		decides, otherwise = yes, no
	}
	left := b.parts[0].holds(w, tenant, out)
	if left == decides {
		return decides
	}
	right := b.parts[1].holds(w, tenant, out)
	switch {
	case right == decides:
		return decides
	case left == otherwise && right == otherwise:
		return otherwise
	}
	return unknown
}

// hasChanged evaluates changed(...). Rows that are inserted or deleted change in every column.
func (b *boundClause) hasChanged(w row) truth {
	if w.change.Op != events.Update {
		return yes
	}
	result := no
	for _, i := range b.indexes {
		switch columnChanged(w.event, w.change, i) {
		case yes:
			return yes
		case unknown:
			result = unknown
		}
	}
	return result
}

// run evaluates a test. Where a value that it looks at is not known, nor is the result; nor where evaluating fails.
func (b *boundClause) run(w row, tenant events.Value, out *Result) truth {
	if !b.sound || b.tenant && tenant.State != events.Present && tenant.State != events.Null {
		return unknown
	}
	key := out.scratch[:0]
	for _, i := range b.indexes {
		v := w.value(i)
		switch v.State {
		case events.Present:
			key = append(strconv.AppendInt(append(key, 'p'), int64(len(v.Text)), 10), ':')
			key = append(key, v.Text...)
		case events.Null:
			key = append(key, 'n')
		default:
			return unknown
		}
	}
	key = append(key, byte(w.change.Op))
	if b.tenant {
		key = append(append(key, byte(tenant.State)), tenant.Text...)
	}
	out.scratch = key
	return out.memoized(b, w, tenant, key)
}

func (r *Result) memoized(b *boundClause, w row, tenant events.Value, key []byte) truth {
	m := r.memos[b]
	if m == nil {
		if r.memos == nil || len(r.memos) > maxMemo {
			r.memos = map[*boundClause]*memo{}
		}
		m = &memo{known: map[string]truth{}}
		r.memos[b] = m
	}
	t, ok := m.known[string(key)]
	if !ok {
		if r.env == nil {
			r.env = newEnv()
		}
		t = b.evaluate(w, tenant, r.env)
		if len(m.known) >= maxMemo {
			clear(m.known)
		}
		if len(key) <= 256 {
			m.known[string(key)] = t
		}
	}
	return t
}

func (b *boundClause) evaluate(w row, tenant events.Value, e *env) truth {
	for k, i := range b.indexes {
		v := w.value(i)
		if v.State == events.Null {
			e.row[b.columns[k]] = nil
			continue
		}
		value, ok := b.classes[k].value(v.Text)
		if !ok {
			clear(e.row)
			return unknown
		}
		e.row[b.columns[k]] = value
	}
	e.values["op"], e.values["tenant"] = w.change.Op.String(), any(tenant.Text)
	if tenant.State == events.Null {
		e.values["tenant"] = nil
	}
	result, err := e.vm.Run(b.compiled.program, e.values)
	clear(e.row) // nothing may hold an event that is done
	if is, ok := result.(bool); ok && err == nil {
		return truthOf(is)
	}
	return unknown
}
