package mapping

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// text is a rules file, cut into lines so that a problem can show the one it stands in.
type text struct {
	file  string
	lines []string
	// Lines that can hold passwords: all, until the place of `caches` is known.
	secretFrom, secretTo int
}

func newText(file string, src []byte) *text {
	lines := splitLines(string(src))
	return &text{file: file, lines: lines, secretTo: len(lines)}
}

// splitLines cuts where YAML breaks lines, so that line numbers agree.
func splitLines(s string) []string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(s)
	return strings.Split(s, "\n")
}

func (t *text) line(n int) string {
	if n < 1 || n > len(t.lines) {
		return ""
	}
	return t.lines[n-1]
}

func (t *text) secret(line int) bool {
	return line >= t.secretFrom && line <= t.secretTo || strings.Contains(t.line(line), "://")
}

var (
	userinfo  = regexp.MustCompile(`[^\s"']*@`)
	parameter = regexp.MustCompile(`(?i)((?:password|secret|token)=)[^&\s"'}]+`)
)

// redact hides what can be a password of a URL.
func redact(line string) string {
	return parameter.ReplaceAllString(userinfo.ReplaceAllString(line, "[redacted]@"), "${1}[redacted]")
}

// illegible finds the first byte that a rules file cannot hold.
func (t *text) illegible() (at place, cause string) {
	for i, line := range t.lines {
		column := 1
		for j, r := range line {
			at = place{i + 1, column}
			switch {
			case r == utf8.RuneError && !strings.HasPrefix(line[j:], string(utf8.RuneError)):
				return at, "the file is not valid UTF-8"
			case r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0:
				return at, "the file holds a control character"
			}
			column++
		}
	}
	return place{}, ""
}
