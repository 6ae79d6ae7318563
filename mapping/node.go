package mapping

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const (
	maxFileBytes  = 4 << 20
	maxAliasNodes = 100_000 // what all aliases of a file may stand for, together
)

// parser reads a rules file. It gathers problems and goes on.
type parser struct {
	text     *text
	env      func(string) (string, bool)
	problems Problems
	rule     string // name of the rule being read
	// Lines of `defaults`: what is wrong there is no rule's.
	defaultFrom, defaultTo int
}

func (p *parser) failAt(at place, cause, hint string) {
	rule := p.rule
	if p.defaultFrom > 0 && at.line >= p.defaultFrom && at.line <= p.defaultTo {
		rule = ""
	}
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, p.text.problem(at, rule, cause, hint))
	}
}

func (p *parser) fail(n *yaml.Node, cause, hint string) {
	p.failAt(place{n.Line, n.Column}, cause, hint)
}

// document parses YAML to the root of its only document; nil after a problem.
func (p *parser) document(src []byte) *yaml.Node {
	if len(src) > maxFileBytes {
		p.problems = append(p.problems, Problem{
			File: p.text.file, Cause: fmt.Sprintf("the file has %d bytes, more than %d", len(src), maxFileBytes),
		})
		return nil
	}
	if at, cause := p.text.illegible(); cause != "" {
		p.failAt(at, cause, "")
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(src))
	if err != nil {
		p.syntax(err)
		return nil
	}
	var doc, second yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		p.failAt(place{1, 1}, "the file is empty", `a rules file begins with "version: 1"`)
		return nil
	case err != nil:
		p.syntax(err)
		return nil
	}
	switch err := loader.Load(&second); {
	case err == nil:
		p.fail(&second, "a second document begins here", "a rules file is one YAML document")
		return nil
	case !errors.Is(err, io.EOF):
		p.syntax(err)
		return nil
	}
	root := doc.Content[0]
	if !p.bounded(root) {
		return nil
	}
	return root
}

func (p *parser) syntax(err error) {
	at, cause := place{1, 1}, err.Error()
	var load *yaml.LoadError
	if errors.As(err, &load) {
		cause = load.Message
		if load.ContextMsg != "" && load.ContextMark.Line > 0 {
			cause = fmt.Sprintf("%s, %s that began on line %d", cause, load.ContextMsg, load.ContextMark.Line)
		}
		if load.Mark.Line > 0 {
			at = place{load.Mark.Line, load.Mark.Column}
		}
		// A parser that ran out of input points behind it: where the construct began says more.
		if strings.TrimSpace(p.text.line(at.line)) == "" && load.ContextMark.Line > 0 {
			at = place{load.ContextMark.Line, load.ContextMark.Column}
		}
	}
	p.failAt(at, "not YAML: "+cause, "")
}

// bounded refuses aliases that contain themselves or stand for very much.
func (p *parser) bounded(root *yaml.Node) bool {
	w := &aliases{sizes: map[*yaml.Node]int{}}
	w.size(root)
	switch {
	case w.cycle != nil:
		p.fail(w.cycle, fmt.Sprintf("alias %q contains itself", w.cycle.Value), "")
	case w.added > maxAliasNodes:
		p.fail(root, fmt.Sprintf("the file's aliases stand for more than %d values", maxAliasNodes), "")
	default:
		return true
	}
	return false
}

// aliases counts what a tree's aliases stand for, each alias again.
type aliases struct {
	sizes map[*yaml.Node]int // of anchored nodes, expanded; 0 while it is being counted
	added int
	cycle *yaml.Node
}

func (a *aliases) size(n *yaml.Node) int {
	if n.Kind == yaml.AliasNode {
		return a.alias(n)
	}
	if n.Anchor != "" {
		a.sizes[n] = 0
	}
	size := 1
	for _, c := range n.Content {
		size = min(size+a.size(c), maxAliasNodes+1)
	}
	if n.Anchor != "" {
		a.sizes[n] = size
	}
	return size
}

func (a *aliases) alias(n *yaml.Node) int {
	size := a.sizes[n.Alias]
	if size == 0 && a.cycle == nil {
		a.cycle = n
	}
	a.added = min(a.added+size, maxAliasNodes+1)
	return size
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// object reads a mapping's values by name. Names that are not among known are problems.
func (p *parser) object(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		shown := known[:min(len(known), 5)]
		p.fail(n, fmt.Sprintf("%s is %s, not a mapping", what, kind(n)), "write "+strings.Join(shown, ": ..., ")+": ...")
		return nil
	}
	return p.entries(n, what, known)
}

// entries reads a mapping's values by name; a nil known allows every name.
func (p *parser) entries(n *yaml.Node, what string, known []string) map[string]*yaml.Node {
	values, lines := map[string]*yaml.Node{}, map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := follow(n.Content[i])
		switch line := lines[key.Value]; {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!null":
			p.fail(n.Content[i], fmt.Sprintf("%s has a field whose name is %s", what, kind(key)), "")
		case key.Tag == "!!merge":
			p.fail(n.Content[i], "merge keys are not supported", "write the fields out, or use an alias for a whole value")
		case line > 0:
			p.fail(n.Content[i], fmt.Sprintf("%q is given twice, first on line %d", key.Value, line), "")
		case known != nil && !slices.Contains(known, key.Value):
			p.fail(n.Content[i], fmt.Sprintf("unknown field %q in %s", key.Value, what), didYouMean(key.Value, known))
		default:
			values[key.Value] = follow(n.Content[i+1])
		}
		if _, ok := lines[key.Value]; !ok {
			lines[key.Value] = n.Content[i].Line
		}
	}
	return values
}

// list reads a sequence that must not be empty.
func (p *parser) list(n *yaml.Node, what string) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		hint := ""
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			hint = fmt.Sprintf("write %s: [%s]", what, quote(n.Value))
		}
		p.fail(n, fmt.Sprintf("%q is %s, not a list", what, kind(n)), hint)
		return nil
	}
	if len(n.Content) == 0 {
		p.fail(n, fmt.Sprintf("%q is an empty list", what), "name at least one")
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		items[i] = follow(c)
	}
	return items
}

// scalar reads a value that must be text, and not empty.
func (p *parser) scalar(n *yaml.Node, what string) (string, bool) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value != "":
		return n.Value, true
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null" && n.Value != "":
		p.fail(n, fmt.Sprintf("%s is %s, not text", what, kind(n)), "write "+strconv.Quote(n.Value))
	case n.Kind == yaml.ScalarNode:
		p.fail(n, what+" is empty", "")
	default:
		p.fail(n, fmt.Sprintf("%s is %s, not text", what, kind(n)), "")
	}
	return "", false
}

// texts reads a list of different texts. A single one may stand for the list where one is allowed.
func (p *parser) texts(n *yaml.Node, what string) []*yaml.Node {
	var items []*yaml.Node
	lines := map[string]int{}
	for _, item := range p.list(n, what) {
		s, ok := p.scalar(item, fmt.Sprintf("a value of %q", what))
		switch line := lines[s]; {
		case !ok:
		case line > 0:
			p.fail(item, fmt.Sprintf("%s stands twice in %q", quote(s), what), "")
		default:
			lines[s] = max(item.Line, 1)
			items = append(items, item)
		}
	}
	return items
}

const maxNameBytes = 128

// name reads a value that names something in logs, metrics and subjects.
func (p *parser) name(n *yaml.Node, what string) string {
	s, ok := p.scalar(n, what)
	if ok {
		p.checkName(n, what, s)
	}
	return s
}

func (p *parser) checkName(n *yaml.Node, what, s string) {
	switch {
	case len(s) > maxNameBytes:
		p.fail(n, fmt.Sprintf("%s has %d bytes, more than %d", what, len(s), maxNameBytes), "")
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError }):
		p.fail(n, fmt.Sprintf("%s holds white space or control characters: %s", what, quote(s)), "use letters, digits, - and _")
	}
}

// offset returns the place of a byte of a scalar's value, or of the scalar where they are not the same in the file.
func (p *parser) offset(n *yaml.Node, i int) place { return p.text.offset(n, i) }

func (t *text) offset(n *yaml.Node, i int) place {
	line := []rune(t.line(n.Line))
	if n.Column < 1 || n.Column > len(line) || i > len(n.Value) {
		return place{n.Line, n.Column}
	}
	rest, quoted := string(line[n.Column-1:]), 0
	if rest[0] == '"' || rest[0] == '\'' {
		rest, quoted = rest[1:], 1
	}
	if !strings.HasPrefix(rest, n.Value[:i]) {
		return place{n.Line, n.Column}
	}
	return place{n.Line, n.Column + quoted + utf8.RuneCountInString(n.Value[:i])}
}

// kind says what a node is, to people.
func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "empty"
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	}
	return "a value with the tag " + n.Tag
}
