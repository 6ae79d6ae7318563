package keygen_test

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/keygen"
	"github.com/walfence/walfence/internal/keygen/testdata/keys"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

var rewrite = flag.Bool("rewrite", false, "rewrite what is generated in testdata")

func program(t testing.TB) *mapping.Program {
	t.Helper()
	src, err := os.ReadFile("testdata/rules.yaml")
	require.NoError(t, err)
	p, err := mapping.Compile("rules.yaml", src, nil)
	require.NoError(t, err)
	return p
}

// golden compares with a file, or rewrites it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *rewrite {
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func TestWhatIsGeneratedIsKeptInTheRepository(t *testing.T) {
	src, err := keygen.Go(program(t), "keys")
	require.NoError(t, err)
	golden(t, "testdata/keys/keys.go", src)
	src, err = keygen.TypeScript(program(t))
	require.NoError(t, err)
	golden(t, "testdata/keys/keys.ts", src)
}

// vector is a call of a function, a row that a rule makes the same key of, and the key.
type vector struct {
	Function string             `json:"function"` // of TypeScript; Go's begins with a capital
	Args     []*string          `json:"args"`
	Table    string             `json:"table"`
	Row      map[string]*string `json:"row"`
	Key      string             `json:"key"`
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	src, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	var out []vector
	require.NoError(t, json.Unmarshal(src, &out))
	return out
}

// nasty are values that keys must tell apart.
var nasty = []string{
	"7", "", "a:b", "c", "*", ">", "{x}", "[a]\\", "100%", "%3A", "a b\tc\n", "\x00\x7f", "é漢😀", "\u0085\u00a0\u2003\u2028\u3000", "\ufeff\u200b", "true",
	"../etc", "tenant:8:user:1:profile", strings.Repeat("x", 300),
}

func calls() map[string]struct {
	table  string
	params []string
} {
	type call = struct {
		table  string
		params []string
	}
	return map[string]call{
		"userProfile":        {"users", []string{"tenant_id", "id"}},
		"productV2":          {"products", []string{"tenant_id", "id"}},
		"productV3":          {"products", []string{"tenant_id", "id"}},
		"scopeCatalog":       {"products", []string{"tenant_id"}},
		"category":           {"products", []string{"tenant_id", "category"}},
		"ordersByOrderID":    {"orders", []string{"tenant_id", "Order Id"}},
		"ordersByCustomerID": {"orders", []string{"tenant_id", "customer_id"}},
		"deleteKey":          {"orders", []string{"tenant_id", "type"}},
		"settings":           {"settings", nil},
		"key2fa":             {"users", []string{"tenant_id", "id"}},
	}
}

// makeVectors calls every function with nasty values; the keys are the engine's.
func makeVectors(t *testing.T) []vector {
	p := program(t)
	var out []vector
	all := calls()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		for i := range nasty {
			v := vector{Function: name, Table: c.table, Row: map[string]*string{"tenant_id": &nasty[0], "id": &nasty[0], "type": &nasty[0], "category": &nasty[0], "Order Id": &nasty[0], "customer_id": &nasty[0]}}
			for j, column := range c.params {
				v.Row[column] = &nasty[(i+j*5)%len(nasty)]
				v.Args = append(v.Args, v.Row[column])
			}
			if name == "category" && i == 3 {
				v.Row["category"], v.Args[1] = nil, nil
			}
			v.Key = engineKey(t, p, name, v)
			out = append(out, v)
		}
	}
	return out
}

// prefixes tell which of the keys of a row a function builds.
var prefixes = map[string][]string{
	"productV2": {":v2:product:"}, "productV3": {":v3:product:"}, "scopeCatalog": {":catalog"}, "category": {":category:"}, "userProfile": {":user:"},
	"ordersByOrderID": {":order:"}, "ordersByCustomerID": {":customer:"}, "deleteKey": {":type:"}, "settings": {"settings"}, "key2fa": {"2fa:"},
}

func engineKey(t *testing.T, p *mapping.Program, name string, v vector) string {
	e := &events.Event{Kind: events.KindRows, Table: events.Table{Schema: "public", Name: v.Table}, Changes: []events.Change{{Op: events.Insert}}}
	for _, column := range slices.Sorted(maps.Keys(v.Row)) {
		e.Columns, e.Identity = append(e.Columns, column), append(e.Identity, true)
		value := events.Value{State: events.Null}
		if v.Row[column] != nil {
			value = events.Text(*v.Row[column])
		}
		e.Changes[0].New = append(e.Changes[0].New, value)
	}
	var out mapping.Result
	p.Map(e, &out)
	for _, k := range out.Keys {
		if strings.Contains(k.Key, prefixes[name][0]) {
			return k.Key
		}
	}
	t.Fatalf("no key of %s in %v", name, out.Keys)
	return ""
}

func TestVectorsAreWhatTheEngineInvalidates(t *testing.T) {
	src, err := json.MarshalIndent(makeVectors(t), "", " ")
	require.NoError(t, err)
	golden(t, "testdata/vectors.json", append(src, '\n'))
}

func TestGeneratedGoBuildsTheKeysOfTheVectors(t *testing.T) {
	two := func(f func(string, string) string) func([]*string) string {
		return func(a []*string) string { return f(*a[0], *a[1]) }
	}
	functions := map[string]func([]*string) string{
		"userProfile": two(keys.UserProfile[string, string]), "productV2": two(keys.ProductV2[string, string]), "productV3": two(keys.ProductV3[string, string]),
		"ordersByOrderID": two(keys.OrdersByOrderID[string, string]), "ordersByCustomerID": two(keys.OrdersByCustomerID[string, string]),
		"deleteKey": two(keys.Delete[string, string]), "key2fa": two(keys.Key2fa[string, string]),
		"scopeCatalog": func(a []*string) string { return keys.ScopeCatalog(*a[0]) },
		"settings":     func([]*string) string { return keys.Settings() },
		"category":     func(a []*string) string { return keys.Category(*a[0], a[1]) },
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(calls())), slices.Collect(maps.Keys(functions)))
	for _, v := range readVectors(t) {
		require.Equal(t, v.Key, functions[v.Function](v.Args), "%s(%v)", v.Function, v.Row)
	}
	require.Equal(t, program(t).Hash(), keys.RulesHash)
	require.Equal(t, "shop", keys.Source)
}

type tenantID int64

type uuid [16]byte

func (u uuid) String() string { return "no" }

type name string

func (n name) String() string { return "no" }

func TestGeneratedGoTakesNumbersBooleansAndWhatPrintsItself(t *testing.T) {
	require.Equal(t, "tenant:7:user:-5:profile", keys.UserProfile(tenantID(7), -5))
	require.Equal(t, "tenant:18446744073709551615:user:true:profile", keys.UserProfile(uint64(18446744073709551615), true))
	require.Equal(t, "tenant:a%3A:user:61620000-0000-0000-0000-0000000000ff:profile", keys.UserProfile(name("a:"), uuid{0: 'a', 1: 'b', 15: 255}))
	require.Equal(t, "tenant:%FF:user:a%FFb:profile", keys.UserProfile("\xff", "a\xffb"))
}

// FuzzGeneratedGoEscapesAsTheEngine compares the copy that is generated with the original.
func FuzzGeneratedGoEscapesAsTheEngine(f *testing.F) {
	for _, s := range append(nasty, "\xff", "a\xc3", "\xed\xa0\x80") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		require.Equal(t, "tenant:"+string(events.AppendKeyPart(nil, s))+":catalog", keys.ScopeCatalog(s))
	})
}

// node runs a program of JavaScript beside the transpiled TypeScript, and returns what it prints.
func node(t *testing.T, script string) string {
	t.Helper()
	src, err := os.ReadFile("testdata/keys/keys.ts")
	require.NoError(t, err)
	js := api.Transform(string(src), api.TransformOptions{Loader: api.LoaderTS, Format: api.FormatESModule})
	require.Empty(t, js.Errors)
	require.Empty(t, js.Warnings)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "keys.mjs"), js.Code, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.mjs"), []byte("import * as keys from './keys.mjs'\n"+script), 0o644))
	vectors, err := filepath.Abs("testdata/vectors.json")
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "run.mjs"), vectors)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestGeneratedTypeScriptBuildsTheKeysOfTheVectors(t *testing.T) {
	out := node(t, `
import fs from 'node:fs'
const vectors = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
console.log(JSON.stringify(vectors.map(v => keys[v.function](...(v.args ?? [])))))
`)
	var got []string
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	want := readVectors(t)
	require.Len(t, got, len(want))
	for i, v := range want {
		require.Equal(t, v.Key, got[i], "%s(%v)", v.Function, v.Row)
	}
}

func TestGeneratedTypeScriptTakesWholeNumbersOnly(t *testing.T) {
	out := node(t, `
console.log(keys.userProfile(7, 9007199254740993n), keys.userProfile(true, -5), keys.rulesHash, keys.source)
for (const bad of [1.5, NaN, 2 ** 53]) {
  try { keys.userProfile(bad, 1); console.log('built') } catch (e) { console.log(e.name) }
}
`)
	require.Equal(t, "tenant:7:user:9007199254740993:profile tenant:true:user:-5:profile "+program(t).Hash()+" shop\nRangeError\nRangeError\nRangeError\n", out)
}

func TestAPackagesNameIsChecked(t *testing.T) {
	_, err := keygen.Go(program(t), "my keys")
	require.EqualError(t, err, `write Go: "my keys" is not a package's name`)
}
