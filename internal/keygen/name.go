package keygen

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/walfence/walfence/mapping"
)

// builder is one function to write: a template of a rule, for one version.
type builder struct {
	name   string   // UserProfile
	words  []string // {"user", "profile"}
	doc    string   // the template, as it is written
	parts  []mapping.KeyPart
	params []param
}

// param is a parameter of a function. A placeholder that stands twice is one parameter.
type param struct {
	words    []string
	name     string
	nullable bool // has a default
}

// builders returns the functions of a program, with names that differ.
func builders(p *mapping.Program) []builder {
	var out []builder
	for _, r := range p.Rules() {
		templates := r.Templates()
		for _, t := range templates {
			out = append(out, newBuilder(r, t, plain(templates) > 1))
		}
	}
	out = merge(out)
	distinguish(out)
	return out
}

// plain counts the templates of a rule, each once for all versions, without those of scopes.
func plain(templates []mapping.KeyTemplate) int {
	n, version := 0, ""
	for _, t := range templates {
		if version == "" {
			version = t.Version
		}
		if t.Scope == "" && (t.Version == "" || t.Version == version) {
			n++
		}
	}
	return n
}

func newBuilder(r *mapping.Rule, t mapping.KeyTemplate, several bool) builder {
	b := builder{doc: t.Text, parts: t.Parts}
	switch {
	case t.Scope != "":
		b.words = append([]string{"scope"}, words(t.Scope)...)
	default:
		b.words = words(r.Name)
	}
	for _, part := range t.Parts {
		if part.Name == "" || slices.ContainsFunc(b.params, func(p param) bool { return p.name == part.Name }) {
			continue
		}
		b.params = append(b.params, param{words: words(part.Name), name: part.Name, nullable: part.Nullable})
	}
	if several && t.Scope == "" {
		b.words = append(b.words, byColumns(b.params)...)
	}
	if t.Version != "" {
		b.words = append(b.words, words(t.Version)...)
	}
	return b
}

// byColumns tells the templates of one rule apart by what their keys are made of.
func byColumns(params []param) []string {
	var out []string
	for _, p := range params {
		if p.name == "tenant" {
			continue
		}
		if out == nil {
			out = []string{"by"}
		} else {
			out = append(out, "and")
		}
		out = append(out, p.words...)
	}
	return out
}

// merge drops functions that build the same keys by the same name: rules that bump one scope.
func merge(all []builder) []builder {
	var out []builder
	for _, b := range all {
		if !slices.ContainsFunc(out, func(o builder) bool { return slices.Equal(o.words, b.words) && o.doc == b.doc }) {
			out = append(out, b)
		}
	}
	return out
}

// distinguish numbers functions that would have one name.
func distinguish(all []builder) {
	taken := map[string]bool{}
	for i := range all {
		b := &all[i]
		base := pascal(b.words)
		if base == "" || !unicode.IsUpper([]rune(base)[0]) {
			base = "Key" + base
		}
		b.name = base
		for n := 2; taken[b.name] || reserved[strings.ToLower(b.name)]; n++ {
			b.name = fmt.Sprintf("%s%d", base, n)
		}
		taken[b.name] = true
	}
}

// reserved are names of what the generated code has besides.
var reserved = map[string]bool{"ruleshash": true, "rulesversion": true, "value": true, "escape": true, "part": true, "source": true}

// words cuts a name at what no identifier holds.
func words(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

var initialisms = map[string]string{"id": "ID", "url": "URL", "sku": "SKU", "uuid": "UUID", "api": "API", "html": "HTML", "json": "JSON"}

// pascal joins words as the name of an exported thing.
func pascal(words []string) string {
	var b strings.Builder
	for _, w := range words {
		if s, ok := initialisms[strings.ToLower(w)]; ok {
			b.WriteString(s)
			continue
		}
		r := []rune(w)
		b.WriteString(string(unicode.ToUpper(r[0])) + string(r[1:]))
	}
	return b.String()
}

// camel joins words as the name of a parameter or of a function of TypeScript.
func camel(words []string) string {
	if len(words) == 0 {
		return "value"
	}
	r := []rune(words[0])
	first := string(unicode.ToLower(r[0])) + string(r[1:])
	if _, ok := initialisms[strings.ToLower(words[0])]; ok {
		first = strings.ToLower(words[0])
	}
	name := first + pascal(words[1:])
	if !unicode.IsLetter([]rune(name)[0]) {
		name = "value" + name
	}
	return name
}

// names returns the parameters' names, each different and none a keyword.
func (b *builder) names(keywords []string) []string {
	out := make([]string, len(b.params))
	for i, p := range b.params {
		base := camel(p.words)
		out[i] = base
		for n := 2; slices.Contains(out[:i], out[i]) || slices.Contains(keywords, out[i]); n++ {
			out[i] = fmt.Sprintf("%s%d", base, n)
		}
	}
	return out
}
