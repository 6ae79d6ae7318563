package policy

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines     = 500
	maxFunctionLines = 80
	maxTestLines     = 150 // tables are long
)

func TestEveryPackageStatesItsPromise(t *testing.T) {
	stated := make(map[string]bool)
	for _, f := range sources(t) {
		if !f.test {
			text := f.tree.Doc.Text()
			ok := strings.HasPrefix(text, "Package "+f.tree.Name.Name+" ") || f.tree.Name.Name == "main" && text != ""
			stated[f.dir] = stated[f.dir] || ok
		}
	}
	var found faults
	for dir, ok := range stated {
		if !ok {
			found.add("%s has no package comment", dir)
		}
	}
	found.none(t)
}

var fillers = regexp.MustCompile(`util|helper|manager|common|misc|base|impl`)

func TestPackagesAreNamedByRole(t *testing.T) {
	var found faults
	for _, f := range sources(t) {
		if fillers.MatchString(f.tree.Name.Name) {
			found.add("%s: package %s", f.path, f.tree.Name.Name)
		}
	}
	found.none(t)
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	var found faults
	for _, f := range sources(t) {
		if lines := f.line(f.tree.End()); lines > maxFileLines {
			found.add("%s has %d lines", f.path, lines)
		}
		limit := maxFunctionLines
		if f.test {
			limit = maxTestLines
		}
		for _, d := range f.tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if lines := f.line(fn.End()) - f.line(fn.Pos()) + 1; lines > limit {
				found.add("%s: %s has %d lines", f.path, fn.Name, lines)
			}
		}
	}
	found.none(t)
}

// forbidden are names by package or receiver that no test may use.
var forbidden = []string{"time.Sleep", "t.Skip", "t.Skipf", "t.SkipNow", "b.Skip", "b.Skipf", "b.SkipNow", "testing.Short"}

// excused tells what is forbidden in name only: sleeping where synctest makes time waits for nothing real, and rapid skips
// not a test but one of its draws.
func excused(f file, x *ast.Ident) bool {
	if x.Name == "time" {
		return slices.Contains(f.imports(), "testing/synctest")
	}
	if x.Obj == nil {
		return false
	}
	field, ok := x.Obj.Decl.(*ast.Field)
	if !ok {
		return false
	}
	pointer, ok := field.Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	typ, ok := pointer.X.(*ast.SelectorExpr)
	return ok && fmt.Sprint(typ.X) == "rapid"
}

func TestTestsNeitherSleepNorSkip(t *testing.T) {
	var found faults
	for _, f := range sources(t) {
		ast.Inspect(f.tree, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && f.test {
				x, ok := s.X.(*ast.Ident)
				if ok && slices.Contains(forbidden, x.Name+"."+s.Sel.Name) && !excused(f, x) {
					found.add("%s:%d: %s.%s", f.path, f.line(s.Pos()), x.Name, s.Sel.Name)
				}
			}
			return true
		})
	}
	found.none(t)
}

func TestErrorsDoNotSayFailedTo(t *testing.T) {
	words := "failed" + " to "
	var found faults
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && strings.Contains(l.Value, words) {
				found.add("%s:%d: %s", f.path, f.line(l.Pos()), l.Value)
			}
			return true
		})
	}
	found.none(t)
}

func TestNothingIsLeftForLater(t *testing.T) {
	marks := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	var found faults
	for _, f := range sources(t) {
		for _, group := range f.tree.Comments {
			if marks.MatchString(group.Text()) {
				found.add("%s:%d: %s", f.path, f.line(group.Pos()), group.Text())
			}
		}
	}
	found.none(t)
}

// wellKnown methods say by their interface what they do.
var wellKnown = []string{"Error", "Unwrap", "Is", "String"}

func TestExportedNamesAreDocumented(t *testing.T) {
	var found faults
	for _, f := range sources(t) {
		if f.test || f.tree.Name.Name == "main" {
			continue
		}
		for _, d := range f.tree.Decls {
			for _, name := range undocumented(d) {
				found.add("%s:%d: %s has no comment", f.path, f.line(d.Pos()), name)
			}
		}
	}
	found.none(t)
}

func undocumented(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && (d.Recv == nil || !slices.Contains(wellKnown, d.Name.Name)) {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		var names []string
		for _, spec := range d.Specs {
			names = append(names, undocumentedSpec(spec, d.Doc != nil)...)
		}
		return names
	}
	return nil
}

// exportedReceiver tells whether a caller from outside meets the method by its type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	exported := false
	ast.Inspect(d.Recv, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.IsExported() && !slices.ContainsFunc(d.Recv.List[0].Names, func(r *ast.Ident) bool { return r == id }) {
			exported = true
		}
		return true
	})
	return exported
}

func undocumentedSpec(spec ast.Spec, group bool) []string {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && !group {
			return []string{s.Name.Name}
		}
	case *ast.ValueSpec:
		if s.Names[0].IsExported() && s.Doc == nil && s.Comment == nil && !group {
			return []string{s.Names[0].Name}
		}
	}
	return nil
}
