package mapping

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/walfence/walfence/pkg/events"
)

// MaxKeyBytes is the longest key that is ever rendered. What would be longer widens.
const MaxKeyBytes = 4096

// flaw is a problem of a text, at a byte of it.
type flaw struct {
	at          int
	cause, hint string
}

// source is what fills a placeholder.
type source uint8

const (
	fromColumn source = iota
	fromTenant
	fromVersion // only until a template is expanded
)

// field is a placeholder.
type field struct {
	source     source
	column     string // of fromColumn
	fallback   string // instead of NULL, as it stands in the key
	falls      bool   // has a fallback
	aloneInTag bool   // nothing else stands in the key's hash tag, so that it must not be empty
	at         int    // in the text of the template
}

func (f *field) name() string {
	switch f.source {
	case fromTenant:
		return "tenant"
	case fromVersion:
		return "version"
	}
	return f.column
}

// template is a key with placeholders: literals[0], fields[0], literals[1], ... , literals[len(fields)].
type template struct {
	literals []string
	fields   []field
}

// templateReader reads a template's text.
type templateReader struct {
	text    string
	literal strings.Builder // since the last placeholder
	tag     int             // where the hash tag was opened; -1 before
	closed  bool            // the hash tag was closed
	out     template
	flaws   []flaw
}

// parseTemplate reads a template's text, and all that is wrong with it.
func parseTemplate(text string) (*template, []flaw) {
	r := &templateReader{text: text, tag: -1}
	if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 {
		r.fail(i, "the template holds a control character", "a YAML block (|) ends in a line feed: write the template in quotes")
	}
	for i := 0; i < len(text); {
		i = r.step(i)
	}
	if r.tag >= 0 && !r.closed {
		r.fail(r.tag, "the hash tag is never closed", "{{ and }} are the literal braces of a hash tag; a placeholder is written {column}")
	}
	r.out.literals = append(r.out.literals, r.literal.String())
	r.check()
	return &r.out, r.flaws
}

func (r *templateReader) fail(at int, cause, hint string) {
	r.flaws = append(r.flaws, flaw{at, cause, hint})
}

// step reads what begins at i and returns what it is followed by.
func (r *templateReader) step(i int) int {
	switch rest := r.text[i:]; {
	case strings.HasPrefix(rest, "{{"):
		return r.open(i)
	case rest[0] == '{':
		return r.placeholder(i)
	case strings.HasPrefix(rest, "}}"):
		return r.shut(i)
	case rest[0] == '}':
		r.fail(i, "unbalanced brace: } closes no placeholder", "a literal brace is written }}, and only to close a hash tag")
		return i + 1
	default:
		r.literal.WriteByte(rest[0])
		return i + 1
	}
}

func (r *templateReader) open(i int) int {
	if r.tag >= 0 {
		r.fail(i, "the template has a second hash tag", "Redis knows one per key: a literal {{ may stand only once")
	} else {
		r.tag = i
	}
	r.literal.WriteByte('{')
	return i + 2
}

func (r *templateReader) shut(i int) int {
	switch {
	case r.tag < 0 || r.closed:
		r.fail(i, "unbalanced brace: }} closes no hash tag", "a hash tag is opened with {{")
	case i == r.tag+2:
		r.fail(r.tag, "the hash tag is empty", "put what must share a slot between {{ and }}, such as {{{tenant}}}")
	}
	r.closed = true
	r.literal.WriteByte('}')
	return i + 2
}

func (r *templateReader) placeholder(i int) int {
	n := strings.IndexAny(r.text[i+1:], "{}")
	if n < 0 || r.text[i+1+n] == '{' {
		r.fail(i, "unbalanced brace: { opens a placeholder that is not closed", "a placeholder is written {column}; a literal brace {{")
		if n < 0 {
			return len(r.text)
		}
		return i + 1 + n
	}
	end := i + 1 + n
	r.field(i, r.text[i+1:end])
	return end + 1
}

func (r *templateReader) field(at int, body string) {
	name, fallback, falls := strings.Cut(body, "|")
	f := field{column: name, fallback: fallback, falls: falls, at: at}
	switch name {
	case "tenant":
		f.source, f.column = fromTenant, ""
	case "version":
		f.source, f.column = fromVersion, ""
	}
	r.checkField(&f, name)
	if n := len(r.out.fields); n > 0 && !separates(r.literal.String()) {
		r.fail(at, fmt.Sprintf("nothing separates {%s} from {%s}", r.out.fields[n-1].name(), f.name()),
			"put a character between them that values escape, such as a colon")
	}
	r.out.literals = append(r.out.literals, r.literal.String())
	r.out.fields = append(r.out.fields, f)
	r.literal.Reset()
}

func (r *templateReader) checkField(f *field, name string) {
	switch {
	case name == "":
		r.fail(f.at, "the placeholder has no name", "write a column's name between the braces")
	case strings.TrimSpace(name) != name:
		r.fail(f.at, fmt.Sprintf("the placeholder %s has white space around its name", quote("{"+name+"}")),
			"write {"+strings.TrimSpace(name)+"}")
	case strings.Contains(name, `"`):
		r.fail(f.at, "the placeholder has quotes", "write the column as PostgreSQL stores it, without quotes: {"+strings.ReplaceAll(name, `"`, "")+"}")
	case len(name) > maxIdentifierBytes:
		r.fail(f.at, "the placeholder's name is longer than PostgreSQL's 63 bytes", "")
	case f.falls && f.source == fromTenant:
		r.fail(f.at, "{tenant} cannot have a default", "a row without a tenant has no keys; write {tenant}")
	case f.falls && f.source == fromVersion:
		r.fail(f.at, "{version} cannot have a default", `name the versions in "versions"`)
	case string(events.AppendKeyPart(nil, f.fallback)) != f.fallback:
		r.fail(f.at, fmt.Sprintf("the default %s holds characters that values escape", quote(f.fallback)), "use letters, digits, - and _")
	}
}

// separates tells whether a literal holds a byte that no value holds.
func separates(literal string) bool {
	for i := range len(literal) {
		if events.IsSeparator(literal[i]) {
			return true
		}
	}
	return false
}

// check marks the field that stands alone in the hash tag, and refuses literals that no key can hold.
func (r *templateReader) check() {
	length := 0
	for i, literal := range r.out.literals {
		length += len(literal)
		if i == 0 || !strings.HasSuffix(r.out.literals[i-1], "{") || !strings.HasPrefix(literal, "}") {
			continue
		}
		f := &r.out.fields[i-1]
		f.aloneInTag = true
		if f.falls && f.fallback == "" {
			r.fail(f.at, "the default leaves the hash tag empty", "give it a default of at least one character")
		}
	}
	switch {
	case length == 0 && len(r.out.fields) == 0 && len(r.flaws) == 0:
		r.fail(0, "the template is empty", "")
	case length > MaxKeyBytes:
		r.fail(0, fmt.Sprintf("the template is longer than a key's %d bytes", MaxKeyBytes), "")
	}
}

func (t *template) has(s source) bool {
	for i := range t.fields {
		if t.fields[i].source == s {
			return true
		}
	}
	return false
}

// fill returns the template with all placeholders of one source replaced by text as it stands in keys.
func (t *template) fill(s source, text string) *template {
	out := &template{literals: []string{t.literals[0]}}
	for i, f := range t.fields {
		if f.source == s {
			out.literals[len(out.literals)-1] += text + t.literals[i+1]
			continue
		}
		out.fields = append(out.fields, f)
		out.literals = append(out.literals, t.literals[i+1])
	}
	return out
}
