package events

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// VersionError is a message of a newer wire version than this package reads. Its reader must be upgraded; the message is
// not damaged.
type VersionError struct{ Got int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("wire version %d is newer than %d, the newest that this program reads: upgrade it", e.Got, Version)
}

// Decode reads a body into e, of which it reuses the slices: what e held before is gone. The strings of e share one copy of
// the body. A field that it does not know is skipped.
func Decode(body []byte, e *Event) error {
	*e = Event{
		Columns: e.Columns[:0], Identity: e.Identity[:0], Types: e.Types[:0], Changes: e.Changes[:0], arena: e.arena[:0],
	}
	r := reader{s: string(body)}
	r.object(func(field string) { r.eventField(field, e) })
	if r.err == nil && r.skipSpace() != 0 {
		r.fail("more after the end of the event")
	}
	if e.Version > Version {
		return &VersionError{Got: e.Version}
	}
	if r.err == nil {
		r.err = e.validate()
	}
	if r.err != nil {
		return fmt.Errorf("decode event: %w", r.err)
	}
	return nil
}

// validate checks what the rest of the program relies on.
func (e *Event) validate() error {
	if e.Version < 1 {
		return fmt.Errorf("no version")
	}
	if len(e.Identity) != len(e.Columns) {
		return fmt.Errorf("%d columns but %d in identity", len(e.Columns), len(e.Identity))
	}
	if len(e.Types) != 0 && len(e.Types) != len(e.Columns) {
		return fmt.Errorf("%d columns but %d types", len(e.Columns), len(e.Types))
	}
	for i := range e.Changes {
		c := &e.Changes[i]
		if c.New != nil && len(c.New) != len(e.Columns) || c.Old != nil && len(c.Old) != len(e.Columns) {
			return fmt.Errorf("row %d does not have %d values", i, len(e.Columns))
		}
		if wantNew := c.Op != Delete; wantNew != (c.New != nil) || c.Op == Delete && c.Old == nil || c.Op == Insert && c.Old != nil {
			return fmt.Errorf("row %d lacks or repeats a row of %s", i, c.Op)
		}
	}
	return nil
}

func (r *reader) eventField(field string, e *Event) {
	switch field {
	case "v":
		e.Version = int(r.uint())
	case "kind":
		e.Kind = Kind(r.str())
	case "source":
		e.Source = r.str()
	case "epoch":
		e.Position.Epoch = r.uint()
	case "lsn":
		e.Position.LSN = r.lsn()
	case "ordinal":
		e.Position.Ordinal = r.uint()
	case "xid":
		e.XID = r.quotedUint()
	case "time":
		e.Time = r.time()
	case "end":
		e.End = r.lsn()
	case "schema":
		e.Table.Schema = r.str()
	case "table":
		e.Table.Name = r.str()
	case "reason":
		e.Reason = r.str()
	default:
		r.listField(field, e)
	}
}

func (r *reader) listField(field string, e *Event) {
	switch field {
	case "partition":
		var parts []string
		r.array(func() { parts = append(parts, r.str()) })
		if len(parts) == 2 {
			e.Partition = Table{Schema: parts[0], Name: parts[1]}
		}
	case "columns":
		r.array(func() { e.Columns = append(e.Columns, r.str()) })
	case "identity":
		r.array(func() { e.Identity = append(e.Identity, r.bool()) })
	case "types":
		r.array(func() { e.Types = append(e.Types, r.oid()) })
	case "rows":
		r.array(func() { r.row(e) })
	default:
		r.skipValue()
	}
}

// row reads ["i", new], ["u", new], ["u", new, old] or ["d", old].
func (r *reader) row(e *Event) {
	var c Change
	n := 0
	r.array(func() {
		switch {
		case n == 0:
			c.Op = r.op()
		case n == 1 && c.Op != Delete:
			c.New = r.tuple(e)
		default:
			c.Old = r.tuple(e)
		}
		n++
	})
	if n > 3 {
		r.fail("a row of %d parts", n)
	}
	e.Changes = append(e.Changes, c)
}

func (r *reader) op() Op {
	s := r.str()
	if s != "i" && s != "u" && s != "d" {
		r.fail("unknown operation %q", s)
		return 0
	}
	return Op(s[0])
}

// tuple reads values into the event's arena. An arena that grows leaves earlier tuples in the old one, which is well.
func (r *reader) tuple(e *Event) []Value {
	if e.arena == nil {
		e.arena = []Value{} // a row of no columns, where no rule needs one, is still a row
	}
	from := len(e.arena)
	r.array(func() { e.arena = append(e.arena, r.value()) })
	return slices.Clip(e.arena[from:])
}

func (r *reader) value() Value {
	switch r.skipSpace() {
	case '"':
		return Text(r.str())
	case 'n':
		r.word("null")
		return Value{State: Null}
	case 't':
		r.word("true")
		return Value{State: Unchanged}
	case 'f':
		r.word("false")
		return Value{}
	case '{':
		return r.base64()
	}
	r.fail("not a value")
	return Value{}
}

func (r *reader) base64() Value {
	v := Value{State: Present}
	r.object(func(field string) {
		if field != "base64" {
			r.skipValue()
			return
		}
		text, err := base64.StdEncoding.DecodeString(r.str())
		if err != nil {
			r.fail("base64: %v", err)
		}
		v.Text = string(text)
	})
	return v
}

func (r *reader) lsn() LSN {
	l, err := ParseLSN(r.str())
	if err != nil {
		r.fail("%v", err)
	}
	return l
}

func (r *reader) time() time.Time {
	t, err := time.Parse(time.RFC3339Nano, r.str())
	if err != nil {
		r.fail("%v", err)
	}
	return t
}

func (r *reader) quotedUint() uint64 {
	n, err := strconv.ParseUint(r.str(), 10, 64)
	if err != nil {
		r.fail("%v", err)
	}
	return n
}

// reader reads JSON from a string without copying what needs no unescaping. The first error sticks, and everything after
// it reads as empty.
type reader struct {
	s   string
	pos int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("byte %d: "+format, append([]any{r.pos}, args...)...)
	}
	r.pos = len(r.s)
}

// skipSpace returns the next byte that is not white space, or 0 at the end, without taking it.
func (r *reader) skipSpace() byte {
	for ; r.pos < len(r.s); r.pos++ {
		switch c := r.s[r.pos]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (r *reader) take(c byte) bool {
	if r.skipSpace() != c {
		return false
	}
	r.pos++
	return true
}

func (r *reader) expect(c byte) {
	if !r.take(c) {
		r.fail("want %q", c)
	}
}

func (r *reader) word(w string) {
	if !strings.HasPrefix(r.s[r.pos:], w) {
		r.fail("want %s", w)
		return
	}
	r.pos += len(w)
}

func (r *reader) array(element func()) {
	r.expect('[')
	if r.take(']') {
		return
	}
	for r.err == nil {
		element()
		if !r.take(',') {
			r.expect(']')
			return
		}
	}
}

func (r *reader) object(field func(name string)) {
	r.expect('{')
	if r.take('}') {
		return
	}
	for r.err == nil {
		name := r.str()
		r.expect(':')
		field(name)
		if !r.take(',') {
			r.expect('}')
			return
		}
	}
}

func (r *reader) bool() bool {
	if r.skipSpace() == 't' {
		r.word("true")
		return true
	}
	r.word("false")
	return false
}

func (r *reader) uint() uint64 {
	r.skipSpace()
	from := r.pos
	for r.pos < len(r.s) && r.s[r.pos] >= '0' && r.s[r.pos] <= '9' {
		r.pos++
	}
	n, err := strconv.ParseUint(r.s[from:r.pos], 10, 64)
	if err != nil {
		r.fail("not a number")
	}
	return n
}

func (r *reader) oid() uint32 {
	n := r.uint()
	if n > math.MaxUint32 {
		r.fail("not an oid")
	}
	return uint32(n)
}

// str reads a string. Only one with escapes is copied.
func (r *reader) str() string {
	r.expect('"')
	from := r.pos
	plain := true
	for ; r.pos < len(r.s); r.pos++ {
		switch c := r.s[r.pos]; {
		case c == '"':
			r.pos++
			if plain {
				return r.s[from : r.pos-1]
			}
			return r.unescape(r.s[from-1 : r.pos])
		case c == '\\':
			plain = false
			r.pos++
		case c < ' ':
			r.fail("control character in a string")
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	r.fail("string without an end")
	return ""
}

func (r *reader) unescape(quoted string) string {
	var s string
	if err := json.Unmarshal([]byte(quoted), &s); err != nil {
		r.fail("%v", err)
	}
	return s
}

// skipValue passes over a value of any type.
func (r *reader) skipValue() {
	r.skipSpace()
	d := json.NewDecoder(strings.NewReader(r.s[r.pos:]))
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		r.fail("%v", err)
		return
	}
	r.pos += int(d.InputOffset())
}
