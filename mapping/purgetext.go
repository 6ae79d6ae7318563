package mapping

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/walfence/walfence/pkg/events"
	"go.yaml.in/yaml/v4"
)

// medium is where the text of a purge stands, which says how values are escaped in it.
type medium uint8

const (
	inURL    medium = iota // all but unreserved characters as %XX
	inHeader               // as in keys
	inBody                 // as in keys, and then as JSON
)

// purgeText is text with placeholders: literals[0], fields[0], literals[1], ...
type purgeText struct {
	template
	medium medium
}

func (t *purgeText) names(placeholder string) bool {
	return slices.ContainsFunc(t.fields, func(f field) bool { return f.name() == placeholder })
}

// purgeText reads a text whose placeholders are among known; nil after a problem. ${NAME} is an environment variable.
func (r *ruleSource) purgeText(n *yaml.Node, what string, m medium, known []string) *purgeText {
	s, ok := r.scalar(n, what)
	if !ok {
		return nil
	}
	before := len(r.problems)
	t := &purgeText{medium: m}
	var literal strings.Builder
	for i := 0; i < len(s); {
		switch rest := s[i:]; {
		case strings.HasPrefix(rest, "${"):
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				r.failAt(r.offset(n, i), "${ is never closed", "write ${NAME} or ${NAME:-default}")
				return nil
			}
			value, _ := r.variable(r.offset(n, i), rest[2:end])
			literal.WriteString(value)
			i += end + 1
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			literal.WriteByte(rest[0])
			i += 2
		case rest[0] == '{':
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				r.failAt(r.offset(n, i), "unbalanced brace: { opens a placeholder that is not closed", "a literal brace is written {{")
				return nil
			}
			r.purgeField(n, i, rest[1:end], t, literal.String(), known)
			literal.Reset()
			i += end + 1
		case rest[0] == '}':
			r.failAt(r.offset(n, i), "unbalanced brace: } closes no placeholder", "a literal brace is written }}")
			i++
		default:
			literal.WriteByte(rest[0])
			i++
		}
	}
	t.literals = append(t.literals, literal.String())
	if m == inHeader && strings.ContainsFunc(strings.Join(t.literals, ""), func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
		r.fail(n, what+" holds a control character", "")
	}
	if len(r.problems) > before {
		return nil
	}
	return t
}

// purgeField reads a placeholder and adds it to a text.
func (r *ruleSource) purgeField(n *yaml.Node, at int, body string, t *purgeText, before string, known []string) {
	name, fallback, falls := strings.Cut(body, "|")
	f := field{column: name, fallback: fallback, falls: falls, at: at}
	if name == "tenant" {
		f.source, f.column = fromTenant, ""
	}
	where := r.offset(n, at)
	reader := templateReader{}
	switch {
	case known != nil && !slices.Contains(known, name) || known == nil && name == "keys":
		hint := "no placeholder can stand here"
		if len(known) > 0 {
			hint = "known here: {" + strings.Join(known, "}, {") + "}"
		}
		r.failAt(where, fmt.Sprintf("the placeholder {%s} has no value here", name), hint)
	case name == "version":
		r.failAt(where, "{version} has no value in a purge", "write one purge per version")
	case name == "tenant" && r.rule.Global:
		r.failAt(where, "the rule is global: {tenant} has no value", "leave {tenant} out, or write tenant: {column: tenant_id}")
	default:
		reader.checkField(&f, name)
	}
	for _, flaw := range reader.flaws {
		r.failAt(where, flaw.cause, flaw.hint)
	}
	if k := len(t.fields); k > 0 && !t.medium.separates(before) {
		r.failAt(where, fmt.Sprintf("nothing separates {%s} from {%s}", t.fields[k-1].name(), name),
			"put a character between them that values escape, such as "+t.medium.separator())
	}
	if f.source == fromColumn && known == nil {
		r.uses(name, where)
	}
	t.literals, t.fields = append(t.literals, before), append(t.fields, f)
}

// separates tells whether a literal holds a byte that no value holds.
func (m medium) separates(literal string) bool {
	if m != inURL {
		return separates(literal)
	}
	return strings.ContainsFunc(literal, func(c rune) bool { return c >= 0x80 || !unreserved(byte(c)) && c != '%' })
}

func (m medium) separator() string {
	if m == inURL {
		return "/"
	}
	return "a colon"
}

// append appends a value as it stands in the text.
func (m medium) append(dst []byte, s string) []byte {
	if m != inURL {
		return events.AppendKeyPart(dst, s)
	}
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; unreserved(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// unreserved is RFC 3986's, without the dot and the tilde: a value of ".." must not climb.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// checkURL checks that a request goes where the file allows: no placeholder chooses the host.
func (r *ruleSource) checkURL(n *yaml.Node, t *purgeText) {
	head := t.literals[0]
	scheme, rest, _ := strings.Cut(head, "://")
	switch {
	case scheme != "http" && scheme != "https":
		r.fail(n, "the URL of a purge is not http:// or https://", "")
		return
	case host(rest) == rest && len(t.fields) > 0:
		r.fail(n, "a placeholder stands in the URL's host", "values may stand behind the host only: https://host/{id}")
		return
	}
	u, err := url.Parse(scheme + "://" + host(rest))
	switch {
	case strings.Contains(strings.Join(t.literals, ""), "#"):
		r.fail(n, "the URL of a purge has a fragment, which is never sent", "leave out what stands behind #")
	case err != nil || u.Hostname() == "":
		r.fail(n, "the URL of a purge has no host", "write https://host/...")
	case u.User != nil:
		r.fail(n, "the URL of a purge holds a password", "put it into a header: Authorization")
	default:
		r.checkHost(n, u.Hostname())
	}
}

// host cuts a URL behind its host and port.
func host(rest string) string {
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		return rest[:end]
	}
	return rest
}

func (r *ruleSource) checkHost(n *yaml.Node, host string) {
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && ForbiddenAddress(addr), strings.EqualFold(host, "metadata.google.internal"):
		r.fail(n, "the URL of a purge points at "+quote(host)+", where a cloud's credentials are, or at no host at all", "")
	case !slices.ContainsFunc(r.hosts, func(h string) bool { return strings.EqualFold(h, host) }):
		r.fail(n, quote(host)+" is not among the hosts that purges may call", `allow it at the top of the file: purge_hosts: [`+host+`]`)
	}
}

// metadata are addresses at which clouds give credentials to whoever asks, besides those that are link-local.
var metadata = []netip.Addr{netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254")}

// ForbiddenAddress tells whether no purge may call an address, whatever name led to it: link-local addresses, where
// clouds keep credentials, and those that are no one host's. Who dials must ask.
func ForbiddenAddress(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() ||
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || slices.Contains(metadata, a.WithZone(""))
}

// purgeHosts reads `purge_hosts`.
func (p *parser) purgeHosts(n *yaml.Node) []string {
	if n == nil {
		return nil
	}
	var hosts []string
	for _, item := range p.texts(n, "purge_hosts") {
		if strings.ContainsAny(item.Value, "/@?#*{} ") || strings.Count(item.Value, ":") == 1 {
			p.fail(item, quote(item.Value)+" is not a host", "write its name or address only, without scheme, port and path")
			continue
		}
		hosts = append(hosts, strings.Trim(item.Value, "[]"))
	}
	return hosts
}
