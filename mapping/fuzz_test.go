package mapping_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// FuzzCompile: whatever the file, Compile answers with a program or with problems that say where.
func FuzzCompile(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range append(files, "../rules.yaml") {
		src, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := mapping.Compile("rules.yaml", src, env)
		if err == nil {
			require.NotEmpty(t, p.Rules())
			require.NotEmpty(t, p.Tables())
			return
		}
		problems, ok := err.(mapping.Problems)
		require.True(t, ok)
		require.NotEmpty(t, problems)
		require.NotEmpty(t, problems.Pretty())
	})
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// twoRules compiles rules on two tables with any templates; nil where they are refused.
func twoRules(first, second string, global bool) *mapping.Program {
	src := head + "  - {name: a, table: users, cache: main, versions: [v1, v2], delete: [" + quoted(first) + ", \"{version}:{tenant}\"]}\n" +
		"  - {name: b, table: others, cache: main, delete: [" + quoted(second) + "]"
	if global {
		src += ", tenant: global"
	}
	p, err := mapping.Compile("rules.yaml", []byte(src+"}\n"), env)
	if err != nil {
		return nil
	}
	return p
}

// FuzzTenantsNeverMeet: no row of one tenant renders a key that a row of another renders, by any two rules that Compile
// lets pass; and the patterns of a rule for a tenant match that tenant's keys, and no other's.
func FuzzTenantsNeverMeet(f *testing.F) {
	f.Add("t:{tenant}:u:{x}", "t:{tenant}:o:{y|none}", "a:b", "c", "a", "b:c", false)
	f.Add("t:{tenant}x", "t:{tenant}", "a", "1", "ax", "1", false)
	f.Add("{{t:{x}}}:{tenant}", "t:{tenant}", "walfence-guard", "5", "5", "walfence-guard", false)
	f.Add("{version}:{tenant}:{x}", "v1:{y}", "a", "1", "a", "1", true)
	f.Add("{tenant} {x}", "{x} {tenant}", "\x00", "\xff\xfe", "%00", "%FF", false)
	f.Add("%3A{tenant}:", "{tenant}%3A:", "*", ">", "{x}", "[a]\\", false)
	f.Add("{{{tenant}}}:{x}", "a{tenant}-", "\u00a0", "\u0085", "%C2%A0", "é", false)
	f.Fuzz(func(t *testing.T, first, second, tenantA, valueA, tenantB, valueB string, global bool) {
		p := twoRules(first, second, global)
		if p == nil || tenantA == tenantB {
			return
		}
		keysA := keysOf(p, tenantA, valueA, valueB)
		keysB := keysOf(p, tenantB, valueB, valueA)
		for _, a := range keysA {
			requireOwnPatterns(t, a, tenantB)
			for _, b := range keysB {
				if !a.Rule.Global || !b.Rule.Global {
					require.NotEqual(t, a.Key, b.Key, "%q of %q and %q", a.Key, tenantA, tenantB)
				}
				if !a.Rule.Global && !b.Rule.Global {
					requireForeign(t, p, a)
				}
			}
		}
	})
}

// keysOf maps one row, inserted into both tables.
func keysOf(p *mapping.Program, tenant, x, y string) []mapping.Key {
	var out mapping.Result
	for _, table := range p.Tables() {
		e := rows("tenant_id x y", events.Change{
			Op: events.Insert, New: []events.Value{events.Text(tenant), events.Text(x), events.Text(y)},
		})
		e.Table = table.Table
		p.Map(e, &out)
	}
	return out.Keys
}

func matches(patterns []events.Pattern, key string) bool {
	for _, p := range patterns {
		if p.Match(key) {
			return true
		}
	}
	return false
}

// requireOwnPatterns: a key matches its rule's patterns for its tenant and for all, and not those for another tenant.
func requireOwnPatterns(t *testing.T, k mapping.Key, other string) {
	t.Helper()
	require.True(t, matches(k.Rule.Patterns(k.Tenant, false), k.Key), "%q", k.Key)
	require.True(t, matches(k.Rule.Patterns("", true), k.Key), "%q", k.Key)
	if !k.Rule.Global {
		require.False(t, matches(k.Rule.Patterns(other, false), k.Key), "%q matches for %q", k.Key, other)
	}
}

// requireForeign: no rule's pattern for another tenant matches the key.
func requireForeign(t *testing.T, p *mapping.Program, k mapping.Key) {
	t.Helper()
	for _, r := range p.Rules() {
		for _, other := range []string{k.Tenant + "x", "x" + k.Tenant, k.Tenant + ":", "%" + k.Tenant, ""} {
			if !r.Global && other != k.Tenant {
				require.False(t, matches(r.Patterns(other, false), k.Key), "%q matches %s for %q", k.Key, r.Name, other)
			}
		}
	}
}

// FuzzQuery: whatever a query's text, Compile answers; and what passes holds its parameters outside of strings only.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{
		"SELECT a FROM t WHERE id = :id AND t = :tenant", "SELECT ':x', E'\\'', $$;$$ FROM t -- ;\n WHERE t = :tenant", "WITH a AS (SELECT 1) SELECT x FROM a, (b), ((c JOIN d) )",
		"SELECT (", "SELECT ))) FROM", "WITH", "SELECT DISTINCT ON", "SELECT a FROM", "SELECT a FROM x.", "SELECT :\"", "select /* /* */", "$a$", "SELECT ,", "SELECT a,", "SELECT 1 AS",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		src := head + "  - {name: r, table: t, cache: main, through: " + quoted(query) + ", delete: ['{tenant}']}\n" +
			"  - {name: s, table: t, cache: main, refresh: [{key: 't:{tenant}:{id}', ttl: 1m, query: " + quoted(query) + "}]}\n"
		p, err := mapping.Compile("rules.yaml", []byte(src), env)
		if err != nil {
			return
		}
		q := p.Rules()[0].Through().Query
		require.NotEmpty(t, q.Columns)
		for i := range q.Params {
			require.Contains(t, q.SQL, "$"+string(rune('1'+i)))
		}
		require.NotEmpty(t, q.Batch(make([]string, len(q.Params)), 5))
	})
}

// FuzzWhen: whatever a condition, it is refused or evaluated, and is never known where a column that all of it needs is not.
func FuzzWhen(f *testing.F) {
	files, _ := filepath.Glob("testdata/when-*.yaml")
	require.NotEmpty(f, files)
	for _, w := range []string{
		`row.status != "draft"`, `row.n > 5 and not (tenant == "7" or op in ["insert"])`, `changed("n", "status")`, `row?.n ?? 5 > 3`, `row["n"] == nil ? true : false`,
		`fromJSON(row.status).a.b == 1`, `-row.n ** 2 > 1e300`, `row.status matches "(a+)+$"`, `len(row.status[1:3]) > row.n % 0`, `[row.n, row.status][1] == "x"`, `true`, `nil`,
	} {
		f.Add(w, "draft", "5")
	}
	f.Fuzz(func(t *testing.T, when, status, n string) {
		src := head + "  - {name: r, table: users, cache: main, when: " + quoted(when) + ", delete: ['{tenant}:{id}']}\n"
		p, err := mapping.Compile("rules.yaml", []byte(src), env)
		if err != nil {
			return
		}
		change := events.Change{Op: events.Update, Old: values("7 1 a 1"), New: []events.Value{events.Text("7"), events.Text("1"), events.Text(status), events.Text(n)}}
		e := typed(rows("tenant_id* id* status* n*", change), "int8 int8 text numeric")
		first := mapped(p, e)
		require.Equal(t, first, mapped(p, e))
		require.NotEmpty(t, p.Explain(e).String())
		p.CheckTypes(map[events.Table]map[string]uint32{users: {"n": 1700, "status": 25}})
	})
}

// FuzzPurgesNeverMeet: no two tenants purge the same thing.
func FuzzPurgesNeverMeet(f *testing.F) {
	f.Add("http://h/{tenant}/{id}", "{tenant}:{id}", "a/b", "c", "a", "b/c")
	f.Add("http://h/x{tenant}-{id}", "{tenant} {id}", "a-b", "c", "a", "b-c")
	f.Add("http://h/?t={tenant}&i={id}#", "{{{tenant}}}{id}", "a&i=b", "", "a", "b&i=")
	f.Fuzz(func(t *testing.T, url, key, tenantA, idA, tenantB, idB string) {
		src := "version: 1\nsource: s\ntenant: {column: tenant_id}\ncaches: {m: {redis: redis://h}}\npurge_hosts: [h]\nrules:\n  - {name: r, table: users, purge: [" +
			"{url: " + quoted(url) + ", all: none}, {url: 'http://h/', key: " + quoted(key) + ", headers: {K: '{keys}'}, all: none}]}\n"
		p, err := mapping.Compile("rules.yaml", []byte(src), nil)
		if err != nil || tenantA == tenantB {
			return
		}
		var a, b mapping.Result
		p.Map(rows("tenant_id id", events.Change{Op: events.Insert, New: []events.Value{events.Text(tenantA), events.Text(idA)}}), &a)
		p.Map(rows("tenant_id id", events.Change{Op: events.Insert, New: []events.Value{events.Text(tenantB), events.Text(idB)}}), &b)
		for i := range min(len(a.Purges), len(b.Purges)) {
			if a.Purges[i].Request != nil {
				require.NotEqual(t, a.Purges[i].Request.URL, b.Purges[i].Request.URL)
			} else {
				require.NotEqual(t, a.Purges[i].Key, b.Purges[i].Key)
			}
		}
	})
}
