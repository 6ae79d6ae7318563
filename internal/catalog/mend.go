package catalog

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// remedy is what gives relations the identity that is wanted of them.
type remedy struct {
	hint       string
	statements []string
}

// mend finds statements for some of a table's relations. Indexes come first, since building them may take long, then what
// takes a short lock that everyone waits for: that gives up soon, so that the application's writes do not queue behind it.
func (c *checker) mend(t *Table, relations []*Relation, wanted []string) remedy {
	var builds, lists, alters, hints, columns []string
	full := false
	for _, r := range relations {
		plan := r.plan(wanted)
		builds = append(builds, plan.builds...)
		for _, l := range c.lists[r.OID] {
			lists = append(lists, l.widen(r, plan.columns, plan.full)...)
		}
		alters = append(alters, "ALTER TABLE "+quoted(r.Table)+" REPLICA IDENTITY "+plan.identity)
		hints = with(hints, plan.hint)
		columns, full = withAll(columns, plan.columns), full || plan.full
	}
	if t.Kind == 'p' { // a list of the partitioned table rules the partitions where a publication goes by it
		for _, l := range c.lists[t.OID] {
			lists = append(lists, l.widen(&t.Relation, columns, full)...)
		}
	}
	return remedy{
		hint:       strings.Join(hints, "; "),
		statements: slices.Concat(builds, []string{"SET lock_timeout = '3s'"}, lists, alters),
	}
}

// identityPlan is how one relation gets a wider identity.
type identityPlan struct {
	builds   []string // statements that change nothing yet
	identity string   // what follows REPLICA IDENTITY
	columns  []string // of the new identity
	full     bool
	hint     string
}

// plan chooses the cheapest identity that holds what is wanted and all that the present one holds: row filters and
// column lists of publications rely on that.
func (r *Relation) plan(wanted []string) identityPlan {
	if r.Identity.Usable {
		wanted = withAll(wanted, r.Identity.Columns)
	}
	if x := r.covering(wanted); x != nil {
		if x.primary {
			return identityPlan{identity: "DEFAULT", columns: x.columns, hint: "its primary key will do"}
		}
		return identityPlan{identity: "USING INDEX " + quote(x.name), columns: x.columns, hint: "an index that exists will do"}
	}
	key := r.baseKey()
	if key == nil {
		return r.full("it has no immediate, whole unique index on NOT NULL columns")
	}
	columns := withAll(key.columns, wanted)
	if why := r.unindexable(columns); why != "" {
		return r.full(why)
	}
	name, builds := r.newIndexName()
	return identityPlan{
		builds: append(builds, fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY %s ON %s (%s)",
			quote(name), quoted(r.Table), quoteAll(columns))),
		identity: "USING INDEX " + quote(name),
		columns:  columns,
		hint:     "add an index that holds it" + r.lengthLimit(columns),
	}
}

func (r *Relation) full(why string) identityPlan {
	return identityPlan{
		identity: "FULL", columns: r.columnNames(), full: true,
		hint: why + ", so the whole old row must be logged, which costs WAL",
	}
}

// covering returns the smallest index that can be the identity and holds the columns, the primary key first.
func (r *Relation) covering(columns []string) *index {
	var best *index
	for i := range r.indexes {
		x := &r.indexes[i]
		if r.canIdentify(x) && len(missing(columns, x.columns)) == 0 &&
			(best == nil || x.primary || !best.primary && len(x.columns) < len(best.columns)) {
			best = x
		}
	}
	return best
}

// baseKey returns the index whose columns a wider one is built upon.
func (r *Relation) baseKey() *index {
	for i := range r.indexes {
		if x := &r.indexes[i]; r.Identity.Kind == 'i' && x.identity && r.canIdentify(x) {
			return x
		}
	}
	return r.covering(nil)
}

func (r *Relation) canIdentify(x *index) bool {
	return x.usable && !slices.ContainsFunc(x.columns, func(name string) bool {
		c, ok := r.Column(name)
		return !ok || !c.NotNull
	})
}

// unindexable says why columns cannot stand in an index that is to be a replica identity, or "".
func (r *Relation) unindexable(columns []string) string {
	const most = 32 // INDEX_MAX_KEYS
	if len(columns) > most {
		return fmt.Sprintf("an index has at most %d columns", most)
	}
	for _, name := range columns {
		c, ok := r.Column(name)
		switch {
		case !ok:
			return "not all of its partitions have column " + quote(name)
		case !c.NotNull:
			return "column " + quote(name) + " may be NULL and an identity's index may not (ALTER it SET NOT NULL if it never is, and check again)"
		case !c.indexable:
			return "column " + quote(name) + " has type " + c.TypeName + ", which no index orders"
		}
	}
	return ""
}

// lengthLimit warns of columns whose longest values do not fit into an index: the application's write would fail.
func (r *Relation) lengthLimit(columns []string) string {
	for _, name := range columns {
		if c, ok := r.Column(name); ok && c.unbounded {
			return fmt.Sprintf(" (a row whose %s is above about 2,700 bytes could no longer be written; if there may be some, use REPLICA IDENTITY FULL)", quote(name))
		}
	}
	return ""
}

// newIndexName returns a free name, and the statement that removes what a failed CREATE INDEX CONCURRENTLY left there.
func (r *Relation) newIndexName() (name string, cleanup []string) {
	for n := 1; ; n++ {
		suffix := "_identity"
		if n > 1 {
			suffix = fmt.Sprintf("_identity%d", n)
		}
		name = indexName(r.Name, suffix)
		i := slices.IndexFunc(r.indexes, func(x index) bool { return x.name == name })
		switch {
		case i < 0:
			return name, nil
		case !r.indexes[i].valid && !r.indexes[i].identity:
			drop := "DROP INDEX CONCURRENTLY " + quoteIn(r.Schema, name)
			return name, []string{drop}
		}
	}
}

// indexName cuts a table's name so that the whole fits into PostgreSQL's 63 bytes and stays unique.
func indexName(table, suffix string) string {
	const most = 63
	if len(table)+len(suffix) <= most {
		return table + suffix
	}
	sum := fmt.Sprintf("_%x", sha256.Sum256([]byte(table)))[:9]
	cut := most - len(suffix) - len(sum)
	for !utf8.RuneStart(table[cut]) {
		cut--
	}
	return table[:cut] + sum + suffix
}
