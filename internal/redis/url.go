package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

type form uint8

const (
	single form = iota
	sentinel
	cluster
)

// target is what a cache's URL says.
type target struct {
	form               form
	addrs              []string
	user, password     string
	sentinelUser       string
	sentinelPassword   string
	primary            string // Sentinel's name of it
	db                 int
	tls                *tls.Config // nil without TLS
	caFile, serverName string
}

var forms = map[string]struct {
	form form
	tls  bool
	port string
}{
	"redis":           {single, false, "6379"},
	"rediss":          {single, true, "6379"},
	"redis-cluster":   {cluster, false, "6379"},
	"rediss-cluster":  {cluster, true, "6379"},
	"redis-sentinel":  {sentinel, false, "26379"},
	"rediss-sentinel": {sentinel, true, "26379"},
}

// parseURL reads a cache's URL. net/url does not take several hosts, and its errors quote what may be a password: these
// errors quote nothing but the scheme.
func parseURL(raw string) (target, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	f, known := forms[scheme]
	switch {
	case !ok:
		return target{}, errors.New("no scheme: write redis://host:6379/0")
	case !known:
		return target{}, fmt.Errorf("unknown scheme %q: use redis, redis-cluster or redis-sentinel, or these with rediss", scheme)
	}
	rest, query, _ := strings.Cut(rest, "?")
	t := target{form: f.form}
	authority, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := t.setUser(authority[:at]); err != nil {
			return target{}, err
		}
		authority = authority[at+1:]
	}
	for host := range strings.SplitSeq(authority, ",") {
		addr, err := address(host, f.port)
		if err != nil {
			return target{}, err
		}
		t.addrs = append(t.addrs, addr)
	}
	if len(t.addrs) > 1 && t.form == single {
		return target{}, errors.New("several hosts: use redis-cluster:// or redis-sentinel://")
	}
	if err := t.setPath(path); err != nil {
		return target{}, err
	}
	if err := t.setQuery(query, f.tls); err != nil {
		return target{}, err
	}
	return t, t.loadTLS(f.tls)
}

func (t *target) setUser(s string) error {
	user, password, _ := strings.Cut(s, ":")
	var err1, err2 error
	t.user, err1 = url.PathUnescape(user)
	t.password, err2 = url.PathUnescape(password)
	if err1 != nil || err2 != nil {
		return errors.New("user or password has a % that is not followed by two hexadecimal digits: write it as %25")
	}
	return nil
}

func address(host, port string) (string, error) {
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("a port is not a number from 1 to 65535 (a / or @ in a password is written %2F or %40)")
	}
	if host == "" {
		return "", errors.New("a host is missing")
	}
	return net.JoinHostPort(host, port), nil
}

func (t *target) setPath(path string) error {
	path = strings.Trim(path, "/")
	switch t.form {
	case cluster:
		if path != "" && path != "0" {
			return errors.New("a Cluster has only database 0")
		}
		return nil
	case sentinel:
		var name string
		name, path, _ = strings.Cut(path, "/")
		if t.primary = name; name == "" {
			return errors.New("the primary's name is missing: write redis-sentinel://host1,host2/name/0")
		}
	}
	if path == "" {
		return nil
	}
	db, err := strconv.ParseUint(path, 10, 31)
	if err != nil {
		return errors.New("the database is not a number: write redis://host:6379/0")
	}
	t.db = int(db)
	return nil
}

func (t *target) setQuery(query string, withTLS bool) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the part after ? is not name=value&name=value")
	}
	for name := range values {
		value := values.Get(name)
		switch {
		case name == "ca" && withTLS:
			t.caFile = value
		case name == "servername" && withTLS:
			t.serverName = value
		case name == "sentinel_user" && t.form == sentinel:
			t.sentinelUser = value
		case name == "sentinel_password" && t.form == sentinel:
			t.sentinelPassword = value
		default:
			return fmt.Errorf("unknown parameter %q: there are ca and servername with rediss, "+
				"sentinel_user and sentinel_password with Sentinel", name)
		}
	}
	return nil
}

// loadTLS trusts the system's roots, or only those of the ca file.
func (t *target) loadTLS(with bool) error {
	if !with {
		return nil
	}
	t.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.serverName}
	if t.caFile == "" {
		return nil
	}
	pem, err := os.ReadFile(t.caFile)
	if err != nil {
		return fmt.Errorf("read ca: %w", err)
	}
	t.tls.RootCAs = x509.NewCertPool()
	if !t.tls.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("read ca: no PEM certificate in %s", t.caFile)
	}
	return nil
}
