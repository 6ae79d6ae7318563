package mapping_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

const head = `version: 1
source: shop
tenant: {column: tenant_id}
caches:
  main: {redis: "${REDIS_URL}"}
  pages: {redis: "redis-cluster://h1,h2", guard: 3s}
rules:
`

// compile compiles rules behind a usual head; each rule's cache is main unless it says another.
func compile(t testing.TB, rules ...string) *mapping.Program {
	t.Helper()
	var b strings.Builder
	b.WriteString(head)
	for i, r := range rules {
		if !strings.Contains(r, "cache:") {
			r += "\ncache: main"
		}
		if !strings.Contains(r, "name:") {
			r += fmt.Sprintf("\nname: r%d", i)
		}
		b.WriteString("  - " + strings.ReplaceAll(strings.TrimSpace(r), "\n", "\n    ") + "\n")
	}
	p, err := mapping.Compile("rules.yaml", []byte(b.String()), env)
	require.NoError(t, err)
	return p
}

func TestExampleRulesCompile(t *testing.T) {
	src, err := os.ReadFile("../rules.yaml")
	require.NoError(t, err)
	p, err := mapping.Compile("rules.yaml", src, env)
	require.NoError(t, err)
	require.Equal(t, "shop", p.Source())
	require.Len(t, p.Hash(), 64)
	require.NotNil(t, p.Rule("settings"))
	require.True(t, p.Rule("settings").Global)
	require.Nil(t, p.Rule("nobody"))
}

func TestCachesKeepTheOrderOfTheFileAndNeverPrintTheirURL(t *testing.T) {
	p := compile(t, "table: users\ndelete: ['u:{tenant}']")
	caches := p.Caches()
	require.Len(t, caches, 2)
	require.Equal(t, "redis://:hunter2@127.0.0.1:6379/0", caches[0].URL)
	require.Equal(t, 10*time.Second, caches[0].Guard)
	require.Equal(t, 3*time.Second, caches[1].Guard)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s %q", caches, caches, caches, caches, caches[0]), "hunter2")
}

func TestVariablesFallBackToTheirDefault(t *testing.T) {
	for text, want := range map[string]string{
		"${REDIS_URL}":                        "redis://:hunter2@127.0.0.1:6379/0",
		"${NOBODY:-redis://h}/0":              "redis://h/0",
		"${EMPTY:-redis://h}":                 "redis://h",
		"redis://h/${EMPTY}":                  "redis://h/",
		"redis://a$b@h${NOBODY:-1}${EMPTY:-}": "redis://a$b@h1",
	} {
		src := strings.Replace(head, "${REDIS_URL}", text, 1) + "  - {name: r, table: t, cache: main, delete: ['{tenant}']}\n"
		p, err := mapping.Compile("rules.yaml", []byte(src), env)
		require.NoError(t, err, text)
		require.Equal(t, want, p.Caches()[0].URL)
	}
}

func TestWithoutAnEnvironmentEveryVariableIsMissing(t *testing.T) {
	_, err := mapping.Compile("rules.yaml", []byte(head+"  - {name: r, table: t, cache: main, delete: ['{tenant}']}\n"), nil)
	require.EqualError(t, err, "rules.yaml:5:18: the environment variable REDIS_URL is not set")
}

func TestTableSpellings(t *testing.T) {
	for spelling, want := range map[string]events.Table{
		`users`:                   {Schema: "public", Name: "users"},
		`sales.order_items`:       {Schema: "sales", Name: "order_items"},
		`'"Sales"."Order Items"'`: {Schema: "Sales", Name: "Order Items"},
		`'"Order"'`:               {Schema: "public", Name: "Order"},
		`'"a""b"."c.d"'`:          {Schema: `a"b`, Name: "c.d"},
		`'sales."2024"'`:          {Schema: "sales", Name: "2024"},
		`größe`:                   {Schema: "public", Name: "größe"},
		`_t$1`:                    {Schema: "public", Name: "_t$1"},
	} {
		p := compile(t, "table: "+spelling+"\ndelete: ['u:{tenant}']")
		require.Equal(t, want, p.Tables()[0].Table, spelling)
	}
}

func TestTablesSayWhatRulesNeed(t *testing.T) {
	p := compile(t,
		"table: users\ncolumns: [name, id]\ndelete: ['u:{tenant}:{id}:{group|none}']",
		"table: '\"users\"'\non: [insert]\ncolumns: [photo]\ndelete: ['{tenant}:{slug}']",
		"table: settings\ntenant: global\ndelete: [settings]",
	)
	tables := p.Tables()
	require.Len(t, tables, 2)
	require.Equal(t, "public.users", tables[0].Table.String())
	require.Equal(t, []string{"group", "id", "name", "photo", "slug", "tenant_id"}, tables[0].Columns)
	require.Equal(t, []string{"group", "id", "tenant_id"}, tables[0].Old)
	require.Equal(t, []string{"name"}, tables[0].Compared)
	require.Len(t, tables[0].Rules, 2)
	require.Empty(t, tables[1].Columns)
}

func TestRuleProblemsPointAtWhatTheyConcern(t *testing.T) {
	p := compile(t, "name: profile\ntable: users\ndelete: ['u:{tenant}:{Order Id}']")
	r := p.Rule("profile")
	require.Equal(t, `rules.yaml:8:11: rule "profile": no`, r.Problem("no", "").Error())
	require.Equal(t, `rules.yaml:9:12: rule "profile": no table`, r.TableProblem("no table", "").Error())
	require.Equal(t, "rules.yaml:10:26: rule \"profile\": no column\n"+
		"   10 |     delete: ['u:{tenant}:{Order Id}']\n"+
		"      |                          ^\n"+
		"  hint: add it\n", r.ColumnProblem("Order Id", "no column", "add it").Pretty())
	require.Equal(t, 3, r.ColumnProblem("tenant_id", "", "").Line)
	require.Equal(t, 8, r.ColumnProblem("unnamed", "", "").Line)
}

func TestPatternsAreThoseOfEveryVersion(t *testing.T) {
	p := compile(t,
		"table: t\nversions: [v1, v2]\ndelete: ['{version}:t:{tenant}:{id}', 'x:{tenant}']",
		"table: s\ntenant: global\ndelete: ['s:{id}']")
	require.Equal(t, []events.Pattern{{"v1:t:a%3Ab:", ""}, {"v2:t:a%3Ab:", ""}, {"x:a%3Ab"}}, p.Rules()[0].Patterns("a:b", false))
	require.Equal(t, []events.Pattern{{"v1:t:", ":", ""}, {"v2:t:", ":", ""}, {"x:", ""}}, p.Rules()[0].Patterns("", true))
	require.Equal(t, []events.Pattern{{"s:", ""}}, p.Rules()[1].Patterns("a", false))
}

func TestFilesAreBounded(t *testing.T) {
	_, err := mapping.Compile("rules.yaml", make([]byte, 4<<20+1), env)
	require.EqualError(t, err, "rules.yaml: the file has 4194305 bytes, more than 4194304")

	many := "version: 1\n" + strings.Repeat("? [x]\n: y\n", 5000)
	var problems mapping.Problems
	_, err = mapping.Compile("rules.yaml", []byte(many), env)
	require.ErrorAs(t, err, &problems)
	require.LessOrEqual(t, len(problems), 1000)

	_, err = mapping.Compile("rules.yaml", []byte(head+"  - {name: r, table: t, cache: main, delete: ['{tenant}'], when: '"+strings.Repeat("true and ", 120_000)+"true'}\n"), env)
	require.ErrorContains(t, err, `"when" has 1080004 bytes, more than 4096`)

	deep := head + "  - name: " + strings.Repeat("[", 20_000)
	_, err = mapping.Compile("rules.yaml", []byte(deep), env)
	require.ErrorContains(t, err, "not YAML: exceeded max depth")
}

func TestTooManyTemplatesAreRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "  - {name: r, table: t, cache: main, delete: [x")
	for i := range 10_001 {
		fmt.Fprintf(&b, ", 'k%d-{tenant}'", i)
	}
	_, err := mapping.Compile("rules.yaml", []byte(strings.Replace(b.String(), "[x, ", "[", 1)+"]}\n"), env)
	require.EqualError(t, err, "rules.yaml:1:1: the file has 10001 templates (one per version), more than 10000")
}
