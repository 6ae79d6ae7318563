package mapping_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/mapping"
)

func names(rules []*mapping.Rule) string {
	var out []string
	for _, r := range rules {
		out = append(out, r.Name)
	}
	return strings.Join(out, " ")
}

func TestRulesDifferIfTheyInvalidateOtherwise(t *testing.T) {
	const old = `
caches: {main: {redis: redis://h}, pages: {redis: redis://p}}
scopes: {catalog: "{tenant}:catalog"}
purge_hosts: [h]
defaults: {cache: main}
rules:
  - {name: a, table: t, columns: [x], when: row.x > 5, delete: ["{tenant}:a:{id}"]}
  - {name: b, table: t, through: SELECT x FROM t WHERE id = :id, delete: ["{tenant}:b:{x}"]}
  - {name: c, table: t, bump: [catalog], refresh: [{key: "{tenant}:c:{id}", query: SELECT 1 WHERE 1 = :tenant, ttl: 1m}]}
  - {name: d, table: t, purge: [{url: "http://h/{tenant}", all: {url: "http://h/"}}]}
`
	for change, want := range map[[2]string][2]string{
		{"", ""}:                                     {"", ""},
		{"name: a,", "name: z,"}:                     {"", ""},
		{"ttl: 1m", "ttl: 2m"}:                       {"", ""},
		{"  - {name: a", "\n\n  - {name: a"}:         {"", ""},
		{"columns: [x]", "columns: [x, y]"}:          {"a", "a"},
		{"row.x > 5", "row.x > 6"}:                   {"a", "a"},
		{"{tenant}:a:{id}", "{tenant}:a:{id|0}"}:     {"a", "a"},
		{"name: a, table: t", "name: a, table: u"}:   {"a", "a"},
		{"name: a,", "name: a, on: [insert],"}:       {"a", "a"},
		{"WHERE id = :id", "WHERE id > :id"}:         {"b", "b"},
		{"name: b,", "name: b, on_empty: ignore,"}:   {"b", "b"},
		{"{tenant}:catalog", "{tenant}:catalogue"}:   {"c", "c"},
		{"SELECT 1 WHERE", "SELECT 2 WHERE"}:         {"c", "c"},
		{"http://h/{tenant}", "http://h/{tenant}/x"}: {"d", "d"},
		{"name: d,", "name: d, cache: pages,"}:       {"d", "d"},
		{"redis://h", "redis://i"}:                   {"a b c d", "a b c d"},
		{"  - {name: d", "  - {name: e, table: t, delete: [\"{tenant}:e\"]}\n  - {name: d"}: {"", "e"},
	} {
		gone, added := mapping.Differ(file(t, old), file(t, strings.Replace(old, change[0], change[1], 1)))
		require.Equal(t, want, [2]string{names(gone), names(added)}, "%q", change)
	}
}

func TestRefreshesOfTablesWithoutARuleAreWarnedOf(t *testing.T) {
	p := file(t, oneCache+`
rules:
  - name: r
    table: users
    refresh: [{key: "t:{tenant}", ttl: 1m, query: SELECT a FROM users JOIN teams USING (team) WHERE t = :tenant}]
`)
	require.Equal(t, "rules.yaml:9:51: rule \"r\": public.teams is read, but no rule is about it: what changes there is not noticed", p.Warnings().Error())
}
