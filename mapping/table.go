package mapping

import (
	"fmt"
	"strings"

	"github.com/walfence/walfence/pkg/events"
)

const maxIdentifierBytes = 63 // PostgreSQL cuts longer names silently

// parseTable reads SQL's spelling of a table: schema.name or name, each part quoted where it holds more than lower-case
// letters, digits, _ and $. The schema is public where none is written.
func parseTable(s string) (events.Table, *flaw) {
	var parts []string
	for rest := s; ; {
		part, after, f := parseIdentifier(s, rest)
		if f != nil {
			return events.Table{}, f
		}
		parts = append(parts, part)
		if after == "" {
			break
		}
		if after[0] != '.' {
			return events.Table{}, &flaw{len(s) - len(after), "a part of the table's name goes on behind its quotes", spelling(s)}
		}
		rest = after[1:]
	}
	switch len(parts) {
	case 1:
		return events.Table{Schema: "public", Name: parts[0]}, nil
	case 2:
		return events.Table{Schema: parts[0], Name: parts[1]}, nil
	}
	return events.Table{}, &flaw{0, "a table's name has more than two parts", "write schema.table, without a database"}
}

// parseIdentifier reads the first part of rest, which is the end of s, and returns what stands behind it.
func parseIdentifier(s, rest string) (part, after string, f *flaw) {
	at := len(s) - len(rest)
	if strings.HasPrefix(rest, `"`) {
		part, after, f = parseQuoted(s, rest)
	} else {
		n := strings.IndexByte(rest, '.')
		if n < 0 {
			n = len(rest)
		}
		part, after = rest[:n], rest[n:]
		f = checkUnquoted(s, part, at)
	}
	switch {
	case f != nil:
	case part == "":
		f = &flaw{at, "a part of the table's name is empty", "write schema.table"}
	case strings.Contains(part, "\x00"):
		f = &flaw{at, "the table's name holds a NUL", ""}
	case len(part) > maxIdentifierBytes:
		f = &flaw{at, "a part of the table's name is longer than PostgreSQL's 63 bytes", ""}
	}
	return part, after, f
}

func parseQuoted(s, rest string) (part, after string, f *flaw) {
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] != '"':
			b.WriteByte(rest[i])
		case strings.HasPrefix(rest[i:], `""`):
			b.WriteByte('"')
			i++
		default:
			return b.String(), rest[i+1:], nil
		}
	}
	return "", "", &flaw{len(s) - len(rest), "the quotes of the table's name are not closed", ""}
}

func checkUnquoted(s, part string, at int) *flaw {
	for i, r := range part {
		switch {
		case r >= 'A' && r <= 'Z':
			hint := spelling(s) + ",\nor " + strings.ToLower(s) + " if PostgreSQL shows it in lower case"
			return &flaw{at + i, "the table's name has a capital outside of quotes, which SQL reads as lower case", hint}
		case r == '"':
			return &flaw{at + i, "the quotes of the table's name begin in the middle of a part", spelling(s)}
		case r >= 'a' && r <= 'z', r == '_', r >= 0x80:
		case i > 0 && (r >= '0' && r <= '9' || r == '$'):
		default:
			return &flaw{at + i, "the table's name needs quotes", spelling(s)}
		}
	}
	return nil
}

// spelling shows how to write a table's name in YAML, quotes and all.
func spelling(s string) string {
	parts := strings.Split(strings.ReplaceAll(s, `"`, ""), ".")
	for i, part := range parts {
		if checkBare(part) {
			continue
		}
		parts[i] = `"` + part + `"`
	}
	return "write '" + strings.ReplaceAll(strings.Join(parts, "."), "'", "''") + "'"
}

func checkBare(part string) bool {
	for i, r := range part {
		if !(r >= 'a' && r <= 'z' || r == '_' || i > 0 && (r >= '0' && r <= '9' || r == '$')) {
			return false
		}
	}
	return part != ""
}

// ParseTable reads SQL's spelling of a table, as rules write it: `users`, `sales.orders`, `"Sales"."Order Items"`.
func ParseTable(s string) (events.Table, error) {
	t, f := parseTable(s)
	if f != nil {
		return events.Table{}, fmt.Errorf("table %s: %s", quote(s), f.cause)
	}
	return t, nil
}
