package policy

import (
	"slices"
	"strings"
	"testing"
)

// mayImport says which of our packages the packages below a directory may import, beside their own neighbours below it.
// Tests may import testkit too. The longest prefix counts.
var mayImport = map[string][]string{
	"pkg/events":       {},
	"pkg/cache":        {"pkg/events"},
	"mapping":          {"pkg/events"},
	"internal":         {"internal", "mapping", "pkg"},
	"internal/testkit": {},
	"internal/config":  {},
	"cmd":              {"internal", "mapping", "pkg"},
	"integration":      {"internal", "mapping", "pkg"},
	"examples":         {"pkg"}, // a module of its own: what an application can do
}

// impure is what mapping must not need: it maps the same rules and the same change to the same keys, always.
var impure = []string{
	"bufio", "context", "crypto/rand", "database", "internal", "io/fs", "log", "math/rand", "net", "os", "runtime", "syscall",
}

// textual is what stands below an impure path and only reads texts.
var textual = []string{"net/netip", "net/textproto", "net/url"}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func allowed(f file) (dirs []string, known bool) {
	longest := ""
	for dir := range mayImport {
		if under(f.dir, dir) && len(dir) > len(longest) {
			longest = dir
		}
	}
	dirs, known = mayImport[longest]
	dirs = append(slices.Clone(dirs), longest)
	if f.test {
		dirs = append(dirs, "internal/testkit")
	}
	return dirs, known
}

func TestImportsGoOneWay(t *testing.T) {
	var found faults
	for _, f := range sources(t) {
		dirs, known := allowed(f)
		if !known {
			found.add("%s: what may this directory import? say it in mayImport", f.path)
		}
		for _, i := range ours(f) {
			if !slices.ContainsFunc(dirs, func(dir string) bool { return under(i, dir) }) {
				found.add("%s imports %s", f.path, i)
			}
		}
	}
	found.none(t)
}

func ours(f file) (paths []string) {
	for _, i := range f.imports() {
		for _, top := range []string{"pkg", "mapping", "internal", "cmd", "integration"} {
			if under(i, top) {
				paths = append(paths, i)
			}
		}
	}
	return paths
}

func TestOnlyTestsAndIntegrationStartServers(t *testing.T) {
	var found faults
	for _, f := range sources(t) {
		if !f.test && !under(f.dir, "integration") && slices.Contains(f.imports(), "internal/testkit") {
			found.add("%s imports testkit", f.path)
		}
	}
	found.none(t)
}

func TestMappingIsPure(t *testing.T) {
	var found faults
	for _, f := range sources(t) {
		if f.test || !under(f.dir, "mapping") {
			continue
		}
		for _, i := range f.imports() {
			if slices.ContainsFunc(impure, func(dir string) bool { return under(i, dir) }) && !slices.Contains(textual, i) {
				found.add("%s imports %s", f.path, i)
			}
		}
	}
	found.none(t)
}

func TestTestsUseRequireAndNeverAssert(t *testing.T) {
	var found faults
	for _, f := range sources(t) {
		if slices.Contains(f.imports(), "github.com/stretchr/testify/assert") {
			found.add("%s imports assert", f.path)
		}
	}
	found.none(t)
}
