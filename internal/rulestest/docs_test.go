package rulestest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/walfence/walfence/internal/rulestest"
	"github.com/walfence/walfence/mapping"
)

// example is a block of rules of docs/rules.md, and the blocks of tests behind it.
type example struct {
	line  int
	rules string
	tests []string
}

const document = "../../docs/rules.md"

// examples returns the document's blocks that begin with ```yaml rules, ```yaml tests and ```yaml bad.
func examples(t *testing.T) (good, bad []example) {
	src, err := os.ReadFile(document)
	require.NoError(t, err)
	kind, from := "", 0
	var block []string
	for i, line := range strings.Split(string(src), "\n") {
		switch {
		case kind == "" && strings.HasPrefix(line, "```"):
			kind, from, block = strings.TrimPrefix(line, "```"), i+1, nil
			require.NotEmpty(t, kind, "%s:%d: a block without a language", document, i+1)
		case kind != "" && line == "```":
			text := strings.Join(block, "\n") + "\n"
			switch kind {
			case "yaml rules":
				good = append(good, example{line: from, rules: whole(t, text)})
			case "yaml bad":
				bad = append(bad, example{line: from, rules: whole(t, text)})
			case "yaml tests":
				last := &good[len(good)-1]
				last.tests = append(last.tests, text)
			}
			kind = ""
		case kind != "":
			block = append(block, line)
		}
	}
	return good, bad
}

// whole adds what a part of a rules file lacks to be one.
func whole(t *testing.T, text string) string {
	if regexp.MustCompile(`^(#.*\n)*- `).MatchString(text) {
		text = "rules:\n" + text
	}
	var fields map[string]any
	require.NoError(t, yaml.Load([]byte(text), &fields), text)
	for name, usual := range map[string]string{
		"version": "1", "source": "shop", "tenant": "{column: tenant_id}", "caches": `{main: {redis: "${REDIS_URL}"}}`,
		"rules": "[{name: other, table: other, delete: [\"{tenant}:other\"]}]",
	} {
		if defaults, ok := fields["defaults"].(map[string]any); ok && defaults[name] != nil {
			continue
		}
		if fields[name] == nil {
			text += name + ": " + usual + "\n"
		}
	}
	return text
}

// suiteRules are the rules that the document's file of tests is about.
const suiteRules = `version: 1
source: shop
tenant: {column: tenant_id}
caches: {main: {redis: "${REDIS_URL}"}}
scopes: {catalog: "tenant:{tenant}:catalog"}
rules:
  - {name: product, table: products, when: row.price > 3.9, delete: ["tenant:{tenant}:product:{id}"]}
  - {name: catalog, table: products, bump: [catalog]}
  - {name: photo, table: products, delete: ["tenant:{tenant}:photo:{photo}"]}
  - {name: items, table: items, through: SELECT customer_id FROM items WHERE id = :id, delete: ["tenant:{tenant}:customer:{customer_id}"]}
`

func TestTheFileOfTestsOfTheDocumentIsOne(t *testing.T) {
	src, err := os.ReadFile(document)
	require.NoError(t, err)
	_, file, ok := strings.Cut(string(src), "```yaml file\n")
	require.True(t, ok)
	file, _, _ = strings.Cut(file, "```")
	r, err := rulestest.Run("rules_test.yaml", rulestest.Options{Read: func(name string) ([]byte, error) {
		if name == "rules.yaml" {
			return []byte(suiteRules), nil
		}
		return []byte(file), nil
	}})
	require.NoError(t, err)
	require.Zero(t, r.Failed(), "%s", text(t, r))
	require.Len(t, r.Results, 2)
}

func TestEveryExampleOfTheDocumentIsTrue(t *testing.T) {
	good, _ := examples(t)
	require.NotEmpty(t, good)
	for _, x := range good {
		t.Run(fmt.Sprintf("line %d", x.line), func(t *testing.T) {
			_, err := mapping.Compile(document, []byte(x.rules), func(name string) (string, bool) { return "redis://" + name, true })
			require.NoError(t, err, x.rules)
			for _, tests := range x.tests {
				r, err := rulestest.Run("rules_test.yaml", rulestest.Options{Read: func(name string) ([]byte, error) {
					if name == "rules.yaml" {
						return []byte(x.rules), nil
					}
					return []byte("tests:\n" + tests), nil
				}})
				require.NoError(t, err)
				require.Zero(t, r.Failed(), "%s", text(t, r))
			}
		})
	}
}

func TestWhatTheDocumentCallsAMistakeIsOne(t *testing.T) {
	_, bad := examples(t)
	require.NotEmpty(t, bad)
	for _, x := range bad {
		_, err := mapping.Compile(document, []byte(x.rules), func(name string) (string, bool) { return "redis://" + name, true })
		said := regexp.MustCompile(`# (.*)`).FindStringSubmatch(x.rules)
		require.ErrorContains(t, err, said[1], "line %d", x.line)
	}
}

// fieldsIn gathers the names of the fields of a value.
func fieldsIn(v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, item := range v {
			into[name] = true
			fieldsIn(item, into)
		}
	case []any:
		for _, item := range v {
			fieldsIn(item, into)
		}
	}
}

func TestEveryFieldHasAnExampleInTheDocument(t *testing.T) {
	src, err := os.ReadFile("../../rules.schema.json")
	require.NoError(t, err)
	var schema struct {
		Defs map[string]struct {
			Properties map[string]any
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(src, &schema))
	used := map[string]bool{}
	good, _ := examples(t)
	for _, x := range good {
		var v any
		require.NoError(t, yaml.Load([]byte(x.rules), &v))
		fieldsIn(v, used)
	}
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	require.NotEmpty(t, schema.Defs)
	for _, def := range schema.Defs {
		for _, name := range slices.Sorted(maps.Keys(def.Properties)) {
			require.True(t, used[name], "no example has %s", name)
			require.True(t, strings.Contains(string(text), "`"+name+"`"), "no sentence is about %s", name)
		}
	}
}
