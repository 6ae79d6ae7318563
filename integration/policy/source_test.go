package policy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/internal/testkit"
)

const module = "github.com/walfence/walfence/"

// file is one parsed Go file of the repository.
type file struct {
	path string // from the top, with slashes
	dir  string
	test bool
	tree *ast.File
	set  *token.FileSet
}

func (f file) line(p token.Pos) int { return f.set.Position(p).Line }

// imports are the paths that it imports, without the module's own prefix.
func (f file) imports() []string {
	var paths []string
	for _, i := range f.tree.Imports {
		paths = append(paths, strings.TrimPrefix(strings.Trim(i.Path.Value, `"`), module))
	}
	return paths
}

// faults collects what is wrong everywhere, so that one run shows all of it.
type faults []string

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

func (f *faults) none(t *testing.T) {
	t.Helper()
	if len(*f) > 0 {
		t.Fatalf("%d faults:\n%s", len(*f), strings.Join(*f, "\n"))
	}
}

// sources parses all Go files that the go command would see.
func sources(t *testing.T) []file {
	t.Helper()
	var files []file
	set := token.NewFileSet()
	err := filepath.WalkDir(testkit.Top(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != testkit.Top() && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		tree, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(testkit.Top(), path)
		relative = filepath.ToSlash(relative)
		files = append(files, file{
			path: relative, dir: filepath.ToSlash(filepath.Dir(relative)), test: strings.HasSuffix(name, "_test.go"), tree: tree, set: set,
		})
		return err
	})
	require.NoError(t, err)
	require.Greater(t, len(files), 20)
	return files
}
