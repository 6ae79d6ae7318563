package events

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// separator tells which ASCII bytes a value in a key never holds: they are escaped.
var separator = func() (t [utf8.RuneSelf]bool) {
	for c := range t {
		t[c] = c <= ' ' || c == 0x7f || strings.ContainsRune("%:{}*?[]\\", rune(c))
	}
	return t
}()

// AppendKeyPart appends a value as it stands in a key: the bytes % : { } * ? [ ] \, white space, control characters and
// invalid UTF-8 become %XX; everything else stays. Two different values never become equal, and no value holds a byte
// that can separate two of them.
func AppendKeyPart(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if separator[c] {
				dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
			} else {
				dst = append(dst, c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if (r == utf8.RuneError && n == 1) || unicode.IsSpace(r) || unicode.IsControl(r) {
			for _, c := range []byte(s[i : i+n]) {
				dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
			}
		} else {
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return dst
}

// IsSeparator tells whether a byte of a key template can separate two values: no escaped value holds it. Percent is not
// one, since escaped values hold it.
func IsSeparator(c byte) bool { return c < utf8.RuneSelf && separator[c] && c != '%' }

// AppendSubjectPart appends a value as one token of a subject: escaped as in keys, and . > $ as well. An empty value
// becomes "%", and a value that is "_" (which stands for none) becomes "%5F".
func AppendSubjectPart(dst []byte, s string) []byte {
	switch s {
	case "":
		return append(dst, '%')
	case "_":
		return append(dst, "%5F"...)
	}
	from := len(dst)
	dst = AppendKeyPart(dst, s)
	if !strings.ContainsAny(s, ".>$") {
		return dst
	}
	part := string(dst[from:])
	dst = dst[:from]
	for _, c := range []byte(part) {
		if c == '.' || c == '>' || c == '$' {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

func subject(prefix string, parts ...string) string {
	dst := []byte(prefix)
	for _, p := range parts {
		dst = AppendSubjectPart(append(dst, '.'), p)
	}
	return string(dst)
}

// ChangesSubject is where the events of one table travel.
func ChangesSubject(source string, t Table) string {
	return subject("changes", source, t.Schema, t.Name)
}

// SourceSubject is where the events of a source that concern no table travel: epochs, heartbeats, sweeps of everything.
func SourceSubject(source string) string { return subject("changes", source) + "._._" }

// InvalidationSubject is where the feed tells of one tenant's keys in one cache.
func InvalidationSubject(cache, tenant string) string {
	return subject("invalidations", cache, tenant)
}

// GlobalInvalidationSubject is where the feed tells of keys without a tenant, and of all tenants at once.
func GlobalInvalidationSubject(cache string) string { return subject("invalidations", cache) + "._" }

// DeadLetterSubject is where a copy of what could not be handled exactly is kept. An empty rule stands for none.
func DeadLetterSubject(source, rule string) string {
	if rule == "" {
		return subject("deadletters", source) + "._"
	}
	return subject("deadletters", source, rule)
}
