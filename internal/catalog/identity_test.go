package catalog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/testkit"
)

const soon = "SET lock_timeout = '3s'" // stands between what builds and what locks

var identities = []struct {
	name    string
	table   string // items, with id and tenant_id
	refused bool   // for want of an identity
	mend    []string
}{
	{
		name: "primary key lacks the tenant", table: `CREATE TABLE items (id int PRIMARY KEY, tenant_id int NOT NULL, v text)`,
		mend: []string{
			`CREATE UNIQUE INDEX CONCURRENTLY "items_identity" ON "public"."items" ("id", "tenant_id")`, soon,
			`ALTER TABLE "public"."items" REPLICA IDENTITY USING INDEX "items_identity"`,
		},
	},
	{
		name: "an index that exists will do", table: `CREATE TABLE items (id int PRIMARY KEY, tenant_id int NOT NULL, v text NOT NULL);
			CREATE UNIQUE INDEX wide ON items (tenant_id, v, id); CREATE UNIQUE INDEX by_tenant ON items (tenant_id, id);
			CREATE UNIQUE INDEX a_partial ON items (tenant_id, id) WHERE id > 0; CREATE UNIQUE INDEX a_computed ON items (tenant_id, id, lower(v));
			CREATE INDEX a_plain ON items (tenant_id, id)`,
		mend: []string{soon, `ALTER TABLE "public"."items" REPLICA IDENTITY USING INDEX "by_tenant"`},
	},
	{
		name: "tenant may be NULL", table: `CREATE TABLE items (id int PRIMARY KEY, tenant_id int, v text);
			CREATE UNIQUE INDEX nullable ON items (tenant_id, id)`,
		mend: []string{soon, `ALTER TABLE "public"."items" REPLICA IDENTITY FULL`},
	},
	{
		name: "tenant cannot be indexed", table: `CREATE TABLE items (id int PRIMARY KEY, tenant_id json NOT NULL)`,
		mend: []string{soon, `ALTER TABLE "public"."items" REPLICA IDENTITY FULL`},
	},
	{
		name: "no key at all", refused: true, table: `CREATE TABLE items (id int, tenant_id int)`,
		mend: []string{soon, `ALTER TABLE "public"."items" REPLICA IDENTITY FULL`},
	},
	{
		name: "identity nothing", refused: true, table: `CREATE TABLE items (id int, tenant_id int, PRIMARY KEY (tenant_id, id));
			ALTER TABLE items REPLICA IDENTITY NOTHING`,
		mend: []string{soon, `ALTER TABLE "public"."items" REPLICA IDENTITY DEFAULT`},
	},
	{
		name: "deferrable primary key", refused: true, table: `CREATE TABLE items (id int, tenant_id int, PRIMARY KEY (tenant_id, id) DEFERRABLE)`,
		mend: []string{soon, `ALTER TABLE "public"."items" REPLICA IDENTITY FULL`},
	},
	{
		name: "unique index but no primary key", refused: true, table: `CREATE TABLE items (id int NOT NULL UNIQUE, tenant_id int NOT NULL)`,
		mend: []string{
			`CREATE UNIQUE INDEX CONCURRENTLY "items_identity" ON "public"."items" ("id", "tenant_id")`, soon,
			`ALTER TABLE "public"."items" REPLICA IDENTITY USING INDEX "items_identity"`,
		},
	},
	{
		name: "identity's index is gone", refused: true, table: `CREATE TABLE items (id int PRIMARY KEY, tenant_id int NOT NULL);
			CREATE UNIQUE INDEX gone ON items (tenant_id, id); ALTER TABLE items REPLICA IDENTITY USING INDEX gone; DROP INDEX gone`,
		mend: []string{
			`CREATE UNIQUE INDEX CONCURRENTLY "items_identity" ON "public"."items" ("id", "tenant_id")`, soon,
			`ALTER TABLE "public"."items" REPLICA IDENTITY USING INDEX "items_identity"`,
		},
	},
	{
		name: "identity of other columns keeps them", table: `CREATE TABLE items (id int PRIMARY KEY, tenant_id int NOT NULL, slug varchar(99) NOT NULL);
			CREATE UNIQUE INDEX items_identity ON items (slug); ALTER TABLE items REPLICA IDENTITY USING INDEX items_identity`,
		mend: []string{
			`CREATE UNIQUE INDEX CONCURRENTLY "items_identity2" ON "public"."items" ("slug", "id", "tenant_id")`, soon,
			`ALTER TABLE "public"."items" REPLICA IDENTITY USING INDEX "items_identity2"`,
		},
	},
	{
		name: "row filter relies on the identity", table: `CREATE TABLE items (id int, tenant_id int, slug uuid NOT NULL UNIQUE, PRIMARY KEY (tenant_id, id));
			ALTER TABLE items REPLICA IDENTITY USING INDEX items_slug_key; CREATE PUBLICATION filtered FOR TABLE items WHERE (slug IS NOT NULL)`,
		mend: []string{
			`CREATE UNIQUE INDEX CONCURRENTLY "items_identity" ON "public"."items" ("slug", "id", "tenant_id")`, soon,
			`ALTER TABLE "public"."items" REPLICA IDENTITY USING INDEX "items_identity"`,
		},
	},
	{
		name: "column list lacks the tenant", table: `CREATE TABLE items (id int PRIMARY KEY, tenant_id int NOT NULL, v text);
			CREATE PUBLICATION listed FOR TABLE items (id, v) WHERE (id > 0)`,
		mend: []string{
			`CREATE UNIQUE INDEX CONCURRENTLY "items_identity" ON "public"."items" ("id", "tenant_id")`, soon,
			`BEGIN`, `ALTER PUBLICATION "listed" DROP TABLE ONLY "public"."items"`,
			`ALTER PUBLICATION "listed" ADD TABLE ONLY "public"."items" ("id", "v", "tenant_id") WHERE ((id > 0))`, `COMMIT`,
			`ALTER TABLE "public"."items" REPLICA IDENTITY USING INDEX "items_identity"`,
		},
	},
	{
		name: "column list where the identity must be full", table: `CREATE TABLE items (id int PRIMARY KEY, tenant_id int);
			CREATE PUBLICATION listed FOR TABLE items (id)`,
		mend: []string{
			soon, `BEGIN`, `ALTER PUBLICATION "listed" DROP TABLE ONLY "public"."items"`,
			`ALTER PUBLICATION "listed" ADD TABLE ONLY "public"."items"`, `COMMIT`,
			`ALTER TABLE "public"."items" REPLICA IDENTITY FULL`,
		},
	},
	{
		name: "a partition without identity", refused: true, table: `CREATE TABLE items (id int NOT NULL, tenant_id int NOT NULL) PARTITION BY RANGE (id);
			CREATE TABLE "Low" PARTITION OF items (PRIMARY KEY (tenant_id, id)) FOR VALUES FROM (0) TO (10);
			CREATE TABLE high PARTITION OF items FOR VALUES FROM (10) TO (20)`,
		mend: []string{soon, `ALTER TABLE "public"."high" REPLICA IDENTITY FULL`},
	},
	{
		name: "partitions at two levels lack the tenant", table: `CREATE TABLE items (id int PRIMARY KEY, tenant_id int NOT NULL) PARTITION BY RANGE (id);
			CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
			CREATE TABLE lowest PARTITION OF low FOR VALUES FROM (0) TO (5);
			CREATE TABLE high PARTITION OF items FOR VALUES FROM (10) TO (20)`,
		mend: []string{
			`CREATE UNIQUE INDEX CONCURRENTLY "high_identity" ON "public"."high" ("id", "tenant_id")`,
			`CREATE UNIQUE INDEX CONCURRENTLY "lowest_identity" ON "public"."lowest" ("id", "tenant_id")`, soon,
			`ALTER TABLE "public"."high" REPLICA IDENTITY USING INDEX "high_identity"`,
			`ALTER TABLE "public"."lowest" REPLICA IDENTITY USING INDEX "lowest_identity"`,
		},
	},
}

func TestReplicaIdentityIsMendedByWhatCheckPrints(t *testing.T) {
	for _, c := range identities {
		t.Run(c.name, func(t *testing.T) {
			db := testkit.NewDatabase(t)
			db.Exec(t, c.table)
			conn, app := db.Conn(t), db.Conn(t)
			items := need("items", "id tenant_id", "id tenant_id")

			tables, problems := check(t, conn, items)
			require.Equal(t, c.refused, len(tables) == 0)
			require.Equal(t, c.refused, problems.Err() != nil)
			require.NotEmpty(t, problems)
			require.Equal(t, c.mend, problems[0].Statements, problems.Error())

			if !c.refused { // it is published meanwhile, and the application goes on writing
				exec(t, conn, `CREATE PUBLICATION whole FOR TABLE items`)
			}
			for _, statement := range c.mend {
				exec(t, conn, statement)
				if statement != "BEGIN" && !strings.HasPrefix(statement, "ALTER PUBLICATION") {
					exec(t, app, `UPDATE items SET id = id + 1`)
					exec(t, app, `DELETE FROM items`)
				}
			}
			tables, problems = check(t, conn, items)
			require.Len(t, tables, 1)
			require.NoError(t, problems.Err())
			for i := range problems {
				require.Empty(t, problems[i].Statements, problems.Error())
			}
		})
	}
}

func TestIndexThatFailedToBuildIsReplaced(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, tenant_id int NOT NULL);
		CREATE UNIQUE INDEX items_identity ON items (id, tenant_id);
		UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_identity'::regclass`)
	_, problems := check(t, db.Conn(t), need("items", "id", "id tenant_id"))
	require.Len(t, problems, 1)
	require.Equal(t, []string{
		`DROP INDEX CONCURRENTLY "public"."items_identity"`,
		`CREATE UNIQUE INDEX CONCURRENTLY "items_identity" ON "public"."items" ("id", "tenant_id")`,
	}, problems[0].Statements[:2])
}

func TestIndexNameFitsHoweverLongTheTableNameIs(t *testing.T) {
	db := testkit.NewDatabase(t)
	long := strings.Repeat("é", 31)
	db.Exec(t, `CREATE TABLE "`+long+`" (id int PRIMARY KEY, tenant_id int NOT NULL)`)
	conn := db.Conn(t)
	_, problems := check(t, conn, need(long, "id", "id tenant_id"))
	require.Len(t, problems, 1)
	for _, statement := range problems[0].Statements {
		exec(t, conn, statement)
	}
	checked(t, conn, need(long, "id", "id tenant_id"))
}

func TestFullIdentityHoldsEveryColumn(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE items (a int, b text); ALTER TABLE items REPLICA IDENTITY FULL`)
	tables := checked(t, db.Conn(t), need("items", "a", "a b"))
	require.Equal(t, catalog.Identity{Kind: 'f', Usable: true, Columns: []string{"a", "b"}}, tables[0].Identity)
}

func TestComparedColumnsOutsideTheIdentityOnlyWarn(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL)`)
	items := need("items", "id name", "id")
	items.Compared = []string{"name"}
	tables, problems := check(t, db.Conn(t), items)
	require.Len(t, tables, 1)
	require.Len(t, problems, 1)
	require.Equal(t, catalog.Warning, problems[0].Severity)
	require.Equal(t, []string{"name"}, problems[0].Columns)
	require.Contains(t, problems[0].Hint, "every UPDATE then counts")
	require.Contains(t, problems[0].Hint, "above about 2,700 bytes")
}

func TestPartitionedTableWithoutPrimaryKeyWarnsOfPartitionsToCome(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE items (id int) PARTITION BY RANGE (id);
		CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (10); ALTER TABLE low REPLICA IDENTITY FULL`)
	tables, problems := check(t, db.Conn(t), need("items", "id", "id"))
	require.Len(t, tables, 1)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Cause, "no primary key that a new partition would inherit")
}
