package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Shape is what of a query's result is cached, as JSON.
type Shape string

const (
	ShapeRow   Shape = "row"   // an object, of the only row
	ShapeRows  Shape = "rows"  // a list of objects
	ShapeValue Shape = "value" // the only column of the only row
)

// RefreshSpec says how the value of a key is read again and filled.
type RefreshSpec struct {
	Query  *Query
	Shape  Shape
	TTL    time.Duration
	Jitter float64 // share of the TTL, 0 to 1, by which that varies at random
	// EmptyTTL is how long to cache that there is no row; zero: not at all.
	EmptyTTL time.Duration
	Keep     bool // the old value stays until the new one is there
}

const (
	minTTL = time.Second
	maxTTL = 30 * 24 * time.Hour // a value that nothing refreshes must end some day
)

// refreshOptions are the fields of a refresh that `defaults` may set.
var refreshOptions = []string{"result", "ttl", "jitter", "empty_ttl", "keep"}

var refreshFields = append([]string{"key", "query"}, refreshOptions...)

// readRefresh reads the keys that are read again and filled.
func (r *ruleSource) readRefresh(versions []string) {
	n := r.fields["refresh"]
	if n == nil {
		return
	}
	for _, item := range r.list(n, "refresh") {
		fields := r.object(item, "a refresh", refreshFields...)
		if fields == nil {
			continue
		}
		r.fillIn(fields, "refresh")
		spec := r.refreshSpec(item, fields)
		if key := fields["key"]; key == nil {
			r.fail(item, `the refresh has no "key"`, `write key: "tenant:{tenant}:..."`)
		} else if _, ok := r.scalar(key, `"key"`); ok {
			if t := r.template(key, versions); t != nil && spec.Query != nil {
				r.checkParams(fields["query"], t, spec.Query)
				r.add(output{template: t, refresh: spec, node: key}, versions)
			}
		}
	}
}

func (r *ruleSource) refreshSpec(item *yaml.Node, fields map[string]*yaml.Node) *RefreshSpec {
	s := &RefreshSpec{Shape: ShapeRow}
	if n := fields["query"]; n == nil {
		r.fail(item, `the refresh has no "query"`, "write query: SELECT ...")
	} else {
		s.Query, _ = r.query(n, "query")
	}
	if n := fields["result"]; n != nil {
		s.Shape = Shape(r.word(n, `"result"`, string(ShapeRow), string(ShapeRows), string(ShapeValue)))
	}
	if n := fields["ttl"]; n == nil {
		r.fail(item, `the refresh has no "ttl"`, "write ttl: 10m, here or under defaults: {refresh: ...}")
	} else {
		s.TTL = r.duration(n, `"ttl"`, minTTL, maxTTL)
	}
	if n := fields["jitter"]; n != nil {
		s.Jitter = r.percentage(n, `"jitter"`)
	}
	if n := fields["empty_ttl"]; n != nil {
		s.EmptyTTL = r.duration(n, `"empty_ttl"`, minTTL, maxTTL)
	}
	if n := fields["keep"]; n != nil {
		s.Keep = r.boolean(n, `"keep"`)
	}
	return s
}

// query reads a query; nil after a problem.
func (r *ruleSource) query(n *yaml.Node, what string) (*Query, []token) {
	if _, ok := r.scalar(n, strconv.Quote(what)); !ok {
		return nil, nil
	}
	q, f := parseQuery(n.Value)
	if f != nil {
		r.failAt(r.offset(n, f.at), f.cause, f.hint)
		return nil, nil
	}
	q.node = n
	tokens, _ := tokenize(n.Value)
	for _, t := range q.params {
		if len(t.text) > maxIdentifierBytes || t.text == "" {
			r.failAt(r.offset(n, t.from), "the parameter has no name that a column can have", "")
			return nil, nil
		}
	}
	return q, tokens
}

// checkParams checks that a key says all that its value depends on. Events are applied in any order and again, so that the
// value must follow from the key's name and the database, and not from the row that led to it.
func (r *ruleSource) checkParams(n *yaml.Node, t *template, q *Query) {
	for _, p := range q.params {
		i := slices.IndexFunc(t.fields, func(f field) bool { return f.name() == p.text })
		switch {
		case i < 0:
			r.failAt(r.offset(n, p.from), fmt.Sprintf("the parameter :%s is not part of the key", p.text),
				"a value may depend only on what its key says: put {"+p.text+"} into the key, or leave :"+p.text+" out")
		case t.fields[i].falls:
			r.failAt(r.offset(n, p.from), fmt.Sprintf("the parameter :%s has a default in the key, where NULL cannot be told from it", p.text),
				"write {"+p.text+"} without a default")
		}
	}
	if !r.rule.Global && r.rule.tenant != "" && !slices.Contains(q.Params, "tenant") {
		r.fail(n, "the query does not ask for :tenant", "without WHERE "+r.rule.tenant+" = :tenant it could cache another tenant's rows")
	}
}

// word reads one of a few words.
func (p *parser) word(n *yaml.Node, what string, known ...string) string {
	s, ok := p.scalar(n, what)
	if ok && !slices.Contains(known, s) {
		p.fail(n, fmt.Sprintf("unknown %s %s", what, quote(s)), didYouMean(s, known))
		return ""
	}
	return s
}

func (p *parser) boolean(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		p.fail(n, what+" is "+kind(n)+", not true or false", "write true or false")
	}
	return n.Value == "true"
}

// percentage reads 0% to 100% as a share of 1.
func (p *parser) percentage(n *yaml.Node, what string) float64 {
	digits, ok := strings.CutSuffix(n.Value, "%")
	f, err := strconv.ParseFloat(digits, 64)
	if n.Kind != yaml.ScalarNode || !ok || err != nil || !(f >= 0 && f <= 100) {
		p.fail(n, what+" is not a percentage", "write 0% to 100%, such as 10%")
		return 0
	}
	return f / 100
}

// count reads a whole number.
func (p *parser) count(n *yaml.Node, what string, least, most int) int {
	i, err := strconv.Atoi(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil:
		p.fail(n, what+" is not a whole number", "")
	case i < least || i > most:
		p.fail(n, fmt.Sprintf("%s is %d, not between %d and %d", what, i, least, most), "")
	default:
		return i
	}
	return least
}
