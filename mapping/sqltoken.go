package mapping

import (
	"strings"
	"unicode/utf8"
)

// tokenKind is what a token of SQL is, as far as a query's parameters, tables and columns need it.
type tokenKind uint8

const (
	sqlSymbol tokenKind = iota // one character
	sqlWord                    // an identifier or a keyword without quotes
	sqlQuoted                  // an identifier in quotes
	sqlNumber
	sqlText  // a string constant of any kind
	sqlParam // :name
	sqlEnd
)

// token is one token of SQL.
type token struct {
	kind     tokenKind
	text     string // of a word in lower case; of a quoted identifier and a parameter the name that is meant
	from, to int    // bytes of the query
}

func (t token) is(words ...string) bool {
	if t.kind != sqlWord && t.kind != sqlSymbol {
		return false
	}
	for _, w := range words {
		if t.text == w {
			return true
		}
	}
	return false
}

// sqlReader cuts SQL into tokens. Comments and white space are left out.
type sqlReader struct {
	text   string
	pos    int
	tokens []token
	flaw   *flaw
}

// tokenize cuts a query into its tokens, the last of which is the end.
func tokenize(query string) ([]token, *flaw) {
	r := &sqlReader{text: query}
	for r.flaw == nil && r.skip() {
		r.next()
	}
	r.tokens = append(r.tokens, token{kind: sqlEnd, from: len(query), to: len(query)})
	return r.tokens, r.flaw
}

func (r *sqlReader) fail(at int, cause, hint string) {
	r.flaw, r.pos = &flaw{at, cause, hint}, len(r.text)
}

func (r *sqlReader) has(prefix string) bool { return strings.HasPrefix(r.text[r.pos:], prefix) }

// skip passes over white space and comments; false at the end.
func (r *sqlReader) skip() bool {
	for r.pos < len(r.text) {
		switch {
		case strings.IndexByte(" \t\n\r\f\v", r.text[r.pos]) >= 0:
			r.pos++
		case r.has("--"):
			n := strings.IndexByte(r.text[r.pos:], '\n')
			if n < 0 {
				n = len(r.text) - r.pos
			}
			r.pos += n
		case r.has("/*"):
			r.comment()
		default:
			return true
		}
	}
	return false
}

// comment passes over a comment, which may hold others.
func (r *sqlReader) comment() {
	from, depth := r.pos, 0
	for r.pos < len(r.text) {
		switch {
		case r.has("/*"):
			depth++
			r.pos += 2
		case r.has("*/"):
			depth--
			r.pos += 2
			if depth == 0 {
				return
			}
		default:
			r.pos++
		}
	}
	r.fail(from, "the query's comment is never closed", "")
}

func (r *sqlReader) add(kind tokenKind, text string, from int) {
	r.tokens = append(r.tokens, token{kind, text, from, r.pos})
}

func (r *sqlReader) next() {
	c, from := r.text[r.pos], r.pos
	switch {
	case c == '\'':
		r.constant(r.escapes())
	case c == '"':
		if name, ok := r.quoted('"'); ok {
			r.add(sqlQuoted, name, from)
		}
	case c == '$':
		r.dollar()
	case r.has("::") || r.has(":="):
		r.pos += 2
		r.add(sqlSymbol, r.text[from:r.pos], from)
	case c == ':':
		r.parameter()
	case isLetter(c):
		r.pos += wordLength(r.text[r.pos:])
		r.add(sqlWord, strings.ToLower(r.text[from:r.pos]), from)
	case c >= '0' && c <= '9':
		r.pos += wordLength(r.text[r.pos:])
		r.add(sqlNumber, r.text[from:r.pos], from)
	default:
		_, n := utf8.DecodeRuneInString(r.text[r.pos:])
		r.pos += n
		r.add(sqlSymbol, r.text[from:r.pos], from)
	}
}

// escapes tells whether a string constant that begins here is E'...', in which a backslash escapes.
func (r *sqlReader) escapes() bool {
	n := len(r.tokens)
	return n > 0 && r.tokens[n-1].kind == sqlWord && r.tokens[n-1].text == "e" && r.tokens[n-1].to == r.pos
}

func (r *sqlReader) constant(escapes bool) {
	from := r.pos
	for r.pos++; r.pos < len(r.text); r.pos++ {
		switch {
		case escapes && r.text[r.pos] == '\\':
			r.pos++
		case r.has("''"):
			r.pos++
		case r.text[r.pos] == '\'':
			r.pos++
			r.add(sqlText, "", from)
			return
		}
	}
	r.fail(from, "the query's string is never closed", "")
}

// quoted reads a name in quotes.
func (r *sqlReader) quoted(quote byte) (string, bool) {
	from := r.pos
	var b strings.Builder
	for r.pos++; r.pos < len(r.text); r.pos++ {
		switch {
		case r.text[r.pos] != quote:
			b.WriteByte(r.text[r.pos])
		case r.pos+1 < len(r.text) && r.text[r.pos+1] == quote:
			b.WriteByte(quote)
			r.pos++
		default:
			r.pos++
			return b.String(), true
		}
	}
	r.fail(from, "the query's quotes are never closed", "")
	return "", false
}

// dollar reads $tag$...$tag$.
func (r *sqlReader) dollar() {
	from := r.pos
	n := wordLength(r.text[r.pos+1:])
	end := r.pos + 1 + n
	switch {
	case n > 0 && r.text[r.pos+1] >= '0' && r.text[r.pos+1] <= '9':
		r.fail(from, "the query has a parameter by number", "name a column: :id")
	case end >= len(r.text) || r.text[end] != '$':
		r.fail(from, "the query has a stray $", "")
	default:
		tag := r.text[from : end+1]
		closing := strings.Index(r.text[end+1:], tag)
		if closing < 0 {
			r.fail(from, "the query's string is never closed", "")
			return
		}
		r.pos = end + 1 + closing + len(tag)
		r.add(sqlText, "", from)
	}
}

// parameter reads :name or :"name". A colon before anything else is a symbol.
func (r *sqlReader) parameter() {
	from := r.pos
	r.pos++
	switch {
	case r.has(`"`):
		if name, ok := r.quoted('"'); ok {
			r.add(sqlParam, name, from)
		}
	case r.pos < len(r.text) && isLetter(r.text[r.pos]):
		n := wordLength(r.text[r.pos:])
		r.pos += n
		r.add(sqlParam, r.text[r.pos-n:r.pos], from)
	default:
		r.add(sqlSymbol, ":", from)
	}
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}

// wordLength returns how many bytes of an identifier s begins with, dollar signs excepted.
func wordLength(s string) int {
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && (c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}
