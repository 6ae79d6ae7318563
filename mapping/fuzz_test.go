package mapping_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// FuzzCompile: whatever the file, Compile answers with a program or with problems that say where.
func FuzzCompile(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range append(files, "../rules.yaml") {
		src, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := mapping.Compile("rules.yaml", src, env)
		if err == nil {
			require.NotEmpty(t, p.Rules())
			require.NotEmpty(t, p.Tables())
			return
		}
		problems, ok := err.(mapping.Problems)
		require.True(t, ok)
		require.NotEmpty(t, problems)
		require.NotEmpty(t, problems.Pretty())
	})
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// twoRules compiles rules on two tables with any templates; nil where they are refused.
func twoRules(first, second string, global bool) *mapping.Program {
	src := head + "  - {name: a, table: users, cache: main, versions: [v1, v2], delete: [" + quoted(first) + ", \"{version}:{tenant}\"]}\n" +
		"  - {name: b, table: others, cache: main, delete: [" + quoted(second) + "]"
	if global {
		src += ", tenant: global"
	}
	p, err := mapping.Compile("rules.yaml", []byte(src+"}\n"), env)
	if err != nil {
		return nil
	}
	return p
}

// FuzzTenantsNeverMeet: no row of one tenant renders a key that a row of another renders, by any two rules that Compile
// lets pass; and the patterns of a rule for a tenant match that tenant's keys, and no other's.
func FuzzTenantsNeverMeet(f *testing.F) {
	f.Add("t:{tenant}:u:{x}", "t:{tenant}:o:{y|none}", "a:b", "c", "a", "b:c", false)
	f.Add("t:{tenant}x", "t:{tenant}", "a", "1", "ax", "1", false)
	f.Add("{{t:{x}}}:{tenant}", "t:{tenant}", "walfence-guard", "5", "5", "walfence-guard", false)
	f.Add("{version}:{tenant}:{x}", "v1:{y}", "a", "1", "a", "1", true)
	f.Add("{tenant} {x}", "{x} {tenant}", "\x00", "\xff\xfe", "%00", "%FF", false)
	f.Add("%3A{tenant}:", "{tenant}%3A:", "*", ">", "{x}", "[a]\\", false)
	f.Add("{{{tenant}}}:{x}", "a{tenant}-", "\u00a0", "\u0085", "%C2%A0", "é", false)
	f.Fuzz(func(t *testing.T, first, second, tenantA, valueA, tenantB, valueB string, global bool) {
		p := twoRules(first, second, global)
		if p == nil || tenantA == tenantB {
			return
		}
		keysA := keysOf(p, tenantA, valueA, valueB)
		keysB := keysOf(p, tenantB, valueB, valueA)
		for _, a := range keysA {
			requireOwnPatterns(t, a, tenantB)
			for _, b := range keysB {
				if !a.Rule.Global || !b.Rule.Global {
					require.NotEqual(t, a.Key, b.Key, "%q of %q and %q", a.Key, tenantA, tenantB)
				}
				if !a.Rule.Global && !b.Rule.Global {
					requireForeign(t, p, a)
				}
			}
		}
	})
}

// keysOf maps one row, inserted into both tables.
func keysOf(p *mapping.Program, tenant, x, y string) []mapping.Key {
	var out mapping.Result
	for _, table := range p.Tables() {
		e := rows("tenant_id x y", events.Change{
			Op: events.Insert, New: []events.Value{events.Text(tenant), events.Text(x), events.Text(y)},
		})
		e.Table = table.Table
		p.Map(e, &out)
	}
	return out.Keys
}

func matches(patterns []events.Pattern, key string) bool {
	for _, p := range patterns {
		if p.Match(key) {
			return true
		}
	}
	return false
}

// requireOwnPatterns: a key matches its rule's patterns for its tenant and for all, and not those for another tenant.
func requireOwnPatterns(t *testing.T, k mapping.Key, other string) {
	t.Helper()
	require.True(t, matches(k.Rule.Patterns(k.Tenant, false), k.Key), "%q", k.Key)
	require.True(t, matches(k.Rule.Patterns("", true), k.Key), "%q", k.Key)
	if !k.Rule.Global {
		require.False(t, matches(k.Rule.Patterns(other, false), k.Key), "%q matches for %q", k.Key, other)
	}
}

// requireForeign: no rule's pattern for another tenant matches the key.
func requireForeign(t *testing.T, p *mapping.Program, k mapping.Key) {
	t.Helper()
	for _, r := range p.Rules() {
		for _, other := range []string{k.Tenant + "x", "x" + k.Tenant, k.Tenant + ":", "%" + k.Tenant, ""} {
			if !r.Global && other != k.Tenant {
				require.False(t, matches(r.Patterns(other, false), k.Key), "%q matches %s for %q", k.Key, r.Name, other)
			}
		}
	}
}
