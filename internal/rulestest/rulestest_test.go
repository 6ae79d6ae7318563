package rulestest_test

import (
	"errors"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/rulestest"
	"github.com/walfence/walfence/mapping"
)

const rules = `version: 1
source: shop
tenant: {column: tenant_id}
caches: {main: {redis: "${REDIS_URL}"}}
scopes: {catalog: "t:{tenant}:catalog"}
purge_hosts: [varnish]
rules:
  - {name: user, table: users, when: row.age > 17, delete: ["t:{tenant}:user:{id}"]}
  - {name: shelf, table: products, bump: [catalog]}
  - {name: product, table: products, refresh: [{key: "t:{tenant}:p:{id}", ttl: 1m, query: SELECT a FROM p WHERE t = :tenant AND id = :id}]}
  - {name: page, table: products, on: [delete], purge: [{url: "http://varnish/{tenant}/{id}", all: none}]}
  - {name: items, table: items, through: SELECT customer_id FROM products WHERE id = :id, delete: ["t:{tenant}:c:{customer_id}"]}
`

// run runs tests of the rules above.
func run(t *testing.T, tests string, opt rulestest.Options) (*rulestest.Report, error) {
	t.Helper()
	files := map[string]string{"dir/rules_test.yaml": tests, "dir/rules.yaml": rules}
	opt.Read = func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		return nil, fs.ErrNotExist
	}
	return rulestest.Run("dir/rules_test.yaml", opt)
}

func text(t *testing.T, r *rulestest.Report) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, r.Write(&b))
	return b.String()
}

func TestTheRepositorysRulesPassTheirTests(t *testing.T) {
	r, err := rulestest.Run("../../rules_test.yaml", rulestest.Options{})
	require.NoError(t, err)
	require.Zero(t, r.Failed(), text(t, r))
	require.NotEmpty(t, r.Results)
}

func TestWhatDiffersIsShownLineByLine(t *testing.T) {
	r, err := run(t, `
tests:
  - name: passes
    change: {table: users, op: insert, new: {tenant_id: 7, id: 1, age: 18}}
    expect: {keys: ["t:7:user:1"]}
  - name: expects what does not happen
    changes:
      - {table: users, op: insert, new: {tenant_id: 7, id: 1, age: 17}}
      - {table: products, op: delete, old: {tenant_id: 7, id: 5}}
    expect:
      keys: ["t:7:user:1"]
      scopes: ["t:7:catalog"]
      sweeps: [{rule: user, tenant: "7"}]
  - name: widens
    change: {table: users, op: delete, old: {tenant_id: 7, id: 1}, identity: [tenant_id]}
`, rulestest.Options{})
	require.NoError(t, err)
	require.Equal(t, 2, r.Failed())
	require.Equal(t, `ok    passes
FAIL  expects what does not happen
      dir/rules_test.yaml:6
      - keys main: t:7:user:1
      + purges: PURGE http://varnish/7/5  (by rule page)
      + refreshes main: t:7:p:5  (by rule product)
      - sweeps: rule user of tenant "7"
FAIL  widens
      dir/rules_test.yaml:14
      + sweeps: rule user of tenant "7"  (column "id" is not in the replica identity)
2 of 3 failed (- expected and missing, + not expected)
`, text(t, r))
}

func TestEveryKindOfOutcomeCanBeExpected(t *testing.T) {
	r, err := run(t, `
types: {users: {age: text}}
tests:
  - name: product
    change: {table: products, op: delete, old: {tenant_id: 7, id: 5}}
    expect:
      scopes: ["t:7:catalog"]
      refreshes: {main: ["t:7:p:5"]}
      purges: ["PURGE http://varnish/7/5"]
  - name: lookup
    change: {table: items, op: insert, new: {tenant_id: 7, id: 5}}
    found: {items: [{customer_id: 3}, {customer_id: null}]}
    expect: {keys: ["t:7:c:3"]}
  - name: lookup of nothing
    change: {table: items, op: insert, new: {tenant_id: 7, id: 5}}
    found: {items: []}
    expect: {sweeps: [{rule: items, tenant: "7"}]}
  - name: types
    change: {table: users, op: insert, new: {tenant_id: 7, id: 1, age: 17}}
    expect: {keys: ["t:7:user:1"]}
  - name: toast
    change: {table: users, op: update, old: {tenant_id: 7, id: 1, age: !absent }, new: {age: !unchanged }, identity: [tenant_id, id]}
    expect: {keys: ["t:7:user:1"]}
  - name: truncate
    change: {table: users, op: truncate}
    expect: {sweeps: [{rule: user}]}
`, rulestest.Options{})
	require.NoError(t, err)
	require.Zero(t, r.Failed(), text(t, r))
}

func TestTestsThatCannotBeRunSayWhy(t *testing.T) {
	for tests, want := range map[string]string{
		"change: {table: users, op: insert, old: {id: 1}}":                                               `change 1: a change by insert has no "old" row`,
		"change: {table: users, op: update, new: {id: 1}}":                                               `change 1: a change by update needs the "old" row`,
		"change: {table: users, op: remove}":                                                             `change 1: unknown operation "remove": write insert, update, delete or truncate`,
		"change: {table: Users, op: truncate}":                                                           `change 1: table "Users": the table's name has a capital outside of quotes, which SQL reads as lower case`,
		"change: {table: users, op: insert, new: {id: [1]}}":                                             `change 1: column "id": a value is PostgreSQL's text: write a list or a mapping in quotes`,
		"change: {table: users, op: update, old: {id: 1}, new: {id: x}}":                                 `change 1: column "id": its values look like different types: say which under "types"`,
		"change: {table: items, op: insert, new: {tenant_id: 7, id: 5}}":                                 `rule items looks up [customer_id] by [5]: say what it finds in "found"`,
		"change: {table: items, op: insert, new: {tenant_id: 7, id: 5}}\n    found: {items: [{a: 1}]}":   `rule items: a row that is found lacks the column "customer_id"`,
		"change: {table: items, op: insert, new: {tenant_id: 7, id: 5}}\n    found: {user: []}":          `"found" names "user", which is no rule that looks anything up`,
		"change: {table: items, op: truncate}\n    expect: {keys: {pages: [x]}, sweeps: [{rule: itms}]}": "unknown cache \"pages\"\nunknown rule \"itms\"",
	} {
		r, err := run(t, "tests:\n  - name: x\n    "+tests, rulestest.Options{})
		require.NoError(t, err)
		require.Equal(t, []string{"cannot be run: " + want}, r.Results[0].Failure)
	}
}

func TestFilesThatCannotBeReadAreErrors(t *testing.T) {
	for tests, want := range map[string]string{
		"":            "read dir/rules_test.yaml: the file is empty",
		"tests: []":   "read dir/rules_test.yaml: it has no tests",
		"test: []":    "test",
		"tests: [{}]": `read dir/rules_test.yaml:1: the test has no "name"`,
		"tests:\n- {name: x, change: {table: t, op: truncate}}\n- {name: x, change: {table: t, op: truncate}}": `read dir/rules_test.yaml:3: another test has the name "x"`,
		"tests: [{name: x}]": `read dir/rules_test.yaml:1: the test has no "change"`,
		"rules: gone.yaml\ntests: [{name: x, change: {table: t, op: truncate}}]": "read rules: file does not exist",
		"tests: [{name: x, expects: {}}]":                                        "expects",
	} {
		_, err := run(t, tests, rulestest.Options{})
		require.ErrorContains(t, err, want, tests)
	}
	_, err := rulestest.Run("rules.yaml", rulestest.Options{Rules: "rules.yaml", Read: func(name string) ([]byte, error) {
		return []byte("tests: [{name: x, change: {table: t, op: truncate}}]"), nil
	}})
	var problems mapping.Problems
	require.True(t, errors.As(err, &problems), err)
}

func TestRunSelectsByName(t *testing.T) {
	tests := `
tests:
  - {name: one, change: {table: users, op: truncate}}
  - {name: two, change: {table: other, op: truncate}}
`
	r, err := run(t, tests, rulestest.Options{Run: regexp.MustCompile("^tw")})
	require.NoError(t, err)
	require.Equal(t, "ok    two\n1 passed\n", text(t, r))
	r, err = run(t, tests, rulestest.Options{Run: regexp.MustCompile("three")})
	require.NoError(t, err)
	require.Equal(t, "no test has such a name\n", text(t, r))
}

func TestJUnitNamesEveryTestAndWhatDiffers(t *testing.T) {
	r, err := run(t, "tests:\n  - {name: a < b, change: {table: users, op: truncate}}\n  - {name: c, change: {table: other, op: truncate}}\n", rulestest.Options{})
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, r.WriteJUnit(&b))
	got := regexp.MustCompile(`time="[0-9.]+"`).ReplaceAllString(b.String(), `time=""`)
	require.Equal(t, `<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="dir/rules_test.yaml" tests="2" failures="1" time="">
  <testcase classname="dir/rules.yaml" name="a &lt; b" file="dir/rules_test.yaml" line="2" time="">
    <failure message="+ sweeps: rule user of all tenants  (the table was truncated)">+ sweeps: rule user of all tenants  (the table was truncated)</failure>
  </testcase>
  <testcase classname="dir/rules.yaml" name="c" file="dir/rules_test.yaml" line="3" time=""></testcase>
</testsuite>
`, got)
}

func TestChangesAreReadFromJSON(t *testing.T) {
	c, err := rulestest.ParseChange([]byte(`{"table": "users", "op": "update", "old": {"tenant_id": 7, "id": 1, "age": null}, "new": {"age": 20}}`))
	require.NoError(t, err)
	e, err := c.Event("shop")
	require.NoError(t, err)
	require.Equal(t, []string{"age", "id", "tenant_id"}, e.Columns)
	require.Equal(t, []uint32{20, 20, 20}, e.Types)
	require.Equal(t, "20", e.Changes[0].New[0].Text)
	_, err = rulestest.ParseChange([]byte(`{"tabel": "users"}`))
	require.ErrorContains(t, err, "tabel")
}
