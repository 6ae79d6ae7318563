package config

import (
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// Secret is a text that may hold a password. However it is printed, it prints as [redacted]. Secrets compare by identity.
type Secret struct {
	text *string // a pointer, since fmt prints what is in unexported fields without asking their methods
}

// NewSecret makes a secret of a text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text, for the call that needs it and nothing else.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns [redacted], or nothing if the secret is empty.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return redacted
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return `config.Secret("` + s.String() + `")` }

// MarshalText is what JSON, YAML and zap print.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets the secret.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

var (
	userInfo = regexp.MustCompile("(://)[^\\s\"'`<>]*@")
	assigned = regexp.MustCompile(`(?i)((?:password|passwd|pwd|token|secret|seed|passphrase)\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&"'` + "`" + `,;)]+)`)
)

// Redact replaces what may be a secret in a text: the user part of URLs, and what is assigned to password, token and the
// like. It rather takes too much: a tenth of a password is a secret too.
func Redact(text string) string {
	if strings.Contains(text, "://") {
		text = userInfo.ReplaceAllString(text, "${1}"+redacted+"@")
	}
	if strings.Contains(text, "=") {
		text = assigned.ReplaceAllString(text, "${1}"+redacted)
	}
	return text
}

// holdsPassword tells whether everybody who can list processes would learn a password from this URL. A lone user name is
// none, except for NATS, where it is a token.
func holdsPassword(text string) bool {
	if assigned.MatchString(text) {
		return true
	}
	for part := range strings.SplitSeq(text, ",") {
		scheme, rest, _ := strings.Cut(part, "://")
		at := strings.LastIndexByte(rest, '@')
		if at >= 0 && (strings.ContainsRune(rest[:at], ':') || schemesNATS[scheme]) {
			return true
		}
	}
	return false
}
