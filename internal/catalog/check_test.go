package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

func TestTablesOfAnyNameAreFound(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE SCHEMA "Sales"; CREATE TABLE "Sales"."Order ""Items""" ("Id" int, "T.1" varchar(9), PRIMARY KEY ("Id", "T.1"));
		CREATE TABLE "été" (id uuid PRIMARY KEY, v timestamptz(3))`)
	odd := mapping.Table{
		Table: events.Table{Schema: "Sales", Name: `Order "Items"`}, Columns: []string{"Id", "T.1"}, Old: []string{"T.1"},
	}
	tables := checked(t, db.Conn(t), odd, need("été", "id v", "id"))
	require.Equal(t, []string{"Id", "T.1"}, tables[0].Identity.Columns)
	require.Equal(t, byte('d'), tables[0].Identity.Kind)
	require.Equal(t, byte('r'), tables[0].Kind)
	v, ok := tables[1].Column("v")
	require.True(t, ok)
	require.Equal(t, "timestamp(3) with time zone", v.TypeName)
	require.Equal(t, uint32(1184), v.Type)
	require.False(t, v.NotNull)
}

func TestCheckTellsEverythingAtOnce(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE SCHEMA shop;
		CREATE TABLE users (id int PRIMARY KEY, tenant_id int);
		CREATE TABLE shop.products (id int PRIMARY KEY);
		CREATE VIEW user_view AS SELECT * FROM users;
		CREATE UNLOGGED TABLE hits (id int PRIMARY KEY);
		CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER away FOREIGN DATA WRAPPER nothing;
		CREATE FOREIGN TABLE far (id int) SERVER away;
		CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (2);
		CREATE TABLE mixed (id int) PARTITION BY RANGE (id);
		CREATE FOREIGN TABLE mixed_far PARTITION OF mixed FOR VALUES FROM (1) TO (2) SERVER away;
		CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent)`)
	tables, problems := check(t, db.Conn(t),
		need("user", "id", ""), need("products", "id", ""), need("users", "id tenantid", ""), need("nothing_like_it", "id", ""),
		need("user_view", "id", ""), need("hits", "id", ""), need("far", "id", ""), need("pg_catalog.pg_class", "oid", ""),
		need("parts", "id", ""), need("parts_1", "id", ""), need("mixed", "id", ""), need("parent", "id", ""))
	require.Len(t, tables, 2)
	var got []string
	for i := range problems {
		got = append(got, problems[i].Severity.String()+" "+problems[i].Error()+"; "+problems[i].Hint)
	}
	require.Equal(t, []string{
		`error table "public"."user": it does not exist; did you mean "public"."users"?`,
		`error table "public"."products": it does not exist; did you mean "shop"."products"?`,
		`error table "public"."users": column "tenantid" does not exist; did you mean "tenant_id"?`,
		`error table "public"."nothing_like_it": it does not exist; `,
		`error table "public"."user_view": it is a view; changes are known only of tables: watch those that the view reads`,
		`error table "public"."hits": it is unlogged; its changes are not in WAL; this rewrites the table and locks it meanwhile`,
		`error table "public"."far": it is not a table of this database; foreign tables and sequences leave no changes in its WAL`,
		`error table "pg_catalog"."pg_class": it is part of PostgreSQL's catalog; PostgreSQL does not publish it`,
		`error table "public"."parts_1": it is a partition of "public"."parts", which has rules too; put the rule on that: events name "public"."parts"`,
		`error table "public"."mixed": its partition "public"."mixed_far" is foreign or unlogged; changes to that are not in this database's WAL`,
		`warning table "public"."parent": changes of the tables that inherit from it are not its own: public.child; give each of them a rule`,
	}, got)
	require.ErrorContains(t, problems.Err(), "hint: did you mean")
	require.NoError(t, problems[len(problems)-1:].Err())
}

func TestProblemsStandAtTheirPlaceInTheRules(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE users (id int PRIMARY KEY, tenant_id int NOT NULL)`)
	const rules = `version: 1
source: shop
tenant: {column: tenant_id}
caches:
  main: {redis: "redis://h"}
rules:
  - name: gone
    table: userz
    delete: ["t:{tenant}:{id}"]
  - name: one
    table: users
    delete: ["t:{tenant}:one:{mail}"]
  - name: two
    table: users
    delete: ["t:{tenant}:two:{id}:{mail}"]
  - name: three
    table: users
    delete: ["t:{tenant}:three:{id}"]
`
	program, err := mapping.Compile("rules.yaml", []byte(rules), nil)
	require.NoError(t, err)
	_, problems := check(t, db.Conn(t), program.Tables()...)
	lines := problems.InRules(program.Tables())
	require.EqualError(t, lines, `rules.yaml:8:12: rule "gone": it does not exist
rules.yaml:12:30: rule "one": column "mail" does not exist
rules.yaml:15:35: rule "two": column "mail" does not exist`)

	db.Exec(t, `ALTER TABLE users ADD mail text`)
	_, problems = check(t, db.Conn(t), program.Tables()[1:]...)
	require.NoError(t, problems.Err())
	lines = problems.InRules(program.Tables())
	require.Len(t, lines, 1, "what takes statements is told once")
	require.Contains(t, lines[0].Hint, "REPLICA IDENTITY FULL;")
}
