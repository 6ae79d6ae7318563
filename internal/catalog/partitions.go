package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/pkg/events"
)

// Storage says which watched table a relation's rows belong to.
type Storage struct {
	Table    events.Table // that rules name
	Relation events.Table // that PostgreSQL logs: Table itself, or a partition of it
}

const storageQuery = `
SELECT tree.oid, n.nspname, c.relname, wn.nspname, w.relname
FROM pg_class w
JOIN pg_namespace wn ON wn.oid = w.relnamespace
CROSS JOIN LATERAL (SELECT w.oid UNION SELECT relid FROM pg_partition_tree(w.oid)) AS tree (oid)
JOIN pg_class c ON c.oid = tree.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE w.oid = ANY($1)`

// Storages maps the oids of all relations that hold rows of watched tables, their partitions at every level included.
func Storages(ctx context.Context, conn *pgx.Conn, tables []*Table) (map[uint32]Storage, error) {
	found := make(map[uint32]Storage)
	var oid uint32
	var s Storage
	err := scan(ctx, conn, storageQuery, oids(tables), []any{
		&oid, &s.Relation.Schema, &s.Relation.Name, &s.Table.Schema, &s.Table.Name,
	}, func() { found[oid] = s })
	if err != nil {
		return nil, fmt.Errorf("read partitions: %w", err)
	}
	return found, nil
}

const storageOfQuery = `
SELECT n.nspname, c.relname, wn.nspname, w.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT c.oid UNION SELECT relid FROM pg_partition_ancestors(c.oid)) AS tree (oid)
JOIN pg_class w ON w.oid = tree.oid AND w.oid = ANY($2)
JOIN pg_namespace wn ON wn.oid = w.relnamespace
WHERE c.oid = $1`

// StorageOf looks one relation up, as one that was made a partition since [Storages]. It reports false if its rows belong
// to no watched table, or if it is gone.
func StorageOf(ctx context.Context, conn *pgx.Conn, oid uint32, tables []*Table) (Storage, bool, error) {
	var s Storage
	err := conn.QueryRow(ctx, storageOfQuery, oid, oids(tables)).
		Scan(&s.Relation.Schema, &s.Relation.Name, &s.Table.Schema, &s.Table.Name)
	if errors.Is(err, pgx.ErrNoRows) {
		return Storage{}, false, nil
	}
	if err != nil {
		return Storage{}, false, fmt.Errorf("look up partition: %w", err)
	}
	return s, true, nil
}

func oids(tables []*Table) []uint32 {
	list := make([]uint32, len(tables))
	for i, t := range tables {
		list[i] = t.OID
	}
	return list
}
