package catalog

import (
	"slices"
	"strings"
)

// compare looks at a publication that is used as it is.
func (p *Plan) compare(have *publication) {
	var missed []string
	for op, published := range map[string]bool{
		"insert": have.insert, "update": have.update, "delete": have.delete, "truncate": have.truncate,
	} {
		if !published {
			missed = append(missed, op)
		}
	}
	slices.Sort(missed)
	if len(missed) > 0 {
		p.foreign(Warning, nil, "it does not publish "+strings.Join(missed, ", "), "such changes invalidate nothing")
	}
	for _, t := range p.tables {
		p.compareTable(have, t)
	}
}

func (p *Plan) compareTable(have *publication, t *Table) {
	if lacking := have.lacks(t); len(lacking) > 0 {
		p.foreign(Error, t, "it does not publish "+some(lacking), "add the table, or let CDC_PUBLICATION name one that walfence makes",
			"ALTER PUBLICATION "+quote(p.Publication)+" ADD TABLE ONLY "+quoted(t.Table))
		return
	}
	if have.viaRoot && t.Kind == 'p' {
		p.foreign(Warning, t, "it publishes changes of partitions as the partitioned table's",
			"a TRUNCATE of one partition then invalidates nothing",
			"ALTER PUBLICATION "+quote(p.Publication)+" SET (publish_via_partition_root = false)")
	}
	for _, r := range append([]*Relation{&t.Relation}, t.Leaves...) {
		m := have.members[r.Table]
		if m.filter {
			p.foreign(Warning, t, "it has a row filter on "+quoted(r.Table), "changes of other rows invalidate nothing")
		}
		if lacks := have.lacksColumns(t, m); len(lacks) > 0 {
			p.foreign(Warning, t, "it does not publish of "+quoted(r.Table)+" "+quoteAll(lacks),
				"every change invalidates more than its exact keys")
		}
	}
}

// lacksColumns names the needed columns that are left out of a member: by its list, or as generated ones.
func (p *publication) lacksColumns(t *Table, m member) []string {
	if m.columns != nil {
		return missing(t.Need.Columns, m.columns)
	}
	if p.generated {
		return nil
	}
	return t.generatedColumns()
}

// lacks names what of a table a publication leaves out.
func (p *publication) lacks(t *Table) []string {
	_, member := p.members[t.Table]
	if member || p.allTables || p.covered[t.Table] || slices.Contains(p.schemas, t.Schema) {
		return nil
	}
	var lacking []string
	for _, leaf := range t.Leaves {
		if !p.covered[leaf.Table] {
			lacking = append(lacking, quoted(leaf.Table))
		}
	}
	if len(t.Leaves) == 0 {
		lacking = []string{quoted(t.Table)}
	}
	return lacking
}

func (p *Plan) foreign(severity Severity, t *Table, cause, hint string, statements ...string) {
	problem := Problem{
		Severity: severity, Cause: "publication " + quote(p.Publication) + ", which is not walfence's: " + cause, Hint: hint, Statements: statements,
	}
	if t != nil {
		problem.Table = t.Table
	}
	p.Problems = append(p.Problems, problem)
}
