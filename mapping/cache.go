package mapping

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Cache is a Redis that rules name.
type Cache struct {
	Name  string
	URL   string `json:"-"` // may hold a password: never print it
	Guard time.Duration
}

// String returns the cache's name, so that no %v prints the URL.
func (c Cache) String() string { return c.Name }

// GoString returns the cache's name, so that no %#v prints the URL.
func (c Cache) GoString() string { return c.Name }

const (
	defaultGuard = 10 * time.Second
	minGuard     = time.Millisecond // what Redis can expire
	maxGuard     = time.Hour        // a leader that died holds up others for as long
)

var schemes = []string{"redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"}

// caches reads `caches`, in the order of the file.
func (p *parser) caches(n *yaml.Node) []Cache {
	if n.Kind != yaml.MappingNode {
		p.fail(n, fmt.Sprintf("%q is %s, not a mapping", "caches", kind(n)), `write caches: {main: {redis: "${REDIS_URL}"}}`)
		return nil
	}
	if len(n.Content) == 0 {
		p.fail(n, `"caches" is empty`, `write caches: {main: {redis: "${REDIS_URL}"}}`)
	}
	var out []Cache
	values := p.entries(n, `"caches"`, nil)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := follow(n.Content[i])
		if v, ok := values[key.Value]; ok {
			delete(values, key.Value)
			out = append(out, p.cache(key, v))
		}
	}
	return out
}

func (p *parser) cache(key, n *yaml.Node) Cache {
	c := Cache{Name: key.Value, Guard: defaultGuard}
	what := fmt.Sprintf("cache %q", c.Name)
	if c.Name == "" {
		p.fail(key, "a cache has an empty name", "")
	} else {
		p.checkName(key, "a cache's name", c.Name)
	}
	fields := p.object(n, what, "redis", "guard")
	if g := fields["guard"]; g != nil {
		c.Guard = p.duration(g, `"guard"`, minGuard, maxGuard)
	}
	if r := fields["redis"]; r != nil {
		c.URL = p.url(r)
	} else if fields != nil {
		p.fail(key, what+` has no "redis"`, `write redis: "${REDIS_URL}"`)
	}
	return c
}

// url reads a Redis URL. What is behind the scheme may be a secret, and is left to the Redis client to judge.
func (p *parser) url(n *yaml.Node) string {
	s, ok := p.expanded(n, `"redis"`)
	if !ok {
		return ""
	}
	scheme, rest, found := strings.Cut(s, "://")
	switch {
	case !found || strings.ContainsAny(scheme, "/@: "):
		p.fail(n, `"redis" is not a URL`, "it begins with one of "+strings.Join(schemes, "://, ")+"://")
	case !slices.Contains(schemes, scheme):
		p.fail(n, fmt.Sprintf("unknown scheme %s of a Redis URL", quote(scheme)), didYouMean(scheme, schemes))
	case rest == "" || strings.HasSuffix(rest, "@"):
		p.fail(n, "the Redis URL has no host", "write "+scheme+"://host:6379/0")
	case strings.ContainsAny(s, " \t\r\n"):
		p.fail(n, "the Redis URL holds white space", "write a space of a password as %20")
	}
	return s
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expanded reads text in which ${NAME} and ${NAME:-default} stand for environment variables. As in a shell, the default
// also replaces an empty one. What was put in is not expanded again.
func (p *parser) expanded(n *yaml.Node, what string) (string, bool) {
	s, ok := p.scalar(n, what)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for i := 0; ; {
		at := strings.Index(s[i:], "${")
		if at < 0 {
			b.WriteString(s[i:])
			break
		}
		b.WriteString(s[i : i+at])
		at += i
		n2 := strings.IndexByte(s[at:], '}')
		if n2 < 0 {
			p.failAt(p.offset(n, at), "${ is never closed", "write ${NAME} or ${NAME:-default}")
			return "", false
		}
		value, good := p.variable(p.offset(n, at), s[at+2:at+n2])
		ok = ok && good
		b.WriteString(value)
		i = at + n2 + 1
	}
	if ok && b.Len() == 0 {
		p.fail(n, what+" is empty once its variables are filled in", "")
		return "", false
	}
	return b.String(), ok
}

func (p *parser) variable(at place, body string) (string, bool) {
	name, fallback, falls := strings.Cut(body, ":-")
	switch {
	case !variableName.MatchString(name):
		p.failAt(at, "${...} does not name an environment variable", "write ${NAME} or ${NAME:-default}")
		return "", false
	case strings.Contains(fallback, "${"):
		p.failAt(at, fmt.Sprintf("the default of ${%s} holds another variable", name), "a default is plain text")
		return "", false
	}
	value, set := p.env(name)
	switch {
	case falls && value == "":
		return fallback, true
	case !set:
		p.failAt(at, fmt.Sprintf("the environment variable %s is not set", name), fmt.Sprintf("set it, or write ${%s:-default}", name))
	}
	return value, set
}

// duration reads a span of time with its unit.
func (p *parser) duration(n *yaml.Node, what string, least, most time.Duration) time.Duration {
	const hint = "write a number with its unit: 500ms, 10s, 5m, 1h"
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		p.fail(n, fmt.Sprintf("%s is %s, not a duration", what, kind(n)), hint)
		return least
	}
	d, err := time.ParseDuration(n.Value)
	switch {
	case err != nil:
		p.fail(n, fmt.Sprintf("%s is not a duration: %s", what, quote(n.Value)), hint)
	case d < least || d > most:
		p.fail(n, fmt.Sprintf("%s is %s, not between %s and %s", what, quote(n.Value), least, most), "")
	default:
		return d
	}
	return least
}
