package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	exprparser "github.com/expr-lang/expr/parser"
	"go.yaml.in/yaml/v4"
)

// maxWhenBytes bounds an expression, and with what is refused below, the work of evaluating it: nothing in it repeats.
const maxWhenBytes = 4096

// whenFunctions are the functions of the language that cost no more than what they are given, and know no clock.
var whenFunctions = []string{
	"abs", "ceil", "floor", "round", "int", "float", "string", "len", "lower", "upper", "trim", "trimPrefix", "trimSuffix",
	"hasPrefix", "hasSuffix", "indexOf", "lastIndexOf", "min", "max", "fromJSON",
}

// condition is a rule's `when`.
type condition struct {
	clause  *clause
	columns []string // that it names, sorted
	node    *yaml.Node
	spots   []spot // where it names them
}

type spot struct {
	column string
	at     place
}

// connective is how a clause follows from its parts.
type connective uint8

const (
	test connective = iota // no parts: an expression, or changed(...)
	and
	or
	not
)

// clause is a condition or a part of it. The connectives are evaluated here, since what is unknown in one part may not
// matter to the whole; the tests between them by package expr.
type clause struct {
	connective connective
	parts      []*clause

	text     string // of a test, as it is shown
	changed  []string
	node     ast.Node
	columns  []string // of a test
	tenant   bool     // the test names the tenant
	compiled *compiledTest
}

// whenReader reads an expression.
type whenReader struct {
	r    *ruleSource
	node *yaml.Node
	cond *condition
	bad  bool
}

// readWhen reads `when`.
func (r *ruleSource) readWhen() {
	n := r.fields["when"]
	if n == nil {
		return
	}
	if _, ok := r.scalar(n, `"when"`); !ok {
		return
	}
	if len(n.Value) > maxWhenBytes {
		r.fail(n, fmt.Sprintf(`"when" has %d bytes, more than %d`, len(n.Value), maxWhenBytes), "")
		return
	}
	w := &whenReader{r: r, node: n, cond: &condition{node: n}}
	tree, err := exprparser.Parse(n.Value)
	if err != nil {
		w.fault(err)
		return
	}
	w.cond.clause = w.clause(tree.Node)
	if w.bad {
		return
	}
	if err := w.cond.clause.compile(tree.Source); err != nil {
		w.fault(err)
		return
	}
	w.cond.columns = unique(w.cond.columns)
	for _, s := range w.cond.spots {
		r.uses(s.column, s.at)
	}
	r.rule.when = w.cond
}

// fault reports an error of package expr, at its place.
func (w *whenReader) fault(err error) {
	at, cause := whenFault(w.node, err)
	w.r.failAt(w.r.offset(w.node, at), `"when": `+cause, "")
	w.bad = true
}

// whenFault returns where an error of package expr is in the text, and what it says.
func whenFault(n *yaml.Node, err error) (at int, cause string) {
	var f *file.Error
	if !errors.As(err, &f) {
		return 0, err.Error()
	}
	return byteOf(n.Value, f.From), f.Message
}

// byteOf returns the byte at which a character of a text begins.
func byteOf(s string, character int) int {
	for i := range s {
		if character == 0 {
			return i
		}
		character--
	}
	return len(s)
}

func (w *whenReader) fail(n ast.Node, cause, hint string) {
	w.r.failAt(w.place(n), `"when": `+cause, hint)
	w.bad = true
}

func (w *whenReader) place(n ast.Node) place {
	return w.r.offset(w.node, byteOf(w.node.Value, n.Location().From))
}

func (w *whenReader) clause(n ast.Node) *clause {
	switch n := n.(type) {
	case *ast.BinaryNode:
		switch n.Operator {
		case "&&", "and":
			return &clause{connective: and, parts: []*clause{w.clause(n.Left), w.clause(n.Right)}}
		case "||", "or":
			return &clause{connective: or, parts: []*clause{w.clause(n.Left), w.clause(n.Right)}}
		}
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			return &clause{connective: not, parts: []*clause{w.clause(n.Node)}}
		}
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok && callee.Value == "changed" {
			return w.changed(n)
		}
	}
	c := &clause{text: n.String(), node: n}
	w.test(n, c)
	c.columns = unique(c.columns)
	w.cond.columns = append(w.cond.columns, c.columns...)
	return c
}

// changed reads changed("a", "b").
func (w *whenReader) changed(n *ast.CallNode) *clause {
	c := &clause{text: n.String()}
	for _, arg := range n.Arguments {
		if s, ok := arg.(*ast.StringNode); ok && s.Value != "" {
			c.changed = append(c.changed, s.Value)
			w.names(s.Value, arg)
		} else {
			w.fail(arg, "changed() takes names of columns", `write changed("price", "stock")`)
		}
	}
	if len(n.Arguments) == 0 {
		w.fail(n, "changed() names no column", `write changed("price")`)
	}
	w.cond.columns = append(w.cond.columns, c.changed...)
	return c
}

// names notes where a column is named.
func (w *whenReader) names(column string, n ast.Node) {
	if len(column) > maxIdentifierBytes {
		w.fail(n, "a column's name is longer than PostgreSQL's 63 bytes", "")
	}
	w.cond.spots = append(w.cond.spots, spot{column, w.place(n)})
}

// test checks a test's expression, and gathers what it names.
func (w *whenReader) test(n ast.Node, c *clause) {
	switch n := n.(type) {
	case *ast.MemberNode:
		w.member(n, c)
	case *ast.IdentifierNode:
		w.identifier(n, c)
	case *ast.CallNode:
		w.call(n)
	case *ast.BuiltinNode:
		if !slices.Contains(whenFunctions, n.Name) {
			w.unknownFunction(n, n.Name)
		}
		w.tests(c, n.Arguments...)
	case *ast.BinaryNode:
		if n.Operator == ".." {
			w.fail(n, "ranges are not supported", "compare: row.n >= 1 and row.n <= 9")
		}
		w.tests(c, n.Left, n.Right)
	case *ast.UnaryNode:
		w.test(n.Node, c)
	case *ast.ChainNode:
		w.test(n.Node, c)
	case *ast.ConditionalNode:
		w.tests(c, n.Cond, n.Exp1, n.Exp2)
	case *ast.ArrayNode:
		w.tests(c, n.Nodes...)
	case *ast.NilNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.StringNode, *ast.ConstantNode:
	default:
		w.fail(n, "this part of the language is not supported here", "row, op, tenant, changed(), comparisons, in, and, or, not")
	}
}

func (w *whenReader) tests(c *clause, nodes ...ast.Node) {
	for _, n := range nodes {
		w.test(n, c)
	}
}

// member reads row.column or row["Column"], and below it what fromJSON gave.
func (w *whenReader) member(n *ast.MemberNode, c *clause) {
	id, ok := n.Node.(*ast.IdentifierNode)
	if !ok || id.Value != "row" {
		w.tests(c, n.Node, n.Property)
		return
	}
	name, ok := n.Property.(*ast.StringNode)
	if !ok {
		w.fail(n, "the column is not named", `write row.column, or row["Column"]`)
		return
	}
	c.columns = append(c.columns, name.Value)
	w.names(name.Value, n.Property)
}

func (w *whenReader) identifier(n *ast.IdentifierNode, c *clause) {
	switch n.Value {
	case "op":
	case "tenant":
		c.tenant = true
		if w.r.rule.Global {
			w.fail(n, "the rule is global: tenant has no value", "")
		}
	case "row":
		w.fail(n, "row stands alone", "name a column: row.status")
	default:
		w.fail(n, "unknown name "+quote(n.Value), didYouMean(n.Value, []string{"row", "op", "tenant"})+
			columnHint(n.Value))
	}
}

func columnHint(name string) string {
	if nearest(name, []string{"row", "op", "tenant"}) != "" {
		return ""
	}
	return "; a column is written row." + brief(name)
}

func (w *whenReader) call(n *ast.CallNode) {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	switch {
	case !ok:
		w.fail(n, "this call is not supported here", "known: "+strings.Join(whenFunctions, ", "))
	case callee.Value == "changed":
		w.fail(n, "changed() stands inside of another expression", "join it with others by and, or, not")
	default:
		w.unknownFunction(n, callee.Value)
	}
}

func (w *whenReader) unknownFunction(n ast.Node, name string) {
	w.fail(n, "unknown function "+strconv.Quote(brief(name)), didYouMean(name, append([]string{"changed"}, whenFunctions...)))
}
