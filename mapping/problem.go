package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxProblems bounds what one file can report: nobody reads more, and a broken generator must not cost gigabytes.
const maxProblems = 1000

// Problem is one thing that is wrong with a rules file.
type Problem struct {
	File   string
	Line   int    // from 1; 0 where no line can be named
	Column int    // in characters, from 1; 0 where no line can be named
	Rule   string // name of the rule it stands in; empty outside of rules
	Cause  string // what is wrong, without a full stop
	Hint   string // what to write instead; may be empty or hold several lines
	Source string // the offending line, shortened around Column where it is long, passwords redacted

	caret int // characters of Source before the place; differs from Column-1 where Source was shortened or redacted
}

// Error returns `file:line:column: rule "name": cause`.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Rule != "" {
		fmt.Fprintf(&b, ": rule %q", p.Rule)
	}
	return b.String() + ": " + p.Cause
}

// Pretty returns the problem with its source line, a caret below the place, and the hint. It ends with a line feed.
func (p Problem) Pretty() string {
	var b strings.Builder
	b.WriteString(p.Error() + "\n")
	if p.Source != "" {
		number := fmt.Sprintf("%5d | ", p.Line)
		fmt.Fprintf(&b, "%s%s\n%*s%s^\n", number, p.Source, len(number), "| ", indent(p.Source, p.caret))
	}
	for i, line := range strings.Split(p.Hint, "\n") {
		switch {
		case p.Hint == "":
		case i == 0:
			fmt.Fprintf(&b, "  hint: %s\n", line)
		default:
			fmt.Fprintf(&b, "        %s\n", line)
		}
	}
	return b.String()
}

// indent returns white space as wide as the first n characters of line.
func indent(line string, n int) string {
	var b strings.Builder
	for _, r := range line {
		if n == 0 {
			break
		}
		n--
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// Problems is everything that is wrong with a rules file, in the order of the file. It is the error of [Compile].
type Problems []Problem

// Error returns one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Pretty returns each problem with its source line, a caret and the hint, with an empty line between two.
func (ps Problems) Pretty() string {
	parts := make([]string, len(ps))
	for i, p := range ps {
		parts[i] = p.Pretty()
	}
	return strings.Join(parts, "\n")
}

// Sort puts the problems in the order of the file and drops repeated ones.
func (ps Problems) Sort() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Cause, b.Cause))
	})
	return slices.Compact(ps)
}

// place is a position in a file: line and column in characters, from 1.
type place struct{ line, column int }

const (
	contextBefore = 80  // characters of a long line that are shown before the place
	contextAfter  = 100 // and after it
)

// problem describes what is wrong at a place of the file.
func (t *text) problem(at place, rule, cause, hint string) Problem {
	p := Problem{File: t.file, Line: at.line, Column: at.column, Rule: rule, Cause: cause, Hint: hint}
	line := []rune(t.line(at.line))
	before, after := line, []rune(nil)
	if n := max(at.column-1, 0); n < len(line) {
		before, after = line[:n], line[n:]
	}
	head, tail := string(before), string(after)
	if t.secret(at.line) {
		whole := redact(head + tail)
		head = redact(head)
		if n := len(head); n <= len(whole) && whole[:n] == head {
			tail = whole[n:]
		} else {
			head, tail = "", whole // the place is inside a secret: point at the line
		}
	}
	p.Source, p.caret = shorten(head, tail)
	return p
}

// shorten cuts a long line around the place between head and tail, and returns how many characters stand before it.
func shorten(head, tail string) (string, int) {
	if n := utf8.RuneCountInString(head); n > contextBefore {
		r := []rune(head)
		head = "…" + string(r[n-contextBefore:])
	}
	if n := utf8.RuneCountInString(tail); n > contextAfter {
		tail = string([]rune(tail)[:contextAfter]) + "…"
	}
	return head + tail, utf8.RuneCountInString(head)
}
