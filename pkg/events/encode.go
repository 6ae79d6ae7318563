package events

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// AppendBody appends the event as it travels, see docs/wire.md.
func (e *Event) AppendBody(dst []byte) []byte {
	w := Writer{buf: dst}
	w.Begin(e)
	for i := range e.Changes {
		c := &e.Changes[i]
		w.Row(c.Op)
		if c.New != nil {
			w.values(c.New)
		}
		if c.Old != nil {
			w.values(c.Old)
		}
		w.EndRow()
	}
	return AppendEnd(w.End(), e.End)
}

// Writer writes the body of one event, row by row, without an [Event] in between. The order is Begin, then for each row
// Row, one or two tuples (the new row before the old one) of StartTuple, values and EndTuple, and EndRow; then End. It keeps
// its buffer from one event to the next and is not safe for concurrent use.
type Writer struct {
	buf  []byte
	rows int
	open bool // the array of rows is
}

// Begin starts a body with all of e but its changes and its end.
func (w *Writer) Begin(e *Event) {
	w.rows = 0
	b := append(w.buf, `{"v":`...)
	b = strconv.AppendInt(b, Version, 10)
	b = appendField(b, "kind", string(e.Kind))
	b = appendField(b, "source", e.Source)
	b = strconv.AppendUint(append(b, `,"epoch":`...), e.Position.Epoch, 10)
	b = e.Position.LSN.append(append(b, `,"lsn":"`...))
	b = strconv.AppendUint(append(b, `","ordinal":`...), e.Position.Ordinal, 10)
	if e.XID != 0 {
		b = append(strconv.AppendUint(append(b, `,"xid":"`...), e.XID, 10), '"')
	}
	b = append(b, `,"time":"`...)
	b = append(e.Time.UTC().AppendFormat(b, time.RFC3339Nano), '"')
	if e.Table != (Table{}) {
		b = appendField(b, "schema", e.Table.Schema)
		b = appendField(b, "table", e.Table.Name)
	}
	if e.Partition != (Table{}) {
		b = appendString(append(b, `,"partition":[`...), e.Partition.Schema)
		b = append(appendString(append(b, ','), e.Partition.Name), ']')
	}
	if e.Reason != "" {
		b = appendField(b, "reason", e.Reason)
	}
	w.buf = b
	if e.Kind == KindRows {
		w.columns(e)
	}
}

func (w *Writer) columns(e *Event) {
	b := append(w.buf, `,"columns":[`...)
	for i, c := range e.Columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, c)
	}
	b = append(b, `],"identity":[`...)
	for i, in := range e.Identity {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendBool(b, in)
	}
	if len(e.Types) > 0 {
		b = append(b, `],"types":[`...)
		for i, t := range e.Types {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendUint(b, uint64(t), 10)
		}
	}
	w.buf, w.open = append(b, `],"rows":[`...), true
}

// Row starts a row.
func (w *Writer) Row(op Op) {
	if w.rows > 0 {
		w.buf = append(w.buf, ',')
	}
	w.rows++
	w.buf = append(w.buf, '[', '"', byte(op), '"')
}

// StartTuple starts the new row, or the old one after it.
func (w *Writer) StartTuple() { w.buf = append(w.buf, ',', '[') }

// Value writes the next column. The text is copied.
func (w *Writer) Value(state State, text []byte) {
	if w.buf[len(w.buf)-1] != '[' {
		w.buf = append(w.buf, ',')
	}
	w.buf = appendValue(w.buf, state, text)
}

// EndTuple ends what StartTuple started.
func (w *Writer) EndTuple() { w.buf = append(w.buf, ']') }

// EndRow ends what Row started.
func (w *Writer) EndRow() { w.buf = append(w.buf, ']') }

// Rows returns how many rows the body has so far.
func (w *Writer) Rows() int { return w.rows }

// Len returns how many bytes the body has so far.
func (w *Writer) Len() int { return len(w.buf) }

// End finishes the body and returns it. The bytes belong to the Writer until [Writer.Reset].
func (w *Writer) End() []byte {
	if w.open {
		w.buf, w.open = append(w.buf, ']'), false
	}
	w.buf = append(w.buf, '}')
	return w.buf
}

// AppendEnd adds its transaction's end LSN to a finished body: that of a transaction's last event. 0 adds nothing.
func AppendEnd(body []byte, end LSN) []byte {
	if end == 0 {
		return body
	}
	body = append(body[:len(body)-1], `,"end":"`...)
	return append(end.append(body), `"}`...)
}

// Reset makes the Writer ready for another body, written to buf.
func (w *Writer) Reset(buf []byte) { *w = Writer{buf: buf[:0]} }

func (w *Writer) values(vs []Value) {
	w.StartTuple()
	for _, v := range vs {
		w.Value(v.State, []byte(v.Text))
	}
	w.EndTuple()
}

// appendValue writes a present value as a string, NULL as null, unchanged as true and absent as false: rows hold no other
// booleans, since values travel as text.
func appendValue(b []byte, state State, text []byte) []byte {
	switch state {
	case Null:
		return append(b, "null"...)
	case Unchanged:
		return append(b, "true"...)
	case Absent:
		return append(b, "false"...)
	}
	return appendText(b, text)
}

// appendText writes a value. One that is not UTF-8 (a database with encoding SQL_ASCII) cannot be a JSON string.
func appendText(b, text []byte) []byte {
	if isPlain(text) {
		return append(append(append(b, '"'), text...), '"')
	}
	if !utf8.Valid(text) {
		b = append(b, `{"base64":"`...)
		return append(base64.StdEncoding.AppendEncode(b, text), `"}`...)
	}
	return appendEscaped(b, text)
}

// isPlain tells whether text is a JSON string as it stands: ASCII that needs no escaping.
func isPlain[T string | []byte](text T) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendEscaped appends valid UTF-8 as a JSON string.
func appendEscaped(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func appendField(b []byte, name, value string) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	return appendString(b, value)
}

// appendString appends a name as a JSON string; bytes that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	if isPlain(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	return appendEscaped(b, []byte(strings.ToValidUTF8(s, "\uFFFD")))
}
