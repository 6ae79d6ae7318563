package mapping_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

var users = events.Table{Schema: "public", Name: "users"}

// values reads "7 a ~ ! ?": ~ is NULL, ! an unchanged TOAST value, ? absent, ” the empty text.
func values(s string) []events.Value {
	if s == "" {
		return nil
	}
	var out []events.Value
	for _, f := range strings.Split(s, " ") {
		switch f {
		case "~":
			out = append(out, events.Value{State: events.Null})
		case "!":
			out = append(out, events.Value{State: events.Unchanged})
		case "?":
			out = append(out, events.Value{})
		case "”":
			out = append(out, events.Text(""))
		default:
			out = append(out, events.Text(f))
		}
	}
	return out
}

// rows makes an event of users; columns in the replica identity end in *.
func rows(columns string, changes ...events.Change) *events.Event {
	e := &events.Event{Kind: events.KindRows, Source: "shop", Table: users, Changes: changes}
	for _, c := range strings.Fields(columns) {
		e.Columns = append(e.Columns, strings.TrimSuffix(c, "*"))
		e.Identity = append(e.Identity, strings.HasSuffix(c, "*"))
	}
	return e
}

func insert(row string) events.Change {
	return events.Change{Op: events.Insert, New: values(row)}
}

func update(old, row string) events.Change {
	return events.Change{Op: events.Update, Old: values(old), New: values(row)}
}

func remove(row string) events.Change {
	return events.Change{Op: events.Delete, Old: values(row)}
}

// shown writes a result as "key ..." and "sweep rule/tenant" or "sweep rule" for all tenants.
func shown(r *mapping.Result) []string {
	out := []string{}
	for _, k := range r.Keys {
		out = append(out, k.Key)
	}
	for _, s := range r.Sweeps {
		if s.All {
			out = append(out, "sweep "+s.Rule.Name)
		} else {
			out = append(out, "sweep "+s.Rule.Name+"/"+s.Tenant)
		}
	}
	if r.Whole {
		out = append(out, "whole")
	}
	slices.Sort(out)
	return out
}

func mapped(p *mapping.Program, e *events.Event) []string {
	var r mapping.Result
	p.Map(e, &r)
	return shown(&r)
}

func TestRowsBecomeKeys(t *testing.T) {
	const profile = "table: users\ndelete: ['t:{tenant}:u:{id}']"
	const all = "tenant_id* id* name"
	for _, c := range []struct {
		name, rule, columns string
		change              events.Change
		want                string
	}{
		{"insert", profile, all, insert("7 1 ann"), "t:7:u:1"},
		{"delete", profile, all, remove("7 1 ?"), "t:7:u:1"},
		{"update outside the identity", profile, all, update("", "7 1 ann"), "t:7:u:1"},
		{"a moved tenant invalidates both", profile, all, update("7 1 ?", "8 1 ann"), "t:7:u:1|t:8:u:1"},
		{"a changed key invalidates both", profile, all, update("7 1 ?", "7 2 ann"), "t:7:u:1|t:7:u:2"},
		{"values are escaped", profile, all, insert("a:b {c}* ann"), "t:a%3Ab:u:%7Bc%7D%2A"},
		{"an empty value is a value", profile, all, insert("” ” ann"), "t::u:"},
		{"a NULL makes no key", profile, all, insert("7 ~ ann"), ""},
		{"a row without a tenant has no keys", profile, all, insert("~ 1 ann"), ""},
		{"a NULL makes no key whatever the rest is", profile, all, remove("? ~ ?"), ""},
		{"a row that gets a tenant", profile, all, update("~ 1 ?", "7 1 ann"), "t:7:u:1"},
		{"an absent key widens within the tenant", profile, "tenant_id* id name", remove("7 ? ?"), "sweep r0/7"},
		{"an absent tenant widens to all", profile, "tenant_id id* name", remove("? 1 ?"), "sweep r0"},
		{"an old key outside the identity is unknown", profile, "tenant_id* id name", update("", "7 1 ann"), "sweep r0/7|t:7:u:1"},
		{"an old tenant outside the identity is unknown", profile, "tenant_id id* name", update("", "7 1 ann"), "sweep r0|t:7:u:1"},
		{"a column that was not published widens", profile, "tenant_id* name", insert("7 ann"), "sweep r0/7"},
		{"a tenant that was not published widens", profile, "id* name", insert("1 ann"), "sweep r0"},
		{"unchanged is taken from the old row", profile, "tenant_id* id*", update("7 1", "8 !"), "t:7:u:1|t:8:u:1"},
		{"unchanged and absent widens", profile, "tenant_id* id", update("7 ?", "8 !"), "sweep r0/7|sweep r0/8"},
		{"default for NULL", "table: users\ndelete: ['{tenant}:{name|none}']", all, insert("7 1 ~"), "7:none"},
		{"an empty text is not NULL", "table: users\ndelete: ['{tenant}:{name|none}']", all, insert("7 1 ”"), "7:"},
		{"a default does not stand for what is unknown", "table: users\ndelete: ['{tenant}:{name|none}']", all, remove("7 1 ?"), "sweep r0/7"},
		{"versions", "table: users\nversions: [v1, v2]\ndelete: ['{version}:{tenant}']", all, insert("7 1 x"), "v1:7|v2:7"},
		{"a hash tag", "table: users\ndelete: ['{{{tenant}}}:{id}']", all, insert("7 1 x"), "{7}:1"},
		{"an empty hash tag widens", "table: users\ndelete: ['{{{id}}}:{tenant}']", all, insert("7 ” x"), "sweep r0/7"},
		{"a long key widens", profile, all, insert("7 " + strings.Repeat("x", 4096) + " n"), "sweep r0/7"},
		{"a long tenant widens", profile, all, insert(strings.Repeat("x", 4096) + " 1 n"), "sweep r0/" + strings.Repeat("x", 4096)},
		{"global", "table: users\ntenant: global\ndelete: ['u:{id}', all]", all, insert("7 1 x"), "all|u:1"},
		{"global widens to all", "table: users\ntenant: global\ndelete: ['u:{name}']", all, remove("7 1 ?"), "sweep r0"},
		{"a tenant of its own", "table: users\ntenant: {column: name}\ndelete: ['u:{tenant}:{tenant_id}']", all, insert("7 1 x"), "u:x:7"},
		{"on", "table: users\non: [insert, delete]\ndelete: ['{tenant}']", all, update("", "7 1 x"), ""},
		{"columns touched", profile + "\ncolumns: [name]", "tenant_id* id* name*", update("7 1 a", "7 1 b"), "t:7:u:1"},
		{"columns untouched", profile + "\ncolumns: [name]", "tenant_id* id* name* age*", update("7 1 a 3", "7 1 a 4"), ""},
		{"columns of the key count", profile + "\ncolumns: [name]", "tenant_id* id* name*", update("7 1 a", "7 2 a"), "t:7:u:1|t:7:u:2"},
		{"the tenant counts", profile + "\ncolumns: [name]", "tenant_id* id* name*", update("7 1 a", "8 1 a"), "t:7:u:1|t:8:u:1"},
		{"to NULL is a change", profile + "\ncolumns: [name]", "tenant_id* id* name*", update("7 1 ”", "7 1 ~"), "t:7:u:1"},
		{"unknown old value counts as changed", profile + "\ncolumns: [name]", all, update("", "7 1 a"), "t:7:u:1"},
		{"unchanged TOAST is no change", profile + "\ncolumns: [name]", all, update("", "7 1 !"), ""},
		{"a value that is never known counts as changed", profile + "\ncolumns: [name]", all, update("7 1 ?", "7 1 ?"), "t:7:u:1"},
		{"columns do not matter to inserts", profile + "\ncolumns: [name]", all, insert("7 1 ~"), "t:7:u:1"},
		{"columns do not matter to deletes", profile + "\ncolumns: [name]", all, remove("7 1 ?"), "t:7:u:1"},
		{"a watched column that was not published counts", profile + "\ncolumns: [age]", all, update("", "7 1 !"), "t:7:u:1"},
		{"unknown operation", profile, all, events.Change{Op: 'x', New: values("7 1 a")}, "sweep r0"},
		{"a row that is too short", profile, all, insert("7 1"), "sweep r0"},
		{"a delete of nothing", profile, all, remove(""), "sweep r0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := []string{}
			if c.want != "" {
				want = strings.Split(c.want, "|")
			}
			require.Equal(t, want, mapped(compile(t, c.rule), rows(c.columns, c.change)))
		})
	}
}

func TestAnEventThatDoesNotSayWhatIdentifiesARowSweeps(t *testing.T) {
	e := rows("tenant_id* id*", update("", "7 1"))
	e.Identity = e.Identity[:1]
	require.Equal(t, []string{"sweep r0"}, mapped(compile(t, "table: users\ndelete: ['u:{tenant}:{id}']"), e))
}

func TestEventsWithoutRows(t *testing.T) {
	p := compile(t,
		"table: users\ndelete: ['a:{tenant}']",
		"table: users\non: [insert]\ndelete: ['b:{tenant}']",
		"table: other\ndelete: ['c:{tenant}']",
		"table: users_1\ndelete: ['d:{tenant}']")
	part := events.Table{Schema: "public", Name: "users_1"}
	for _, c := range []struct {
		name  string
		event events.Event
		want  []string
	}{
		{"heartbeat", events.Event{Kind: events.KindHeartbeat}, []string{}},
		{"epoch", events.Event{Kind: events.KindEpoch, Reason: "timeline"}, []string{"whole"}},
		{"sweep of everything", events.Event{Kind: events.KindSweep}, []string{"whole"}},
		{"sweep of a table looks at no operation", events.Event{Kind: events.KindSweep, Table: users}, []string{"sweep r0", "sweep r1"}},
		{"sweep of a table without rules", events.Event{Kind: events.KindSweep, Table: events.Table{Schema: "x", Name: "y"}}, []string{}},
		{"truncate", events.Event{Kind: events.KindTruncate, Table: users}, []string{"sweep r0"}},
		{"truncate of a partition", events.Event{Kind: events.KindTruncate, Table: users, Partition: part}, []string{"sweep r0", "sweep r3"}},
		{"a kind of a later version", events.Event{Kind: "vacuum"}, []string{"whole"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, mapped(p, &c.event))
		})
	}
}

func TestPartitionsMatchByBothNames(t *testing.T) {
	p := compile(t, "table: users\ndelete: ['a:{tenant}']", "table: sales.users_1\ndelete: ['b:{tenant}']")
	e := rows("tenant_id*", insert("7"))
	require.Equal(t, []string{"a:7"}, mapped(p, e))
	e.Partition = events.Table{Schema: "sales", Name: "users_1"}
	require.Equal(t, []string{"a:7", "b:7"}, mapped(p, e))
	e.Partition = users
	require.Equal(t, []string{"a:7"}, mapped(p, e))
}

func TestKeysComeOncePerRuleAndCache(t *testing.T) {
	p := compile(t,
		"table: users\ncache: [main, pages]\ndelete: ['list:{tenant}', 'u:{tenant}:{id}']",
		"table: users\ndelete: ['list:{tenant}']")
	var r mapping.Result
	p.Map(rows("tenant_id* id*", insert("7 1"), insert("7 2"), update("7 1", "7 1"), insert("a:b 1")), &r)
	p.Map(rows("tenant_id* id*", insert("7 2"), insert("7 3")), &r)
	var got []string
	for _, k := range r.Keys {
		got = append(got, fmt.Sprintf("%s %s %d %s", k.Rule.Name, k.Key, k.Cache, k.Tenant))
	}
	slices.Sort(got)
	want := []string{"r1 list:7 0 7", "r1 list:a%3Ab 0 a:b"}
	for _, c := range []string{"0", "1"} {
		want = append(want, "r0 list:7 "+c+" 7", "r0 list:a%3Ab "+c+" a:b",
			"r0 u:7:1 "+c+" 7", "r0 u:7:2 "+c+" 7", "r0 u:7:3 "+c+" 7", "r0 u:a%3Ab:1 "+c+" a:b")
	}
	slices.Sort(want)
	require.Equal(t, want, got)
}

func TestSweepsSayWhy(t *testing.T) {
	p := compile(t, "table: users\ndelete: ['{{{id}}}:{tenant}']")
	for _, c := range []struct {
		event *events.Event
		want  string
	}{
		{rows("tenant_id*", insert("7")), `column "id" was not published`},
		{rows("id*", insert("7")), `column "tenant_id" was not published`},
		{rows("tenant_id* id", remove("7 ?")), `column "id" is not in the replica identity`},
		{rows("tenant_id id*", remove("? 7")), `column "tenant_id" is not in the replica identity`},
		{rows("tenant_id* id", insert("7 ?")), `column "id" was not logged`},
		{rows("tenant_id* id", insert("7 !")), `column "id" is an unchanged TOAST value outside of the replica identity`},
		{rows("tenant_id* id", insert("7 ”")), "the key's hash tag would be empty"},
		{rows("tenant_id* id", insert("7 "+strings.Repeat("x", 4096))), "the key would be longer than 4096 bytes"},
		{rows("tenant_id* id", insert("7")), "the event is malformed"},
		{&events.Event{Kind: events.KindSweep, Table: users, Reason: "ALTER TABLE"}, "ALTER TABLE"},
	} {
		var out mapping.Result
		p.Map(c.event, &out)
		require.Len(t, out.Sweeps, 1)
		require.Equal(t, c.want, out.Sweeps[0].Cause)
	}
}

func TestSweepOfAllTenantsReplacesThoseOfOne(t *testing.T) {
	p := compile(t, "table: users\ndelete: ['u:{tenant}:{id}']", "table: users\ndelete: ['v:{tenant}:{id}']")
	var r mapping.Result
	p.Map(rows("tenant_id* id", remove("7 ?"), remove("7 ?"), remove("8 ?")), &r)
	require.Equal(t, []string{"sweep r0/7", "sweep r0/8", "sweep r1/7", "sweep r1/8"}, shown(&r))
	require.Equal(t, `column "id" is not in the replica identity`, r.Sweeps[0].Cause)
	p.Map(&events.Event{Kind: events.KindTruncate, Table: users}, &r)
	require.Equal(t, []string{"sweep r0", "sweep r1"}, shown(&r))
	require.Equal(t, "the table was truncated", r.Sweeps[0].Cause)
	p.Map(rows("tenant_id* id", remove("7 ?")), &r)
	require.Len(t, r.Sweeps, 2)
}

func TestResultIsEmptyAfterResetAndItsKeysStay(t *testing.T) {
	p := compile(t, "table: users\ndelete: ['u:{tenant}:{id}']")
	var r mapping.Result
	for round := range 200 {
		var changes []events.Change
		for i := range round {
			changes = append(changes, insert(fmt.Sprintf("%d %d", round, i%100)))
		}
		p.Map(rows("tenant_id* id*", changes...), &r)
		p.Map(rows("tenant_id* id", remove("7 ?")), &r)
		p.Map(&events.Event{Kind: events.KindEpoch, Reason: "x"}, &r)
		require.Len(t, r.Keys, min(round, 100))
		kept := slices.Clone(r.Keys)
		r.Reset()
		require.Empty(t, shown(&r))
		p.Map(rows("tenant_id* id*", insert("x y")), &r)
		for i, k := range kept {
			require.Equal(t, fmt.Sprintf("u:%d:%d", round, i), k.Key)
		}
		r.Reset()
	}
}

func TestEventsMayNameTheirColumnsInAnyOrder(t *testing.T) {
	p := compile(t, "table: users\ndelete: ['u:{tenant}:{id}']")
	for range 3 {
		require.Equal(t, []string{"u:7:1"}, mapped(p, rows("tenant_id* id*", insert("7 1"))))
		require.Equal(t, []string{"u:7:1"}, mapped(p, rows("id* x tenant_id*", insert("1 0 7"))))
		require.Equal(t, []string{"sweep r0/7", "u:7:1"}, mapped(p, rows("tenant_id* id", update("", "7 1"))))
		require.Equal(t, []string{"u:7:1"}, mapped(p, rows("tenant_id* id*", update("", "7 1"))))
	}
	for i := range 200 { // more lists than are remembered
		e := rows(fmt.Sprintf("c%d id* tenant_id*", i), insert("0 1 7"))
		require.Equal(t, []string{"u:7:1"}, mapped(p, e))
	}
}

func TestRulesThatDoNotMatchAllocateNothing(t *testing.T) {
	p := compile(t,
		"table: other\ndelete: ['a:{tenant}']",
		"table: users\non: [delete]\ndelete: ['b:{tenant}']",
		"table: users\ncolumns: [photo]\ndelete: ['c:{tenant}:{id}']",
		"table: users\ndelete: ['d:{tenant}:{nick}']")
	e := rows("tenant_id* id* photo nick*", update("", "7 1 ! ~"), update("", "7 2 ! ~"))
	var out mapping.Result
	p.Map(e, &out)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		out.Reset()
		p.Map(e, &out)
	}))
	require.Empty(t, shown(&out))
}

func TestManyGoroutinesMapByOneProgram(t *testing.T) {
	p := compile(t, "table: users\ndelete: ['u:{tenant}:{id}']")
	done := make(chan []string)
	for i := range 8 {
		go func() {
			var out mapping.Result
			for j := range 200 {
				p.Map(rows(fmt.Sprintf("tenant_id* c%d id*", (i+j)%5), insert(fmt.Sprintf("%d x %d", i, j))), &out)
			}
			done <- shown(&out)
		}()
	}
	for range 8 {
		require.Len(t, <-done, 200)
	}
}
