package events

import (
	"strings"
)

// Pattern matches exactly the keys that one template can render: literal parts, with one escaped value between each two.
// ["tenant:7:user:", ":profile"] matches "tenant:7:user:42:profile". A value is a run, perhaps empty, of bytes for which
// [IsSeparator] is false, and every part but the first and the last holds a separator, so there is only one way to match.
type Pattern []string

// Match reports whether the template can have rendered key.
func (p Pattern) Match(key string) bool {
	if len(p) == 0 || !strings.HasPrefix(key, p[0]) {
		return false
	}
	key = key[len(p[0]):]
	if len(p) == 1 {
		return key == ""
	}
	for _, part := range p[1:] {
		run := indexSeparator(key)
		head := indexSeparator(part)
		if head > run || key[run-head:run] != part[:head] || !strings.HasPrefix(key[run:], part[head:]) {
			return false
		}
		key = key[run+len(part)-head:]
	}
	return key == ""
}

// indexSeparator returns where the first separator stands, or the length of s.
func indexSeparator(s string) int {
	for i := range len(s) {
		if IsSeparator(s[i]) {
			return i
		}
	}
	return len(s)
}

// Glob returns the narrowest pattern in the language of Redis' SCAN MATCH. It matches more than [Pattern.Match] does.
func (p Pattern) Glob() string {
	var b strings.Builder
	for i, part := range p {
		if i > 0 {
			b.WriteByte('*')
		}
		for _, c := range []byte(part) {
			if strings.IndexByte(`*?[]\^-`, c) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}
