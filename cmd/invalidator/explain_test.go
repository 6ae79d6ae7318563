package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/pkg/events"
)

func TestExplainReadsAChangeHoweverItIsGiven(t *testing.T) {
	env := map[string]string{"RULES": writeRules(t, rules)}
	change := `{"table": "users", "op": "update", "old": {"tenant_id": 7, "id": 1}, "new": {"id": 2}}`
	event := (&events.Event{
		Version: 1, Kind: events.KindRows, Source: "shop", Table: events.Table{Schema: "public", Name: "users"}, Time: time.Now(),
		Columns: []string{"id", "tenant_id"}, Identity: []bool{true, true},
		Changes: []events.Change{{Op: events.Insert, New: []events.Value{events.Text("2"), events.Text("7")}}},
	}).AppendBody(nil)
	for _, args := range [][]string{
		{change},
		{writeRules(t, change)},
		{"--table", "users", "--op", "update", "--old", `{"tenant_id": 7, "id": 1}`, "--new", "{id: 2}"},
		{string(event)},
		{`{"stream":"CHANGES","message":` + string(event) + "}"},
	} {
		code, stdout, stderr := invoke(t.Context(), env, append([]string{"explain"}, args...)...)
		require.Zero(t, code, stderr)
		require.Contains(t, stdout, "delete tenant:7:user:2 in main", args)
		require.Contains(t, stdout, "rule settings: nothing: it is about public.settings")
	}
	code, stdout, stderr := invoke(t.Context(), env, "explain", change, "--json")
	require.Zero(t, code, stderr)
	require.True(t, json.Valid([]byte(stdout)), stdout)
	for _, args := range [][]string{
		{}, {change, "--last", "2"}, {"/nonexisting"}, {"{"}, {"--table", "users", "--op", "upsert"}, {`{"kind": 1}`},
	} {
		code, _, stderr := invoke(t.Context(), env, append([]string{"explain"}, args...)...)
		require.Equal(t, 2, code, "%v: %s", args, stderr)
	}
}

func TestExplainShowsTheNewestEventsOfTheStream(t *testing.T) {
	n := setUp(t)
	n.publish(t, 1, "7", "1")
	n.publish(t, 2, "7", "2")
	_, err := n.js.Publish(t.Context(), "changes.other.public.users", []byte("{}"))
	require.NoError(t, err)
	heartbeat := events.Event{Version: 1, Kind: events.KindHeartbeat, Source: "shop", Time: time.Now()}
	_, err = n.js.Publish(t.Context(), events.SourceSubject("shop"), heartbeat.AppendBody(nil))
	require.NoError(t, err)
	n.publish(t, 3, "7", "3")

	code, stdout, stderr := invoke(t.Context(), n.env(), "explain", "--last", "2")
	require.Zero(t, code, stderr)
	require.NotContains(t, stdout, "tenant:7:user:1")
	require.Less(t, strings.Index(stdout, "tenant:7:user:2"), strings.Index(stdout, "tenant:7:user:3"))
	code, stdout, stderr = invoke(t.Context(), n.env(), "explain", "--last", "50")
	require.Zero(t, code, stderr)
	require.Equal(t, 3, strings.Count(stdout, "xid 7 public.users"))
}

func TestDiffShowsWhatNewRulesInvalidateMoreAndLess(t *testing.T) {
	n := setUp(t)
	old := writeRules(t, rules)
	next := writeRules(t, strings.ReplaceAll(rules, `"tenant:{tenant}:user:{id}"]`, `"tenant:{tenant}:user:{id}:v2"]`)+`
  - {name: names, table: users, delete: ["tenant:{tenant}:name:{name}"]}
  - {name: orders, table: orders, delete: ["tenant:{tenant}:order:{id}"]}
`)
	code, stdout, stderr := invoke(t.Context(), n.env(), "diff", old, next)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "0 changes in 0 events\n")
	n.publish(t, 1, "7", "1")
	n.publish(t, 2, "7", "2")
	code, stdout, stderr = invoke(t.Context(), n.env(), "diff", old, next, "--since", "10m")
	require.Zero(t, code, stderr)
	require.Equal(t, `2 changes in 2 events
rule orders: unknown: public.orders was not published
rule names: unknown: users.name was not published, in 2 events
rule user: 2 more, 2 less
  + delete tenant:7:user:1:v2 in main
  + delete tenant:7:user:2:v2 in main
  - delete tenant:7:user:1 in main
  - delete tenant:7:user:2 in main
`, stdout)
	code, stdout, stderr = invoke(t.Context(), n.env(), "diff", old, old)
	require.Zero(t, code, stderr)
	require.Equal(t, "2 changes in 2 events\nno difference in what is known\n", stdout)
}
