package catalog_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

func plan(t *testing.T, conn *pgx.Conn, lists bool, needs ...mapping.Table) *catalog.Plan {
	t.Helper()
	tables, _ := check(t, conn, needs...)
	p, err := catalog.PlanPublication(t.Context(), conn, "pub", tables, lists)
	require.NoError(t, err)
	return p
}

func apply(t *testing.T, conn *pgx.Conn, p *catalog.Plan) {
	t.Helper()
	require.NoError(t, p.Problems.Err())
	require.NoError(t, catalog.Apply(t.Context(), conn, p))
}

func public(name string) events.Table { return events.Table{Schema: "public", Name: name} }

// published returns what the publication has, with column lists.
func published(t *testing.T, conn *pgx.Conn) map[string][]string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT format('%I.%I', schemaname, tablename), attnames::text[] FROM pg_publication_tables WHERE pubname = 'pub'`)
	require.NoError(t, err)
	got := map[string][]string{}
	var name string
	var columns []string
	_, err = pgx.ForEachRow(rows, []any{&name, &columns}, func() error { got[name] = columns; columns = nil; return nil })
	require.NoError(t, err)
	return got
}

func TestPublicationIsMadeWithEveryTableAndThenLeftAlone(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE SCHEMA "S.1"; CREATE TABLE "S.1"."A""b" (id int PRIMARY KEY); CREATE TABLE a (id int PRIMARY KEY);
		CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (2);
		CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)`)
	conn := db.Conn(t)
	odd := mapping.Table{Table: events.Table{Schema: "S.1", Name: `A"b`}, Columns: []string{"id"}}
	needs := []mapping.Table{odd, need("a", "id", ""), need("p", "id", ""), need("parent", "id", "")}
	p := plan(t, conn, false, needs...)
	require.False(t, p.Exists)
	require.True(t, p.Ours)
	require.Equal(t, []string{
		`CREATE PUBLICATION "pub" FOR TABLE ONLY "S.1"."A""b", ONLY "public"."a", ONLY "public"."p", ONLY "public"."parent"` +
			` WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)`,
		`COMMENT ON PUBLICATION "pub" IS 'walfence'`,
	}, p.Statements)
	apply(t, conn, p)
	require.Equal(t, map[string][]string{
		`"S.1"."A""b"`: {"id"}, "public.a": {"id"}, "public.p1": {"id"}, "public.parent": {"id"},
	}, published(t, conn))

	again := plan(t, conn, false, needs...)
	require.True(t, again.Exists)
	require.True(t, again.Ours)
	require.Empty(t, again.Statements)
	apply(t, conn, again)
}

func TestPublicationWithoutTablesIsMade(t *testing.T) {
	conn := testkit.NewDatabase(t).Conn(t)
	apply(t, conn, plan(t, conn, false))
	require.Empty(t, plan(t, conn, false).Statements)
}

func TestPublicationFollowsChangedRules(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, x int, y int); CREATE TABLE b (id int PRIMARY KEY, x int); CREATE TABLE c (id int PRIMARY KEY, x int)`)
	conn := db.Conn(t)
	apply(t, conn, plan(t, conn, true, need("a", "x", ""), need("b", "x", "")))
	keptRow := `SELECT xmin::text FROM pg_publication_rel WHERE prrelid = 'b'::regclass`
	before := one[string](t, conn, keptRow)

	p := plan(t, conn, true, need("a", "y", ""), need("b", "x", ""), need("c", "id", ""))
	require.Equal(t, []events.Table{public("c")}, p.Added)
	require.Equal(t, []events.Table{public("a")}, p.Changed)
	apply(t, conn, p)
	require.Equal(t, map[string][]string{"public.a": {"id", "y"}, "public.b": {"id", "x"}, "public.c": {"id"}}, published(t, conn))
	require.Equal(t, before, one[string](t, conn, keptRow), "a table that did not change keeps its entry")

	p = plan(t, conn, false, need("a", "y", ""))
	require.Equal(t, []events.Table{public("b"), public("c")}, p.Removed)
	apply(t, conn, p)
	require.Equal(t, map[string][]string{"public.a": {"id", "x", "y"}}, published(t, conn))
}

func TestOurPublicationThatWasEditedByHandIsSetRight(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE SCHEMA "S"; CREATE TABLE "S".t (id int PRIMARY KEY); CREATE TABLE a (id int PRIMARY KEY)`)
	conn := db.Conn(t)
	apply(t, conn, plan(t, conn, false, need("a", "id", "")))
	exec(t, conn, `ALTER PUBLICATION pub SET (publish = 'insert', publish_via_partition_root = true)`)
	exec(t, conn, `ALTER PUBLICATION pub SET TABLE a WHERE (id > 5)`)
	exec(t, conn, `ALTER PUBLICATION pub ADD TABLES IN SCHEMA "S"`)
	apply(t, conn, plan(t, conn, false, need("a", "id", "")))
	require.Empty(t, plan(t, conn, false, need("a", "id", "")).Statements)
	require.Equal(t, map[string][]string{"public.a": {"id"}}, published(t, conn))
	require.Equal(t, "true true true true false", one[string](t, conn, `SELECT concat_ws(' ', pubinsert::text, pubupdate::text,
		pubdelete::text, pubtruncate::text, pubviaroot::text) FROM pg_publication`))
	require.True(t, one[bool](t, conn, `SELECT prqual IS NULL FROM pg_publication_rel`))
}

func TestColumnListsHaveTheIdentityAndSayWhyThereIsNone(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE listed (big text, x int, id int PRIMARY KEY, "Y" int);
		CREATE TABLE fully (id int, big text); ALTER TABLE fully REPLICA IDENTITY FULL;
		CREATE TABLE split (id int PRIMARY KEY, big text) PARTITION BY RANGE (id);
		CREATE TABLE short (id int PRIMARY KEY, x int)`)
	conn := db.Conn(t)
	p := plan(t, conn, true, need("listed", "Y", ""), need("fully", "id", ""), need("split", "id", ""), need("short", "x", ""))
	require.Equal(t, []catalog.List{
		{Table: public("listed"), Columns: []string{"id", "Y"}},
		{Table: public("fully"), Reason: "its replica identity is full"},
		{Table: public("split"), Reason: "it is partitioned"},
		{Table: public("short"), Reason: "all its columns are needed"},
	}, p.Lists)
	apply(t, conn, p)
	exec(t, conn, `INSERT INTO listed VALUES ('b', 1, 1, 1)`)
	exec(t, conn, `UPDATE listed SET id = 2`)
	require.Empty(t, plan(t, conn, false, need("listed", "Y", "")).Lists)
}

func TestGeneratedColumnIsPublishedWherePostgreSQLCan(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, doubled int GENERATED ALWAYS AS (id * 2) STORED)`)
	conn := db.Conn(t)
	tables, problems := check(t, conn, need("a", "id doubled", ""))
	if server(t, conn).Version < 180000 {
		require.Empty(t, tables)
		require.ErrorContains(t, problems.Err(), `column "doubled" is generated, and PostgreSQL does not publish its value`)
		return
	}
	apply(t, conn, plan(t, conn, false, need("a", "id", "")))
	apply(t, conn, plan(t, conn, false, need("a", "id doubled", "")))
	require.Equal(t, map[string][]string{"public.a": {"id", "doubled"}}, published(t, conn))
	require.Empty(t, plan(t, conn, false, need("a", "id doubled", "")).Statements)

	db.Exec(t, `DROP PUBLICATION pub; CREATE PUBLICATION pub FOR TABLE a`)
	require.Contains(t, plan(t, conn, false, need("a", "id doubled", "")).Problems.Error(), `it does not publish of "public"."a" "doubled"`)
	db.Exec(t, `CREATE TABLE b (id int PRIMARY KEY, doubled int GENERATED ALWAYS AS (id * 2) VIRTUAL)`)
	_, problems = check(t, conn, need("b", "id doubled", ""))
	require.Error(t, problems.Err())
}

func TestTableThatLostItsIdentityIsNotPublished(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY)`)
	conn := db.Conn(t)
	p := plan(t, conn, false, need("a", "id", ""))
	exec(t, conn, `ALTER TABLE a DROP CONSTRAINT a_pkey`)
	require.ErrorContains(t, catalog.Apply(t.Context(), conn, p), "no usable replica identity")
	require.Empty(t, published(t, conn))
	require.True(t, one[bool](t, conn, `SELECT count(*) = 0 FROM pg_publication`))
	exec(t, conn, `INSERT INTO a VALUES (1)`)
	exec(t, conn, `UPDATE a SET id = 2`)
}

func TestApplyGivesUpWhereATableIsLocked(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY)`)
	conn, migration := db.Conn(t), db.Conn(t)
	p := plan(t, conn, false, need("a", "id", ""))
	exec(t, migration, `BEGIN`)
	exec(t, migration, `LOCK TABLE a IN SHARE UPDATE EXCLUSIVE MODE`)
	require.ErrorIs(t, catalog.Apply(t.Context(), conn, p), catalog.ErrLocked)

	exec(t, migration, `COMMIT`)
	apply(t, conn, p)
	require.Equal(t, "0", one[string](t, conn, `SHOW lock_timeout`), "only for the plan")
}

func TestApplyDoesNotWaitForTheApplicationsLongWrites(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY)`)
	conn, app := db.Conn(t), db.Conn(t)
	exec(t, app, `BEGIN`)
	exec(t, app, `INSERT INTO a VALUES (1)`)
	apply(t, conn, plan(t, conn, false, need("a", "id", "")))
	exec(t, app, `UPDATE a SET id = 2`)
	exec(t, app, `COMMIT`)
}

func TestRoleWithTooFewRightsIsToldWhatToHaveRun(t *testing.T) {
	db := testkit.NewDatabase(t)
	role := "least_" + db.Name
	db.Exec(t, `CREATE ROLE `+role+` LOGIN REPLICATION; CREATE TABLE a (id int PRIMARY KEY, tenant_id int NOT NULL)`)
	t.Cleanup(func() { dropRole(t, db, role) })
	conn := as(t, db, role)
	p := plan(t, conn, false, need("a", "id", "id"))
	require.ErrorContains(t, p.Problems.Err(), `role "`+role+`" may not create publications in this database, nor publish "public"."a", which it does not own`)
	require.Error(t, catalog.Apply(t.Context(), conn, p))
	admin := db.Conn(t)
	for _, statement := range p.Problems[0].Statements {
		exec(t, admin, statement)
	}
	require.Empty(t, plan(t, conn, false, need("a", "id", "id")).Problems, "then it needs nothing more")
	require.NotEmpty(t, fingerprint(t, conn))

	exec(t, admin, `CREATE TABLE b (id int PRIMARY KEY)`)
	p = plan(t, conn, false, need("a", "id", "id"), need("b", "id", ""))
	require.ErrorContains(t, p.Problems.Err(), `may not alter publication "pub"`)
}

func TestOwnerWhoMayCreatePublicationsNeedsNoSuperuser(t *testing.T) {
	db := testkit.NewDatabase(t)
	role := "owner_" + db.Name
	db.Exec(t, `CREATE ROLE `+role+` LOGIN REPLICATION; GRANT CREATE ON DATABASE `+db.Name+` TO `+role+`;
		CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a OWNER TO `+role)
	t.Cleanup(func() { dropRole(t, db, role) })
	conn := as(t, db, role)
	apply(t, conn, plan(t, conn, false, need("a", "id", "")))
}

func dropRole(t *testing.T, db *testkit.Database, role string) {
	db.Exec(t, `REASSIGN OWNED BY `+role+` TO postgres; DROP OWNED BY `+role+`; DROP ROLE `+role)
}

func TestForeignPublicationIsComparedAndNeverChanged(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, x int, y int); CREATE TABLE b (id int PRIMARY KEY);
		CREATE TABLE d (id int PRIMARY KEY);
		CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (2);
		CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (2) TO (3);
		CREATE PUBLICATION pub FOR TABLE a (id, y), b WHERE (id > 5), p1 WITH (publish = 'insert, update')`)
	conn := db.Conn(t)
	before := fingerprint(t, conn)
	p := plan(t, conn, true, need("a", "x y", ""), need("b", "id", ""), need("d", "id", ""), need("p", "id", ""))
	require.True(t, p.Exists)
	require.False(t, p.Ours)
	require.Empty(t, p.Statements)
	const foreign = `publication "pub", which is not walfence's: `
	require.Equal(t, []string{
		`warning ` + foreign + `it does not publish delete, truncate`,
		`warning table "public"."a": ` + foreign + `it does not publish of "public"."a" "x"`,
		`warning table "public"."b": ` + foreign + `it has a row filter on "public"."b"`,
		`error table "public"."d": ` + foreign + `it does not publish "public"."d"`,
		`error table "public"."p": ` + foreign + `it does not publish "public"."p2"`,
	}, causes(p.Problems))
	require.NoError(t, catalog.Apply(t.Context(), conn, p))
	require.Equal(t, before, fingerprint(t, conn))
}

func TestForeignPublicationOfPartitionedTables(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE empty (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (2); CREATE PUBLICATION pub FOR TABLE p, empty`)
	conn := db.Conn(t)
	require.Empty(t, plan(t, conn, false, need("p", "id", ""), need("empty", "id", "")).Problems)
	exec(t, conn, `ALTER PUBLICATION pub SET (publish_via_partition_root = true)`)
	problems := plan(t, conn, false, need("p", "id", "")).Problems
	require.Len(t, problems, 1)
	require.Equal(t, catalog.Warning, problems[0].Severity)
	require.Contains(t, problems[0].Hint, "TRUNCATE of one partition")
	for _, whole := range []string{"ALL TABLES", "TABLES IN SCHEMA public"} {
		exec(t, conn, `DROP PUBLICATION pub`)
		exec(t, conn, `CREATE PUBLICATION pub FOR `+whole)
		require.Empty(t, plan(t, conn, false, need("p", "id", ""), need("empty", "id", "")).Problems)
	}
}

func TestFingerprintTellsApartWhatLooksTheSame(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE SCHEMA s; CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)`)
	conn := db.Conn(t)
	require.Empty(t, fingerprint(t, conn))
	seen := map[string]string{}
	for _, statement := range []string{
		`CREATE PUBLICATION pub FOR TABLE a, b`, `ALTER PUBLICATION pub DROP TABLE b`, `ALTER PUBLICATION pub ADD TABLE b`,
		`ALTER PUBLICATION pub SET (publish = 'insert')`, `ALTER PUBLICATION pub ADD TABLES IN SCHEMA s`,
		`DROP PUBLICATION pub; CREATE PUBLICATION pub FOR TABLE a, b`,
	} {
		db.Exec(t, statement)
		now := fingerprint(t, conn)
		require.Empty(t, seen[now], statement)
		seen[now] = statement
	}
	before := fingerprint(t, conn)
	exec(t, conn, `VACUUM (FULL, FREEZE) pg_publication_rel`)
	exec(t, conn, `VACUUM (FULL, FREEZE) pg_publication`)
	exec(t, conn, `CREATE PUBLICATION another FOR ALL TABLES`)
	require.Equal(t, before, fingerprint(t, conn))
}

func TestFingerprintSurvivesARestart(t *testing.T) {
	cluster := testkit.PrivatePostgres(t)
	require.NoError(t, cluster.Exec("postgres", `CREATE TABLE a (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE a`))
	read := func() string {
		conn, err := pgx.Connect(t.Context(), cluster.URL("postgres"))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(t.Context())) }()
		return fingerprint(t, conn)
	}
	before := read()
	require.NoError(t, cluster.Restart(testkit.Immediate))
	require.Equal(t, before, read())
}

func TestOnlyOurPublicationIsDropped(t *testing.T) {
	conn := testkit.NewDatabase(t).Conn(t)
	ctx := t.Context()
	require.NoError(t, catalog.DropPublication(ctx, conn, "pub", false), "there is none")
	apply(t, conn, plan(t, conn, false))
	require.NoError(t, catalog.DropPublication(ctx, conn, "pub", false))
	exec(t, conn, `CREATE PUBLICATION pub`)
	require.ErrorIs(t, catalog.DropPublication(ctx, conn, "pub", false), catalog.ErrNotOurs)
	require.NoError(t, catalog.DropPublication(ctx, conn, "pub", true))
	require.Empty(t, fingerprint(t, conn))
}

func causes(problems catalog.Problems) []string {
	var out []string
	for i := range problems {
		out = append(out, problems[i].Severity.String()+" "+problems[i].Error())
	}
	return out
}

func fingerprint(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	f, err := catalog.Fingerprint(t.Context(), conn, "pub")
	require.NoError(t, err)
	return f
}

func one[T any](t *testing.T, conn *pgx.Conn, query string) (value T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&value), query)
	return value
}
