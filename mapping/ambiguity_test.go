package mapping

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/pkg/events"
	"pgregory.net/rapid"
)

// What stands before and behind a placeholder: together no longer than the longest of words.
var (
	prefixes = []string{"", "", "a", "b", "ab", "ba", "%", "%2"}
	suffixes = []string{"", "", "a", "b", "%"}
)

// drawTemplate draws a template with the tenant in one or two of its segments, over so small an alphabet that two of them
// meet often. No column stands in it twice, so that segments do not depend on each other.
func drawTemplate(t *rapid.T, global bool) *template {
	n := rapid.IntRange(1, 3).Draw(t, "segments")
	tenant := rapid.IntRange(0, n-1).Draw(t, "tenant")
	var text strings.Builder
	for i := range n {
		if i > 0 {
			text.WriteString(rapid.SampledFrom([]string{":", ":", "*"}).Draw(t, "separator"))
		}
		text.WriteString(rapid.SampledFrom(prefixes).Draw(t, "prefix"))
		switch {
		case i == tenant && !global || !global && rapid.IntRange(0, 5).Draw(t, "again") == 0:
			text.WriteString("{tenant}")
		case rapid.Bool().Draw(t, "column"):
			fmt.Fprintf(&text, "{c%d}", i)
		}
		text.WriteString(rapid.SampledFrom(suffixes).Draw(t, "suffix"))
	}
	out, flaws := parseTemplate(text.String())
	if len(flaws) > 0 {
		t.Skip(flaws)
	}
	return out
}

// image is every key that a template renders of short values, with the tenants that it can be of.
func image(t *template, values []string) map[string][]string {
	out := map[string][]string{}
	for _, tenant := range values {
		keys := []string{t.literals[0]}
		for i, f := range t.fields {
			choices := values
			if f.source == fromTenant {
				choices = []string{tenant}
			}
			var next []string
			for _, k := range keys {
				for _, v := range choices {
					next = append(next, string(events.AppendKeyPart([]byte(k), v))+t.literals[i+1])
				}
			}
			keys = next
		}
		for _, k := range keys {
			out[k] = append(out[k], tenant)
		}
	}
	return out
}

// words are all texts over a and b of up to 3 bytes: enough to fill up a prefix with a suffix, except for percent signs, which
// values hold only in front of an escaped byte.
func words() []string {
	out := []string{""}
	for from := 0; len(out[len(out)-1]) < 3; {
		end := len(out)
		for ; from < end; from++ {
			out = append(out, out[from]+"a", out[from]+"b")
		}
	}
	return append(out, "%", " ", ":", "\x2a")
}

// independent tells whether a template's segments can take any values at once, so that the check is exact for it. It is
// stricter where the tenant stands twice, and for percent signs.
func independent(t *template) bool {
	tenants := 0
	for _, f := range t.fields {
		if f.source == fromTenant {
			tenants++
		}
	}
	return tenants < 2 && !strings.Contains(strings.Join(t.literals, ""), "%")
}

func TestTemplatesPassOnlyIfNoTwoTenantsCanMeet(t *testing.T) {
	values := words()
	rapid.Check(t, func(t *rapid.T) {
		a := drawTemplate(t, false)
		global := rapid.IntRange(0, 4).Draw(t, "global") == 0
		b := drawTemplate(t, global)
		refused := newShape(a.literals, a.fields).meetsOther(newShape(b.literals, b.fields))
		witness, meet := "", false
		others := image(b, values)
		for key, tenants := range image(a, values) {
			for _, x := range tenants {
				for _, y := range others[key] {
					meet = true
					if x != y || global {
						witness = fmt.Sprintf("%q of %q and %q", key, x, y)
					}
				}
			}
		}
		if !refused && witness != "" {
			t.Fatalf("%q and %q pass, but meet: %s", a.literals, b.literals, witness)
		}
		if refused && !meet && independent(a) && independent(b) {
			t.Fatalf("%q and %q are refused, but no key of short values is the same", a.literals, b.literals)
		}
	})
}

func TestWhichTemplatesMeet(t *testing.T) {
	for _, c := range []struct {
		a, b string
		meet bool
	}{
		{"t:{tenant}", "t:{tenant}", false},
		{"t:{tenant}", "u:{tenant}", false},
		{"t:{tenant}:{id}", "t:{id}:{tenant}", true},
		{"t:{tenant}:{id}", "t:{id}:{tenant}:x", false},
		{"t:{tenant}:{id}", "t:{id} {tenant}", false},
		{"t:{tenant}:a", "t:{tenant}:{id}", false},
		{"t:{tenant}x", "t:{tenant}", true},
		{"t:x{tenant}", "t:{tenant}", true},
		{"t:x{tenant}", "t:y{tenant}", false},
		{"t:{tenant}x", "t:{tenant}y", false},
		{"t:{tenant}:user", "t:{tenant}:{kind}", false},
		{"{tenant}:user", "user:{tenant}", true},
		{"{tenant}:user:a", "user:{tenant}:b", false},
		{"a{id}a:{tenant}", "a:x{tenant}", false}, // a value between two a's is longer than one a
		{"a{id}a:{tenant}", "aa:x{tenant}", true},
		{"a%{id}:{tenant}", "a{id}:x{tenant}", true},
		{"%{tenant}:", "{tenant}%:", true},
		{"{tenant}:{a}:{tenant}", "{a}:{tenant}:{tenant}", false},
	} {
		a, flaws := parseTemplate(c.a)
		require.Empty(t, flaws)
		b, flaws := parseTemplate(c.b)
		require.Empty(t, flaws)
		x, y := newShape(a.literals, a.fields), newShape(b.literals, b.fields)
		require.Equal(t, c.meet, x.meetsOther(y), "%s and %s", c.a, c.b)
		require.Equal(t, c.meet, y.meetsOther(x), "%s and %s", c.b, c.a)
	}
}

func TestATableRemembersOnlySoManyListsOfColumns(t *testing.T) {
	rules := &tableRules{}
	for i := range 1000 {
		rules.layout(&events.Event{Columns: []string{fmt.Sprint(i)}, Identity: []bool{true}})
		require.LessOrEqual(t, len(*rules.layouts.Load()), maxLayouts)
	}
}

func TestGuardsAreNamedAsPkgCacheNamesThem(t *testing.T) {
	for text, guard := range map[string]string{
		"t:{tenant}":     "{t:7}:walfence-guard",
		"{{t}}:{tenant}": "{t}:7:walfence-guard:tagged",
		"{tenant}":       "{7}:walfence-guard",
		"{{{tenant}}}":   "{7}:walfence-guard:tagged",
		"settings":       "{settings}:walfence-guard",
	} {
		tpl, flaws := parseTemplate(text)
		require.Empty(t, flaws)
		literals := tpl.fill(fromTenant, "7")
		require.Equal(t, newShape([]string{guard}, nil), literals.guard(), text)
	}
}
