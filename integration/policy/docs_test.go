package policy

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// documents are the repository's texts for people, by their path from the top.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "integration/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(testkit.Top(), pattern))
		require.NoError(t, err)
		for _, p := range paths {
			name, err := filepath.Rel(testkit.Top(), p)
			require.NoError(t, err)
			all[filepath.ToSlash(name)] = readTop(t, name)
		}
	}
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", operations, "docs/wire.md"} {
		require.Contains(t, all, name)
	}
	return all
}

func TestRulesInDocumentsCompile(t *testing.T) {
	env := func(string) (string, bool) { return "redis://127.0.0.1:6379/0", true }
	var wrong faults
	for name, text := range documents(t) {
		for _, b := range blocks(text) {
			if b.language != "yaml" || !strings.Contains(b.text, "version: 1\n") {
				continue
			}
			if _, err := mapping.Compile(name, []byte(b.text), env); err != nil {
				wrong.add("%s:%d: %v", name, b.line, err)
			}
		}
	}
	wrong.none(t)
}

// TestProgramsInDocumentsCompile takes Go that begins with a package clause as a program, and else only parses it.
func TestProgramsInDocumentsCompile(t *testing.T) {
	var wrong faults
	for name, text := range documents(t) {
		for i, b := range blocks(text) {
			switch {
			case b.language != "go":
			case strings.HasPrefix(b.text, "package "):
				if out, err := vet(t, strconv.Itoa(i), b.text); err != nil {
					wrong.add("%s:%d: %s", name, b.line, out)
				}
			default:
				if !parses(b.text) {
					wrong.add("%s:%d: is no Go", name, b.line)
				}
			}
		}
	}
	wrong.none(t)
}

// vet checks a program as a package of this module that exists nowhere but in an overlay.
func vet(t *testing.T, name, program string) (string, error) {
	t.Helper()
	real := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(real, []byte(program), 0o600))
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(testkit.Top(), "integration", "document"+name, "main.go"): real,
	}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, text, 0o600))
	c := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, "-overlay", overlay, "./integration/document"+name)
	c.Dir = testkit.Top()
	out, err := c.CombinedOutput()
	return string(out), err
}

// parses tells whether a text is Go: declarations, or what may stand in a function.
func parses(text string) bool {
	text = strings.ReplaceAll(text, "{ ... }", "{}")
	for _, program := range []string{"package p\n" + text, "package p\nfunc _() {\n" + text + "\n}"} {
		if _, err := parser.ParseFile(token.NewFileSet(), "", program, parser.SkipObjectResolution); err == nil {
			return true
		}
	}
	return false
}

func TestMakeTargetsInDocumentsExist(t *testing.T) {
	targets := regexp.MustCompile(`(?m)^([a-z]+):`).FindAllStringSubmatch(readTop(t, "Makefile"), -1)
	known := map[string]bool{}
	for _, target := range targets {
		known[target[1]] = true
	}
	var wrong faults
	for name, text := range documents(t) {
		for _, m := range regexp.MustCompile("(?m)(?:^|`|[A-Z_]+=\\S+ )make ([a-z]+)").FindAllStringSubmatch(text, -1) {
			if !known[m[1]] {
				wrong.add("%s: make %s does not exist", name, m[1])
			}
		}
	}
	wrong.none(t)
}

func TestCommandsInDocumentsExistAndAllAreInOperations(t *testing.T) {
	var wrong faults
	for _, program := range []string{"cdc", "invalidator"} {
		for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+)  +[A-Z]`).FindAllStringSubmatch(help(t, program), -1) {
			if !strings.Contains(readTop(t, operations), "| `"+program+" "+m[1]+"` |") {
				wrong.add("%s does not list %s %s", operations, program, m[1])
			}
		}
	}
	call := regexp.MustCompile("(?:^|\\s|`|/)(cdc|invalidator) ([a-z]+)((?: +[^`#\\n]*)?)")
	flag := regexp.MustCompile(`--[a-z-]+`)
	helps := map[string]string{}
	for name, text := range documents(t) {
		for _, c := range calls(text) {
			for _, m := range call.FindAllStringSubmatch(c, -1) {
				about := m[1] + " " + m[2]
				if helps[about] == "" {
					helps[about] = help(t, m[1], m[2])
				}
				for _, f := range flag.FindAllString(m[3], -1) {
					if !strings.Contains(helps[about], f) {
						wrong.add("%s: %s has no %s", name, about, f)
					}
				}
				if !strings.Contains(helps[about], "Usage: "+about) {
					wrong.add("%s: there is no %s", name, about)
				}
			}
		}
	}
	wrong.none(t)
}

// calls are the parts of a document that can be commands: lines of shell, and code within lines.
func calls(document string) (all []string) {
	for _, b := range blocks(document) {
		if b.language != "sh" {
			continue
		}
		for _, line := range strings.Split(b.text, "\n") {
			command, _, _ := strings.Cut(line, "#")
			all = append(all, command)
		}
	}
	for _, m := range regexp.MustCompile("`((?:bin/)?(?:cdc|invalidator) [^`]+)`").FindAllStringSubmatch(document, -1) {
		all = append(all, m[1])
	}
	return all
}

// help returns what a program says of itself, or of a command.
func help(t *testing.T, program string, command ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), testkit.Binary(t, program), append(command, "--help")...)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return string(out)
}

// settings are all environment variables of both programs, with their defaults.
func settings() map[string]string {
	all := map[string]string{}
	for _, part := range []any{
		config.Postgres{}, config.NATS{}, config.Redis{}, config.Rules{}, config.CDC{}, config.Invalidator{}, config.Log{},
	} {
		typ := reflect.TypeOf(part)
		for i := range typ.NumField() {
			tag := typ.Field(i).Tag
			all[tag.Get("env")] = tag.Get("default")
		}
	}
	return all
}

func TestSettingsStandInOperationsWithTheirDefaults(t *testing.T) {
	table := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|([^|]*)\\|").FindAllStringSubmatch(readTop(t, operations), -1) {
		table[m[1]] = strings.TrimSpace(m[2])
	}
	var wrong faults
	for name, value := range settings() {
		want := "`" + value + "`"
		switch value {
		case "":
			want = ""
		case "${cores}":
			want = "number of cores"
		}
		if got, ok := table[name]; !ok || got != want {
			wrong.add("%s has %q for %s, not %q", operations, got, name, want)
		}
	}
	for name := range table {
		_, setting := settings()[name]
		if !setting && !slices.Contains([]string{"CHANGES", "INVALIDATIONS", "DEADLETTERS"}, name) {
			wrong.add("%s: there is no setting %s", operations, name)
		}
	}
	wrong.none(t)
}

// TestVariablesInDocumentsExist takes what is written as code, in capitals with an underscore, as a variable.
func TestVariablesInDocumentsExist(t *testing.T) {
	known := settings()
	sources := readTop(t, "Makefile") + readTop(t, "scripts/deps.sh")
	for _, f := range sourcesOf(t) {
		sources += f
	}
	var wrong faults
	for name, text := range documents(t) {
		for _, m := range regexp.MustCompile("(?:`|^)([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)[`=]").FindAllStringSubmatch(text, -1) {
			_, setting := known[strings.TrimSuffix(m[1], "_FILE")]
			if !setting && m[1] != "START_REPLICATION" && !regexp.MustCompile(`["${ ]`+m[1]+`\b`).MatchString(sources) {
				wrong.add("%s: nothing reads %s", name, m[1])
			}
		}
	}
	wrong.none(t)
}

// sourcesOf returns the text of all Go files but tests.
func sourcesOf(t *testing.T) (all []string) {
	t.Helper()
	for _, f := range sources(t) {
		if !f.test {
			all = append(all, readTop(t, f.path))
		}
	}
	return all
}

func TestMetricsStandInOperationsAndThoseInDocumentsExist(t *testing.T) {
	exported := map[string]bool{}
	for _, text := range sourcesOf(t) {
		for _, m := range regexp.MustCompile(`"(walfence_[a-z_]+[a-z])",\s+"|Name: +"(walfence_[a-z_]+)"|gauge\("([a-z_]+)"`).FindAllStringSubmatch(text, -1) {
			switch {
			case m[3] == "":
				exported[m[1]+m[2]] = true
			default:
				exported["walfence_"+strings.TrimPrefix(m[3], "walfence_")] = true
			}
		}
	}
	require.Greater(t, len(exported), 40)
	var wrong faults
	for name := range exported {
		if !strings.Contains(readTop(t, operations), "`"+name+"`") {
			wrong.add("%s does not have %s", operations, name)
		}
	}
	all := strings.Join(sourcesOf(t), "")
	for name, text := range documents(t) {
		for _, metric := range regexp.MustCompile(`walfence_[a-z_]+[a-z]`).FindAllString(text, -1) {
			if !exported[metric] && !strings.Contains(all, `"`+metric+`"`) && !strings.HasPrefix(metric, "walfence_cache_") {
				wrong.add("%s: there is no %s", name, metric)
			}
		}
	}
	wrong.none(t)
}

// TestSymbolsInArchitectureExist looks for `package.Symbol`, and for tests by their names.
func TestSymbolsInArchitectureExist(t *testing.T) {
	declared := map[string]bool{}
	for _, f := range sources(t) {
		for _, d := range f.tree.Decls {
			for _, name := range declares(d) {
				declared[f.tree.Name.Name+"."+name] = true
				declared[name] = declared[name] || strings.HasPrefix(name, "Test")
			}
		}
	}
	named := regexp.MustCompile("`([a-z]+\\.[A-Z][A-Za-z]+|Test[A-Z][A-Za-z]+)`").FindAllStringSubmatch(readTop(t, "ARCHITECTURE.md"), -1)
	require.Greater(t, len(named), 50)
	var wrong faults
	for _, m := range named {
		if !declared[m[1]] {
			wrong.add("ARCHITECTURE.md: there is no %s", m[1])
		}
	}
	wrong.none(t)
}

func TestPackagesStandInArchitecture(t *testing.T) {
	var wrong faults
	for _, f := range sources(t) {
		if f.test || !strings.HasPrefix(f.dir, "internal/") || strings.Contains(f.dir, "testdata") {
			continue
		}
		if !strings.Contains(readTop(t, "ARCHITECTURE.md"), "| `"+f.dir+"` |") {
			wrong.add("ARCHITECTURE.md does not have %s", f.dir)
		}
	}
	wrong.none(t)
}

// declares are the names at the top of a file that a declaration makes.
func declares(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return []string{d.Name.Name}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names = append(names, n.Name)
				}
			}
		}
	}
	return names
}

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	all := documents(t)
	var wrong faults
	for name, text := range all {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, heading, _ := strings.Cut(m[1], "#")
			target := path.Join(path.Dir(name), file)
			if file == "" {
				target = name
			}
			if _, err := os.Stat(filepath.Join(testkit.Top(), target)); err != nil {
				wrong.add("%s: %s leads nowhere", name, m[1])
			} else if heading != "" && !slices.Contains(headings(all[target]), heading) {
				wrong.add("%s: %s has no heading %s", name, target, heading)
			}
		}
	}
	wrong.none(t)
}

// headings are the anchors of a document's headings, as forges make them.
func headings(document string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(document, -1) {
		anchor := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(anchor, " ", "-"))
	}
	return all
}

func TestTheWireFormatIsAsItsDocumentHasIt(t *testing.T) {
	decoded := map[string]bool{}
	for _, b := range blocks(readTop(t, "docs/wire.md")) {
		if b.language != "json" {
			continue
		}
		if strings.Contains(b.text, `"cache"`) {
			var got events.Invalidation
			d := json.NewDecoder(strings.NewReader(b.text))
			d.DisallowUnknownFields()
			require.NoError(t, d.Decode(&got), b.text)
			again, err := json.Marshal(got)
			require.NoError(t, err)
			require.JSONEq(t, b.text, string(again))
			decoded["invalidation"] = true
			continue
		}
		var got events.Event
		require.NoError(t, events.Decode([]byte(b.text), &got), b.text)
		require.JSONEq(t, b.text, string(got.AppendBody(nil)), b.text)
		decoded[string(got.Kind)] = true
	}
	require.Len(t, decoded, 6, "an example of every kind")
	header := strings.TrimSpace(block(t, "docs/wire.md", "text", "system="))
	c, err := events.ParseContinuity(header)
	require.NoError(t, err)
	require.Equal(t, header, string(c.Append(nil)))
	for subject, built := range map[string]string{
		"changes.shop.public.users":         events.ChangesSubject("shop", events.Table{Schema: "public", Name: "users"}),
		"changes.shop.Sales.Order%20Items":  events.ChangesSubject("shop", events.Table{Schema: "Sales", Name: "Order Items"}),
		"invalidations.main.acme%2Eexample": events.InvalidationSubject("main", "acme.example"),
		"changes.shop._._":                  events.SourceSubject("shop"),
		"invalidations.main._":              events.GlobalInvalidationSubject("main"),
	} {
		require.Equal(t, built, subject)
		require.Contains(t, readTop(t, "docs/wire.md"), "`"+subject+"`")
	}
}
