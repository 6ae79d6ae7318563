package mapping_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

const explained = oneCache + `
scopes: {catalog: "t:{tenant}:catalog"}
purge_hosts: [varnish]
rules:
  - {name: profile, table: users, columns: [name], delete: ["t:{tenant}:user:{id}", "t:{tenant}:nick:{nick}"]}
  - {name: live, table: users, when: row.status != "draft", bump: [catalog]}
  - {name: gone, table: users, on: [delete, truncate], delete: ["t:{tenant}:gone:{id}"]}
  - {name: others, table: others, delete: ["t:{tenant}:other:{id}"]}
  - name: fresh
    table: users
    refresh: [{key: "t:{tenant}:fresh:{id}", ttl: 1m, query: "SELECT name\n FROM users WHERE tenant_id = :tenant AND id = :id"}]
  - {name: found, table: users, through: SELECT a FROM others WHERE id = :nick AND t = :tenant, delete: ["t:{tenant}:a:{a}"]}
  - {name: page, table: users, purge: [{url: "http://varnish/{tenant}/{id}", all: none}, {url: "http://varnish/", key: "{tenant}:{id}", headers: {K: "{keys}"}, all: none}]}
`

func TestExplainSaysWhatFollowsAndWhyNothingDoes(t *testing.T) {
	p := file(t, explained)
	e := typed(rows("tenant_id* id* nick* status* name", update("7 1 ~ draft ?", "7 1 ~ draft b")), "int8 int8 text text text")
	require.Equal(t, `rows public.users
  rule profile
    update
      delete t:7:user:1 in main
      note: "t:{tenant}:nick:{nick}" makes no key: nick is NULL
  rule live
    update: nothing: its condition does not hold
      note: when does not hold before the change: row.status is "draft"
      note: when does not hold after the change: row.status is "draft"
  rule gone
    update: nothing: it is not about update: on: [delete, truncate]
  rule others: nothing: it is about public.others
  rule fresh
    update
      refresh t:7:fresh:1 in main by SELECT name FROM users WHERE tenant_id = $1 AND id = $2 with $1 = "7", $2 = "1"
  rule found
    update: nothing: no key follows from the row
      note: nothing is looked up: nick is NULL
  rule page
    update
      purge PURGE http://varnish/7/1
      purge 7:1
`, p.Explain(e).String())
}

func TestExplainSaysWhatWasNotCertain(t *testing.T) {
	p := file(t, explained)
	x := p.Explain(rows("tenant_id* id* nick* status name*", remove("7 1 ann ? bob"), update("", "7 1 ann draft bob")))
	require.Equal(t, []string{"when may hold before the change: row.status is not known (their types are not known)"}, x.Rules[1].Changes[0].Notes)
	require.Equal(t, []mapping.Effect{{Action: "bump", Cache: "main", Tenant: "7", Key: "t:7:catalog", Scope: "catalog"}}, x.Rules[1].Changes[0].Effects)
	require.Equal(t, "the update changed none of id, name, nick, tenant_id", x.Rules[0].Changes[1].Nothing)
	require.Equal(t, []string{"ann", "7"}, x.Rules[5].Changes[0].Effects[0].Params)

	x = p.Explain(rows("tenant_id* nick* status* name", insert("7 ann x b")))
	require.Equal(t, `sweep tenant "7": column "id" was not published`, x.Rules[4].Changes[0].Effects[0].String())
}

func TestExplainOfEventsWithoutRows(t *testing.T) {
	p := file(t, explained)
	x := p.Explain(&events.Event{Kind: events.KindTruncate, Table: users})
	require.Equal(t, "sweep all tenants: the table was truncated", x.Rules[2].Effects[0].String())
	require.Equal(t, "it is about public.others", x.Rules[3].Nothing)
	x = p.Explain(&events.Event{Kind: events.KindEpoch, Reason: "timeline"})
	require.Equal(t, "timeline", x.Whole)
	require.Contains(t, x.String(), "epoch: everything is invalid: timeline\n  rule profile\n    sweep all tenants: timeline")
	x = p.Explain(&events.Event{Kind: events.KindHeartbeat})
	require.Equal(t, "a heartbeat changes nothing", x.Rules[0].Nothing)
	x = p.Explain(rows("a", insert("1 2")))
	require.Equal(t, "the event is malformed", x.Rules[0].Effects[0].Cause)
}

func TestExplanationsAreJSON(t *testing.T) {
	p := file(t, explained)
	x := p.Explain(rows("tenant_id* id* nick* status* name", insert("7 1 a draft b")))
	text, err := json.Marshal(x.Rules[0])
	require.NoError(t, err)
	require.JSONEq(t, `{"rule":"profile","line":9,"changes":[{"op":"insert","effects":[
		{"action":"delete","cache":"main","tenant":"7","key":"t:7:user:1"},{"action":"delete","cache":"main","tenant":"7","key":"t:7:nick:a"}]}]}`, string(text))
}

// What is explained is what is done: by any rows, the effects are those of Map.
func TestExplainAgreesWithMap(t *testing.T) {
	p := file(t, explained)
	rapid.Check(t, func(t *rapid.T) {
		cell := rapid.SampledFrom([]string{"7", "8", "draft", "~", "!", "?"})
		row := func(name string) string {
			return strings.Join(rapid.SliceOfN(cell, 5, 5).Draw(t, name), " ")
		}
		change := rapid.SampledFrom([]events.Change{insert(row("new")), update(row("old"), row("new")), update("", row("new")), remove(row("old"))}).Draw(t, "change")
		columns := "tenant_id id nick status name"
		if rapid.Bool().Draw(t, "identity") {
			columns = "tenant_id* id* nick* status name"
		}
		e := typed(rows(columns, change), "int8 int8 text text text")
		r := mapTo(p, e)
		want := len(r.Keys) + len(r.Refreshes) + len(r.Lookups) + len(r.Purges) + len(r.Sweeps)
		got := 0
		for _, rule := range p.Explain(e).Rules {
			for _, c := range rule.Changes {
				got += len(c.Effects)
				require.Equal(t, c.Nothing == "", len(c.Effects) > 0)
			}
		}
		require.Equal(t, want, got)
	})
}
