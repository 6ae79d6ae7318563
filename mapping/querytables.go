package mapping

import (
	"slices"
	"strings"

	"github.com/walfence/walfence/pkg/events"
)

// scope is what stands between two parentheses of a query.
type scope struct {
	query  bool // it is a SELECT of its own
	from   bool // its FROM has begun, and not ended
	expect bool // a table stands next
	with   bool // its WITH has begun, and its SELECT has not
}

// tableFinder walks a query's tokens for what stands in its FROMs.
type tableFinder struct {
	tokens []token
	scopes []scope
	named  []string // by WITH
	found  []events.Table
}

// tablesOf returns the tables that a query names, sorted. The schema is public where none is written.
func tablesOf(tokens []token) []events.Table {
	f := &tableFinder{tokens: tokens, scopes: []scope{{query: true}}}
	for i := 0; tokens[i].kind != sqlEnd; i++ {
		i = f.step(i)
	}
	f.found = slices.DeleteFunc(f.found, func(t events.Table) bool {
		return t.Schema == "" && (slices.Contains(f.named, t.Name) || strings.HasPrefix(t.Name, "pg_")) || strings.HasPrefix(t.Schema, "pg_") || t.Schema == "information_schema"
	})
	for i := range f.found {
		if f.found[i].Schema == "" {
			f.found[i].Schema = "public"
		}
	}
	slices.SortFunc(f.found, func(a, b events.Table) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(f.found)
}

// step reads the token at i, and returns the last one that it read.
func (f *tableFinder) step(i int) int {
	s, t := &f.scopes[len(f.scopes)-1], f.tokens[i]
	switch {
	case t.is("("):
		f.open(i)
	case t.is(")"):
		if len(f.scopes) > 1 {
			f.scopes = f.scopes[:len(f.scopes)-1]
		}
	case s.expect && t.is("only", "lateral"):
	case s.expect && (t.kind == sqlWord || t.kind == sqlQuoted):
		s.expect = false
		return f.table(i)
	case t.kind == sqlWord:
		f.word(s, i)
	case t.is(",") && s.from:
		s.expect = true
	case t.is(",") && s.with:
		f.name(i + 1)
	}
	return i
}

// open enters parentheses: a query of its own, a group of joined tables, or anything else.
func (f *tableFinder) open(i int) {
	s, next := &f.scopes[len(f.scopes)-1], f.tokens[i+1]
	inner := scope{query: next.is("select", "with")}
	if s.expect && !inner.query && !next.is("(") && !next.is("values") {
		inner = scope{query: true, from: true, expect: true}
	} else if s.expect && next.is("(") {
		inner.expect, inner.from = true, true
	}
	s.expect = false
	f.scopes = append(f.scopes, inner)
}

func (f *tableFinder) word(s *scope, i int) {
	switch t := f.tokens[i]; {
	case t.is("with") && s.query && f.begins(i):
		s.with = true
		if f.tokens[i+1].is("recursive") {
			i++
		}
		f.name(i + 1)
	case t.is("select"):
		s.with, s.from, s.query = false, false, true
	case t.is("from") && s.query && !(i > 0 && f.tokens[i-1].is("distinct") && i > 1 && f.tokens[i-2].is("is", "not")):
		s.from, s.expect = true, true
	case t.is("join") && s.from:
		s.expect = true
	case t.is("where", "group", "having", "order", "limit", "offset", "fetch", "window", "union", "intersect", "except"):
		s.from = false
	}
}

// begins tells whether the token at i is the first of a query.
func (f *tableFinder) begins(i int) bool { return i == 0 || f.tokens[i-1].is("(") }

func (f *tableFinder) name(i int) {
	if t := f.tokens[i]; t.kind == sqlWord || t.kind == sqlQuoted {
		f.named = append(f.named, t.text)
	}
}

// table reads a table's name, unless a function's call stands there.
func (f *tableFinder) table(i int) int {
	parts := []string{f.tokens[i].text}
	for f.tokens[i+1].is(".") && (f.tokens[i+2].kind == sqlWord || f.tokens[i+2].kind == sqlQuoted) {
		parts = append(parts, f.tokens[i+2].text)
		i += 2
	}
	switch {
	case f.tokens[i+1].is("("):
	case len(parts) == 1:
		f.found = append(f.found, events.Table{Name: parts[0]})
	default:
		f.found = append(f.found, events.Table{Schema: parts[len(parts)-2], Name: parts[len(parts)-1]})
	}
	return i
}

// columnsOf returns the names of what a query selects. Each must be a column or have a name of its own, so that the
// templates can be checked without a database.
func columnsOf(tokens []token) ([]string, *flaw) {
	var names []string
	for _, item := range selectList(tokens) {
		name, f := itemName(item)
		if f != nil {
			return nil, f
		}
		if slices.Contains(names, name) {
			return nil, &flaw{item[0].from, "the query selects " + quote(name) + " twice", "give one of them another name with AS"}
		}
		names = append(names, name)
	}
	return names, nil
}

// selectList cuts what the outermost SELECT selects at its commas.
func selectList(tokens []token) [][]token {
	depth, begun := 0, false
	var items [][]token
	var item []token
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch {
		case t.is("(", "["):
			depth++
		case t.is(")", "]"):
			depth--
		}
		switch {
		case !begun:
			begun = depth == 0 && t.is("select")
			if begun && tokens[i+1].is("distinct", "all") {
				i = skipDistinct(tokens, i+1)
			}
		case depth == 0 && t.is(","):
			items, item = append(items, item), nil
		case t.kind == sqlEnd, depth == 0 && t.is("from", "where", "group", "order", "limit", "union", "intersect", "except") && !distinctFrom(tokens, i):
			return append(items, item)
		default:
			item = append(item, t)
		}
	}
	return items
}

func distinctFrom(tokens []token, i int) bool {
	return tokens[i].is("from") && i > 0 && tokens[i-1].is("distinct")
}

// skipDistinct returns the last token of DISTINCT, or of DISTINCT ON (...).
func skipDistinct(tokens []token, i int) int {
	if !tokens[i+1].is("on") {
		return i
	}
	depth := 0
	for i += 2; tokens[i].kind != sqlEnd; i++ {
		if tokens[i].is("(") {
			depth++
		}
		if tokens[i].is(")") {
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return i - 1
}

// itemName returns what one selected thing is called: by AS, or as a column.
func itemName(item []token) (string, *flaw) {
	n := len(item)
	if n == 0 {
		return "", &flaw{0, "the query selects nothing", "name the columns that the templates use"}
	}
	last := item[n-1]
	named := last.kind == sqlWord || last.kind == sqlQuoted
	if named && n > 2 && item[n-2].is("as") {
		return last.text, nil
	}
	for i, t := range item {
		if i%2 == 0 && t.is("*") {
			return "", &flaw{t.from, "the query selects *", "name the columns that the templates use"}
		}
		if name := t.kind == sqlWord || t.kind == sqlQuoted; i%2 == 0 && !name || i%2 == 1 && !t.is(".") {
			named = false
		}
	}
	if !named {
		return "", &flaw{item[0].from, "the query selects something without a name", "name it: ... AS name"}
	}
	return last.text, nil
}
