package catalog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/pkg/events"
)

// mark is the comment that tells our publications from others.
const mark = "walfence"

// publication is what the catalog has of one.
type publication struct {
	oid       uint32
	ours      bool // has our mark
	owned     bool // the role may alter it
	allTables bool
	operations
	viaRoot   bool
	generated bool // publishes stored generated columns; PostgreSQL 18
	schemas   []string
	members   map[events.Table]member
	covered   map[events.Table]bool // what it publishes in the end, with partitions instead of partitioned tables unless viaRoot
}

type operations struct{ insert, update, delete, truncate bool }

// member is a table that a publication names itself.
type member struct {
	columns []string // its column list; nil if there is none
	filter  bool
}

// The catalogs differ between versions. Going through JSON, a column that a version lacks reads as NULL.
const publicationQuery = `
SELECT p.oid, coalesce(obj_description(p.oid, 'pg_publication') = $2, false), pg_has_role(p.pubowner, 'USAGE'),
       p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
       coalesce(to_jsonb(p)->>'pubgencols' = 's', false)
FROM pg_publication p WHERE p.pubname = $1`

const membersQuery = `
SELECT n.nspname, c.relname, to_jsonb(pr)->>'prqual' IS NOT NULL,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid
        AND to_jsonb(pr)->'prattrs' @> to_jsonb(a.attnum))
FROM pg_publication_rel pr JOIN pg_class c ON c.oid = pr.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE pr.prpubid = $1`

const schemasQuery = `
SELECT array_agg(n.nspname::text ORDER BY 1)
FROM pg_publication_namespace pn JOIN pg_namespace n ON n.oid = pn.pnnspid WHERE pn.pnpubid = $1`

const coveredQuery = `SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = $1`

// readPublication returns nil if there is none of that name.
func readPublication(ctx context.Context, q querier, name string, version int) (*publication, error) {
	p := publication{members: map[events.Table]member{}, covered: map[events.Table]bool{}}
	err := q.QueryRow(ctx, publicationQuery, name, mark).Scan(&p.oid, &p.ours, &p.owned, &p.allTables,
		&p.insert, &p.update, &p.delete, &p.truncate, &p.viaRoot, &p.generated)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = p.readMembers(ctx, q)
	}
	if err == nil && version >= 150000 {
		err = q.QueryRow(ctx, schemasQuery, p.oid).Scan(&p.schemas)
	}
	if err == nil {
		err = p.readCovered(ctx, q, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read publication: %w", err)
	}
	return &p, nil
}

func (p *publication) readMembers(ctx context.Context, q querier) error {
	rows, err := q.Query(ctx, membersQuery, p.oid)
	if err != nil {
		return err
	}
	var t events.Table
	var m member
	_, err = pgx.ForEachRow(rows, []any{&t.Schema, &t.Name, &m.filter, &m.columns}, func() error {
		p.members[t] = m
		m.columns = nil
		return nil
	})
	return err
}

func (p *publication) readCovered(ctx context.Context, q querier, name string) error {
	rows, err := q.Query(ctx, coveredQuery, name)
	if err != nil {
		return err
	}
	var t events.Table
	_, err = pgx.ForEachRow(rows, []any{&t.Schema, &t.Name}, func() error { p.covered[t] = true; return nil })
	return err
}

const fingerprintQuery = `
SELECT 'p' || oid || ':' || xmin FROM pg_publication WHERE pubname = $1
UNION ALL
SELECT 'r' || r.oid || ':' || r.xmin FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1`

const fingerprintSchemas = `
UNION ALL
SELECT 's' || s.oid || ':' || s.xmin FROM pg_publication_namespace s JOIN pg_publication p ON p.oid = s.pnpubid WHERE p.pubname = $1`

// Fingerprint tells apart all states that a publication was ever in: it is a hash of its catalog rows' oids and xmins, so
// one that was dropped and made again just as before differs too. A restart does not change it. It is "" if there is no
// publication of that name.
func Fingerprint(ctx context.Context, conn *pgx.Conn, name string) (string, error) {
	version, err := serverVersion(ctx, conn)
	if err != nil {
		return "", err
	}
	query := fingerprintQuery
	if version >= 150000 {
		query += fingerprintSchemas
	}
	rows, err := conn.Query(ctx, "SELECT * FROM ("+query+") AS rows (row) ORDER BY row COLLATE \"C\"", name)
	if err != nil {
		return "", fmt.Errorf("read publication's fingerprint: %w", err)
	}
	parts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("read publication's fingerprint: %w", err)
	}
	if len(parts) == 0 {
		return "", nil
	}
	sum := sha256.New()
	for _, part := range parts {
		fmt.Fprintln(sum, part)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:16]), nil
}

// ErrNotOurs is a publication or a slot that somebody else made.
var ErrNotOurs = errors.New("it was not made by walfence")

// DropPublication removes a publication if it is there. One that is not ours is refused with [ErrNotOurs] unless force
// is set.
func DropPublication(ctx context.Context, conn *pgx.Conn, name string, force bool) error {
	version, err := serverVersion(ctx, conn)
	if err != nil {
		return err
	}
	p, err := readPublication(ctx, conn, name, version)
	if err != nil || p == nil {
		return err
	}
	if !p.ours && !force {
		return fmt.Errorf("drop publication %s: %w", quote(name), ErrNotOurs)
	}
	if err := execute(ctx, conn, "DROP PUBLICATION "+quote(name)); err != nil {
		return fmt.Errorf("drop publication %s: %w", quote(name), err)
	}
	return nil
}

func serverVersion(ctx context.Context, q querier) (version int, err error) {
	err = q.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read server version: %w", err)
	}
	return version, nil
}
