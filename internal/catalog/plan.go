package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/pkg/events"
)

// Plan is what has to happen to a publication so that it has what rules need.
type Plan struct {
	Publication string
	Exists      bool
	// Ours: walfence made it, or will. A publication of somebody else is never changed: then there are no statements.
	Ours       bool
	Statements []string // to be run in one transaction; none if it is as it must be
	Added      []events.Table
	Removed    []events.Table
	Changed    []events.Table // whose column list changes
	Lists      []List         // where column lists were asked for, one for each table
	Problems   Problems

	tables []*Table
}

// List is the column list of one table, or the reason why it has none.
type List struct {
	Table   events.Table
	Columns []string
	Reason  string
}

// PlanPublication compares a publication with the tables that [Check] returned and that are to be in it. With lists, tables
// get column lists where PostgreSQL can have them.
func PlanPublication(ctx context.Context, conn *pgx.Conn, name string, tables []*Table, lists bool) (*Plan, error) {
	version, err := serverVersion(ctx, conn)
	if err != nil {
		return nil, err
	}
	p, err := readPublication(ctx, conn, name, version)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Publication: name, Exists: p != nil, Ours: p == nil || p.ours, tables: tables}
	if !plan.Ours {
		plan.compare(p)
		return plan, nil
	}
	want := make(map[events.Table][]string, len(tables))
	for _, t := range tables {
		want[t.Table] = nil
		if lists {
			l := columnList(t, version)
			want[t.Table] = l.Columns
			plan.Lists = append(plan.Lists, l)
		}
	}
	if p == nil {
		plan.create(want)
	} else {
		plan.alter(p, want)
	}
	return plan, plan.rights(ctx, conn, p)
}

// columnList chooses a table's columns: what rules need and the replica identity, which PostgreSQL insists on.
func columnList(t *Table, version int) List {
	l := List{Table: t.Table}
	columns := withAll(t.Need.Columns, t.Identity.Columns)
	switch {
	case version < 150000:
		l.Reason = "PostgreSQL before 15 has no column lists"
	case t.Kind == 'p':
		l.Reason = "it is partitioned"
	case t.Identity.Kind == 'f':
		l.Reason = "its replica identity is full"
	case len(columns) >= len(t.Columns):
		l.Reason = "all its columns are needed"
	default:
		for _, c := range t.Columns { // in the table's order, so that equal lists are equal
			if slices.Contains(columns, c.Name) {
				l.Columns = append(l.Columns, c.Name)
			}
		}
	}
	return l
}

func (p *Plan) create(want map[events.Table][]string) {
	statement := "CREATE PUBLICATION " + quote(p.Publication)
	p.Added = sorted(want)
	if len(want) > 0 {
		statement += " FOR TABLE " + entries(p.Added, want)
	}
	statement += " WITH (" + p.options() + ")"
	p.Statements = []string{statement, "COMMENT ON PUBLICATION " + quote(p.Publication) + " IS " + literal(mark)}
}

func (p *Plan) options() string {
	options := "publish = 'insert, update, delete, truncate', publish_via_partition_root = false"
	if p.needsGenerated() {
		options += ", publish_generated_columns = stored"
	}
	return options
}

func (p *Plan) needsGenerated() bool {
	return slices.ContainsFunc(p.tables, func(t *Table) bool { return len(t.generatedColumns()) > 0 })
}

// alter names only tables that change: the others are not locked, and keep the rows that the fingerprint is made of.
func (p *Plan) alter(have *publication, want map[events.Table][]string) {
	alter := "ALTER PUBLICATION " + quote(p.Publication)
	var drop, add []events.Table
	for t, m := range have.members {
		columns, wanted := want[t]
		switch {
		case !wanted:
			p.Removed, drop = append(p.Removed, t), append(drop, t)
		case m.filter || !slices.Equal(m.columns, columns):
			p.Changed, drop, add = append(p.Changed, t), append(drop, t), append(add, t)
		}
	}
	for t := range want {
		if _, ok := have.members[t]; !ok {
			p.Added, add = append(p.Added, t), append(add, t)
		}
	}
	for _, tables := range [][]events.Table{p.Added, p.Removed, p.Changed, drop, add} {
		slices.SortFunc(tables, byName)
	}
	if have.operations != (operations{true, true, true, true}) || have.viaRoot || p.needsGenerated() && !have.generated {
		p.Statements = append(p.Statements, alter+" SET ("+p.options()+")")
	}
	if len(have.schemas) > 0 {
		p.Statements = append(p.Statements, alter+" DROP TABLES IN SCHEMA "+quoteAll(have.schemas))
	}
	if len(drop) > 0 {
		p.Statements = append(p.Statements, alter+" DROP TABLE "+entries(drop, nil))
	}
	if len(add) > 0 {
		p.Statements = append(p.Statements, alter+" ADD TABLE "+entries(add, want))
	}
}

// rights finds out ahead of Apply what the role may not do. Whoever may can run the plan's statements instead.
func (p *Plan) rights(ctx context.Context, conn *pgx.Conn, have *publication) error {
	if len(p.Statements) == 0 {
		return nil
	}
	var role string
	var create bool
	err := conn.QueryRow(ctx, "SELECT current_user, has_database_privilege(current_database(), 'CREATE')").Scan(&role, &create)
	if err != nil {
		return fmt.Errorf("read rights: %w", err)
	}
	var lacks []string
	if have == nil && !create {
		lacks = append(lacks, "create publications in this database")
	}
	if have != nil && !have.owned {
		lacks = append(lacks, "alter publication "+quote(p.Publication))
	}
	for _, t := range p.tables {
		if !t.Owned && (slices.Contains(p.Added, t.Table) || slices.Contains(p.Changed, t.Table)) {
			lacks = append(lacks, "publish "+quoted(t.Table)+", which it does not own")
		}
	}
	if len(lacks) > 0 {
		p.Problems = append(p.Problems, Problem{
			Severity: Error, Cause: "role " + quote(role) + " may not " + strings.Join(lacks, ", nor "),
			Hint:       "let somebody who may run these, or run setup as them",
			Statements: slices.Concat([]string{"BEGIN"}, p.Statements, []string{"COMMIT"}),
		})
	}
	return nil
}

func entries(tables []events.Table, lists map[events.Table][]string) string {
	parts := make([]string, len(tables))
	for i, t := range tables {
		parts[i] = "ONLY " + quoted(t)
		if columns := lists[t]; columns != nil {
			parts[i] += " (" + quoteAll(columns) + ")"
		}
	}
	return strings.Join(parts, ", ")
}

func sorted(tables map[events.Table][]string) []events.Table {
	return slices.SortedFunc(maps.Keys(tables), byName)
}

func byName(a, b events.Table) int { return strings.Compare(quoted(a), quoted(b)) }
