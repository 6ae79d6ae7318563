package mapping

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/optimizer"
	exprparser "github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"github.com/walfence/walfence/pkg/events"
)

// truth is what a condition comes to.
type truth uint8

const (
	unknown truth = iota
	no
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// class is what a column's values are compared as.
type class uint8

const (
	classText   class = iota
	classPadded       // char(n), whose trailing spaces mean nothing
	classBool
	classInt
	classFloat
	classNumeric
	classUnknown // the event does not say
)

// classOf returns the class of a type by its oid. Types that are not here, domains included, are compared as their text.
func classOf(oid uint32) class {
	switch oid {
	case 16:
		return classBool
	case 20, 21, 23, 26: // bigint, smallint, integer, oid
		return classInt
	case 1042:
		return classPadded
	case 700, 701:
		return classFloat
	case 1700:
		return classNumeric
	case 0:
		return classUnknown
	}
	return classText
}

func (c class) exprType() types.Type {
	switch c {
	case classBool:
		return types.Bool
	case classInt:
		return types.Int
	case classFloat, classNumeric:
		return types.Float64
	case classText, classPadded:
		return types.String
	}
	return types.Any
}

// exactDigits is how many significant digits a float64 keeps apart, whatever the exponent.
const exactDigits = 15

// value reads PostgreSQL's text of a value; false where it cannot be compared exactly.
func (c class) value(text string) (any, bool) {
	switch c {
	case classBool:
		return text == "true", text == "true" || text == "false"
	case classInt:
		i, err := strconv.ParseInt(text, 10, 0)
		return int(i), err == nil
	case classFloat, classNumeric:
		f, err := strconv.ParseFloat(text, 64)
		exact := c == classFloat || significant(text) <= exactDigits
		return f, err == nil && exact && !math.IsNaN(f)
	case classText:
		return text, true
	case classPadded:
		return strings.TrimRight(text, " "), true
	}
	return nil, false
}

// significant counts the digits of a number, without leading zeros.
func significant(text string) int {
	n := 0
	for _, c := range []byte(text) {
		if c >= '0' && c <= '9' && (n > 0 || c != '0') {
			n++
		}
	}
	return n
}

// compiledTest is a test that is ready to run.
type compiledTest struct {
	program *vm.Program
	source  file.Source
}

// options are what tests are compiled with; a nil types allows any column.
func (c *clause) options(columns map[string]class) *conf.Config {
	row := types.Map{types.Extra: types.Any}
	for name, class := range columns {
		row[name] = class.exprType()
	}
	config := conf.CreateNew()
	for _, opt := range []expr.Option{
		expr.Env(types.Map{"row": row, "op": types.String, "tenant": types.String}), expr.AsBool(),
	} {
		opt(config)
	}
	config.Check()
	return config
}

// compile makes a condition's tests ready to run on values of any type: what does not fit fails, and is unknown then.
func (c *clause) compile(source file.Source) error {
	if c.connective != test || c.changed != nil {
		for _, part := range c.parts {
			if err := part.compile(source); err != nil {
				return err
			}
		}
		return nil
	}
	c.compiled = &compiledTest{source: source}
	if err := c.check(nil); err != nil {
		return err
	}
	config := c.options(nil)
	tree := &exprparser.Tree{Node: c.reparsed(), Source: source}
	if _, err := checker.Check(tree, config); err != nil {
		return err
	}
	if err := optimizer.Optimize(&tree.Node, config); err != nil {
		return fmt.Errorf("optimize: %w", err)
	}
	program, err := compiler.Compile(tree, config)
	if err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	c.compiled.program = program
	return nil
}

// check checks a test's types, given those of columns.
func (c *clause) check(columns map[string]class) error {
	tree := &exprparser.Tree{Node: c.reparsed(), Source: c.compiled.source}
	config := c.options(columns)
	if _, err := checker.Check(tree, config); err != nil {
		return err
	}
	return nil
}

// reparsed returns the test's tree afresh: checking and optimizing write to it, and a program is immutable.
func (c *clause) reparsed() ast.Node {
	tree, err := exprparser.Parse(c.compiled.source.String())
	if err != nil {
		return c.node
	}
	return find(tree.Node, c.node)
}

// find returns the node of a tree that is what another is in its own.
func find(root, like ast.Node) ast.Node {
	f := &finder{like: like}
	ast.Walk(&root, f)
	return f.found
}

type finder struct{ like, found ast.Node }

// Visit is part of ast.Visitor.
func (f *finder) Visit(n *ast.Node) {
	if (*n).Location() == f.like.Location() && reflect.TypeOf(*n) == reflect.TypeOf(f.like) && (*n).String() == f.like.String() {
		f.found = *n
	}
}

// env is what a test sees.
type env struct {
	row    map[string]any
	values map[string]any
	vm     vm.VM
}

func newEnv() *env {
	e := &env{row: map[string]any{}}
	e.values = map[string]any{"row": e.row}
	return e
}

// memo remembers what a test came to, by the values that it looked at: columns in conditions rarely hold many.
type memo struct {
	known map[string]truth
}

const maxMemo = 1024

// boundClause is a clause with the indexes of its columns.
type boundClause struct {
	*clause
	parts   []*boundClause
	indexes []int // of columns, or of changed
	classes []class
	sound   bool // the test's types fit; else it is unknown always
}

func (l *layout) bindClause(c *clause) *boundClause {
	b := &boundClause{clause: c}
	for _, part := range c.parts {
		b.parts = append(b.parts, l.bindClause(part))
	}
	names := c.columns
	if c.changed != nil {
		names = c.changed
	}
	columns := map[string]class{}
	for _, name := range names {
		i, k := l.index(name), classUnknown
		if i >= 0 && i < len(l.types) {
			k = classOf(l.types[i])
		}
		columns[name] = k
		b.indexes, b.classes = append(b.indexes, i), append(b.classes, k)
	}
	b.sound = c.compiled != nil && c.check(columns) == nil
	return b
}

// holds evaluates a clause for a row: yes, no, or unknown.
//
// The zero truth is unknown, so that nothing is skipped by an omission.
func (b *boundClause) holds(w row, tenant events.Value, out *Result) truth {
	switch b.connective {
	case not:
		switch b.parts[0].holds(w, tenant, out) {
		case yes:
			return no
		case no:
			return yes
		}
		return unknown
	case and, or:
		return b.join(w, tenant, out)
	}
	if b.changed != nil {
		return b.hasChanged(w)
	}
	return b.run(w, tenant, out)
}

// join evaluates the two parts of an and or an or. What decides alone decides, even if the other part is unknown.
func (b *boundClause) join(w row, tenant events.Value, out *Result) truth {
	decides, otherwise := no, yes
	if b.connective == or {
		decides, otherwise = yes, no
	}
	left := b.parts[0].holds(w, tenant, out)
	if left == decides {
		return decides
	}
	right := b.parts[1].holds(w, tenant, out)
	switch {
	case right == decides:
		return decides
	case left == otherwise && right == otherwise:
		return otherwise
	}
	return unknown
}

// hasChanged evaluates changed(...). Rows that are inserted or deleted change in every column.
func (b *boundClause) hasChanged(w row) truth {
	if w.change.Op != events.Update {
		return yes
	}
	result := no
	for _, i := range b.indexes {
		switch columnChanged(w.event, w.change, i) {
		case yes:
			return yes
		case unknown:
			result = unknown
		}
	}
	return result
}

// run evaluates a test. Where a value that it looks at is not known, nor is the result; nor where evaluating fails.
func (b *boundClause) run(w row, tenant events.Value, out *Result) truth {
	if !b.sound || b.tenant && tenant.State != events.Present && tenant.State != events.Null {
		return unknown
	}
	key := out.scratch[:0]
	for _, i := range b.indexes {
		v := w.value(i)
		switch v.State {
		case events.Present:
			key = append(strconv.AppendInt(append(key, 'p'), int64(len(v.Text)), 10), ':')
			key = append(key, v.Text...)
		case events.Null:
			key = append(key, 'n')
		default:
			return unknown
		}
	}
	key = append(key, byte(w.change.Op))
	if b.tenant {
		key = append(append(key, byte(tenant.State)), tenant.Text...)
	}
	out.scratch = key
	return out.memoized(b, w, tenant, key)
}

func (r *Result) memoized(b *boundClause, w row, tenant events.Value, key []byte) truth {
	m := r.memos[b]
	if m == nil {
		if r.memos == nil || len(r.memos) > maxMemo {
			r.memos = map[*boundClause]*memo{}
		}
		m = &memo{known: map[string]truth{}}
		r.memos[b] = m
	}
	t, ok := m.known[string(key)]
	if !ok {
		if r.env == nil {
			r.env = newEnv()
		}
		t = b.evaluate(w, tenant, r.env)
		if len(m.known) >= maxMemo {
			clear(m.known)
		}
		if len(key) <= 256 {
			m.known[string(key)] = t
		}
	}
	return t
}

func (b *boundClause) evaluate(w row, tenant events.Value, e *env) truth {
	clear(e.row)
	for k, i := range b.indexes {
		v := w.value(i)
		if v.State == events.Null {
			e.row[b.columns[k]] = nil
			continue
		}
		value, ok := b.classes[k].value(v.Text)
		if !ok {
			return unknown
		}
		e.row[b.columns[k]] = value
	}
	e.values["op"], e.values["tenant"] = w.change.Op.String(), any(tenant.Text)
	if tenant.State == events.Null {
		e.values["tenant"] = nil
	}
	result, err := e.vm.Run(b.compiled.program, e.values)
	if is, ok := result.(bool); ok && err == nil {
		return truthOf(is)
	}
	return unknown
}

// CheckTypes checks the rules' conditions against the types of columns, given as PostgreSQL's oids by table and column.
// Tables and columns that are not given are not checked.
func (p *Program) CheckTypes(typesOf map[events.Table]map[string]uint32) Problems {
	var out Problems
	for _, r := range p.rules {
		known := typesOf[r.Table]
		if r.when == nil || known == nil {
			continue
		}
		columns := map[string]class{}
		for name, oid := range known {
			columns[name] = classOf(oid)
		}
		r.when.clause.checkAll(columns, func(err error) {
			at, cause := whenFault(r.when.node, err)
			out = append(out, r.text.problem(r.text.offset(r.when.node, at), r.Name, `"when": `+cause, columnTypes(r, known)))
		})
	}
	return out.Sort()
}

func (c *clause) checkAll(columns map[string]class, report func(error)) {
	for _, part := range c.parts {
		part.checkAll(columns, report)
	}
	if c.compiled != nil {
		if err := c.check(columns); err != nil {
			report(err)
		}
	}
}

var classNames = []string{"text", "text", "true or false", "a whole number", "a number", "a number", "unknown"}

// columnTypes says what the columns of a condition are compared as.
func columnTypes(r *Rule, known map[string]uint32) string {
	var parts []string
	for _, c := range r.when.columns {
		if oid, ok := known[c]; ok {
			parts = append(parts, "row."+c+" is "+classNames[classOf(oid)])
		}
	}
	return strings.Join(parts, ", ")
}
