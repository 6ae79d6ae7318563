package mapping

import (
	"fmt"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// PurgeSpec says how an HTTP cache is told to forget.
type PurgeSpec struct {
	Timeout time.Duration // of one try
	Retries int           // after the first try
	Rate    int           // requests per second
	Size    int           // keys per request; 0: one request per row, without keys

	key       *purgeText    // what a request names; nil where Size is 0
	separator string        // between two keys in text
	one       *purgeRequest // for rows
	tenant    *purgeRequest // for all of one tenant; nil: `all` is used
	all       *purgeRequest // for all; nil: the file says none
	ordinal   int           // among the rule's
}

// PurgeRequest is one request to make. Headers and body may hold secrets: never print them.
type PurgeRequest struct {
	Method string
	URL    string
	Header textproto.MIMEHeader `json:"-"`
	Body   []byte               `json:"-"` // nil for none, else JSON
}

// Purge is one thing to purge. Those of one Spec that have a Key go into requests made by [PurgeSpec.Batch]; others have a
// Request of their own.
type Purge struct {
	Rule    *Rule
	Spec    *PurgeSpec
	Tenant  string // as in the row, not escaped; means nothing if All or Rule.Global
	All     bool   // for all tenants
	Key     string
	Request *PurgeRequest
}

// purgeRequest is a request with placeholders.
type purgeRequest struct {
	method  string
	url     *purgeText
	headers []purgeHeader
	json    any // map[string]any, []any, *purgeText, or what is as it is; nil for none
}

type purgeHeader struct {
	name string
	text *purgeText
}

var (
	// purgeOptions are the fields of a purge that `defaults` may set.
	purgeOptions  = []string{"retries", "timeout", "rate", "batch", "separator"}
	requestFields = []string{"url", "method", "headers", "json"}
	purgeFields   = append(append([]string{"key", "tenant", "all"}, requestFields...), purgeOptions...)
	purgeMethods  = []string{"PURGE", "BAN", "POST", "PUT", "DELETE", "GET", "PURGEKEYS", "SOFTPURGE", "REFRESH"}
)

const (
	defaultPurgeTimeout = 5 * time.Second
	defaultPurgeRetries = 3
	defaultPurgeRate    = 100
	defaultPurgeBatch   = 100
	maxPurgeBatch       = 10_000
	maxPurgeRetries     = 10
	maxPurgeRate        = 100_000
)

// readPurge reads `purge`, a list of purges.
func (r *ruleSource) readPurge() {
	n := r.fields["purge"]
	if n == nil {
		return
	}
	for _, item := range r.list(n, "purge") {
		fields := r.object(item, "a purge", purgeFields...)
		if fields == nil {
			continue
		}
		if fields["key"] != nil {
			r.fillIn(fields, "purge")
		} else {
			r.fillIn(fields, "purge", "batch", "separator")
		}
		if s := r.purgeSpec(item, fields); s != nil {
			r.rule.purges = append(r.rule.purges, s)
		}
	}
}

func (r *ruleSource) purgeSpec(item *yaml.Node, fields map[string]*yaml.Node) *PurgeSpec {
	before := len(r.problems)
	s := &PurgeSpec{Timeout: defaultPurgeTimeout, Retries: defaultPurgeRetries, Rate: defaultPurgeRate, separator: " ", ordinal: len(r.rule.purges)}
	r.purgeLimits(s, fields)
	if n := fields["key"]; n != nil {
		s.key = r.purgeText(n, `"key"`, inHeader, nil)
		if s.Size == 0 {
			s.Size = defaultPurgeBatch
		}
		s.one = r.purgeRequest(item, fields, []string{"keys"})
	} else {
		s.one = r.purgeRequest(item, fields, nil)
	}
	if s.key != nil && s.one != nil && !s.one.names("keys") {
		r.fail(item, `the purge has a "key", but its request does not name {keys}`, `write headers: {Surrogate-Key: "{keys}"}, or json: {tags: "{keys}"}`)
	}
	r.checkPurgeTenant(item, s, fields["key"] != nil)
	r.purgeWider(item, fields, s)
	if len(r.problems) > before {
		return nil
	}
	return s
}

func (r *ruleSource) purgeLimits(s *PurgeSpec, fields map[string]*yaml.Node) {
	if n := fields["timeout"]; n != nil {
		s.Timeout = r.duration(n, `"timeout"`, 100*time.Millisecond, time.Minute)
	}
	if n := fields["retries"]; n != nil {
		s.Retries = r.count(n, `"retries"`, 0, maxPurgeRetries)
	}
	if n := fields["rate"]; n != nil {
		s.Rate = r.count(n, `"rate"`, 1, maxPurgeRate)
	}
	for _, name := range []string{"batch", "separator"} {
		if n := fields[name]; n != nil && fields["key"] == nil {
			r.fail(n, fmt.Sprintf(`%q is given, but the purge has no "key"`, name), `write key: "..." for what a request names`)
		}
	}
	if n := fields["batch"]; n != nil {
		s.Size = r.count(n, `"batch"`, 1, maxPurgeBatch)
	}
	if n := fields["separator"]; n != nil {
		if t, ok := r.scalar(n, `"separator"`); ok {
			s.separator = t
			if strings.ContainsFunc(t, unicode.IsControl) {
				r.fail(n, `"separator" holds a control character`, "")
			}
		}
	}
}

// purgeWider reads what stands in for purges that are not known exactly.
func (r *ruleSource) purgeWider(item *yaml.Node, fields map[string]*yaml.Node, s *PurgeSpec) {
	if n := fields["tenant"]; n != nil {
		if r.rule.Global {
			r.fail(n, `the rule is global: a purge of one tenant is never made`, `leave "tenant" out`)
		}
		if f := r.object(n, `"tenant" of a purge`, requestFields...); f != nil {
			s.tenant = r.purgeRequest(n, f, []string{"tenant"})
			if s.tenant != nil && !s.tenant.names("tenant") {
				r.fail(n, "the request does not name {tenant}", "")
			}
		}
	}
	switch n := fields["all"]; {
	case n == nil:
		r.fail(item, `the purge does not say how to purge "all"`,
			"write all: {url: ...}, the request for when exact ones cannot be known,\nor all: none if nothing else than expiry can help then")
	case n.Kind == yaml.ScalarNode && n.Value == "none":
	default:
		if f := r.object(n, `"all" of a purge`, requestFields...); f != nil {
			s.all = r.purgeRequest(n, f, []string{})
		}
	}
}

// checkPurgeTenant checks that what is purged names its tenant, so that no tenant's row purges what is another's.
func (r *ruleSource) checkPurgeTenant(item *yaml.Node, s *PurgeSpec, keyed bool) {
	if r.rule.Global || r.rule.tenant == "" || s.one == nil || keyed && s.key == nil {
		return
	}
	if s.key != nil && !s.key.names("tenant") || s.key == nil && !s.one.names("tenant") {
		r.fail(item, "what the purge names has no {tenant}", "put {tenant} into it, or write tenant: global if all tenants share it")
	}
}

// purgeRequest reads a request whose placeholders are among known; nil known: those of a row; empty known: none.
func (r *ruleSource) purgeRequest(item *yaml.Node, fields map[string]*yaml.Node, known []string) *purgeRequest {
	q := &purgeRequest{method: "PURGE"}
	if n := fields["method"]; n != nil {
		q.method = r.word(n, `"method"`, purgeMethods...)
	}
	if n := fields["url"]; n == nil {
		r.fail(item, `the request has no "url"`, "write url: https://...")
		return nil
	} else if q.url = r.purgeText(n, `"url"`, inURL, slices.DeleteFunc(slices.Clone(known), isKeys)); q.url == nil {
		return nil
	} else {
		r.checkURL(n, q.url)
	}
	if n := fields["headers"]; n != nil {
		r.purgeHeaders(n, q, known)
	}
	if n := fields["json"]; n != nil {
		q.json = r.purgeJSON(n, known, 0)
	}
	return q
}

// isKeys tells the placeholder that a URL cannot hold: a list is not escaped as a part of one.
func isKeys(name string) bool { return name == "keys" }

func (r *ruleSource) purgeHeaders(n *yaml.Node, q *purgeRequest, known []string) {
	if n.Kind != yaml.MappingNode {
		r.fail(n, fmt.Sprintf("%q is %s, not a mapping", "headers", kind(n)), `write headers: {Surrogate-Key: "{keys}"}`)
		return
	}
	values := r.entries(n, `"headers"`, nil)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := follow(n.Content[i])
		v := values[name.Value]
		if v == nil {
			continue
		}
		if !headerName.MatchString(name.Value) || slices.Contains([]string{"host", "content-length", "transfer-encoding", "connection"}, strings.ToLower(name.Value)) {
			r.fail(name, fmt.Sprintf("%s is not a header that a purge can set", quote(name.Value)), "")
			continue
		}
		if t := r.purgeText(v, fmt.Sprintf("header %q", name.Value), inHeader, known); t != nil {
			q.headers = append(q.headers, purgeHeader{textproto.CanonicalMIMEHeaderKey(name.Value), t})
		}
	}
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_|~-]+$")

// maxJSONDepth bounds the body that a file can describe.
const maxJSONDepth = 20

func (r *ruleSource) purgeJSON(n *yaml.Node, known []string, depth int) any {
	n = follow(n)
	switch {
	case depth > maxJSONDepth:
		r.fail(n, `"json" is nested too deeply`, "")
	case n.Kind == yaml.MappingNode:
		out := map[string]any{}
		for name, v := range r.entries(n, `"json"`, nil) {
			out[name] = r.purgeJSON(v, known, depth+1)
		}
		return out
	case n.Kind == yaml.SequenceNode:
		out := []any{}
		for _, v := range n.Content {
			out = append(out, r.purgeJSON(v, known, depth+1))
		}
		return out
	case n.Tag == "!!str" && n.Value != "":
		if t := r.purgeText(n, `a text of "json"`, inBody, known); t != nil {
			return t
		}
	default:
		var v any
		if err := n.Decode(&v); err != nil {
			r.fail(n, `a value of "json" cannot be read`, "")
		}
		return v
	}
	return nil
}

// names tells whether a placeholder stands anywhere in the request.
func (q *purgeRequest) names(placeholder string) bool {
	if q.url.names(placeholder) || jsonNames(q.json, placeholder) {
		return true
	}
	return slices.ContainsFunc(q.headers, func(h purgeHeader) bool { return h.text.names(placeholder) })
}

func jsonNames(v any, placeholder string) bool {
	switch v := v.(type) {
	case *purgeText:
		return v.names(placeholder)
	case []any:
		return slices.ContainsFunc(v, func(v any) bool { return jsonNames(v, placeholder) })
	case map[string]any:
		for _, v := range v {
			if jsonNames(v, placeholder) {
				return true
			}
		}
	}
	return false
}
