package catalog

import "slices"

// identity checks the replica identities of a table's storage. Without a usable one the table is refused; one that lacks
// columns that the old row should hold is a warning.
func (c *checker) identity(t *Table) bool {
	var unusable []*Relation
	for _, r := range t.storage() {
		if !r.Identity.Usable {
			unusable = append(unusable, r)
		}
	}
	if len(unusable) > 0 {
		mend := c.mend(t, unusable, t.Need.Old)
		c.report(Error, t.Need, "", "it has no usable replica identity"+in(t, unusable),
			"published, its UPDATE and DELETE would fail; "+mend.hint, mend.statements...)
		return false
	}
	c.narrow(t, t.Need.Old, t.Need.Old, "an UPDATE or DELETE then invalidates more than its exact keys")
	c.narrow(t, t.Need.Compared, withAll(t.Need.Old, t.Need.Compared),
		"every UPDATE then counts as one that touched them; if that is too many")
	c.futurePartitions(t)
	return true
}

// narrow warns of columns that old rows of the table do not hold. What mends it gives them all that is wanted.
func (c *checker) narrow(t *Table, columns, wanted []string, consequence string) {
	var relations []*Relation
	var lacking []string
	for _, r := range t.storage() {
		if lacks := missing(columns, r.Identity.Columns); len(lacks) > 0 {
			relations, lacking = append(relations, r), withAll(lacking, lacks)
		}
	}
	if len(relations) == 0 {
		return
	}
	mend := c.mend(t, relations, wanted)
	c.problems = append(c.problems, Problem{
		Severity: Warning, Table: t.Table, Columns: lacking,
		Cause: "not in its replica identity" + in(t, relations) + ": " + quoteAll(lacking),
		Hint:  consequence + "; " + mend.hint, Statements: mend.statements,
	})
}

// futurePartitions warns where only the partitions that exist by now have an identity.
func (c *checker) futurePartitions(t *Table) {
	inherits := slices.ContainsFunc(t.indexes, func(x index) bool { return x.primary && x.usable })
	if t.Kind == 'p' && !inherits {
		c.report(Warning, t.Need, "", "it has no primary key that a new partition would inherit",
			"a partition that is added without a replica identity of its own refuses UPDATE and DELETE: give it one before it is attached")
	}
}

// missing returns the names that have lacks.
func missing(names, have []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(have, name) {
			out = append(out, name)
		}
	}
	return out
}

// with returns names and name, without writing into names.
func with(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(slices.Clip(names), name)
}

func withAll(names, more []string) []string {
	for _, name := range more {
		names = with(names, name)
	}
	return names
}

// in says which partitions a cause is about.
func in(t *Table, relations []*Relation) string {
	if t.Kind != 'p' {
		return ""
	}
	names := make([]string, len(relations))
	for i, r := range relations {
		names[i] = quoted(r.Table)
	}
	return " in partition " + some(names)
}
