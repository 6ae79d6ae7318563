package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// Table is a needed table as the database has it.
type Table struct {
	Relation
	Need   mapping.Table // what rules need of it
	Leaves []*Relation   // of a partitioned table, the partitions that hold rows
}

// storage returns the relations that hold the table's rows: the names that PostgreSQL logs, whose identities count.
func (t *Table) storage() []*Relation {
	if t.Kind == 'p' {
		return t.Leaves
	}
	return []*Relation{&t.Relation}
}

// generatedColumns returns those of the needed columns; [Check] lets them pass where they can be published.
func (t *Table) generatedColumns() []string {
	return slices.DeleteFunc(slices.Clone(t.Need.Columns), func(name string) bool {
		c, ok := t.Column(name)
		return !ok || c.Generated == 0
	})
}

// Check compares what rules need (mapping.Program's Tables) with the database. It returns the tables that can be published without making an UPDATE
// or DELETE of the application fail, and every problem with any. The error is the connection's.
func Check(ctx context.Context, conn *pgx.Conn, needs []mapping.Table) ([]*Table, Problems, error) {
	return check(ctx, conn, needs)
}

func check(ctx context.Context, q querier, needs []mapping.Table) ([]*Table, Problems, error) {
	c := checker{q: q}
	if err := c.read(ctx, needs); err != nil {
		return nil, nil, fmt.Errorf("check tables: %w", err)
	}
	var tables []*Table
	for _, need := range needs {
		t, err := c.table(ctx, need)
		if err != nil {
			return nil, nil, fmt.Errorf("check tables: %w", err)
		}
		if t != nil {
			tables = append(tables, t)
		}
	}
	return tables, c.problems, nil
}

type checker struct {
	q         querier
	version   int
	oids      map[events.Table]uint32
	roots     map[uint32][]uint32 // leaves by oid of a partitioned table
	parents   map[uint32]uint32   // of needed partitions, a needed table that they are part of
	children  map[uint32][]string // by inheritance
	relations map[uint32]*Relation
	lists     map[uint32][]listing
	problems  Problems
}

const namesQuery = `
SELECT n.nspname, c.relname, c.oid
FROM unnest($1::text[], $2::text[]) AS want (schema, name)
JOIN pg_namespace n ON n.nspname = want.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.name AND c.relkind NOT IN ('i', 'I', 'c')`

const leavesQuery = `
SELECT root, leaf.oid FROM unnest($1::oid[]) AS root, pg_partition_tree(root) AS tree JOIN pg_class leaf ON leaf.oid = tree.relid
WHERE tree.isleaf AND leaf.oid <> root ORDER BY root, leaf.relname, leaf.oid`

const parentsQuery = `
SELECT part, min(a.relid::oid) FROM unnest($1::oid[]) AS part, pg_partition_ancestors(part) AS a (relid)
WHERE a.relid = ANY($1) AND a.relid <> part GROUP BY part`

const childrenQuery = `
SELECT i.inhparent, array_agg(format('%I.%I', n.nspname, child.relname) ORDER BY child.relname)
FROM pg_inherits i JOIN pg_class parent ON parent.oid = i.inhparent
JOIN pg_class child ON child.oid = i.inhrelid JOIN pg_namespace n ON n.oid = child.relnamespace
WHERE i.inhparent = ANY($1) AND parent.relkind = 'r' GROUP BY i.inhparent`

// read asks for everything that is needed of all tables, in a handful of queries.
func (c *checker) read(ctx context.Context, needs []mapping.Table) error {
	var err error
	if c.version, err = serverVersion(ctx, c.q); err != nil {
		return err
	}
	if err := c.resolve(ctx, needs); err != nil {
		return err
	}
	var oids []uint32
	for _, oid := range c.oids {
		oids = append(oids, oid)
	}
	slices.Sort(oids)
	if err := c.readTree(ctx, oids); err != nil {
		return err
	}
	for _, leaves := range c.roots {
		oids = append(oids, leaves...)
	}
	slices.Sort(oids)
	oids = slices.Compact(oids)
	if c.relations, err = readRelations(ctx, c.q, oids); err != nil {
		return err
	}
	c.lists, err = readListings(ctx, c.q, oids, c.version)
	return err
}

func (c *checker) resolve(ctx context.Context, needs []mapping.Table) error {
	schemas, names := make([]string, len(needs)), make([]string, len(needs))
	for i, n := range needs {
		schemas[i], names[i] = n.Schema, n.Name
	}
	c.oids = make(map[events.Table]uint32, len(needs))
	rows, err := c.q.Query(ctx, namesQuery, schemas, names)
	if err != nil {
		return err
	}
	var t events.Table
	var oid uint32
	_, err = pgx.ForEachRow(rows, []any{&t.Schema, &t.Name, &oid}, func() error { c.oids[t] = oid; return nil })
	return err
}

func (c *checker) readTree(ctx context.Context, oids []uint32) error {
	var root, leaf uint32
	c.roots, c.parents, c.children = map[uint32][]uint32{}, map[uint32]uint32{}, map[uint32][]string{}
	err := scan(ctx, c.q, leavesQuery, oids, []any{&root, &leaf}, func() { c.roots[root] = append(c.roots[root], leaf) })
	if err != nil {
		return err
	}
	var parent uint32
	err = scan(ctx, c.q, parentsQuery, oids, []any{&leaf, &parent}, func() { c.parents[leaf] = parent })
	if err != nil {
		return err
	}
	var children []string
	return scan(ctx, c.q, childrenQuery, oids, []any{&root, &children}, func() {
		c.children[root] = children
		children = nil
	})
}

// table checks one need. It returns nil if the table must not be published.
func (c *checker) table(ctx context.Context, need mapping.Table) (*Table, error) {
	oid, ok := c.oids[need.Table]
	if !ok {
		return nil, c.missingTable(ctx, need)
	}
	r := c.relations[oid]
	if r == nil {
		return nil, nil // dropped since its name was read; the next check says so
	}
	t := &Table{Relation: *r, Need: need}
	for _, leaf := range c.roots[oid] {
		if r := c.relations[leaf]; r != nil {
			t.Leaves = append(t.Leaves, r)
		}
	}
	if !c.kind(t) || !c.columns(t) || !c.identity(t) {
		return nil, nil
	}
	if children := c.children[oid]; len(children) > 0 {
		c.report(Warning, need, "", "changes of the tables that inherit from it are not its own: "+some(children),
			"give each of them a rule")
	}
	return t, nil
}

// kind refuses what PostgreSQL cannot publish.
func (c *checker) kind(t *Table) bool {
	switch {
	case t.Kind == 'v' || t.Kind == 'm':
		c.report(Error, t.Need, "", "it is a view", "changes are known only of tables: watch those that the view reads")
	case t.Kind != 'r' && t.Kind != 'p':
		c.report(Error, t.Need, "", "it is not a table of this database", "foreign tables and sequences leave no changes in its WAL")
	case t.Schema == "pg_catalog" || t.Schema == "information_schema":
		c.report(Error, t.Need, "", "it is part of PostgreSQL's catalog", "PostgreSQL does not publish it")
	case t.Persistence == 'u':
		c.report(Error, t.Need, "", "it is unlogged", "its changes are not in WAL; this rewrites the table and locks it meanwhile", "ALTER TABLE "+quoted(t.Table)+" SET LOGGED")
	case t.Persistence == 't':
		c.report(Error, t.Need, "", "it is temporary", "its changes are not in WAL")
	case c.relations[c.parents[t.OID]] != nil:
		parent := quoted(c.relations[c.parents[t.OID]].Table)
		c.report(Error, t.Need, "", "it is a partition of "+parent+", which has rules too", "put the rule on that: events name "+parent)
	default:
		return c.partitions(t)
	}
	return false
}

func (c *checker) partitions(t *Table) bool {
	for _, leaf := range t.Leaves {
		if leaf.Kind != 'r' || leaf.Persistence != 'p' {
			c.report(Error, t.Need, "", "its partition "+quoted(leaf.Table)+" is foreign or unlogged",
				"changes to that are not in this database's WAL")
			return false
		}
	}
	return true
}

func (c *checker) columns(t *Table) bool {
	ok := true
	for _, name := range t.Need.Columns {
		column, found := t.Column(name)
		switch {
		case !found:
			c.report(Error, t.Need, name, "column "+quote(name)+" does not exist", meant(nearest(name, t.columnNames()), quote))
			ok = false
		case column.Generated == 'v' || column.Generated != 0 && c.version < 180000:
			c.report(Error, t.Need, name, "column "+quote(name)+" is generated, and PostgreSQL does not publish its value",
				"use the columns that it is computed from")
			ok = false
		}
	}
	return ok
}

const candidatesQuery = `
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY n.nspname, c.relname`

func (c *checker) missingTable(ctx context.Context, need mapping.Table) error {
	rows, err := c.q.Query(ctx, candidatesQuery)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[events.Table])
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	c.report(Error, need, "", "it does not exist", meant(nearestTable(need.Table, tables), func(s string) string { return s }))
	return nil
}

func (c *checker) report(severity Severity, need mapping.Table, column, cause, hint string, statements ...string) {
	p := Problem{
		Severity: severity, Table: need.Table, Cause: cause, Hint: hint, Statements: statements,
	}
	if column != "" {
		p.Columns = []string{column}
	}
	c.problems = append(c.problems, p)
}

// some lists names for a message, which must not grow with the number of partitions.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
