package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
)

const checkedHead = `
version: 1
source: shop
tenant: {column: tenant_id}
caches:
  main: {redis: "${REDIS_URL}"}
rules:
`

func TestCheckTellsAllProblemsOfAFileAtOnce(t *testing.T) {
	env := map[string]string{"RULES": writeRules(t, "version: 2\nsource: shop\nrulez: []\n")}
	code, stdout, stderr := invoke(t.Context(), env, "check")
	require.Equal(t, 2, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "rules.yaml:1:")
	require.Contains(t, stderr, "    3 | rulez: []\n      | ^\n")

	code, stdout, stderr = invoke(t.Context(), env, "check", "--json")
	require.Equal(t, 2, code)
	require.Empty(t, stderr)
	var out struct {
		OK       bool
		Problems []struct {
			Severity, File, Cause string
			Line                  int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &out), stdout)
	require.False(t, out.OK)
	require.Greater(t, len(out.Problems), 2)
	require.Equal(t, "error", out.Problems[0].Severity)
	require.Equal(t, 1, out.Problems[0].Line)

	code, stdout, _ = invoke(t.Context(), nil, "check", writeRules(t, rules))
	require.Zero(t, code)
	require.Contains(t, stdout, "rules.yaml: 2 rules about 2 tables can be run; not compared with a database")
}

func TestCheckComparesRulesWithTheDatabase(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE TABLE users (tenant_id int, id int, name text, active boolean, PRIMARY KEY (tenant_id, id));
		CREATE TABLE products (tenant_id int NOT NULL, id int PRIMARY KEY, price int, status text);
		CREATE TABLE orders (tenant_id int, id int, customer_id int, PRIMARY KEY (tenant_id, id))`)
	env := map[string]string{"DATABASE_URL": db.URL, "RULES": writeRules(t, checkedHead+`
  - {name: user, table: users, delete: ["t:{tenant}:u:{id}"]}
  - {name: missing, table: user, delete: ["t:{tenant}:m:{id}"]}
  - {name: identity, table: products, delete: ["t:{tenant}:p:{id}"]}
  - {name: types, table: users, when: row.active == "yes", delete: ["t:{tenant}:a:{id}"]}
  - name: query
    table: users
    refresh:
      - {key: "t:{tenant}:q:{id}", query: SELECT nam FROM users WHERE tenant_id = :tenant AND id = :id, ttl: 1m}
      - {key: "t:{tenant}:v:{id}", query: "SELECT name, id FROM users WHERE tenant_id = :tenant AND id = :id", result: value, ttl: 1m}
      - {key: "t:{tenant}:d:{id}", query: "SELECT name, id AS name FROM users WHERE tenant_id = :tenant AND id = :id", ttl: 1m}
      - {key: "t:{tenant}:n:{id}", query: "SELECT :id AS x WHERE :tenant IS NULL", ttl: 1m}
  - name: lookup
    table: users
    through: SELECT customer FROM orders WHERE tenant_id = :tenant AND id = :id
    delete: ["t:{tenant}:c:{customer}"]
  - {name: orders, table: orders, delete: ["t:{tenant}:o:{id}"]}
`)}
	code, stdout, stderr := invoke(t.Context(), env, "check")
	require.Equal(t, 2, code, stderr)
	require.Empty(t, stdout)
	for _, want := range []string{
		`rule "missing": it does not exist`, `did you mean "public"."users"?`,
		`rule "identity": `, `ALTER TABLE "public"."products" REPLICA IDENTITY`, "CREATE UNIQUE INDEX",
		`rule "types": `,
		`rule "query": PostgreSQL refuses the query: column "nam" does not exist`,
		`rule "query": the query yields 2 columns, and one value is to be cached`,
		`rule "query": the query yields two columns of the name "name"`,
		`could not determine data type`, "say of which type the parameter is: CAST(:",
		`rule "lookup": PostgreSQL refuses the query: column "customer" does not exist`,
	} {
		require.Contains(t, stderr, want)
	}
	require.NotContains(t, stderr, `rule "orders"`)

	env["RULES"] = writeRules(t, checkedHead+"  - {name: user, table: users, when: row.active, delete: [\"t:{tenant}:u:{id}\"]}\n")
	code, stdout, stderr = invoke(t.Context(), env, "check")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "1 rules about 1 tables can be run, as the database is now")
}

func TestCheckSaysThatTheDatabaseIsAwayWithoutItsPassword(t *testing.T) {
	code, _, stderr := invoke(t.Context(), map[string]string{
		"RULES": writeRules(t, rules), "DATABASE_URL": "postgres://u:sesame@127.0.0.1:1/x",
	}, "check")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "connect to database")
	require.NotContains(t, stderr, "sesame")
}

func TestTestsOfRulesRunWithoutAServer(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	write("rules.yaml", rules)
	tests := write("rules_test.yaml", `
rules: rules.yaml
tests:
  - name: right
    change: {table: users, op: insert, new: {tenant_id: 7, id: 1}}
    expect: {keys: ["tenant:7:user:1"]}
  - name: wrong
    change: {table: users, op: insert, new: {tenant_id: 7, id: 1}}
    expect: {keys: ["tenant:8:user:1"]}
`)
	junit := filepath.Join(dir, "junit.xml")
	code, stdout, stderr := invoke(t.Context(), nil, "test", tests, "--junit", junit)
	require.Equal(t, 1, code, stderr)
	require.Contains(t, stdout, "tenant:8:user:1")
	report, err := os.ReadFile(junit)
	require.NoError(t, err)
	require.Contains(t, string(report), "<testsuite")

	code, stdout, stderr = invoke(t.Context(), nil, "test", tests, "--run", "^right$")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "1 passed")
	for _, args := range [][]string{{"--run", "("}, {tests, "--junit", junit}, {"--rules", "/nonexisting"}} {
		code, _, stderr = invoke(t.Context(), nil, append([]string{"test", tests}, args...)...)
		require.Equal(t, 2, code)
		require.NotEmpty(t, stderr)
	}
}

func TestKeysWritesCodeInBothLanguages(t *testing.T) {
	env := map[string]string{"RULES": writeRules(t, rules)}
	code, stdout, stderr := invoke(t.Context(), env, "keys", "--lang", "ts")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "export function user(")
	out := filepath.Join(t.TempDir(), "cachekeys")
	require.NoError(t, os.Mkdir(out, 0o700))
	code, stdout, stderr = invoke(t.Context(), env, "keys", "--lang", "go", "--out", filepath.Join(out, "keys.go"))
	require.Zero(t, code, stderr)
	require.Empty(t, stdout)
	text, err := os.ReadFile(filepath.Join(out, "keys.go"))
	require.NoError(t, err)
	require.True(t, strings.Contains(string(text), "package cachekeys\n"))
	code, _, stderr = invoke(t.Context(), env, "keys", "--lang", "cobol")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "go or ts")
}
