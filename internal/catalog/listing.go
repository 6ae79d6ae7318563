package catalog

import (
	"context"
	"fmt"
	"strings"
)

// listing is a relation's entry in a publication that gives it a column list. PostgreSQL fails the application's UPDATE
// as soon as the replica identity has a column that the list lacks, and with any list if the identity is full.
type listing struct {
	publication string
	columns     []string
	filter      string // the WHERE that goes with it, or ""
}

const listingsQuery = `
SELECT pr.prrelid, p.pubname, ARRAY(SELECT a.attname::text FROM unnest(pr.prattrs::int2[]) k
       JOIN pg_attribute a ON a.attrelid = pr.prrelid AND a.attnum = k ORDER BY k), coalesce(pg_get_expr(pr.prqual, pr.prrelid), '')
FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
WHERE pr.prrelid = ANY($1) AND pr.prattrs IS NOT NULL ORDER BY pr.prrelid, p.pubname`

// readListings reads the column lists of relations. PostgreSQL 14 has none.
func readListings(ctx context.Context, q querier, oids []uint32, version int) (map[uint32][]listing, error) {
	lists := make(map[uint32][]listing)
	if version < 150000 {
		return lists, nil
	}
	var oid uint32
	var l listing
	err := scan(ctx, q, listingsQuery, oids, []any{&oid, &l.publication, &l.columns, &l.filter}, func() {
		lists[oid] = append(lists[oid], l)
		l.columns = nil
	})
	if err != nil {
		return nil, fmt.Errorf("read column lists: %w", err)
	}
	return lists, nil
}

// widen returns the statements after which the listing no longer stands in the way of an identity of these columns, or
// of a full one. One transaction: between leaving and joining a publication, changes would be lost.
func (l *listing) widen(r *Relation, identity []string, full bool) []string {
	entry := quoted(r.Table)
	if !full {
		columns := withAll(l.columns, identity)
		if len(columns) == len(l.columns) {
			return nil
		}
		entry += " (" + quoteAll(columns) + ")"
	}
	if l.filter != "" {
		entry += " WHERE (" + strings.TrimSpace(l.filter) + ")"
	}
	alter := "ALTER PUBLICATION " + quote(l.publication)
	return []string{"BEGIN", alter + " DROP TABLE ONLY " + quoted(r.Table), alter + " ADD TABLE ONLY " + entry, "COMMIT"}
}
