package mapping_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// file compiles a whole file, behind version, source and the tenant's column.
func file(t testing.TB, text string) *mapping.Program {
	t.Helper()
	p, err := mapping.Compile("rules.yaml", []byte("version: 1\nsource: shop\ntenant: {column: tenant_id}\n"+text), env)
	require.NoError(t, err)
	return p
}

const oneCache = "caches: {main: {redis: redis://h}}\n"

func mapTo(p *mapping.Program, e *events.Event) *mapping.Result {
	var r mapping.Result
	p.Map(e, &r)
	return &r
}

func TestBumpRemovesTheKeyOfTheScopesGeneration(t *testing.T) {
	p := file(t, oneCache+`
scopes: {catalog: "t:{tenant}:catalog", shelf: "t:{tenant}:shelf:{category|none}"}
rules:
  - {name: r, table: users, bump: [catalog, shelf]}
`)
	r := mapTo(p, rows("tenant_id* category*", update("7 a", "7 ~"), insert("7 a")))
	var got []string
	for _, k := range r.Keys {
		got = append(got, k.Scope+" "+k.Key)
	}
	require.ElementsMatch(t, []string{"catalog t:7:catalog", "shelf t:7:shelf:a", "shelf t:7:shelf:none"}, got)
	require.Equal(t, mapping.Needs{Bumps: true}, p.Needs())
	require.Len(t, p.Rules()[0].Patterns("7", false), 2)
}

func TestRefreshesCarryWhatTheirQueryNeeds(t *testing.T) {
	p := file(t, oneCache+`
defaults: {refresh: {ttl: 10m, jitter: 10%}}
rules:
  - name: product
    table: users
    versions: [v2, v3]
    refresh:
      - key: "t:{tenant}:{version}:product:{id}"
        query: SELECT id, price FROM products WHERE id = :id::bigint AND tenant_id = :tenant AND v = :version
        empty_ttl: 60s
        result: rows
        keep: true
`)
	r := mapTo(p, rows("tenant_id* id*", update("7 a:b", "8 a:b"), insert("7 a:b"), insert("7 ~")))
	require.Empty(t, r.Keys)
	require.Len(t, r.Refreshes, 4)
	first := r.Refreshes[0]
	require.Equal(t, "t:8:v2:product:a%3Ab", first.Key)
	require.Equal(t, []string{"a:b", "8", "v2"}, first.Params)
	require.Equal(t, "SELECT id, price FROM products WHERE id = $1::bigint AND tenant_id = $2 AND v = $3", first.Spec.Query.SQL)
	require.Equal(t, []string{"id", "tenant", "version"}, first.Spec.Query.Params)
	require.Equal(t, []events.Table{{Schema: "public", Name: "products"}}, first.Spec.Query.Tables)
	require.Equal(t, mapping.ShapeRows, first.Spec.Shape)
	require.Equal(t, 10*time.Minute, first.Spec.TTL)
	require.Equal(t, time.Minute, first.Spec.EmptyTTL)
	require.InDelta(t, 0.1, first.Spec.Jitter, 1e-9)
	require.True(t, first.Spec.Keep)
	require.Equal(t, mapping.Needs{Refreshes: true}, p.Needs())

	r = mapTo(p, rows("tenant_id* id", remove("7 ?")))
	require.Equal(t, []string{"sweep product/7"}, shown(r))
	require.Empty(t, r.Refreshes)
}

const lookups = oneCache + `
rules:
  - name: items
    table: users
    through: SELECT customer_id, o.status AS state FROM orders o WHERE tenant_id = :tenant AND id = :order_id
    cap: 2
    delete: ["t:{tenant}:c:{customer_id}:{state|none}:{kind}"]
  - {name: orders, table: orders, delete: ["t:{tenant}:c:{customer_id}:{state}:{kind}"]}
`

func TestLookupsLeadFromRowsToKeys(t *testing.T) {
	p := file(t, lookups)
	require.Equal(t, []string{"kind", "order_id", "tenant_id"}, p.Tables()[0].Columns)
	require.Equal(t, mapping.Needs{Lookups: true}, p.Needs())
	r := mapTo(p, rows("tenant_id* order_id* kind*", update("7 1 a", "8 2 a"), insert("7 1 a"), insert("7 ~ a"), insert("~ 1 a")))
	require.Empty(t, shown(r))
	var asked []string
	for _, l := range r.Lookups {
		tenant, known := l.Tenant()
		asked = append(asked, fmt.Sprint(l.Params, tenant, known))
	}
	require.Equal(t, []string{"[8 2]8true", "[7 1]7true"}, asked)

	var out mapping.Result
	r.Lookups[0].Found([][]events.Value{values("5 ~"), values("6 x")}, &out)
	r.Lookups[1].Found(nil, &out)
	require.Equal(t, []string{"sweep items/7", "t:8:c:5:none:a", "t:8:c:6:x:a"}, shown(&out))
	require.Equal(t, "8", out.Keys[0].Tenant)
	require.Equal(t, "the lookup found no row", out.Sweeps[0].Cause)

	out.Reset()
	r.Lookups[0].Found([][]events.Value{values("1 a"), values("2 a"), values("3 a")}, &out)
	r.Lookups[1].Found([][]events.Value{values("1")}, &out)
	require.Equal(t, []string{"sweep items/7", "sweep items/8"}, shown(&out))

	out.Reset()
	r.Lookups[0].Found([][]events.Value{values("~ a")}, &out)
	require.Empty(t, shown(&out), "a NULL makes no key")
	r.Lookups[0].Widen("the database is away", &out)
	require.Equal(t, "the database is away", out.Sweeps[0].Cause)
}

func TestLookupsOfWhatIsNotKnownWiden(t *testing.T) {
	p := file(t, lookups)
	require.Equal(t, []string{"sweep items/7"}, shown(mapTo(p, rows("tenant_id* order_id kind", remove("7 ? ?")))))
	require.Equal(t, []string{"sweep items"}, shown(mapTo(p, rows("tenant_id order_id* kind", remove("? 1 ?")))))
	require.Equal(t, []string{"sweep items"}, shown(mapTo(p, rows("order_id* kind", insert("1 a")))))

	r := mapTo(p, rows("tenant_id* order_id* kind", remove("7 1 ?")))
	require.Empty(t, shown(r), "the kind is needed only once rows are found")
	var out mapping.Result
	r.Lookups[0].Found([][]events.Value{values("5 x")}, &out)
	require.Equal(t, []string{"sweep items/7"}, shown(&out))
	require.Equal(t, `column "kind" is not in the replica identity`, out.Sweeps[0].Cause)
}

func TestLookupsMayFindTheTenant(t *testing.T) {
	p := file(t, oneCache+`
rules:
  - name: tags
    table: users
    on_empty: ignore
    through: WITH x AS (SELECT * FROM products) SELECT x.tenant_id, id FROM x WHERE id = :product_id
    delete: ["t:{tenant}:product:{id}:tags"]
  - {name: products, table: products, delete: ["t:{tenant}:product:{id}:tags"]}
`)
	require.Equal(t, []string{"product_id"}, p.Tables()[0].Columns)
	r := mapTo(p, rows("product_id* id*", insert("5 1")))
	require.Len(t, r.Lookups, 1)
	_, known := r.Lookups[0].Tenant()
	require.False(t, known)
	var out mapping.Result
	r.Lookups[0].Found([][]events.Value{values("7 5"), values("8 5"), values("~ 5")}, &out)
	require.Equal(t, []string{"t:7:product:5:tags", "t:8:product:5:tags"}, shown(&out))
	out.Reset()
	r.Lookups[0].Found(nil, &out)
	require.Empty(t, shown(&out))
	r.Lookups[0].Widen("away", &out)
	require.Equal(t, []string{"sweep tags"}, shown(&out))

	own := rows("tenant_id* product_id", remove("7 ?"))
	require.Equal(t, []string{"sweep tags"}, shown(mapTo(p, own)), "a column of that name in the changed table is not the tenant")
}

func TestOneKeyCanBeDeletedBumpedAndRefreshedByOneRule(t *testing.T) {
	p := file(t, oneCache+`
scopes: {s: "t:{tenant}"}
rules:
  - {name: r, table: users, delete: ["t:{tenant}"], bump: [s], refresh: [{key: "t:{tenant}", ttl: 1m, query: SELECT 1 WHERE t = :tenant}]}
`)
	r := mapTo(p, rows("tenant_id*", insert("7"), insert("7")))
	require.Len(t, r.Keys, 2)
	require.Equal(t, []string{"", "s"}, []string{r.Keys[0].Scope, r.Keys[1].Scope})
	require.Len(t, r.Refreshes, 1)
}

func TestLookupsOfManyRowsRunAsOneQuery(t *testing.T) {
	q := file(t, lookups).Rules()[0].Through().Query
	require.Equal(t, []string{"customer_id", "state"}, q.Columns)
	require.Equal(t, "SELECT walfence_sets.walfence_set, walfence_found.* FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS walfence_sets(p1, p2, walfence_set)"+
		" CROSS JOIN LATERAL (SELECT * FROM (SELECT customer_id, o.status AS state FROM orders o WHERE tenant_id = walfence_sets.p1 AND id = walfence_sets.p2\n) AS walfence_query LIMIT 3) AS walfence_found",
		q.Batch([]string{"text", "bigint"}, 2))
}

const purges = oneCache + `
purge_hosts: [varnish, cdn.example.com]
rules:
  - name: page
    table: users
    repeat: [5s, 500ms]
    purge:
      - url: "http://varnish:6081/{tenant}/p/{id}"
        headers: {X-Tenant: "{tenant}"}
        tenant: {url: "http://varnish:6081/{tenant}/", method: BAN}
        all: {url: "http://varnish:6081/", method: BAN}
      - url: https://cdn.example.com/purge
        method: POST
        key: "t:{tenant}:p:{id|none}"
        batch: 2
        separator: ", "
        headers: {Surrogate-Key: "{keys}", Key: "x${NOBODY:-1}"}
        json: {tags: "{keys}", also: ["all: {keys}", 1, true]}
        all: none
`

func TestPurgesAreRequests(t *testing.T) {
	p := file(t, purges)
	require.Equal(t, mapping.Needs{Purges: true, Repeats: true}, p.Needs())
	require.Equal(t, []time.Duration{500 * time.Millisecond, 5 * time.Second}, p.Rules()[0].Repeat)
	r := mapTo(p, rows("tenant_id* id*", insert("a/b ../c?d"), insert("a/b ../c?d"), insert("7 ~"), insert("~ 1")))
	require.Len(t, r.Purges, 3)
	one := r.Purges[0]
	require.Equal(t, "http://varnish:6081/a%2Fb/p/%2E%2E%2Fc%3Fd", one.Request.URL)
	require.Equal(t, "PURGE", one.Request.Method)
	require.Equal(t, "a/b", one.Request.Header.Get("X-Tenant"))
	require.Equal(t, "a/b", one.Tenant)
	require.Nil(t, one.Request.Body)

	batch := r.Purges[1].Spec
	require.Equal(t, "t:a/b:p:../c%3Fd", r.Purges[1].Key)
	require.Equal(t, "t:7:p:none", r.Purges[2].Key)
	requests := batch.Batch([]string{"t:1:p:1", "t:1:p:2", "t:1:p:3"})
	require.Len(t, requests, 2)
	require.Equal(t, "t:1:p:1, t:1:p:2", requests[0].Header.Get("Surrogate-Key"))
	require.Equal(t, "x1", requests[0].Header.Get("Key"))
	require.JSONEq(t, `{"tags": ["t:1:p:1", "t:1:p:2"], "also": ["all: t:1:p:1, t:1:p:2", 1, true]}`, string(requests[0].Body))
	require.JSONEq(t, `{"tags": ["t:1:p:3"], "also": ["all: t:1:p:3", 1, true]}`, string(requests[1].Body))
}

func TestPurgesWidenToTheirTenantOrAll(t *testing.T) {
	p := file(t, purges)
	require.Equal(t, []string{"sweep page/7"}, shown(mapTo(p, rows("tenant_id* id", remove("7 ?")))))
	require.Equal(t, []string{"sweep page"}, shown(mapTo(p, rows("id*", insert("7")))))
	require.Empty(t, p.Rules()[0].Patterns("7", false))
	require.Empty(t, shown(mapTo(p, rows("tenant_id* id", remove("~ ?")))), "a row without a tenant")

	tenant := p.Rules()[0].Purges("a/b", false)
	require.Len(t, tenant, 2)
	require.Equal(t, "http://varnish:6081/a%2Fb/", tenant[0].Request.URL)
	require.Equal(t, "BAN", tenant[0].Request.Method)
	require.False(t, tenant[0].All)
	require.Nil(t, tenant[1].Request, "nothing can purge it")
	require.True(t, tenant[1].All)
	require.Equal(t, "http://varnish:6081/", p.Rules()[0].Purges("", true)[0].Request.URL)
}

func TestPurgesNeverCallWhereCloudsKeepCredentials(t *testing.T) {
	for addr, want := range map[string]bool{
		"169.254.169.254": true, "::ffff:169.254.169.254": true, "fd00:ec2::254": true, "fe80::1": true, "0.0.0.0": true, "::": true,
		"100.100.100.200": true, "224.0.0.1": true, "255.255.255.255": true, "10.0.0.1": false, "127.0.0.1": false, "1.1.1.1": false,
	} {
		require.Equal(t, want, mapping.ForbiddenAddress(netip.MustParseAddr(addr)), addr)
	}
}

func TestDefaultsAreWhatARuleMaySetAndARuleWins(t *testing.T) {
	p := file(t, `
caches: {main: {redis: redis://h}, pages: {redis: redis://p}}
defaults: {cache: pages, on: [insert], versions: [v1], repeat: [1s], when: op == "insert"}
rules:
  - {name: a, table: users, delete: ["{version}:{tenant}", "{tenant}"]}
  - {name: b, table: users, delete: ["b:{tenant}"], cache: [main, pages], on: [update], repeat: [2s], when: op == "update"}
  - {name: c, table: users, delete: ["{version}:c:{tenant}"], versions: [v2], on: [delete]}
`)
	require.Equal(t, []int{1}, p.Rules()[0].Caches)
	require.Equal(t, []int{0, 1}, p.Rules()[1].Caches)
	require.Equal(t, []time.Duration{2 * time.Second}, p.Rules()[1].Repeat)
	require.Equal(t, []string{"7", "v1:7"}, mapped(p, rows("tenant_id*", insert("7"))))
	require.Equal(t, []string{"b:7", "b:7"}, mapped(p, rows("tenant_id*", update("", "7"))))
	require.Equal(t, "v2:c:7", p.Rules()[2].Patterns("7", false)[0][0])
}

func TestQueriesKeepWhatIsNotAParameter(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT ':a', E'\\':b', \":c\", $$:d$$, $x$ $$ :e $x$, a::int -- :f\n FROM t /* :g /* :h */ */ WHERE id = :id AND t = :tenant;": "SELECT ':a', E'\\':b', \":c\", $$:d$$, $x$ $$ :e $x$, a::int -- :f\n FROM t /* :g /* :h */ */ WHERE id = $1 AND t = $2",
		"select a[1 : 2] from f(x := :id) where :id = :tenant and :tenant":                                                              "select a[1 : 2] from f(x := $1) where $1 = $2 and $2",
		"SELECT 'it''s :x', t.delete FROM t WHERE id=:id and t=:tenant  ;  -- done":                                                     "SELECT 'it''s :x', t.delete FROM t WHERE id=$1 and t=$2  ",
	} {
		p := file(t, oneCache+"rules:\n  - {name: r, table: t, refresh: [{key: 't:{tenant}:{id}', ttl: 1m, query: "+quoted(query)+"}]}\n")
		require.Equal(t, want, p.Rules()[0].Refreshes()[0].Query.SQL)
	}
}

func TestTablesOfQueries(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT a FROM t": "public.t",
		"SELECT a FROM s.t, u AS x, only v JOIN (w JOIN \"X\".y ON true) ON true LEFT JOIN LATERAL f(1) ON true": "X.y public.u public.v public.w s.t",
		"WITH a(x) AS (SELECT 1 FROM t), b AS (SELECT * FROM a) SELECT x FROM a, b, c":                           "public.c public.t",
		"SELECT extract(year FROM d), substring(a FROM 2), trim(both from b) AS t FROM t":                        "public.t",
		"SELECT a FROM t WHERE a IS DISTINCT FROM b AND EXISTS (SELECT FROM u WHERE x IN (SELECT y FROM Z))":     "public.t public.u public.z",
		"SELECT (SELECT b FROM u) AS b FROM (SELECT a FROM t) x ORDER BY a, b":                                   "public.t public.u",
		"SELECT a FROM t UNION SELECT a FROM u, v":                                                               "public.t public.u public.v",
		"SELECT a FROM unnest(ARRAY[1, 2]) a, pg_class, information_schema.tables, generate_series(1, 2)":        "",
		"SELECT a FROM ((t CROSS JOIN u) JOIN v USING (id))":                                                     "public.t public.u public.v",
	} {
		p, err := mapping.Compile("r", []byte("version: 1\nsource: s\ntenant: global\n"+oneCache+"rules:\n  - {name: r, table: t, refresh: [{key: 'x:{id}', ttl: 1m, query: "+quoted(query)+"}]}\n"), env)
		require.NoError(t, err)
		var got []string
		for _, table := range p.Rules()[0].Refreshes()[0].Query.Tables {
			got = append(got, table.String())
		}
		slices.Sort(got)
		require.Equal(t, want, strings.Join(got, " "), query)
	}
}

func TestColumnsOfLookups(t *testing.T) {
	for selected, want := range map[string]string{
		"a":                                      "a",
		"DISTINCT ON (b, (c)) t.a, s.t.\"B c\"":  "a,B c",
		"count(*) AS n, coalesce(a, b) as \"N\"": "n,N",
		"a IS DISTINCT FROM b AS c, ARRAY[1,2] AS d": "c,d",
		"(SELECT x FROM y) AS z":                     "z",
		"ALL a, A.B":                                 "a,b",
	} {
		p := file(t, oneCache+"rules:\n  - {name: r, table: y, through: "+quoted("SELECT "+selected+" FROM y WHERE t = :tenant")+", delete: ['{tenant}']}\n")
		require.Equal(t, want, strings.Join(p.Rules()[0].Through().Query.Columns, ","), selected)
	}
}
