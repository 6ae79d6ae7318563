package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// typed gives the columns of an event types, by PostgreSQL's names.
func typed(e *events.Event, names string) *events.Event {
	oids := map[string]uint32{
		"bool": 16, "int8": 20, "int4": 23, "text": 25, "float8": 701, "numeric": 1700, "bpchar": 1042, "domain": 16500, "jsonb": 3802, "timestamptz": 1184,
	}
	for _, name := range strings.Fields(names) {
		e.Types = append(e.Types, oids[name])
	}
	return e
}

func TestConditionsHoldForTheOldOrTheNewRowOrAreUnknown(t *testing.T) {
	const columns, types = "tenant_id* id* status* price* live* note", "int8 int8 text numeric bool text"
	for _, c := range []struct {
		when   string
		change events.Change
		want   bool
	}{
		{`row.status != "draft"`, insert("7 1 draft 5 true ~"), false},
		{`row.status != "draft"`, insert("7 1 live 5 true ~"), true},
		{`row.status != "draft"`, update("7 1 live 5 true ~", "7 1 draft 5 true ~"), true},
		{`row.status != "draft"`, update("7 1 draft 5 true ~", "7 1 live 5 true ~"), true},
		{`row.status != "draft"`, update("7 1 draft 5 true ~", "7 1 draft 6 true ~"), false},
		{`row.status != "draft"`, update("", "7 1 draft 6 true ~"), false},
		{`row.status != "draft"`, remove("7 1 draft 6 true ?"), false},
		{`row.status != "draft"`, remove("7 1 ? 6 true ?"), true},
		{`row.status != "draft"`, insert("7 1 ~ 5 true ~"), true},
		{`row.status == "live"`, insert("7 1 ~ 5 true ~"), false},
		{`row.status == nil`, insert("7 1 ~ 5 true ~"), true},
		{`row.status == nil`, insert("7 1 ” 5 true ~"), false},
		{`row.status in ["live", "sold"]`, insert("7 1 sold 5 true ~"), true},
		{`row.status in ["live", "sold"]`, insert("7 1 draft 5 true ~"), false},
		{`row.price > 10`, insert("7 1 x 9.99 true ~"), false},
		{`row.price > 10`, insert("7 1 x 100 true ~"), true},
		{`row.price > 10`, insert("7 1 x ~ true ~"), true},
		{`row.price > 10`, insert("7 1 x NaN true ~"), true},
		{`row.price > 10`, insert("7 1 x -Infinity true ~"), false},
		{`row.price == 12345678901234.5`, insert("7 1 x 12345678901234.6 true ~"), false},
		{`row.price == 12345678901234.5`, insert("7 1 x 12345678901234.50001 true ~"), true},
		{`row.price > 9007199254740992`, insert("7 1 x 9007199254740993 true ~"), true}, // one float64 for both
		{`row.id >= 10`, insert("7 9 x 1 true ~"), false},
		{`row.id == 9007199254740993`, insert("7 9007199254740992 x 1 true ~"), false},
		{`row.live`, insert("7 1 x 1 true ~"), true},
		{`row.live`, insert("7 1 x 1 false ~"), false},
		{`row.live`, insert("7 1 x 1 ~ ~"), false},
		{`not row.live`, insert("7 1 x 1 true ~"), false},
		{`not row.live`, insert("7 1 x 1 ~ ~"), true},
		{`op == "insert"`, insert("7 1 x 1 true ~"), true},
		{`op == "insert"`, update("", "7 1 x 1 true ~"), false},
		{`op == "delete"`, remove("7 1 x 1 true ?"), true},
		{`op == "delete" and row.status == "x"`, insert("7 1 x 1 true ~"), false},
		{`tenant == "7"`, insert("7 1 x 1 true ~"), true},
		{`tenant in ["8", "9"]`, insert("7 1 x 1 true ~"), false},
		{`tenant == "7"`, update("7 1 x 1 true ?", "8 1 x 1 true ~"), true},
		{`changed("price")`, update("7 1 x 1 true ?", "7 1 x 2 true ~"), true},
		{`changed("price")`, update("7 1 x 1 true ?", "7 1 y 1 true ~"), false},
		{`changed("price", "status")`, update("7 1 x 1 true ?", "7 1 y 1 true ~"), true},
		{`changed("price")`, insert("7 1 x 1 true ~"), true},
		{`changed("note")`, update("7 1 x 1 true ?", "7 1 x 1 true b"), true},
		{`not changed("note")`, update("7 1 x 1 true ?", "7 1 x 1 true b"), true},
		{`changed("note")`, update("7 1 x 1 true ?", "7 1 x 1 true !"), false},
		{`changed("note") and row.live`, update("7 1 x 1 false ?", "7 1 x 1 false b"), false},
		{`changed("gone")`, update("7 1 x 1 false ?", "7 1 x 1 false b"), true},
		{`row.gone == 1`, insert("7 1 x 1 true ~"), true},
		{`row.gone == 1 and row.live`, insert("7 1 x 1 false ~"), false},
		{`row.live or row.gone == 1`, insert("7 1 x 1 false ~"), true},
		{`row.live and (row.note == "a" or row.price > 1)`, update("", "7 1 x 1 true !"), true},
		{`lower(row.status) startsWith "dr"`, insert("7 1 DRAFT 1 true ~"), true},
		{`row.status matches "^a+$"`, insert("7 1 b 1 true ~"), false},
		{`len(row.status) > 3`, insert("7 1 abc 1 true ~"), false},
		{`(row.live ? row.price : 0) > 5`, insert("7 1 abc 9 false ~"), false},
		{`row["status"] == "abc"`, insert("7 1 abd 9 false ~"), false},
		{`fromJSON(row.note).kind == "a"`, insert(`7 1 x 9 false {"kind":"b"}`), false},
		{`fromJSON(row.note).kind == "a"`, insert(`7 1 x 9 false {broken`), true},
		{`row.price == "5"`, insert("7 1 x 6 true ~"), true}, // the types do not fit: unknown
		{`row.id % 0 > 1`, insert("7 1 x 6 true ~"), true},
	} {
		t.Run(c.when+" "+c.change.Op.String(), func(t *testing.T) {
			p := compile(t, "table: users\nwhen: '"+c.when+"'\ndelete: ['{tenant}:{id}']")
			got := mapped(p, typed(rows(columns, c.change), types))
			require.Equal(t, c.want, len(got) > 0, "%v", got)
		})
	}
}

func TestConditionsAreUnknownWithoutTypes(t *testing.T) {
	p := compile(t, "table: users\nwhen: row.id == 5\ndelete: ['{tenant}:{id}']")
	require.Equal(t, []string{"7:6"}, mapped(p, rows("tenant_id* id*", insert("7 6"))))
	require.Empty(t, mapped(p, typed(rows("tenant_id* id*", insert("7 6")), "int8 int8")))
	require.Equal(t, []string{"7:6"}, mapped(p, typed(rows("tenant_id* id*", insert("7 6")), "int8 text")), "5 is no text")
	require.Equal(t, []string{"7:6"}, mapped(p, typed(rows("tenant_id* id*", insert("7 6")), "int8 domain")))
}

func TestTrailingSpacesOfPaddedTextMeanNothing(t *testing.T) {
	p := compile(t, "table: users\nwhen: row.code == 'ab'\ndelete: ['{tenant}']")
	e := typed(rows("tenant_id* code*", insert("7 x")), "int8 bpchar")
	e.Changes[0].New[1].Text = "ab   "
	require.Equal(t, []string{"7"}, mapped(p, e))
}

// What decides alone decides: a clause is unknown only if its unknown parts could change it.
func TestUnknownPartsMatterOnlyWhereTheyCan(t *testing.T) {
	words := map[string]string{"yes": "1 == 1", "no": "1 == 2", "unknown": "row.gone == 1"}
	values := []string{"yes", "no", "unknown"}
	rapid.Check(t, func(t *rapid.T) {
		var build func(depth int) (string, string)
		build = func(depth int) (string, string) {
			kind := rapid.IntRange(0, 3).Draw(t, "kind")
			if depth == 0 || kind == 0 {
				v := rapid.SampledFrom(values).Draw(t, "value")
				return words[v], v
			}
			a, x := build(depth - 1)
			if kind == 1 {
				return "not (" + a + ")", map[string]string{"yes": "no", "no": "yes", "unknown": "unknown"}[x]
			}
			b, y := build(depth - 1)
			decides, other, word := "no", "yes", " and "
			if kind == 2 {
				decides, other, word = "yes", "no", " or "
			}
			switch {
			case x == decides || y == decides:
				return "(" + a + word + b + ")", decides
			case x == other && y == other:
				return "(" + a + word + b + ")", other
			}
			return "(" + a + word + b + ")", "unknown"
		}
		when, want := build(4)
		src := head + "  - {name: r, table: users, cache: main, when: '" + when + "', delete: ['{tenant}']}\n"
		p, err := mapping.Compile("rules.yaml", []byte(src), env)
		require.NoError(t, err)
		require.Equal(t, want != "no", len(mapped(p, typed(rows("tenant_id*", insert("7")), "text"))) > 0, when)
	})
}

func TestColumnsOfConditionsAreNeededAndCount(t *testing.T) {
	p := compile(t, "table: users\ncolumns: [name]\nwhen: row.status != 'draft' and changed(\"price\")\ndelete: ['{tenant}:{id}']")
	table := p.Tables()[0]
	require.Equal(t, []string{"id", "name", "price", "status", "tenant_id"}, table.Columns)
	require.Equal(t, []string{"id", "tenant_id"}, table.Old)
	require.Equal(t, []string{"name", "price", "status"}, table.Compared)
	require.True(t, table.Typed)
	require.False(t, compile(t, "table: users\ndelete: ['{tenant}']").Tables()[0].Typed)

	const columns, types = "tenant_id* id* name* status* price*", "int8 int8 text text int8"
	require.Empty(t, mapped(p, typed(rows(columns, update("7 1 a x 1", "7 1 a x 1")), types)))
	require.NotEmpty(t, mapped(p, typed(rows(columns, update("7 1 a x 1", "7 1 a x 2")), types)))
}

func TestConditionsThatDoNotHoldAllocateNothing(t *testing.T) {
	p := compile(t, "table: users\nwhen: row.status != 'draft' and row.price > 5\ndelete: ['{tenant}:{id}']")
	e := typed(rows("tenant_id* id* status* price*", update("7 1 draft 1", "7 1 draft 1"), update("", "7 2 x 2")), "int8 int8 text numeric")
	var out mapping.Result
	p.Map(e, &out)
	require.Empty(t, shown(&out))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		out.Reset()
		p.Map(e, &out)
	}))
}

func TestTypesOfConditionsAreCheckedAgainstTheCatalog(t *testing.T) {
	p := compile(t,
		"table: users\nwhen: row.id == \"5\" or row.name > 5\ndelete: ['{tenant}']",
		"table: users\nwhen: row.live and row.name == \"x\" and row.unheard == 1\ndelete: ['{tenant}']",
		"table: others\nwhen: row.id == 'x'\ndelete: ['{tenant}']")
	problems := p.CheckTypes(map[events.Table]map[string]uint32{users: {"id": 20, "name": 25, "live": 16}})
	require.Equal(t, `rules.yaml:9:18: rule "r0": "when": invalid operation: == (mismatched types int and string)
    9 |     when: row.id == "5" or row.name > 5
      |                  ^
  hint: row.id is a whole number, row.name is text

rules.yaml:9:37: rule "r0": "when": invalid operation: > (mismatched types string and int)
    9 |     when: row.id == "5" or row.name > 5
      |                                     ^
  hint: row.id is a whole number, row.name is text
`, problems.Pretty())
}

func TestOneConditionIsEvaluatedByManyGoroutines(t *testing.T) {
	p := compile(t, "table: users\nwhen: row.id > 50 and lower(row.name) == 'x'\ndelete: ['{tenant}:{id}']")
	done := make(chan int)
	for range 8 {
		go func() {
			var out mapping.Result
			for j := range 100 {
				p.Map(typed(rows("tenant_id* id* name*", insert(fmt.Sprintf("7 %d X", j))), "int8 int8 text"), &out)
			}
			done <- len(out.Keys)
		}()
	}
	for range 8 {
		require.Equal(t, 49, <-done)
	}
}
