package mapping_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// shop compiles 20 rules, of which 3 concern users.
func shop(b *testing.B) *mapping.Program {
	var rules []string
	for i := range 20 {
		table, columns := fmt.Sprintf("t%d", i), ""
		if i < 4 {
			table = "users"
		}
		if i == 3 {
			columns = "\ncolumns: [avatar]"
		}
		rules = append(rules, fmt.Sprintf("table: %s%s\ndelete: ['tenant:{tenant}:r%d:{id}:profile']", table, columns, i))
	}
	return compile(b, rules...)
}

func batch(n int) *events.Event {
	var changes []events.Change
	for i := range n {
		changes = append(changes, update("", fmt.Sprintf("tenant-%d %d ann !", i%10, 1_000_000+i)))
	}
	return rows("tenant_id* id* name avatar", changes...)
}

func bench(b *testing.B, e *events.Event, perEvent int) {
	p := shop(b)
	var out mapping.Result
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		p.Map(e, &out)
	}
	if len(out.Keys)+len(out.Sweeps) != perEvent {
		b.Fatal(len(out.Keys), len(out.Sweeps))
	}
	if perEvent > 0 {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(perEvent), "ns/row·rule")
	}
}

// 3 of 20 rules match each row; a fourth is for the table, but the rows do not touch its columns.
func BenchmarkMap256Rows(b *testing.B) { bench(b, batch(256), 3*256) }

func BenchmarkMapOneRow(b *testing.B) { bench(b, batch(1), 3) }

func BenchmarkMapNoRuleForTable(b *testing.B) {
	e := batch(256)
	e.Table = events.Table{Schema: "public", Name: "nobody"}
	bench(b, e, 0)
}

func BenchmarkMapNoRuleTouched(b *testing.B) {
	p := compile(b, "table: users\ncolumns: [avatar]\ndelete: ['tenant:{tenant}:{id}']")
	e := batch(256)
	var out mapping.Result
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		p.Map(e, &out)
	}
}

func BenchmarkMapOldAndNewRow(b *testing.B) {
	e := batch(256)
	for i := range e.Changes {
		e.Changes[i].Old = e.Changes[i].New
	}
	bench(b, e, 3*256)
}

func BenchmarkCompile(b *testing.B) {
	src := []byte(head)
	for i := range 100 {
		src = fmt.Appendf(src, "  - {name: r%d, table: t%d, cache: main, delete: ['tenant:{tenant}:k%d:{id}']}\n", i, i, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := mapping.Compile("rules.yaml", src, env); err != nil {
			b.Fatal(err)
		}
	}
}

// A condition that holds for no row: the values that it looks at are few.
func BenchmarkMapConditionDoesNotHold(b *testing.B) {
	p := compile(b, "table: users\nwhen: row.name == 'bob' and row.id > 5\ndelete: ['{tenant}:{id}']")
	e := typed(batch(256), "text int8 text text")
	for i := range e.Changes {
		e.Changes[i].Old = e.Changes[i].New // what was is known
	}
	var out mapping.Result
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		p.Map(e, &out)
	}
	require.Empty(b, out.Keys)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/row·rule")
}

// A condition on values that are all different, and are evaluated each time.
func BenchmarkMapConditionOnManyValues(b *testing.B) {
	p := compile(b, "table: users\nwhen: row.id > 5\ndelete: ['{tenant}:{id}']")
	var changes []events.Change
	for i := range 2000 {
		changes = append(changes, update("", fmt.Sprintf("7 %d ann !", 1_000_000+i)))
	}
	e := typed(rows("tenant_id* id* name avatar", changes...), "text int8 text text")
	var out mapping.Result
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		p.Map(e, &out)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/row·rule")
}
