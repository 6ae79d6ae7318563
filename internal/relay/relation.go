package relay

import (
	"slices"

	"github.com/walfence/walfence/internal/pgoutput"
	"github.com/walfence/walfence/pkg/events"
)

// Watched is a table that rules name, as a relation of the stream leads to it.
type Watched struct {
	Table     events.Table // that rules name: of a partition, the partitioned table
	Partition events.Table // the relation itself, where it is a partition
	Columns   []string     // that rules need
	Typed     bool         // rules need to know the columns' types
}

// Tables finds the table that a relation belongs to.
type Tables interface {
	// Find reports false for a relation that no rule is about. An error means that it cannot be known.
	Find(oid uint32, name events.Table) (Watched, bool, error)
}

// plan is how rows of one relation become events. The open event of a table in the current transaction is written into
// it.
type plan struct {
	watched bool
	head    events.Event // all of an event that does not change from one to the next
	subject string
	columns []planColumn
	layout  []pgoutput.RelationColumn // what the relation looked like

	w       events.Writer
	open    bool   // an event has been begun
	ordinal uint64 // of its first row
}

type planColumn struct {
	index    int // in the tuple
	identity bool
	boolean  bool // PostgreSQL's text is t or f; keys have true or false
}

const boolOID = 16

func newPlan(source string, r *pgoutput.Relation, w Watched) *plan {
	p := &plan{watched: true, subject: events.ChangesSubject(source, w.Table), layout: r.Columns}
	p.head = events.Event{Kind: events.KindRows, Source: source, Table: w.Table, Partition: w.Partition}
	for i, c := range r.Columns {
		if !slices.Contains(w.Columns, c.Name) {
			continue
		}
		p.columns = append(p.columns, planColumn{index: i, identity: c.Key, boolean: c.Type == boolOID})
		p.head.Columns = append(p.head.Columns, c.Name)
		p.head.Identity = append(p.head.Identity, c.Key)
		if w.Typed {
			p.head.Types = append(p.head.Types, c.Type)
		}
	}
	return p
}

// write adds one row to the open event.
func (p *plan) write(op events.Op, row *pgoutput.Row) {
	p.w.Row(op)
	if op != events.Delete {
		p.tuple(row.New, false)
	}
	if row.OldKind != 0 {
		p.tuple(row.Old, row.OldKind == pgoutput.OldKey)
	}
	p.w.EndRow()
}

// tuple adds one tuple. Of an old row that holds only the replica identity, the other columns look like NULL on the wire.
func (p *plan) tuple(t pgoutput.Tuple, identityOnly bool) {
	p.w.StartTuple()
	for _, c := range p.columns {
		switch {
		case identityOnly && !c.identity:
			p.w.Value(events.Absent, nil)
		case t[c.index].Kind == pgoutput.ColumnNull:
			p.w.Value(events.Null, nil)
		case t[c.index].Kind == pgoutput.ColumnUnchanged:
			p.w.Value(events.Unchanged, nil)
		case c.boolean:
			p.w.Value(events.Present, boolText(t[c.index].Data))
		default:
			p.w.Value(events.Present, t[c.index].Data)
		}
	}
	p.w.EndTuple()
}

var trueText, falseText = []byte("true"), []byte("false")

func boolText(data []byte) []byte {
	if len(data) == 1 && data[0] == 't' {
		return trueText
	}
	return falseText
}
