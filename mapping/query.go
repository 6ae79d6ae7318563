package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/walfence/walfence/pkg/events"
	"go.yaml.in/yaml/v4"
)

// maxQueryBytes bounds a query of the rules file: it is parsed on the way to PostgreSQL, by us and there.
const maxQueryBytes = 16 << 10

// Query is one SELECT of the rules file with named parameters. It is immutable.
type Query struct {
	// SQL is the text with $1, $2, ... in place of :name. It ends without a semicolon.
	SQL string
	// Params are the names by number, $1 first, each once: columns, or "tenant" or "version".
	Params []string
	// Columns are the names that the result's columns must have, in this order, for a lookup; nil for a refresh.
	Columns []string
	// Tables are those that it reads, as far as its text tells: views and functions hide theirs.
	Tables []events.Table

	pieces  []string // SQL around the parameters
	numbers []int    // of Params, between two pieces
	params  []token  // where each of Params stands first
	node    *yaml.Node
}

// Batch returns SQL that runs the query for many sets of parameters at once: $1, $2, ... are arrays, one per parameter
// and all of one length, of the types that PostgreSQL infers for the parameters of SQL ("bigint", "text"). The first
// column of its result, walfence_set, is the number of the set from 1, the others are the query's own. Of each set it
// returns at most cap+1 rows. There must be a parameter.
func (q *Query) Batch(types []string, cap int) string {
	var arrays, names []string
	for i, t := range types {
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", i+1, t))
		names = append(names, "p"+strconv.Itoa(i+1))
	}
	inner := q.fill(func(number int) string { return "walfence_sets.p" + strconv.Itoa(number) })
	return fmt.Sprintf("SELECT walfence_sets.walfence_set, walfence_found.* FROM unnest(%s) WITH ORDINALITY AS walfence_sets(%s, walfence_set)"+
		" CROSS JOIN LATERAL (SELECT * FROM (%s\n) AS walfence_query LIMIT %d) AS walfence_found",
		strings.Join(arrays, ", "), strings.Join(names, ", "), inner, cap+1)
}

// fill puts text in place of the parameters.
func (q *Query) fill(param func(number int) string) string {
	var b strings.Builder
	for i, piece := range q.pieces {
		b.WriteString(piece)
		if i < len(q.numbers) {
			b.WriteString(param(q.numbers[i]))
		}
	}
	return b.String()
}

// writes are words that only stand in statements that write or lock.
var writes = []string{"insert", "update", "delete", "merge", "into"}

// parseQuery reads a query, and what is wrong with it.
func parseQuery(text string) (*Query, *flaw) {
	if len(text) > maxQueryBytes {
		return nil, &flaw{0, fmt.Sprintf("the query has %d bytes, more than %d", len(text), maxQueryBytes), ""}
	}
	tokens, f := tokenize(text)
	if f == nil {
		tokens, f = oneSelect(tokens)
	}
	if f != nil {
		return nil, f
	}
	q := &Query{Tables: tablesOf(tokens)}
	from := 0
	for _, t := range tokens {
		if t.kind == sqlParam {
			q.param(t)
			q.pieces = append(q.pieces, text[from:t.from])
			from = t.to
		}
	}
	q.pieces = append(q.pieces, text[from:tokens[len(tokens)-1].from])
	q.SQL = q.fill(func(number int) string { return "$" + strconv.Itoa(number) })
	return q, nil
}

func (q *Query) param(t token) {
	i := slices.Index(q.Params, t.text)
	if i < 0 {
		i = len(q.Params)
		q.Params, q.params = append(q.Params, t.text), append(q.params, t)
	}
	q.numbers = append(q.numbers, i+1)
}

// oneSelect checks that a query is a single SELECT, and takes a closing semicolon off. It cannot know what functions do:
// that the connection is read-only does not depend on it.
func oneSelect(tokens []token) ([]token, *flaw) {
	for i, t := range tokens {
		if !t.is(";") {
			continue
		}
		if next := tokens[i+1]; next.kind != sqlEnd {
			return nil, &flaw{next.from, "the query has a second statement", "write one SELECT"}
		}
		tokens = append(slices.Clone(tokens[:i]), token{kind: sqlEnd, from: t.from, to: t.from})
		break
	}
	switch first := tokens[0]; {
	case first.kind == sqlEnd:
		return nil, &flaw{0, "the query is empty", "write SELECT ..."}
	case first.is(writes...):
		return nil, &flaw{first.from, "the query writes: " + strings.ToUpper(first.text), "it may only read: write a SELECT"}
	case !first.is("select", "with"):
		return nil, &flaw{first.from, "the query is not a SELECT", "it begins with SELECT, or WITH ... SELECT"}
	}
	for i, t := range tokens {
		// Behind a dot it is a column.
		if t.is(writes...) && (i == 0 || !tokens[i-1].is(".")) {
			return nil, &flaw{t.from, "the query writes or locks: " + strings.ToUpper(t.text), `it may only read; a column of that name needs quotes`}
		}
		if t.is("for") && tokens[i+1].is("share", "no", "key") {
			return nil, &flaw{t.from, "the query locks rows", "leave FOR " + strings.ToUpper(tokens[i+1].text) + " out"}
		}
	}
	return tokens, nil
}
