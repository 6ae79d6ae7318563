package mapping_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/walfence/walfence/mapping"
)

// The types below describe rules.yaml to editors. They are only for the schema: the parser reports what is wrong itself,
// and the test holds the two to the same fields.

type rulesFile struct {
	Version    int                `json:"version" jsonschema:"enum=1" jsonschema_description:"The version of this format: 1."`
	Source     string             `json:"source" jsonschema_description:"Names the database in subjects and metrics."`
	Tenant     *tenantOf          `json:"tenant,omitempty" jsonschema_description:"Where a row's tenant is, unless a rule says otherwise."`
	Caches     map[string]cacheOf `json:"caches" jsonschema_description:"The Redis servers that rules name."`
	Scopes     map[string]string  `json:"scopes,omitempty" jsonschema_description:"Groups of keys that are invalidated together: the key of each one's generation."`
	PurgeHosts []string           `json:"purge_hosts,omitempty" jsonschema_description:"The only hosts that purges may call."`
	Defaults   *defaultsOf        `json:"defaults,omitempty" jsonschema_description:"What rules say that do not say otherwise."`
	Rules      []ruleOf           `json:"rules" jsonschema:"minItems=1"`
}

type cacheOf struct {
	Redis string `json:"redis" jsonschema_description:"URL: redis://, rediss://, redis-cluster://, redis-sentinel:// and so on. ${NAME} and ${NAME:-default} are environment variables."`
	Guard string `json:"guard,omitempty" jsonschema:"default=10s" jsonschema_description:"How long a guard lives: the longest time from a miss to its fill."`
}

type tenantOf struct{}

func (tenantOf) JSONSchema() *jsonschema.Schema {
	column := jsonschema.NewProperties()
	column.Set("column", &jsonschema.Schema{Type: "string", Description: "The column that holds the tenant."})
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Const: "global", Description: "The keys have no tenant."},
		{Type: "object", Properties: column, Required: []string{"column"}, AdditionalProperties: jsonschema.FalseSchema},
	}}
}

type namesOf struct{}

func (namesOf) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Type: "string"}, {Type: "array", Items: &jsonschema.Schema{Type: "string"}},
	}}
}

type common struct {
	On       []string  `json:"on,omitempty" jsonschema:"enum=insert,enum=update,enum=delete,enum=truncate" jsonschema_description:"What happens to the table; default: all."`
	When     string    `json:"when,omitempty" jsonschema_description:"A condition on row, op, tenant and changed(...). It holds if it does for the old or the new row, or is unknown."`
	Tenant   *tenantOf `json:"tenant,omitempty" jsonschema_description:"Where the row's tenant is."`
	Versions []string  `json:"versions,omitempty" jsonschema_description:"What {version} stands for: each makes a key of its own."`
	Cache    *namesOf  `json:"cache,omitempty" jsonschema_description:"One cache or several; default: the only one."`
	OnEmpty  string    `json:"on_empty,omitempty" jsonschema:"enum=widen,enum=ignore,default=widen" jsonschema_description:"What a lookup that finds no row leads to."`
	Cap      int       `json:"cap,omitempty" jsonschema:"minimum=1,maximum=100000,default=1000" jsonschema_description:"Rows of a lookup above which it widens."`
	Repeat   []string  `json:"repeat,omitempty" jsonschema_description:"After what times keys are removed again, for applications that fill without a guard."`
}

type defaultsOf struct {
	common
	Refresh *refreshOptions `json:"refresh,omitempty"`
	Purge   *purgeOptions   `json:"purge,omitempty"`
}

type ruleOf struct {
	Name    string   `json:"name" jsonschema_description:"What the rule is called in logs and metrics."`
	Table   string   `json:"table" jsonschema_description:"The table, as SQL spells it: users, sales.orders, or '\"Sales\".\"Order Items\"'."`
	Columns []string `json:"columns,omitempty" jsonschema_description:"An update that touches none of these, nor a column of a key or of the condition, does nothing."`
	common
	Through string      `json:"through,omitempty" jsonschema_description:"A SELECT that finds the rows that the keys are made of."`
	Delete  []string    `json:"delete,omitempty" jsonschema_description:"Templates of the keys to delete."`
	Bump    []string    `json:"bump,omitempty" jsonschema_description:"Scopes to give a new generation."`
	Refresh []refreshOf `json:"refresh,omitempty" jsonschema_description:"Keys to read again and fill."`
	Purge   []purgeOf   `json:"purge,omitempty" jsonschema_description:"HTTP requests that make other caches forget."`
}

type refreshOptions struct {
	Result   string `json:"result,omitempty" jsonschema:"enum=row,enum=rows,enum=value,default=row" jsonschema_description:"What of the query's result is cached, as JSON."`
	TTL      string `json:"ttl,omitempty" jsonschema_description:"How long the value lives."`
	Jitter   string `json:"jitter,omitempty" jsonschema_description:"The share of the ttl by which it varies: 10%."`
	EmptyTTL string `json:"empty_ttl,omitempty" jsonschema_description:"How long to cache that there is no row; default: not at all."`
	Keep     bool   `json:"keep,omitempty" jsonschema_description:"The old value stays until the new one is there."`
}

type refreshOf struct {
	Key   string `json:"key" jsonschema_description:"The template of the key."`
	Query string `json:"query" jsonschema_description:"A SELECT with :name for columns of the key."`
	refreshOptions
}

type purgeOptions struct {
	Retries   *int   `json:"retries,omitempty" jsonschema:"minimum=0,maximum=10,default=3"`
	Timeout   string `json:"timeout,omitempty" jsonschema:"default=5s" jsonschema_description:"Of one try."`
	Rate      int    `json:"rate,omitempty" jsonschema:"minimum=1,maximum=100000,default=100" jsonschema_description:"Requests per second."`
	Batch     int    `json:"batch,omitempty" jsonschema:"minimum=1,maximum=10000,default=100" jsonschema_description:"Keys per request."`
	Separator string `json:"separator,omitempty" jsonschema_description:"Between two keys in text; default: a space."`
}

type requestOf struct {
	URL     string            `json:"url"`
	Method  string            `json:"method,omitempty" jsonschema:"default=PURGE"`
	Headers map[string]string `json:"headers,omitempty"`
	JSON    any               `json:"json,omitempty" jsonschema_description:"The body. A text that is only {keys} becomes the list."`
}

// JSONSchemaExtend names the methods that the parser knows.
func (requestOf) JSONSchemaExtend(s *jsonschema.Schema) { methods(s) }

func methods(s *jsonschema.Schema) {
	if m, ok := s.Properties.Get("method"); ok {
		for _, name := range mapping.PurgeMethods() {
			m.Enum = append(m.Enum, name)
		}
	}
}

type purgeOf struct {
	requestOf
	Key    string     `json:"key,omitempty" jsonschema_description:"What a request of a batch names; its request says {keys}."`
	Tenant *requestOf `json:"tenant,omitempty" jsonschema_description:"The request that purges all of one {tenant}."`
	All    allOf      `json:"all" jsonschema_description:"The request that purges everything, or none."`
	purgeOptions
}

// JSONSchemaExtend names the methods that the parser knows.
func (purgeOf) JSONSchemaExtend(s *jsonschema.Schema) { methods(s) }

type allOf struct{}

func (allOf) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Const: "none", Description: "Only expiry helps then."}, {Ref: "#/$defs/requestOf"},
	}}
}

func schema() *jsonschema.Schema {
	s := (&jsonschema.Reflector{}).Reflect(&rulesFile{})
	s.ID, s.Title = "https://raw.githubusercontent.com/walfence/walfence/main/rules.schema.json", "walfence rules"
	return s
}

func TestSchemaIsKeptInTheRepository(t *testing.T) {
	got, err := json.MarshalIndent(schema(), "", "  ")
	require.NoError(t, err)
	got = append(got, '\n')
	if *rewrite {
		require.NoError(t, os.WriteFile("../rules.schema.json", got, 0o644))
	}
	want, err := os.ReadFile("../rules.schema.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))

	rules, err := os.ReadFile("../rules.yaml")
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(rules, []byte("# yaml-language-server: $schema=rules.schema.json\n")))
}

// fieldsOf returns the names of a struct's fields in JSON, embedded ones included.
func fieldsOf(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			out = append(out, fieldsOf(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

func TestSchemaHasTheFieldsOfTheParser(t *testing.T) {
	known := mapping.Fields()
	for name, v := range map[string]any{
		"file": rulesFile{}, "rule": ruleOf{}, "refresh": refreshOf{}, "purge": purgeOf{}, "request": requestOf{},
		"defaults": defaultsOf{}, "refresh options": refreshOptions{}, "purge options": purgeOptions{}, "cache": cacheOf{},
	} {
		require.ElementsMatch(t, known[name], fieldsOf(reflect.TypeOf(v)), name)
	}
}

// validate checks a value by the parts of JSON Schema that ours is made of.
func validate(root, s *jsonschema.Schema, v any) bool {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return validate(root, root.Definitions[name], v)
	}
	if len(s.OneOf) > 0 {
		return slices.ContainsFunc(s.OneOf, func(o *jsonschema.Schema) bool { return validate(root, o, v) })
	}
	if s.Const != nil && v != s.Const || len(s.Enum) > 0 && s.Type != "array" && !slices.ContainsFunc(s.Enum, func(e any) bool { return equal(e, v) }) {
		return false
	}
	switch s.Type {
	case "string":
		_, ok := v.(string)
		return ok
	case "integer":
		_, ok := v.(int)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "array":
		list, ok := v.([]any)
		return ok && !slices.ContainsFunc(list, func(v any) bool { return !validate(root, s.Items, v) })
	case "object":
		return validObject(root, s, v)
	}
	return true
}

func equal(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func validObject(root, s *jsonschema.Schema, v any) bool {
	object, ok := v.(map[string]any)
	if !ok {
		return false
	}
	for _, name := range s.Required {
		if _, ok := object[name]; !ok {
			return false
		}
	}
	for name, item := range object {
		var field *jsonschema.Schema
		if s.Properties != nil {
			field, _ = s.Properties.Get(name)
		}
		if field == nil {
			field = s.AdditionalProperties
		}
		if field != nil && (field == jsonschema.FalseSchema || !validate(root, field, item)) {
			return false
		}
	}
	return true
}

func valid(t *testing.T, src []byte) bool {
	t.Helper()
	var v any
	require.NoError(t, yaml.Load(src, &v))
	return validate(schema(), schema(), v)
}

// editors need not know all that the parser refuses, but what it accepts must not be underlined.
func TestSchemaAcceptsWhatTheParserAccepts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.good.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range append(files, "../rules.yaml") {
		src, err := os.ReadFile(file)
		require.NoError(t, err)
		_, err = mapping.Compile(file, src, env)
		require.NoError(t, err)
		require.True(t, valid(t, src), file)
	}
	for _, text := range []string{purges, lookups, explained} {
		require.True(t, valid(t, []byte("version: 1\nsource: shop\ntenant: {column: tenant_id}\n"+text)))
	}
	for _, file := range []string{"field-unknown", "on-unknown", "version-2", "refresh-result", "rule-no-name", "tenant-text", "defaults-unknown", "purge-method"} {
		src, err := os.ReadFile("testdata/" + file + ".bad.yaml")
		require.NoError(t, err)
		require.False(t, valid(t, src), file)
	}
}
