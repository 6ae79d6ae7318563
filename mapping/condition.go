package mapping

import (
	"fmt"
	"reflect"
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

// CheckTypes checks the rules' conditions against the types of columns, given as PostgreSQL's oids by table and column
// (pg_attribute's atttypid: of a domain its own). Tables and columns that are not given are not checked. Where the types
// do not fit, a condition is unknown, and lets every change pass.
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
